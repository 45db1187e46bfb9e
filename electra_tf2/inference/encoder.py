"""States of texts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, overload

import numpy as np
import tensorflow as tf

from electra_tf2.inference.forward import Forward, FromPretrained
from electra_tf2.loading.networks import build_encoder
from electra_tf2.loading.source import Source
from electra_tf2.modeling.encoder import Encoder as EncoderNetwork
from electra_tf2.text.rows import (
    Row,
    Text,
    check_positive,
    check_segments,
    check_texts,
    make_rows,
    resolve_length,
)
from electra_tf2.text.tokenizer import Tokenizer

Pooling = Literal["none", "cls", "mean", "max"]


class Encoded(NamedTuple):
    """Texts as a network sees them.

    Attributes:
        states: float32 [texts, longest, hidden_size], 0 at padding; with a pooling, float32
            [texts, hidden_size]. With several layers there is an axis of them after the first.
        mask: bool [texts, longest], True for tokens.
        tokens: the tokens of each text, special ones included.
    """

    states: np.ndarray
    mask: np.ndarray
    tokens: list[list[str]]


class EncodedWithAttentions(NamedTuple):
    """What `Encoded` has, and where each token looks.

    Attributes:
        states, mask, tokens: see `Encoded`.
        attentions: float32 [texts, blocks, heads, longest, longest]: how much a token (the second
            last axis) attends to each token; sums to 1. 0 at padding.
    """

    states: np.ndarray
    mask: np.ndarray
    tokens: list[list[str]]
    attentions: np.ndarray


# Poolings of float32 [batch, layers, length, hidden] with a mask, 1 for tokens.


def _all_states(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return states * mask[:, tf.newaxis, :, tf.newaxis]


def _first_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    del mask
    return states[:, :, 0]


def _mean_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(_all_states(states, mask), axis=2)
    return total / tf.reduce_sum(mask, axis=1)[:, tf.newaxis, tf.newaxis]


def _largest_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    is_token = tf.cast(mask, tf.bool)[:, tf.newaxis, :, tf.newaxis]
    return tf.reduce_max(tf.where(is_token, states, states.dtype.min), axis=2)


_POOLINGS = {"none": _all_states, "cls": _first_state, "mean": _mean_state, "max": _largest_state}


# Programs that are kept: each has a copy of the kernels, in the order that products read them.
_MOST_FORWARDS = 2


class _Asked(NamedTuple):
    """What is computed of a batch: the layers from 0, those of the embeddings, up."""

    layers: tuple[int, ...]
    pooling: Pooling
    attentions: bool


class Encoder(FromPretrained):
    """The network that pre-training keeps, for states of texts.

    Args:
        network: the encoder. Its weights should be final: a CPU's graphs hold those of the first
            call.
        tokenizer: text -> ids.

    Example:
        encoder = Encoder.from_pretrained("data/models/my_electra")
        encoder.encode(["A ship.", "An old harbour."]).states        # [2, 5, 256]
        encoder.encode([("A ship?", "A boat.")], pooling="mean").states  # [1, 256]
        encoder.encode(["A ship."], layers=[0, -1]).states           # [1, 2, 5, 256]
    """

    def __init__(self, network: EncoderNetwork, tokenizer: Tokenizer):
        self.network = network
        self.tokenizer = tokenizer
        self._forwards: dict[_Asked, Forward] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Encoder:
        """See `FromPretrained.from_source`."""
        return cls(build_encoder(source, dtype), source.tokenizer)

    @overload
    def encode(
        self,
        texts: Sequence[Text],
        *,
        pooling: Pooling = ...,
        layers: int | Sequence[int] = ...,
        attentions: Literal[False] = ...,
        batch_size: int = ...,
        max_length: int | None = ...,
    ) -> Encoded: ...

    @overload
    def encode(
        self,
        texts: Sequence[Text],
        *,
        pooling: Pooling = ...,
        layers: int | Sequence[int] = ...,
        attentions: Literal[True],
        batch_size: int = ...,
        max_length: int | None = ...,
    ) -> EncodedWithAttentions: ...

    def encode(
        self,
        texts: Sequence[Text],
        *,
        pooling: Pooling = "none",
        layers: int | Sequence[int] = -1,
        attentions: bool = False,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> Encoded | EncodedWithAttentions:
        """Computes states of texts.

        Args:
            texts: texts, or pairs of them as tuples. Every text is ordinary text: `[MASK]` in it is
                three words.
            pooling: "none": a state for each token. "cls": the state of [CLS]. "mean": the mean
                over all tokens, special ones included. "max": the largest value of each dimension.
            layers: whose states: 0 for what goes into the first block (the embeddings), 1 for what
                comes out of it, and so on; or from the end, -1 for the last. A sequence of them
                gives the states an axis of layers.
            attentions: whether to return how much each token attends to each other, too.
            batch_size: texts to a batch.
            max_length: longest sequence in tokens, special ones included; the rest is cut off.
                None: as long as the network allows.

        Returns:
            States, mask and tokens, in the order of the texts; with `attentions`, those as well.

        Raises:
            TypeError: something that was given is not a text or not a layer's number.
            ValueError: an argument is out of range, or a pair is given to a model that knows
                single texts only.
        """
        check_positive("batch_size", batch_size)
        if pooling not in tuple(_POOLINGS):
            raise ValueError(
                f"pooling must be one of {', '.join(_POOLINGS)}. Received: {pooling!r}"
            )
        config = self.network.config
        one = isinstance(layers, int | np.integer)
        asked = _Asked(_resolved(layers, len(config.block_names)), pooling, bool(attentions))
        max_length = resolve_length(max_length, config.max_position_embeddings)
        rows = make_rows(check_texts(texts, pairs=True), self.tokenizer, max_length)
        check_segments(rows, config.type_vocab_size)
        longest = max((len(row.input_ids) for row in rows), default=0)
        found = self._compute(rows, asked, batch_size, longest)
        states = found["states"][:, 0] if one else found["states"]
        result = Encoded(states, _mask(rows, longest), self._tokens(rows))
        return EncodedWithAttentions(*result, found["attentions"]) if attentions else result

    def _compute(
        self, rows: Sequence[Row], asked: _Asked, batch_size: int, longest: int
    ) -> dict[str, np.ndarray]:
        """What was asked of all rows, in their order, 0 at padding."""
        config = self.network.config
        width = (longest, config.hidden_size) if asked.pooling == "none" else (config.hidden_size,)
        shapes = {"states": (len(asked.layers), *width)}
        if asked.attentions:
            blocks, heads = len(config.block_names), config.num_attention_heads
            shapes["attentions"] = (blocks, heads, longest, longest)
        result = {name: np.zeros((len(rows), *own), np.float32) for name, own in shapes.items()}
        for numbers, values in self._forward(asked).batches(rows, batch_size):
            for name, value in values.items():
                inner = tuple(slice(size) for size in value.shape[1:])
                for number, row in zip(numbers, value, strict=True):
                    result[name][number][inner] = row
        return result

    def _forward(self, asked: _Asked) -> Forward:
        with self._lock:
            if asked not in self._forwards:
                if len(self._forwards) > _MOST_FORWARDS - 1:
                    self._forwards.pop(next(iter(self._forwards)))
                self._forwards[asked] = Forward(
                    lambda batch: self._outputs(batch, asked), [self.network]
                )
            return self._forwards[asked]

    def _outputs(self, batch: Mapping[str, tf.Tensor], asked: _Asked) -> dict[str, tf.Tensor]:
        mask = tf.cast(batch["input_mask"], tf.float32)
        inputs = batch["input_ids"], batch["input_mask"], batch["segment_ids"]
        states, attentions = self.network.trace(*inputs)
        chosen = tf.stack([states[layer] for layer in asked.layers], axis=1)
        pool = _POOLINGS[asked.pooling]
        outputs = {"states": pool(tf.cast(chosen, tf.float32), mask)}
        if asked.attentions:
            pairs = (mask[:, tf.newaxis] * mask[:, :, tf.newaxis])[:, None, None]
            stacked = tf.cast(tf.stack(attentions, axis=1), tf.float32)
            outputs["attentions"] = stacked * pairs
        return outputs

    def _tokens(self, rows: Sequence[Row]) -> list[list[str]]:
        tokens = self.tokenizer.vocabulary.tokens
        return [[tokens[i] for i in row.input_ids.tolist()] for row in rows]


def _mask(rows: Sequence[Row], longest: int) -> np.ndarray:
    lengths = np.array([len(row.input_ids) for row in rows], np.int64)
    return np.arange(longest) < lengths[:, np.newaxis]


def _resolved(layers: int | Sequence[int], blocks: int) -> tuple[int, ...]:
    """The layers' numbers from 0 up, of a network of so many blocks."""
    given = list(layers) if isinstance(layers, Iterable) else [layers]
    for layer in given:
        if not isinstance(layer, int | np.integer) or isinstance(layer, bool):
            raise TypeError(f"layers are whole numbers. Received: {layer!r}")
        if not -blocks - 1 <= layer <= blocks:
            raise ValueError(
                f"layers are 0 (the embeddings) to {blocks}, or -1 (the last) to {-blocks - 1}. "
                f"Received: {layer}"
            )
    if not given:
        raise ValueError("layers must name at least one. Received: an empty sequence")
    return tuple(int(layer) % (blocks + 1) for layer in given)
