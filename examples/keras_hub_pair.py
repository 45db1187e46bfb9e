"""A KerasHub backbone as the discriminator, trained by `compile` and `fit`.

    pip install 'electra-tf2[keras-hub]'
    python examples/keras_hub_pair.py

The backbone, a tiny RoFormer, has random weights: nothing is downloaded. It is taken as it is; the
discriminator's states are the output of one of its layers, chosen by name. Samples are drawn at a
temperature of 2, which makes them easier to tell from the text: there is something to learn within
a minute. What it learned from the docstrings of the installed packages shows beside the same
backbone with frozen random weights, under a last layer that is trained as long, on samples of the
same generator.
"""

from __future__ import annotations

import keras
import keras_hub
import tensorflow as tf
from bring_your_own_pair import Scores
from pair_text import PairText, load_text

from electra_tf2 import cli
from electra_tf2.pretraining.fit import PretrainingModel
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.replaced_token_detection import Options

STEPS, BATCH_SIZE, LEARNING_RATE = 600, 32, 8e-3
WARMUP_SHARE = 10  # one step in so many
STATES = "transformer_layer_1"


def main(argv: list[str] | None = None) -> None:
    """Trains, compares, and prints both scores."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    flags = parser.parse_args(argv)
    if flags.steps < WARMUP_SHARE:
        parser.error(f"--steps: {WARMUP_SHARE} at least, received: {flags.steps}")
    scores = compare(load_text(), flags.steps)
    print(f"Held-out AUC of the backbone        {scores.trained:.3f}")
    print(f"of the same with random weights     {scores.random:.3f}")


def compare(text: PairText, steps: int = STEPS) -> Scores:
    """Trains a pair, and then a last layer on a random backbone."""
    keras.utils.set_random_seed(1)
    generator = build_generator(len(text.vocabulary))
    trained = fit(generator, build_backbone(len(text.vocabulary)), text, steps)

    control = build_backbone(len(text.vocabulary))
    control.trainable = generator.trainable = False
    return Scores(trained, fit(generator, control, text, steps))


def build_backbone(vocab_size: int) -> keras.Model:
    """Two layers; their initial weights are four times those meant for wide networks."""
    backbone = keras_hub.models.RoformerV2Backbone(
        vocabulary_size=vocab_size,
        num_layers=2,
        num_heads=8,
        head_size=8,
        hidden_dim=64,
        intermediate_dim=128,
        dropout=0.0,
    )
    for variable in backbone.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(4.0 * variable)
    return backbone


def build_generator(vocab_size: int) -> keras.Model:
    """A narrow convolution that guesses a token from its neighbours."""
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(vocab_size, 32)(ids)
    x = keras.layers.Conv1D(16, 3, padding="same", activation="gelu")(x)
    x = keras.layers.LayerNormalization()(x)
    return keras.Model(ids, keras.layers.Dense(vocab_size)(x), name="generator")


def fit(generator: keras.Model, backbone: keras.Model, text: PairText, steps: int) -> float:
    """Trains what is trainable; returns the held-out AUC."""
    vocabulary = text.vocabulary
    masking = Masking(
        mask_id=vocabulary.mask_id,
        never_masked=(vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id),
        pad_id=vocabulary.pad_id,
    )
    options = Options(temperature=2.0)
    model = PretrainingModel(generator, backbone, masking, options, discriminator_layer=STATES)
    warmup_steps = steps // WARMUP_SHARE
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=LEARNING_RATE, warmup_steps=warmup_steps
    )
    model.compile(keras.optimizers.Adam(rate))
    batches = tf.data.Dataset.from_tensor_slices(text.train).repeat().batch(BATCH_SIZE)
    model.fit(batches, steps_per_epoch=steps // 4, epochs=4, shuffle=False, verbose=2)
    scores = model.evaluate(text.held_out, batch_size=256, verbose=0, return_dict=True)
    return scores["disc_auc"]


if __name__ == "__main__":
    cli.run(main)
