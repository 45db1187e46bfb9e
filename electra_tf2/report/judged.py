"""Both networks at work on some examples: what is masked, sampled, and taken for a replacement."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.input import open_training_files
from electra_tf2.errors import UserError, first_of
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import describe_parameters
from electra_tf2.pretraining.batch import MaskedInputs
from electra_tf2.pretraining.objective import PretrainingObjective
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.randomness import StepRandomness
from electra_tf2.text.normalization import Casing, is_ideograph
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.training.checkpoints import CheckpointStore

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Examples to choose from, at most: the first ones of the records.
_BATCH, _MOST_BATCHES = 64, 64


class Judged(NamedTuple):
    """What the networks make of some examples.

    Attributes:
        tokens: the vocabulary's.
        original_ids: int32 [examples, length], the text.
        masked: bool [examples, length], what the generator did not see.
        shown_ids: int32 [examples, length], with the generator's samples (the likeliest tokens of a
            masked LM) in place of what is masked.
        p_shown, p_original: float32 [examples, length], the generator's probability of either, 0
            where nothing is masked.
        p_replaced: float32 [examples, length], the discriminator's opinion; None without one.
        parameters: of the networks, in words.
    """

    tokens: Sequence[str]
    original_ids: np.ndarray
    masked: np.ndarray
    shown_ids: np.ndarray
    p_shown: np.ndarray
    p_original: np.ndarray
    p_replaced: np.ndarray | None
    parameters: str


def judge(
    config: PretrainingConfig,
    network: TransformerConfig,
    vocabulary: Vocabulary,
    patterns: str,
    *,
    examples: int,
    casing: Casing,
) -> Judged:
    """Masks, replaces and judges some examples with the newest checkpoint.

    Args:
        config: the configuration that the model was trained with, or a phase's.
        network: the discriminator's sizes.
        patterns: of the records, see `open_training_files`.
        examples: how many; they are taken evenly from those that read most like prose.

    Raises:
        UserError: the records or the weights can't be read, or are not of this configuration.
    """
    batch = _prose(config, vocabulary, casing, patterns, examples)
    objective, pair = build_pretraining(config, network, vocabulary)
    _load(objective, config.model_dir)
    zero = tf.constant(0, tf.int64)
    randomness = StepRandomness(seed=config.seed, step=zero, first_row=zero, stream=zero)
    prepared, _ = objective.prepare(batch, randomness)
    output = objective.forward(prepared, randomness, training=False)
    original, slots = batch["input_ids"].numpy(), prepared.masked
    if hasattr(output, "disc_logits"):
        shown, replaced = output.corrupted_ids.numpy(), tf.sigmoid(output.disc_logits).numpy()
    else:
        shown, replaced = original.copy(), None
        _put(shown, slots, output.mlm_predictions.numpy())
    masked = np.zeros(original.shape, bool)
    _put(masked, slots, np.ones(slots.positions.numpy().shape, bool))
    likelihood = functools.partial(_likelihood, slots, tf.nn.softmax(output.mlm_logits).numpy())
    return Judged(
        tokens=vocabulary.tokens,
        original_ids=original,
        masked=masked,
        shown_ids=shown,
        p_shown=likelihood(shown),
        p_original=likelihood(original),
        p_replaced=replaced,
        parameters=describe_parameters(pair, config.train_generator),
    )


def _likelihood(masked: MaskedInputs, probabilities: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The generator's probability of each of the ids, 0 where nothing is masked."""
    at_slots = np.take_along_axis(ids, masked.positions.numpy(), axis=1)[:, :, np.newaxis]
    found = np.zeros(ids.shape, np.float32)
    _put(found, masked, np.take_along_axis(probabilities, at_slots, axis=2)[:, :, 0])
    return found


def _put(values: np.ndarray, masked: MaskedInputs, at_slots: np.ndarray) -> None:
    """Writes the values of mask slots that are in use to their positions."""
    rows, slots = np.nonzero(masked.weights.numpy() > 0)
    values[rows, masked.positions.numpy()[rows, slots]] = at_slots[rows, slots]


def _load(objective: PretrainingObjective, model_dir: str) -> None:
    store = CheckpointStore(model_dir)
    newest = store.latest()
    assert newest is not None  # the caller has its step
    weights = store.load(newest, with_optimizer=False).weights
    variables = {**objective.named_variables(), **objective.named_constants()}
    wrong = [n for n, v in variables.items() if n not in weights or weights[n].shape != v.shape]
    if wrong:
        raise UserError(
            "The weights are not those of the stored configuration.",
            where=newest,
            received=f"missing, or of another shape: {first_of(wrong)}",
            remedy="Restore the config.json that was written with them.",
        )
    for name, variable in variables.items():
        variable.assign(weights[name])


def _prose(
    config: PretrainingConfig,
    vocabulary: Vocabulary,
    casing: Casing,
    patterns: str,
    examples: int,
) -> dict[str, tf.Tensor]:
    """Rows of the records that are mostly words, evenly spaced over all such rows."""
    files = open_training_files(
        patterns,
        segmentation=config.segmentation,
        max_seq_length=config.max_seq_length,
        vocabulary=vocabulary,
        casing=casing,
    )
    dataset = files.evaluation_dataset(
        max_seq_length=config.max_seq_length,
        global_batch_size=_BATCH,
        max_batches=_MOST_BATCHES,
    )
    batches = list(dataset.as_numpy_iterator())
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    there = rows["input_mask"].any(axis=1)  # the last batch is filled up with empty rows
    rows = {name: values[there] for name, values in rows.items()}
    is_word = np.array([*map(reads_as_word, vocabulary.tokens)])
    share_of_words = (is_word[rows["input_ids"]] * rows["input_mask"]).mean(axis=1)
    best = np.argsort(-share_of_words, kind="stable")[: max(examples, len(share_of_words) // 20)]
    places = np.linspace(0, len(best) - 1, min(examples, len(best))).astype(int)
    chosen = np.sort(best)[places]
    return {name: tf.constant(values[chosen]) for name, values in rows.items()}


def reads_as_word(token: str) -> bool:
    """Whether a token is an ideograph, or two letters or more with their marks, in any script."""
    if len(token) == 1:
        return is_ideograph(token)
    return bool(token) and all(unicodedata.category(char)[0] in "LM" for char in token)
