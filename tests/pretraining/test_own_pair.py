"""A pair of ordinary Keras models, with Keras Dropout and a shared layer, trains by the engine."""

import keras
import numpy as np
import pytest

from electra_tf2.pretraining.replaced_token_detection import ReplacedTokenDetection
from tests.pretraining.batches import masking
from tests.pretraining.networks import (
    VOCAB,
    Engine,
    convolution_discriminator,
    embedding_layer,
    unigram_generator,
)

N_STEPS = 150


@pytest.fixture(scope="module")
def run():
    """The engine, its state before the first step and in the middle, and figures by step."""
    keras.utils.set_random_seed(0)
    embedding = embedding_layer()
    generator = unigram_generator(embedding)
    discriminator = convolution_discriminator(embedding)
    objective = ReplacedTokenDetection(generator, discriminator, masking(2))
    engine = Engine(objective, N_STEPS)
    states, figures, step = {0: engine.state()}, {}, 0
    for n in (10, 10, N_STEPS - 30, 10):
        figures[step] = engine.run(step, n)
        step += n
        states[step] = engine.state()
    return engine, states, figures


def test_the_discriminator_learns(run):
    _, _, figures = run
    first, last = figures[0], figures[N_STEPS - 10]
    assert first["disc_auc"] < 0.65
    assert last["disc_auc"] > 0.9
    assert last["disc_auc"] - first["disc_auc"] > 0.3
    assert last["discriminator_loss"] < 0.5 * first["discriminator_loss"]
    assert last["disc_recall"] > 0.6
    # The generator sees the masked position only: it learns the ten tokens, and no more.
    assert first["generator_loss"] == pytest.approx(np.log(VOCAB), abs=0.3)
    assert last["generator_loss"] == pytest.approx(np.log(10) * 0.85, abs=0.35)


def test_all_variables_move(run):
    engine, states, _ = run
    for name, value in states[0][0].items():
        assert np.abs(states[N_STEPS][0][name] - value).max() > 1e-3, name


def test_a_shared_layer_is_trained_once(run):
    engine, _, _ = run
    tables = [name for name in engine.optimizer.variables.names if "embeddings" in name]
    assert len(tables) == 1
    assert engine.objective.generator.model.embedding is (
        engine.objective.discriminator.model.get_layer("tokens")
    )


def test_a_resumed_run_is_equal_bit_for_bit(run):
    """Although Keras Dropout has state of its own, and other steps were run in between."""
    engine, states, figures = run
    engine.restore(states[10])
    again = engine.run(10, 10)
    assert again == figures[10]
    for one, other in zip(engine.state(), states[20], strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_another_step_draws_other_numbers(run):
    """Masks, samples and dropout: the same rows and weights give another loss."""
    engine, states, _ = run
    rows = {name: np.copy(a) for name, a in engine.rows.items()}
    losses = []
    try:
        for array in engine.rows.values():
            array[20] = array[0]
        for step in (0, 20, 0):
            engine.restore(states[0])
            losses.append(engine.run(step, 1)["loss"])
    finally:
        engine.rows.update(rows)
    assert losses[0] == losses[2] != losses[1]
