"""The figures of every class: a table and a picture, with the confusion matrix where there is one.

<results_txt without .txt>_classes/<task>_<split>_<trial>.md, .png and, for programs, .json
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn.metrics

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import markdown_table
from electra_tf2.plots import load_pyplot, save_figure
from electra_tf2.stored_json import bad_field, read_record

# Above so many classes the numbers in the cells of the picture could not be read.
_MOST_WITH_NUMBERS = 20
# Above so many classes the table of the confusion matrix has only the pairs that occur most.
_MOST_IN_TABLE = 50


class ClassFigures(NamedTuple):
    """The figures of a class, a label or a type of span.

    Attributes:
        name: its name.
        precision, recall, f1: in percent; 0 where undefined.
        gold: how many examples or spans have it.
    """

    name: str
    precision: float
    recall: float
    f1: float
    gold: int

    @classmethod
    def of(cls, name: str, right: int, predicted: int, gold: int) -> ClassFigures:
        """Computes the figures from counts."""
        return cls(
            name,
            100.0 * right / max(1, predicted),
            100.0 * right / max(1, gold),
            200.0 * right / max(1, predicted + gold),
            gold,
        )


class ClassScores(NamedTuple):
    """The figures of all classes.

    Attributes:
        figures: of each class.
        confusion: int64 [classes, classes], examples by true (row) and predicted class, in the
            order of the figures; None where an example may have several.
    """

    figures: list[ClassFigures]
    confusion: np.ndarray | None = None


def scores_of_classes(
    true: Sequence[int], predicted: Sequence[int], names: Sequence[str]
) -> ClassScores:
    """Returns the figures of classes by their numbers.

    Args:
        true: of each example; a number without a name is another class, which is never predicted.
        predicted: of each example.
        names: of the classes; numbers stand for themselves if there are none.
    """
    if not names:
        names = [str(i) for i in range(1 + max(*true, *predicted))]
    others = len(names)
    true = [number if 0 <= number < others else others for number in true]
    names = [*names, *(["(another)"] if others in true else [])]
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (np.asarray(true), np.asarray(predicted)), 1)
    counts = (confusion.diagonal(), confusion.sum(0), confusion.sum(1))
    figures = [
        ClassFigures.of(name, *map(int, own)) for name, *own in zip(names, *counts, strict=True)
    ]
    return ClassScores(figures, confusion)


def report_path(config: FinetuningConfig, task: str, split: str, trial: int) -> str:
    """Returns the path of a report without its ending."""
    folder = config.results_txt.removesuffix(".txt") + "_classes"
    return posixpath.join(folder, f"{task}_{split}_{trial}")


def write_class_report(scores: ClassScores, path: str, title: str) -> list[str]:
    """Writes the table, the picture and the figures themselves.

    Args:
        scores: the figures.
        path: of the files, without their endings.
        title: the heading.

    Returns:
        The table's and the picture's files.

    Raises:
        UserError: matplotlib is not installed, or a file can't be written.
    """
    files.make_dirs(posixpath.dirname(path))
    files.replace_file(f"{path}.md", _tables(scores, title).encode())
    _draw(scores, f"{path}.png", title)
    confusion = None if scores.confusion is None else scores.confusion.tolist()
    figures = [own._asdict() for own in scores.figures]
    files.write_json(f"{path}.json", {"figures": figures, "confusion": confusion})
    return [f"{path}.md", f"{path}.png"]


class _Stored(NamedTuple):
    """The content of the JSON file, see `ClassScores`."""

    figures: list[ClassFigures]
    confusion: list[list[int]] | None = None


def read_class_report(path: str) -> ClassScores:
    """Reads the figures that `write_class_report` has written.

    Raises:
        UserError: it can't be read, or is another file.
    """
    what, remedy = "The report on the classes", "Move the file away, or score the model again."
    figures, confusion = read_record(_Stored, path, what, remedy)
    if confusion is None:
        return ClassScores(figures)
    if [*map(len, confusion)] != [len(figures)] * len(figures):
        received = f"not {len(figures)} rows of {len(figures)}, one for each class"
        raise bad_field(path, what, remedy, "confusion", received)
    return ClassScores(figures, np.array(confusion, np.int64))


def class_rows(scores: ClassScores) -> list[list[str]]:
    """Returns the figures as a table's cells, the header first."""
    rows = [["class", "precision", "recall", "F1", "examples"]]
    for name, *shares, gold in scores.figures:
        rows.append([name, *(f"{share:.2f}" for share in shares), str(gold)])
    return rows


def _tables(scores: ClassScores, title: str) -> str:
    parts = [f"# {title}\n\n", markdown_table(class_rows(scores))]
    if scores.confusion is not None:
        names = [own.name for own in scores.figures]
        parts.append("\n## Confusion matrix\n\n")
        if len(names) <= _MOST_IN_TABLE:
            numbers = [[*map(str, row)] for row in scores.confusion]
            matrix = [[name, *row] for name, row in zip(names, numbers, strict=True)]
            parts.append("Rows are true classes, columns predicted ones.\n\n")
            parts.append(markdown_table([["", *names], *matrix]))
        elif len(rows := confusion_rows(scores.confusion, names)) > 1:
            parts.append(f"The {_MOST_IN_TABLE} most frequent confusions.\n\n")
            parts.append(markdown_table(rows))
        else:
            parts.append("No example was given a wrong class.\n")
    return "".join(parts)


def confusion_rows(confusion: np.ndarray, names: Sequence[str]) -> list[list[str]]:
    """Returns the pairs of different classes that occur most, as rows of a table with a header."""
    wrong = confusion * ~np.eye(len(names), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_IN_TABLE]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    found = [[names[int(i)], names[int(j)], str(wrong[i, j])] for i, j in pairs if wrong[i, j]]
    return [["true", "predicted", "examples"], *found]


def _draw(scores: ClassScores, path: str, title: str) -> None:
    """The confusion matrix or, without one, a bar for the F1 of each class."""
    pyplot = load_pyplot()
    # A dollar sign would begin a formula.
    names = [own.name.replace("$", r"\$") for own in scores.figures]
    size = min(4 + 0.35 * len(names), 30)
    if scores.confusion is None:
        figure, axes = pyplot.subplots(figsize=(7, size), layout="constrained")
        axes.barh(range(len(names)), [own.f1 for own in scores.figures])
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("F1")
    else:
        figure, axes = pyplot.subplots(figsize=(size + 1, size), layout="constrained")
        display: Any = sklearn.metrics.ConfusionMatrixDisplay(
            scores.confusion, display_labels=names
        )
        readable = len(names) <= _MOST_WITH_NUMBERS
        display.plot(
            ax=axes,
            cmap="Blues",
            include_values=readable,
            values_format="d",
            xticks_rotation="vertical" if len(names) > 2 else "horizontal",
        )
    axes.set_title(title.replace("$", r"\$"))
    save_figure(pyplot, figure, path)
