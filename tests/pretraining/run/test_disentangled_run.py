"""Runs that hide whole words or spans, with embeddings that the discriminator adds to."""

import shutil

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.pretraining.phases import RunCompute
from tests.data.small_corpus import PIECES
from tests.pretraining import tiny

HPARAMS = {"masking": "span", "embedding_sharing": "gdes"}
DELTA = "electra/embeddings/word_embeddings_delta"
TABLE = "generator/embeddings/word_embeddings"


@pytest.fixture(scope="module")
def trained(tiny_data):
    """(model folder, what was printed) of six steps, with checkpoints after 3 and 6."""
    _, shown = tiny.pretrain_here(tiny_data, "gdes", **HPARAMS)
    return tiny_data / "models" / "gdes", shown


@pytest.mark.slow
def test_both_tables_are_stored_and_trained(trained):
    folder, shown = trained
    weights = tiny.newest(folder.parents[1], folder.name).weights
    assert np.abs(weights[DELTA]).max() > 1e-4
    assert weights[TABLE].shape == weights[DELTA].shape == (len(PIECES), 8)
    assert "electra/embeddings/word_embeddings" not in weights
    parameters = {
        scope: sum(array.size for name, array in weights.items() if name.startswith(scope))
        for scope in ("", "generator", "electra/")
    }
    assert f"Model: {parameters['']:,} parameters ({parameters['generator']:,} generator" in shown
    assert f"discriminator); {parameters['electra/']:,} in the encoder" in shown
    assert tiny.lines(folder)[-1]["masked_lm_accuracy"] >= 0


@pytest.mark.slow
def test_operations_of_the_sums_are_counted(trained):
    folder, shown = trained
    data_dir = folder.parents[1]
    ways = (tiny.configure(data_dir, **HPARAMS), tiny.configure(data_dir))
    ours, shared = (RunCompute(config, config.network()) for config in ways)
    assert "\n".join(ours.describe()) in shown
    assert ours.example(0).forward - shared.example(0).forward == 2 * 8 * tiny.LENGTH
    assert ours.example(0).products == shared.example(0).products


@pytest.mark.slow
def test_a_resumed_run_is_the_same(trained, tiny_data):
    folder, _ = trained
    again = tiny_data / "models" / "gdes_again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "checkpoints" / "step-00000006")
    _, shown = tiny.pretrain_here(tiny_data, again.name, **HPARAMS)
    assert "Resuming at step 3" in shown
    tiny.assert_same_end(tiny_data, again.name, folder.name)


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"masking": "whole_word"}, {"embedding_sharing": "shared"}])
def test_another_setting_is_refused(trained, tiny_data, other):
    folder, _ = trained
    ((name, value),) = other.items()
    with pytest.raises(UserError, match="another configuration") as error:
        tiny.pretrain_here(tiny_data, folder.name, **HPARAMS | other)
    assert f"{name}: the model has {HPARAMS[name]!r}, this run {value!r}" in error.value.received
