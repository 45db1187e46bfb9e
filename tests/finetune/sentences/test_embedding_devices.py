"""The negatives are those of the global batch, and stopped trials resume."""

import functools
import shutil

import numpy as np
import pytest

from tests.finetune import tiny_tasks
from tests.finetune.sentences.sentence_samples import TRIPLETS, triplets, write_lines

pytestmark = pytest.mark.slow

HPARAMS = {
    "task_names": ["texts"],
    "tasks": {"texts": TRIPLETS},
    "model_hparam_overrides": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "save_checkpoints_steps": 100,
    "num_train_epochs": 2.0,
}


train = functools.partial(tiny_tasks.finetune_on_devices, "texts_model_1", **HPARAMS)


def test_two_devices_and_a_resumed_trial_train_the_same_weights(tiny_finetuning, tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "stopped")]
    for folder in folders:
        shutil.copytree(tiny_finetuning, folder)
        texts = folder / "finetuning_data" / "texts"
        write_lines(texts / "train.jsonl", triplets(30))  # the last batch is filled up
        write_lines(texts / "dev.jsonl", triplets(6, seed=1))
    one, two, stopped = folders
    code, expected = train(one, 1)
    assert code == 0
    # With XLA, which is off where replicas exchange embeddings.
    code, found = train(two, 2, distribution="mirrored", xla=True)
    assert code == 0
    for name, weights in expected.items():
        np.testing.assert_allclose(found[name], weights, atol=2e-5, err_msg=name)
    code, _ = train(stopped, 1, stop_at=3)
    assert code == 75
    code, resumed = train(stopped, 1)
    assert code == 0
    for name, weights in expected.items():
        np.testing.assert_array_equal(resumed[name], weights, err_msg=name)
