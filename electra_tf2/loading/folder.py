"""What a model's folder says about the model besides its weights.

<model_dir>/config.json   the resolved hparams and the network's sizes
<model_dir>/vocab.txt     the vocabulary
<model_dir>/casing.json   what became of capitals, accents and very long words
"""

from __future__ import annotations

import dataclasses
import errno
import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from electra_tf2.errors import UserError
from electra_tf2.files import (
    exists,
    is_dir,
    is_stream,
    json_bytes,
    make_dirs,
    read_json,
    reason,
    replace_file,
    write_json,
)
from electra_tf2.modeling.config import Architecture, TransformerConfig
from electra_tf2.modeling.layers import ACTIVATIONS
from electra_tf2.outputs import folder_problem, write_problem
from electra_tf2.stored_json import LARGEST, shown
from electra_tf2.text.casing_files import casing_of_record
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import (
    Vocabulary,
    load_vocabulary,
    read_vocabulary_text,
    vocabulary_difference,
)
from electra_tf2.training.checkpoints import CheckpointStore

CONFIG = "config.json"
VOCABULARY = "vocab.txt"
CASING = "casing.json"
# The name that version 0.1.0 gave to casing.json.
_FORMER_CASING = "tokenizer.json"
WEIGHTS_ONLY = "weights_only"
"""Field in the state of a checkpoint that holds no optimizer's slots: true."""


class StoredConfig(NamedTuple):
    """The content of config.json.

    Attributes:
        hparams: those that the model was trained with.
        network: the sizes and rates of its main network.
        path: the file that says so.
    """

    hparams: dict[str, Any]
    network: TransformerConfig
    path: str


def stored_config(hparams: Mapping[str, Any], network: TransformerConfig) -> dict[str, Any]:
    """Returns the content of config.json, which the state of checkpoints holds as `config` too.

    Args:
        hparams: by name.
        network: the sizes and rates of the main network.
    """
    return {"hparams": dict(hparams), "network": network.to_dict()}


def read_config(model_dir: str) -> StoredConfig | None:
    """Returns the stored configuration, or None if the folder has none.

    Where config.json is lost, the newest checkpoint tells those hparams that its weights depend on.

    Raises:
        UserError: the file is not JSON, not of the form that `write_model_folder` gives it, or
            describes an impossible network.
    """
    path = posixpath.join(model_dir, CONFIG)
    if not exists(path):
        return config_in_checkpoint(model_dir)
    return _parse_config(read_json(path, _CONFIG_TITLE, _CONFIG_REMEDY), path)


def config_in_checkpoint(model_dir: str) -> StoredConfig | None:
    """Returns what the newest checkpoint says of the hparams that its weights depend on.

    Returns:
        The configuration; None if there is no checkpoint, or one of an older version.

    Raises:
        UserError: the checkpoint's state is damaged.
    """
    store = CheckpointStore(model_dir)
    return config_of_state(store.newest_state(), store.folder)


def config_of_state(state: Mapping[str, Any], path: str) -> StoredConfig | None:
    """Returns the configuration in the state of a checkpoint; None in one of an older version.

    Args:
        state: see `CheckpointStore.newest_state`.
        path: where it was read, for errors.

    Raises:
        UserError: the configuration is damaged.
    """
    stored = state.get("config")
    return None if stored is None else _parse_config(stored, path)


_CONFIG_TITLE = "The model's stored configuration"
_CONFIG_REMEDY = "Restore the file, or train under another model name."


def _parse_config(stored: Any, path: str) -> StoredConfig:
    parts = stored if isinstance(stored, dict) else {}
    hparams, network = parts.get("hparams"), parts.get("network")
    if not isinstance(hparams, dict) or not isinstance(network, dict):
        raise UserError(
            f"{_CONFIG_TITLE} can't be read.",
            where=path,
            received="JSON without the objects hparams and network",
            remedy=_CONFIG_REMEDY,
        )
    return StoredConfig(hparams, _network(network, path), path)


def _network(stored: Mapping[str, Any], path: str) -> TransformerConfig:
    """Checks sizes and rates that may be of a newer version, or edited."""
    fields = {field.name: field.default for field in dataclasses.fields(TransformerConfig)}
    problems = [f"{n} {shown(v)}" for n, v in stored.items() if not _may_be(v, fields.get(n, 0))]
    problems += [f"{name}, which is unknown" for name in stored if name not in fields]
    if isinstance(act := stored.get("hidden_act"), str):
        stored = {**stored, "hidden_act": act.lower()}
        problems += [f"hidden_act {shown(act)}"] * (act.lower() not in ACTIVATIONS)
    if stored.get("encoder", "bert") not in get_args(Architecture):
        problems.append(f"encoder {shown(stored['encoder'])}")
    try:
        if not problems:
            return TransformerConfig(**stored)
    except (TypeError, UserError) as error:
        problems.append(str(getattr(error, "received", error)))
    raise UserError(
        "The model's stored configuration has impossible values.",
        where=path,
        received=", ".join(problems),
        remedy="Restore the file, or use the version of this program that wrote it.",
    )


def _may_be(value: Any, default: Any) -> bool:
    """Whether a value is of a field's kind; sizes, which are all integers, begin at 1."""
    if isinstance(default, str):
        return isinstance(value, str)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_number = is_number and abs(value) <= LARGEST  # NaN is not, either
    return is_number and (isinstance(default, float) or (isinstance(value, int) and value > 0))


def read_casing(model_dir: str) -> Casing | None:
    """Returns the stored casing, or None if the folder has none.

    Raises:
        UserError: the file can't be read, or its values are not those of a casing.
    """
    path = _casing_file(model_dir)
    if path is None:
        return None
    what = "The model's stored casing"
    remedy = 'Restore the file: {"do_lower_case": …, "strip_accents": …}.'
    stored = read_json(path, what, remedy)
    casing = casing_of_record(stored)
    if casing is None:
        settings = {name: stored.get(name) for name in UNCASED.to_dict() | stored}
        raise UserError(
            f"{what} can't be read.",
            where=path,
            received=", ".join(f"{name} {shown(value)}" for name, value in settings.items()),
            remedy=remedy,
        )
    return casing


def _casing_file(model_dir: str) -> str | None:
    paths = (posixpath.join(model_dir, name) for name in (CASING, _FORMER_CASING))
    return next((path for path in paths if exists(path)), None)


def write_model_folder(
    model_dir: str,
    *,
    hparams: Mapping[str, Any],
    network: TransformerConfig,
    vocab_file: str,
    casing: Casing,
) -> None:
    """Writes the three files, each in one step.

    Args:
        model_dir: the model's folder, which exists.
        hparams: all hparams.
        network: the sizes and rates of the main network.
        vocab_file: path of the vocabulary, which is copied.
        casing: of the text that the model is trained on.
    """
    vocabulary = read_vocabulary_text(vocab_file)
    config = stored_config(hparams, network)
    for name, content in (
        (VOCABULARY, vocabulary),
        (CASING, casing_json(casing)),
        (CONFIG, json_bytes(config, indent=2)),  # a mixture's corpora have an order
    ):
        replace_file(posixpath.join(model_dir, name), content)


def casing_json(casing: Casing) -> bytes:
    """Returns the content of casing.json."""
    return json_bytes(casing.to_dict(), indent=2, sort_keys=True)


def make_model_folder(path: str) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: a file of that name is in the way, or the place can't be written to.
    """
    try:
        make_dirs(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is explained for all programs alike
        raise _no_folder(path, reason(error)) from error


def check_model_folder(path: str) -> None:
    """Refuses a model's folder that can't be made or written to, before there is a model.

    Raises:
        UserError: says why.
    """
    if problem := folder_problem(path):
        raise _no_folder(path, problem)


def _no_folder(path: str, received: str) -> UserError:
    return UserError(
        f"The model's folder can't be {'written to' if is_dir(path) else 'made'}.",
        where=path,
        received=received,
        remedy="Give a model_dir, or a --data-dir and --model-name, where a folder can be made and "
        "written to.",
    )


def check_no_other_model(model_dir: str) -> None:
    """Refuses to start a model in a folder that holds files of something else.

    Args:
        model_dir: a folder without a checkpoint and without a stored configuration, or none yet.

    Raises:
        UserError: a file of a vocabulary or casing is there, which would be replaced or read.
    """
    for name in (VOCABULARY, CASING, _FORMER_CASING):
        path = posixpath.join(model_dir, name)
        if exists(path):
            raise UserError(
                "The model's folder holds files that are not this program's.",
                where=path,
                received="no checkpoint and no config.json beside it",
                remedy="Choose another --model-name (or hparam model_dir), or move the file away.",
            )


def check_same_model(
    stored: StoredConfig,
    hparams: Mapping[str, Any],
    network: TransformerConfig,
    changed: Callable[[dict, dict], list[tuple[str, Any, Any]]],
) -> None:
    """Refuses to resume a model under a configuration that would make it another one.

    Args:
        stored: from `read_config`.
        hparams: those of this run.
        network: that of this run.
        changed: (old, new) hparams -> those that differ and may not, as (name, old, new).

    Raises:
        UserError: naming every difference.
    """
    differences = list(changed(stored.hparams, dict(hparams)))
    names = {name for name, _, _ in differences}
    old = stored.network.to_dict()
    differences += [
        (name, old[name], new)
        for name, new in sorted(network.to_dict().items())
        if name not in names and name in old and old[name] != new
    ]
    if differences:
        raise UserError(
            "This model was trained with another configuration.",
            where=stored.path,
            received="; ".join(
                f"{name}: the model has {old!r}, this run {new!r}" for name, old, new in differences
            ),
            remedy="Use the model's values to resume or evaluate it, or another --model-name for a "
            "new model (init_checkpoint takes over weights).",
        )


def check_same_tokens(
    model_dir: str,
    vocabulary: Vocabulary,
    casing: Casing,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Refuses to resume a model on ids that mean something else than those it has seen.

    The hparams can't tell: `vocab_file` is only a path, and `strip_accents` may come from the data.

    Args:
        model_dir: the model's folder.
        vocabulary: this run's.
        casing: this run's.
        state: of its newest checkpoint, which tells where a file is lost: `vocab_sha256`, `casing`.
            What it doesn't say either is not compared. None: it says nothing.

    Raises:
        UserError: naming the difference.
    """
    state = state or {}
    path = posixpath.join(model_dir, VOCABULARY)
    if exists(path):
        if difference := vocabulary_difference(load_vocabulary(path), vocabulary):
            raise _other_tokens(path, difference)
    elif state.get("vocab_sha256", vocabulary.sha256) != vocabulary.sha256:
        raise _other_tokens(path, "the file is lost; it was not this run's vocabulary")
    theirs = read_casing(model_dir)
    before, now = theirs.to_dict() if theirs else state.get("casing"), casing.to_dict()
    if before is not None and before != now:
        path = _casing_file(model_dir) or posixpath.join(model_dir, CASING)
        received = f"the model has {json.dumps(before)}, this run and its data {json.dumps(now)}"
        raise _other_tokens(path, received)


def _other_tokens(where: str, received: str) -> UserError:
    return UserError(
        "This model was trained on text that was tokenized otherwise.",
        where=where,
        received=received,
        remedy="Use the vocabulary and the data that the model was trained with, or another "
        "--model-name for a new one.",
    )


def json_path(results_pkl: str) -> str:
    """Returns where the JSON goes: the official program's pickle path with .json for .pkl."""
    return results_pkl.removesuffix(".pkl") + ".json"


def check_results_paths(results_txt: str, results_pkl: str) -> None:
    """Refuses result paths that could not be written at the end of a long run.

    Raises:
        UserError: a path can't be written to, see `write_problem`, or both are the same.
    """
    text, data = results_txt, json_path(results_pkl)
    for name, path in (("results_txt", text), ("results_pkl", data)):
        problem = write_problem(path)
        if text == data and not is_stream(text):
            problem = "the same path as the other results file"
        if problem:
            raise UserError(
                "The evaluation's results can't be written there.",
                where=f"hparam {name}",
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file of its own, or leave the hparam out.",
            )


def write_results(
    figures: Mapping[str, float], *, results_txt: str, results_pkl: str
) -> tuple[str, str]:
    """Writes an evaluation's figures.

    Args:
        figures: name -> value.
        results_txt: gets one line `name = value` a figure, sorted by name.
        results_pkl: names the JSON file, see `json_path`.

    Returns:
        The paths of the two files.
    """
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(figures.items()))
    make_dirs(posixpath.dirname(results_txt))
    replace_file(results_txt, lines.encode())
    write_json(json_path(results_pkl), dict(figures), indent=2, sort_keys=True)
    return results_txt, json_path(results_pkl)
