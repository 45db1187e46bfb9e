"""Named sets of hparams: published recipes that a configuration starts from.

`python -m electra_tf2.hparams.presets` prints them all, each value with its source.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.recipes import FINETUNING_PRESETS, PRESETS, Preset
from electra_tf2.patterns import literal

PresetName = Literal[
    "electra_small",
    "electra_small_plus",
    "electra_base",
    "electra_large",
    "electra_small_owt",
    "electra_tiny",
    "electra_mini",
    "electra_large_batch_lamb",
    "lmtuners_small_owt",
]
FinetuningPresetName = Literal["electra_small", "electra_base", "electra_large"]

# Hparam -> those that it follows from: where one of these is given, the preset's value of it falls.
_FOLLOWS = {
    "embedding_size": {"model_size", "encoder"},
    "adam_bias_correction": {"optimizer"},
}
_OVERRIDES = "model_hparam_overrides"


def preset_values(
    given: Mapping[str, Any], data_dir: str, presets: Mapping[str, Preset] = PRESETS
) -> dict[str, Any]:
    """Returns the hparams of the preset that was asked for, those that the user gave left out.

    In the preset's phases, too, an hparam that was given replaces the preset's, except the number
    of steps: phases need their own.

    Args:
        given: the hparams that the user gave; the name of the preset is `given["preset"]`.
        data_dir: folder that the preset's paths are in.
        presets: those to choose from.

    Returns:
        Name -> value; empty without a preset.

    Raises:
        UserError: there is no preset of that name.
    """
    name = given.get("preset")
    if not isinstance(name, str):  # none, or of a wrong type, which the check of types refuses
        return {}
    if name not in presets:
        raise UserError(
            f"Unknown preset {name!r}.",
            where="hparam preset",
            received=repr(name),
            remedy=nearest_name_hint(name, presets),
        )
    values = {
        hparam: copy.deepcopy(sourced.value)
        for hparam, sourced in presets[name].values.items()
        if hparam not in given and not _FOLLOWS.get(hparam, set()) & given.keys()
    }
    if "phases" in values:
        values["phases"] = [_phase(entry, given, data_dir) for entry in values["phases"]]
    return values


def _phase(entry: Mapping[str, Any], given: Mapping[str, Any], data_dir: str) -> dict[str, Any]:
    kept = {n: v for n, v in entry.items() if n not in given or n == "num_train_steps"}
    return {
        name: value.replace("{data_dir}", literal(data_dir)) if isinstance(value, str) else value
        for name, value in kept.items()
    }


def with_preset_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to `model_hparam_overrides`, if it was given, the preset's for its other keys.

    Args:
        given: the hparams that the user gave; the preset in it exists.
    """
    name, own = given.get("preset"), given.get(_OVERRIDES)
    if not isinstance(name, str) or not isinstance(own, dict):
        return dict(given)
    return {**given, _OVERRIDES: {**PRESETS[name].values[_OVERRIDES].value, **own}}


def preset_markdown(name: str, preset: Preset, title: str = "{}") -> str:
    """Returns a Markdown section on a preset: whose it is, and each value with its source.

    Args:
        name: of the preset.
        preset: what it holds.
        title: of the section; "{}" stands for the name.
    """
    about = preset.about[0].upper() + preset.about[1:]
    lines = [f"## {title.format(name)}", "", f"{about}.", "", "| hparam | value | source |"]
    lines.append("| --- | --- | --- |")
    for hparam, (value, source) in sorted(preset.values.items()):
        if hparam != "phases":
            lines.append(f"| {hparam} | {_shown(value)} | {source} |")
            continue
        for number, entry in enumerate(value, 1):
            listed = ", ".join(f"{n} {_shown(v)}" for n, v in entry.items())
            lines.append(f"| phases, phase {number} | {listed} | {source} |")
    if preset.differences:
        lines += ["", "What the hparams can't say:", ""]
        lines += [f"- {difference}" for difference in preset.differences]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else f"{value}"


def all_presets_markdown() -> str:
    """Returns the sections of all presets, those of fine-tuning after those of pre-training."""
    sections = [preset_markdown(*named) for named in PRESETS.items()]
    for named in FINETUNING_PRESETS.items():
        sections.append(preset_markdown(*named, title="Fine-tuning: {}"))
    return "\n".join(sections)


if __name__ == "__main__":
    print(all_presets_markdown(), end="")
