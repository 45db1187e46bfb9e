"""The packages stay light until one of their classes is asked for."""

import os
import subprocess
import sys

import pytest

import electra_tf2
import finetune
from tests.programs import run_python

CODE = """
import sys, electra_tf2, finetune
assert {"Encoder", "Discriminator", "Generator"} <= set(dir(electra_tf2))
assert "FineTuned" in dir(finetune)
heavy = {"tensorflow", "keras", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_the_packages_imports_no_library():
    run_python("-c", CODE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["electra_tf2.Encoder", "finetune.FineTuned"])
def test_loading_a_class_prints_nothing(name):
    module = name.partition(".")[0]
    code = f"import {module}; {name}; import tensorflow as tf; tf.constant(1) + 1"
    environment = {n: value for n, value in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_names_there_are_none_of():
    for package in (electra_tf2, finetune):
        with pytest.raises(AttributeError, match="has no attribute 'Decoder'"):
            package.Decoder  # noqa: B018
