"""The objective alone, in a training loop of the user's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.batch import DetectionResult
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from tests.pretraining.batches import CLS, MASK, SEP, sequences
from tests.pretraining.networks import (
    LENGTH,
    VOCAB,
    convolution_discriminator,
    counting_rows,
    embedding_layer,
    unigram_generator,
)

N_STEPS = 120
INPUTS = sequences([LENGTH, 7, 9], LENGTH, vocab_size=VOCAB)


def masking(**options):
    return Masking(MASK, (CLS, SEP, MASK), **options)


def objective(**options):
    keras.utils.set_random_seed(0)
    embedding = embedding_layer()
    pair = unigram_generator(embedding), convolution_discriminator(embedding)
    return ReplacedTokenDetection(*pair, masking(), Options(**options))


@pytest.fixture(scope="module")
def task():
    return objective(gen_weight=2.0, disc_weight=30.0)


def test_the_parts_of_a_result_fit_together(task):
    result = task(INPUTS._asdict(), step=1, training=False)
    total = 2 * result.generator_loss + 30 * result.discriminator_loss
    assert float(result.loss) == pytest.approx(float(total), rel=1e-6)
    ids, mask = INPUTS.input_ids.numpy(), INPUTS.input_mask.numpy()
    corrupted, labels = result.corrupted_ids.numpy(), result.labels.numpy()
    np.testing.assert_array_equal(labels, corrupted != ids)
    used, positions = result.weights.numpy() > 0, result.positions.numpy()
    assert used.any(axis=1).all() and labels.any()
    for row in range(len(ids)):
        at = positions[row][used[row]]
        np.testing.assert_array_equal(corrupted[row, at], result.sampled_ids[row][used[row]])
        assert set(np.nonzero(result.masked_ids[row] != ids[row])[0]) <= set(at)
    best = result.generator_logits.numpy().argmax(-1)
    originals = np.take_along_axis(ids, positions, axis=1)
    assert float(result.masked_lm_accuracy) == pytest.approx((best == originals)[used].mean())
    logits = result.discriminator_logits.numpy()
    np.testing.assert_array_equal(result.predictions, (logits > 0) & (mask > 0))
    right = ((logits > 0) == (labels > 0))[mask > 0].mean()
    assert float(result.disc_accuracy) == pytest.approx(right)
    bce = np.logaddexp(0, np.where(labels > 0, -1, 1) * logits)[mask > 0].mean()
    assert float(result.discriminator_loss) == pytest.approx(bce, rel=1e-5)
    np.testing.assert_array_equal(result.input_mask, mask)
    figures = result.figures()
    assert figures["disc_accuracy"] == pytest.approx(float(result.disc_accuracy))
    pairs = logits[(labels == 1) & (mask > 0)][:, None] - logits[(labels == 0) & (mask > 0)]
    assert figures["disc_auc"] == pytest.approx((pairs > 0).mean(), abs=0.02)


def test_the_same_seed_and_step_draw_the_same(task):
    def draws(**kwargs):
        result = task(INPUTS.input_ids, **kwargs)
        return [result.positions, result.sampled_ids, result.discriminator_logits]

    first = draws(step=3)
    for ours, theirs in zip(draws(step=3, seed=0), first, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for other in (draws(step=4), draws(step=3, seed=1)):
        assert all((a.numpy() != b.numpy()).any() for a, b in zip(other, first, strict=True))
    no_dropout = draws(step=3, training=False)
    np.testing.assert_array_equal(no_dropout[0], first[0])
    assert (no_dropout[2].numpy() != first[2].numpy()).any()


def test_a_graph_gives_what_eager_execution_gives(task):
    compiled = tf.function(lambda ids, step: task(ids, step=step), autograph=False)
    found = compiled(INPUTS.input_ids, tf.constant(5))
    assert isinstance(found, DetectionResult)
    expected = task(INPUTS.input_ids, step=5)
    for name in ("positions", "sampled_ids", "corrupted_ids", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-5)


def test_without_a_discriminator_loss_its_figures_are_there_all_the_same():
    result = objective(disc_weight=0.0)(INPUTS.input_ids, step=0)
    assert float(result.loss) == pytest.approx(float(result.generator_loss))
    assert 0 < float(result.disc_accuracy) < 1


def test_a_loop_with_a_gradient_tape_learns():
    """The losses go down, and the shared table is moved by both."""
    task = objective()
    variables = task.trainable_variables
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def update(ids, step):
        with tf.GradientTape() as tape:
            result = task(ids, step=step)
        optimizer.apply(tape.gradient(result.loss, variables), variables)
        return result.loss, result.sums

    rows = counting_rows(N_STEPS)["input_ids"]
    aucs, losses = [], []
    for step, ids in enumerate(rows):
        loss, sums = update(tf.constant(ids), tf.constant(step))
        losses.append(float(loss))
        aucs.append(task.summarize({"auc": sums["disc_auc"].numpy()})["auc"])
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert np.mean(aucs[-10:]) > np.mean(aucs[:10]) + 0.2 > 0.6


def test_ids_outside_of_the_vocabulary_are_refused():
    embedding = keras.layers.Embedding(VOCAB + 9, 8)  # as if the tables alone were larger
    ids = keras.Input((LENGTH,), dtype="int32")
    generator = keras.Model(ids, keras.layers.Dense(VOCAB)(embedding(ids)))
    discriminator = keras.Model(ids, keras.layers.Dense(1)(embedding(ids)))
    task = ReplacedTokenDetection(generator, discriminator, masking())
    wrong = INPUTS.input_ids.numpy()
    wrong[1, 2] = VOCAB + 3
    for number in (VOCAB + 3, -1):
        wrong[1, 2] = number
        with pytest.raises(UserError, match="not in the generator's vocabulary") as error:
            task(wrong, step=0)
        assert error.value.received.startswith(f"{number}; ")
        assert str(VOCAB) in error.value.received


def test_a_generator_of_another_vocabulary_is_refused(task):
    models = task.generator.model, task.discriminator.model
    larger = ReplacedTokenDetection(*models, masking(vocab_size=VOCAB + 1))
    with pytest.raises(UserError, match="vocabulary has another size") as error:
        larger(INPUTS.input_ids, step=0)
    assert f"(3, 2, {VOCAB})" in error.value.received
    assert "UnigramGenerator.call" in error.value.where and "'generator'" in error.value.where


def test_a_mask_token_outside_of_the_vocabulary_is_refused(task):
    discriminator = task.discriminator.model
    generator = keras.Sequential([keras.layers.Embedding(VOCAB, VOCAB)])
    generator.build((None, LENGTH))
    with pytest.raises(UserError, match="special token") as error:
        ReplacedTokenDetection(generator, discriminator, Masking(mask_id=VOCAB))
    assert error.value.received == f"id {VOCAB}, for a vocabulary of {VOCAB}"
