"""A program of the project on a CPU that is split into devices.

    PROGRAM=run_finetuning VIRTUAL_DEVICES=2 python tests/on_devices.py --data-dir ...

PROGRAM is run_pretraining by default. With STOP_AT the process gets a SIGTERM after that step.
"""

import importlib
import os
import signal

import tensorflow as tf

from electra_tf2 import cli
from electra_tf2.training.trainer import Trainer


def stop_at(step):
    """Sends this process a SIGTERM when training has come to a step."""
    account = Trainer._account

    def account_and_stop(self, *arguments):
        account(self, *arguments)
        if self.step >= step:
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._account = account_and_stop


if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["VIRTUAL_DEVICES"]),
    )
    if "STOP_AT" in os.environ:
        stop_at(int(os.environ["STOP_AT"]))
    cli.run(importlib.import_module(os.environ.get("PROGRAM", "run_pretraining")).main)
