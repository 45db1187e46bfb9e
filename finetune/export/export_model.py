"""Exporting any model of this program, pre-trained or fine-tuned, to any of the formats."""

from __future__ import annotations

import argparse
import functools
import importlib
import posixpath
from typing import Any

from electra_tf2 import cli, files, outputs
from electra_tf2.console import say
from electra_tf2.errors import UserError

# Format -> "module:function" for a pre-trained model and for a fine-tuned one; imported when
# needed.
EXPORTERS: dict[str, tuple[str, str]] = {
    "huggingface": (
        "electra_tf2.export.huggingface:export_huggingface",
        "finetune.export.huggingface:export_huggingface",
    ),
    "savedmodel": (
        "electra_tf2.export.saved_model:export_saved_model",
        "finetune.export.saved_model:export_saved_model",
    ),
    "tflite": (
        "electra_tf2.export.tflite:export_tflite",
        "finetune.export.saved_model:export_tflite",
    ),
    "tflite-int8": (
        "electra_tf2.export.tflite:export_tflite",
        "finetune.export.saved_model:export_tflite",
    ),
    "keras": (
        "electra_tf2.export.keras_file:export_keras",
        "electra_tf2.export.keras_file:export_keras",
    ),
}
_TEXT = ("vocab_file", "do_lower_case", "strip_accents", "num_attention_heads")
_OPTIONS = ("network", "architecture", *_TEXT)


def export_model(flags: argparse.Namespace) -> None:
    """Exports a model.

    Raises:
        UserError: flags contradict each other, there is no model, it can't be exported so, or the
            output is not free.
    """
    source = cli.named_model(flags, "to export")
    outputs.check_free(flags.output)
    of_pretrained, of_tuned = EXPORTERS[flags.format]
    exporter = of_tuned if is_fine_tuned(source) else of_pretrained
    module, _, function = exporter.partition(":")
    export = getattr(importlib.import_module(module), function)
    if flags.format == "tflite-int8":
        export = functools.partial(export, int8=True)
    given: dict[str, Any] = {name: getattr(flags, name) for name in _OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    options: dict[str, Any] = {name: cli.TRUTH.get(value, value) for name, value in given.items()}
    if flags.format == "huggingface":
        from electra_tf2.export.huggingface import ExportOptions

        export(source, flags.output, ExportOptions(**options))
        return
    takes_text = exporter == of_pretrained  # others have a fine-tuned model's own
    refused = [name for name in given if name not in _TEXT or not takes_text]
    if refused:
        raise UserError(
            f"The format {flags.format} has no such option"
            f"{'' if takes_text else ' for a fine-tuned model'}.",
            where=", ".join(f"--{name.replace('_', '-')}" for name in refused),
            received=", ".join(str(given[name]) for name in refused),
            remedy="Leave it out; it is for the format huggingface.",
        )
    if takes_text:
        from electra_tf2.loading.source import TextOptions

        export(source, flags.output, TextOptions(**options))
    else:
        export(source, flags.output)
    say(f"Exported {source} to {flags.output}: {', '.join(files.list_dir(flags.output))}")


def is_fine_tuned(path: str) -> bool:
    """Whether a path is that of a model that was fine-tuned here, or of a checkpoint in it."""
    # Imports TensorFlow, for which --help need not wait.
    from electra_tf2.training.checkpoints import model_of
    from finetune.trial_folders import TASKS

    folders = (path, model_of(path))
    return any(files.exists(posixpath.join(folder, TASKS)) for folder in folders)


EPILOG = """\
What comes out:
  huggingface  a folder for transformers: config.json, model.safetensors, vocab.txt,
               tokenizer.json, tokenizer_config.json, README.md. Of a pre-trained model
               discriminator/ and generator/ in --output, or the one network that was asked for in
               --output itself. A fine-tuned model becomes a classifier, regressor, tagger, span
               finder or multiple-choice model; where transformers has no head like ours the encoder
               is written, and the output says so. A model of sentence embeddings opens in
               sentence-transformers as well.
  savedmodel   a TensorFlow SavedModel that takes raw strings, pre-trained or fine-tuned
  tflite       a folder with a file for LiteRT for each task of a fine-tuned model, or for the
               encoder of a pre-trained one, with token ids as inputs
  tflite-int8  the same, a quarter as large: weights of 8 bits, so outputs differ a little
  keras        a folder with encoder.keras, discriminator.keras and generator.keras, with token ids
               as inputs

docs/interchange.md and docs/saved_model.md have the details.
"""


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `export_model`."""
    model = parser.add_argument_group("the model")
    cli.add_model_flags(
        model,
        "instead of the two: a model's folder (pre-trained, or a trial of fine-tuning), a "
        "checkpoint in it, an official checkpoint, or a Hugging Face folder",
    )
    result = parser.add_argument_group("the result")
    result.add_argument("--format", required=True, choices=EXPORTERS, help="what to write")
    result.add_argument(
        "--output", required=True, help="where to: a path that is free; nothing is overwritten"
    )
    text = parser.add_argument_group("the model's text and heads, where nothing beside it says it")
    cli.add_text_flags(text)
    options = parser.add_argument_group("for the format huggingface")
    options.add_argument(
        "--network",
        choices=("discriminator", "generator", "both"),
        help="of a pre-trained model; default: all there are",
    )
    options.add_argument(
        "--architecture",
        choices=("electra", "bert", "albert", "modernbert"),
        help="default: the one that fits. bert: for embeddings as wide as the hidden size",
    )
