"""Takes the output of a layer inside a model, whatever kind of model it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from electra_tf2.errors import UserError


def find_layer(model: keras.Model, name: str, role: str) -> keras.layers.Layer:
    """Finds a layer at any depth of a model.

    Args:
        model: the model.
        name: the layer's name, or its path where several layers have that name.
        role: what the model is, for the message.

    Raises:
        UserError: no layer, or more than one, is called so.
    """
    layers = {id(layer): layer for layer in model._flatten_layers(include_self=False)}.values()
    found = [layer for layer in layers if layer.path == name]
    found = found or [layer for layer in layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    names = sorted({layer.path or layer.name for layer in found or layers})
    raise UserError(
        f"The {role} has {'several layers' if found else 'no layer'} of that name.",
        where=f"discriminator_layer, model {model.name!r}",
        received=name,
        remedy="Choose one of: " + ", ".join(names),
    )


@contextlib.contextmanager
def recorded(layer: keras.layers.Layer) -> Iterator[list]:
    """Records what a layer returns.

    Keras has no hook for it. The layer's `call` is replaced on the instance alone, and restored.

    Args:
        layer: of a model that is called inside the `with` block.

    Yields:
        A list to which every output is appended.
    """
    outputs: list = []
    own = vars(layer).get("call")
    call = layer.call

    def recording(*args, **kwargs):
        outputs.append(call(*args, **kwargs))
        return outputs[-1]

    # Past the tracking of attributes, which would take the function for a part of the layer.
    object.__setattr__(layer, "call", recording)
    try:
        yield outputs
    finally:
        if own is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", own)
