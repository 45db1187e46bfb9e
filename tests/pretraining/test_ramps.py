"""Ramps: what they may be, where their steps lie, and what a step makes of their values."""

import numpy as np
import pytest
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.compute import example_flops, pretraining_flops
from electra_tf2.errors import UserError
from electra_tf2.hparams.ramps import shown
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.objective import MaskedLM
from electra_tf2.pretraining.phases import Part, RunCompute, examples_at, phases_of
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.training.loop import LoopSettings
from electra_tf2.training.schedule import LinearRamp
from tests.pretraining import networks
from tests.pretraining.batches import CLS, MASK, SEP, randomness, sequences

BATCHES = [[0, 32], [100, 64], [250, 128]]


def configure(**hparams):
    return PretrainingConfig("m", "/d", **hparams)


def test_between_two_points_a_ramp_is_a_straight_line():
    points = ((0, 0.3), (10, 0.3), (40, 0.15), (50, 0.5))
    ramp = LinearRamp(points)
    steps = range(70)
    np.testing.assert_allclose(
        [float(ramp(step)) for step in steps], np.interp(steps, *zip(*points, strict=True)), 1e-6
    )
    graph = tf.function(ramp, input_signature=[tf.TensorSpec([], tf.int64)])
    assert [float(graph(tf.constant(n, tf.int64))) for n in (0, 25, 40, 99)] == [
        float(ramp(n)) for n in (0, 25, 40, 99)
    ]
    assert float(LinearRamp(((0, 0.15),))(7)) == np.float32(0.15)


REFUSED = {
    "first step": ({"mask_prob": [[5, 0.3]]}, "mask_prob", "[[5, 0.3]]"),
    "order": ({"mask_prob": [[0, 0.3], [9, 0.2], [9, 0.1]]}, "mask_prob", "later step"),
    "no points": ({"temperature": []}, "temperature", "[step, value]"),
    "no pair": ({"temperature": [[0, 1.0, 2.0]]}, "temperature", "[step, value]"),
    "no point": ({"temperature": [1.0, 2.0]}, "temperature", "a ramp [[step, value], …]"),
    "range": ({"mask_prob": [[0, 0.3], [9, 1.5]]}, "mask_prob, point 2: value", "less than 1"),
    "size": ({"train_batch_size": [[0, 8], [5, 8.5]]}, "train_batch_size, point 2", "an integer"),
    "step": ({"gen_weight": [[0, 1.0], [5.5, 2.0]]}, "gen_weight, point 2: step", "an integer"),
    "negative": ({"disc_weight": [[0, -1.0]]}, "disc_weight, point 1: value", "at least 0"),
    "parts": (
        {"train_batch_size": [[0, 8], [5, 12]], "gradient_accumulation_steps": 8},
        "hparams",
        "multiple of gradient_accumulation_steps",
    ),
    "another ramp": ({"learning_rate": [[0, 1e-3]]}, "learning_rate", "a number"),
    "no weight": ({"gen_weight": [[0, 0.0]], "disc_weight": [[0, 0], [5, 0]]}, "hparams", "over 0"),
    "electric": ({"electric_objective": True, "mask_prob": [[0, 0.2]]}, "hparams", "as a number"),
    "slots": (
        {"mask_prob": [[0, 0.1], [5, 0.999]], "max_seq_length": 512},
        "hparams",
        "at most max_seq_length",
    ),
    "phase": (
        {"phases": [{"num_train_steps": 5, "mask_prob": [[1, 0.2]]}]},
        "phases, phase 1: mask_prob",
        "[step, value]",
    ),
}


@pytest.mark.parametrize("hparams, where, keyword", REFUSED.values(), ids=REFUSED)
def test_refused(hparams, where, keyword):
    with pytest.raises(UserError) as info:
        configure(**hparams)
    assert where in str(info.value.where)
    assert keyword in f"{info.value.received} {info.value.remedy}"


def test_slots_are_those_of_the_largest_share():
    falling = configure(mask_prob=[[0, 0.4], [9, 0.15]])
    assert falling.max_predictions_per_seq == configure(mask_prob=0.4).max_predictions_per_seq
    assert shown(falling.mask_prob, ".0%") == "40% to 15%" and shown(0.15) == "0.15"


def test_examples_and_operations_follow_the_batch():
    config = configure(train_batch_size=BATCHES, num_train_steps=300)
    (phase,) = phases_of(config)
    assert phase.parts() == [Part(0, 100, 32), Part(100, 250, 64), Part(250, 300, 128)]
    assert phase.parts(120) == [Part(0, 100, 32), Part(100, 120, 64)]
    examples = np.concatenate([[0], np.cumsum([32] * 100 + [64] * 150 + [128] * 60)])
    for step in (0, 1, 100, 101, 250, 251, 300, 310):
        assert examples_at([phase], step) == examples[step]
    compute = RunCompute(config, config.network())
    own = example_flops(pretraining_flops(config, config.network())).training
    assert compute.flops(300) == pytest.approx(own * examples[300])


def test_steps_count_from_where_the_ramp_is_stated():
    """Beside the phases from the start of the run, in a phase from its own start."""
    first = {"num_train_steps": 200, "mask_prob": [[0, 0.3], [50, 0.2]]}
    second = {"num_train_steps": 100, "train_batch_size": [[0, 8], [10, 16]]}
    third = {"num_train_steps": 50}
    config = configure(
        train_batch_size=BATCHES, temperature=[[0, 2.0], [250, 1.0]], phases=[first, second, third]
    )
    one, two, three = phases_of(config)
    assert one.parts() == [Part(0, 100, 32), Part(100, 200, 64)]
    assert two.parts() == [Part(200, 210, 8), Part(210, 300, 16)]
    assert three.parts() == [Part(300, 350, 128)]
    assert two.first_example == 100 * 96 and three.first_example == 100 * 96 + 80 + 90 * 16
    assert (one.ramps, two.ramps) == (["mask_prob", "temperature"], ["temperature"])
    assert one.points("mask_prob") == [(0, 0.3), (50, 0.2)]
    assert two.points("temperature") == [(0, 2.0), (250, 1.0)]
    assert two.describe_ramps()[-1] == "Ramp of train_batch_size: 8 at step 200, 16 at step 210"


def test_the_operations_of_a_phase_end_with_it():
    config = configure(
        train_batch_size=[[0, 8], [30, 16]],
        phases=[{"num_train_steps": 20}, {"num_train_steps": 40, "mask_prob": 0.3}],
    )
    compute, phases = RunCompute(config, config.network()), phases_of(config)
    first, second = (
        example_flops(pretraining_flops(phase.config, config.network())).training
        for phase in phases
    )
    assert second > 1.01 * first
    for step, examples in {10: (80, 0), 20: (160, 0), 25: (160, 40), 60: (160, 560)}.items():
        assert compute.flops(step) == pytest.approx(first * examples[0] + second * examples[1])


def test_a_graph_call_ends_where_the_batch_changes():
    settings = LoopSettings(100, 16, 1, log_every=50, batch_sizes=((0, 8), (7, 12), (30, 16)))
    assert [settings.next_event(step) for step in (0, 6, 7, 30, 99)] == [7, 7, 30, 50, 100]
    assert [settings.batch_size(step) for step in (0, 6, 7, 29, 30)] == [8, 8, 12, 12, 16]


VALUES = {"mask_prob": 0.4, "temperature": 3.0, "gen_weight": 2.0, "disc_weight": 7.0}
INPUTS = sequences([12, 9, 12, 5], 12, vocab_size=networks.VOCAB)


def detection(embedding, mask_prob=0.15, **options):
    generator = networks.unigram_generator(embedding)
    kernel = generator.logits.kernel
    kernel.assign(50.0 * kernel)  # as if it were trained: samples depend on the temperature
    discriminator = networks.convolution_discriminator(embedding)
    masking = Masking(MASK, (CLS, SEP, MASK), mask_prob, 5)
    return ReplacedTokenDetection(generator, discriminator, masking, Options(**options))


def numbers(objective):
    """All that a step computes of a batch."""
    prepared, denominators = objective.prepare(INPUTS._asdict(), randomness(step=3))
    numerators, sums = objective.compute(prepared, randomness(step=3), training=True)
    weights = {name: float(weight) for name, weight in objective.loss_weights.items()}
    return prepared.masked, denominators, numerators, sums, weights


def test_values_of_a_step_are_those_of_an_objective_made_with_them():
    objective = detection(networks.embedding_layer(), disc_weight=0.0)
    other = ReplacedTokenDetection(
        objective.generator.model,
        objective.discriminator.model,
        Masking(MASK, (CLS, SEP, MASK), VALUES["mask_prob"], 5),
        Options(**{name: value for name, value in VALUES.items() if name != "mask_prob"}),
    )
    before = numbers(objective)
    found = numbers(objective.with_values({n: tf.constant(v) for n, v in VALUES.items()}))
    tf.nest.map_structure(np.testing.assert_array_equal, found, numbers(other))
    assert found[0].weights.numpy().sum() > before[0].weights.numpy().sum()
    tf.nest.map_structure(np.testing.assert_array_equal, numbers(objective), before)


def test_a_masked_lm_has_ramps_too():
    task = MaskedLM(
        networks.unigram_generator(networks.embedding_layer()), Masking(MASK, (), 0.15, 5)
    )
    ramped = task.with_values({"gen_weight": tf.constant(3.0)})
    assert float(ramped.loss_weights["generator_loss"]) == 3.0
    assert task.loss_weights == {"generator_loss": 1.0}


def test_one_program_serves_all_values():
    """Each step is weighed by its own; a flat ramp gives the numbers of the number."""
    objective = detection(networks.embedding_layer())
    plain = networks.Engine(objective, 4)
    start, first = plain.state(), plain.run(0, 1)
    points = {"gen_weight": ((0, 1.0), (4, 5.0)), "disc_weight": ((0, 50.0),)}
    points |= {"mask_prob": ((0, 0.15), (9, 0.15)), "temperature": ((0, 1.0),)}
    ramps = {name: LinearRamp(own) for name, own in points.items()}
    ramped = networks.Engine(objective, 4, ramps=ramps)
    ramped.restore(start)
    found = [ramped.run(step, 1) for step in range(4)]
    assert found[0] == first
    for step, figures in enumerate(found):
        total = (1 + step) * figures["generator_loss"] + 50 * figures["discriminator_loss"]
        assert figures["loss"] == pytest.approx(total, rel=1e-5)
    assert ramped.traces == 1
