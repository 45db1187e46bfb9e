"""What all uses of a trained model share: opening it, and running it over rows of any lengths."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.loading.source import Source, dtype_policy, open_source
from electra_tf2.text.rows import Row, check_texts, make_row
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.unknown import UNKNOWN_IN_CALL, warn_of_unknown
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.training.devices import Precision, make_strategy, set_arithmetic
from electra_tf2.training.predictor import (
    CPU_BATCHES_AT_ONCE,
    Graphs,
    constant_weights,
    held_constant,
    runs_on_one_cpu,
)

Batch = dict[str, tf.Tensor]
Function = Callable[[Batch], dict[str, tf.Tensor]]
Extra = Mapping[str, Sequence[np.ndarray]]


class Outputs(NamedTuple):
    """What a function gave for one batch.

    Attributes:
        rows: int [batch], which rows.
        values: output name -> array whose first axis is the row.
    """

    rows: np.ndarray
    values: dict[str, np.ndarray]


class Forward:
    """Runs a function over rows in batches of about the same length, compiled once for all lengths.

    Args:
        function: `input_ids`, `input_mask`, `segment_ids` (int32 [batch, length]) and `extra`
            (int32 [batch, n]) -> output name -> tensor whose first axis is the row.
        encoders: the encoders that it runs, whose weights no longer change.
        extra: names of more features, rows of whole numbers.
    """

    def __init__(
        self, function: Function, encoders: Sequence[keras.Model], extra: Sequence[str] = ()
    ):
        self._names = ("input_ids", "input_mask", "segment_ids", *extra)
        self._function = function
        self._encoders = encoders
        self._strategy = make_strategy("one_device")
        self._at_once = CPU_BATCHES_AT_ONCE if runs_on_one_cpu(self._strategy) else 1
        self._graphs = Graphs()

    def batches(
        self, rows: Sequence[Row], batch_size: int, extra: Extra | None = None
    ) -> Iterator[Outputs]:
        """Yields the outputs of all rows, the longest rows first.

        Args:
            rows: the rows.
            batch_size: how many of them to a batch.
            extra: feature name -> int32 [n] of each row; padded with 0.
        """
        lengths = np.array([len(row.input_ids) for row in rows], np.int64)
        order = np.argsort(-lengths, kind="stable")
        chosen = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        for first in range(0, len(chosen), self._at_once):
            together = chosen[first : first + self._at_once]
            batches = [_batch(rows, numbers, extra or {}) for numbers in together]
            key = len(batches), 1 if len(rows) == 1 else None
            call = self._graphs.get(key, functools.partial(self._compiled, *key), *batches)
            for numbers, values in zip(together, call(*batches), strict=True):
                yield Outputs(numbers, {name: value.numpy() for name, value in values.items()})

    def _compiled(self, count: int, size: int | None) -> Callable:
        """Returns the compiled function of so many batches, which run side by side.

        A batch has `size` rows, or any number; of a single text the network is faster if it knows.
        """
        constants = [
            pair for encoder in self._encoders for pair in constant_weights(self._strategy, encoder)
        ]

        def call(*batches):
            with held_constant(constants):
                return [self._function(batch) for batch in batches]

        spec = {name: tf.TensorSpec([size, None], tf.int32, name) for name in self._names}
        function = tf.function(call, input_signature=[spec] * count, autograph=False)
        return function.get_concrete_function()

    def of_tokens(self, rows: Sequence[Row], batch_size: int, name: str) -> list[np.ndarray]:
        """Returns an output [batch, length] at each row's tokens, but [CLS] and the last [SEP].

        Args:
            rows: the rows.
            batch_size: how many of them to a batch.
            name: of the output.
        """
        results: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
        for numbers, values in self.batches(rows, batch_size):
            for number, found in zip(numbers, values[name], strict=True):
                results[number] = found[1 : len(rows[number].input_ids) - 1]
        return results


def _batch(rows: Sequence[Row], numbers: np.ndarray, extra: Extra) -> Batch:
    chosen = [rows[i] for i in numbers]
    batch = {
        "input_ids": _padded([row.input_ids for row in chosen]),
        "input_mask": _padded([np.ones_like(row.input_ids) for row in chosen]),
        "segment_ids": _padded([row.segment_ids for row in chosen]),
    }
    for name, values in extra.items():
        batch[name] = _padded([values[i] for i in numbers])
    return {name: tf.constant(value) for name, value in batch.items()}


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for i, row in enumerate(rows):
        result[i, : len(row)] = row
    return result


class FromPretrained:
    """Base of `Encoder`, `Discriminator` and `Generator`."""

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        vocab_file: str | os.PathLike[str] | None = None,
        do_lower_case: bool | None = None,
        strip_accents: bool | None = None,
        precision: Precision = "float32",
        model_hparam_overrides: Mapping[str, Any] | None = None,
    ) -> Self:
        """Opens a model.

        Args:
            path: a model folder of this program (pre-trained or fine-tuned), one of its folders
                step-…, or a folder of another format that `open_pretrained` reads.
            vocab_file: the vocabulary; None: the one beside the model.
            do_lower_case: whether text is lower-cased, for a model that nothing beside it says it
                of, like an official checkpoint; None: it is.
            strip_accents: likewise, whether accents are removed where text is lower-cased.
            precision: in which the network computes.
            model_hparam_overrides: fields of `TransformerConfig` that nothing beside the weights
                states, such as `num_attention_heads` for an official checkpoint.

        Raises:
            UserError: there is no model, it can't be read, parts of it are missing, or it was
                trained with another casing.
            ValueError: there is no such precision or field of `TransformerConfig`.
        """
        source = open_source(
            path,
            vocab_file=vocab_file,
            do_lower_case=do_lower_case,
            strip_accents=strip_accents,
            model_hparam_overrides=model_hparam_overrides,
        )
        policy = dtype_policy(precision)
        if precision in ("float32", "tf32"):
            set_arithmetic(precision)
        return cls.from_source(source, policy)

    @classmethod
    def from_source(cls, source: Source, dtype: str) -> Self:
        """Builds the networks of an opened model.

        Args:
            source: the model.
            dtype: Keras dtype policy.

        Raises:
            UserError: the model lacks them.
        """
        raise NotImplementedError


class TextScore(NamedTuple):
    """How likely a model finds a text.

    Attributes:
        score: the pseudo-log-likelihood in nats, the sum of `token_scores`.
        tokens: the text's tokens, without special ones.
        token_scores: float32 [tokens], the log-probability of each token given all others.
    """

    score: float
    tokens: list[str]
    token_scores: np.ndarray


def score_texts(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    longest: int,
    score: Callable[[Sequence[Row]], Iterable[np.ndarray]],
) -> list[TextScore]:
    """Scores whole texts: what is cut off would be missing from the score.

    Args:
        texts: the texts.
        tokenizer: text -> ids.
        longest: rows of the network's position table.
        score: rows -> the scores of each one's tokens, special ones left out.

    Raises:
        TypeError: something that was given is not a text.
        ValueError: a text is longer; names its place.
    """
    vocabulary = tokenizer.vocabulary
    rows = [make_row(ids, tokenizer) for ids in tokenizer.encode_lines(check_texts(texts)).rows()]
    for number, row in enumerate(rows):
        if len(row.input_ids) > longest:
            raise ValueError(
                f"texts[{number}] is too long to be scored as a whole: {len(row.input_ids)} "
                f"tokens, and the model has {longest} positions. Cut it into sentences."
            )
    warn_of_unknown_rows(rows, vocabulary)
    tokens = [[vocabulary.tokens[i] for i in row.input_ids[1:-1].tolist()] for row in rows]
    return [
        TextScore(float(np.sum(found, dtype=np.float64)), own, found)
        for own, found in zip(tokens, score(rows), strict=True)
    ]


def warn_of_unknown_rows(rows: Sequence[Row], vocabulary: Vocabulary) -> None:
    """Logs a warning where a large share of the tokens of texts is [UNK]."""
    if rows:
        ids = np.concatenate([row.input_ids for row in rows])
        warn_of_unknown(f"{len(rows)} texts", ids, vocabulary, UNKNOWN_IN_CALL)
