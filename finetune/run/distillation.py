"""Distillation: a student learns from a teacher's outputs beside the labels.

Hinton, Vinyals and Dean 2015 (arXiv:1503.02531). The loss of an example is

    (1 - distillation_weight) * loss of its label + distillation_weight * distance from the teacher

where the distance is a divergence of distributions that `distillation_temperature` softens, see
`finetune.task.softened_divergence`, and of scores the squared difference.

The teacher doesn't change and sees its examples without dropout, so its outputs are computed once,
before the training, and are features of the examples from then on: a step takes no longer than
without a teacher, and a resumed run has the same targets to the last bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, errors_named_in, first_of, nearest_name_hint
from finetune.feature_tables import FeatureTable, Ragged, TaskData
from finetune.features import Preprocessor, feature_key
from finetune.fine_tuned import FineTuned
from finetune.run.open_run import Run, RunData, check_segments, open_data
from finetune.task import TEACHER, SoftTargets, Task
from finetune.trial_folders import arrays_hash

_WHERE = "hparam teacher"
# Raise it when the outputs of a key come out otherwise.
_VERSION = 1


def open_training_data(run: Run) -> RunData:
    """Opens the examples of a run that trains, with the outputs of its teacher, if it has one.

    Returns:
        The data; the origin has the teacher's weights too.

    Raises:
        UserError: see `open_data`; or the teacher can't be opened, has other tasks or labels, or
            reads the examples otherwise.
    """
    folder = run.config.teacher
    if not folder:
        return open_data(run)
    with errors_named_in(_WHERE):
        teacher = FineTuned.from_pretrained(folder, precision=run.compute_type)
    say(f"Teacher: {folder}")
    weights = arrays_hash(teacher.source.pretrained.arrays)
    lessons = [_Lesson(run, task, teacher, weights) for task in run.tasks]
    data, origin = open_data(run), {"teacher": weights}
    train = data.train
    return data._replace(
        train=TaskData(
            train.names,
            [own.taught(table) for own, table in zip(lessons, train.tables, strict=True)],
            [[*s, *own.features] for own, s in zip(lessons, train.specs, strict=True)],
        ),
        origin={**data.origin, **origin},
        whole_origin={**data.whole_origin, **origin},
    )


class _Lesson:
    """What a teacher, whose weights have a hash, teaches of one of the student's tasks.

    `features` are the specs of those that hold its outputs. A UserError if it has no such task.
    """

    def __init__(self, run: Run, task: Task, teacher: FineTuned, weights: str):
        self._run = run
        self._task = task
        self._teacher = teacher
        self._weights = weights
        self._teachers_task = _same_task(task, teacher)
        self._targets = _common_targets(task, self._teachers_task)
        self.features = [
            dataclasses.replace(spec, name=TEACHER + spec.name) for spec in self._targets.specs
        ]

    def taught(self, table: FeatureTable) -> FeatureTable:
        """Returns the student's training examples with the teacher's outputs.

        They are kept beside the features, for the next run and for one that resumes.
        """
        preprocessor = Preprocessor(self._run.config)
        name = f"{self._task.name}_teacher-{self._key()}"
        found = preprocessor.kept(name, _VERSION, lambda: self._outputs(table))
        return dataclasses.replace(
            table,
            scalars={**found.scalars, **table.scalars},
            ragged={**found.ragged, **table.ragged},
        )

    def _key(self) -> str:
        """Returns a hash of all that the outputs depend on."""
        parts = {
            "examples": feature_key(self._task, "train"),
            "versions": [self._task.features_version, self._teachers_task.features_version],
            "weights": self._weights,
            "network": self._teacher.source.network.to_dict(),
            "reading": _reading(self._teachers_task),
            "precision": self._run.compute_type,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _outputs(self, table: FeatureTable) -> FeatureTable:
        """Returns the teacher's outputs for the student's examples, row by row."""
        name = self._task.name
        say(f"Computing the teacher's outputs for {table.num_rows:,} examples of {name}")
        read = self._read_by_teacher(table)
        with errors_named_in(_WHERE):
            check_segments(self._teacher.source.network, {name: read})
        along = self._targets.along
        lengths = table.ragged[along].lengths if along else np.zeros(table.num_rows, np.int64)
        found: dict[str, list[Any]] = {
            spec.name: [None] * table.num_rows for spec in self._targets.specs
        }
        for row, outputs in self._teacher.teach(name, read):
            for spec in self._targets.specs:
                value = outputs[spec.name]
                found[spec.name][row] = value[: lengths[row]] if spec.per_token else value
        scalars, ragged = {"eid": table.scalars["eid"]}, {}
        splits = np.concatenate([[0], np.cumsum(lengths)])
        for spec in self._targets.specs:
            values = found[spec.name]
            joined = (np.concatenate if spec.per_token else np.stack)(values).astype(spec.dtype)
            self._check_finite(joined)
            if spec.per_token:
                ragged[TEACHER + spec.name] = Ragged(joined, splits)
            else:
                scalars[TEACHER + spec.name] = joined
        return FeatureTable(scalars, ragged, table.cut)

    def _check_finite(self, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise UserError(
                "The teacher's outputs are not numbers.",
                where=_WHERE,
                received=f"NaN or infinity for examples of {self._task.name!r}",
                remedy="Give a teacher whose scores are good; this one's training has diverged, or "
                "set precision to float32.",
            )

    def _read_by_teacher(self, table: FeatureTable) -> FeatureTable:
        """Returns the same examples as the teacher reads them: with its vocabulary and length."""
        if _reading(self._task) == _reading(self._teachers_task):
            return table
        examples = self._task.get_examples("train")
        read = Preprocessor(self._teacher.config).make(self._teachers_task, examples, "train")
        if not np.array_equal(read.scalars["eid"], table.scalars["eid"]):
            raise self._reads_otherwise("another number of rows")
        along = self._targets.along
        if along is not None:
            own, others = table.ragged[along], read.ragged[along]
            for row in range(table.num_rows):
                start, end = own.splits[row : row + 2]
                first = others.splits[row]
                there = others.values[first : min(first + end - start, others.splits[row + 1])]
                if not np.array_equal(own.values[start:end], there):
                    raise self._reads_otherwise(f"row {row}")
        return read

    def _reads_otherwise(self, what: str) -> UserError:
        name, own, others = self._task.name, _reading(self._task), _reading(self._teachers_task)
        different = [key for key in {**own, **others} if own.get(key) != others.get(key)]
        shown = [f"{key} {others.get(key)!r}, here {own.get(key)!r}" for key in different]
        hparams = [key for key in different if hasattr(self._run.config, key)]
        casing = set(self._task.tokenizer.casing.to_dict())  # the models' own
        can_be_set = hparams == different and not casing & set(different)
        return UserError(
            f"The teacher reads the training examples of {name!r} otherwise, so that its outputs "
            "don't belong to the same words or tokens.",
            where=_WHERE,
            received=f"{what} differs; the teacher has " + first_of(shown),
            remedy=f"Set {', '.join(hparams)} as for the teacher."
            if can_be_set
            else "Fine-tune a teacher with the vocabulary and the settings of this run.",
        )


def _same_task(task: Task, teacher: FineTuned) -> Task:
    if task.name not in teacher.tasks:
        raise UserError(
            "The teacher was not fine-tuned on the task.",
            where=_WHERE,
            received=f"{task.name!r}; the teacher's tasks are {', '.join(teacher.tasks)}",
            remedy=nearest_name_hint(task.name, teacher.tasks)
            + " Or give a model that was fine-tuned on all tasks of this run.",
        )
    return teacher.tasks[task.name]


def _common_targets(task: Task, teachers: Task) -> SoftTargets:
    """Returns what both models put out; an error if it is not the same."""
    own, others = task.soft_targets(), teachers.soft_targets()
    if own is None:
        raise UserError(
            f"The task {task.name!r} can't be distilled.",
            where=_WHERE,
            received=f"{type(task).__module__}.{type(task).__qualname__}, which has no outputs to "
            "learn from",
            remedy="Set teacher to null, or train the others alone. A class of your own may "
            "override soft_targets, and soft_losses in its head.",
        )
    if others is None or json.dumps(own.meaning) != json.dumps(others.meaning):
        raise UserError(
            f"The teacher's outputs for the task {task.name!r} are not those of this run.",
            where=_WHERE,
            received=f"{_shown(others)}; here {_shown(own)}",
            remedy="Give a teacher that was fine-tuned on the same labels in the same order, or "
            "define the task as it was for the teacher.",
        )
    return own


def _shown(targets: SoftTargets | None) -> str:
    text = "none" if targets is None else json.dumps(targets.meaning, ensure_ascii=False)
    return text[:300] + "…" * (len(text) > 300)


def _reading(task: Task) -> dict[str, Any]:
    """Returns what the features of given examples depend on."""
    state: Mapping[str, Any] = task.get_state()
    return {
        **task.feature_settings(),
        **{name: value for name, value in state.items() if name != "layout"},
        **task.tokenizer.casing.to_dict(),
        "vocabulary": task.tokenizer.vocabulary.sha256[:8],
    }
