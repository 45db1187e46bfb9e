"""The same random weights in every run."""

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
