"""The tasks of GLUE; what tells them apart is in `glue_tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.classification_tasks import (
    ClassificationTask,
    InputExample,
    RegressionTask,
    SingleOutputTask,
)
from finetune.classification.glue_files import GlueRows, read_glue, swapped
from finetune.classification.glue_submission import check_rows, write_submission
from finetune.classification.glue_tables import GLUE, HIGHEST, LOWEST, GlueTable
from finetune.scorer import Scorer
from finetune.task_builder import register

# Lines of a file that are read in debug mode, the header included.
DEBUG_LINES = 100


class GlueTask(SingleOutputTask):
    """What the tasks of GLUE share, to be inherited from beside a kind of task.

    Attributes:
        table: the task's table.
    """

    table: GlueTable

    @property
    def main_metric(self) -> str:
        """The metric by which models are compared."""
        return self.table.main_metric

    @property
    def dev_splits(self) -> Mapping[str, str]:
        """Splits to score; of mnli's, the mismatched one where its file is present."""
        first, *others = self.table.dev_splits
        present = [name for name in others if tf.io.gfile.exists(self.data_file(name))]
        return {name: self.table.dev_splits[name] for name in (first, *present)}

    @property
    def test_splits(self) -> Sequence[str]:
        """Splits without labels."""
        return tuple(self.table.tests)

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file."""
        return self.path(self.table.file_name(split))

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task` and `glue_files.read_glue`."""
        examples = self._read(path, split).examples
        if split == "train" and self.table.doubled and self.config.double_unordered:
            examples = examples + swapped(examples)
        return examples

    def _read(self, path: str, split: str) -> GlueRows:
        max_lines = DEBUG_LINES if self.config.debug else None
        return read_glue(self.table, path, split, max_lines)

    def check_test_split(self, split: str) -> None:
        """Checks that every row of a test split is usable, as its submission needs.

        Args:
            split: one of `test_splits`.

        Raises:
            UserError: the file can't be read, or a row has no prediction to be.
        """
        path = self.data_file(split)
        examples, num_rows = self._read(path, split)
        rows = {example.eid for example in examples}
        check_rows(self.table.submissions[split], path, num_rows, rows)

    def write_submission(
        self, split: str, records: Sequence[Mapping[str, Any]], folder: str
    ) -> list[str]:
        """Writes the file that GLUE's server takes; see `glue_submission.write_submission`."""
        path = self.data_file(split)
        num_rows = self._read(path, split).num_rows
        return [write_submission(self.table.submissions[split], path, num_rows, records, folder)]

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on."""
        settings = super().feature_settings()
        if self.table.doubled:
            settings["double_unordered"] = self.config.double_unordered
        return settings


class GlueClassification(GlueTask, ClassificationTask):
    """A classification task of GLUE.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name in `GLUE`.
        tokenizer: text -> ids.
    """

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer):
        self.table = GLUE[name]
        super().__init__(config, name, tokenizer, self.table.labels)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer."""
        return self.table.scorer(self.label_list)


class GlueRegression(GlueTask, RegressionTask):
    """The task of GLUE with scores, sts; arguments as `GlueClassification`."""

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer):
        self.table = GLUE[name]
        super().__init__(config, name, tokenizer, LOWEST, HIGHEST)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer."""
        return self.table.scorer()


def _register(name: str, table: GlueTable) -> None:
    kind = GlueClassification if table.labels else GlueRegression
    register(name)(lambda config, tokenizer: kind(config, name, tokenizer))


for _name, _table in GLUE.items():
    _register(_name, _table)
