"""The hparam copy_positions: longer examples begin with copies of trained position embeddings."""

import shutil

import numpy as np
import pytest

from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.training.checkpoints import CheckpointStore
from tests.pretraining import tiny
from tests.pretraining.masked_lms import write_model

TABLE = "electra/embeddings/position_embeddings"
TRAINED = 12
STILL = {"learning_rate": 1e-12, "num_warmup_steps": 0}  # weights stay where they began


def copied(table, trained=TRAINED):
    return table[np.arange(len(table)) % trained]


def test_a_run_that_starts_from_other_weights(tiny_data, trained_for_three_steps):
    _, shown = tiny.pretrain_here(
        tiny_data,
        "copied",
        **tiny.UNIFORM | STILL,
        num_train_steps=2,
        phases=[{"num_train_steps": 1}, {"num_train_steps": 1}],
        copy_positions=TRAINED,
        init_checkpoint=str(trained_for_three_steps),
    )
    assert shown.count(f"first {TRAINED} position embeddings are copied") == 1
    before = open_pretrained(str(trained_for_three_steps)).arrays
    after = open_pretrained(str(tiny_data / "models" / "copied")).arrays
    assert not np.array_equal(before[TABLE], copied(before[TABLE]))
    for name, array in before.items():
        expected = copied(array) if name == TABLE else array
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_later_phase(tiny_data):
    """Its first step begins with copies of the rows that the phase before has trained."""
    length, rows = tiny.LENGTH, tiny.LENGTH + TRAINED
    phases = [{"num_train_steps": 2}, {"num_train_steps": 1, "copy_positions": length, **STILL}]
    given = tiny.UNIFORM | {"phases": phases, "num_train_steps": 3, "save_checkpoints_steps": 1}
    given["model_hparam_overrides"] = tiny.NETWORK | {"max_position_embeddings": rows}
    _, shown = tiny.pretrain_here(tiny_data, "phases", **given, keep_checkpoint_max=0)
    store = CheckpointStore(str(tiny_data / "models" / "phases"))
    first, last = (store.load(f"{store.folder}/step-{step:08d}").weights for step in (2, 3))
    np.testing.assert_allclose(last[TABLE], copied(first[TABLE], length), rtol=0, atol=1e-6)
    assert shown.count("are copied") == 1
    # Resumed within the phase, nothing is copied again.
    phases[1]["num_train_steps"] = 2
    _, shown = tiny.pretrain_here(tiny_data, "phases", **given | {"num_train_steps": 4})
    assert "Resuming at step 3" in shown and "are copied" not in shown


@pytest.mark.slow
def test_a_later_phase_with_a_generator_from_another_model(tiny_data, tmp_path):
    """Its masked LM has trained all rows, the discriminator those of the first phase."""
    weights = write_model(tmp_path / "masked_lm", tiny_data / "vocab.txt")
    tiny.write_data(tmp_path, length=16)
    short = {"max_seq_length": 16, "pretrain_tfrecords": f"{tmp_path}/pretrain_tfrecords/*rec*"}
    phases = [
        {"num_train_steps": 1, **short, **STILL},
        {"num_train_steps": 1, "copy_positions": 16, **STILL},
    ]
    own = {"untied_generator_embeddings": True, "generator_embedding_size": 4}
    start = {"init_generator": str(tmp_path / "masked_lm")}
    own |= {"phases": phases, "num_train_steps": 2, "save_checkpoints_steps": 1}
    whole, resumed = (tiny_data / "models" / f"own_generator{end}" for end in ("", "_resumed"))
    tiny.pretrain_here(tiny_data, whole.name, **start, **own)
    # Branched, and resumed before the copies, without naming the masked LM again.
    first = whole / "checkpoints" / "step-00000001"
    tiny.pretrain_here(tiny_data, "own_generator_branch", **own, branch_from=str(first))
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step-00000002")
    _, shown = tiny.pretrain_here(tiny_data, resumed.name, **own)
    assert "Resuming at step 1" in shown
    for name in (whole.name, "own_generator_branch", resumed.name):
        after = tiny.newest(tiny_data, name)
        table = after.weights[TABLE]
        np.testing.assert_allclose(table, copied(table, 16), rtol=0, atol=1e-6)
        kept = after.weights[TABLE.replace("electra", "generator")]
        np.testing.assert_allclose(kept, weights[TABLE], rtol=0, atol=1e-6)
        assert after.state["init_generator"] is True
