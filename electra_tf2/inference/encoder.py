"""States of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

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

Pooling = Literal["none", "cls", "mean"]


class Encoded(NamedTuple):
    """Texts as a network sees them.

    Attributes:
        states: float32 [texts, longest, hidden_size], 0 at padding; with a pooling, float32
            [texts, hidden_size].
        mask: bool [texts, longest], True for tokens.
        tokens: the tokens of each text, special ones included.
    """

    states: np.ndarray
    mask: np.ndarray
    tokens: list[list[str]]


def _all_states(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return states * mask[:, :, tf.newaxis]


def _first_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    del mask
    return states[:, 0]


def _mean_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(states * mask[:, :, tf.newaxis], axis=1)
    return total / tf.reduce_sum(mask, axis=1, keepdims=True)


_POOLINGS = {"none": _all_states, "cls": _first_state, "mean": _mean_state}


class Encoder(FromPretrained):
    """The network that pre-training keeps, for states of texts.

    Args:
        network: the encoder.
        tokenizer: text -> ids.

    Example:
        encoder = Encoder.from_pretrained("data/models/my_electra")
        encoder.encode(["A ship.", "An old harbour."]).states        # [2, 5, 256]
        encoder.encode([("A ship?", "A boat.")], pooling="mean").states  # [1, 256]
    """

    def __init__(self, network: EncoderNetwork, tokenizer: Tokenizer):
        self.network = network
        self.tokenizer = tokenizer
        self._forwards: dict[str, Forward] = {}

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Encoder:
        """See `FromPretrained.from_source`."""
        return cls(build_encoder(source, dtype), source.tokenizer)

    def encode(
        self,
        texts: Sequence[Text],
        *,
        pooling: Pooling = "none",
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> Encoded:
        """Computes states of texts.

        Args:
            texts: texts, or pairs of them as tuples. Every text is ordinary text: `[MASK]` in it is
                three words.
            pooling: "none": a state for each token. "cls": the state of [CLS]. "mean": the mean
                over all tokens, special ones included.
            batch_size: texts to a batch.
            max_length: longest sequence in tokens, special ones included; the rest is cut off.
                None: as long as the network allows.

        Returns:
            States, mask and tokens, in the order of the texts.

        Raises:
            TypeError: something that was given is not a text.
            ValueError: an argument is out of range, or a pair is given to a model that knows
                single texts only.
        """
        check_positive("batch_size", batch_size)
        if pooling not in _POOLINGS:
            raise ValueError(
                f"pooling must be one of {', '.join(_POOLINGS)}. Received: {pooling!r}"
            )
        max_length = resolve_length(max_length, self.network.config.max_position_embeddings)
        rows = make_rows(check_texts(texts, pairs=True), self.tokenizer, max_length)
        check_segments(rows, self.network.config.type_vocab_size)
        longest = max((len(row.input_ids) for row in rows), default=0)
        width = self.network.config.hidden_size
        shape = (longest, width) if pooling == "none" else (width,)
        states = np.zeros((len(rows), *shape), np.float32)
        for numbers, values in self._forward(pooling).batches(rows, batch_size):
            found = values["states"]
            if pooling == "none":
                states[numbers, : found.shape[1]] = found
            else:
                states[numbers] = found
        return Encoded(states, _mask(rows, longest), self._tokens(rows))

    def _forward(self, pooling: Pooling) -> Forward:
        if pooling not in self._forwards:
            pool = _POOLINGS[pooling]

            def function(batch):
                states = self.network(batch["input_ids"], batch["input_mask"], batch["segment_ids"])
                mask = tf.cast(batch["input_mask"], tf.float32)
                return {"states": pool(tf.cast(states, tf.float32), mask)}

            self._forwards[pooling] = Forward(function, [self.network])
        return self._forwards[pooling]

    def _tokens(self, rows: Sequence[Row]) -> list[list[str]]:
        tokens = self.tokenizer.vocabulary.tokens
        return [[tokens[i] for i in row.input_ids.tolist()] for row in rows]


def _mask(rows: Sequence[Row], longest: int) -> np.ndarray:
    lengths = np.array([len(row.input_ids) for row in rows], np.int64)
    return np.arange(longest) < lengths[:, np.newaxis]
