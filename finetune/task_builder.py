"""All tasks by name, and how to add one.

from finetune.task_builder import register

@register("reviews")
class Reviews(ClassificationTask): ...
"""

from __future__ import annotations

from collections.abc import Callable

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.glue import GlueClassification, GlueRegression
from finetune.classification.glue_tables import GLUE
from finetune.classification.multilabel_tables import TableMultilabel
from finetune.classification.regression_tables import TableRegression
from finetune.classification.table_tasks import TableClassification
from finetune.definitions import read_definition
from finetune.qa.tasks import MRQA_TASKS, CustomQATask, MRQATask, SQuAD, SQuADv1
from finetune.sentences.choice import TableChoice
from finetune.sentences.embedding import TableEmbedding
from finetune.tagging.tasks import Chunking, CustomTagging
from finetune.task import Task

MakeTask = Callable[[FinetuningConfig, Tokenizer], Task]


def _named(kind: Callable[..., Task], name: str) -> MakeTask:
    return lambda config, tokenizer: kind(config, name, tokenizer)


_TASKS: dict[str, MakeTask] = {
    **{
        name: _named(GlueClassification if table.labels else GlueRegression, name)
        for name, table in GLUE.items()
    },
    "squad": SQuAD,
    "squadv1": SQuADv1,
    **{name: _named(MRQATask, name) for name in MRQA_TASKS},
    "chunk": Chunking,
}
"""Name -> what builds the task from (config, tokenizer)."""

_DEFINED_TASKS: dict[str, Callable[..., Task]] = {
    "classification": TableClassification,
    "multilabel": TableMultilabel,
    "regression": TableRegression,
    "embedding": TableEmbedding,
    "choice": TableChoice,
    "tagging": CustomTagging,
    "qa": CustomQATask,
}
"""Kind of a task without code -> what builds it from (config, name, tokenizer, definition)."""


def register(name: str) -> Callable[[MakeTask], MakeTask]:
    """Adds a task.

    Args:
        name: the name for the hparam `task_names`.

    Returns:
        A decorator for a class or function that is called with (config, tokenizer).

    Raises:
        ValueError: the name is taken.
    """

    def add(make_task: MakeTask) -> MakeTask:
        if name in _TASKS:
            raise ValueError(f"There is already a task of this name. Received: {name!r}")
        _TASKS[name] = make_task
        return make_task

    return add


def task_names() -> list[str]:
    """Returns the names of all registered tasks, sorted."""
    return sorted(_TASKS)


def get_tasks(config: FinetuningConfig, tokenizer: Tokenizer) -> list[Task]:
    """Builds the tasks of a configuration.

    Args:
        config: gives `task_names`, and the definitions in `tasks`.
        tokenizer: text -> ids.

    Raises:
        UserError: a task is unknown, or its definition is wrong.
    """
    return [get_task(config, name, tokenizer) for name in config.task_names]


def get_task(config: FinetuningConfig, name: str, tokenizer: Tokenizer) -> Task:
    """Builds one task; arguments as `get_tasks`."""
    if name in config.tasks:
        definition = read_definition(name, config.tasks[name])
        return _DEFINED_TASKS[config.tasks[name]["kind"]](config, name, tokenizer, definition)
    if name not in _TASKS:
        raise UserError(
            f"There is no task {name!r}.",
            where="hparam task_names",
            received=repr(name),
            remedy=nearest_name_hint(name, [*sorted(_TASKS), *config.tasks])
            + " Define a task of your own with the hparam tasks.",
        )
    return _TASKS[name](config, tokenizer)
