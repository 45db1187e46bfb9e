"""Files that `keras.models.load_model` opens.

The networks are this package's own layers, so it must be installed where a file is opened, and
imported: this module is enough.

    import keras
    import electra_tf2.export.keras_file  # noqa: F401, so that Keras knows the layers

    encoder = keras.models.load_model("exported/encoder.keras")
"""

from __future__ import annotations

import os
import posixpath
import tempfile

import keras
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.files import native, replace_file
from electra_tf2.loading.folder import CASING, VOCABULARY, casing_json
from electra_tf2.loading.networks import (
    build_discriminator,
    build_encoder,
    build_generator,
    has_discriminator,
    has_encoder,
    has_generator,
    is_two_tower,
    say_left_out_heads,
)
from electra_tf2.loading.source import Source, TextOptions, open_by_flags
from electra_tf2.outputs import new_folder


def export_keras(source: str, output: str, options: TextOptions | None = None) -> None:
    """Exports a model's networks as Keras files.

    Written are, of those networks that the model has, `encoder.keras` (token ids, mask and segment
    ids -> states), `discriminator.keras` (-> a logit a token) and `generator.keras` (-> logits over
    the vocabulary), and vocab.txt and casing.json. Each file holds a whole network: embeddings
    that networks share are in all of them. Electric's generator of two towers and the heads of
    tasks are left out.

    Args:
        source: anything that `open_pretrained` reads.
        output: the folder to make.
        options: vocabulary and casing, for a model that does not say.

    Raises:
        UserError: the model can't be read, or the folder can't be made.
    """
    opened = open_by_flags(source, options)
    tokenizer = opened.tokenizer
    with new_folder(output) as folder:
        for name, network in _networks(opened).items():
            _save(network, posixpath.join(folder, f"{name}.keras"))
        replace_file(posixpath.join(folder, VOCABULARY), tokenizer.vocabulary.text.encode())
        replace_file(posixpath.join(folder, CASING), casing_json(tokenizer.casing))


def _networks(source: Source) -> dict[str, keras.Model]:
    pretrained, networks = source.pretrained, {}
    say_left_out_heads(pretrained)
    if has_discriminator(pretrained):
        networks["discriminator"] = build_discriminator(source)
        networks["encoder"] = networks["discriminator"].encoder
    elif has_encoder(pretrained) or not has_generator(pretrained):
        networks["encoder"] = build_encoder(source)
    if is_two_tower(pretrained):
        say("The generator of two towers is left out: only Electric's objective has a use for it.")
    elif has_generator(pretrained):
        networks["generator"] = build_generator(source, encoder=networks.get("encoder"))
    return networks


def _save(network: keras.Model, path: str) -> None:
    """Saves a network; by way of a local file, as Keras knows no other."""
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "network.keras")
        network.save(local)
        tf.io.gfile.copy(local, native(path))
