"""A grown model is an ordinary one: it is trained further, fine-tuned and exported."""

import shutil

import numpy as np
import pytest

import grow_model
from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.formats.match import match_arrays
from electra_tf2.loading.positions import TRAINED_POSITIONS
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from tests.data.small_corpus import PIECES
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

NEW = ["ships", "##ers", "unknown"]
POSITIONS = 48
GROWN = tiny.UNIFORM | {
    "vocab_size": len(PIECES) + len(NEW),
    "max_seq_length": POSITIONS,
    "model_hparam_overrides": tiny.NETWORK | {"max_position_embeddings": POSITIONS},
}


@pytest.fixture(scope="module")
def grown_data(trained_for_three_steps, tmp_path_factory):
    """A folder with a grown model, and data of its vocabulary and length."""
    folder = tmp_path_factory.mktemp("grown")
    (folder / "new.txt").write_text("\n".join(NEW))
    model = folder / "models" / "grown"
    flags = ["--new-pieces", folder / "new.txt", "--max-positions", POSITIONS, "--output", model]
    grow_model.main(list(map(str, ["--model-dir", trained_for_three_steps, *flags])))
    shutil.copy(model / "vocab.txt", folder)
    tiny.write_data(folder, length=POSITIONS, shards=1)
    return folder


def test_pre_training_starts_from_it(grown_data):
    grown = grown_data / "models" / "grown"
    _, shown = tiny.pretrain_here(
        grown_data, "further", **GROWN, num_train_steps=1, init_checkpoint=str(grown)
    )
    assert f"Starting from the weights in {grown}/checkpoints/step-00000000" in shown
    before, after = (open_pretrained(str(grown_data / "models" / n)) for n in ("grown", "further"))
    assert before.arrays.keys() == after.arrays.keys()
    assert before.network == after.network and before.casing == after.casing


@pytest.mark.slow
def test_pre_training_under_its_own_name_has_a_fresh_optimizer(grown_data, tmp_path):
    shutil.copytree(grown_data / "models" / "grown", tmp_path / "models" / "grown")
    shutil.copytree(grown_data / "pretrain_tfrecords", tmp_path / "pretrain_tfrecords")
    shutil.copy(grown_data / "vocab.txt", tmp_path)
    with pytest.raises(UserError, match="another configuration") as error:
        tiny.pretrain_here(tmp_path, "grown", **GROWN)
    assert "max_seq_length" in error.value.received and "init_checkpoint" in error.value.remedy
    same = GROWN | {"max_seq_length": tiny.LENGTH}  # as the remedy says
    shutil.rmtree(tmp_path / "pretrain_tfrecords")
    tiny.write_data(tmp_path)
    _, shown = tiny.pretrain_here(tmp_path, "grown", **same, num_train_steps=1)
    assert "weights alone: the optimizer starts afresh" in shown and "Resuming at step 0" in shown
    # Its checkpoints still say which positions are trained, whatever its hparams do.
    state = tiny.newest(tmp_path, "grown").state
    assert state[TRAINED_POSITIONS] == tiny.LENGTH


def test_a_grown_model_has_no_optimizer_to_branch_from(grown_data):
    grown = grown_data / "models" / "grown" / "checkpoints" / "step-00000000"
    with pytest.raises(UserError) as error:
        tiny.pretrain_here(grown_data, "branch", **GROWN, branch_from=str(grown))
    assert error.value.where == "hparam branch_from" and "init_checkpoint" in error.value.remedy


@pytest.mark.slow
def test_disentangled_embeddings_grow_and_train_on(tiny_data, tmp_path):
    """Its own folder holds the sums; the run takes the generator's tables from them again."""
    still = {"learning_rate": 1e-12, "num_warmup_steps": 0}  # weights stay where they began
    hparams = {"embedding_sharing": "gdes", "num_train_steps": 1, **still}
    tiny.pretrain_here(tiny_data, "gdes_to_grow", **hparams)
    model = tmp_path / "models" / "grown"
    before = open_pretrained(str(tiny_data / "models" / "gdes_to_grow")).arrays
    flags = ["--max-positions", POSITIONS, "--trained-positions", tiny.LENGTH, "--output", model]
    grow_model.main(list(map(str, ["--model-dir", tiny_data / "models" / "gdes_to_grow", *flags])))
    for name in ("pretrain_tfrecords", "vocab.txt"):
        (tmp_path / name).symlink_to(tiny_data / name)
    hparams["model_hparam_overrides"] = GROWN["model_hparam_overrides"]
    _, shown = tiny.pretrain_here(tmp_path, "grown", **hparams)
    assert "optimizer starts afresh" in shown
    copied = {"init_checkpoint": str(model), "copy_positions": 12}
    tiny.pretrain_here(tmp_path, "further", **hparams, **copied)
    for folder, period in ((model, tiny.LENGTH), (tmp_path / "models" / "further", 12)):
        after = open_pretrained(str(folder)).arrays
        for name, array in before.items():
            if "position_embeddings" in name:
                array = array[np.arange(POSITIONS) % period]
            np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-6, err_msg=name)


def test_advice_is_for_tables_that_are_too_short():
    tables = {"electra/embeddings/position_embeddings": (9, 4), "x/output_bias": (7,)}
    arrays = {name: np.zeros((5, *shape[1:])) for name, shape in tables.items()}
    assert "grow_model.py" in match_arrays(tables, arrays).growing_advice
    name = "electra/embeddings/position_embeddings"
    for other in (
        match_arrays(tables, arrays | {name: np.zeros((5, 3))}),
        match_arrays(tables, arrays | {name: np.zeros((12, 4))}),
        match_arrays({**tables, "kernel": (2,)}, {**arrays, "kernel": np.zeros(1)}),
        match_arrays({**tables, "kernel": (2,)}, arrays),
        match_arrays({}, arrays),
    ):
        assert not other.growing_advice


def test_a_run_whose_tables_are_longer_is_told_of_it(tiny_data, trained_for_three_steps):
    with pytest.raises(UserError, match="belongs to another network") as error:
        tiny.pretrain_here(
            tiny_data,
            "longer",
            **tiny.UNIFORM | {"model_hparam_overrides": GROWN["model_hparam_overrides"]},
            init_checkpoint=str(trained_for_three_steps),
        )
    assert "grow_model.py" in error.value.remedy


@pytest.mark.slow
def test_fine_tuning_starts_from_it(grown_data):
    tiny_tasks.write_marks(grown_data, train=8, dev=8)
    _, shown = tiny_tasks.finetune_here(
        grown_data, model="grown", max_seq_length=POSITIONS, **tiny_tasks.SHORT
    )
    assert f"Weights from {grown_data}/models/grown/checkpoints/step-00000000" in shown


def test_exports_know_it(grown_data, tmp_path):
    grown = grown_data / "models" / "grown"
    export_huggingface(str(grown), str(tmp_path / "exported"), ExportOptions())
    own, exported = open_source(str(grown)), open_source(str(tmp_path / "exported"))
    assert exported.vocabulary.tokens == (*PIECES, *NEW)
    assert exported.network.max_position_embeddings == POSITIONS
    name = "electra/embeddings/word_embeddings"
    arrays = (source.pretrained.arrays[name] for source in (own, exported))
    np.testing.assert_array_equal(*arrays)
