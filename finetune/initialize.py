"""Weights for a network to fine-tune or to evaluate, every variable accounted for."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from electra_tf2.errors import UserError, first_of
from electra_tf2.interop.pretrained import Pretrained
from finetune.model import FinetuningModel

_SHOWN = 8


def initialize(
    model: FinetuningModel,
    pretrained: Pretrained,
    *,
    need_heads: bool,
    allow_partial: bool,
    say: Callable[[str], None],
    other_heads: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Finds the network's variables in a checkpoint.

    Heads are taken over where the checkpoint has them in the same shape, as when a task is trained
    further; otherwise they stay as they were drawn.

    Args:
        model: the network, built.
        pretrained: the checkpoint.
        need_heads: whether the heads have to be there (nothing is trained).
        other_heads: tasks whose head in the checkpoint is for other labels: not taken over.
        allow_partial: whether parts of the encoder may be missing or of another shape.
        say: prints a line.

    Returns:
        Variable name -> value, of those that were found.

    Raises:
        UserError: the encoder (or a head that is needed) is not all there; lists what is not.
    """
    official = model.official_head_names()
    found, problems = {}, []
    for name, variable in model.named_variables().items():
        array = pretrained.arrays.get(name)
        if array is None:
            array = pretrained.arrays.get(official.get(name, ""))
        if name in official and name.split("/")[1] in other_heads and not need_heads:
            continue
        if array is not None and array.shape == tuple(variable.shape):
            found[name] = array
        elif name not in official or need_heads:
            problems.append(_problem(name, array, tuple(variable.shape)))
    heads = [name for name in official if name not in found]
    if problems and (need_heads or not allow_partial):
        raise _incomplete(pretrained.path, problems, need_heads)
    if problems:
        say(f"Warning: {len(problems)} variables stay random: {first_of(problems, _SHOWN)}")
    say(
        f"Weights from {pretrained.path}: {len(found)} variables"
        + (f"; {len(heads)} variables of task heads start at random" if heads else "")
        + (f"; not used: {first_of(pretrained.left_over, _SHOWN)}" if pretrained.left_over else "")
    )
    return found


def _problem(name: str, array: np.ndarray | None, shape: tuple[int, ...]) -> str:
    return f"{name} is missing" if array is None else f"{name} has shape {array.shape}, not {shape}"


def _incomplete(path: str, problems: list[str], need_heads: bool) -> UserError:
    if need_heads:
        return UserError(
            "The checkpoint can't be evaluated: it lacks parts of the network.",
            where=path,
            received=first_of(problems, _SHOWN),
            remedy="Give a model that was fine-tuned on these tasks, or set do_train to true.",
        )
    count = len(problems)
    return UserError(
        f"The checkpoint lacks {count} of the encoder's variables.",
        where=path,
        received=first_of(problems, _SHOWN),
        remedy="Check the sizes of the model. To start with these at random, set "
        "allow_partial_init to true.",
    )
