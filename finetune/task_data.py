"""The examples of several tasks as one data set, and its batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from finetune.feature_spec import FeatureSpec
from finetune.feature_table import FeatureTable

# Rows that fill up a batch have no example.
NO_ROW = -1


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The rows of the tasks' tables, one table after the other.

    A batch has the shared features, `task_id` (the index in `names`; the number of tasks in rows
    without an example), `row` and every task's own features as `<task>/<feature>`, 0 in the rows of
    the other tasks.

    Attributes:
        names: the tasks.
        tables: their features.
        specs: the specs of each task's own features.
    """

    names: Sequence[str]
    tables: Sequence[FeatureTable]
    specs: Sequence[Sequence[FeatureSpec]]

    @property
    def num_rows(self) -> int:
        """Number of examples of all tasks."""
        return sum(table.num_rows for table in self.tables)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows], tokens of each example."""
        return np.concatenate([table.lengths for table in self.tables])

    def batch(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Gathers a batch.

        Args:
            rows: int64 [batch], which examples; `NO_ROW` for none.
            length: tokens to pad to, at least the longest example's.

        Returns:
            Feature name -> [batch] or [batch, length], int32 or float32.
        """
        ends = np.cumsum([table.num_rows for table in self.tables])
        task_ids = np.searchsorted(ends, rows, side="right").astype(np.int32)
        task_ids[rows == NO_ROW] = len(self.tables)
        batch = {
            "row": rows.astype(np.int32),
            "task_id": task_ids,
            "input_ids": np.zeros((len(rows), length), np.int32),
            "input_mask": np.zeros((len(rows), length), np.int32),
            "segment_ids": np.zeros((len(rows), length), np.int32),
        }
        for i, (name, table) in enumerate(zip(self.names, self.tables, strict=True)):
            here = np.flatnonzero(task_ids == i)
            own = rows[here] - (ends[i] - table.num_rows)
            for shared in ("input_ids", "segment_ids"):
                batch[shared][here] = table.ragged[shared].padded(own, length)
            batch["input_mask"][here] = np.arange(length) < table.lengths[own][:, None]
            for spec in self.specs[i]:
                key = f"{name}/{spec.name}"
                if spec.per_token:
                    batch[key] = np.zeros((len(rows), length), spec.dtype)
                    batch[key][here] = table.ragged[spec.name].padded(own, length)
                else:
                    batch[key] = np.zeros(len(rows), spec.dtype)
                    batch[key][here] = table.scalars[spec.name][own]
        return batch
