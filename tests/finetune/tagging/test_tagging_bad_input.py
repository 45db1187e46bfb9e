"""What a tagging task says about data it can't use."""

import pytest

from electra_tf2.errors import UserError
from finetune.tagging.custom import make_tagging
from finetune.tagging.tasks import TaggingTask
from tests.finetune.tagging.tagging_samples import DEV, TRAIN, config, tokenizer, write


def _chunk(folder, **values):
    return TaggingTask(config(folder, **values), "chunk", tokenizer(), False)


@pytest.mark.parametrize(
    ("files", "split", "expected"),
    [
        ({"dev": DEV}, "train", ["can't be read", "train.txt", "holds dev.txt"]),
        ({"train": TRAIN}, "dev", ["can't be read", "dev.txt", "holds train.txt"]),
        ({"train": TRAIN}, "test", ["can't be read", "test.txt", "holds train.txt"]),
        ({"train": "a B-A\nb\n"}, "train", ["train.txt, line 2", "'b'"]),
        ({"train": TRAIN, "dev": "a O\n\nb\n"}, "train", ["dev.txt, line 3", "'b'"]),
        ({"train": "\n"}, "train", ["empty", "train.txt"]),
        ({"train": "-DOCSTART- O\n"}, "train", ["no sentence", "train.txt"]),
        ({"train": "a NN\n"}, "train", ["not mark a span", "train.txt, line 1", "'NN'", "B-, I-"]),
        ({"train": TRAIN, "dev": "a O\nb X-A\n"}, "dev", ["dev.txt, line 2", "'X-A'"]),
        ({"train": "a O\nb U-A\n"}, "train", ["train.txt, line 2", "'U-A'"]),
    ],
)
def test_files(tmp_path, files, split, expected):
    write(tmp_path, **files)
    with pytest.raises(UserError) as error:
        _chunk(tmp_path).get_examples(split)
    for part in expected:
        assert part in str(error.value)


def test_wrong_encoding(tmp_path):
    (tmp_path / "train.txt").write_bytes("the O\nétoile O\n".encode("latin-1"))
    with pytest.raises(UserError, match="(?s)not UTF-8.*train.txt, line 2"):
        _chunk(tmp_path).labels  # noqa: B018


def test_end_tags_in_a_file_said_to_be_iob(tmp_path):
    write(tmp_path, train="a B-A\nb E-A\n")
    task = make_tagging(config(tmp_path), "mine", tokenizer(), {"scheme": "iob"})
    with pytest.raises(UserError, match="(?s)line 2.*'E-A'.*B-, I-"):
        task.get_examples("train")


@pytest.mark.parametrize(
    ("is_token_level", "train", "dev", "expected"),
    [
        (False, TRAIN, "the O\nanna I-LOC\n\ndog B-LOCC\n", ["line 4", "'LOCC'", "mean 'LOC'"]),
        (True, "a NN\nb DT\n", "a NN\nb NNP\n", ["line 2", "'NNP'", "mean 'NN'"]),
        (True, "a NN\nb DT\n", "a O\n", ["line 1", "'O'", "one of: DT, NN"]),
    ],
)
def test_a_tag_in_dev_that_a_trained_model_does_not_know(
    tmp_path, is_token_level, train, dev, expected
):
    state = TaggingTask(
        config(write(tmp_path, train=train)), "ner", tokenizer(), is_token_level
    ).get_state()
    task = TaggingTask(config(write(tmp_path, dev=dev)), "ner", tokenizer(), is_token_level)
    task.set_state(state)
    with pytest.raises(UserError) as error:
        task.get_examples("dev")
    for part in ("dev.txt", "was trained with", *expected):
        assert part in str(error.value)


def test_no_room_for_a_word(tmp_path):
    task = _chunk(write(tmp_path, train=TRAIN), max_seq_length=2)
    with pytest.raises(UserError, match="(?s)no room.*max_seq_length"):
        list(task.featurize(task.get_examples("train"), True))


def test_tags_with_several_hyphens(tmp_path):
    write(tmp_path, train="the B-NP-SBJ\ndog I-NP-SBJ\nbarks B-NP-OBJ-1\n")
    task = _chunk(tmp_path)
    assert task.get_examples("train")[0].tags == ("B-NP-SBJ", "E-NP-SBJ", "S-NP-OBJ-1")
