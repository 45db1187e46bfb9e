"""Fixtures of several files."""

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.text.vocabulary import load_vocabulary
from tests.pretraining import tiny


@pytest.fixture(scope="module")
def objective(tmp_path_factory):
    tiny.write_vocabulary(folder := tmp_path_factory.mktemp("vocabulary"))
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    hparams = tiny.HPARAMS | {"model_hparam_overrides": tiny.NETWORK | no_dropout}
    config = PretrainingConfig("m", "unused", **hparams)
    vocabulary = load_vocabulary(str(folder / "vocab.txt"))
    return build_pretraining(config, config.network(), vocabulary).objective
