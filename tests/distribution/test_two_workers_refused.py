"""What ends a run of two workers before it trains: a message on both, and nothing written."""

import pytest

from tests.distribution import clusters
from tests.pretraining import tiny

pytestmark = pytest.mark.slow


def start(data_dir, logs, *hparams):
    """Starts a worker for each of the given hparams."""
    commands = [
        tiny.arguments(data_dir, "workers-refused", **{**clusters.TWO, **own}) for own in hparams
    ]
    return clusters.Cluster(tiny.SCRIPT, commands, logs)


def test_workers_with_different_hparams(tiny_data, tmp_path):
    with start(tiny_data, tmp_path, {}, {"learning_rate": 2e-3}) as cluster:
        assert cluster.wait(60) == [2, 2]
        for index in range(2):
            text = cluster.text(index)
            assert "error: The workers were started with different settings." in text
            assert f"where: worker 1, 127.0.0.1:{cluster.ports[1]}" in text
            assert "learning_rate 0.002, the chief has 0.001" in text
    assert not (tiny_data / "models" / "workers-refused").exists()


def test_a_worker_that_does_not_come(tiny_data, tmp_path):
    alone = {"worker_timeout": 2}
    with start(tiny_data, tmp_path, alone, alone) as cluster:
        cluster.processes[1].kill()
        assert cluster.processes[0].wait(60) == 2
        text = cluster.text(0)
        assert "error: Workers did not come within 2 seconds." in text
        assert f"worker 1 (127.0.0.1:{cluster.ports[1]}): " in text


def test_a_file_that_one_host_lacks(tiny_data, tmp_path):
    """Paths are the same for both workers, and lead to other folders."""
    hparams = {
        **clusters.TWO,
        "vocab_file": str(tiny_data / "vocab.txt"),
        "pretrain_tfrecords": "records/" + tiny.GLOB,
        "model_dir": "models/refused",
        "results_txt": "models/refused/results.txt",
        "results_pkl": "models/refused/results.pkl",
    }
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "records").symlink_to(tiny_data / "pretrain_tfrecords")
    command = tiny.arguments("data", "refused", **hparams)

    def refused():
        """What the two say, which both leave with exit code 2."""
        with clusters.Cluster(
            tiny.SCRIPT, [command] * 2, tmp_path, folders=[here, there]
        ) as cluster:
            codes, texts = cluster.wait(90), (cluster.text(0), cluster.text(1))
        assert codes == [2, 2] and "Traceback" not in "".join(texts), texts
        return texts, cluster.ports[1]

    texts, port = refused()
    assert "error: Worker 1 can't take part." in texts[0]
    assert f"where: 127.0.0.1:{port}" in texts[0]
    assert "records/pretrain_data.tfrecord*" in texts[0]
    # Now both have data, but not the same.
    (there / "records").symlink_to(tiny_data / "held_out")
    for text in refused()[0]:
        assert "error: The workers don't see the same files." in text
        assert "received: the data: 32 examples (" in text
    # Now both have the data, but not the same folder of models.
    (there / "records").unlink()
    (there / "records").symlink_to(tiny_data / "pretrain_tfrecords")
    for text in refused()[0]:
        assert "error: The workers don't see the same files." in text
        assert "models/refused/config.json: none; the chief sees there" in text
    assert not (there / "models").exists()


def test_a_batch_that_two_can_not_share(tiny_data, tmp_path):
    odd = {"train_batch_size": 7}
    with start(tiny_data, tmp_path, odd, odd) as cluster:
        assert cluster.wait(60) == [2, 2]
        assert "received: 7 examples for 2 replicas x 1 micro-batches" in cluster.text(1)
