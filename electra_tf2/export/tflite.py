"""TFLite files, which LiteRT runs on phones, small devices and CPUs, without TensorFlow.

Token ids go in, as a WordPiece tokenizer makes them with vocab.txt. The graphs hold built-in
operations only, so that every LiteRT runs them, and take batches and lengths of any size.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.console import silent_stderr
from electra_tf2.errors import UserError
from electra_tf2.export.saved_model import (
    IDS,
    Signature,
    Signatures,
    encoder_signatures,
    module_with,
)
from electra_tf2.files import replace_file
from electra_tf2.loading.folder import VOCABULARY
from electra_tf2.loading.networks import build_encoder, has_encoder, say_left_out_heads
from electra_tf2.loading.source import TextOptions, open_by_flags
from electra_tf2.modeling.fused import without_fused_products
from electra_tf2.outputs import new_folder
from electra_tf2.text.vocabulary import Vocabulary


def export_tflite(
    source: str, output: str, options: TextOptions | None = None, *, int8: bool = False
) -> None:
    """Exports the encoder of a pre-trained model as `encode.tflite`, and vocab.txt.

    Inputs are `input_ids`, `input_mask` and `segment_ids`, int32 [batch, length]; the output is
    `states`, float32 [batch, length, hidden_size], 0 at padding.

    Args:
        source: anything that `open_pretrained` reads.
        output: the folder to make.
        options: vocabulary and casing, for a model that does not say.
        int8: whether weights have 8 bits, see `write_tflite`.

    Raises:
        UserError: the model can't be read or has no encoder, or the folder can't be made.
    """
    opened = open_by_flags(source, options)
    if not has_encoder(opened.pretrained):
        raise UserError(
            "There is no encoder to export.",
            where=opened.pretrained.path,
            received="a generator alone",
            remedy="Use --format savedmodel, which has a signature to fill masks.",
        )
    say_left_out_heads(opened.pretrained)
    encoder = build_encoder(opened)
    signatures = encoder_signatures(opened, encoder)
    write_tflite(output, signatures, [encoder], opened.vocabulary, int8=int8)


def write_tflite(
    output: str,
    signatures: Signatures,
    networks: Sequence[keras.Model],
    vocabulary: Vocabulary,
    *,
    int8: bool,
    assets: Mapping[str, str] | None = None,
) -> None:
    """Writes `<name>.tflite` for each signature `<name>_ids`, and vocab.txt.

    Args:
        output: the folder to make.
        signatures: of these, those that take token ids are written, without outputs of text.
        networks: have all variables that the signatures use.
        vocabulary: becomes vocab.txt.
        int8: whether matrices have 8 bits a weight, with a scale for each output, and activations
            get 8 bits as they come ("dynamic range"); else float32.
        assets: more files, name -> text.

    Raises:
        UserError: the folder can't be made.
    """
    module = module_with(networks)
    texts = {VOCABULARY: vocabulary.text, **(assets or {})}
    with new_folder(output) as folder:
        for name, signature in signatures.items():
            if signature.inputs == IDS:
                path = posixpath.join(folder, f"{name.removesuffix('_ids')}.tflite")
                replace_file(path, _converted(signature, module, int8))
        for name, text in texts.items():
            replace_file(posixpath.join(folder, name), text.encode())


# What the caller has given.
_LEFT_OUT = ("input_ids", "mask")


def _converted(signature: Signature, module: Any, int8: bool) -> bytes:
    def run(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = signature.function(*tensors).items()
        return {n: v for n, v in outputs if v.dtype != tf.string and n not in _LEFT_OUT}

    with without_fused_products(), silent_stderr():
        function = tf.function(run, input_signature=IDS, autograph=False)
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], module
        )
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if int8 else []
        return converter.convert()
