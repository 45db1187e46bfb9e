"""Tasks described by the hparam `tasks` alone, without code.

    {"task_names": ["reviews"],
     "tasks": {"reviews": {"kind": "classification", "text": "body", "label": "stars"}}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.errors import nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.custom import make_classification, make_regression
from finetune.qa.custom import make_question_answering
from finetune.tagging.custom import make_tagging
from finetune.task import Task

MakeCustomTask = Callable[[Any, str, Tokenizer, Mapping[str, Any]], Task]

KINDS: dict[str, MakeCustomTask] = {
    "classification": make_classification,
    "regression": make_regression,
    "tagging": make_tagging,
    "qa": make_question_answering,
}
"""Kind -> what builds it from (config, name, tokenizer, the definition without its kind)."""


def make_custom_task(config: Any, name: str, tokenizer: Tokenizer) -> Task:
    """Builds the task that `config.tasks[name]` describes.

    Raises:
        UserError: the definition has no kind or an unknown one, or the kind refuses its values.
    """
    definition = dict(config.tasks[name])
    where = f"hparam tasks.{name}.kind"
    kind = definition.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(
            f"The task {name!r} is of no known kind.",
            where=where,
            received="no kind" if kind is None else repr(kind),
            remedy=nearest_name_hint(str(kind), KINDS),
        )
    return KINDS[kind](config, name, tokenizer, definition)
