"""Checks of the hparam `phases`: what it may hold, and what of it may change on resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.errors import UserError
from electra_tf2.hparam_types import check_value
from electra_tf2.errors import nearest_name_hint
from electra_tf2.hparams import HParams, contradiction
from electra_tf2.pretraining.phases import PHASE_HPARAMS

_STEPS = "num_train_steps"


def check_phases(config: Any) -> None:
    """Checks names and types, and sets `num_train_steps` to the sum over the phases.

    Args:
        config: a `PretrainingConfig`. Nothing happens where `phases` is None.

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
    total = sum(entry[_STEPS] for entry in config.phases)
    if _STEPS in config.given and config.num_train_steps != total:
        raise contradiction(
            "The number of steps is given twice, and differently.",
            {_STEPS: config.num_train_steps, "num_train_steps of all phases": total},
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
    if _STEPS not in entry:
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


class _Span(NamedTuple):
    """Steps of a phase, from `first` (excluded) to `last`, and all hparams in it."""

    first: int
    last: int
    hparams: dict[str, Any]


def changed_on_resume(
    config_class: type[HParams], old: Mapping[str, Any], new: Mapping[str, Any], step: int
) -> list[tuple[str, Any, Any]]:
    """Hparams that differ although a resumed run has to keep them, phase by phase.

    Phases that have not begun may change, and so may the number of steps of the phase that is
    going on and of the last one, as long as they don't end before the step that was reached.

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
        for name, *values in config_class.changed_on_resume(span.hparams, theirs.hparams):
            shown = f"{title}: {name}" if several and name in PHASE_HPARAMS else name
            found[shown] = tuple(values)
        finished = span.last <= step and index + 1 < len(before)
        too_short = theirs.last < step and index + 1 < len(after)
        if span.last != theirs.last and (finished or too_short):
            found[f"{title}: {_STEPS}"] = (span.last - span.first, theirs.last - theirs.first)
    return [(name, *values) for name, values in found.items()]


def _spans(config_class: type[HParams], hparams: Mapping[str, Any]) -> list[_Span]:
    """The phases that a stored configuration means; empty if someone has damaged them."""
    steps = hparams.get(_STEPS, getattr(config_class, _STEPS))
    entries = hparams.get("phases")
    if entries is None:
        entries = [{_STEPS: steps}]
    spans, first = [], 0
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get(_STEPS), int):
            return []
        last = first + entry[_STEPS]
        spans.append(_Span(first, last, {**hparams, **entry}))
        first = last
    return spans
