"""The tasks of GLUE as data: the columns of their files, and what the GLUE server wants.

Columns, labels and the tasks that are trained on both orders of a pair are those of the official
ELECTRA program, except for wnli, which it lacks. Numbers of rows are those that
https://gluebenchmark.com and the papers of its data sets state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from finetune.classification.metrics import (
    AccuracyScorer,
    F1Scorer,
    MCCScorer,
    RegressionScorer,
    SentenceLevelScorer,
)
from finetune.classification.regression import parse_score
from finetune.classification.tasks import parse_class

LOWEST, HIGHEST = 0.0, 5.0
"""Range of the scores of sts."""


@dataclasses.dataclass(frozen=True)
class GlueColumns:
    """The columns of a file, counted from 0, or from the end where negative.

    Attributes:
        text_a: column of the text, or of the first one.
        text_b: column of the second text; None if there is none.
        label: column of the label; None if there is none.
        header: whether line 1 names the columns.
    """

    text_a: int
    text_b: int | None = None
    label: int | None = None
    header: bool = True

    @property
    def min_cells(self) -> int:
        """The least number of cells with which a row has all columns, each in its own place."""
        used = {c for c in (self.text_a, self.text_b, self.label) if c is not None}
        from_start = max((c + 1 for c in used if c >= 0), default=0)
        return from_start + max((-c for c in used if c < 0), default=0)


@dataclasses.dataclass(frozen=True)
class GlueTable:
    """One task of GLUE.

    Attributes:
        folder: the task's folder in a downloaded GLUE.
        labelled: columns of the training and dev files.
        tests: test split -> columns of its file.
        text_names: names of the text columns in headers.
        submissions: test split -> name of the file that GLUE's server takes.
        num_rows: split -> published number of rows.
        labels: the classes' names, in the order of the head's outputs; empty for a score from 0 to
            5.
        main_metric: see `Task`.
        scorer: makes a scorer from the classes' names.
        doubled: whether training takes both orders of a pair (hparam `double_unordered`).
        dev_splits: see `Task`; all but the first are scored only where their files are present.
        files: split -> file, where it isn't `<split>.tsv`.
    """

    folder: str
    labelled: GlueColumns
    tests: Mapping[str, GlueColumns]
    text_names: tuple[str, ...]
    submissions: Mapping[str, str]
    num_rows: Mapping[str, int]
    labels: tuple[str, ...] = ("0", "1")
    main_metric: str = "accuracy"
    scorer: Callable[..., SentenceLevelScorer] = AccuracyScorer
    doubled: bool = False
    dev_splits: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"dev": ""})
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """All possible splits."""
        return ("train", *self.dev_splits, *self.tests)

    def file_name(self, split: str) -> str:
        """Returns the name of a split's file."""
        return self.files.get(split, f"{split}.tsv")

    def parse_label(self, text: str) -> str | float:
        """Returns the label or score that a text states; raises ValueError if it states none."""
        if self.labels:
            return parse_class(text, self.labels)
        return parse_score(text, LOWEST, HIGHEST)


def _sizes(train: int, dev: int, test: int) -> dict[str, int]:
    return {"train": train, "dev": dev, "test": test}


_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")

GLUE: dict[str, GlueTable] = {
    "cola": GlueTable(
        folder="CoLA",
        labelled=GlueColumns(3, None, 1, header=False),
        tests={"test": GlueColumns(1)},
        text_names=("sentence",),
        submissions={"test": "CoLA.tsv"},
        num_rows=_sizes(8551, 1043, 1063),
        main_metric="mcc",
        scorer=MCCScorer,
    ),
    "sst": GlueTable(
        folder="SST-2",
        labelled=GlueColumns(0, None, 1),
        tests={"test": GlueColumns(1)},
        text_names=("sentence",),
        submissions={"test": "SST-2.tsv"},
        num_rows=_sizes(67349, 872, 1821),
    ),
    "mrpc": GlueTable(
        folder="MRPC",
        labelled=GlueColumns(3, 4, 0),
        tests={"test": GlueColumns(3, 4)},
        text_names=("#1 String", "#2 String"),
        submissions={"test": "MRPC.tsv"},
        num_rows=_sizes(3668, 408, 1725),
        scorer=F1Scorer,
        doubled=True,
    ),
    "sts": GlueTable(
        folder="STS-B",
        labelled=GlueColumns(-3, -2, -1),
        tests={"test": GlueColumns(-2, -1)},
        text_names=_SENTENCES,
        submissions={"test": "STS-B.tsv"},
        num_rows=_sizes(5749, 1500, 1379),
        labels=(),
        main_metric="spearman",
        scorer=RegressionScorer,
        doubled=True,
    ),
    "qqp": GlueTable(
        folder="QQP",
        labelled=GlueColumns(3, 4, 5),
        tests={"test": GlueColumns(1, 2)},
        text_names=("question1", "question2"),
        submissions={"test": "QQP.tsv"},
        num_rows=_sizes(363846, 40430, 390965),
        scorer=F1Scorer,
    ),
    "mnli": GlueTable(
        folder="MNLI",
        labelled=GlueColumns(8, 9, -1),
        tests={
            "test_matched": GlueColumns(8, 9),
            "test_mismatched": GlueColumns(8, 9),
            "diagnostic": GlueColumns(1, 2),
        },
        text_names=_SENTENCES,
        submissions={
            "test_matched": "MNLI-m.tsv",
            "test_mismatched": "MNLI-mm.tsv",
            "diagnostic": "AX.tsv",
        },
        num_rows={
            "train": 392702,
            "dev": 9815,
            "dev_mismatched": 9832,
            "test_matched": 9796,
            "test_mismatched": 9847,
            "diagnostic": 1104,
        },
        labels=("contradiction", "entailment", "neutral"),
        dev_splits={"dev": "", "dev_mismatched": "mismatched_"},
        files={"dev": "dev_matched.tsv"},
    ),
    "qnli": GlueTable(
        folder="QNLI",
        labelled=GlueColumns(1, 2, 3),
        tests={"test": GlueColumns(1, 2)},
        text_names=("question", "sentence"),
        submissions={"test": "QNLI.tsv"},
        num_rows=_sizes(104743, 5463, 5463),
        labels=_ENTAILMENT,
    ),
    "rte": GlueTable(
        folder="RTE",
        labelled=GlueColumns(1, 2, 3),
        tests={"test": GlueColumns(1, 2)},
        text_names=_SENTENCES,
        submissions={"test": "RTE.tsv"},
        num_rows=_sizes(2490, 277, 3000),
        labels=_ENTAILMENT,
    ),
    "wnli": GlueTable(
        folder="WNLI",
        labelled=GlueColumns(1, 2, 3),
        tests={"test": GlueColumns(1, 2)},
        text_names=_SENTENCES,
        submissions={"test": "WNLI.tsv"},
        num_rows=_sizes(635, 71, 146),
    ),
}
"""Task name -> its table."""
