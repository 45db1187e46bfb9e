"""From a task's files to features, by way of a cache.

    <preprocessed_data_dir>/<task>_<split>-<key>.safetensors

The key is a hash of all that the features depend on: the data file, the tokenizer, the task's
settings and labels. Features made from anything else have another name, so stale ones are never
read.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import uuid
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.training.array_files import read_arrays, write_arrays
from finetune.feature_table import FeatureTable
from finetune.task import Task

# Raise it when features of the same data and settings come out differently.
_FORMAT = 1


class Preprocessor:
    """Makes the features of tasks' splits.

    Args:
        config: a `FinetuningConfig`.
    """

    def __init__(self, config: Any):
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
        key = feature_key(task, split)
        path = posixpath.join(self._folder, f"{task.name}_{split}-{key}.safetensors")
        table = self._cached(path) if self._read_cache else None
        if table is None:
            say(f"Preparing {task.name}, {split}: {task.data_file(split)}")
            table = self.make(task, task.get_examples(split), split)
            _write(path, table)
        if split == "train" and self._log_examples:
            say(describe_example(task, table))
        return table

    def make(self, task: Task, examples: Sequence[Any], split: str) -> FeatureTable:
        """Returns the features of examples at hand, without the cache."""
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
        if not tf.io.gfile.exists(path):
            return None
        try:
            table = FeatureTable.from_arrays(read_arrays(path))
        except (UserError, KeyError):
            say(f"Warning: the cached features in {path} are damaged; they are made anew.")
            return None
        say(f"Features from the cache: {path}")
        return table


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


def feature_key(task: Task, split: str) -> str:
    """Returns a hash of all that the features of a split depend on, the file's content included."""
    with_content = {
        "format": _FORMAT,
        "version": __version__,
        "task": f"{type(task).__module__}.{type(task).__qualname__}",
        "split": split,
        "settings": task.feature_settings(),
        "state": task.get_state(),
        "vocabulary": task.tokenizer.vocabulary.sha256,
        "lower_case": task.tokenizer.lower_case,
        "strip_accents": task.tokenizer.strip_accents,
        "data": _sha256(task.data_file(split)),
    }
    text = json.dumps(with_content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sha256(path: str) -> str:
    """Returns a file's hash; of a file that can't be read, nothing: reading it will say why."""
    digest = hashlib.sha256()
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    except tf.errors.OpError:
        return ""
    return digest.hexdigest()


def _write(path: str, table: FeatureTable) -> None:
    tf.io.gfile.makedirs(posixpath.dirname(path))
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"  # others may be making the same features
    write_arrays(temporary, table.to_arrays())
    tf.io.gfile.rename(temporary, path, overwrite=True)
