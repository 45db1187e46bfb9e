"""Losses don't depend on padding or on company; scoring sees every example exactly once."""

import collections
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.randomness import StepRandomness
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from finetune.features import NO_ROW, Preprocessor, TaskData
from finetune.model import FinetuningModel, FinetuningObjective
from finetune.task_builder import get_tasks
from tests.finetune import tiny_tasks

WITHOUT_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": tiny_tasks.POSITIONS,
}
ALL = ["marks", "cola", "chunk", "squad"]


def make(data_dir, names, seed=0):
    """(model, training data) of some tasks, without dropout."""
    config = tiny_tasks.configure(
        data_dir,
        task_names=names,
        head_dropout_prob=0.0,
        model_hparam_overrides=WITHOUT_DROPOUT,
        embedding_size=8,
        vocab_size=tiny_tasks.NETWORK.vocab_size,
        double_unordered=False,
    )
    tasks = get_tasks(config, make_tokenizer(load_vocabulary(str(data_dir / "vocab.txt"))))
    tf.keras.utils.set_random_seed(seed)
    model = FinetuningModel(tasks, config.network())
    model.build()
    preprocessor = Preprocessor(config)
    tables = [preprocessor.make(task, task.get_examples("train"), "train") for task in tasks]
    return model, TaskData(names, tables, [task.get_feature_specs() for task in tasks])


def loss_and_gradients(model, batch, training=True):
    objective = FinetuningObjective(model)
    randomness = StepRandomness(0, tf.constant(0, tf.int64), tf.constant(0, tf.int64), 0)
    variables = model.named_variables()
    values = [v.value for v in variables.values()]
    with tf.GradientTape() as tape:
        numerators, _ = objective.compute(batch, randomness, training)
        loss = tf.add_n(list(numerators.values()))
    gradients = tape.gradient(loss, values, unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    return numerators, dict(zip(variables, gradients, strict=True))


def assert_same(one, other):
    (losses, gradients), (other_losses, other_gradients) = one, other
    for name in losses:
        np.testing.assert_allclose(losses[name], other_losses[name], rtol=1e-5)
    scale = max(np.abs(g).max() for g in gradients.values())
    for name in gradients:
        difference = np.abs(gradients[name] - other_gradients[name]).max()
        assert difference <= 1e-5 * scale, name


@pytest.mark.parametrize("name", ALL)
def test_a_short_batch_is_worth_the_same_as_at_full_length(tiny_finetuning, name):
    model, data = make(tiny_finetuning, [name])
    rows = np.argsort(data.lengths, kind="stable")[:6]
    longest = int(data.lengths[rows].max())
    short, full = (data.batch(rows, length) for length in (longest, tiny_tasks.POSITIONS))
    assert longest < tiny_tasks.POSITIONS
    ours = loss_and_gradients(model, short)
    assert max(np.abs(g).max() for g in ours[1].values()) > 1e-3
    assert_same(ours, loss_and_gradients(model, full))


def test_rows_without_an_example_carry_no_loss(tiny_finetuning):
    model, data = make(tiny_finetuning, ALL)
    rows = np.arange(0, data.num_rows, 9)
    filled = np.concatenate([rows, [NO_ROW] * 3])
    one, other = (loss_and_gradients(model, data.batch(r, 40)) for r in (rows, filled))
    assert_same(one, other)


def test_tasks_together_add_up(tiny_finetuning):
    """Each task's examples have the loss that they have without the other tasks' examples."""
    model, data = make(tiny_finetuning, ALL)
    first = np.cumsum([0, *(table.num_rows for table in data.tables)])
    together = np.concatenate([np.arange(start, start + 3) for start in first[:-1]])
    losses, _ = loss_and_gradients(model, data.batch(together, 40))
    assert list(losses) == [f"{name}_loss" for name in ALL]
    for name, start in zip(ALL, first[:-1], strict=True):
        alone, _ = loss_and_gradients(model, data.batch(np.arange(start, start + 3), 40))
        np.testing.assert_allclose(losses[f"{name}_loss"], alone[f"{name}_loss"], rtol=1e-5)
        assert float(alone[f"{name}_loss"]) > 0
        assert sum(float(loss) for loss in alone.values()) == float(alone[f"{name}_loss"])


# Scores the 33 examples of the dev split on one and on two replicas, in a process of its own:
# devices are split before TensorFlow is initialized.
PROGRAM = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import pathlib
from electra_tf2.training.devices import open_devices
from finetune.scoring import Evaluation
from finetune.features import Preprocessor
from finetune.setup import prepare
from finetune.trial import build_model
from tests.finetune import tiny_tasks

found = {}
for distribution in ("one_device", "mirrored"):
    config = tiny_tasks.configure(
        pathlib.Path(sys.argv[1]), distribution=distribution, eval_batch_size=32,
        predict_batch_size=10, train_batch_size=32,
    )
    setup = prepare(config, open_devices(config, print))
    model = build_model(setup, 0, need_heads=False)
    (task,) = setup.tasks
    table = Preprocessor(config).features(task, "dev")
    for fixed in (False, True):
        evaluation = Evaluation(config, model, setup.strategy, fixed_weights=fixed)
        for batch_size in (config.eval_batch_size, config.predict_batch_size):
            outputs = evaluation.outputs(task, table, batch_size)
            key = f"{setup.strategy.num_replicas_in_sync} replicas, batch {batch_size}, {fixed=}"
            found[key] = [
                [int(o["eid"]), int(o["label_ids"]), float(o["loss"])] for o in outputs
            ]
    result = evaluation.score(task, "dev", table)
    found[key + " score"] = dict(result.scorer.get_results())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_every_example_is_scored_once(data_dir):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(data_dir)],
        cwd=tiny_tasks.ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    scores = [found.pop(key) for key in list(found) if key.endswith("score")]
    assert [key.split(",")[0] for key in found] == ["1 replicas"] * 4 + ["2 replicas"] * 4
    whole = {eid: (label, loss) for eid, label, loss in next(iter(found.values()))}
    assert sorted(whole) == list(range(33))
    for key, examples in found.items():
        counts = collections.Counter(eid for eid, _, _ in examples)
        assert counts == dict.fromkeys(range(33), 1), key
        for eid, label, loss in examples:
            assert label == whole[eid][0]
            assert loss == pytest.approx(whole[eid][1], rel=1e-5)
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
