"""The tasks there are, by name.

A task of your own is added with

    from finetune.task_builder import register

    @register("reviews")
    class Reviews(ClassificationTask): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.custom import make_classification, make_regression
from finetune.classification.glue import glue_task
from finetune.classification.glue_tables import GLUE
from finetune.qa.tasks import MRQA_TASKS, SQuAD, SQuADv1, make_question_answering, mrqa_task
from finetune.tagging.custom import make_tagging
from finetune.tagging.tasks import Chunking
from finetune.task import Task

MakeTask = Callable[[Any, Tokenizer], Task]

_TASKS: dict[str, MakeTask] = {
    **{name: functools.partial(glue_task, name) for name in GLUE},
    "squad": SQuAD,
    "squadv1": SQuADv1,
    **{name: functools.partial(mrqa_task, name) for name in MRQA_TASKS},
    "chunk": Chunking,
}
"""Name -> what builds the task from (config, tokenizer)."""


def register(name: str) -> Callable[[MakeTask], MakeTask]:
    """Adds a task.

    Args:
        name: what the hparam `task_names` calls it.

    Returns:
        A decorator for a class or function that is called with (config, tokenizer).

    Raises:
        ValueError: there is a task of this name.
    """

    def add(make_task: MakeTask) -> MakeTask:
        if name in _TASKS:
            raise ValueError(f"There is a task of this name. Received: {name!r}")
        _TASKS[name] = make_task
        return make_task

    return add


def task_names() -> list[str]:
    """Returns the names of all registered tasks, sorted."""
    return sorted(_TASKS)


def get_tasks(config: Any, tokenizer: Tokenizer) -> list[Task]:
    """Builds the tasks of a configuration.

    Args:
        config: a `FinetuningConfig`; its `task_names`, and the definitions in its `tasks`.
        tokenizer: text -> ids.

    Raises:
        UserError: a name is no task's; the nearest one is named.
    """
    return [get_task(config, name, tokenizer) for name in config.task_names]


def get_task(config: Any, name: str, tokenizer: Tokenizer) -> Task:
    """Builds one task; arguments as `get_tasks`."""
    if name in config.tasks:
        return make_custom_task(config, name, tokenizer)
    if name not in _TASKS:
        raise UserError(
            f"There is no task {name!r}.",
            where="hparam task_names",
            received=repr(name),
            remedy=nearest_name_hint(name, [*sorted(_TASKS), *config.tasks])
            + " A task of your own is described with the hparam tasks.",
        )
    return _TASKS[name](config, tokenizer)


# Tasks described by the hparam `tasks` alone, without code.
#
#     {"task_names": ["reviews"],
#      "tasks": {"reviews": {"kind": "classification", "text": "body", "label": "stars"}}}


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
