"""The examples of several tasks as one data set, and its batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from finetune.feature_spec import FeatureSpec
from finetune.feature_table import FeatureTable

# Rows that fill up a batch have no example.
NO_ROW = -1
_SHARED = ("input_ids", "segment_ids")


class TaskData:
    """The rows of the tasks' tables, one table after the other.

    A batch has the shared features, `task_id` (the index in `names`; the number of tasks in rows
    without an example), `row` and every task's own features as `<task>/<feature>`, 0 in the rows of
    the other tasks.

    Args:
        names: the tasks.
        tables: their features.
        specs: the specs of each task's own features.

    Attributes:
        names, tables, specs: as given.
        num_rows: number of examples of all tasks.
        lengths: int64 [rows], tokens of each example.
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
        self._scalars = {"task_id": np.repeat(np.arange(len(tables), dtype=np.int32), counts)}
        self._ragged = {
            name: self._gathered([(t, name) for t in tables], [0] * len(tables), np.int32)
            for name in _SHARED
        }
        for i, (task, table, own) in enumerate(zip(names, tables, specs, strict=True)):
            for spec in own:
                key = f"{task}/{spec.name}"
                if spec.per_token:
                    self._ragged[key] = self._gathered([(table, spec.name)], [first[i]], spec.dtype)
                else:
                    column = np.zeros(self.num_rows, spec.dtype)
                    column[first[i] : first[i + 1]] = table.scalars[spec.name]
                    self._scalars[key] = column
        self._tensors: tuple[dict, dict] | None = None

    def _gathered(self, parts, empty_before, dtype) -> tuple[np.ndarray, np.ndarray]:
        """Values and splits of a column over all rows; the rows of other tasks are empty."""
        values = [table.ragged[name].values for table, name in parts]
        lengths = []
        for (table, name), empty in zip(parts, empty_before, strict=True):
            lengths += [np.zeros(empty, np.int64), table.ragged[name].lengths]
        lengths = np.concatenate(lengths)
        splits = np.zeros(self.num_rows + 1, np.int64)
        splits[1 : len(lengths) + 1] = np.cumsum(lengths)
        splits[len(lengths) + 1 :] = splits[len(lengths)]
        # A value more than there are: what an empty row's index points at.
        return np.concatenate([*values, np.zeros(1)]).astype(dtype), splits

    def batch(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Gathers a batch; see `gather`."""
        batch = self.gather(tf.constant(rows, tf.int64), tf.constant(length, tf.int64))
        return {name: value.numpy() for name, value in batch.items()}

    def gather(self, rows: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gathers a batch, in an input pipeline: no Python is run for it.

        Args:
            rows: int64 [batch], which examples; `NO_ROW` for none.
            length: int64 scalar, tokens to pad to, at least the longest example's.

        Returns:
            Feature name -> [batch] or [batch, length], int32 or float32.
        """
        if self._tensors is None:
            with tf.init_scope(), tf.device("/cpu:0"):  # not part of the pipeline's graph
                self._tensors = tf.nest.map_structure(tf.constant, (self._scalars, self._ragged))
        scalars, ragged = self._tensors
        there = rows >= 0
        safe = tf.maximum(rows, 0)
        batch = {"row": tf.cast(rows, tf.int32)}
        for name, column in scalars.items():
            value = tf.gather(column, safe)
            batch[name] = tf.where(there, value, tf.zeros([], value.dtype))
        batch["task_id"] = tf.where(there, batch["task_id"], len(self.names))
        columns = tf.range(length)
        for name, (values, splits) in ragged.items():
            start = tf.gather(splits, safe)
            count = tf.where(there, tf.gather(splits, safe + 1) - start, 0)
            inside = columns < count[:, None]
            index = tf.where(inside, start[:, None] + columns, 0)
            batch[name] = tf.where(inside, tf.gather(values, index), tf.zeros([], values.dtype))
            if name == "input_ids":
                batch["input_mask"] = tf.cast(inside, tf.int32)
        return batch
