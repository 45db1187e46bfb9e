"""What a model's folder says about the model besides its weights.

<model_dir>/config.json      the resolved hparams and the network's sizes
<model_dir>/vocab.txt        the vocabulary
<model_dir>/tokenizer.json   casing and accents
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file

CONFIG = "config.json"
VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"


def read_config(model_dir: str) -> dict[str, Any] | None:
    """Returns the stored configuration, or None if the folder has none.

    Raises:
        UserError: the file is not JSON.
    """
    path = posixpath.join(model_dir, CONFIG)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            "The model's stored configuration can't be read.",
            where=f"{path}, line {error.lineno}",
            received=error.msg,
            remedy="Restore the file, or train under another model name.",
        ) from error


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
        model_dir: the model's folder; it is made.
        hparams: all hparams.
        network: the network's sizes.
        vocab_file: the vocabulary, which is copied.
        do_lower_case: whether the text is lower-cased.
        strip_accents: whether accents are removed from lower-cased text.
    """
    tf.io.gfile.makedirs(model_dir)
    with tf.io.gfile.GFile(vocab_file, "rb") as file:
        vocabulary = file.read()
    tokenizer = {"do_lower_case": do_lower_case, "strip_accents": strip_accents}
    config = {"hparams": dict(hparams), "network": dict(network)}
    for name, content in (
        (VOCABULARY, vocabulary),
        (TOKENIZER, _json_bytes(tokenizer)),
        (CONFIG, _json_bytes(config)),
    ):
        replace_file(posixpath.join(model_dir, name), content)


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
    old_network = stored["network"]
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
                f"{name}: the model has {old!r}, this run {new!r}"
                for name, old, new in differences
            ),
            remedy="Use the model's values to go on with it, or another --model-name to start "
            "anew (init_checkpoint takes over weights).",
        )


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
