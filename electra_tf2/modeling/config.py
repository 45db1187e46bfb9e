"""The shape of a transformer encoder."""

from __future__ import annotations

import dataclasses
import math
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

Architecture = Literal["bert", "albert", "modern"]

# Name of the block that pass `i` through the encoder runs.
_BLOCK_NAMES: dict[str, str] = {
    "bert": "layer_{i}",
    "albert": "shared_layer",
    "modern": "layer_{i}",
}

MODERN_FIELDS = (
    "global_attention_every",
    "local_attention",
    "global_rope_theta",
    "local_rope_theta",
)
"""Fields of `TransformerConfig` that only a modern encoder has."""

# Positions that a modern encoder counts to unless told otherwise: it has no table of them.
_MODERN_POSITIONS = 8192


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
        max_position_embeddings: rows of the position table, the longest sequence. A modern encoder
            has no table: no weight depends on it.
        type_vocab_size: number of segment ids; a modern encoder makes no use of them.
        initializer_range: standard deviation of the truncated normal initializer.
        encoder: "bert", a stack of blocks with weights of their own; "albert", one block that is
            run `num_hidden_layers` times (cross-layer parameter sharing, arXiv:1909.11942); or
            "modern", the blocks of ModernBERT (arXiv:2412.13663).
        global_attention_every: of a modern encoder, like all that follow. Every so many layers, the
            first one included, attention reaches the whole text; in the others it is local.
        local_attention: tokens that local attention reaches: half of them on either side.
        global_rope_theta: base of the wave lengths of rotary positions in global attention.
        local_rope_theta: the same in local attention.

    Raises:
        UserError: a size is too large, the heads do not divide the hidden size or, with rotary
            positions, not into even parts, or a dropout rate or wave length is out of range.
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
    global_attention_every: int = 3
    local_attention: int = 128
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0

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
        if self.is_modern:
            self._check_rotary_positions()

    def _check_rotary_positions(self) -> None:
        size = self.hidden_size // self.num_attention_heads
        if size % 2:
            raise UserError(
                "Rotary positions turn pairs of dimensions: a head has an even number of them.",
                where="model_hparam_overrides",
                received=f"hidden_size {self.hidden_size}, num_attention_heads "
                f"{self.num_attention_heads}: {size} dimensions a head",
                remedy="Choose a hidden size that is an even multiple of the number of heads.",
            )
        for name in ("global_rope_theta", "local_rope_theta"):
            if not getattr(self, name) > 1:
                raise UserError(
                    "The base of the wave lengths is out of range.",
                    where=f"model_hparam_overrides, {name}",
                    received=getattr(self, name),
                    remedy="Choose a number over 1, or leave it out.",
                )

    @property
    def is_modern(self) -> bool:
        """Whether it is a modern encoder: rotary positions, LayerNorm first, gates, no biases."""
        return self.encoder == "modern"

    @property
    def has_biases(self) -> bool:
        """Whether its dense layers and those of its heads have biases, and LayerNorms shifts."""
        return not self.is_modern

    def is_global(self, layer: int) -> bool:
        """Whether attention reaches the whole text in a layer (from 0)."""
        return not self.is_modern or layer % self.global_attention_every == 0

    @property
    def reach(self) -> int:
        """How many positions away, in either direction, local attention sees."""
        return self.local_attention // 2

    def attends_in_blocks(self, length: int | None) -> bool:
        """Whether local attention is computed in blocks: from where that about halves its products.

        Each block of `reach` positions is then compared with itself and the two beside it.

        Args:
            length: of the texts; None where it is not known when the graph is built.
        """
        return self.is_modern and length is not None and length >= 6 * self.reach > 0

    @property
    def residual_range(self) -> float:
        """Standard deviation of the initial matrices whose products are added to the states.

        Those of a modern encoder are smaller the more of them there are, as in ModernBERT: each of
        the layers adds two. LayerNorm comes after the addition elsewhere.
        """
        if not self.is_modern:
            return self.initializer_range
        return self.initializer_range / math.sqrt(2 * self.num_hidden_layers)

    @property
    def block_names(self) -> list[str]:
        """The name of the block that each pass runs, `num_hidden_layers` of them."""
        name = _BLOCK_NAMES[self.encoder]
        return [name.format(i=i) for i in range(self.num_hidden_layers)]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dict that JSON can hold, those of its kind of encoder."""
        fields = dataclasses.asdict(self)
        if self.is_modern:
            return fields
        return {name: value for name, value in fields.items() if name not in MODERN_FIELDS}


def default_attention_heads(hidden_size: int) -> int:
    """The official program's number of heads: one for every 64 units of the hidden size."""
    return max(1, hidden_size // 64)


def default_intermediate_size(hidden_size: int, encoder: Architecture = "bert") -> int:
    """The feed-forward width: 4 x hidden as in the official program.

    With gates there are three matrices instead of two, and the width is two thirds of that, a
    multiple of 8, which keeps weights and compute (Shazeer 2020, arXiv:2002.05202, section 3.1).
    """
    return 8 * max(1, round(hidden_size / 3)) if encoder == "modern" else 4 * hidden_size


def transformer_config(
    *,
    model_size: Literal["small", "base", "large"],
    vocab_size: int,
    embedding_size: int | None,
    overrides: dict[str, Any],
    encoder: Architecture = "bert",
) -> TransformerConfig:
    """Resolves a named size and overrides to a configuration, as the official program does.

    Heads are max(1, hidden // 64) and the intermediate size is 4 x hidden (with gates: see
    `default_intermediate_size`), both computed from the overridden hidden size; an override of
    either wins.

    Args:
        model_size: "small", "base" or "large".
        vocab_size: rows of the word embedding table, unless overridden.
        embedding_size: width of the embeddings; None means the hidden size.
        overrides: fields of `TransformerConfig` that replace the size's.
        encoder: "bert", "albert" or "modern".

    Returns:
        The resolved configuration.
    """
    args = {"vocab_size": vocab_size, "encoder": encoder, **_SIZES[model_size], **overrides}
    args["num_attention_heads"] = default_attention_heads(args["hidden_size"])
    args["intermediate_size"] = default_intermediate_size(args["hidden_size"], encoder)
    if encoder == "modern":
        args["max_position_embeddings"] = _MODERN_POSITIONS
    args["embedding_size"] = args["hidden_size"] if embedding_size is None else embedding_size
    return TransformerConfig(**{**args, **overrides})


def generator_config(
    discriminator: TransformerConfig, *, hidden_fraction: float, layers_fraction: float
) -> TransformerConfig:
    """Shrinks the discriminator's configuration to the generator's.

    Width and depth are int(round(fraction x size)); the feed-forward width is 4 x hidden (with
    gates: see `default_intermediate_size`) and the heads are max(1, hidden // 64), whatever was
    overridden for the discriminator (official).

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
        intermediate_size=default_intermediate_size(hidden_size, discriminator.encoder),
        num_attention_heads=default_attention_heads(hidden_size),
    )
