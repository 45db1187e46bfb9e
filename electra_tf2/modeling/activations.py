"""Activation functions by their official names."""

from __future__ import annotations

from collections.abc import Callable

import keras

from electra_tf2.errors import UserError


def _exact_gelu(x):
    return keras.activations.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable] = {
    "gelu": _exact_gelu,
    "relu": keras.activations.relu,
    "tanh": keras.activations.tanh,
    "linear": keras.activations.linear,
}


def activation(name: str) -> Callable:
    """Returns the activation function called `name`.

    Args:
        name: "gelu" (exact, with erf), "relu", "tanh" or "linear".

    Raises:
        UserError: the name is unknown.
    """
    try:
        return ACTIVATIONS[name.lower()]
    except (KeyError, AttributeError):
        raise UserError(
            "Unknown activation function.",
            where="model_hparam_overrides, hidden_act",
            received=name,
            remedy="Choose one of " + ", ".join(ACTIVATIONS),
        ) from None
