"""The shape of a transformer encoder."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from electra_tf2.errors import UserError

# Dropout decides with eight random bits (see `dropout`), and rate 1 would leave nothing.
MAX_DROPOUT_RATE = 0.99

# More of them is a mistake or a damaged file, and would be built for hours.
_MOST = {"num_hidden_layers": 1000}
_MOST_ROWS = 1 << 30  # of any other size

_SIZES = {
    "small": {"hidden_size": 256, "num_hidden_layers": 12},
    "base": {"hidden_size": 768, "num_hidden_layers": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24},
}

Architecture = Literal["bert", "albert"]

# Name of the block that pass `i` through the encoder runs.
_BLOCK_NAMES: dict[str, str] = {"bert": "layer_{i}", "albert": "shared_layer"}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and rates of a transformer encoder.

    Attributes:
        vocab_size: rows of the word embedding table.
        hidden_size: width of the hidden states.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: heads; must divide `hidden_size`.
        intermediate_size: width of the feed-forward layer.
        embedding_size: width of the embeddings; where it differs from `hidden_size`, a linear
            layer projects the embeddings.
        hidden_act: "gelu" (exact, with erf), "relu", "tanh" or "linear".
        hidden_dropout_prob: dropout rate of embeddings and block outputs.
        attention_probs_dropout_prob: dropout rate of attention probabilities.
        max_position_embeddings: rows of the position table, the longest sequence.
        type_vocab_size: number of segment ids.
        initializer_range: standard deviation of the truncated normal initializer.
        encoder: "bert", a stack of blocks with weights of their own, or "albert", one block that is
            run `num_hidden_layers` times (cross-layer parameter sharing, arXiv:1909.11942).

    Raises:
        UserError: a size is too large, the heads do not divide the hidden size, or a dropout rate
            is out of range.
    """

    vocab_size: int
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    embedding_size: int = 128
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    encoder: Architecture = "bert"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, most = getattr(self, field.name), _MOST.get(field.name, _MOST_ROWS)
            if isinstance(value, int) and value > most:
                raise UserError(
                    "A size of the network is too large.",
                    where=f"model_hparam_overrides, {field.name}",
                    received=f"{field.name} {value}",
                    remedy=f"Choose at most {most}.",
                )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                "The hidden size is not a multiple of the number of attention heads.",
                where="model_hparam_overrides",
                received=f"hidden_size {self.hidden_size}, "
                f"num_attention_heads {self.num_attention_heads}",
                remedy="Choose a number of heads that divides the hidden size.",
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            rate = getattr(self, name)
            if not 0 <= rate <= MAX_DROPOUT_RATE:
                raise UserError(
                    "A dropout rate is out of range.",
                    where=f"model_hparam_overrides, {name}",
                    received=rate,
                    remedy=f"Choose a rate from 0 to {MAX_DROPOUT_RATE}.",
                )

    @property
    def block_names(self) -> list[str]:
        """The name of the block that each pass runs, `num_hidden_layers` of them."""
        name = _BLOCK_NAMES[self.encoder]
        return [name.format(i=i) for i in range(self.num_hidden_layers)]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dict that JSON can hold."""
        return dataclasses.asdict(self)


def default_attention_heads(hidden_size: int) -> int:
    """The official program's number of heads: one for every 64 units of the hidden size."""
    return max(1, hidden_size // 64)


def transformer_config(
    *,
    model_size: Literal["small", "base", "large"],
    vocab_size: int,
    embedding_size: int | None,
    overrides: dict[str, Any],
    encoder: Architecture = "bert",
) -> TransformerConfig:
    """Resolves a named size and overrides to a configuration, as the official program does.

    Heads are max(1, hidden // 64) and the intermediate size is 4 x hidden, both computed from the
    overridden hidden size; an override of either wins.

    Args:
        model_size: "small", "base" or "large".
        vocab_size: rows of the word embedding table, unless overridden.
        embedding_size: width of the embeddings; None means the hidden size.
        overrides: fields of `TransformerConfig` that replace the size's.
        encoder: "bert" or "albert".

    Returns:
        The resolved configuration.
    """
    args = {"vocab_size": vocab_size, "encoder": encoder, **_SIZES[model_size], **overrides}
    args["num_attention_heads"] = default_attention_heads(args["hidden_size"])
    args["intermediate_size"] = 4 * args["hidden_size"]
    args["embedding_size"] = args["hidden_size"] if embedding_size is None else embedding_size
    return TransformerConfig(**{**args, **overrides})


def generator_config(
    discriminator: TransformerConfig, *, hidden_fraction: float, layers_fraction: float
) -> TransformerConfig:
    """Shrinks the discriminator's configuration to the generator's.

    Width and depth are int(round(fraction x size)); the feed-forward width is 4 x hidden and the
    heads are max(1, hidden // 64), whatever was overridden for the discriminator (official).

    Args:
        discriminator: the full-size network.
        hidden_fraction: generator width as a fraction of the discriminator's.
        layers_fraction: the same for the generator's depth.

    Returns:
        The generator's configuration, with the discriminator's embedding size.
    """
    hidden_size = int(round(discriminator.hidden_size * hidden_fraction))
    return dataclasses.replace(
        discriminator,
        hidden_size=hidden_size,
        num_hidden_layers=int(round(discriminator.num_hidden_layers * layers_fraction)),
        intermediate_size=4 * hidden_size,
        num_attention_heads=default_attention_heads(hidden_size),
    )
