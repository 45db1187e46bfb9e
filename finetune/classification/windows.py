"""Long texts in windows: how they are cut, and how the windows' outputs become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

Join = Literal["mean", "max"]


class Windows(NamedTuple):
    """How a text is cut into windows of tokens.

    Attributes:
        room: longest window, in tokens without the special ones.
        stride: tokens from the start of one window to the start of the next, at most `room`.
    """

    room: int
    stride: int

    @classmethod
    def of(cls, max_seq_length: int, doc_stride: int) -> Windows:
        """Returns windows that fill a row and leave no token out, even if the stride would."""
        room = max_seq_length - 2
        return cls(room, min(doc_stride, room))

    def cut(self, ids: np.ndarray) -> list[np.ndarray]:
        """Returns the windows of a text; that of an empty one is empty.

        Args:
            ids: int32 [tokens].
        """
        last = max(len(ids) - self.room, 0) + self.stride
        return [ids[start : start + self.room] for start in range(0, last, self.stride)]


def join_outputs(
    outputs: Iterable[Mapping[str, Any]], name: str, join: Join
) -> Iterator[tuple[Mapping[str, Any], np.ndarray]]:
    """Joins the outputs of the windows of each text.

    Args:
        outputs: one mapping per window, with the text's number as "eid", in any order.
        name: the output to join.
        join: the "mean" or the "max" of the windows.

    Yields:
        For each text the outputs of one of its windows, and the joined output.
    """
    by_eid: dict[int, list[Mapping[str, Any]]] = {}
    for output in outputs:
        by_eid.setdefault(int(output["eid"]), []).append(output)
    joined = {"mean": np.mean, "max": np.max}[join]
    for rows in by_eid.values():
        yield rows[0], joined([row[name] for row in rows], axis=0)
