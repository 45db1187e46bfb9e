"""Checks of what a user makes an objective of, and of what the user's models return."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError


class Named(Protocol):
    """What messages call a network: its `role`, and `where` its output comes from."""

    role: str
    where: str


def check_kinds(**arguments: tuple[Any, Any]) -> None:
    """Checks the types of an objective's parts.

    Args:
        **arguments: name -> (what was given, the type that it has to be of).

    Raises:
        UserError: one is of another type; names it.
    """
    for name, (value, kind) in arguments.items():
        if not isinstance(value, kind):
            wanted = getattr(kind, "__name__", str(kind))
            raise UserError(
                "The objective is made of two Keras models, a Masking and perhaps Options.",
                where=name,
                received=f"{type(value).__name__}, not {wanted}",
                remedy="Give ReplacedTokenDetection(generator, discriminator, Masking(…), "
                "Options(…)).",
            )


def check_weight(name: str, weight: Any) -> None:
    """Checks the weight of a loss.

    Args:
        name: of the option.
        weight: its value.

    Raises:
        UserError: it is no finite number of at least 0.
    """
    if not isinstance(weight, int | float | np.number) or not 0 <= weight < math.inf:
        raise UserError(
            "A loss can't have such a weight.",
            where=f"Options.{name}",
            received=repr(weight),
            remedy="Choose a number of at least 0.",
        )


def check_output(
    output: Any,
    shape: tuple[int | None, ...],
    asked: tf.Tensor,
    network: Named,
    expected: str,
    where: str | None = None,
) -> None:
    """Refuses what is not a floating-point tensor of a shape.

    Args:
        output: what a model, or a layer of it, returned.
        shape: None stands for any known length.
        asked: the token ids or positions [batch, n] that it was given.
        network: the model.
        expected: the shape in words.
        where: the layer; None: the model itself.

    Raises:
        UserError: it has another shape, an unknown rank, no gradient, or is no tensor.
    """
    if tf.is_tensor(output):
        fits = output.shape.is_compatible_with(shape)
        # A batch or a length may be unknown in a graph; the last axis of three never.
        known = output.shape.rank is not None and (len(shape) < 3 or output.shape[-1])
        if fits and known and output.dtype.is_floating:
            return
        if output.shape.rank is None:
            received = "a tensor of unknown rank"
        elif not output.dtype.is_floating:
            received = f"{output.dtype.name}, which has no gradient"
        else:
            given = f"for token ids or positions {tuple(asked.shape)}"
            received = f"shape {tuple(output.shape)} {given}"
    else:
        received = "nothing" if output is None else type(output).__name__
    raise UserError(
        f"The {network.role}'s output has the wrong shape or type.",
        where=where or network.where,
        received=received,
        remedy=f"Return {'states' if where else 'logits'} of shape {expected}, floating-point.",
    )
