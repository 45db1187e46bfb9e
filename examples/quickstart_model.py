"""The model that the quickstart trained, looking at held-out examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.data.input import open_training_files
from electra_tf2.pretraining.build_pretraining import build_pretraining
from electra_tf2.randomness import StepRandomness
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore

# original ids, ids after replacement (int [L]) and the discriminator's probabilities (float [L])
Row = tuple[np.ndarray, np.ndarray, np.ndarray]


def detect(config: PretrainingConfig, examples: int) -> tuple[Sequence[str], list[Row]]:
    """Masks, replaces and judges some held-out examples with the newest checkpoint.

    Args:
        config: the configuration the model was trained with.
        examples: how many; they are taken evenly from those that read like prose.

    Returns:
        The vocabulary's tokens, and a row for each example.
    """
    vocabulary = load_vocabulary(config.vocab_file)
    objective = build_pretraining(config, config.network(), vocabulary).objective
    store = CheckpointStore(config.model_dir)
    weights = store.load(store.latest()).weights
    for name, variable in objective.named_variables().items():
        variable.assign(weights[name])

    batch = _prose(config, vocabulary, examples)
    randomness = StepRandomness(
        seed=config.seed,
        step=tf.constant(0, tf.int64),
        first_row=tf.constant(0, tf.int64),
        stream=tf.constant(0, tf.int64),
    )
    prepared, _ = objective.prepare(batch, randomness)
    output = objective.forward(prepared, randomness, training=False)
    probabilities = tf.sigmoid(output.disc_logits).numpy()
    originals, shown = batch["input_ids"].numpy(), output.corrupted_ids.numpy()
    return vocabulary.tokens, list(zip(originals, shown, probabilities, strict=True))


def _prose(
    config: PretrainingConfig, vocabulary: Vocabulary, examples: int
) -> dict[str, tf.Tensor]:
    """Rows of the held-out records that are mostly words, evenly spaced over all such rows."""
    files = open_training_files(
        config.eval_tfrecords,
        segmentation="static",
        max_seq_length=config.max_seq_length,
        vocabulary=vocabulary,
        casing=Casing.from_hparams(config),
    )
    dataset = files.evaluation_dataset(
        max_seq_length=config.max_seq_length,
        global_batch_size=64,
        max_batches=None,
    )
    batches = list(dataset.as_numpy_iterator())
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    is_word = np.array([len(t) > 1 and t.isalpha() for t in vocabulary.tokens])
    share_of_words = (is_word[rows["input_ids"]] * rows["input_mask"]).mean(axis=1)
    best = np.argsort(-share_of_words, kind="stable")[: max(examples, len(share_of_words) // 20)]
    chosen = np.sort(best)[np.linspace(0, len(best) - 1, examples).astype(int)]
    return {name: tf.constant(values[chosen]) for name, values in rows.items()}
