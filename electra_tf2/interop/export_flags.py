"""The flags of export_model.py."""

from __future__ import annotations

import argparse

FORMATS = ("huggingface", "savedmodel", "keras")

EPILOG = """\
What comes out:
  huggingface  a folder for transformers: config.json, model.safetensors, vocab.txt,
               tokenizer.json, tokenizer_config.json, README.md. Of a pre-trained model
               discriminator/ and generator/ in --output, or the one network that was asked for in
               --output itself. A fine-tuned model becomes a classifier, regressor, tagger or span
               finder; where transformers has no head like ours the encoder is written, and the
               output says so.
  savedmodel   a TensorFlow SavedModel that takes raw strings, pre-trained or fine-tuned
  keras        a folder with encoder.keras, discriminator.keras and generator.keras, with token ids
               as inputs

docs/interchange.md and docs/saved_model.md have the details.
"""


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; see `finetune.exporting` for what becomes of them."""
    model = parser.add_argument_group("the model")
    model.add_argument("--data-dir", help="with --model-name: <data-dir>/models/<model-name>")
    model.add_argument("--model-name", help="name of a model below --data-dir")
    model.add_argument(
        "--model-dir",
        help="instead of the two: a model's folder (pre-trained, or a trial of fine-tuning), a "
        "checkpoint in it, an official checkpoint, or a Hugging Face folder",
    )
    result = parser.add_argument_group("the result")
    result.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    result.add_argument(
        "--output", required=True, help="where to: a path that is free; nothing is overwritten"
    )
    options = parser.add_argument_group("for the format huggingface")
    options.add_argument(
        "--network",
        choices=("discriminator", "generator", "both"),
        help="of a pre-trained model; default: all there are",
    )
    options.add_argument(
        "--architecture",
        choices=("electra", "bert", "albert"),
        help="default: the one that fits. bert: for embeddings as wide as the hidden size",
    )
    options.add_argument(
        "--vocab-file", help="the vocabulary, where none lies beside the model"
    )
    for name, meaning in (
        ("--do-lower-case", "whether text is lower-cased"),
        ("--strip-accents", "whether accents are removed"),
    ):
        options.add_argument(
            name,
            choices=("true", "false"),
            help=f"{meaning}, where nothing beside the model says it; default: true",
        )
