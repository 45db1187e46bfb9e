"""Several workers of one run, each a process of its own on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

from tests.finetune import tiny_tasks
from tests.pretraining import tiny

ON_DEVICES = tiny.ROOT / "tests" / "on_devices.py"
TWO = {"distribution": "multi_worker", "worker_timeout": 60}
# A key bias adds the same to all scores of a query, and softmax takes it away again: its gradient
# is rounding noise. All other variables have to move.
WITHOUT_GRADIENT = "attention/key/bias"


def free_ports(count):
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def tf_config(ports, index):
    """TF_CONFIG of a worker."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


class Cluster:
    """Workers that run a program; the context ends those that are left.

    Args:
        script: the program.
        commands: its arguments, of each worker.
        logs: folder for what each prints, `worker-<index>.log`.
        folders: where each is started; here if there are none.
    """

    def __init__(self, script, commands, logs, folders=None):
        self.logs = [logs / f"worker-{i}.log" for i in range(len(commands))]
        self.ports = free_ports(len(commands))
        self.processes = []
        for index, (command, log) in enumerate(zip(commands, self.logs, strict=True)):
            environment = {
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "2",
                "PYTHONPATH": str(tiny.ROOT),
                "TF_CONFIG": tf_config(self.ports, index),
            }
            with open(log, "w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(script), *command],
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=folders[index] if folders else None,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def wait(self, timeout=240):
        """Waits for all; returns their exit codes."""
        return [process.wait(timeout) for process in self.processes]

    def text(self, index):
        """What a worker has printed."""
        return self.logs[index].read_text()

    def wait_for(self, path, timeout=180):
        """Waits until a file is there; fails if a worker ends before."""
        end = time.monotonic() + timeout
        while not path.exists():
            assert time.monotonic() < end, "".join(self.text(i) for i in range(len(self.logs)))
            for index, process in enumerate(self.processes):
                assert process.poll() is None, self.text(index)
            time.sleep(0.02)


def pretraining(data_dir, name, logs, count=2, **hparams):
    """Starts pre-training on some workers."""
    command = tiny.arguments(data_dir, name, **{**TWO, **hparams})
    return Cluster(tiny.SCRIPT, [command] * count, logs)


def finetuning(data_dir, logs, count=2, **hparams):
    """Starts fine-tuning on some workers."""
    command = tiny_tasks.arguments(data_dir, **{**TWO, **hparams})
    return Cluster(tiny_tasks.SCRIPT, [command] * count, logs)


def pretrain_until(data_dir, name, step, devices, **hparams):
    """Pre-trains on some devices of one process, and stops it after a step."""
    environment = {"VIRTUAL_DEVICES": str(devices), "STOP_AT": str(step)}
    hparams = {"distribution": "mirrored", "iterations_per_loop": 1, **hparams}
    code, message = tiny.run(data_dir, name, env=environment, script=ON_DEVICES, **hparams)
    assert code == 75 and f"The run was stopped after step {step}" in message, message


def finetune_on_replicas(data_dir, count=2, **hparams):
    """Fine-tunes on some devices of one process."""
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(tiny.ROOT),
        "PROGRAM": "run_finetuning",
        "VIRTUAL_DEVICES": str(count),
    }
    command = tiny_tasks.arguments(data_dir, distribution="mirrored", **hparams)
    done = subprocess.run(
        [sys.executable, str(ON_DEVICES), *command],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert f"({count} replicas)" in done.stderr


def trial_results(data_dir):
    """The results of fine-tuning `tiny_tasks.HPARAMS`."""
    path = data_dir / "models" / tiny_tasks.MODEL / "results" / "marks_results.json"
    return json.loads(path.read_text())["trials"]


def dev_predictions(data_dir):
    """Example -> predicted class, of the first trial's predictions for the dev split."""
    folder = data_dir / "models" / tiny_tasks.MODEL / "test_predictions"
    (path,) = folder.glob("marks_dev_1_predictions.jsonl")
    return [json.loads(line)["label"] for line in path.read_text().splitlines()]
