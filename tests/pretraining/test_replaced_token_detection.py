"""Every switch of the replaced-token objective."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from electra_tf2.modeling import layers
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.pretraining.batch import MaskedInputs
from electra_tf2.pretraining.objective import Prepared
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.randomness import DISCRIMINATOR_SITES, random_words
from tests.pretraining.batches import CLS, MASK, SEP, masking, randomness, sequences

VOCAB, LENGTH, SLOTS = 60, 16, 5
INPUTS = sequences([LENGTH, 10, LENGTH, 7], LENGTH, vocab_size=VOCAB)
MASKING = masking(SLOTS, mask_prob=0.3)
CANDIDATES = np.isin(INPUTS.input_ids, [0, CLS, SEP, MASK], invert=True)


class TableGenerator(keras.Model):
    """Logits by the token that it sees; keeps its arguments.

    Args:
        table: [VOCAB, VOCAB], a row of logits for every input token.
    """

    def __init__(self, table=None):
        super().__init__(name="generator")
        table = np.random.default_rng(1).normal(size=(VOCAB, VOCAB)) if table is None else table
        self.table = self.add_weight(shape=(VOCAB, VOCAB), name="table")
        self.table.assign(table)
        self.built = True

    def call(self, input_ids, positions=None, training=False, seed=None):
        self.seen = {"input_ids": input_ids, "positions": positions, "seed": seed}
        logits = tf.gather(self.table.value, input_ids)
        return logits if positions is None else tf.gather(logits, positions, batch_dims=1)


class TableDiscriminator(keras.Model):
    """One logit for every token id; keeps its arguments."""

    def __init__(self):
        super().__init__(name="discriminator")
        self.table = self.add_weight(shape=(VOCAB,), name="table")
        self.table.assign(np.random.default_rng(2).normal(size=VOCAB))
        self.built = True

    def call(self, input_ids, input_mask, segment_ids, training=False, seed=None):
        self.seen = {"input_ids": input_ids, "mask": input_mask, "segments": segment_ids}
        self.seen["seed"] = seed
        return tf.gather(self.table.value, input_ids)


def objective(table=None, generator=None, masking=MASKING, **options):
    generator = TableGenerator(table) if generator is None else generator
    return ReplacedTokenDetection(generator, TableDiscriminator(), masking, Options(**options))


def prepare(objective, inputs=INPUTS, **kwargs):
    return objective.prepare(inputs._asdict(), randomness(**kwargs))


def forward(objective, inputs=INPUTS, training=False, **kwargs):
    prepared, _ = prepare(objective, inputs, **kwargs)
    return prepared, objective.forward(prepared, randomness(**kwargs), training)


def losses_of(objective, prepared, output):
    """Losses by name, and their weighted sum."""
    numerators, _ = objective.contribution(prepared, output)
    denominators = objective.denominators(prepared)
    epsilon = objective.denominator_epsilon
    losses = {name: v / (denominators[name] + epsilon) for name, v in numerators.items()}
    return losses, sum(objective.loss_weights[n] * loss for n, loss in losses.items())


def figures_of(objective, prepared, output):
    _, sums = objective.contribution(prepared, output)
    return objective.summarize({name: value.numpy() for name, value in sums.items()})


def used(prepared):
    return prepared.masked.weights.numpy() > 0


def test_samples_replace_the_masked_tokens():
    task = objective()
    prepared, output = forward(task)
    ids, masked = INPUTS.input_ids.numpy(), prepared.masked
    positions, sampled = masked.positions.numpy(), output.sampled_ids.numpy()
    expected = ids.copy()
    for row in range(len(ids)):
        for slot in np.nonzero(used(prepared)[row])[0]:
            expected[row, positions[row, slot]] = sampled[row, slot]
    np.testing.assert_array_equal(output.corrupted_ids, expected)
    np.testing.assert_array_equal(output.labels, expected != ids)
    assert 0 < output.labels.numpy().sum() <= used(prepared).sum()
    # What the networks saw: masked tokens there, replaced ones here, and the rest of the batch.
    seen = task.generator.model.seen
    np.testing.assert_array_equal(seen["input_ids"], masked.input_ids)
    np.testing.assert_array_equal(seen["positions"], positions)
    seen = task.discriminator.model.seen
    np.testing.assert_array_equal(seen["input_ids"], expected)
    np.testing.assert_array_equal(seen["mask"], INPUTS.input_mask)
    np.testing.assert_array_equal(seen["segments"], INPUTS.segment_ids)
    assert seen["seed"] is None


def test_losses_are_the_formulas():
    task = objective(gen_weight=3.0, disc_weight=7.0)
    prepared, output = forward(task)
    losses, total = losses_of(task, prepared, output)
    shown = prepared.masked.input_ids.numpy()
    positions, weights = prepared.masked.positions.numpy(), prepared.masked.weights.numpy()
    table = task.generator.model.table.numpy().astype(np.float64)
    logits = table[np.take_along_axis(shown, positions, axis=1)]
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    ids = prepared.masked.ids.numpy()
    nll = -np.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]
    generator_loss = (nll * weights).sum() / (weights.sum() + 1e-6)
    assert float(losses["generator_loss"]) == pytest.approx(generator_loss, rel=1e-5)
    z = task.discriminator.model.table.numpy().astype(np.float64)[output.corrupted_ids.numpy()]
    signs = np.where(output.labels.numpy() > 0, -1.0, 1.0)
    mask = INPUTS.input_mask.numpy()
    discriminator_loss = (np.logaddexp(0, signs * z) * mask).sum() / (mask.sum() + 1e-6)
    assert float(losses["discriminator_loss"]) == pytest.approx(discriminator_loss, rel=1e-5)
    expected = 3 * generator_loss + 7 * discriminator_loss
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert not output.disc_losses.numpy()[mask == 0].any()
    figures = figures_of(task, prepared, output)
    assert figures["masked_lm_loss"] == pytest.approx(generator_loss, rel=1e-5)
    hits = (logits.argmax(-1) == ids)[weights > 0].mean()
    assert figures["masked_lm_accuracy"] == pytest.approx(hits)
    hits = (output.sampled_ids.numpy() == ids)[weights > 0].mean()
    assert figures["sampled_masked_lm_accuracy"] == pytest.approx(hits)


def gradients(task, **kwargs):
    models = task.generator.model, task.discriminator.model
    with tf.GradientTape() as tape:
        prepared, output = forward(task, **kwargs)
        _, total = losses_of(task, prepared, output)
    tables = [model.table.value for model in models]
    found = tape.gradient(total, tables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(g).numpy() for g in found]


def test_weights_switch_the_losses_and_no_gradient_flows_through_samples():
    generator, discriminator = gradients(objective())
    assert np.abs(generator).max() > 0 and np.abs(discriminator).max() > 0
    generator_only, nothing = gradients(objective(disc_weight=0.0))
    np.testing.assert_allclose(generator_only, generator, rtol=1e-6)
    assert not nothing.any()
    nothing, discriminator_only = gradients(objective(gen_weight=0.0))
    assert not nothing.any()
    np.testing.assert_allclose(discriminator_only, discriminator, rtol=1e-6)


def test_without_a_discriminator_loss_there_are_no_figures_of_it():
    task = objective(disc_weight=0.0)
    figures = figures_of(task, *forward(task))
    assert {"masked_lm_accuracy", "masked_lm_loss", "sampled_masked_lm_accuracy"} == set(figures)


def one_token_rows(token):
    """Rows that hold one token over and over."""
    ids = np.where(CANDIDATES, token, INPUTS.input_ids)
    return INPUTS._replace(input_ids=tf.constant(ids, tf.int32))


def test_a_sample_equal_to_the_original_counts_as_original():
    inputs = one_token_rows(9)
    table = np.where(np.arange(VOCAB) == 9, 40.0, 0.0) * np.ones((VOCAB, 1))
    task = objective(table)
    prepared, output = forward(task, inputs)
    assert used(prepared).any()
    np.testing.assert_array_equal(output.corrupted_ids, inputs.input_ids)
    assert not output.labels.numpy().any()
    assert figures_of(task, prepared, output)["sampled_masked_lm_accuracy"] == 1.0


def test_disallow_correct():
    inputs = one_token_rows(9)
    table = np.where(np.arange(VOCAB) == 9, 40.0, 0.0) * np.ones((VOCAB, 1))
    task = objective(table, disallow_correct=True)
    for step in range(5):
        prepared, output = forward(task, inputs, step=step)
        assert not (output.sampled_ids.numpy() == 9)[used(prepared)].any()
        assert output.labels.numpy().sum() == used(prepared).sum()
        # The loss still is that of the undisturbed distribution.
        assert output.mlm_nll.numpy()[used(prepared)].max() < 1e-5


def test_temperature():
    """Share of samples of the likelier half, against softmax(logits / temperature)."""
    inputs = sequences([LENGTH] * 400, LENGTH, vocab_size=VOCAB)
    logits = np.where(np.arange(VOCAB) < VOCAB // 2, 2.0, 0.0)
    for temperature in (0.5, 1.0, 4.0):
        task = objective(logits * np.ones((VOCAB, 1)), temperature=temperature)
        prepared, output = forward(task, inputs)
        share = (output.sampled_ids.numpy() < VOCAB // 2)[used(prepared)].mean()
        expected = scipy.special.expit(2.0 / temperature)
        n = used(prepared).sum()
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n), temperature
        # It concerns the samples only.
        losses, _ = losses_of(task, prepared, output)
        ids = prepared.masked.ids.numpy()[used(prepared)]
        nll = -scipy.special.log_softmax(logits)[ids].mean()
        assert float(losses["generator_loss"]) == pytest.approx(nll, rel=1e-4)


def test_samples_belong_to_the_row_and_the_step():
    task = objective()
    _, whole = forward(task, step=3)
    part = type(INPUTS)(*(t[1:3] for t in INPUTS))
    _, rows = forward(task, part, step=3, first_row=1)
    np.testing.assert_array_equal(rows.sampled_ids, whole.sampled_ids[1:3])
    np.testing.assert_array_equal(rows.corrupted_ids, whole.corrupted_ids[1:3])
    prepared, _ = prepare(task, step=3)
    other = task.forward(prepared, randomness(step=4), training=False)
    assert (other.sampled_ids.numpy() != whole.sampled_ids.numpy()).any()


def test_unequal_samples_at_one_position():
    """Masks drawn with replacement may name a position twice: the floor of the mean is written."""
    ids = INPUTS.input_ids.numpy()
    slots = {
        "positions": [[3, 3, 5, 0]] * 4,
        "ids": [[row[3], row[3], row[5], 0] for row in ids],
        "weights": [[1.0, 1.0, 1.0, 0.0]] * 4,
    }
    masked = MaskedInputs(INPUTS.input_ids, **{n: tf.constant(v) for n, v in slots.items()})
    sampled = tf.constant([[20, 25, 31, 50]] * 4)
    output = objective().forward(Prepared(INPUTS, masked), None, False, sampled_ids=sampled)
    expected = ids.copy()
    expected[:, 3], expected[:, 5] = 22, 31
    np.testing.assert_array_equal(output.corrupted_ids, expected)
    np.testing.assert_array_equal(output.labels, expected != ids)


def test_networks_get_different_seeds():
    task = objective()
    _, output = forward(task, training=True, step=5)
    seed = randomness(step=5).dropout_seed().numpy()
    np.testing.assert_array_equal(task.generator.model.seen["seed"], seed)
    expected = seed + [0, DISCRIMINATOR_SITES]
    np.testing.assert_array_equal(task.discriminator.model.seen["seed"], expected)


@pytest.mark.parametrize(
    "arguments, passes",
    [
        ({}, 2),
        ({"untied_generator": False}, 2),
        ({"two_tower_generator": True}, 3),
        ({"disentangled_embeddings": True, "recompute": True}, 2),
    ],
    ids=["two networks", "one network, twice", "two towers", "recomputed"],
)
@pytest.mark.parametrize("encoder", ["bert", "albert", "modern"])
def test_every_place_has_dropout_of_its_own(monkeypatch, encoder, arguments, passes):
    counters = []

    def noted(key, counter, n_words):
        counters.append(tuple(counter.numpy()))
        return random_words(key, counter, n_words)

    config = TransformerConfig(
        VOCAB, 8, 3, 2, 8, 8, encoder=encoder, max_position_embeddings=LENGTH
    )
    pair = build_pair(config, generator_hidden_size=0.5, **arguments)
    options = Options(all_candidates=passes == 3)
    task = ReplacedTokenDetection(pair.generator, pair.discriminator, MASKING, options)
    prepared, _ = prepare(task)
    monkeypatch.setattr(layers, "random_words", noted)
    task.forward(prepared, randomness(), True)
    # Embeddings; and in each layer attention, and what it and the rest add to the states.
    assert len(counters) == len(set(counters)) == passes * (1 + 3 * 3)


def test_all_candidates():
    """The generator reads the unmasked input and is scored on all that may be masked."""
    task = objective(all_candidates=True)
    prepared, output = forward(task)
    seen = task.generator.model.seen
    np.testing.assert_array_equal(seen["input_ids"], INPUTS.input_ids)
    assert seen["positions"] is None
    denominators = task.denominators(prepared)
    assert float(denominators["generator_loss"]) == CANDIDATES.sum()
    ids = INPUTS.input_ids.numpy()
    log_probs = scipy.special.log_softmax(task.generator.model.table.numpy(), axis=-1)
    losses, _ = losses_of(task, prepared, output)
    expected = -log_probs[ids, ids][CANDIDATES].mean()
    assert float(losses["generator_loss"]) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(output.labels, output.corrupted_ids != INPUTS.input_ids)


def test_electric():
    """Labels are the masked positions; logit + log q(token) + log(p / (1 - p)), q constant."""
    inputs = one_token_rows(9)
    table = np.where(np.arange(VOCAB) == 9, 5.0, 0.0) * np.ones((VOCAB, 1))
    task = objective(table, all_candidates=True, electric=True)
    prepared, output = forward(task, inputs)
    expected = np.zeros((4, LENGTH), int)
    positions = prepared.masked.positions.numpy()
    for row in range(4):
        expected[row, positions[row][used(prepared)[row]]] = 1
    np.testing.assert_array_equal(output.labels, expected)
    corrupted = output.corrupted_ids.numpy()
    assert (corrupted == inputs.input_ids.numpy())[expected > 0].any()  # labelled all the same
    log_q = scipy.special.log_softmax(table[0])[corrupted]
    logits = task.discriminator.model.table.numpy()[corrupted] + log_q + np.log(0.3 / 0.7)
    np.testing.assert_allclose(output.disc_logits, logits, rtol=1e-5)
    generator, discriminator = gradients(
        objective(table, all_candidates=True, electric=True, gen_weight=0.0), inputs=inputs
    )
    assert not generator.any()
    assert discriminator.any()


@pytest.mark.parametrize(
    "options", [{"electric": True}, {"temperature": 0.0}, {"temperature": float("nan")}]
)
def test_options_that_can_not_be(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


CONFIG = TransformerConfig(
    vocab_size=VOCAB,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    embedding_size=32,
    max_position_embeddings=LENGTH,
)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_loss_of_untrained_networks(uniform):
    """About ln V + 50 ln 2: nothing is known of any token."""
    keras.utils.set_random_seed(0)
    pair = build_pair(CONFIG, uniform_generator=uniform)
    task = ReplacedTokenDetection(pair.generator, pair.discriminator, MASKING)
    prepared, output = forward(task, sequences([LENGTH] * 64, LENGTH, vocab_size=VOCAB))
    losses, total = losses_of(task, prepared, output)
    assert float(losses["generator_loss"]) == pytest.approx(np.log(VOCAB), rel=0.02)
    assert float(losses["discriminator_loss"]) == pytest.approx(np.log(2), rel=0.02)
    assert float(total) == pytest.approx(np.log(VOCAB) + 50 * np.log(2), rel=0.02)


def test_a_uniform_generator():
    """No variables, the constant ln V in the total, and samples of all tokens alike."""
    pair = build_pair(CONFIG, uniform_generator=True)
    task = ReplacedTokenDetection(pair.generator, pair.discriminator, MASKING)
    assert {name.split("/")[0] for name in task.named_variables()} == {
        "electra",
        "discriminator_predictions",
    }
    inputs = sequences([LENGTH] * 600, LENGTH, vocab_size=VOCAB)
    prepared, _ = prepare(task, inputs)
    masked = prepared.masked
    logits = task.generator.logits(inputs, masked.positions, training=False, seed=None)
    sampled = task._sample(logits, masked, randomness()).numpy()[used(prepared)]
    counts = np.bincount(sampled, minlength=VOCAB)
    assert len(counts) == VOCAB
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "1", None])
def test_weights_of_losses_that_can_not_be(weight):
    with pytest.raises((TypeError, ValueError)):
        Options(disc_weight=weight)


def test_parts_of_other_kinds_are_refused():
    good = [TableDiscriminator(), TableDiscriminator(), masking(2), Options()]
    for place, name in enumerate(("generator", "discriminator", "masking", "options")):
        parts = [*good[:place], {"a": 1}, *good[place + 1 :]]
        with pytest.raises(TypeError, match=f"{name} is a dict"):
            ReplacedTokenDetection(*parts)
