"""A generator that is not trained: no gradient, no slots, no change, at any setting of a run."""

import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.loading.networks import build_discriminator
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.electra import build_pair, describe_parameters
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.pretraining.run.init_generator import masked_lm_of
from electra_tf2.pretraining.run.restore import copy_positions
from electra_tf2.randomness import seed_keys
from electra_tf2.training.devices import make_strategy
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.step import ReplicaStep, StepInputs
from tests.modeling.test_pair import CONFIG, LENGTH, VOCAB
from tests.pretraining import networks, tiny
from tests.pretraining.batches import masking, randomness, sequences
from tests.pretraining.masked_lms import write_model

PAIRS = {
    "own embeddings": {"untied_generator_embeddings": True, "generator_embedding_size": 6},
    "gdes": {"disentangled_embeddings": True},
    "shared": {},
}


def objective_of(arguments, train_generator=False, **options):
    pair = build_pair(CONFIG, generator_hidden_size=0.5, **arguments)
    options = Options(train_generator=train_generator, **options)
    objective = ReplacedTokenDetection(*pair[:2], masking(2, mask_prob=0.25), options)
    return pair, objective


@pytest.mark.parametrize("arguments", PAIRS.values(), ids=PAIRS)
def test_every_variable_is_either_trained_or_the_generator_s(arguments):
    pair, objective = objective_of(arguments)
    trained, kept = objective.named_variables(), objective.named_constants()
    assert not trained.keys() & kept.keys()
    assert {id(v) for v in kept.values()} == {id(v) for v in pair.generator.trainable_variables}
    both = {id(v) for network in pair[:2] for v in network.trainable_variables}
    assert both == {id(v) for v in (*trained.values(), *kept.values())}
    assert ("electra/embeddings/word_embeddings" in kept) == (arguments == {})
    sizes = [sum(int(np.prod(v.shape)) for v in part.values()) for part in (trained, kept)]
    shown = describe_parameters(pair, trains_generator=False)
    assert f"{sum(sizes):,} parameters, {sizes[0]:,} of them trained" in shown
    trains = ReplacedTokenDetection(*pair[:2], masking(2))
    assert trains.named_constants() == {}


@pytest.mark.parametrize("towers", [1, 2])
def test_no_gradient_no_dropout_and_no_weight_for_its_loss(towers):
    own = PAIRS["own embeddings"] | {"two_tower_generator": towers == 2}
    pair, objective = objective_of(own, gen_weight=3.0, all_candidates=towers == 2)
    inputs = sequences([LENGTH] * 4, LENGTH, vocab_size=VOCAB)
    with tf.GradientTape() as tape:
        result = objective(inputs._asdict(), step=1)
    kept, trained = objective.named_constants(), objective.named_variables()
    variables = [v.value for v in (*kept.values(), *trained.values())]
    gradients = tape.gradient(result.loss, variables)
    assert all(gradient is None for gradient in gradients[: len(kept)])
    assert all(gradient is not None for gradient in gradients[len(kept) :])
    assert float(result.generator_loss) > 1  # reported all the same
    assert float(result.loss) == pytest.approx(50 * float(result.discriminator_loss), rel=1e-6)
    prepared, _ = objective.prepare(inputs._asdict(), randomness())
    options = Options(all_candidates=towers == 2)
    trains = ReplacedTokenDetection(*pair[:2], objective.masking, options)
    logits = [
        own.forward(prepared, randomness(), training=training).mlm_logits.numpy()
        for own, training in ((objective, True), (objective, False), (trains, True))
    ]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)
    assert np.abs(logits[0] - logits[2]).max() > 0.01


def test_nor_has_a_generator_of_another_library_dropout():
    """Its Keras layers ask whether it is training, not for a seed."""
    generator = networks.unigram_generator(networks.embedding_layer())
    discriminator = networks.convolution_discriminator(networks.embedding_layer())
    objective = ReplacedTokenDetection(
        generator, discriminator, masking(2), Options(train_generator=False)
    )
    inputs = sequences([networks.LENGTH] * 4, networks.LENGTH, vocab_size=networks.VOCAB)
    found = [
        objective(inputs._asdict(), step=1, training=training).generator_logits.numpy()
        for training in (True, False)
    ]
    np.testing.assert_array_equal(*found)


def optimizer_of(objective):
    return AdamW(
        make_strategy("one_device"),
        objective.named_variables(),
        OptimizerSettings(weight_decay_rate=0.5),
        constants=objective.named_constants(),
    )


@pytest.mark.slow
def test_an_update_leaves_it_as_it_is():
    """Weight decay and accumulation included; what is trained changes."""
    _, objective = objective_of(PAIRS["gdes"])
    optimizer = optimizer_of(objective)
    before = optimizer.variables.to_numpy()
    step = ReplicaStep(objective, optimizer, micro_batches=2)
    batch = sequences([LENGTH] * 4, LENGTH, vocab_size=VOCAB)._asdict()
    inputs = StepInputs(tf.constant(0, tf.int64), seed_keys(0), tf.constant(0.01))
    result = tf.function(lambda: step.train(batch, inputs), autograph=False)()
    assert result.finite
    for variable, array in optimizer.variables.to_numpy().items():
        same = array.tobytes() == before[variable].tobytes()
        assert same == (variable in optimizer.constants), variable
    slots = {slot.rpartition("/")[0] for slot in optimizer.slots.names}
    assert slots == set(objective.named_variables())


def test_copied_positions_are_the_discriminator_s():
    """With a sum of tables, it is the sum that is copied."""
    for name in ("own embeddings", "gdes"):
        pair, objective = objective_of(PAIRS[name])
        run = types.SimpleNamespace(optimizer=optimizer_of(objective))
        kept = pair.generator.encoder.embeddings.table("position_embeddings").numpy()
        copy_positions(types.SimpleNamespace(run=run), 4)
        after = pair.encoder.embeddings.table("position_embeddings").numpy()
        np.testing.assert_allclose(after[4:8], after[:4], atol=1e-6)
        now = pair.generator.encoder.embeddings.table("position_embeddings").numpy()
        assert now.tobytes() == kept.tobytes()


@pytest.mark.parametrize("name", ["own embeddings", "gdes"])
def test_copied_positions_leave_those_of_a_trained_generator_if_told_so(name):
    pair, objective = objective_of(PAIRS[name], train_generator=True)
    run = types.SimpleNamespace(optimizer=optimizer_of(objective))
    for of_generator in (False, True):
        before = pair.generator.encoder.embeddings.table("position_embeddings").numpy()
        trainer = types.SimpleNamespace(run=run)
        copy_positions(trainer, 4, of_generator=of_generator)
        after = pair.generator.encoder.embeddings.table("position_embeddings").numpy()
        assert (after.tobytes() == before.tobytes()) is not of_generator
        table = pair.encoder.embeddings.table("position_embeddings").numpy()
        np.testing.assert_allclose(table[4:8], table[:4], atol=1e-6)


# Runs from the hparams alone.


@pytest.fixture(scope="module")
def masked_lm(tiny_data):
    """(folder, weights) of a masked LM that fits the generator of `tiny.HPARAMS`."""
    folder = tiny_data / "models" / "a_masked_lm"
    return folder, write_model(folder, tiny_data / "vocab.txt")


def hparams_of(masked_lm, **others):
    return {
        "init_generator": str(masked_lm[0]),
        "train_generator": False,
        "generator_embedding_size": 4,
        "weight_decay_rate": 0.1,
        "temperature": [[0, 2.0], [4, 1.0]],
        "num_train_steps": 4,
        "num_warmup_steps": 1,
        "save_checkpoints_steps": 2,
        "log_every_steps": 1,
        **others,
    }


@pytest.fixture(scope="module")
def trained(tiny_data, masked_lm):
    """(model folder, what was printed) of four steps, with checkpoints after 2 and 4."""
    _, shown = tiny.pretrain_here(tiny_data, "kept", **hparams_of(masked_lm))
    return tiny_data / "models" / "kept", shown


def assert_kept(checkpoint, masked_lm):
    """Asserts that a checkpoint holds the masked LM as it was, and that the rest was trained."""
    kept = {n: a for n, a in checkpoint.weights.items() if n.startswith("generator")}
    theirs = {n.replace("electra/", "generator/"): a for n, a in masked_lm[1].items()}
    assert kept.keys() == theirs.keys()
    for name, array in theirs.items():
        assert kept[name].tobytes() == array.tobytes(), name
    assert not any(name.startswith("generator") for name in checkpoint.optimizer)
    assert checkpoint.optimizer["electra/layer_0/output/kernel/adam_v"].any()


@pytest.mark.slow
def test_a_run(trained, masked_lm, tiny_data):
    folder, shown = trained
    assert_kept(tiny.newest(tiny_data, folder.name), masked_lm)
    assert f"The generator begins as the masked LM in {masked_lm[0]}" in shown
    weights = tiny.newest(tiny_data, folder.name).weights
    sizes = [sum(a.size for a in part.values()) for part in (weights, masked_lm[1])]
    assert f"Model: {sizes[0]:,} parameters, {sizes[0] - sizes[1]:,} of them trained" in shown
    for line in tiny.lines(folder, "train"):
        assert line["loss"] == pytest.approx(50 * line["discriminator_loss"], rel=1e-5)
        assert line["generator_loss"] > 1
        assert line["temperature"] == 2 - (line["step"] - 1) / 4


@pytest.mark.slow
def test_both_networks_are_exported(trained, masked_lm, tmp_path):
    folder, _ = trained
    export_huggingface(str(folder), str(tmp_path / "out"), ExportOptions())
    found = masked_lm_of(open_pretrained(str(tmp_path / "out"))).arrays
    for name, array in masked_lm[1].items():
        np.testing.assert_array_equal(found[name.replace("electra/", "generator/")], array)
    ids = np.arange(5, 17, dtype=np.int32)[np.newaxis]
    ours, theirs = (build_discriminator(open_source(p))(ids) for p in (folder, tmp_path / "out"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
def test_resumed_without_the_masked_lm(trained, masked_lm, tiny_data):
    folder, _ = trained
    again = tiny_data / "models" / "kept_again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "checkpoints" / "step-00000004")
    gone = hparams_of(masked_lm, init_generator="/gone")
    _, shown = tiny.pretrain_here(tiny_data, again.name, **gone)
    assert "Resuming at step 2" in shown and "begins as" not in shown
    tiny.assert_same_end(tiny_data, again.name, folder.name)


@pytest.mark.slow
def test_a_resumed_run_may_not_begin_to_train_it(trained, masked_lm, tiny_data):
    folder, _ = trained
    with pytest.raises(UserError, match="another configuration") as error:
        tiny.pretrain_here(
            tiny_data,
            folder.name,
            **hparams_of(masked_lm, train_generator=True, untied_generator_embeddings=True),
        )
    assert "train_generator: the model has False, this run True" in error.value.received


@pytest.mark.slow
def test_a_branch_and_a_new_run_from_it(trained, masked_lm, tiny_data):
    folder, _ = trained
    start = str(folder / "checkpoints" / "step-00000002")
    hparams = hparams_of(masked_lm, init_generator=None)
    tiny.pretrain_here(tiny_data, "kept_branch", branch_from=start, **hparams)
    tiny.assert_same_end(tiny_data, "kept_branch", folder.name)
    hparams |= {"num_train_steps": 1, "init_checkpoint": str(folder)}
    tiny.pretrain_here(tiny_data, "kept_start", **hparams)
    assert_kept(tiny.newest(tiny_data, "kept_start"), masked_lm)


@pytest.mark.slow
@pytest.mark.parametrize(
    "others",
    [
        {"precision": "float16", "xla": True, "num_train_steps": 16},  # for the loss scale
        {"precision": "bfloat16", "gradient_accumulation_steps": 2, "optimizer": "lamb"},
        {"phases": [{"num_train_steps": 1}, {"num_train_steps": 1, "mask_prob": 0.3}]},
        {"recompute": True, "masking": "span"},
    ],
    ids=["float16, XLA", "bfloat16, accumulated, LAMB", "phases", "recomputed, spans"],
)
def test_other_settings(masked_lm, tiny_data, others):
    hparams = hparams_of(masked_lm, **{"temperature": 1.5, "num_train_steps": 2} | others)
    name = f"kept_{'_'.join(others)}"
    tiny.pretrain_here(tiny_data, name, **hparams)
    assert_kept(tiny.newest(tiny_data, name), masked_lm)


@pytest.mark.slow
def test_two_replicas_train_the_same(masked_lm, tiny_data):
    hparams = hparams_of(masked_lm, num_train_steps=2, temperature=1.0, precision="float32")
    hparams["model_hparam_overrides"] = tiny.NETWORK | {
        "hidden_dropout_prob": 0.0,  # which differs by replica
        "attention_probs_dropout_prob": 0.0,
    }
    script = tiny.ROOT / "tests" / "on_devices.py"
    for devices in ("1", "2"):
        code, message = tiny.run(
            tiny_data, f"kept_on_{devices}", script=script,
            env={"VIRTUAL_DEVICES": devices}, distribution="mirrored", **hparams,
        )  # fmt: skip
        assert code == 0, message
        assert_kept(tiny.newest(tiny_data, f"kept_on_{devices}"), masked_lm)
    one, two = (tiny.newest(tiny_data, f"kept_on_{n}").weights for n in "12")
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, atol=2e-5, err_msg=name)
