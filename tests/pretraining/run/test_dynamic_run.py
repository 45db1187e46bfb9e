"""Runs on documents: two lengths from the same shards, stopped and resumed at any step."""

import pytest

from electra_tf2.data import open_records
from electra_tf2.data.document_input import BackgroundProducer
from electra_tf2.data.input import open_training_files
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED
from electra_tf2.training.trainer import Interrupted
from tests.data.small_corpus import content
from tests.pretraining import tiny

SHORT = {"num_train_steps": 5, "max_seq_length": 16, "train_batch_size": 32}
LONG = {"num_train_steps": 7, "max_seq_length": tiny.LENGTH, "train_batch_size": 32}
STEPS = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Documents: an epoch of them is some steps."""
    folder = tmp_path_factory.mktemp("dynamic")
    for name, seed in (("documents", 0), ("held_out", 1)):
        options = {"records": name, "seed": seed, "length": None}
        tiny.write_data(folder, **options, flags=("--segmentation", "dynamic"))
    tiny.write_data(folder, records="examples")
    return folder


def hparams(root, **changes):
    given = tiny.HPARAMS | tiny.UNIFORM | {"segmentation": "dynamic", "log_every_steps": 1}
    given |= {"phases": [SHORT, LONG], "num_train_steps": STEPS}
    given |= {"pretrain_tfrecords": f"{root}/documents/{tiny.GLOB}"}
    given |= {"eval_tfrecords": f"{root}/held_out/{tiny.GLOB}", "num_eval_steps": 3}
    return given | changes


def train(root, name, **changes):
    return tiny.pretrain_here(root, name, **hparams(root, do_eval=True, **changes))


@pytest.fixture(scope="module")
def undisturbed(root):
    found, shown = train(root, "undisturbed_documents")
    return found, shown


def test_documents_are_cut_at_the_length_of_each_phase(root, undisturbed):
    found, shown = undisturbed
    assert "Phase 1 of 2: 32 x 16 tokens a step\nTraining from step 0 to 5 on" in shown
    assert "Phase 2 of 2: 32 x 32 tokens a step\nTraining from step 5 to 12 on" in shown
    assert " examples in the first epoch (" in shown and " epochs); the first step" in shown
    steps = [line["step"] for line in tiny.figures(root, "undisturbed_documents", "train")]
    assert steps == list(range(1, STEPS + 1))
    assert 0 < found["discriminator_loss"] < 2


@pytest.mark.slow
def test_a_batch_of_another_size_ends_the_thread_before(root, monkeypatch):
    made, alive = [], []

    def recorded(*arguments):
        alive.append([own._thread.is_alive() for own in made])
        made.append(BackgroundProducer(*arguments))
        return made[-1]

    monkeypatch.setattr("electra_tf2.data.document_input.BackgroundProducer", recorded)
    ramp = {"train_batch_size": [[0, 4], [1, 8]], "phases": None, "num_train_steps": 2}
    documents = f"{root}/documents/{tiny.GLOB}"
    mixture = {documents: 1.0, f"{root}/held_out/{tiny.GLOB}": 1.0}
    for name, records in (("ramp", documents), ("mixed_ramp", mixture)):
        tiny.pretrain_here(root, name, **hparams(root, **ramp, pretrain_tfrecords=records))
        assert alive == [[], [False]]
        made.clear()
        alive.clear()
        sizes = [line["train_batch_size"] for line in tiny.figures(root, name, "train")]
        assert sizes == [4, 8]


def test_a_phase_is_longer_than_an_epoch(root):
    """So that the run below is resumed beyond one."""
    config = tiny.configure(root, **hparams(root))
    from electra_tf2.text.vocabulary import load_vocabulary

    files = open_training_files(
        config.pretrain_tfrecords,
        segmentation="dynamic",
        max_seq_length=tiny.LENGTH,
        vocabulary=load_vocabulary(config.vocab_file),
        casing=UNCASED,
        taken=("strip_accents",),
    )
    for phase in (SHORT, LONG):
        size = files.evaluation_size(phase["max_seq_length"], 10**9)
        assert size < (phase["num_train_steps"] - 1) * phase["train_batch_size"]


@pytest.mark.slow
def test_stopped_and_killed_it_ends_bit_for_bit_alike(root, undisturbed):
    """Stopped in its first phase; in the second, the newest checkpoint is two steps old."""
    with tiny.disturbed_at(4, tiny.terminate), pytest.raises(Interrupted, match="after step 4"):
        train(root, "stopped_documents")
    with tiny.disturbed_at(11, tiny.die), pytest.raises(RuntimeError, match="died"):
        train(root, "stopped_documents")
    found, shown = train(root, "stopped_documents")
    assert "Training from step 9 to 12" in shown
    assert found == undisturbed[0]
    tiny.assert_same_end(root, "stopped_documents", "undisturbed_documents")
    for split in ("train", "eval"):
        ends = [tiny.figures(root, f"{own}_documents", split) for own in ("stopped", "undisturbed")]
        assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"segmentation": "static"}, "segmentation is dynamic in the records, static in the run"),
        ({"pretrain_tfrecords": "examples"}, "segmentation is static in the records, dynamic in"),
        ({"eval_tfrecords": "examples"}, "segmentation is static in the records, dynamic in"),
    ],
    ids=str,
)
def test_the_wrong_kind_of_records_is_refused(root, undisturbed, changes, message):
    before = content(root / "models")
    globs = {k: f"{root}/{v}/{tiny.GLOB}" for k, v in changes.items() if "tfrecords" in k}
    with pytest.raises(UserError, match=message):
        train(root, "refused_documents", **(changes | globs))
    assert content(root / "models") == before


def test_a_run_goes_on_with_its_segmentation(root, undisturbed):
    examples = f"{root}/examples/{tiny.GLOB}"
    static = {"segmentation": "static", "pretrain_tfrecords": examples, "eval_tfrecords": examples}
    with pytest.raises(UserError, match="trained with another configuration") as info:
        train(root, "undisturbed_documents", **static)
    assert info.value.received == "segmentation: the model has 'dynamic', this run 'static'"


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["documents", "held_out"])
def test_damage_that_is_found_on_resuming_or_in_an_evaluation(root, monkeypatch, damaged):
    """Of large data, that is, whose checksums aren't verified at the start."""
    monkeypatch.setattr(open_records, "_FULLY_VERIFIED_BYTES", 0)
    name = f"damaged_{damaged}"
    short = {"phases": None, "eval_every_steps": 0}
    tiny.pretrain_here(root, name, **hparams(root, num_train_steps=3, **short))
    shard = next((root / damaged).glob(tiny.GLOB))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    try:
        with pytest.raises(UserError, match="corrupt") as error:
            train(root, name, num_train_steps=4, **short)
    finally:
        shard.write_bytes(whole)
    assert error.value.where.startswith(f"{shard}, in the record")
    _, shown = train(root, name, num_train_steps=4, **short)
    assert "Resuming at step 3" in shown or damaged == "held_out"
