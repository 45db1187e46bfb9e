"""run_pretraining.py on a CPU split into VIRTUAL_DEVICES, sent a SIGTERM after step STOP_AT."""

import os
import signal

import tensorflow as tf

import run_pretraining
from electra_tf2 import cli
from electra_tf2.training.trainer import Trainer

if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["VIRTUAL_DEVICES"]),
    )
    account = Trainer._account

    def account_and_stop(self, *arguments):
        account(self, *arguments)
        if self.step >= int(os.environ["STOP_AT"]):
            os.kill(os.getpid(), signal.SIGTERM)

    Trainer._account = account_and_stop
    cli.run(run_pretraining.main)
