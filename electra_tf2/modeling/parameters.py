"""How many parameters networks have, those that they share counted once."""

from __future__ import annotations

import math

import keras

from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.pair import Pair


def count_parameters(*networks: keras.Model | None) -> int:
    """Returns the number of trained parameters in some networks together, each counted once.

    Args:
        *networks: models that are built; None counts nothing.
    """
    variables = {id(v): v for n in networks if n is not None for v in n.trainable_variables}
    return sum(math.prod(variable.shape) for variable in variables.values())


def describe_parameters(pair: Pair) -> str:
    """Returns the number of parameters of a pair, in all and by network, as a line of text."""
    generator, discriminator = (count_parameters(n) for n in (pair.generator, pair.discriminator))
    total = count_parameters(pair.generator, pair.discriminator)
    parts = [f"{generator:,} generator"] if generator else []
    parts += [f"{discriminator:,} discriminator"] if discriminator else []
    if shared := generator + discriminator - total:
        parts.append(f"{shared:,} of these in both")
    return f"{total:,} parameters ({', '.join(parts)}); {describe_encoder(pair.encoder)}"


def describe_encoder(encoder: Encoder) -> str:
    """Returns the number of parameters of the encoder that is kept, as a part of a line."""
    passes = len(encoder.blocks)
    one_for_all = passes > 1 and encoder.blocks[0] is encoder.blocks[-1]
    shared = f", {passes} passes through one layer" if one_for_all else ""
    return f"{count_parameters(encoder):,} in the encoder{shared}"
