"""The features of tasks' examples: made from their files, or read from a cache, and put together.

<preprocessed_data_dir>/<task>_<split>-<key>-<version>.safetensors    the cache; versions are raised
                                                        when features of a key come out otherwise
<preprocessed_data_dir>/<task>_teacher-<key>-<version>.safetensors    a teacher's outputs likewise

The key is a hash of all that the features depend on: the data file, the tokenizer, the task's
settings and labels. Features made from anything else have another name, so stale ones are never
read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.outputs import write_problem
from electra_tf2.text.unknown import UNKNOWN_WARNING, warn_of_unknown
from electra_tf2.training.array_files import read_arrays, write_arrays
from finetune.task import CUT, MORE_IDS, MORE_MASK, SHARED_SPECS, FeatureSpec, Task

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig


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
        self._ragged = {
            name: self._gathered([(t, name) for t in tables], [0] * len(tables), np.int32)
            for name in _SHARED
        }
        self._rows_each: dict[str, int] = {}  # of features with several rows an example
        for i, (task, table, own) in enumerate(zip(names, tables, specs, strict=True)):
            for spec in own:
                key = f"{task}/{spec.name}"
                if spec.several:
                    self._rows_each[key] = each = table.rows_each(spec.name)
                    column = self._gathered([(table, spec.name)], [first[i]], spec.dtype, each)
                    self._ragged[key] = column
                elif spec.per_token:
                    self._ragged[key] = self._gathered([(table, spec.name)], [first[i]], spec.dtype)
                else:
                    values = table.scalars[spec.name]
                    column = np.zeros((self.num_rows, *values.shape[1:]), spec.dtype)
                    column[first[i] : first[i + 1]] = values
                    self._scalars[key] = column
        self._tensors: tuple[dict, dict] | None = None

    def _gathered(self, parts, empty_before, dtype, each=1) -> tuple[np.ndarray, np.ndarray]:
        """Values and splits of a column over all rows; the rows of other tasks are empty."""
        values = [table.ragged[name].values for table, name in parts]
        more = np.zeros((1, *values[0].shape[1:]))  # which an empty row's index points at
        lengths = []
        for (table, name), empty in zip(parts, empty_before, strict=True):
            lengths += [np.zeros(empty * each, np.int64), table.ragged[name].lengths]
        lengths = np.concatenate(lengths)
        splits = np.zeros(self.num_rows * each + 1, np.int64)
        splits[1 : len(lengths) + 1] = np.cumsum(lengths)
        splits[len(lengths) + 1 :] = splits[len(lengths)]
        return np.concatenate([*values, more]).astype(dtype), splits

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


def _mask_name(name: str) -> str | None:
    """Returns what the mask of a feature's tokens is called; None if it has none."""
    if name == "input_ids":
        return "input_mask"
    task, _, own = name.rpartition("/")
    return f"{task}/{MORE_MASK}" if own == MORE_IDS else None


# Raise it when features of the same data and settings come out differently.
_CACHE_FORMAT = 2
# Part of the key by which trials are told from those of other data, so it stays as it is.
_FORMAT = 1


class Preprocessor:
    """Makes the features of tasks' splits.

    Args:
        config: gives `preprocessed_data_dir`, `use_tfrecords_if_existing` and `log_examples`.
    """

    def __init__(self, config: FinetuningConfig):
        self._folder = config.preprocessed_data_dir
        self._read_cache = config.use_tfrecords_if_existing
        self._log_examples = config.log_examples

    def features(self, task: Task, split: str) -> FeatureTable:
        """Returns the features of a split, from the cache if they are there.

        Args:
            task: the task.
            split: "train", or a split to score or to predict.

        Raises:
            UserError: the data can't be read, or no row is left.
        """

        def make() -> FeatureTable:
            say(f"Preparing {task.name}, {split}: {task.data_file(split)}")
            return self._make(task, task.get_examples(split), split)

        key = feature_key(task, split)
        table = self.kept(f"{task.name}_{split}-{key}", task.features_version, make)
        _warn_of_cuts(task, split, table)
        ids = table.ragged["input_ids"].values
        vocabulary = task.tokenizer.vocabulary
        warn_of_unknown(f"{task.name}, {split}", ids, vocabulary, UNKNOWN_WARNING)
        if split == "train" and self._log_examples:
            say(*describe_example(task, table).split("\n"))
        return table

    def kept(self, name: str, version: int, make: Callable[[], FeatureTable]) -> FeatureTable:
        """Returns a table from the cache, or makes it and puts it there.

        Args:
            name: of its file, with a hash of all that it depends on.
            version: raised when the table comes out otherwise.
            make: makes it.
        """
        path = posixpath.join(self._folder, f"{name}-{_CACHE_FORMAT}.{version}.safetensors")
        table = self._cached(path) if self._read_cache else None
        if table is None:
            table = make()
            _write(path, table)
        return table

    def make(self, task: Task, examples: Sequence[Any], split: str) -> FeatureTable:
        """Returns the features of examples at hand, without the cache; arguments as `features`."""
        table = self._make(task, examples, split)
        _warn_of_cuts(task, split, table)
        return table

    def _make(self, task: Task, examples: Sequence[Any], split: str) -> FeatureTable:
        rows = task.featurize(examples, is_training=split == "train")
        table = FeatureTable.from_rows(rows, task.get_feature_specs())
        if not table.num_rows:
            raise UserError(
                "No example of the task is left.",
                where=task.data_file(split),
                received=f"{len(examples)} examples read, 0 rows of features",
                remedy="Check the file, and whether max_seq_length leaves room for the text.",
            )
        return table

    def _cached(self, path: str) -> FeatureTable | None:
        if not files.exists(path):
            return None
        try:
            table = FeatureTable.from_arrays(read_arrays(path))
        except (UserError, KeyError):
            say(f"Warning: the cached features in {path} are damaged; they are rebuilt.")
            return None
        say(f"Features from the cache: {path}")
        return table


def _warn_of_cuts(task: Task, split: str, table: FeatureTable) -> None:
    examples = task.num_examples(table.scalars["eid"])
    cut, lost = int(np.count_nonzero(table.cut)), int(table.cut.sum())
    if cut:
        logging.warning(
            "%s, %s: %d of %d examples (%.1f %%) are cut by max_seq_length %d; %.1f %% of all "
            "tokens are lost.",
            task.name,
            split,
            cut,
            examples,
            100 * cut / examples,
            task.config.max_seq_length,
            100 * lost / (lost + table.num_tokens),
        )


def describe_example(task: Task, table: FeatureTable) -> str:
    """Returns the features of a table's first row, a line each, tokens beside the ids."""
    tokens = task.tokenizer.vocabulary.tokens
    ids = table.ragged["input_ids"]
    lines = [f"An example of {task.name}:"]
    lines.append("  tokens: " + " ".join(tokens[i] for i in ids.values[: ids.splits[1]]))
    for name, column in table.ragged.items():
        lines.append(f"  {name}: " + " ".join(str(v) for v in column.values[: column.splits[1]]))
    lines += [f"  {name}: {values[0]}" for name, values in table.scalars.items()]
    return "\n".join(lines)


# Modules of our tasks in version 0.1.0: stored trials are compared by the keys of their features.
_MODULES_IN_KEYS = {
    "GlueClassification": "finetune.classification.glue_tasks",
    "GlueRegression": "finetune.classification.glue_tasks",
    "TableClassification": "finetune.classification.custom",
    "TableRegression": "finetune.classification.custom",
    "SQuAD": "finetune.qa.qa_datasets",
    "SQuADv1": "finetune.qa.qa_datasets",
    "MRQATask": "finetune.qa.qa_tasks",
    "CustomQATask": "finetune.qa.custom",
    "Chunking": "finetune.tagging.chunking",
    "CustomTagging": "finetune.tagging.custom",
}


def feature_key(task: Task, split: str) -> str:
    """Returns a hash of all that the features of a split depend on, the file's content included."""
    module, name = type(task).__module__, type(task).__qualname__
    if module.startswith("finetune."):
        module = _MODULES_IN_KEYS.get(name, module)
    casing = task.tokenizer.casing.to_dict()
    with_content = {
        "format": _FORMAT,
        "version": "0.1.0",  # where the key comes from; stored trials are compared by it
        "task": f"{module}.{name}",
        "split": split,
        "settings": task.feature_settings(),
        "state": task.feature_state(),
        "vocabulary": task.tokenizer.vocabulary.sha256,
        "lower_case": casing.pop("do_lower_case"),
        **casing,
        "data": _sha256(task.data_file(split)),
    }
    text = json.dumps(with_content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sha256(path: str) -> str:
    """Returns a file's hash; "" if it can't be read, which reading it will explain."""
    digest = hashlib.sha256()
    try:
        with files.reported_as_os_errors(path), files.open_binary(path) as file:
            while block := file.read(1 << 24):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def _write(path: str, table: FeatureTable) -> None:
    # Beside the model, which may be where nothing can be written; the name of a task may be long.
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"  # others may be making the same features
    if problem := write_problem(temporary):
        say(f"Warning: the features are not kept for the next run: {problem}")
        return
    files.make_dirs(posixpath.dirname(path))
    write_arrays(temporary, table.to_arrays())
    files.rename(temporary, path)
