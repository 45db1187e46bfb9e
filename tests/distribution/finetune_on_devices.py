"""run_finetuning.py on a CPU split into VIRTUAL_DEVICES."""

import os

import tensorflow as tf

import run_finetuning
from electra_tf2 import cli

if __name__ == "__main__":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(os.environ["VIRTUAL_DEVICES"]),
    )
    cli.run(run_finetuning.main)
