"""Training data cut from documents: every epoch's examples, their order, resuming, workers."""

import collections
import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.document_input import EVALUATION_SEED
from electra_tf2.data.documents import Documents, find_cuts, make_examples
from electra_tf2.data.input import open_training_files
from electra_tf2.data.open_records import explain_data_loss, is_data_loss
from electra_tf2.data.order import Reading, file_order, numbered_records, window_order
from electra_tf2.data.position import EpochIndex
from electra_tf2.data.segments import CutRule
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.cut_plainly import CLS, SEP, plain_examples
from tests.data.small_corpus import PIECES, write_corpus, write_vocabulary

LENGTH, WINDOW, SEED, SHARDS = 32, 10, 3, 3
N_SPECIAL = 5
READING = Reading(SEED, LENGTH, WINDOW)
FEATURES = ("input_ids", "input_mask", "segment_ids")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with vocab.txt, documents, and examples of the same text."""
    folder = tmp_path_factory.mktemp("documents")
    vocab = write_vocabulary(folder)
    corpus = write_corpus(folder / "corpus", [9000, 4000, 100])
    for name in ("dynamic", "static"):
        settings = {"segmentation": name, "num_out_files": SHARDS, "max_seq_length": LENGTH}
        build_dataset(BuildConfig(corpus, vocab, str(folder / name), **settings))
    return folder


def open_files(folder, segmentation="dynamic", records=None, **changes):
    settings = {
        "max_seq_length": LENGTH,
        "vocabulary": load_vocabulary(str(folder / "vocab.txt")),
        "casing": UNCASED,
        "taken": ("strip_accents",),
    }
    pattern = f"{folder}/{records or segmentation}/*.tfrecord*"
    return open_training_files(pattern, segmentation=segmentation, **(settings | changes))


@pytest.fixture(scope="module")
def files(folder):
    opened = open_files(folder)
    yield opened
    opened.close()


def rows(batches):
    """All rows of batches: ids, mask and segment ids side by side."""
    return np.concatenate([np.concatenate([b[name] for name in FEATURES], 1) for b in batches])


def stream(files, count, *, seed=SEED, position=0, window=WINDOW, batch=1, length=LENGTH):
    """`count` examples from a position on."""
    dataset = files.training_dataset(Reading(seed, length, window), position, batch)
    found = rows(dataset.take(-(-count // batch)))[:count]
    files.close()  # threads of many datasets would wait for each other at the end
    return found


def documents_of(files, file):
    """A file's documents as `Documents`, and their token ids."""
    lengths, ids = [], []
    for record in tf.data.TFRecordDataset(files.paths[file]).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        lengths.append(list(feature["sentence_lengths"].int64_list.value))
        ids += np.frombuffer(feature["token_ids"].bytes_list.value[0], "<u2").tolist()
    count = len(lengths)
    splits = np.cumsum([0, *map(len, lengths)])
    documents = Documents(
        np.full(count, file), np.arange(count), np.array(sum(lengths, [])), splits
    )
    return documents, np.array(ids)


def as_rows(examples, length=LENGTH):
    """`Examples` as `rows` has them."""
    columns = np.arange(length)
    mask = columns < examples.lengths[:, None]
    segments = mask & (columns >= examples.first_lengths[:, None])
    return np.concatenate([examples.input_ids, mask, segments], 1)


def epoch_by_the_rules(files, epoch, *, seed=SEED, window=WINDOW, length=LENGTH):
    """The examples of an epoch in their order, without any of what is tested."""
    cut = []
    for file in file_order(seed, epoch, len(files.paths)).numpy():
        examples = plain_examples(*documents_of(files, file), epoch, CutRule(seed, length))
        cut.append(as_rows(examples, length))
    cut = np.concatenate(cut)
    permuted = []
    for number, start in enumerate(range(0, len(cut), window)):
        members = cut[start : start + window]
        permuted.append(members[window_order(seed, epoch, number, len(members)).numpy()])
    return np.concatenate(permuted)


@pytest.fixture(scope="module")
def epochs(files):
    return [epoch_by_the_rules(files, epoch) for epoch in range(4)]


def test_epochs_are_cut_and_ordered_by_the_rules(files, epochs):
    expected = np.concatenate(epochs)
    assert np.array_equal(stream(files, len(expected), batch=7), expected)
    assert np.array_equal(stream(files, 110), expected[:110])
    assert len({len(epoch) for epoch in epochs}) > 1, "the epochs differ in size"
    known = [{row.tobytes() for row in epoch} for epoch in epochs]
    assert all(known[0] - other and other - known[0] for other in known[1:]), "and in examples"


@pytest.mark.parametrize("length", [16, 64])
def test_the_same_documents_are_cut_at_any_length(files, length):
    expected = epoch_by_the_rules(files, 0, length=length)
    assert np.array_equal(stream(files, len(expected), length=length), expected)


@pytest.mark.parametrize("window", [1, 10_000])
def test_windows_of_any_size(files, window):
    expected = epoch_by_the_rules(files, 0, window=window)
    assert np.array_equal(stream(files, 20, window=window, position=70), expected[70:90])


def test_the_seed_decides(files):
    assert np.array_equal(stream(files, 50, batch=5), stream(files, 50, batch=5))
    assert not np.array_equal(stream(files, 50, batch=5), stream(files, 50, batch=5, seed=4))


def test_resuming_at_any_position_continues_the_same_stream(files, epochs):
    """Boundaries of windows, files, documents and epochs, and what lies between."""
    expected = np.concatenate(epochs)
    ends = np.cumsum([len(epoch) for epoch in epochs])
    for position in (37, ends[0] - 1, ends[0], ends[2] + 1):
        resumed = stream(files, 30, position=int(position), batch=3)
        assert np.array_equal(resumed, expected[position : position + 30]), position


def test_the_start_is_found_without_counting(files, monkeypatch):
    def count(*_):
        raise AssertionError("counted")

    monkeypatch.setattr(EpochIndex, "_count_epochs", count)
    assert len(stream(files, 5)) == 5
    with pytest.raises(AssertionError, match="counted"):
        stream(files, 5, position=1)


def test_the_index_counts_the_epochs(files, epochs):
    index = EpochIndex(files, files.rule(SEED, LENGTH))
    sizes = [len(epoch) for epoch in epochs]
    assert index.find(sum(sizes[:3]) + 5) == (3, 5)
    assert index.find(sizes[0]) == (1, 0) and index.find(sizes[0] - 1) == (0, sizes[0] - 1)
    assert [index.num_examples(epoch) for epoch in range(4)] == sizes


@pytest.mark.parametrize("position", [0, 250])
def test_places_are_those_of_the_documents(files, epochs, position):
    count = 130
    places = files.places(READING, position, count)
    made_of = collections.defaultdict(set)  # places by example; a few examples are equal
    for file, path in enumerate(files.paths):
        documents, ids = documents_of(files, file)
        for epoch in range(4):
            rule = CutRule(SEED, LENGTH)
            cuts = find_cuts(documents, epoch, rule)
            examples = as_rows(make_examples(documents, ids, cuts, epoch, rule, CLS, SEP))
            for row, document in zip(examples, cuts.documents.tolist(), strict=True):
                made_of[row.astype(np.int32).tobytes()].add((path, document))
    for row, place in zip(np.concatenate(epochs)[position:], places, strict=False):
        assert place in made_of[row.astype(np.int32).tobytes()]
    assert len(places) == count


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 4)])
def test_workers_and_replicas_divide_the_rows_of_one_device(files, workers, replicas):
    global_batch, steps, local, position = 8, 14, replicas // workers, 11
    expected = stream(files, global_batch * steps, batch=global_batch, position=position)
    found = np.zeros([steps, replicas, global_batch // replicas, 3 * LENGTH], int)
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, replicas)
        dataset = files.training_dataset(READING, position, global_batch, context)
        for index, batch in enumerate(itertools.islice(dataset, steps * local)):
            step, replica = divmod(index, local)
            found[step, worker * local + replica] = rows([batch])
    assert np.array_equal(found.reshape(expected.shape), expected)


def evaluate(files, batch, max_batches=None, input_context=None):
    return list(
        files.evaluation_dataset(
            max_seq_length=LENGTH,
            global_batch_size=batch,
            max_batches=max_batches,
            input_context=input_context,
        )
    )


def test_evaluation_is_on_one_cut_in_the_order_of_the_files(files):
    rule = CutRule(EVALUATION_SEED, LENGTH)
    cuts = [plain_examples(*documents_of(files, file), 0, rule) for file in range(SHARDS)]
    expected = np.concatenate([as_rows(cut) for cut in cuts])
    count = len(expected)
    found = rows(evaluate(files, 8))
    assert len(found) == -(-count // 8) * 8 > count
    assert np.array_equal(found[:count], expected)
    assert not found[count:].any(), "rows that fill up the last batch are empty"
    assert np.array_equal(rows(evaluate(files, 8, max_batches=2)), expected[:16])
    halves = [
        evaluate(files, 8, input_context=tf.distribute.InputContext(2, worker, 2))
        for worker in (0, 1)
    ]
    assert np.array_equal(rows(itertools.chain(*zip(*halves, strict=True))), found)
    assert files.evaluation_size(LENGTH, 10**9) == count
    assert files.evaluation_size(LENGTH, 20) == 20


def test_shapes_are_static_int32(files):
    spec = dict.fromkeys(FEATURES, tf.TensorSpec([2, LENGTH], tf.int32))
    settings = {"global_batch_size": 6, "input_context": tf.distribute.InputContext(1, 0, 3)}
    datasets = [files.training_dataset(READING, 0, **settings)]
    settings |= {"max_seq_length": LENGTH, "max_batches": 1}
    datasets.append(files.evaluation_dataset(**settings))
    assert [dataset.element_spec for dataset in datasets] == [spec, spec]
    # Deleting an iterator with an autotuner can take a minute.
    datasets.append(numbered_records(files, tf.range(SHARDS), batch_size=2))
    assert [dataset.options().autotune.enabled for dataset in datasets] == [False] * 3


def test_an_indivisible_batch_is_an_error(files):
    with pytest.raises(UserError, match="divided among the replicas"):
        evaluate(files, 6, input_context=tf.distribute.InputContext(1, 0, 4))


def test_ids_of_the_vocabulary_are_used(files):
    assert (files.cls_id, files.sep_id) == (CLS, SEP)
    assert (PIECES.index("[CLS]"), PIECES.index("[SEP]")) == (CLS, SEP)
    assert files.described == f"{sum(files.counts):,} documents"


def test_the_wrong_kind_of_records_is_refused(folder):
    with pytest.raises(UserError, match="another segmentation") as info:
        open_files(folder, "dynamic", "static")
    assert info.value.received == "segmentation is static in the records, dynamic in the run"
    assert "--segmentation dynamic" in info.value.remedy
    with pytest.raises(UserError, match="another segmentation") as info:
        open_files(folder, "static", "dynamic")
    assert info.value.where == str(folder / "dynamic" / "metadata.json")


def test_records_without_metadata_are_no_documents(folder, tmp_path):
    for name in ("vocab.txt", "static/pretrain_data.tfrecord-0-of-3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert open_files(tmp_path, "static").num_records
    with pytest.raises(UserError, match="not documents") as info:
        open_files(tmp_path, "dynamic", "static")
    assert info.value.where == str(tmp_path / "static")


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the folder, and a shard in it."""
    for path in [folder / "vocab.txt", *(folder / "dynamic").iterdir()]:
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path, tmp_path / "dynamic" / "pretrain_data.tfrecord-1-of-3"


def test_a_shard_that_is_damaged_while_it_is_read_is_named(copied, capfd):
    where, damaged = copied
    opened = open_files(where)
    damaged.write_bytes(damaged.read_bytes()[:-7])
    with pytest.raises(tf.errors.OpError):
        stream(opened, 10_000)
    cause = opened.failure
    assert isinstance(cause, tf.errors.DataLossError)
    assert explain_data_loss(opened, cause).where.startswith(f"{damaged}, in the record")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 0)])
def test_a_shard_that_goes_while_it_is_read_is_named(copied, damage):
    where, damaged = copied
    opened = open_files(where)
    damage(damaged)
    with pytest.raises(tf.errors.OpError):
        stream(opened, 10_000)
    cause = opened.failure
    assert is_data_loss(opened, cause)
    assert explain_data_loss(opened, cause).where == str(damaged)


def test_a_truncated_shard_is_named(copied):
    tmp_path, damaged = copied
    damaged.write_bytes(damaged.read_bytes()[:-7])
    with pytest.raises(UserError, match="truncated") as info:
        open_files(tmp_path)
    assert info.value.where == str(damaged)


def test_more_pieces_than_two_bytes_count(tmp_path):
    (tmp_path / "large").mkdir()
    corpus = write_corpus(tmp_path / "corpus", [900])
    small = load_vocabulary(write_vocabulary(tmp_path))
    specials = small.tokens[:N_SPECIAL]
    fillers = [f"filler{i}" for i in range(1 << 16)]
    large = tmp_path / "large" / "vocab.txt"
    large.write_text("\n".join([*specials, *fillers, *small.tokens[N_SPECIAL:]]) + "\n")
    for folder, vocab in ((tmp_path, tmp_path / "vocab.txt"), (tmp_path / "large", large)):
        settings = {"segmentation": "dynamic", "num_out_files": SHARDS}
        build_dataset(BuildConfig(corpus, str(vocab), str(folder / "dynamic"), **settings))
    expected, found = (stream(open_files(f), 40) for f in (tmp_path, tmp_path / "large"))
    moved = expected.copy()
    moved[:, :LENGTH][expected[:, :LENGTH] >= N_SPECIAL] += len(fillers)
    assert found.max() > 1 << 16
    np.testing.assert_array_equal(found, moved)
