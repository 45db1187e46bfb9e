"""Errors of a trained model whose task was another one than the task it is used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError


def other_kind(name: str, kind: str, state: Mapping[str, Any]) -> UserError:
    """Returns the error that a model was trained on a task of another kind.

    Args:
        name: the task's name.
        kind: what the task is here.
        state: what the model has instead.
    """
    shown = repr(dict(state))
    return UserError(
        "The model was trained on a task of another kind.",
        where=f"task {name}",
        received=f"{kind} here; with the model " + shown[:200] + "…" * (len(shown) > 200),
        remedy="Describe the task as it was in training, or train a model anew.",
    )


def unlike_model(name: str, what: str, given: Any, trained: Any) -> UserError:
    """Returns the error that a task's code says something else than a model was trained with.

    Args:
        name: the task's name.
        what: which of it, in the plural or as a list.
        given: the task's.
        trained: the model's.
    """
    return UserError(
        f"The {what} of the task {name!r} are not those that the model was trained with.",
        where=f"task {name}",
        received=f"{given!r}; the model was trained with {trained!r}",
        remedy="Give the task the model's, in the same order, or train a model anew.",
    )
