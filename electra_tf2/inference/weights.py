"""The weights of a checkpoint, handed to layers by their names."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError, first_of
from electra_tf2.interop.finite_weights import check_finite
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.initializers import weights_follow


class WeightLoader:
    """Gives layers their weights, one layer after another, and keeps an account of what is missing.

    A weight that was handed over is in memory once: the checkpoint's array becomes a view of the
    variable. Where each layer is built just before it is given its weights, opening a model takes
    hardly more memory than its file.

    Args:
        pretrained: the checkpoint.

    Example:
        loader = WeightLoader(pretrained)
        loader.build("electra", encoder)
        loader.give("discriminator_predictions", head)
        loader.check()
    """

    def __init__(self, pretrained: Pretrained):
        self._pretrained = pretrained
        self._known: set[int] = set()
        self._given: list[str] = []
        self._problems: list[str] = []

    def build(self, scope: str, encoder: Encoder) -> None:
        """Builds an encoder part by part, each with its weights.

        Args:
            scope: of the encoder in the checkpoint.
            encoder: parts of it that are built already, such as embeddings that it shares, keep
                what they have.
        """
        for layer, input_shape in encoder.parts():
            if not layer.built:
                with keras.name_scope(encoder.name), weights_follow():
                    layer.build(input_shape)
                self.give(f"{scope}/{layer.name}", layer)
        encoder.build()

    def give(self, scope: str, layer: keras.layers.Layer) -> None:
        """Gives a built layer its weights.

        Args:
            scope: of the layer in the checkpoint.
            layer: variables of it that another layer was given before are left as they are.
        """
        arrays = self._pretrained.arrays
        for variable in layer.trainable_variables:
            if id(variable) in self._known:
                continue
            self._known.add(id(variable))
            # A layer that was built within another has a path that begins with that one's.
            name = f"{scope}/{variable.path.removeprefix(f'{layer.path}/')}"
            shape = tuple(variable.shape)
            if name not in arrays:
                self._problems.append(f"{name} is missing")
            elif arrays[name].shape != shape:
                self._problems.append(f"{name} has shape {arrays[name].shape}, not {shape}")
            else:
                self._given.append(name)
                variable.assign(arrays[name])
                if arrays[name].dtype == variable.dtype:
                    arrays[name] = _view(variable)

    def check(self) -> None:
        """Makes sure that every variable was given a value, and a finite one.

        Raises:
            UserError: some were missing, of another shape or not finite; names them.
        """
        if not self._problems:
            check_finite(self._pretrained, self._given)
            return
        raise UserError(
            "The checkpoint lacks parts of the network.",
            where=self._pretrained.path,
            received=first_of(self._problems),
            remedy="Check that all of the model's files are there, and its sizes in config.json.",
        )


def _view(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's value, read-only and without a copy of it where it is on the CPU.

    TensorFlow leaves a buffer that is seen elsewhere as it is: assigning to the variable later
    doesn't change the array.
    """
    return np.asarray(memoryview(tf.convert_to_tensor(variable.value)))
