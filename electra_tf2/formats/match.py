"""Matching the arrays of a file with the variables of a network, by name and shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError, first_of

Shape = tuple[int, ...]
_TABLES = ("/word_embeddings", "/position_embeddings", "/output_bias")


class Match(NamedTuple):
    """What became of the variables and of the arrays.

    Attributes:
        found: variable -> its array.
        missing: variables without an array.
        misshapen: variable -> the array's shape and the one it needs.
        left_over: names of the arrays that no variable has.
        names: variable -> the array's name where it is another one.
    """

    found: dict[str, np.ndarray]
    missing: list[str]
    misshapen: dict[str, tuple[Shape, Shape]]
    left_over: list[str]
    names: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """What is missing or misshapen, in words."""
        found = [f"{self._shown(name)} is missing" for name in self.missing]
        return found + [
            f"{self._shown(name)} has shape {there}, not {needed}"
            for name, (there, needed) in self.misshapen.items()
        ]

    @property
    def growing_advice(self) -> str:
        """What makes the arrays fit where all they lack is rows of tables; "" where it is more."""
        short = [
            name.endswith(_TABLES) and there[1:] == needed[1:] and there < needed
            for name, (there, needed) in self.misshapen.items()
        ]
        if self.missing or not short or not all(short):
            return ""
        return " grow_model.py gives a model more pieces and positions (docs/beyond_electra.md)."

    def complete(
        self, what: str, *, where: str, remedy: str, more: Iterable[str] = ()
    ) -> dict[str, np.ndarray]:
        """Returns what was found, if that is everything.

        Args:
            what: the error's first sentence.
            where: the file.
            remedy: what to do about it.
            more: other problems.

        Raises:
            UserError: lists everything that is missing or misshapen, and the other problems.
        """
        problems = [*self.problems, *more]
        if problems:
            raise UserError(what, where=where, received=first_of(problems), remedy=remedy)
        return self.found

    def _shown(self, name: str) -> str:
        theirs = self.names.get(name, name)
        return name if theirs == name else f"{name} ({theirs})"


def match_arrays(
    wanted: Mapping[str, Sequence[int | None]],
    arrays: Mapping[str, np.ndarray],
    names: Mapping[str, str] | None = None,
) -> Match:
    """Finds the array of each variable.

    Args:
        wanted: variable -> its shape.
        arrays: name -> array.
        names: variable -> name of its array; those not listed have one name in both.
    """
    names = names or {}
    found, missing, misshapen = {}, [], {}
    for name, shape in wanted.items():
        array = arrays.get(names.get(name, name))
        if array is None:
            missing.append(name)
        elif array.shape != tuple(shape):
            misshapen[name] = (array.shape, tuple(shape))
        else:
            found[name] = array
    used = {names.get(name, name) for name in wanted}
    left_over = sorted(name for name in arrays if name not in used)
    return Match(found, missing, misshapen, left_over, names)
