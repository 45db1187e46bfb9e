"""Data files that change while a program runs, so that outputs are no longer of what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from electra_tf2.errors import UserError
from finetune.task import Task


def file_changed(task: Task, split: str, received: str) -> UserError:
    """Returns the error that a split's file was changed since its features were made.

    Args:
        task: the task.
        split: whose file it is; "predict": a file of the user's own.
        received: how that shows.
    """
    return UserError(
        "The file was changed while it was in use.",
        where="the file to predict" if split == "predict" else task.data_file(split),
        received=received,
        remedy="Start again, and leave the data files as they are until the program has ended.",
    )


def outputs_by_eid(
    task: Task, split: str, outputs: Iterable[Mapping[str, Any]], examples: Sequence[Any]
) -> dict[int, Mapping[str, Any]]:
    """Returns the outputs of each example, by its `eid`.

    Args:
        task: the task.
        split: where the examples are from.
        outputs: one mapping per example, in any order.
        examples: as they stand in the file.

    Raises:
        UserError: they are not the examples that the outputs are of.
    """
    by_eid = {int(output["eid"]): output for output in outputs}
    if by_eid.keys() != {example.eid for example in examples}:
        received = f"{len(examples)} examples; the model's outputs are of {len(by_eid)}"
        raise file_changed(task, split, received)
    return by_eid
