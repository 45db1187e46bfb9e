"""Training in phases: short examples first, then long ones, from one model folder.

BERT (Devlin et al. 2019, appendix A.2) and large-batch training (You et al. 2020, section 4) train
most steps on 128 tokens and the last ones on 512. A run without the hparam `phases` has one phase,
its own configuration.

Steps are counted on over the phases: checkpoints, logs and random draws know no phase. The learning
rate's schedule and the place in the data start afresh in each.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from electra_tf2.compute import PFS_DAY, Flops, example_flops, pretraining_flops, total
from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.ramps import LINEAR, points_of, shown
from electra_tf2.hparams.record import contradiction
from electra_tf2.hparams.types import check_value
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.patterns import weighted

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Hparams that may differ between phases, because neither networks nor optimizer are made of them.
PHASE_HPARAMS = (
    "num_train_steps",
    "max_seq_length",
    "copy_positions",
    "train_batch_size",
    "eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "end_learning_rate",
    "num_warmup_steps",
    "lr_schedule",
    "lr_decay_power",
    "lr_decay_steps",
    "lr_decay_shape",
    "mask_prob",
    "recompute",
    "shuffle_buffer_size",
    "pretrain_tfrecords",
    "eval_tfrecords",
)


class Part(NamedTuple):
    """Steps of a phase whose batches have one size, counted in the whole run.

    Attributes:
        first_step: steps before it.
        last_step: the step at which it ends.
        batch_size: examples a step, over all devices.
    """

    first_step: int
    last_step: int
    batch_size: int


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
        stated: names of the hparams that the phase states itself. Their ramps count steps from its
            start, those of others from the start of the run.
    """

    number: int
    count: int
    first_step: int
    last_step: int
    first_example: int
    config: PretrainingConfig
    stated: frozenset[str] = frozenset()

    def points(self, name: str) -> list[tuple[int, Any]]:
        """Returns the points of an hparam's ramp, by steps of the whole run; one of a number."""
        return points_of(getattr(self.config, name), self.first_step if name in self.stated else 0)

    @property
    def ramps(self) -> list[str]:
        """Names of the hparams that a training step is given the value of."""
        return [name for name in LINEAR if isinstance(getattr(self.config, name), list)]

    def parts(self, step: int | None = None) -> list[Part]:
        """Returns the parts of the phase that have begun, each with batches of one size.

        Args:
            step: steps done, those after the phase included; None: all of the phase.
        """
        step = self.last_step if step is None else step
        points = self.points("train_batch_size")
        ends = [start for start, _ in points[1:]] + [max(step, self.last_step)]
        found = []
        for (start, size), end in zip(points, ends, strict=True):
            start, end = max(start, self.first_step), min(end, step)
            if start < end:
                found.append(Part(start, end, size))
        return found

    def examples(self, step: int | None = None) -> int:
        """Returns the examples that the steps of the phase up to `step` train on; see `parts`."""
        return sum(
            (part.last_step - part.first_step) * part.batch_size for part in self.parts(step)
        )

    @property
    def title(self) -> str:
        """ "phase 2 of 3", or "" in a run of one phase."""
        return f"phase {self.number} of {self.count}" if self.count > 1 else ""

    def describe_ramps(self) -> list[str]:
        """Returns a line of text for each hparam that changes over the run."""
        lines = []
        for name in (*LINEAR, "train_batch_size"):
            points = self.points(name)
            if len(points) > 1:
                steps = ", ".join(f"{value:g} at step {step:,}" for step, value in points)
                lines.append(f"Ramp of {name}: {steps}")
        return lines

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Adds the title to the place of a `UserError` that is raised within."""
        try:
            yield
        except UserError as error:
            if not self.title:
                raise
            raise error.with_(where=", ".join(filter(None, [error.where, self.title]))) from error


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


def describe_batches(config: PretrainingConfig) -> str:
    """Says how many steps a run has, and of how many examples and tokens, phase by phase."""
    return "; then ".join(
        f"{phase.last_step - phase.first_step:,} steps of {shown(phase.config.train_batch_size)} "
        f"examples of {phase.config.max_seq_length} tokens"
        for phase in phases_of(config)
    )


def phases_of(config: PretrainingConfig) -> list[Phase]:
    """Returns the phases of a checked configuration, at least one.

    They take what they don't state from the configuration, but for `copy_positions`: beside
    `phases` it is the first phase's. Copied again, it would replace rows that were trained since.
    """
    entries: Sequence[Mapping[str, Any]] = config.phases or [{}]
    phases, step, examples = [], 0, 0
    for number, entry in enumerate(entries, 1):
        own = config if config.phases is None else _with_hparams(config, entry)
        if number > 1 and _COPIED not in entry:
            own.copy_positions = None
        last = step + own.num_train_steps
        phases.append(Phase(number, len(entries), step, last, examples, own, frozenset(entry)))
        step, examples = last, examples + phases[-1].examples()
    return phases


def phase_to_train(phases: Sequence[Phase], step: int) -> Phase:
    """Returns the phase that trains after so many steps; the last one if all are done."""
    return next((phase for phase in phases if step < phase.last_step), phases[-1])


def phase_trained(phases: Sequence[Phase], step: int) -> Phase:
    """Returns the phase of the last of so many steps."""
    return next((phase for phase in phases if step <= phase.last_step), phases[-1])


def continued_corpora(earlier: PretrainingConfig, later: PretrainingConfig) -> set[str]:
    """Returns the corpora of a phase's mixture that go on where an earlier phase left them.

    In other lengths, documents are cut into other examples: such phases don't count.
    """
    records = later.pretrain_tfrecords
    if isinstance(records, str) or earlier.max_seq_length != later.max_seq_length:
        return set()
    return weighted(earlier.pretrain_tfrecords).keys() & records.keys()


def examples_at(phases: Sequence[Phase], step: int) -> int:
    """Returns the number of examples that the first `step` steps train on, over all phases."""
    phase = phase_trained(phases, step)
    return phase.first_example + phase.examples(step)


def for_each_phase(config: PretrainingConfig, check: Callable[[PretrainingConfig], None]) -> None:
    """Checks a configuration phase by phase; errors and warnings name the phase.

    Args:
        config: gives the phases; gets their warnings.
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


def _with_hparams(config: PretrainingConfig, hparams: Mapping[str, Any]) -> PretrainingConfig:
    own = copy.copy(config)
    for name, value in hparams.items():
        setattr(own, name, value)
    own.phases = None
    own.given = config.given | set(hparams)
    own.warnings = []
    return own


# Checks of the hparam `phases`: what it may hold.


STEPS = "num_train_steps"
_COPIED = "copy_positions"


def check_phases(config: PretrainingConfig) -> None:
    """Checks names and types, and sets `num_train_steps` to the sum over the phases.

    Args:
        config: nothing happens where its `phases` is None.

    Raises:
        UserError: the list is empty; a phase has an unknown hparam, or one that has to be the same
            in all; a value has the wrong type or range; the number of steps is missing; or
            `num_train_steps` of the whole run is given too, and is another.
    """
    if config.phases is None:
        return
    if not config.phases:
        raise contradiction(
            "The list of phases is empty.",
            {"phases": []},
            "Leave phases out, or list at least one phase with its num_train_steps.",
        )
    hints = type(config).types()
    config.phases = [
        _checked(number, entry, hints) for number, entry in enumerate(config.phases, 1)
    ]
    total = sum(entry[STEPS] for entry in config.phases)
    check_value("phases: the sum of num_train_steps", total, hints[STEPS])
    if STEPS in config.given and config.num_train_steps != total:
        raise contradiction(
            "The number of steps is given twice, and differently.",
            {STEPS: config.num_train_steps, "num_train_steps of all phases": total},
            "Leave num_train_steps out beside phases: it is their sum.",
        )
    config.num_train_steps = total


def _checked(number: int, entry: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    where = f"hparam phases, phase {number}"
    for name, value in entry.items():
        if name in PHASE_HPARAMS:
            continue
        known = name in hints
        raise UserError(
            f"The hparam {name!r} has to be the same in all phases."
            if known
            else f"Unknown hparam {name!r} in a phase.",
            where=where,
            received=f"{name} = {value!r}",
            remedy=f"Set {name} beside phases; a phase may have {', '.join(PHASE_HPARAMS)}."
            if known
            else nearest_name_hint(name, PHASE_HPARAMS),
        )
    if STEPS not in entry:
        raise UserError(
            "A phase lacks its number of steps.",
            where=where,
            received=f"{dict(entry)}",
            remedy="Give num_train_steps, the steps of this phase alone.",
        )
    return {
        name: check_value(f"phases, phase {number}: {name}", value, hints[name])
        for name, value in entry.items()
    }


def begins_with_positions(config: PretrainingConfig) -> bool:
    """Whether the discriminator's positions come from another model, and may be trained.

    With "gdes" they begin as the generator's, too: what is added to them begins as 0.
    """
    shared = config.init_generator and not config.untied_generator_embeddings
    return bool(config.init_checkpoint or config.branch_from or shared)


def check_copied_positions(config: PretrainingConfig) -> None:
    """Refuses copies, before a later phase, that spoil what the phases before it have trained.

    Fewer positions than those would replace trained ones, more would copy random ones. Weights
    that the run starts from may have been trained on longer examples.

    Args:
        config: its phases have been checked one by one.

    Raises:
        UserError: names the phase and the number that it should have.
    """
    start = begins_with_positions(config)
    trained = 0
    for phase in phases_of(config):
        copied = phase.config.copy_positions if phase.number > 1 else None
        if copied is not None and (copied < trained or (copied > trained and not start)):
            rows = phase.config.network().max_position_embeddings
            leave_out = f"Leave copy_positions out of phase {phase.number}"
            remedy = f"{leave_out}, or set it there to {trained}."
            if trained == rows:
                remedy = f"{leave_out}: all {rows} positions are trained."
            with phase.named_in_errors():
                raise contradiction(
                    "The copies would replace positions that earlier phases have trained."
                    if copied < trained
                    else "Some of the positions to copy are not trained: they are random.",
                    {_COPIED: copied, "longest max_seq_length of earlier phases": trained},
                    remedy,
                )
        trained = max(trained, phase.config.max_seq_length)


# The compute that a pre-training run has used, from its configuration and its step.


PFS_DAYS = "pfs_days"


class RunCompute:
    """Operations of a run's steps.

    Counted are the operations that training needs, whatever the devices made of them: not what was
    computed before `init_checkpoint`, nor steps that an interrupted run did twice.

    Args:
        config: gives the phases.
        network: the discriminator's sizes.
    """

    def __init__(self, config: PretrainingConfig, network: TransformerConfig):
        self._phases = phases_of(config)
        self._networks = [pretraining_flops(phase.config, network) for phase in self._phases]

    def flops(self, step: int) -> float:
        """Returns the operations of the first `step` steps, forward and backward."""
        done = 0.0
        for phase, networks in zip(self._phases, self._networks, strict=True):
            per_example = example_flops(networks).training
            end = step if phase is self._phases[-1] else min(step, phase.last_step)
            for part in phase.parts(end):
                done += (part.last_step - part.first_step) * (per_example * part.batch_size)
        return done

    def example(self, phase: int) -> Flops:
        """Returns the operations of one example of a phase, by the phase's index."""
        return example_flops(self._networks[phase])

    def figures(self, step: int) -> dict[str, float]:
        """Returns `pfs_days`, the petaflop/s-days of the first `step` steps."""
        return {PFS_DAYS: self.flops(step) / PFS_DAY}

    def describe(self) -> list[str]:
        """Returns lines of text: the operations of the run and of an example, by network and part.

        The example is one of the first phase.
        """
        networks, steps = self._networks[0], self._phases[-1].last_step
        example = example_flops(networks)
        lines = [
            f"Compute: {self.flops(steps):.3g} FLOPs in {steps:,} steps, "
            f"{self.flops(steps) / PFS_DAY:.3g} pfs-days; {example.training:.3g} an example, "
            f"{example.forward:.3g} forward and {example.backward:.3g} backward"
        ]
        for name, parts in networks.items():
            shares = (
                f"{part.replace('_', ' ')} {flops.training / example.training:.1%}"
                for part, flops in parts.items()
            )
            own = total(parts.values()).training / example.training
            lines.append(f"  {name} {own:.1%}: {', '.join(shares)}")
        return lines
