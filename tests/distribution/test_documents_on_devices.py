"""Documents cut differently every epoch: two devices and two workers train what one device does."""

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from tests.distribution import clusters
from tests.pretraining import tiny

pytestmark = pytest.mark.slow

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STEPS = 16  # of 8 examples: more than an epoch


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents-on-devices")
    tiny.write_data(folder, records="documents", length=None, flags=("--segmentation", "dynamic"))
    return folder


def hparams(root):
    return {
        "segmentation": "dynamic",
        "model_hparam_overrides": tiny.NETWORK | NO_DROPOUT,
        "pretrain_tfrecords": f"{root}/documents/{tiny.GLOB}",
        "learning_rate": 2e-3,
        "num_warmup_steps": 2,
        "num_train_steps": STEPS,
        "save_checkpoints_steps": 1000,
    }


def weights(root, name):
    store = CheckpointStore(str(root / "models" / name))
    found = store.load(store.latest())
    assert found.step == STEPS
    return found.weights


def test_documents_on_several_devices(root, tmp_path):
    given = hparams(root)
    with clusters.pretraining(root, "workers", tmp_path, **given) as cluster:
        tiny.pretrain_here(root, "one", **given)
        code, message = tiny.run(
            root,
            "two",
            env={"VIRTUAL_DEVICES": "2"},
            script=clusters.ON_DEVICES,
            distribution="mirrored",
            **given,
        )
        assert code == 0, message
        assert "2 replicas" in message
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
    expected = weights(root, "one")
    for name in ("two", "workers"):
        for path, array in weights(root, name).items():
            np.testing.assert_allclose(array, expected[path], atol=1e-5, err_msg=f"{name}, {path}")
