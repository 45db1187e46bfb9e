"""Tagging tasks described by a hparam: named entities, parts of speech, slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.tagging.conll import Columns
from finetune.tagging.spans import Span, seqeval_spans
from finetune.tagging.tasks import TaggingTask

SPLITS = ("train", "dev", "test")
SPAN_PREFIXES = {"iob": "BI", "bioes": "BIES"}
"""Scheme of spans -> what its tags may begin with, beside O."""
SCHEMES = (*SPAN_PREFIXES, "token")
DEFAULTS: dict[str, Any] = {
    "word_column": 0,
    "tag_column": -1,
    "scheme": None,
    "files": {},
    "separator": None,
}


class CustomTagging(TaggingTask):
    """A tagging task over columns of the user's choice.

    Unlike the official rule, a tag of another type than the one before opens a span, so that files
    in IOB1, where B only separates spans of one type, are read rightly.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        columns: where words and tags stand.
        scheme: one of `SCHEMES`; None to tell from the tags of the training split.
        files: split -> file, where it is not <split>.txt; relative to the task's folder.
    """

    def __init__(
        self,
        config: Any,
        name: str,
        tokenizer: Tokenizer,
        columns: Columns,
        scheme: str | None,
        files: Mapping[str, str],
    ):
        super().__init__(config, name, tokenizer, None if scheme is None else scheme == "token")
        self.columns = columns
        self.span_prefixes = SPAN_PREFIXES.get(scheme, TaggingTask.span_prefixes)
        self._files = files

    def file_name(self, split: str) -> str:
        """Returns the name of a split's file within the task's folder, or its whole path."""
        return self._files.get(split) or super().file_name(split)

    def find_spans(self, tags: Sequence[str]) -> list[Span]:
        """Returns the spans that a file's tags mark."""
        return seqeval_spans(tags)

    def _test_is_dev(self) -> bool:
        return "dev" not in self._files and super()._test_is_dev()


def make_tagging(
    config: Any, name: str, tokenizer: Tokenizer, definition: Mapping[str, Any]
) -> CustomTagging:
    """Builds a tagging task from its definition.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        definition: any of
            word_column, tag_column: from 0, or from the end where negative (default 0 and -1).
            scheme: "iob" (IOB1 or IOB2) or "bioes" for spans, which F1 is reported of; "token" for
                tags that stand for themselves, which accuracy is reported of. By default spans if
                all tags of the training split are O or begin with B-, I-, E- or S-.
            files: split ("train", "dev", "test") -> file name (default <split>.txt).
            separator: what separates columns (default: any white space).

    Raises:
        UserError: a key is unknown or a value is none of those.
    """
    for key in definition:
        if key not in DEFAULTS:
            raise _refusal(name, key, "A key is unknown.", key, nearest_name_hint(key, DEFAULTS))
    values = {**DEFAULTS, **definition}
    scheme = values["scheme"]
    if scheme is not None and scheme not in SCHEMES:
        remedy = "Use one of: iob (for IOB1, IOB2 and BIO), bioes, token."
        raise _refusal(name, "scheme", "The scheme of the tags is unknown.", scheme, remedy)
    separator = values["separator"]
    if separator is not None and not (isinstance(separator, str) and separator):
        remedy = 'Give a text such as "\\t", or leave it out for any white space.'
        raise _refusal(name, "separator", "The separator is no text.", separator, remedy)
    columns = Columns(*_check_columns(name, values), separator)
    files = _check_files(name, values["files"])
    return CustomTagging(config, name, tokenizer, columns, scheme, files)


def _check_columns(name: str, values: Mapping[str, Any]) -> tuple[int, int]:
    for key in ("word_column", "tag_column"):
        if type(values[key]) is not int:
            remedy = "Count from 0, or from the end: -1 is the last."
            raise _refusal(name, key, "A column is no whole number.", values[key], remedy)
    word, tag = values["word_column"], values["tag_column"]
    if word == tag:
        remedy = "Choose different columns."
        raise _refusal(name, "tag_column", "Word and tag are the same column.", tag, remedy)
    return word, tag


def _check_files(name: str, files: Any) -> dict[str, str]:
    if not isinstance(files, Mapping):
        remedy = 'Write for example {"train": "train.conll"}.'
        raise _refusal(name, "files", "The files are no object.", files, remedy)
    for split, file in files.items():
        key = f"files.{split}"
        if split not in SPLITS:
            remedy = nearest_name_hint(str(split), SPLITS)
            raise _refusal(name, key, "A split is unknown.", split, remedy)
        if not isinstance(file, str) or not file:
            raise _refusal(name, key, "A file has no name.", file, "Give its name.")
    return dict(files)


def _refusal(name: str, key: str, what: str, received: Any, remedy: str) -> UserError:
    return UserError(
        what, where=f"hparam tasks.{name}.{key}", received=repr(received), remedy=remedy
    )
