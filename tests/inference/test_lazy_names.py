"""The packages stay light until one of their classes is asked for."""

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


def test_names_there_are_none_of():
    for package in (electra_tf2, finetune):
        with pytest.raises(AttributeError, match="has no attribute 'Decoder'"):
            package.Decoder  # noqa: B018
