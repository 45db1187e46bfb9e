"""What fine-tuning takes over from a pre-trained model: sizes, casing, vocabulary and weights."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Collection

import numpy as np

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.formats.match import match_arrays
from electra_tf2.hparams.shared_checks import HEADS, check_fields_of_encoder
from electra_tf2.loading.folder import VOCABULARY
from electra_tf2.loading.pretrained import (
    STRUCTURE,
    Pretrained,
    check_encoder,
    check_own_vocabulary,
    model_casing,
    structure_of,
)
from electra_tf2.modeling.config import TransformerConfig, default_intermediate_size
from electra_tf2.pretraining.phases import PFS_DAYS
from electra_tf2.stored_json import bad_field, shown
from electra_tf2.text.casing_files import as_hparam, settle_casing
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import (
    Vocabulary,
    check_same_vocabulary,
    check_vocabulary_size,
    load_vocabulary,
)
from electra_tf2.training.checkpoints import STATE
from finetune.model import FinetuningModel

_LARGE = 1024  # hidden size from which on a model is a large one
_LEARNING_RATES = {"model_size", "preset", "learning_rate"}  # hparams that choose one


def resolve_network(config: FinetuningConfig, pretrained: Pretrained | None) -> TransformerConfig:
    """The sizes of the encoder: the checkpoint's, which the hparams may state again but not change.

    Args:
        config: gives the sizes that the hparams state.
        pretrained: the checkpoint; None for random weights by the hparams.

    Raises:
        UserError: the hparams give other sizes than the checkpoint has; all are listed. Or they set
            what its kind of encoder lacks.
    """
    network, overrides = config.network(), config.model_hparam_overrides
    heads = overrides.get(HEADS)
    stored = pretrained.encoder_config(heads) if pretrained else None
    check_fields_of_encoder(overrides, (stored or network).encoder)
    if config.heads_of_checkpoint:  # they need not divide the hidden size of the hparams
        said = {**dataclasses.asdict(network), HEADS: heads}
    else:
        said = dataclasses.asdict(network)
    if pretrained is None or stored is None:
        return TransformerConfig(**said)
    if pretrained.network is None and heads is None:
        say(
            "Nothing beside the checkpoint says how many attention heads it has: "
            f"{stored.num_attention_heads} by the official rule (model_hparam_overrides may say "
            "otherwise)."
        )
    if "intermediate_size" not in overrides:  # it follows from the width, by the kind of encoder
        said["intermediate_size"] = default_intermediate_size(network.hidden_size, stored.encoder)
    stated = stated_sizes(config)
    if stored.encoder != "bert" and "embedding_size" not in config.given:
        stated.discard("embedding_size")  # with the others, model_size alone doesn't say it
    structure = structure_of(stored)
    different = [
        f"{name}: the checkpoint has {getattr(stored, name)}, the hparams say {said[name]}"
        for name in structure
        if name in stated and said[name] != getattr(stored, name)
    ]
    if different:
        raise UserError(
            "The hparams describe another network than the checkpoint's.",
            where=pretrained.path,
            received="; ".join(different),
            remedy="Leave model_size, encoder, vocab_size, embedding_size and the sizes in "
            "model_hparam_overrides out: the checkpoint's are then used.",
        )
    _warn_of_another_size(config, stored.hidden_size, network.hidden_size)
    rates = {name: getattr(network, name) for name in overrides if name not in structure}
    return dataclasses.replace(stored, **rates)


def _warn_of_another_size(config: FinetuningConfig, hidden_size: int, expected: int) -> None:
    """Says so where the learning rate and its decay are those of models of another size."""
    if hidden_size >= _LARGE and not config.given & _LEARNING_RATES:
        say(
            f"Warning: a large model is trained with the small one's learning rate "
            f"({config.learning_rate:g}). Set model_size to large for its settings, or state it."
        )
    if config.preset is not None and hidden_size != expected:
        say(
            f"Warning: the preset {config.preset} is for a hidden size of {expected}; the "
            f"checkpoint's is {hidden_size}."
        )


def stated_sizes(config: FinetuningConfig) -> set[str]:
    """Returns the sizes that the hparams state: those that a checkpoint has to agree with."""
    overrides = config.model_hparam_overrides
    stated = {name for name in STRUCTURE if name in overrides or name in config.given}
    if "model_size" in config.given:
        stated |= {"hidden_size", "num_hidden_layers", "embedding_size"}
    if "hidden_size" in stated:
        stated |= {"num_attention_heads", "intermediate_size"}
    return stated


def pretraining_pfs_days(pretrained: Pretrained | None) -> float | None:
    """Returns what pre-training has cost, in petaflop/s-days; None if the checkpoint doesn't say.

    Args:
        pretrained: the checkpoint; None for random weights.
    """
    path = posixpath.join(pretrained.path, STATE) if pretrained else ""
    if not files.exists(path):
        return None
    state = files.read_json(path, "The state of the checkpoint", "Restore the file.")
    stored = state.get(PFS_DAYS)
    if stored is not None and not (isinstance(stored, int | float) and abs(stored) < 1e300):
        what, remedy = "The state of the checkpoint", "Restore the file."
        raise bad_field(path, what, remedy, PFS_DAYS, f"{shown(stored)}, not a number")
    return None if stored is None else float(stored)


def resolve_casing(
    config: FinetuningConfig,
    pretrained: Pretrained | None,
    vocabulary: Vocabulary,
    vocab_file: str,
) -> Casing:
    """The casing: the model's, which the hparams may state again but not change.

    Where nothing beside the model states it: the hparams', the vocabulary's, or the default.

    Args:
        config: gives the hparams.
        pretrained: the checkpoint; None for random weights.
        vocab_file: its path.

    Raises:
        UserError: an hparam that was given contradicts the model's.
    """
    hparams = Casing.from_hparams(config).settings()
    given = {name: value for name, value in hparams.items() if name in config.given}
    if pretrained is None:
        return settle_casing(given, vocab_file, vocabulary, as_hparam).casing
    return model_casing(pretrained, given, vocab_file, vocabulary, as_hparam)


def resolve_vocabulary(
    config: FinetuningConfig, pretrained: Pretrained | None, vocab_size: int
) -> tuple[Vocabulary, str]:
    """The vocabulary: `vocab_file` if given, else the model's, else the data folder's.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: it can't be read, has more pieces than the network embeddings, or differs from
            the model's.
    """
    beside = [
        pretrained.vocab_file if pretrained else None,
        posixpath.join(config.pretrained_model_dir, VOCABULARY),
        posixpath.join(config.data_dir, VOCABULARY),
    ]
    path = config.vocab_file
    if not path:
        there = [p for p in beside if p and files.exists(p)]
        path = there[0] if there else beside[-1]
    vocabulary = load_vocabulary(path)
    check_vocabulary_size(
        vocabulary,
        vocab_size,
        path,
        None if pretrained else "vocab_size",
        may_be_more=pretrained is not None or "vocab_size" in config.given,
    )
    if beside[0] and beside[0] != path:
        stored = load_vocabulary(beside[0])
        check_same_vocabulary(vocabulary, path, stored, beside[0], "vocab_file")
    if pretrained:
        check_own_vocabulary(pretrained, vocabulary, path)
    return vocabulary, path


def initialize(
    model: FinetuningModel,
    pretrained: Pretrained,
    *,
    need_heads: bool,
    allow_partial: bool,
    other_heads: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Finds the network's variables in a checkpoint.

    Heads are taken over where the checkpoint has them in the same shape, as when a task is trained
    further; otherwise they stay as they were drawn.

    Args:
        model: the network, built.
        need_heads: whether the heads have to be there (nothing is trained).
        allow_partial: whether parts of the encoder may be missing or of another shape.
        other_heads: tasks whose head in the checkpoint is for other labels: not taken over.

    Returns:
        Variable name -> value, of those that were found.

    Raises:
        UserError: the encoder (or a head that is needed) is not all there; lists what is not.
    """
    official = model.official_head_names()
    wanted = {
        name: variable.shape
        for name, variable in model.named_variables().items()
        if need_heads or name not in official or name.split("/")[1] not in other_heads
    }
    arrays = pretrained.arrays
    renamed = {ours: n for ours, n in official.items() if ours not in arrays and n in arrays}
    found = match_arrays(wanted, arrays, renamed).found
    needed = {name: s for name, s in wanted.items() if need_heads or name not in official}
    problems = match_arrays(needed, arrays, renamed).problems
    heads = [name for name in official if name not in found]
    if problems and (need_heads or not allow_partial):
        check_encoder(pretrained.path, arrays, wanted)
        raise _incomplete(pretrained.path, problems, need_heads)
    if problems:
        say(f"Warning: {len(problems)} variables stay random: {first_of(problems)}")
    say(
        f"Weights from {pretrained.path}: {len(found)} variables"
        + (f"; {len(heads)} variables of task heads start at random" if heads else "")
        + (f"; not used: {first_of(pretrained.left_over)}" if pretrained.left_over else "")
    )
    return found


def _incomplete(path: str, problems: list[str], need_heads: bool) -> UserError:
    if need_heads:
        return UserError(
            "The checkpoint can't be evaluated: it lacks parts of the network.",
            where=path,
            received=first_of(problems),
            remedy="Give a model that was fine-tuned on these tasks, or set do_train to true.",
        )
    count = len(problems)
    return UserError(
        f"The checkpoint lacks {count} of the encoder's variables.",
        where=path,
        received=first_of(problems),
        remedy="Check the sizes of the model. To start with these at random, set "
        "allow_partial_init to true.",
    )
