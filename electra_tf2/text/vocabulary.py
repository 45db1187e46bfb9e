"""WordPiece vocabularies: reading and checking."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from electra_tf2 import files
from electra_tf2.errors import UserError
from electra_tf2.text.wordpiece import CONTINUATION

# The vocabulary in a tokenizer.json of Hugging Face's tokenizers.


def is_tokenizer_file(path: str) -> bool:
    """Whether a path is that of a tokenizer.json, not of a vocabulary with a piece a line."""
    return path.endswith(".json")


def vocabulary_text(content: bytes, path: str) -> bytes:
    """Returns the pieces of a WordPiece tokenizer, one a line in the order of their ids.

    Args:
        content: of the file.
        path: for messages.

    Raises:
        UserError: it is not a WordPiece tokenizer, or ids are missing between its first and last.
    """
    try:
        stored = json.loads(content)
        model = stored["model"]
        kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else None)
        ids = dict(model["vocab"]) if kind == "WordPiece" else {}
        added = {token["content"]: token["id"] for token in stored.get("added_tokens", [])}
        pieces = {i: piece for piece, i in (added | ids).items()}
        prefix = model.get("continuing_subword_prefix", CONTINUATION)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, f"no tokenizer of Hugging Face's: {error}") from error
    if kind != "WordPiece":
        raise _unusable(path, f"a tokenizer of the kind {kind}")
    if prefix != CONTINUATION:
        raise _unusable(path, f"pieces that continue a word start with {prefix!r}")
    if not _are_lines(pieces):
        raise _unusable(path, "ids that are not 0, 1, 2, … or pieces with line breaks")
    return ("\n".join(pieces[i] for i in range(len(pieces))) + "\n").encode()


def _are_lines(pieces: dict[Any, Any]) -> bool:
    whole = set(pieces) == set(range(len(pieces)))
    return whole and all(isinstance(p, str) and "\n" not in p for p in pieces.values())


def _unusable(path: str, received: str) -> UserError:
    return UserError(
        "The tokenizer has no vocabulary that can be used here.",
        where=path,
        received=received,
        remedy="Only WordPiece vocabularies can be used: give a vocab.txt with one piece per line, "
        f"in which pieces that continue a word start with {CONTINUATION}.",
    )


PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)
BYTE_ORDER_MARK = "\ufeff"
_MAX_BYTES = 1 << 28  # a longer file is no vocabulary


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """An ordered set of word pieces; a piece's id is its place.

    Attributes:
        tokens: the pieces, `tokens[id]`.
    """

    tokens: tuple[str, ...]

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each piece."""
        return {token: i for i, token in enumerate(self.tokens)}

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the pieces joined by newlines: equal for equal vocabularies."""
        return hashlib.sha256("\n".join(self.tokens).encode("utf-8")).hexdigest()

    @property
    def pad_id(self) -> int:
        """Id of [PAD], always 0 in a checked vocabulary."""
        return self.ids[PAD]

    @property
    def unk_id(self) -> int:
        """Id of [UNK], the piece for unknown words."""
        return self.ids[UNK]

    @property
    def cls_id(self) -> int:
        """Id of [CLS], which opens an example."""
        return self.ids[CLS]

    @property
    def sep_id(self) -> int:
        """Id of [SEP], which closes a segment."""
        return self.ids[SEP]

    @property
    def mask_id(self) -> int:
        """Id of [MASK], which stands where a token was masked out."""
        return self.ids[MASK]

    def __len__(self) -> int:
        return len(self.tokens)


def load_vocabulary(path: str) -> Vocabulary:
    """Reads a vocabulary file: UTF-8, one piece a line, the line's number (from 0) its id.

    White space around a piece is stripped, as the official program does.

    Args:
        path: the file; any path that `tf.io.gfile` can read. A name that ends in .json is that of a
            Hugging Face tokenizer.json, whose WordPiece vocabulary is taken.

    Returns:
        The vocabulary, with all special tokens, [PAD] at 0 and no piece twice.

    Raises:
        UserError: there is no such file, it is not UTF-8, a line is empty, a piece occurs twice
            (the official program lets the last one win, which leaves ids that nothing maps to), a
            special token is missing, or [PAD] is not the first piece.
    """
    return parse_vocabulary(read_vocabulary_text(path), path)


def read_vocabulary_text(path: str) -> bytes:
    """Returns a vocabulary as a text of one piece a line; arguments and errors as above."""
    content = _read_bytes(path)
    return vocabulary_text(content, path) if is_tokenizer_file(path) else content


def parse_vocabulary(content: bytes, path: str) -> Vocabulary:
    """Checks the content of a vocabulary file; arguments and errors as in `load_vocabulary`."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    tokens = []
    for number, line in enumerate(lines, start=1):
        try:
            tokens.append(line.decode("utf-8").strip())
        except UnicodeDecodeError as error:
            raise UserError(
                "The vocabulary is not UTF-8 text.",
                where=f"{path}, line {number}, byte {error.start + 1} of the line",
                received=line[:40],
                remedy="Save the file as UTF-8, one piece per line.",
            ) from error
    _check_lines(tokens, path)
    _check_special_tokens(tokens, path)
    return Vocabulary(tuple(tokens))


def check_vocabulary_size(vocabulary: Vocabulary, vocab_size: int, path: str) -> None:
    """Checks that a vocabulary has as many pieces as the model has embeddings for.

    Args:
        vocabulary: the vocabulary.
        vocab_size: the hparam.
        path: where the vocabulary was read from, for the message.

    Raises:
        UserError: the two sizes differ.
    """
    if len(vocabulary) != vocab_size:
        raise UserError(
            "The vocabulary has another size than the hparam vocab_size says.",
            where=path,
            received=f"{len(vocabulary)} pieces in the file, vocab_size = {vocab_size}",
            remedy=f"Set vocab_size to {len(vocabulary)}, or give the vocabulary that the data "
            "was built with.",
        )


def check_same_vocabulary(
    vocabulary: Vocabulary, path: str, stored: Vocabulary, stored_path: str, option: str
) -> None:
    """Checks that a vocabulary that was given for a model is the one that lies beside it.

    Args:
        vocabulary: the one that was given.
        path: where it was read from, for the message.
        stored: the model's own.
        stored_path: where that was read from.
        option: what it was given as.

    Raises:
        UserError: they differ; names the first line.
    """
    if difference := vocabulary_difference(stored, vocabulary):
        raise UserError(
            "The vocabulary is not the one that the model was trained with.",
            where=path,
            received=f"compared with {stored_path}, {difference}",
            remedy=f"Leave {option} out: the model's vocabulary is then used.",
        )


def vocabulary_difference(stored: Vocabulary, given: Vocabulary) -> str | None:
    """Says where two vocabularies first differ; None if they are the same.

    Args:
        stored: the one of a model or of data.
        given: this run's.
    """
    if stored.tokens == given.tokens:
        return None
    pairs = enumerate(itertools.zip_longest(stored.tokens, given.tokens), 1)
    number, (before, after) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    there, here = ("no piece" if p is None else repr(p) for p in (before, after))
    return f"line {number} differs: {there} there, {here} here"


def _read_bytes(path: str) -> bytes:
    try:
        return files.read_bytes(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise _unreadable("There is no vocabulary file.", path, "no such file") from error
    except OSError as error:
        raise _unreadable("The vocabulary can't be read.", path, files.reason(error)) from error


def _unreadable(what: str, path: str, received: str | None) -> UserError:
    return UserError(
        what,
        where=path,
        received=received,
        remedy="Give a file with one word piece per line; build_vocabulary.py makes one from your "
        "text.",
    )


def _check_lines(tokens: Iterable[str], path: str) -> None:
    first_line = {}
    for number, token in enumerate(tokens, start=1):
        if not token:
            raise UserError(
                "The vocabulary has an empty line.",
                where=f"{path}, line {number}",
                received=repr(token),
                remedy="Take the line out, or put a piece such as [unused0] there if the ids of "
                "the following lines must not change.",
            )
        if token in first_line:
            raise UserError(
                "The vocabulary has a piece twice.",
                where=f"{path}, lines {first_line[token]} and {number}",
                received=repr(token),
                remedy="Rename one of the two lines, for instance to [unused0], so that the ids of "
                "the other pieces don't change.",
            )
        first_line[token] = number


def _check_special_tokens(tokens: list[str], path: str) -> None:
    known = set(tokens)
    missing = [token for token in SPECIAL_TOKENS if token not in known]
    if missing:
        first = tokens[0] if tokens else ""
        marked = first.startswith(BYTE_ORDER_MARK)
        raise UserError(
            f"The vocabulary lacks {', '.join(missing)}.",
            where=path,
            received=f"{len(tokens)} pieces, the first {first!r}" if tokens else "an empty file",
            remedy="Save the file without a byte order mark."
            if marked
            else "Each of [PAD] [UNK] [CLS] [SEP] [MASK] needs a line; is this a WordPiece "
            "vocabulary? build_vocabulary.py makes one from your text.",
        )
    if tokens[0] != PAD:
        raise UserError(
            "[PAD] is not the first piece of the vocabulary.",
            where=f"{path}, line {tokens.index(PAD) + 1}",
            received=f"[PAD] has id {tokens.index(PAD)}; id 0 is {tokens[0]!r}",
            remedy="Put [PAD] on the first line: examples are padded with id 0.",
        )
