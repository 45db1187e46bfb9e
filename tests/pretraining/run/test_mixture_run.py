"""Runs on a mixture of corpora: epochs in the logs, weights by phase, resuming, other weights."""

import dataclasses
import re
import signal

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.data.input import Mixture
from electra_tf2.errors import UserError
from electra_tf2.pretraining.run.data_report import report_data
from electra_tf2.pretraining.run.open_run import open_data
from electra_tf2.report.folder import open_folder
from electra_tf2.report.pretraining import training_section
from tests.faults.watched_runs import wait_for_step
from tests.pretraining import tiny


@pytest.fixture(scope="module")
def root(tiny_data):
    """The tiny data with a second, small corpus beside it."""
    tiny.write_data(tiny_data, sizes=(1500,), seed=5, shards=1, records="small")
    return tiny_data


def weights(root, large, small, kind="pretrain_tfrecords", other="small"):
    return {f"{root}/{kind}/{tiny.GLOB}": large, f"{root}/{other}/{tiny.GLOB}": small}


def opened(root, name="mixture", **hparams):
    """The checked data of a run."""
    config = tiny.configure(root, name, **tiny.UNIFORM, **hparams)
    return open_data(config, config.network(), "float32")


@pytest.fixture(scope="module")
def phases(root):
    """Two phases with other weights."""
    first = {"num_train_steps": 3, "pretrain_tfrecords": weights(root, 0.75, 0.25)}
    second = {"num_train_steps": 3, "pretrain_tfrecords": weights(root, 1, 1)}
    return {"phases": [first, second], "num_train_steps": 6, "log_every_steps": 1}


@pytest.fixture(scope="module")
def trained(root, phases):
    """What was printed by a run of these phases, named mixture."""
    _, shown = tiny.pretrain_here(root, "mixture", **tiny.UNIFORM, **phases)
    return shown


def test_epochs_are_said_and_logged(root, trained):
    sizes = [own.files.num_records for own in mixture_of(opened(root, "new", **single(root)))]
    assert re.search(r"Corpus pretrain_tfrecords: .* epochs\); 75\.0% of what is drawn", trained)
    assert re.search(r"Corpus small: .* epochs\); 50\.0% of what is drawn", trained)
    assert trained.count("Epochs: pretrain_tfrecords ") == 2
    lines = tiny.lines(root / "models" / "mixture", "train")
    for line in lines:
        seen = line["epochs_pretrain_tfrecords"] * sizes[0] + line["epochs_small"] * sizes[1]
        assert seen == pytest.approx(8 * line["step"])
    state = tiny.newest(root, "mixture").state
    assert state["epochs_small"] == lines[-1]["epochs_small"]
    assert f"small {lines[-1]['epochs_small']:.2f}\n" in trained


def single(root):
    return {"pretrain_tfrecords": weights(root, 0.75, 0.25)}


def mixture_of(data, phase=0):
    files = data.records[phase].train
    assert isinstance(files, Mixture)
    return files.corpora


def test_a_page_names_the_corpora(root, trained):
    folder = open_folder(str(root / "models" / "mixture"), PretrainingConfig)
    content = str(training_section(folder, None).content)
    size = mixture_of(opened(root, "new", **single(root)))[1].files.num_records
    assert "Text of pretrain_tfrecords (75.0%; then 50.0%)" in content
    assert "Text of small (25.0%; then 50.0%)" in content and f"{size:,} examples" in content
    assert f"{root}/small/" in content


def test_a_later_phase_goes_on_in_each_corpus(root, phases):
    first, second = (opened(root, "new", **phases).records[n].train for n in (0, 1))
    assert first.shares == [0.75, 0.25] and second.shares == [0.5, 0.5]
    assert second.positions(0, 0) == first.positions(0, 3 * 8) != [0, 0]
    alone = {**phases["phases"][0], "pretrain_tfrecords": f"{root}/small/{tiny.GLOB}"}
    changed = {**phases, "phases": [alone, phases["phases"][1]]}
    assert [own.passed for own in mixture_of(opened(root, "new", **changed), 1)] == [0, 24]


def test_a_run_resumes_with_its_weights_alone(root, phases, trained):
    longer = {**phases["phases"][1], "num_train_steps": 9}
    same = {**phases, "num_train_steps": 12, "phases": [phases["phases"][0], longer]}
    opened(root, **same)
    turned = dict(reversed(longer["pretrain_tfrecords"].items()))
    path, *_ = longer["pretrain_tfrecords"]
    changes = {"weights": weights(root, 2, 1), "order": turned, "one": path, "alone": {path: 1}}
    for changed in changes.values():
        last = {**longer, "pretrain_tfrecords": changed}
        with pytest.raises(UserError, match="mixture: 0.5 of 2 shards after") as error:
            opened(root, **{**same, "phases": [phases["phases"][0], last]})
        assert "hparam pretrain_tfrecords" in error.value.where
        assert "allow_other_data" in error.value.remedy
    scaled = {**longer, "pretrain_tfrecords": weights(root, 7, 7)}
    opened(root, **{**same, "phases": [phases["phases"][0], scaled]})
    other = {**longer, "pretrain_tfrecords": weights(root, 2, 1)}
    given = {**same, "phases": [phases["phases"][0], other]}
    opened(root, **given, allow_other_data=True)


def test_a_finished_run_gets_a_phase_of_other_weights(root, phases, trained):
    third = {"num_train_steps": 2, "pretrain_tfrecords": weights(root, 0.1, 0.9)}
    longer = {**phases, "num_train_steps": 8, "phases": [*phases["phases"], third]}
    (phase,) = opened(root, **longer).records
    assert phase.train.shares[1] == pytest.approx(0.9)


def test_a_corpus_that_is_repeated_often_is_warned_of(root):
    data = opened(root, "new", **single(root), num_train_steps=1000)
    report = report_data(data.records[0].train, data.vocabulary, data.phases[0])
    (line,) = (line for line in report.lines if "corpus small" in line and "times" in line)
    expected = 0.25 * 1000 * 8 / mixture_of(data)[1].files.num_records
    assert f"{expected:,.1f} times" in line
    assert report.epochs.passes(1000)["small"] == pytest.approx(expected, rel=0.2)
    short = dataclasses.replace(data.phases[0], last_step=1)
    lines = report_data(data.records[0].train, data.vocabulary, short).lines
    assert not any("times" in line for line in lines)


def test_a_pattern_that_matches_nothing_is_named(root):
    given = {f"{root}/pretrain_tfrecords/{tiny.GLOB}": 1, f"{root}/none/*": 1}
    with pytest.raises(UserError, match="No TFRecord file matches") as error:
        opened(root, "new", pretrain_tfrecords=given)
    assert error.value.where == f"{root}/none/*"


def test_corpora_of_different_lengths_are_refused(root):
    tiny.write_data(root, sizes=(1500,), records="short_corpus", length=16)
    with pytest.raises(UserError, match="another max_seq_length") as error:
        opened(root, "new", pretrain_tfrecords=weights(root, 1, 1, other="short_corpus"))
    assert error.value.where.startswith(f"{root}/short_corpus")


def killed_and_resumed(root, name, hparams):
    """Trains to the end, cut off on the way: by a SIGKILL, or in this process, which is faster."""
    if hparams["segmentation"] == "dynamic":
        process = tiny.start(root, name, **hparams)
        wait_for_step(process, root / "models" / name, 13)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
    else:
        with tiny.disturbed_at(13, tiny.die), pytest.raises(RuntimeError, match="died"):
            tiny.pretrain_here(root, name, **hparams)
    _, shown = tiny.pretrain_here(root, name, **hparams)
    assert int(re.search(r"Resuming at step (\d+)", shown)[1]) in range(5, 13)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_killed_in_the_middle_it_ends_bit_for_bit_alike(root, kind):
    """Over several epochs of the small corpus, and in a second phase."""
    names = ("pretrain_tfrecords", "small")
    if kind == "dynamic":
        names = ("documents", "small_documents")
        for name, size in zip(names, (9000, 6000), strict=True):
            options = {"sizes": (size,), "length": None, "flags": ("--segmentation", "dynamic")}
            tiny.write_data(root, records=name, **options)
    first = {"num_train_steps": 8, "pretrain_tfrecords": weights(root, 0.5, 0.5, *names)}
    second = {"num_train_steps": 52, "pretrain_tfrecords": weights(root, 0.3, 0.7, *names)}
    hparams = tiny.UNIFORM | {"phases": [first, second], "num_train_steps": 60}
    hparams |= {"segmentation": kind, "log_every_steps": 1, "save_checkpoints_steps": 5}
    tiny.pretrain_here(root, f"whole_{kind}", **hparams)
    killed_and_resumed(root, f"killed_{kind}", hparams)
    tiny.assert_same_end(root, f"killed_{kind}", f"whole_{kind}")
    assert tiny.newest(root, f"whole_{kind}").state[f"epochs_{names[1]}"] > 2
