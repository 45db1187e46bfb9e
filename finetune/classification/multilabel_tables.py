"""Several labels a text without code: lists, texts with separators, or columns of 0 and 1."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import find_label, is_missing, label_text, spellings
from finetune.classification.multilabel import MultilabelTask
from finetune.classification.table_tasks import LabelledTable, sorted_labels
from finetune.classification.tables import TableRow
from finetune.classification.tasks import InputExample
from finetune.definitions import MultilabelDefinition

_YES_OR_NO = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
# A list as Python and JSON print it: quoted texts, numbers and bare words with commas between.
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_ITEM = rf"(?:{_QUOTED}|[\w.+-]+)"
_ITEMS = rf"\s*(?:{_ITEM}\s*(?:,\s*{_ITEM}\s*)*,?\s*)?"
_LIST = re.compile(rf"\[{_ITEMS}\]|\{{{_ITEMS}\}}", re.DOTALL)
# An array as NumPy prints it, which pandas makes of lists: with white space between, as in [0 1].
_NUMBER = r"(?:-?\d+\.?\d*|True|False)"
_ARRAY = re.compile(
    rf"\[\s*(?:{_QUOTED}(?:\s+{_QUOTED})+|{_NUMBER}(?:\s+{_NUMBER})+)\s*\]", re.DOTALL
)
# A tuple of one has a comma, other words in parentheses do not.
_TUPLE = re.compile(rf"\((?=[^,]*,|\s*\)){_ITEMS}\)", re.DOTALL)
_WHOLE = re.compile(r"\A(-?\d+)\.\Z")  # a whole number among others in NumPy: [0. 1.]
# What may stand between labels where the separator of the definition never does.
_OTHER_SEPARATORS = "|;,/、，；، "


class TableMultilabel(LabelledTable, MultilabelTask):
    """A task with several labels a text over the columns of a file.

    Args:
        config, name, tokenizer: see `Task`.
        definition: its columns and files. Without labels they are the names of the columns or,
            read when they are first needed, those of the training file, sorted.
    """

    definition: MultilabelDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: MultilabelDefinition,
    ):
        named = definition.labels or definition.label_columns or ()
        labels = tuple(str(label).strip() for label in named)
        super().__init__(config, name, tokenizer, definition, labels, definition.threshold)

    def _inferred_labels(self) -> tuple[str, ...]:
        path = self.data_file("train")
        rows = self._read(path, "train")
        listed = {
            item
            for row in rows
            if not row.problem and isinstance(row.cells[self.definition.label], list)
            for item in self._usable_items(row) or ()
        }
        each = [self._usable_items(row, listed) for row in rows]
        lists = [items for items in each if items is not None]
        self._refuse_vectors(path, lists)
        found = [label for items in lists for label in dict.fromkeys(items)]
        if not found:
            raise UserError(
                "The training data have no label.",
                where=path,
                received="rows without labels only" + self._first_problem(rows),
                remedy=f"Check the column of labels in the hparam tasks.{self.name}.label.",
            )
        names = spellings(found)
        self._warn_of_separators(path, names)
        self._warn_of_spellings(path, names)
        return sorted_labels(set(names))

    def _usable_items(self, row: TableRow, known: Collection[str] = ()) -> list[str] | None:
        """Returns what `_items` does; None for a row that is counted when the examples are read."""
        try:
            self._example(0, row, "predict")  # its text can be used
            return self._items(row, known)
        except ValueError:
            return None

    def _first_problem(self, rows: Sequence[TableRow]) -> str:
        """Says what is wrong with the first row that can't be used; "" if all can."""
        for row in rows:
            try:
                self._example(0, row, "predict")
                self._items(row)
            except ValueError as error:
                return f" (line {row.line}: {error})"
        return ""

    def _refuse_vectors(self, path: str, lists: Sequence[Sequence[str]]) -> None:
        """Refuses lists that all hold 0 or 1 for each of several labels without names."""
        filled = [items for items in lists if items]
        same_length = len({len(items) for items in filled}) == 1
        if same_length and all(map(_is_binary, filled)) and any(map(_is_vector, filled)):
            raise UserError(
                "The labels of the training data are lists of 0 and 1 without names.",
                where=path,
                received=f"[{', '.join(next(filter(_is_vector, filled)))}]",
                remedy="Name the labels in the order of these lists, with labels in the hparam "
                f"tasks.{self.name}: {len(filled[0])} of them.",
            )

    def _warn_of_separators(self, path: str, found: Collection[str]) -> None:
        """Says so if what are taken for labels look like several, with another separator."""
        for other in _OTHER_SEPARATORS.replace(self.definition.label_separator, ""):
            several = [label for label in found if other in label.strip(other)]
            known = all if other == " " else any
            joined = [x for x in several if known(part.strip() in found for part in x.split(other))]
            if joined or other != " " and 2 * len(several) > len(found):
                logging.warning(
                    f"{path}: {len(several)} of {len(found)} labels contain {other!r}, such as "
                    f"{(joined or several)[0]!r}. If that stands between labels, set "
                    f"label_separator to it in the hparam tasks.{self.name}."
                )

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Warns of labels that the model doesn't know.

        Raises:
            UserError: besides the usual, rows have labels, and all of them are unknown.
        """
        examples = super().read_examples(path, split)
        known = set(self.label_list)
        unknown = collections.Counter(
            label for e in examples for label in e.labels or () if label not in known
        )
        if unknown and not any(known.intersection(e.labels or ()) for e in examples):
            first = next(e for e in examples if e.labels)
            raise self._no_known_label(path, split, first, unknown).with_(
                remedy="Give the file the labels of the task, or check labels, label and "
                f"label_separator in the hparam tasks.{self.name}. A 0 or 1 for each label is "
                "written as a list, such as [0, 1]."
            )
        for label, count in unknown.most_common(10):
            logging.warning(
                f"{path}: the label {label!r} of {count} rows is not one of the task's, and never "
                "predicted."
            )
        return examples

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        del split
        columns = self.definition.label_columns
        if columns is None:
            return {"labels": self._listed(row)}
        found = [_is_yes(row.cells[column], f"the column {column!r}") for column in columns]
        pairs = zip(self.label_list, found, strict=True)
        return {"labels": tuple(label for label, is_yes in pairs if is_yes)}

    def _listed(self, row: TableRow) -> tuple[str, ...]:
        """Returns a row's labels, those of the task by their names."""
        labels = self.label_list
        items = self._items(row, labels)
        if _is_binary(items) and not any(find_label(x, labels) for x in ("0", "1")):
            if len(items) == len(labels):
                pairs = zip(labels, items, strict=True)
                return tuple(label for label, item in pairs if _is_yes(item, repr(label)))
            if _is_vector(items):
                raise ValueError(
                    f"a list of {len(items)} times 0 or 1, for a task with {len(labels)} labels"
                )
        return tuple(dict.fromkeys(find_label(item, labels) or item for item in items))

    def _items(self, row: TableRow, known: Collection[str] = ()) -> list[str]:
        """Returns what stands in a row's cell: one thing where the whole of it is a known label."""
        value, separator = row.cells[self.definition.label], self.definition.label_separator
        if isinstance(value, str) and separator in value and find_label(value.strip(), known):
            return [label_text(value)]
        return split_labels(value, separator)


def split_labels(value: Any, separator: str) -> list[str]:
    """Returns the labels in a cell, in its order.

    Args:
        value: a list; a text in which a separator stands between labels; or a text that prints a
            list as Python and JSON do, such as `['a', 'b']`, or a tuple or a set.
        separator: stands between labels.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, Mapping):
        raise ValueError(f"{str(value)[:50]!r} is not a list of labels")
    if isinstance(value, str):
        text = value.strip()
        if text and is_missing(text):
            raise ValueError(f"{text!r} stands for missing labels; an empty cell for none")
        printed = _printed_list(text)
        if printed is not None:
            value = printed
        else:
            parts = text.split(separator) if separator.strip() else value.split(separator)
            value = [part for part in parts if part.strip()]
    elif not isinstance(value, list):
        value = [value]
    return [label_text(label) for label in value]


def _printed_list(text: str) -> list[Any] | None:
    """Returns the items of a list, set or tuple that Python printed; None if it is none."""
    if text == "set()":
        return []
    if text[:1] + text[-1:] not in ("[]", "{}") and not _TUPLE.fullmatch(text):
        return None
    if text[0] != "(" and not _LIST.fullmatch(text) and not _ARRAY.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is not a list of labels")
    items = re.findall(_ITEM, text[1:-1], re.DOTALL)
    return [ast.literal_eval(x) if x[0] in "'\"" else _WHOLE.sub(r"\1.0", x) for x in items]


def _is_binary(items: Sequence[str]) -> bool:
    """Whether all items are 0 or 1."""
    return all(item.lower() in _YES_OR_NO for item in items)


def _is_vector(items: Sequence[str]) -> bool:
    """Whether items can only be a 0 or 1 for each label: as labels one would be there twice."""
    return _is_binary(items) and len({_YES_OR_NO[item.lower()] for item in items}) < len(items)


def _is_yes(value: Any, place: str) -> bool:
    try:
        text = label_text(value)
    except ValueError:
        text = str(value)  # such as nothing
    if text.lower() not in _YES_OR_NO:
        raise ValueError(
            f"the value {text[:50]!r} of {place} is neither 0 nor 1: write 0 for no and 1 for yes"
        )
    return _YES_OR_NO[text.lower()]
