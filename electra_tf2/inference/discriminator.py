"""Which tokens of a text look replaced, and, with Electric, how likely a text is."""

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
from electra_tf2.loading.networks import Noise, build_discriminator, log_noise, open_noise
from electra_tf2.loading.source import Source
from electra_tf2.modeling.electra import Discriminator as DiscriminatorNetwork
from electra_tf2.text.offsets import Piece, tokenize_with_offsets
from electra_tf2.text.rows import Row, check_positive, check_texts, make_row, resolve_length
from electra_tf2.text.tokenizer import Tokenizer


class Detection(NamedTuple):
    """What the discriminator says of a text.

    Attributes:
        tokens: the text's tokens, without special ones.
        probabilities: float32 [tokens], that the token was replaced.
        offsets: start and end of each token in the text, in characters.
    """

    tokens: list[str]
    probabilities: np.ndarray
    offsets: list[tuple[int, int]]


class Discriminator(FromPretrained):
    """The network that tells original tokens from replaced ones.

    Args:
        network: the discriminator. Its weights should be final: a CPU's graphs hold those of the
            first call.
        tokenizer: text -> ids.
        noise: of a model trained with Electric's objective; None for ELECTRA's.

    Example:
        discriminator = Discriminator.from_pretrained("data/models/my_electra")
        (detection,) = discriminator.detect(["the chef ate the meal"])
        for token, probability in zip(detection.tokens, detection.probabilities): …
    """

    def __init__(
        self, network: DiscriminatorNetwork, tokenizer: Tokenizer, noise: Noise | None = None
    ):
        self.network = network
        self.tokenizer = tokenizer
        self.noise = noise
        encoders = [network.encoder]
        self._detect = Forward(self._probabilities, encoders)
        self._scores = Forward(lambda batch: {"scores": -self._logits(batch)}, encoders)

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Discriminator:
        """See `FromPretrained.from_source`."""
        network = build_discriminator(source, dtype)
        noise = open_noise(source, dtype, network.encoder)
        return cls(network, source.tokenizer, noise)

    def detect(
        self, texts: Sequence[str], *, batch_size: int = 32, max_length: int | None = None
    ) -> list[Detection]:
        """Judges every token of some texts.

        Args:
            texts: texts.
            batch_size: texts to a batch.
            max_length: longest sequence in tokens, special ones included; what lies beyond is not
                judged. None: as long as the network allows.

        Returns:
            A detection for each text.

        Raises:
            TypeError: something that was given is not a text.
            ValueError: an argument is out of range.
        """
        check_positive("batch_size", batch_size)
        room = resolve_length(max_length, self._longest) - 2
        found = [tokenize_with_offsets(text, self.tokenizer) for text in check_texts(texts)]
        cut = sum(len(pieces) > room for pieces in found)
        if cut:
            logging.warning("%d of %d texts are judged up to token %d.", cut, len(found), room)
        kept = [pieces[:room] for pieces in found]
        rows = [self._row(pieces) for pieces in kept]
        warn_of_unknown_rows(rows, self.tokenizer.vocabulary)
        probabilities = self._detect.of_tokens(rows, batch_size, "probabilities")
        return [
            Detection(self._tokens(pieces), values, [(p.start, p.end) for p in pieces])
            for pieces, values in zip(kept, probabilities, strict=True)
        ]

    def score(self, texts: Sequence[str], *, batch_size: int = 32) -> list[TextScore]:
        """Computes Electric's pseudo-log-likelihood of texts, in one pass each.

        Electric (Clark et al., EMNLP 2020) gives every token an energy E, and its probability given
        the others is exp(-E) / Z with a Z that noise-contrastive training drives to 1. The scores
        are the negative energies: comparable between texts, but not exactly normalized.

        Args:
            texts: texts.
            batch_size: texts to a batch.

        Returns:
            A score for each text; of an empty one 0.

        Raises:
            TypeError: something that was given is not a text.
            ValueError: the model was not trained with Electric's objective, or a text is too long.
        """
        if self.noise is None:
            raise ValueError(
                "The discriminator gives no likelihoods: it was not trained with "
                "electric_objective. Use Generator.score."
            )
        check_positive("batch_size", batch_size)
        return score_texts(
            texts,
            self.tokenizer,
            self._longest,
            lambda rows: self._scores.of_tokens(rows, batch_size, "scores"),
        )

    @property
    def _longest(self) -> int:
        return self.network.encoder.config.max_position_embeddings

    def _row(self, pieces: Sequence[Piece]) -> Row:
        return make_row([piece.id for piece in pieces], self.tokenizer)

    def _tokens(self, pieces: Sequence[Piece]) -> list[str]:
        return [self.tokenizer.vocabulary.tokens[piece.id] for piece in pieces]

    def _logits(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.network(batch["input_ids"], batch["input_mask"], batch["segment_ids"])

    def _probabilities(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self._logits(batch)
        if self.noise is not None:
            logits += log_noise(self.noise, batch)
        return {"probabilities": tf.sigmoid(logits)}
