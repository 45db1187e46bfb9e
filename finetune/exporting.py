"""Exporting any model of this program, pre-trained or fine-tuned, to any of the formats."""

from __future__ import annotations

import argparse
import importlib
import posixpath

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.interop.huggingface_export import ExportOptions
from electra_tf2.interop.new_folder import check_free
from finetune.setup import TASKS

# Format -> "module:function" for a pre-trained model and for a fine-tuned one; imported when
# needed.
EXPORTERS: dict[str, tuple[str, str]] = {
    "huggingface": (
        "electra_tf2.interop.huggingface_export:export_huggingface",
        "finetune.exporting_huggingface:export_huggingface",
    ),
    "savedmodel": (
        "electra_tf2.interop.saved_model:export_saved_model",
        "finetune.exporting_saved_model:export_saved_model",
    ),
    "keras": (
        "electra_tf2.interop.keras_file:export_keras",
        "electra_tf2.interop.keras_file:export_keras",
    ),
}
_OPTIONS = ("network", "architecture", "vocab_file", "do_lower_case", "strip_accents")
_TRUTH = {"true": True, "false": False}


def export_model(flags: argparse.Namespace) -> None:
    """Exports a model.

    Args:
        flags: those of `electra_tf2.interop.export_flags`.

    Raises:
        UserError: flags contradict each other, there is no model, it can't be exported so, or the
            output is not free.
    """
    source = model_path(flags)
    check_free(flags.output)
    module, _, function = EXPORTERS[flags.format][is_fine_tuned(source)].partition(":")
    export = getattr(importlib.import_module(module), function)
    given = {name: getattr(flags, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if flags.format == "huggingface":
        options = {name: _TRUTH.get(value, value) for name, value in given.items()}
        export(source, flags.output, ExportOptions(**options))
        return
    if given:
        raise UserError(
            f"The format {flags.format} has no such option.",
            where=", ".join(f"--{name.replace('_', '-')}" for name in given),
            received=", ".join(given.values()),
            remedy="Leave it out; it is for the format huggingface.",
        )
    export(source, flags.output)
    files = ", ".join(sorted(tf.io.gfile.listdir(flags.output)))
    say(f"Exported {source} to {flags.output}: {files}")


def model_path(flags: argparse.Namespace) -> str:
    """Returns the path of the model that the flags name.

    Raises:
        UserError: they name none, or two.
    """
    by_name = [flags.data_dir, flags.model_name]
    if flags.model_dir and by_name == [None, None]:
        return flags.model_dir
    if flags.model_dir is None and all(by_name):
        return posixpath.join(flags.data_dir, "models", flags.model_name)
    raise UserError(
        "It is not clear which model to export.",
        where="--data-dir, --model-name, --model-dir",
        received=f"{flags.data_dir}, {flags.model_name}, {flags.model_dir}",
        remedy="Give --data-dir and --model-name, or --model-dir alone.",
    )


def is_fine_tuned(path: str) -> bool:
    """Whether a path is that of a model that was fine-tuned here, or of a checkpoint in it."""
    folder = path.rstrip("/")
    if posixpath.basename(folder).startswith("step-"):
        folder = posixpath.dirname(posixpath.dirname(folder))
    return tf.io.gfile.exists(posixpath.join(folder, TASKS))
