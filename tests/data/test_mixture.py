"""Mixtures of corpora: shares, the order in each corpus, resuming, workers, places."""

import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.input import Corpus, ExampleFiles, Mixture, open_training_files
from electra_tf2.data.order import CorpusDraws, Reading
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.conftest import serialize
from tests.data.small_corpus import write_corpus, write_vocabulary

LENGTH, SEED, WINDOW = 4, 3, 4
COUNTS = {"large": (20, 0, 11), "small": (2, 3)}
WEIGHTS = {"large": 5.0, "small": 4.0}
STARTS = {"large": 0, "small": 100}  # numbers of the examples


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Files of numbered examples by the name of their corpus."""
    found = {}
    for name, counts in COUNTS.items():
        folder, number = tmp_path_factory.mktemp(name), itertools.count(STARTS[name])
        for index, count in enumerate(counts):
            with tf.io.TFRecordWriter(str(folder / f"{index}.tfrecord")) as writer:
                for _ in range(count):
                    ids = [next(number)] * LENGTH
                    mask, segments = [1] * LENGTH, [0] * LENGTH
                    values = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
                    writer.write(serialize(values))
        paths = tuple(sorted(str(path) for path in folder.iterdir()))
        found[name] = ExampleFiles(paths, counts, None)
    return found


@pytest.fixture(scope="module")
def mixture(corpora):
    return mixed(corpora)


def mixed(corpora, weights=WEIGHTS, passed=(0, 0)):
    given = zip(weights.items(), passed, strict=False)
    return Mixture.of([Corpus(name, corpora[name], own, at) for (name, own), at in given])


def batches(files, *, position=0, batch=1, length=LENGTH, **options):
    return files.training_dataset(Reading(SEED, length, WINDOW), position, batch, **options)


def stream(files, count, *, batch=1, **options):
    """`count` examples from a position on, as rows of ids."""
    dataset = batches(files, batch=batch, **options).take(-(-count // batch))
    found = np.concatenate([b["input_ids"] for b in dataset])[:count]
    files.close()
    return found


def numbers(files, count, **options):
    return stream(files, count, **options)[:, 0].tolist()


@pytest.fixture(scope="module")
def found(mixture):
    """The numbers of its first examples."""
    return numbers(mixture, 100)


def test_shares_are_those_of_the_weights_within_sampling_error():
    weights, count = (0.5, 3.0, 1e-3, 7.0), 1_000_000
    draws = CorpusDraws(11, weights)
    shares = np.array(weights) / sum(weights)
    assert np.abs(draws.shares - shares).max() < 2.0**-31 and draws.shares.sum() == 1
    counts = np.bincount(draws.drawn(0, count), minlength=4)
    assert (np.abs(counts - count * shares) < 5 * np.sqrt(count * shares)).all()
    # Neighbours are independent: pairs are as frequent as chance has it.
    pairs = np.bincount(4 * draws.drawn(0, count - 1) + draws.drawn(1, count - 1), minlength=16)
    expected = count * np.outer(shares, shares).ravel()
    assert (np.abs(pairs - expected) < 5 * np.sqrt(expected) + 5).all()


def test_draws_depend_on_the_seed_the_shares_and_the_position_alone():
    draws = CorpusDraws(SEED, (2.0, 1.0))
    drawn = draws.drawn(0, 20_000)
    assert (CorpusDraws(SEED, (4e29, 2e29)).drawn(0, 20_000) == drawn).all()
    assert (CorpusDraws(SEED + 1, (2.0, 1.0)).drawn(0, 20_000) != drawn).any()
    for first in (0, 1, 4, 4095, 4097, 9_999):
        assert (draws.drawn(first, 101) == drawn[first : first + 101]).all()
        found = list(draws.dataset(first).take(101).as_numpy_iterator())
        assert found == drawn[first : first + 101].tolist()
        assert (next(draws.batches(first))[:101] == drawn[first : first + 101]).all()


def test_what_was_drawn_is_counted_in_any_order_of_calls():
    draws = CorpusDraws(SEED, (2.0, 1.0, 1.0))
    drawn = draws.drawn(0, 30_000)
    for position in (0, 5, 20_001, 20_002, 29_999, 7):
        expected = np.bincount(drawn[:position], minlength=3)
        assert draws.counts(position).tolist() == expected.tolist()


def test_far_positions_are_counted_in_pieces(monkeypatch):
    far = CorpusDraws(SEED, (2.0, 1.0)).counts(5_000_001)
    assert far.sum() == 5_000_001
    monkeypatch.setattr("electra_tf2.data.order._COUNTED_AT_A_TIME", 1 << 20)
    assert (CorpusDraws(SEED, (2.0, 1.0)).counts(5_000_001) == far).all()


def test_each_corpus_has_the_order_that_it_has_alone(corpora, found):
    """Over several epochs of the small one; and nothing is lost."""
    names = list(WEIGHTS)
    origins = [names[np.searchsorted(list(STARTS.values()), n, side="right") - 1] for n in found]
    drawn = CorpusDraws(SEED, list(WEIGHTS.values())).drawn(0, 100)
    assert origins == [names[number] for number in drawn]
    for name, files in corpora.items():
        own = [n for n, origin in zip(found, origins, strict=True) if origin == name]
        assert len(own) > 3 * files.num_records or name == "large"
        assert own == numbers(files, len(own))


def test_a_single_corpus_is_read_as_without_a_mixture(corpora):
    assert numbers(mixed(corpora, {"large": 0.3}), 70) == numbers(corpora["large"], 70)


def test_resuming_at_any_position_continues_the_same_stream(mixture, found):
    """Positions around the first border of the small corpus's epochs; in other batches too."""
    drawn = CorpusDraws(SEED, list(WEIGHTS.values())).drawn(0, 60)
    border = int(np.flatnonzero(np.cumsum(drawn == 1) == 5)[0])  # its last example is here
    for position, batch in ((border - 1, 1), (border, 6), (border + 1, 1)):
        resumed = numbers(mixture, 18, position=position, batch=batch)
        assert resumed == found[position : position + 18], position


def test_resuming_far_ahead_reads_only_what_is_needed(mixture):
    far = 2_000_003
    assert numbers(mixture, 9, position=far + 6) == numbers(mixture, 15, position=far)[6:]


def rows_of_workers(files, workers, replicas, global_batch, steps, **options):
    """The rows of global batches, put together from what each worker reads."""
    local = replicas // workers
    rows = {}
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, replicas)
        dataset = batches(files, batch=global_batch, input_context=context, **options)
        for index, batch in enumerate(itertools.islice(dataset, steps * local)):
            step, replica = divmod(index, local)
            rows[step, worker * local + replica] = batch["input_ids"].numpy()
    files.close()
    return np.concatenate([rows[place] for place in sorted(rows)])


def test_two_workers_divide_the_rows_of_one_device(mixture, found):
    by_workers = rows_of_workers(mixture, 2, 4, 8, 5)
    assert by_workers[:, 0].tolist() == found[:40]


def test_examples_of_earlier_phases_are_passed_over(corpora):
    later = mixed(corpora, passed=(7, 3))
    assert later.positions(SEED, 0) == [7, 3]
    found = np.array(numbers(later, 60))
    for name, first in (("large", 7), ("small", 3)):
        own = found[(found >= STARTS[name]) & (found < STARTS[name] + 100)].tolist()
        assert own == numbers(corpora[name], len(own), position=first)


def test_places(mixture, found):
    """The files hold the numbered examples in their order."""
    places = mixture.places(Reading(SEED, LENGTH, WINDOW), 9, 50)
    firsts, ends = {}, dict(STARTS)
    for corpus in mixture.corpora:
        for path, count in zip(corpus.files.paths, corpus.files.counts, strict=True):
            firsts[path] = ends[corpus.name]
            ends[corpus.name] += count
    assert [firsts[path] + number for path, number in places] == found[9:59]


def test_a_file_in_two_corpora_is_refused(corpora, tmp_path):
    path = corpora["small"].paths[1]
    os.symlink(path, tmp_path / "link.tfrecord")
    other = ExampleFiles((str(tmp_path / "link.tfrecord"),), (3,), None)
    with pytest.raises(UserError, match="two corpora") as error:
        Mixture.of([Corpus("small", corpora["small"], 1.0), Corpus("other", other, 1.0)])
    assert error.value.where == other.paths[0]
    assert "small" in error.value.received and "other" in error.value.received


LONG = 32


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Two corpora of documents, opened for examples of `LONG` tokens."""
    folder = tmp_path_factory.mktemp("documents")
    vocab, found = write_vocabulary(folder), {}
    for name, sizes, seed in (("large", [9000, 4000], 0), ("small", [1000], 1)):
        corpus = write_corpus(folder / f"{name}_text", sizes, seed)
        settings = {"segmentation": "dynamic", "num_out_files": 2, "max_seq_length": LONG}
        build_dataset(BuildConfig(corpus, vocab, str(folder / name), **settings))
        found[name] = open_training_files(
            f"{folder}/{name}/*.tfrecord*",
            segmentation="dynamic",
            max_seq_length=LONG,
            vocabulary=load_vocabulary(vocab),
            casing=UNCASED,
            taken=("strip_accents",),
        )
    yield found
    for files in found.values():
        files.close()


@pytest.fixture
def few_at_a_time(monkeypatch):
    """A thread prepares few examples: those of small corpora are many epochs."""
    monkeypatch.setattr("electra_tf2.data.order._DRAWS_AT_A_TIME", 8)


def test_documents(documents, few_at_a_time):
    """Rows come from each corpus in its own order, on any workers, from any position."""
    weights = {"large": 1.0, "small": 3.0}
    mixture, count = mixed(documents, weights), 80
    found = stream(mixture, count, length=LONG)
    drawn = CorpusDraws(SEED, (1.0, 3.0)).drawn(0, count)
    for number, name in enumerate(weights):
        own = found[drawn == number]
        assert (own == stream(documents[name], len(own), length=LONG)).all()
    epoch = documents["small"].evaluation_size(LONG, 10**9)
    assert np.count_nonzero(drawn) > 1.5 * epoch
    border = int(np.flatnonzero(np.cumsum(drawn) == epoch)[0])  # of the small corpus's first epoch
    resumed = stream(mixture, 16, position=border, length=LONG)
    assert (resumed == found[border : border + 16]).all()
    by_workers = rows_of_workers(mixture, 2, 4, 8, 2, position=border - 1, length=LONG)
    assert (by_workers == found[border - 1 : border + 15]).all()
    places = mixture.places(Reading(SEED, LONG, WINDOW), border - 5, 12)
    owners = [path in documents["small"].paths for path, _ in places]
    assert owners == drawn[border - 5 : border + 7].astype(bool).tolist()


def test_an_error_in_one_corpus_of_documents_is_kept(documents, few_at_a_time, tmp_path):
    mixture = mixed(documents, {"large": 1.0, "small": 1.0})
    path = documents["small"].paths[0]
    os.rename(path, tmp_path / "gone")
    try:
        with pytest.raises(tf.errors.OpError):
            stream(mixture, 10, length=LONG)
    finally:
        os.rename(tmp_path / "gone", path)
    assert path in str(mixture.failure)
    mixture.close()
    assert mixture.failure is None
