"""Training in phases: short examples first, then long ones, from one model folder.

BERT (Devlin et al. 2019, appendix A.2) and large-batch training (You et al. 2020, section 4) train
most steps on 128 tokens and the last ones on 512. A run without the hparam `phases` has one phase,
its own configuration.

Steps are counted on over the phases: checkpoints, logs and random draws know no phase. The learning
rate's schedule and the place in the data start anew in each.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from electra_tf2.errors import UserError

# Hparams that may differ between phases, because neither networks nor optimizer are made of them.
PHASE_HPARAMS = (
    "num_train_steps",
    "max_seq_length",
    "train_batch_size",
    "eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "end_learning_rate",
    "num_warmup_steps",
    "lr_decay_power",
    "mask_prob",
    "recompute",
    "shuffle_buffer_size",
    "pretrain_tfrecords",
    "eval_tfrecords",
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of a run.

    Attributes:
        number: from 1.
        count: how many phases the run has.
        first_step: steps of the phases before it.
        last_step: the step at which it ends, counted over all phases.
        first_example: examples that the phases before it train on.
        config: the run's configuration with this phase's hparams; `num_train_steps` is the number
            of its own steps.
    """

    number: int
    count: int
    first_step: int
    last_step: int
    first_example: int
    config: Any

    @property
    def title(self) -> str:
        """ "phase 2 of 3", or "" in a run of one phase."""
        return f"phase {self.number} of {self.count}" if self.count > 1 else ""

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Adds the title to the place of a `UserError` that is raised within."""
        try:
            yield
        except UserError as error:
            if not self.title:
                raise
            raise UserError(
                error.what,
                where=", ".join(filter(None, [error.where, self.title])),
                received=error.received,
                remedy=error.remedy,
            ) from error


@dataclasses.dataclass(frozen=True)
class PhaseSchedule:
    """A learning rate that counts the steps from the start of a phase.

    Attributes:
        schedule: (step of the phase, from 1) -> rate.
        first_step: steps of the phases before.
    """

    schedule: Callable
    first_step: int

    def __call__(self, step):
        """Returns the rate of an update by its number in the whole run, from 1."""
        return self.schedule(step - self.first_step)


def phases_of(config: Any) -> list[Phase]:
    """Returns the phases of a configuration, at least one.

    Args:
        config: a `PretrainingConfig` whose `phases` have been checked.
    """
    entries: Sequence[Mapping[str, Any]] = config.phases or [{}]
    phases, step, examples = [], 0, 0
    for number, entry in enumerate(entries, 1):
        own = config if config.phases is None else _with_hparams(config, entry)
        last = step + own.num_train_steps
        phases.append(Phase(number, len(entries), step, last, examples, own))
        step, examples = last, examples + own.num_train_steps * own.train_batch_size
    return phases


def phase_to_train(phases: Sequence[Phase], step: int) -> Phase:
    """Returns the phase of the next step; the last one if all are done.

    Args:
        phases: those of the run.
        step: steps done.
    """
    return next((phase for phase in phases if step < phase.last_step), phases[-1])


def phase_trained(phases: Sequence[Phase], step: int) -> Phase:
    """Returns the phase of the last step that was done; arguments as `phase_to_train`."""
    return next((phase for phase in phases if step <= phase.last_step), phases[-1])


def examples_at(phases: Sequence[Phase], step: int) -> int:
    """Returns the number of examples that the first `step` steps train on, over all phases."""
    phase = phase_trained(phases, step)
    return phase.first_example + (step - phase.first_step) * phase.config.train_batch_size


def for_each_phase(config: Any, check: Callable[[Any], None]) -> None:
    """Checks a configuration phase by phase; errors and warnings name the phase.

    Args:
        config: a `PretrainingConfig`; gets the phases' warnings.
        check: called with each phase's configuration; raises `UserError`s and adds to `warnings`.
    """
    phases = phases_of(config)
    for phase in phases:
        with phase.named_in_errors():
            check(phase.config)
    if config.phases is None:
        return
    found = [phase.config.warnings for phase in phases]
    for phase, warnings in zip(phases, found, strict=True):
        for text in warnings:
            shared = all(text in others for others in found)
            line = text if shared else f"in {phase.title}: {text}"
            if line not in config.warnings:
                config.warnings.append(line)


def _with_hparams(config: Any, hparams: Mapping[str, Any]) -> Any:
    own = copy.copy(config)
    for name, value in hparams.items():
        setattr(own, name, value)
    own.phases = None
    own.given = config.given | set(hparams)
    own.warnings = []
    return own
