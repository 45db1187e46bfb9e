"""Your own generator and discriminator, in your own training loop.

    python examples/bring_your_own_pair.py

Two convolutional Keras models learn from the docstrings of the installed packages by
replaced-token detection. What the discriminator learned shows beside an encoder of the same form
with random weights: only its last layer is trained, as long, on samples of the same generator.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from pair_text import PairText, load_text

from electra_tf2 import cli
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.replaced_token_detection import ReplacedTokenDetection

STEPS, BATCH_SIZE, LEARNING_RATE = 600, 32, 3e-3
REPORTS = 4


class Scores(NamedTuple):
    """Discriminator AUC on held-out text: .5 is guessing, 1 perfect.

    Attributes:
        trained: of the trained pair.
        random: of the frozen random encoder with a trained last layer.
    """

    trained: float
    random: float


def main(argv: list[str] | None = None) -> None:
    """Trains, compares, and prints both scores."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    parser.add_argument("--save", metavar="FILE.keras", help="where to keep the discriminator")
    flags = parser.parse_args(argv)
    if flags.steps < REPORTS:
        parser.error(f"--steps: {REPORTS} at least, received: {flags.steps}")
    if flags.save and not (flags.save.endswith(".keras") and Path(flags.save).parent.is_dir()):
        parser.error(f"--save: a name that ends in .keras, in a folder, received: {flags.save}")
    scores, discriminator = compare(load_text(), flags.steps)
    print(f"Held-out AUC of the discriminator   {scores.trained:.3f}")
    print(f"of a frozen random encoder          {scores.random:.3f}")
    if flags.save:
        discriminator.save(flags.save)


def compare(text: PairText, steps: int = STEPS) -> tuple[Scores, keras.Model]:
    """Trains a pair, and then a last layer on a random encoder.

    Returns:
        Both scores, and the trained discriminator.
    """
    keras.utils.set_random_seed(1)
    vocabulary = text.vocabulary
    masking = Masking(
        mask_id=vocabulary.mask_id,
        never_masked=(vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id),
        pad_id=vocabulary.pad_id,
        mask_prob=0.15,
    )
    generator, discriminator = build_pair(len(vocabulary))
    pair = ReplacedTokenDetection(generator, discriminator, masking)
    train(pair, text.train, steps)
    trained = held_out_auc(pair, text.held_out)

    _, control = build_pair(len(vocabulary))
    generator.trainable = False
    for layer in control.layers[:-1]:
        layer.trainable = False
    beside = ReplacedTokenDetection(generator, control, masking)
    train(beside, text.train, steps)
    return Scores(trained, held_out_auc(beside, text.held_out)), discriminator


def build_pair(vocab_size: int) -> tuple[keras.Model, keras.Model]:
    """A small generator and a larger discriminator over one embedding table."""
    embedding = keras.layers.Embedding(vocab_size, 64)

    def network(width: int, outputs: int, name: str) -> keras.Model:
        ids = keras.Input((None,), dtype="int32")
        x = embedding(ids)
        for _ in range(2):
            x = keras.layers.Conv1D(width, 3, padding="same", activation="gelu")(x)
            x = keras.layers.LayerNormalization()(x)
        return keras.Model(ids, keras.layers.Dense(outputs)(x), name=name)

    return network(32, vocab_size, "generator"), network(128, 1, "discriminator")


def train(objective: ReplacedTokenDetection, rows: np.ndarray, steps: int) -> None:
    """A training loop of one's own: forward, backward, update."""
    variables = objective.trainable_variables
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps))
    optimizer.build(variables)

    @tf.function
    def update(ids, step):
        with tf.GradientTape() as tape:
            result = objective(ids, step=step)
        optimizer.apply(tape.gradient(result.loss, variables), variables)
        return result

    batches = tf.data.Dataset.from_tensor_slices(rows).repeat().batch(BATCH_SIZE).take(steps)
    for step, ids in batches.enumerate():
        result = update(ids, step)
        if (step + 1) % (steps // REPORTS) == 0:
            print(
                f"step {step + 1}: generator loss {result.generator_loss:.2f}, discriminator loss "
                f"{result.discriminator_loss:.3f}, AUC {result.figures()['disc_auc']:.3f}"
            )


def held_out_auc(objective: ReplacedTokenDetection, rows: np.ndarray) -> float:
    """AUC over all rows, as if they were one batch."""
    score = tf.function(lambda ids, step: objective(ids, step=step, training=False).sums)
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(256).enumerate()
    auc_sums = sum(score(ids, step)["disc_auc"] for step, ids in batches)
    return objective.summarize({"disc_auc": auc_sums.numpy()})["disc_auc"]


if __name__ == "__main__":
    cli.run(main)
