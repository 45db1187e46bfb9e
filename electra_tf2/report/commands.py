"""The commands that do the same again, from the hparams that are stored with a model."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.errors import UserError, path_quoted, printable, shell_quoted
from electra_tf2.files import finite
from electra_tf2.hparams.record import HParams

_WIDTH = 84
_INDENT = " " * 6


class Place(NamedTuple):
    """The flags of a run.

    Attributes:
        data_dir: folder of the data and the models.
        model_name: name of the model.
    """

    data_dir: str
    model_name: str


def place_of(model_dir: str, vocab_file: str = "") -> Place:
    """Returns the flags that a model's folder follows from, or ones that go with it.

    Args:
        model_dir: the model's folder, `<data_dir>/models/<model_name>` by default.
        vocab_file: the hparam, for the data folder of a model elsewhere.
    """
    match = re.fullmatch(r"(?:(.*)/)?models/([^/]+)", model_dir.rstrip("/"))
    if match:
        return Place(match[1] or ".", match[2])
    return Place(posixpath.dirname(vocab_file) or ".", posixpath.basename(model_dir.rstrip("/")))


def given_hparams(
    make_config: type[HParams], place: Place, stored: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fewest hparams from which all stored ones follow.

    Args:
        make_config: builds a configuration of model name, data folder and hparams.
        place: the flags.
        stored: the resolved hparams; those of other versions are left out.
    """
    known = {name: value for name, value in stored.items() if name in make_config.types()}

    def resolved(given: Mapping[str, Any]) -> dict[str, Any]:
        build: Any = make_config
        own = build(place.model_name, place.data_dir, **given).to_dict()
        return {name: own[name] for name in known}

    try:
        defaults = resolved({})
        given = {n: v for n, v in known.items() if defaults[n] != v}
        if not _is_same(resolved, given, known):
            given = known  # a default may have to be stated: task_names beside tasks
        for name in reversed(list(given)):  # those that follow from the ones above them
            fewer = {n: v for n, v in given.items() if n != name}
            if _is_same(resolved, fewer, known):
                given = fewer
    except UserError:  # of another version, or edited
        return known
    return given


def _is_same(resolved, given: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    try:
        return resolved(given) == known
    except UserError:
        return False


def command_lines(script: str, place: Place, hparams: Mapping[str, Any]) -> list[str]:
    """Returns a command, line by line."""
    first = f"python {script} --data-dir {path_quoted(place.data_dir)}"
    first += f" --model-name {path_quoted(place.model_name)}"
    if not hparams:
        return [first]
    parts = [
        f"{json.dumps(name)}: {json.dumps(finite(value), ensure_ascii=False)}"
        for name, value in hparams.items()
    ]
    whole = "{" + ", ".join(parts) + "}"
    if printable(whole) != whole:
        return [f"{first} \\", f"    --hparams {shell_quoted(whole)}"]
    lines = [""]
    for number, part in enumerate(parts):
        part += "," if number < len(parts) - 1 else ""
        if lines[-1] and len(lines[-1]) + len(part) >= _WIDTH:
            lines.append("")
        lines[-1] += f" {part}" if lines[-1] else part
    quoted = shlex.quote("{" + f"\n{_INDENT}".join(lines) + "}")
    return [f"{first} \\", *f"    --hparams {quoted}".split("\n")]
