"""Long texts and passages in windows: how they are cut, and how the outputs become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

Join = Literal["mean", "max"]


class Window(NamedTuple):
    """A part of a text: the number of its first piece, and its length in pieces."""

    start: int
    length: int


def cut_windows(num_pieces: int, room: int, stride: int) -> list[Window]:
    """Cuts a text into windows that overlap.

    Args:
        num_pieces: the text's length.
        room: length of the longest window in pieces, at least 1.
        stride: distance of one window's start from the next one's; at most a window's length.

    Returns:
        The windows, none of an empty text; the last one ends with the text.
    """
    windows = []
    start = 0
    while start < num_pieces:
        length = min(num_pieces - start, room)
        windows.append(Window(start, length))
        if start + length == num_pieces:
            break
        start += min(length, stride)
    return windows


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
        windows = cut_windows(len(ids), self.room, self.stride) or [Window(0, 0)]
        return [ids[start : start + length] for start, length in windows]


def windows_of(ids: tf.RaggedTensor, sizes: Windows) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Cuts texts into windows, as `Windows.cut` does outside a graph.

    Args:
        ids: int32 [texts, tokens].
        sizes: of the windows.

    Returns:
        int32 [windows, tokens], and the number of each one's text, int64 [windows], rising.
    """
    lengths = ids.row_lengths()
    more = tf.maximum(lengths - sizes.room, 0)
    counts = 1 + (more + sizes.stride - 1) // sizes.stride
    numbers: Any = tf.ragged.range(counts)
    text_of = numbers.value_rowids()
    starts = numbers.flat_values * sizes.stride
    ends = tf.minimum(starts + sizes.room, tf.gather(lengths, text_of))
    first = tf.gather(ids.row_starts(), text_of)
    places: Any = tf.ragged.range(first + starts, first + ends)
    return places.with_values(tf.gather(ids.values, places.values)), text_of


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
