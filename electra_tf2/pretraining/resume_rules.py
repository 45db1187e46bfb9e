"""What may change where a run goes on from a checkpoint, phase by phase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.hparams.record import HParams
from electra_tf2.pretraining.phases import PHASE_HPARAMS, STEPS

# Hparams that only the decay of "wsd" reads.
_DECAY = ("lr_decay_steps", "lr_decay_shape", "end_learning_rate")


def decay_length(num_train_steps: int, lr_decay_steps: int | None) -> int:
    """Returns the steps of the decay of the schedule "wsd".

    Args:
        num_train_steps: of the run, or of the phase.
        lr_decay_steps: the hparam; None means a tenth of the steps, rounded up.
    """
    return -(-num_train_steps // 10) if lr_decay_steps is None else lr_decay_steps


class _Span(NamedTuple):
    """Steps of a phase, from `first` (excluded) to `last`, and all hparams in it."""

    first: int
    last: int
    hparams: dict[str, Any]

    @property
    def decay_start(self) -> float:
        """The last step before the decay of "wsd"; 0 where the schedule has no stable part."""
        length = self.hparams.get(_DECAY[0])
        if self.hparams.get("lr_schedule") != "wsd" or not isinstance(length, int | None):
            return 0
        return self.last - (decay_length(self.last - self.first, length) or -math.inf)


def changed_on_resume(
    config_class: type[HParams], old: Mapping[str, Any], new: Mapping[str, Any], step: int
) -> list[tuple[str, Any, Any]]:
    """Hparams that differ although a resumed run has to keep them, phase by phase.

    Phases that have not begun may change, and so may the number of steps of the phase that is
    going on and of the last one, as long as they don't end before the step that was reached; and
    what says how the learning rate decays, as long as it does not do so before that step.

    Args:
        config_class: tells which hparams may change anyway.
        old: `to_dict()` of the run that wrote the model folder; an older version's has no phases.
        new: `to_dict()` of the run that wants to continue it.
        step: steps done.

    Returns:
        Name, old value and new value of each such hparam; empty if the run may be resumed.
    """
    before, after = _spans(config_class, old), _spans(config_class, new)
    if not before:
        return [("phases", old.get("phases"), new.get("phases"))]
    several = len(before) > 1 or len(after) > 1
    found: dict[str, tuple[Any, Any]] = {}
    for index, span in enumerate(before):
        if index and span.first >= step:
            break
        title = f"phase {index + 1}"
        if index >= len(after):
            found[title] = (old["phases"][index], None)
            continue
        theirs = after[index]
        may_decay = step <= min(span.decay_start, theirs.decay_start)
        for name, *values in config_class.changed_on_resume(span.hparams, theirs.hparams):
            if may_decay and name in _DECAY:
                continue
            shown = f"{title}: {name}" if several and name in PHASE_HPARAMS else name
            found[shown] = tuple(values)
        finished = span.last <= step and index + 1 < len(before)
        too_short = theirs.last < step and index + 1 < len(after)
        if span.last != theirs.last and (finished or too_short):
            found[f"{title}: {STEPS}"] = (span.last - span.first, theirs.last - theirs.first)
    return [(name, *values) for name, values in found.items()]


def _spans(config_class: type[HParams], hparams: Mapping[str, Any]) -> list[_Span]:
    """The phases that a stored configuration means; empty if someone has damaged them."""
    steps = hparams.get(STEPS, getattr(config_class, STEPS))
    entries = hparams.get("phases")
    if entries is None:
        entries = [{STEPS: steps}]
    spans, first = [], 0
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get(STEPS), int):
            return []
        last = first + entry[STEPS]
        own = {name: _in_run(value, first) for name, value in entry.items()}
        spans.append(_Span(first, last, {**hparams, **own}))
        first = last
    return spans


def _in_run(value: Any, first: int) -> Any:
    """A phase's ramp by steps of the run: the same points beside `phases` mean other steps."""
    if not isinstance(value, list):
        return value
    return [
        [first + point[0], *point[1:]]
        if isinstance(point, list) and point and isinstance(point[0], int)
        else point
        for point in value
    ]


def decay_warning(
    config_class: type[HParams], old: Mapping[str, Any], new: Mapping[str, Any], step: int
) -> str | None:
    """Warns of a run of "wsd" whose length changes in the middle of its decay.

    Args:
        config_class, old, new, step: as in `changed_on_resume`.

    Returns:
        What to print; None if the rate goes on as it was meant to.
    """
    pairs = zip(_spans(config_class, old), _spans(config_class, new), strict=False)
    for span, theirs in pairs:
        going_on = theirs.first < step < theirs.last and span.last != theirs.last
        if not going_on or theirs.hparams.get("lr_schedule") != "wsd":
            continue
        if span.decay_start < step:
            return (
                f"the learning rate has decayed since step {span.decay_start:.0f}, and changes its "
                "course with num_train_steps. To go on as if it had not, branch off under another "
                "--model-name: set branch_from to a checkpoint of that step or before, if one was "
                "kept (keep_checkpoint_max)."
            )
        if theirs.decay_start < step:
            return (
                f"the learning rate drops to the middle of a decay from step "
                f"{theirs.decay_start:.0f} on. For a whole decay set lr_decay_steps to "
                f"{theirs.last - step} or less, or raise num_train_steps."
            )
    return None
