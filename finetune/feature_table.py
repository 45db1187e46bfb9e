"""The features of many examples, column by column."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from finetune.feature_spec import SHARED_SPECS, FeatureSpec


class Ragged(NamedTuple):
    """Rows of unequal length.

    Attributes:
        values: [total], the rows one after the other.
        splits: int64 [rows + 1]; row i is `values[splits[i]:splits[i + 1]]`.
    """

    values: np.ndarray
    splits: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows]."""
        return np.diff(self.splits)

    def padded(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Returns some rows as [len(rows), length], padded with 0."""
        starts, counts = self.splits[rows], self.lengths[rows]
        columns = np.arange(length)
        inside = columns < counts[:, None]
        result = np.zeros((len(rows), length), self.values.dtype)
        result[inside] = self.values[(starts[:, None] + columns)[inside]]
        return result


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Examples as columns.

    Attributes:
        scalars: feature name -> [rows].
        ragged: feature name -> rows of values, of the `per_token` features.
    """

    scalars: dict[str, np.ndarray]
    ragged: dict[str, Ragged]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], specs: Sequence[FeatureSpec]
    ) -> FeatureTable:
        """Collects the rows that a task's `featurize` gives.

        Args:
            rows: feature name -> value.
            specs: of the task's own features; the shared ones are added.

        Raises:
            ValueError: a row lacks a feature or has one without a spec: an error of the task.
        """
        specs = [*SHARED_SPECS, *specs]
        names = {spec.name for spec in specs}
        collected: dict[str, list] = {name: [] for name in names}
        for row in rows:
            if row.keys() != names:
                raise ValueError(
                    "A row's features are not those of the specs. Received: "
                    f"{sorted(row)}, expected {sorted(names)}"
                )
            for name, value in row.items():
                collected[name].append(value)
        per_token = {spec.name: spec for spec in specs if spec.per_token}
        return cls(
            scalars={
                spec.name: np.asarray(collected[spec.name], spec.dtype)
                for spec in specs
                if not spec.per_token
            },
            ragged={
                name: _ragged(collected[name], spec.dtype) for name, spec in per_token.items()
            },
        )

    @property
    def num_rows(self) -> int:
        """Number of examples."""
        return len(self.scalars["eid"])

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows], tokens of each example."""
        return self.ragged["input_ids"].lengths

    def head(self, num_rows: int) -> FeatureTable:
        """Returns the first rows."""
        return FeatureTable(
            {name: values[:num_rows] for name, values in self.scalars.items()},
            {
                name: Ragged(values[: splits[num_rows]], splits[: num_rows + 1])
                for name, (values, splits) in self.ragged.items()
            },
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the columns as arrays by name; `from_arrays` takes them."""
        arrays = {f"scalar/{name}": values for name, values in self.scalars.items()}
        for name, (values, splits) in self.ragged.items():
            arrays |= {f"values/{name}": values, f"splits/{name}": splits}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FeatureTable:
        """Returns the table that `to_arrays` took apart."""
        parts: dict[str, dict[str, np.ndarray]] = {"scalar": {}, "values": {}, "splits": {}}
        for key, array in arrays.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = array
        ragged = {name: Ragged(v, parts["splits"][name]) for name, v in parts["values"].items()}
        return cls(parts["scalar"], ragged)


def _ragged(rows: list, dtype) -> Ragged:
    splits = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=splits[1:])
    values = np.concatenate([np.asarray(row, dtype) for row in rows]) if rows else []
    return Ragged(np.asarray(values, dtype), splits)
