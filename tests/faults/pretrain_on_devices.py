"""run_pretraining.py on a CPU that is split into as many devices as VIRTUAL_DEVICES says."""

import os

import tensorflow as tf

import run_pretraining
from electra_tf2 import cli

if __name__ == "__main__":
    count = int(os.environ["VIRTUAL_DEVICES"])
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * count,
    )
    cli.run(run_pretraining.main)
