"""The tasks there are, by name.

A task of your own is added with

    from finetune.task_builder import register

    @register("reviews")
    class Reviews(ClassificationTask): ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.errors import nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.task import Task

MakeTask = Callable[[Any, Tokenizer], Task]

_TASKS: dict[str, MakeTask] = {}


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
    _import_tasks()
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
    _import_tasks()
    if name in config.tasks:
        from finetune.custom_tasks import make_custom_task

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


def _import_tasks() -> None:
    """Imports the modules that register the built-in tasks."""
    import finetune.classification.glue_tasks
    import finetune.qa.qa_datasets
    import finetune.tagging.chunking  # noqa: F401
