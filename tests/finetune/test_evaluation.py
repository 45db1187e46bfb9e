"""Scoring sees every example exactly once, on any number of replicas."""

import collections
import json

import pytest

from tests.programs import run_python

# Scores the 33 examples of the dev split on one and on two replicas, in a process of its own:
# devices are split before TensorFlow is initialized.
PROGRAM = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import pathlib
from electra_tf2.training.devices import open_devices
from finetune.evaluation import Evaluation
from finetune.features import Preprocessor
from finetune.run.open_run import open_run
from finetune.run.trial import build_model
from tests.finetune import tiny_tasks

found = {}
for distribution in ("one_device", "mirrored"):
    config = tiny_tasks.configure(
        pathlib.Path(sys.argv[1]), distribution=distribution, eval_batch_size=32,
        predict_batch_size=10, train_batch_size=32,
    )
    run = open_run(config, open_devices(config))
    model = build_model(run, 0, need_heads=False)
    (task,) = run.tasks
    table = Preprocessor(config).features(task, "dev")
    for fixed in (False, True):
        evaluation = Evaluation(config, model, run.strategy, fixed_weights=fixed)
        for batch_size in (config.eval_batch_size, config.predict_batch_size):
            outputs = evaluation.outputs(task, table, batch_size)
            key = f"{run.strategy.num_replicas_in_sync} replicas, batch {batch_size}, {fixed=}"
            found[key] = [
                [int(o["eid"]), int(o["label_ids"]), float(o["loss"])] for o in outputs
            ]
    result = evaluation.score(task, "dev", table)
    found[key + " score"] = dict(result.scorer.get_results())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_every_example_is_scored_once(data_dir):
    found = json.loads(run_python("-c", PROGRAM, data_dir).stdout)
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
