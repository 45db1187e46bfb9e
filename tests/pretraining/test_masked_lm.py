"""Masked language modelling without a discriminator."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.pretraining.objective import MaskedLM
from tests.pretraining.batches import masking, randomness, sequences

VOCAB, LENGTH = 40, 12
INPUTS = sequences([LENGTH, 8, 2], LENGTH, vocab_size=VOCAB)
CONFIG = TransformerConfig(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    embedding_size=16,
    max_position_embeddings=LENGTH,
)


@pytest.fixture(scope="module")
def task():
    keras.utils.set_random_seed(0)
    generator = build_pair(CONFIG, with_discriminator=False).generator
    return MaskedLM(generator, masking(3, mask_prob=0.25), gen_weight=2.0)


def test_loss_and_figures(task):
    prepared, denominators = task.prepare(INPUTS._asdict(), randomness())
    weights, ids = prepared.masked.weights.numpy(), prepared.masked.ids.numpy()
    assert float(denominators["generator_loss"]) == weights.sum() == 5
    output = task.forward(prepared, None, training=False)
    model, positions = task.generator.model, prepared.masked.positions
    logits = model(prepared.masked.input_ids, *INPUTS[1:], positions=positions).numpy()
    np.testing.assert_allclose(output.mlm_logits, logits, atol=1e-6)
    log_probs = scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    nll = -np.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]
    numerators, sums = task.contribution(prepared, output)
    assert numerators.keys() == task.loss_weights.keys() == {"generator_loss"}
    assert task.loss_weights["generator_loss"] == 2.0
    assert float(numerators["generator_loss"]) == pytest.approx((nll * weights).sum(), rel=1e-5)
    figures = task.summarize({name: value.numpy() for name, value in sums.items()})
    hits = (logits.argmax(-1) == ids)[weights > 0].mean()
    assert figures["masked_lm_accuracy"] == pytest.approx(hits)
    assert figures["masked_lm_loss"] == pytest.approx((nll * weights).sum() / 5, rel=1e-5)
    assert figures["masked_lm_loss"] == pytest.approx(np.log(VOCAB), rel=0.05)


def test_dropout_in_training_only(task):
    prepared, _ = task.prepare(INPUTS._asdict(), randomness())
    run = lambda training, step: task.forward(prepared, randomness(step=step), training).mlm_nll  # noqa: E731
    np.testing.assert_array_equal(run(False, 1), run(False, 2))
    np.testing.assert_array_equal(run(True, 1), run(True, 1))
    assert np.abs(run(True, 1) - run(True, 2)).max() > 1e-4
    assert np.abs(run(True, 1) - run(False, 1)).max() > 1e-4


def test_all_variables_are_trained(task):
    named = task.named_variables()
    assert {name.split("/")[0] for name in named} == {"electra", "generator_predictions"}
    prepared, _ = task.prepare(INPUTS._asdict(), randomness())
    variables = [v.value for v in named.values()]
    with tf.GradientTape() as tape:
        numerators, _ = task.compute(prepared, randomness(), training=True)
    gradients = tape.gradient(numerators["generator_loss"], variables)
    for name, gradient in zip(named, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, name
