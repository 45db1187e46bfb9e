"""The features of tasks' examples: made from their files, or read from a cache.

<preprocessed_data_dir>/<task>_<split>-<key>-<version>.safetensors    the cache; versions are raised
                                                        when features of a key come out otherwise
<preprocessed_data_dir>/<task>_teacher-<key>-<version>.safetensors    a teacher's outputs likewise

The key is a hash of all that the features depend on: the data file, the tokenizer, the task's
settings and labels. Features made from anything else have another name, so stale ones are never
read.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.outputs import write_problem
from electra_tf2.text.unknown import UNKNOWN_IN_CALL, UNKNOWN_WARNING, warn_of_unknown
from electra_tf2.training.array_files import read_arrays, write_arrays
from finetune.feature_tables import FeatureTable
from finetune.task import MORE_IDS, Task

# Raise it when features of the same data and settings come out differently.
_CACHE_FORMAT = 2
# Part of the key by which trials are told from those of other data, so it stays as it is.
_FORMAT = 1


class Preprocessor:
    """Makes the features of tasks' splits."""

    def __init__(self, config: FinetuningConfig):
        self._folder = config.preprocessed_data_dir
        self._read_cache = config.use_tfrecords_if_existing
        self._log_examples = config.log_examples

    def features(self, task: Task, split: str) -> FeatureTable:
        """Returns the features of a split, from the cache if they are there.

        Args:
            split: "train", or a split to score or to predict.

        Raises:
            UserError: the data can't be read, or no row is left.
        """

        def make() -> FeatureTable:
            say(f"Preparing {task.name}, {split}: {task.data_file(split)}")
            return self._make(task, task.get_examples(split), split)

        key = feature_key(task, split)
        table = self.kept(f"{task.name}_{split}-{key}", task.features_version, make)
        _warn_of_losses(task, split, table, UNKNOWN_WARNING)
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

    def make(
        self, task: Task, examples: Sequence[Any], split: str, path: str | None = None
    ) -> FeatureTable:
        """Returns the features of examples at hand, without the cache; arguments as `features`.

        Args:
            path: the file that they are from, for errors; None for that of the split.
        """
        table = self._make(task, examples, split, path)
        _warn_of_losses(task, split, table, UNKNOWN_IN_CALL)
        return table

    def _make(
        self, task: Task, examples: Sequence[Any], split: str, path: str | None = None
    ) -> FeatureTable:
        rows = task.featurize(examples, is_training=split == "train")
        table = FeatureTable.from_rows(rows, task.get_feature_specs())
        if not table.num_rows:
            raise UserError(
                "No example of the task is left.",
                where=path or task.data_file(split),
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


def _warn_of_losses(task: Task, split: str, table: FeatureTable, most_unknown: float) -> None:
    """Warns of texts that are cut, and of tokens that are unknown if they are more than a share."""
    ids = [own.values for name, own in table.ragged.items() if name in ("input_ids", MORE_IDS)]
    tokens = ids[0] if len(ids) == 1 else np.concatenate(ids)
    warn_of_unknown(f"{task.name}, {split}", tokens, task.tokenizer.vocabulary, most_unknown)
    examples = task.num_examples(table.scalars["eid"])
    cut, lost = int(np.count_nonzero(table.cut)), int(table.cut.sum())
    if cut:
        logging.warning(
            f"{task.name}, {split}: {cut} of {examples} examples ({100 * cut / examples:.1f} %) "
            f"are cut by max_seq_length {task.config.max_seq_length}; "
            f"{100 * lost / (lost + table.num_tokens):.1f} % of all tokens are lost."
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


# The modules that our tasks were first in, most in version 0.1.0: stored trials are compared by the
# keys of their features.
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
    "TableEmbedding": "finetune.sentences.embedding_tables",
    "TableChoice": "finetune.sentences.choice_tables",
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
