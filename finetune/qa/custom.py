"""Question answering tasks that hparams describe, without code.

    {"task_names": ["manuals"],
     "tasks": {"manuals": {"kind": "qa", "unanswerable": true,
                           "files": {"train": "questions.json", "dev": "held_out.json"}}}}

Files have SQuAD's JSON format. A definition may have the keys

    files: split ("train", "dev", "test") -> path in the task's folder; where one is missing,
        `<split>.json`
    unanswerable: whether questions may have no answer (default false). They are then told apart by
        the field `is_impossible` in the training file, and scored as in SQuAD 2.0; else as in 1.1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.errors import nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.qa.qa_tasks import SQuADTask

KEYS = ("files", "unanswerable")
SPLITS = ("train", "dev", "test")


class CustomQATask(SQuADTask):
    """A question answering task over files of SQuAD's format.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        files: split -> path in the task's folder; the others are `<split>.json`.
        unanswerable: whether questions may have no answer.
    """

    def __init__(
        self,
        config: Any,
        name: str,
        tokenizer: Tokenizer,
        *,
        files: Mapping[str, str] | None = None,
        unanswerable: bool = False,
    ):
        super().__init__(config, name, tokenizer, v2=unanswerable)
        self._files = dict(files or {})

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file."""
        return self.path(self._files.get(split, f"{split}.json"))


def make_question_answering(
    config: Any, name: str, tokenizer: Tokenizer, definition: Mapping[str, Any]
) -> CustomQATask:
    """Builds the task that a definition describes.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        definition: `config.tasks[name]` without its kind.

    Raises:
        UserError: a key is unknown, or a value is of the wrong type.
    """
    for key, value in definition.items():
        if key not in KEYS:
            raise _refusal(name, key, "is unknown", value, nearest_name_hint(key, KEYS))
    unanswerable = definition.get("unanswerable", False)
    if not isinstance(unanswerable, bool):
        raise _refusal(name, "unanswerable", "is neither true nor false", unanswerable)
    files = definition.get("files", {})
    if not isinstance(files, Mapping):
        remedy = 'Write for example {"train": "questions.json"}.'
        raise _refusal(name, "files", "is no object", files, remedy)
    for split, file in files.items():
        if split not in SPLITS:
            remedy = nearest_name_hint(str(split), SPLITS)
            raise _refusal(name, f"files.{split}", "is no split", file, remedy)
        if not isinstance(file, str) or not posixpath.basename(file):
            raise _refusal(name, f"files.{split}", "is no file name", file)
    return CustomQATask(config, name, tokenizer, files=files, unanswerable=unanswerable)


def _refusal(
    name: str, key: str, problem: str, received: Any, remedy: str | None = None
) -> UserError:
    return UserError(
        f"In the definition of the task {name!r}, {key!r} {problem}.",
        where=f"hparam tasks.{name}.{key}",
        received=repr(received),
        remedy=remedy,
    )
