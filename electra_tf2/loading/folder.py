"""What a model's folder says about the model besides its weights.

<model_dir>/config.json      the resolved hparams and the network's sizes
<model_dir>/vocab.txt        the vocabulary
<model_dir>/tokenizer.json   casing and accents
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.files import replace_file
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary, read_vocabulary_text

CONFIG = "config.json"
VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"

# What a network is whose stored configuration, of an older version, does not say it.
_UNSTORED = {"encoder": "bert"}


def read_config(model_dir: str) -> dict[str, Any] | None:
    """Returns the stored configuration, or None if the folder has none.

    Raises:
        UserError: the file is not JSON, or not of the form that `write_model_folder` gives it.
    """
    path = posixpath.join(model_dir, CONFIG)
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            stored = json.loads(file.read())
    except json.JSONDecodeError as error:
        raise _unreadable(f"{path}, line {error.lineno}", error.msg) from error
    except (ValueError, RecursionError, tf.errors.OpError) as error:
        raise _unreadable(path, getattr(error, "message", str(error))) from error
    if not isinstance(stored, dict) or not all(
        isinstance(stored.get(part), dict) for part in ("hparams", "network")
    ):
        raise _unreadable(path, "JSON without the objects hparams and network")
    return stored


def _unreadable(where: str, received: str) -> UserError:
    return UserError(
        "The model's stored configuration can't be read.",
        where=where,
        received=received,
        remedy="Restore the file, or train under another model name.",
    )


def write_model_folder(
    model_dir: str,
    *,
    hparams: Mapping[str, Any],
    network: Mapping[str, Any],
    vocab_file: str,
    do_lower_case: bool,
    strip_accents: bool,
) -> None:
    """Writes the three files, each in one step.

    Args:
        model_dir: the model's folder, which exists.
        hparams: all hparams.
        network: the network's sizes.
        vocab_file: the vocabulary, which is copied.
        do_lower_case: whether the text is lower-cased.
        strip_accents: whether accents are removed from lower-cased text.
    """
    vocabulary = read_vocabulary_text(vocab_file)
    config = {"hparams": dict(hparams), "network": dict(network)}
    for name, content in (
        (VOCABULARY, vocabulary),
        (TOKENIZER, _json_bytes(_tokenizer(do_lower_case, strip_accents))),
        (CONFIG, _json_bytes(config)),
    ):
        replace_file(posixpath.join(model_dir, name), content)


def make_model_folder(path: str) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: a file of that name is in the way, or the place can't be written to.
    """
    try:
        tf.io.gfile.makedirs(path)
    except tf.errors.ResourceExhaustedError:
        raise  # a full disk is explained for all programs alike
    except tf.errors.OpError as error:
        raise UserError(
            "The model's folder can't be made.",
            where=path,
            received=error.message,
            remedy="Give a model_dir, or a --data-dir and --model-name, where a folder can be "
            "made and written to.",
        ) from error


def check_no_other_model(model_dir: str) -> None:
    """Refuses to start a model in a folder that holds files of something else.

    Args:
        model_dir: a folder without a checkpoint and without a stored configuration, or none yet.

    Raises:
        UserError: a vocabulary or tokenizer file is there, which would be replaced.
    """
    for name in (VOCABULARY, TOKENIZER):
        path = posixpath.join(model_dir, name)
        if tf.io.gfile.exists(path):
            raise UserError(
                "The model's folder holds files that are not this program's.",
                where=path,
                received="no checkpoint and no config.json beside it",
                remedy="Choose another --model-name (or hparam model_dir), or move the file away.",
            )


def check_same_model(
    model_dir: str,
    stored: Mapping[str, Any],
    hparams: Mapping[str, Any],
    network: Mapping[str, Any],
    changed: Callable[[dict, dict], list[tuple[str, Any, Any]]],
) -> None:
    """Refuses to go on with a model under a configuration that would make another one of it.

    Args:
        model_dir: the model's folder.
        stored: from `read_config`.
        hparams: those of this run.
        network: the network's sizes in this run.
        changed: (old, new) hparams -> those that differ and may not, as (name, old, new).

    Raises:
        UserError: naming every difference.
    """
    differences = list(changed(stored["hparams"], dict(hparams)))
    old_network, network = {**_UNSTORED, **stored["network"]}, {**_UNSTORED, **network}
    names = [name for name, _, _ in differences]
    for name in sorted(set(old_network) | set(network)):
        old, new = old_network.get(name), network.get(name)
        if old != new and name not in names:
            differences.append((name, old, new))
    if differences:
        raise UserError(
            "This model was trained with another configuration.",
            where=posixpath.join(model_dir, CONFIG),
            received="; ".join(
                f"{name}: the model has {old!r}, this run {new!r}" for name, old, new in differences
            ),
            remedy="Use the model's values to go on with it, or another --model-name to start "
            "anew (init_checkpoint takes over weights).",
        )


def check_same_tokens(
    model_dir: str, vocabulary: Vocabulary, *, do_lower_case: bool, strip_accents: bool
) -> None:
    """Refuses to go on with a model on ids that mean something else than those it has seen.

    The hparams can't tell: `vocab_file` is only a path, and `strip_accents` may come from the data.

    Args:
        model_dir: the model's folder; files that it lacks are not compared.
        vocabulary: this run's.
        do_lower_case: this run's casing.
        strip_accents: likewise for accents.

    Raises:
        UserError: naming the difference.
    """
    path = posixpath.join(model_dir, VOCABULARY)
    if tf.io.gfile.exists(path):
        stored = load_vocabulary(path)
        if stored.sha256 != vocabulary.sha256:
            raise _other_tokens(path, _first_difference(stored.tokens, vocabulary.tokens))
    path = posixpath.join(model_dir, TOKENIZER)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        ours = _json_bytes(_tokenizer(do_lower_case, strip_accents))
        if content != ours:
            received = (
                f"the model has {_one_line(content)}, this run and its data {_one_line(ours)}"
            )
            raise _other_tokens(path, received)


def _other_tokens(where: str, received: str) -> UserError:
    return UserError(
        "This model was trained on text that was tokenized otherwise.",
        where=where,
        received=received,
        remedy="Use the vocabulary and the data that the model was trained with, or another "
        "--model-name to start anew.",
    )


def _first_difference(old: Sequence[str], new: Sequence[str]) -> str:
    for number, (before, after) in enumerate(zip(old, new, strict=False), 1):
        if before != after:
            return f"line {number}: the model has {before!r}, this run {after!r}"
    return f"the model has {len(old)} tokens, this run {len(new)}"


def _tokenizer(do_lower_case: bool, strip_accents: bool) -> dict[str, bool]:
    return {"do_lower_case": do_lower_case, "strip_accents": strip_accents}


def _one_line(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


# The figures of an evaluation, for people and for programs.


def json_path(results_pkl: str) -> str:
    """Returns where the JSON goes: the official program's pickle path with .json for .pkl."""
    return results_pkl.removesuffix(".pkl") + ".json"


def check_results_paths(results_txt: str, results_pkl: str) -> None:
    """Refuses result paths that could not be written at the end of a long run.

    Args:
        results_txt: path of the text.
        results_pkl: names the JSON file.

    Raises:
        UserError: a path is empty, is a folder, lies below a file, or both are the same.
    """
    text, data = results_txt, json_path(results_pkl)
    for name, path in (("results_txt", text), ("results_pkl", data)):
        problem = _problem(path)
        if text == data:
            problem = "the same path as the other results file"
        if problem:
            raise UserError(
                "The evaluation's results can't be written there.",
                where=f"hparam {name}",
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file of its own, or leave the hparam out.",
            )


def check_output_paths(paths: Mapping[str, str]) -> None:
    """Refuses paths that could not be written.

    Args:
        paths: where it was given, such as "hparam model_dir" -> path of a file.

    Raises:
        UserError: a path is empty, is a folder, or lies below a file.
    """
    for where, path in paths.items():
        problem = _problem(path)
        if problem:
            raise UserError(
                "The output can't be written there.",
                where=where,
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file that can be made there.",
            )


def _problem(path: str) -> str:
    if not path or path.endswith("/"):
        return "no file name"
    if tf.io.gfile.isdir(path):
        return "a folder"
    parent = path.rpartition("/")[0]
    while parent:
        if tf.io.gfile.exists(parent):
            return "" if tf.io.gfile.isdir(parent) else f"{parent} is a file"
        parent = parent.rpartition("/")[0]
    return ""


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
    paths = results_txt, json_path(results_pkl)
    for path, text in zip(
        paths, (lines, json.dumps(dict(figures), indent=2, sort_keys=True) + "\n"), strict=True
    ):
        tf.io.gfile.makedirs(path.rpartition("/")[0] or ".")
        replace_file(path, text.encode())
    return paths
