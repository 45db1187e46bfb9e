"""Words for masked places, and how likely a masked language model finds a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from electra_tf2.inference.forward import (
    Forward,
    FromPretrained,
    TextScore,
    score_texts,
    warn_of_unknown_rows,
)
from electra_tf2.loading.networks import build_generator, token_log_probs
from electra_tf2.loading.source import Source
from electra_tf2.modeling.electra import Generator as GeneratorNetwork
from electra_tf2.modeling.electra import TwoTowerGenerator
from electra_tf2.text.rows import Row, check_positive, check_texts, make_row
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.vocabulary import MASK


class Candidate(NamedTuple):
    """A word piece for a masked place.

    Attributes:
        token: the piece.
        id: its id.
        probability: that it stood there, by the generator.
    """

    token: str
    id: int
    probability: float


class Generator(FromPretrained):
    """The network that proposes tokens for masked places; a masked language model.

    Args:
        network: the generator. Its weights should be final: a CPU's graphs hold those of the first
            call.
        tokenizer: text -> ids.

    Example:
        generator = Generator.from_pretrained("data/models/my_electra")
        (candidates,) = generator.fill_mask("the [MASK] sailed into the harbour")
        candidates[0].token
    """

    def __init__(self, network: GeneratorNetwork | TwoTowerGenerator, tokenizer: Tokenizer):
        self.network = network
        self.tokenizer = tokenizer
        self._sees_token = not isinstance(network, TwoTowerGenerator)
        self._encoders = (
            [network.encoder]
            if self._sees_token
            else [network.left_to_right, network.right_to_left]
        )
        self._fills: dict[int, Forward] = {}
        self._hidden = Forward(self._hidden_token, self._encoders, ("positions", "labels"))
        self._unseen = Forward(
            lambda batch: {"scores": token_log_probs(network, batch)}, self._encoders
        )

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Generator:
        """See `FromPretrained.from_source`."""
        return cls(build_generator(source, dtype), source.tokenizer)

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Candidate]]:
        """Proposes tokens for the masked places of a text.

        Args:
            text: has `[MASK]`, written so, where a token is to be proposed; each is predicted with
                the others masked.
            top_k: how many tokens to propose for each.

        Returns:
            For each place, in order, its likeliest tokens, the likeliest first.

        Raises:
            TypeError: it is not a text.
            ValueError: the text has no [MASK], or one beyond the longest sequence, or `top_k` is
                less than 1 or larger than the vocabulary.
        """
        size = len(self.tokenizer.vocabulary)
        check_positive("top_k", top_k)
        if top_k > size:
            raise ValueError(f"top_k must be at most {size}, the vocabulary's size: {top_k}")
        (text,) = check_texts([text])
        row = self._masked_row(text)
        positions = np.flatnonzero(row.input_ids == self.tokenizer.vocabulary.mask_id)
        self._check_masks(text, positions)
        warn_of_unknown_rows([row], self.tokenizer.vocabulary)
        if len(row.input_ids) > self._longest:
            logging.warning("The text is cut to %d tokens.", self._longest)
            row = make_row(row.input_ids[1:-1], self.tokenizer, max_length=self._longest)
        forward = self._fill(top_k)
        (output,) = forward.batches([row], 1, {"positions": [positions.astype(np.int32)]})
        return [
            self._candidates(ids, probabilities)
            for ids, probabilities in zip(
                output.values["ids"][0], output.values["probabilities"][0], strict=True
            )
        ]

    def score(self, texts: Sequence[str], *, batch_size: int = 32) -> list[TextScore]:
        """Computes the pseudo-log-likelihood of texts: the sum of log P(token | all others).

        Each token is masked in turn (Salazar et al., ACL 2020), so that a text of n tokens takes n
        passes; the generator of Electric, which never sees the token, takes one.

        Args:
            texts: texts.
            batch_size: sequences to a batch.

        Returns:
            A score for each text; of an empty one 0.

        Raises:
            TypeError: something that was given is not a text.
            ValueError: a text is too long.
        """
        check_positive("batch_size", batch_size)
        score = self._score_hidden if self._sees_token else self._score_unseen
        return score_texts(
            texts, self.tokenizer, self._longest, lambda rows: score(rows, batch_size)
        )

    @property
    def _longest(self) -> int:
        return self.network.head.embeddings.config.max_position_embeddings

    def _masked_row(self, text: str) -> Row:
        parts = self.tokenizer.encode_lines(text.split(MASK))
        ids: list[int] = []
        for i, (start, end) in enumerate(
            zip(parts.row_splits[:-1], parts.row_splits[1:], strict=True)
        ):
            ids += [self.tokenizer.vocabulary.mask_id] * (i > 0)
            ids += parts.values[start:end].tolist()
        return make_row(ids, self.tokenizer)

    def _check_masks(self, text: str, positions: np.ndarray) -> None:
        if not len(positions):
            raise ValueError(f"There is no {MASK} to fill in the text {text!r:.100}.")
        if positions[-1] >= self._longest - 1:  # the last one is that of [SEP]
            raise ValueError(
                f"A {MASK} is token {positions[-1]} of the text; the model has {self._longest} "
                "positions. Give a shorter text, such as the sentence around it."
            )

    def _fill(self, top_k: int) -> Forward:
        # Only what has a piece: tables may be padded.
        pieces = len(self.tokenizer.vocabulary)

        def function(batch):
            probabilities = tf.nn.softmax(self._logits(batch)[:, :, :pieces])
            best, ids = tf.math.top_k(probabilities, top_k)
            return {"ids": ids, "probabilities": best}

        return self._fills.setdefault(top_k, Forward(function, self._encoders, ("positions",)))

    def _logits(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.network(
            batch["input_ids"],
            batch["input_mask"],
            batch["segment_ids"],
            positions=batch["positions"],
        )

    def _candidates(self, ids: np.ndarray, probabilities: np.ndarray) -> list[Candidate]:
        tokens = self.tokenizer.vocabulary.tokens
        return [
            Candidate(tokens[i], i, probability)
            for i, probability in zip(ids.tolist(), probabilities.tolist(), strict=True)
        ]

    def _hidden_token(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=batch["labels"], logits=self._logits(batch)
        )
        return {"scores": -losses}

    def _score_hidden(self, rows: Sequence[Row], batch_size: int) -> list[np.ndarray]:
        """Masks one token after the other; a text at a time, so that few copies exist at once."""
        mask_id, results = self.tokenizer.vocabulary.mask_id, []
        for row in rows:
            places = np.arange(1, len(row.input_ids) - 1, dtype=np.int32)
            hidden = [
                row._replace(input_ids=_with_mask(row.input_ids, i, mask_id))
                for i in places.tolist()
            ]
            extra = {"positions": places[:, np.newaxis], "labels": row.input_ids[1:-1, np.newaxis]}
            scores = np.zeros(len(places), np.float32)
            for numbers, values in self._hidden.batches(hidden, batch_size, extra):
                scores[numbers] = values["scores"][:, 0]
            results.append(scores)
        return results

    def _score_unseen(self, rows: Sequence[Row], batch_size: int) -> list[np.ndarray]:
        return self._unseen.of_tokens(rows, batch_size, "scores")


def _with_mask(ids: np.ndarray, place: int, mask_id: int) -> np.ndarray:
    masked = ids.copy()
    masked[place] = mask_id
    return masked
