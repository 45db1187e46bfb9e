"""Features as columns: of one task's examples, and of several tasks' as one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.text.rows import make_row
from electra_tf2.text.tokenizer import Tokenizer
from finetune.task import CUT, MORE_IDS, MORE_MASK, MORE_SEGMENTS, SHARED_SPECS, FeatureSpec


class Ragged(NamedTuple):
    """Rows of unequal length.

    Attributes:
        values: [total] or, of features with a size, [total, size]; the rows one after the other.
        splits: int64 [rows + 1]; row i is `values[splits[i]:splits[i + 1]]`.
    """

    values: np.ndarray
    splits: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows]."""
        return np.diff(self.splits)


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Examples as columns.

    Attributes:
        scalars: feature name -> [rows] or, of features with a size, [rows, size].
        ragged: feature name -> rows of values, of the `per_token` features; of features with
            several rows an example, those of one example after the other.
        cut: int32 [rows], tokens of each example that did not fit into its row.
    """

    scalars: dict[str, np.ndarray]
    ragged: dict[str, Ragged]
    cut: np.ndarray

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], specs: Sequence[FeatureSpec]
    ) -> FeatureTable:
        """Collects the rows that a task's `featurize` gives.

        Args:
            rows: feature name -> value; `CUT` may be among them.
            specs: of the task's own features; the shared ones are added.

        Raises:
            ValueError: a row lacks a feature or has one without a spec: an error of the task.
        """
        specs = [*SHARED_SPECS, *specs]
        names = {spec.name for spec in specs}
        collected: dict[str, list] = {name: [] for name in names}
        cut = []
        for row in rows:
            if row.keys() - {CUT} != names:
                raise ValueError(
                    "A row's features are not those of the specs. Received: "
                    f"{sorted(row)}, expected {sorted(names)}"
                )
            for name in names:
                collected[name].append(row[name])
            cut.append(row.get(CUT, 0))
        per_token = {spec.name: spec for spec in specs if spec.per_token}
        return cls(
            scalars={
                spec.name: np.asarray(collected[spec.name], spec.dtype)
                for spec in specs
                if not spec.per_token
            },
            ragged={n: _ragged(_rows(collected[n], s), s.dtype) for n, s in per_token.items()},
            cut=np.asarray(cut, np.int32),
        )

    @property
    def num_rows(self) -> int:
        """Number of examples."""
        return len(self.scalars["eid"])

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows], tokens of each example; of several texts, of the longest one."""
        lengths = self.ragged["input_ids"].lengths
        if not self.rows_each(MORE_IDS):
            return lengths
        more = self.ragged[MORE_IDS].lengths.reshape(self.num_rows, -1)
        return np.maximum(lengths, more.max(axis=1))

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all examples."""
        texts = (name for name in ("input_ids", MORE_IDS) if name in self.ragged)
        return sum(len(self.ragged[name].values) for name in texts)

    def rows_each(self, name: str) -> int:
        """Returns the number of rows that each example has of a ragged feature."""
        return len(self.ragged[name].lengths) // self.num_rows if name in self.ragged else 0

    def head(self, num_rows: int) -> FeatureTable:
        """Returns the first rows."""
        ends = {name: num_rows * self.rows_each(name) for name in self.ragged}
        return FeatureTable(
            {name: values[:num_rows] for name, values in self.scalars.items()},
            {
                name: Ragged(values[: splits[ends[name]]], splits[: ends[name] + 1])
                for name, (values, splits) in self.ragged.items()
            },
            self.cut[:num_rows],
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the columns as arrays by name; `from_arrays` takes them."""
        arrays = {f"scalar/{name}": values for name, values in self.scalars.items()}
        for name, (values, splits) in self.ragged.items():
            arrays |= {f"values/{name}": values, f"splits/{name}": splits}
        return arrays | {"cut": self.cut}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FeatureTable:
        """The inverse of `to_arrays`."""
        parts: dict[str, dict[str, np.ndarray]] = {"scalar": {}, "values": {}, "splits": {}}
        for key, array in arrays.items():
            kind, _, name = key.partition("/")
            if name:
                parts[kind][name] = array
        ragged = {name: Ragged(v, parts["splits"][name]) for name, v in parts["values"].items()}
        return cls(parts["scalar"], ragged, arrays["cut"])


def text_features(
    texts: Sequence[tuple[np.ndarray, np.ndarray] | None], tokenizer: Tokenizer, max_length: int
) -> dict[str, Any]:
    """Returns the features of an example's texts: the shared ones, and `MORE_TEXTS`.

    Args:
        texts: int32 [tokens], the ids of each text, and those of a second one behind it (empty:
            none); None where the example lacks a text that others have. The first one must be
            there.
        tokenizer: gives the special tokens.
        max_length: longest row, special tokens included.

    Returns:
        `input_ids` and `segment_ids` (int32 [tokens]) of the first text, lists of such rows of the
        others (empty ones where there is no text), and `CUT`, the tokens of all that don't fit.
    """
    rows, cut = [], 0
    for pair in texts:
        if pair is None:
            rows.append(((), ()))
            continue
        first, second = pair
        rows.append(make_row(first, tokenizer, second=second, max_length=max_length))
        whole = len(first) + len(second) + (3 if len(second) else 2)
        cut += whole - len(rows[-1].input_ids)
    (input_ids, segment_ids), *more = rows
    return {
        "input_ids": input_ids,
        "segment_ids": segment_ids,
        MORE_IDS: [ids for ids, _ in more],
        MORE_SEGMENTS: [segments for _, segments in more],
        CUT: cut,
    }


def _rows(values: list, spec: FeatureSpec) -> list:
    """Returns the rows of a `per_token` feature, which an example has one of, or several."""
    if not spec.several:
        return values
    if len(counts := {len(rows) for rows in values}) > 1:
        raise ValueError(
            f"Examples must have equally many rows of {spec.name}. Received: {sorted(counts)}"
        )
    return [row for rows in values for row in rows]


def _ragged(rows: list, dtype) -> Ragged:
    splits = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=splits[1:])
    values = np.concatenate([np.asarray(row, dtype) for row in rows]) if rows else []
    return Ragged(np.asarray(values, dtype), splits)


# Rows that fill up a batch have no example.
NO_ROW = -1


_SHARED = ("input_ids", "segment_ids")


class TaskData:
    """The examples of several tasks as one data set: their tables, one after the other.

    A batch has the shared features, `task_id` (the index in `names`; the number of tasks in rows
    without an example), `row` and every task's own features as `<task>/<feature>`, 0 in the rows of
    the other tasks. Features that no example has a row of are left out.

    Args:
        names: the tasks.
        tables: their features.
        specs: the specs of each task's own features.

    Attributes:
        names, tables, specs: as given.
        num_rows: number of examples of all tasks.
        lengths: int64 [rows], tokens of each example.
        num_texts: what the network encodes for each example: a text, and the further ones that
            examples of any of the tasks have.
    """

    def __init__(
        self,
        names: Sequence[str],
        tables: Sequence[FeatureTable],
        specs: Sequence[Sequence[FeatureSpec]],
    ):
        self.names, self.tables, self.specs = names, tables, specs
        counts = [table.num_rows for table in tables]
        self.num_rows = sum(counts)
        self.lengths = np.concatenate([table.lengths for table in tables])
        first = np.cumsum([0, *counts])
        task_ids = np.repeat(np.arange(len(tables), dtype=np.int32), counts)
        self.num_texts = 1 + sum(table.rows_each(MORE_IDS) for table in tables)
        self._scalars: dict[str, np.ndarray] = {"task_id": task_ids}
        self._ragged = {name: self._gathered(name, tables, 0, np.int32) for name in _SHARED}
        self._rows_each: dict[str, int] = {}  # of features with several rows an example
        for i, (task, table, own) in enumerate(zip(names, tables, specs, strict=True)):
            for spec in own:
                key = f"{task}/{spec.name}"
                if spec.per_token:
                    each = 1
                    if spec.several:
                        each = self._rows_each[key] = table.rows_each(spec.name)
                    column = self._gathered(spec.name, [table], first[i], spec.dtype, each)
                    self._ragged[key] = column
                else:
                    values = table.scalars[spec.name]
                    column = np.zeros((self.num_rows, *values.shape[1:]), spec.dtype)
                    column[first[i] : first[i + 1]] = values
                    self._scalars[key] = column
        self._tensors: tuple[dict, dict] | None = None

    def _gathered(
        self, name: str, tables: Sequence[FeatureTable], before: int, dtype: Any, each: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and splits of a column over all rows; those of other tasks are empty.

        There are `before` examples of other tasks before those of the tables, of `each` rows.
        """
        values = [table.ragged[name].values for table in tables]
        more = np.zeros((1, *values[0].shape[1:]))  # which an empty row's index points at
        lengths = [table.ragged[name].lengths for table in tables]
        lengths = np.concatenate([np.zeros(before * each, np.int64), *lengths])
        splits = np.zeros(self.num_rows * each + 1, np.int64)
        splits[1 : len(lengths) + 1] = np.cumsum(lengths)
        splits[len(lengths) + 1 :] = splits[len(lengths)]
        return np.concatenate([*values, more]).astype(dtype), splits

    def batch(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Gathers a batch at once: as `gather`, whose operations take longer for a few rows."""
        there, safe = rows >= 0, np.maximum(rows, 0)
        batch = {"row": rows.astype(np.int32)}
        for name, column in self._scalars.items():
            known = there if column.ndim == 1 else there[:, None]
            batch[name] = np.where(known, column[safe], column.dtype.type(0))
        batch["task_id"] = np.where(there, batch["task_id"], np.int32(len(self.names)))
        columns = np.arange(length)
        for name, (values, splits) in self._ragged.items():
            number, known = safe, there
            if name in self._rows_each:
                each = self._rows_each[name]
                if not each:
                    continue
                number, known = safe[:, None] * each + np.arange(each), there[:, None]
            start = splits[number]
            inside = columns < np.where(known, splits[number + 1] - start, 0)[..., None]
            index = np.where(inside, start[..., None] + columns, 0)
            shown = inside if values.ndim == 1 else inside[..., None]
            batch[name] = np.where(shown, values[index], values.dtype.type(0))
            if mask := _mask_name(name):
                batch[mask] = inside.astype(np.int32)
        return batch

    def gather(self, rows: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gathers a batch, in an input pipeline: no Python is run for it.

        Args:
            rows: int64 [batch], which examples; `NO_ROW` for none.
            length: int64 scalar, tokens to pad to, at least the longest example's.

        Returns:
            Feature name -> [batch], [batch, size], [batch, length], [batch, length, size] or, of
            several rows an example, [batch, rows, length], int32 or float32.
        """
        if self._tensors is None:
            with tf.init_scope(), tf.device("/cpu:0"):  # not part of the pipeline's graph
                self._tensors = tf.nest.map_structure(tf.constant, (self._scalars, self._ragged))
        assert self._tensors is not None
        scalars, ragged = self._tensors
        there = rows >= 0
        safe = tf.maximum(rows, 0)
        batch = {"row": tf.cast(rows, tf.int32)}
        for name, column in scalars.items():
            value = tf.gather(column, safe)
            known = there if value.shape.rank == 1 else there[:, None]
            batch[name] = tf.where(known, value, tf.zeros([], value.dtype))
        batch["task_id"] = tf.where(there, batch["task_id"], len(self.names))
        columns = tf.range(length)
        for name, (values, splits) in ragged.items():
            number, known = safe, there
            if name in self._rows_each:
                each = self._rows_each[name]
                if not each:
                    continue
                number = safe[:, None] * each + tf.range(each, dtype=tf.int64)
                known = there[:, None]
            start = tf.gather(splits, number)
            count = tf.where(known, tf.gather(splits, number + 1) - start, 0)
            inside = columns < tf.expand_dims(count, -1)
            index = tf.where(inside, tf.expand_dims(start, -1) + columns, 0)
            shown = inside if values.shape.rank == 1 else tf.expand_dims(inside, -1)
            batch[name] = tf.where(shown, tf.gather(values, index), tf.zeros([], values.dtype))
            if mask := _mask_name(name):
                batch[mask] = tf.cast(inside, tf.int32)
        return batch

    def signature(self, batch: Mapping[str, np.ndarray]) -> dict[str, tf.TensorSpec]:
        """Returns the shapes of a batch and of others: of any number of rows, texts and tokens.

        A single row stays one, as the network is faster if it knows. There are few shapes, as a
        graph takes several times the memory of the weights that are constants in it.
        """
        shapes: dict[str, list] = {name: list(value.shape) for name, value in batch.items()}
        for shape in shapes.values():
            shape[0] = 1 if shape[0] == 1 else None
        for name in self._ragged:
            for own in (name, _mask_name(name)):
                if own in shapes:
                    axes = 2 if name in self._rows_each else 1
                    shapes[own][1 : 1 + axes] = [None] * axes
        return {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in batch.items()}


def _mask_name(name: str) -> str | None:
    """Returns what the mask of a feature's tokens is called; None if it has none."""
    if name == "input_ids":
        return "input_mask"
    task, _, own = name.rpartition("/")
    return f"{task}/{MORE_MASK}" if own == MORE_IDS else None
