"""The vocabulary that goes with a model."""

from __future__ import annotations

from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.text.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary


def model_vocabulary(
    pretrained: Pretrained, vocab_size: int, given: str | None, option: str
) -> tuple[Vocabulary, str]:
    """Reads the vocabulary beside a model, or one that is given because there is none.

    Args:
        pretrained: the model.
        vocab_size: number of its embeddings.
        given: path of a vocabulary; None: the model's own.
        option: what that is given as, for messages.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: there is none, it can't be read, has another size than the embeddings, or is
            another one than the model's own.
    """
    own = pretrained.vocab_file
    path = given or own
    if path is None:
        raise UserError(
            "The model has no vocabulary beside it.",
            where=pretrained.folder,
            received="no vocab.txt",
            remedy=f"Give the one that it was trained with as {option}.",
        )
    vocabulary = load_vocabulary(path)
    if len(vocabulary) != vocab_size:
        raise UserError(
            "The vocabulary has another size than the model's embeddings.",
            where=path,
            received=f"{len(vocabulary)} pieces, {vocab_size} embeddings",
            remedy="Give the vocabulary that the model was trained with.",
        )
    if own is not None and own != path:
        check_same_vocabulary(vocabulary, path, load_vocabulary(own), own, option)
    return vocabulary, path
