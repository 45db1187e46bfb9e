"""Tagging tasks without code."""

import itertools
import logging

import pytest

from electra_tf2.errors import UserError
from finetune.tagging.custom import make_tagging
from tests.finetune.tagging.tagging_samples import TRAIN, config, outputs, tokenizer, write

SENTENCE = "anna smith the dog paris york".split()
SPANS = {"PER": [(0, 1)], "LOC": [(4, 4), (5, 5)]}
NER = {
    # In IOB1 B only separates spans of one type; here PER and LOC never touch.
    "iob1": "I-PER I-PER O O I-LOC B-LOC",
    "iob2": "B-PER I-PER O O B-LOC B-LOC",
    "bioes": "B-PER E-PER O O S-LOC S-LOC",
}


def _task(folder, **definition):
    return make_tagging(config(folder), "mine", tokenizer(), definition)


def _columns(tags, words=SENTENCE):
    return "".join(f"{w} {t}\n" for w, t in zip(words, tags.split(), strict=True))


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [("iob1", "iob"), ("iob2", "iob"), ("bioes", "bioes"), *((t, None) for t in NER)],
)
def test_named_entities_in_every_scheme(tmp_path, tags, scheme):
    write(tmp_path, train=_columns(NER[tags]))
    task = _task(tmp_path, **({"scheme": scheme} if scheme else {}))
    (example,) = task.get_examples("train")
    assert example.tags == tuple("B-PER E-PER O O S-LOC S-LOC".split())
    assert not task.is_token_level and task.main_metric == "f1"


def test_touching_spans_of_different_types_in_iob1(tmp_path):
    write(tmp_path, train=_columns("I-PER I-PER I-LOC I-LOC B-LOC I-PER"))
    (example,) = _task(tmp_path, scheme="iob").get_examples("train")
    assert example.tags == tuple("B-PER E-PER B-LOC E-LOC S-LOC S-PER".split())


@pytest.mark.parametrize(
    ("tags", "definition", "is_token_level", "said"),
    [
        ("O B-A I-A O E-A S", {}, False, "mark spans"),
        ("O O O O O O", {}, False, "mark spans"),
        ("DT NN O B-A I-A O", {}, True, "stand for themselves (DT, NN)"),
        ("B-A B-A I-A O O O", {"scheme": "token"}, True, None),
    ],
)
def test_the_level_is_told_from_the_training_tags(
    tmp_path, caplog, tags, definition, is_token_level, said
):
    write(tmp_path, train=_columns(tags))
    task = _task(tmp_path, **definition)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert task.is_token_level is is_token_level
    if said is None:
        assert "is reported" not in caplog.text
    else:
        assert said in caplog.text
    if is_token_level:
        assert task.get_examples("train")[0].tags == tuple(tags.split())


def test_features_depend_on_the_scheme_and_the_columns(tmp_path):
    write(tmp_path, train="anna O O\n")
    definitions = ({}, {"scheme": "bioes"}, {"scheme": "iob"}, {"scheme": "token"})
    columns = ({"word_column": 1}, {"tag_column": 1}, {"separator": " "})
    settings = [_task(tmp_path, **d).feature_settings() for d in (*definitions, *columns)]
    # The scheme is found to be spans where it is not given, and they may be in either of two.
    assert settings[0] == settings[1]
    assert all(a != b for a, b in itertools.combinations(settings[1:], 2))


def test_columns_files_and_separator(tmp_path):
    text = "1\tnew york\tNN\tB-LOC\n2\tdog\tNN\tO\n"
    (tmp_path / "a.conll").write_text(text)
    (tmp_path / "b.conll").write_text("1\tdog\tNN\tO\n")
    definition = {"word_column": 1, "separator": "\t"}
    files = {"train": "a.conll", "dev": str(tmp_path / "b.conll")}
    task = _task(tmp_path, **definition, files=files)
    assert task.get_examples("train")[0].words == ("new york", "dog")
    assert task.labels == ["O", "S-LOC"]
    assert task.data_file("dev") == str(tmp_path / "b.conll")
    assert task.data_file("test") == str(tmp_path / "test.txt")
    pos = _task(tmp_path, **definition, files=files, tag_column=2)
    assert pos.labels == ["NN"] and pos.is_token_level


def test_a_dev_file_that_was_named_is_not_replaced_by_test(tmp_path):
    write(tmp_path, train=TRAIN, test=TRAIN)
    assert _task(tmp_path).data_file("dev") == str(tmp_path / "test.txt")
    named = _task(tmp_path, files={"dev": "validation.txt"})
    with pytest.raises(UserError, match=r"(?s)validation.txt.*test.txt, train.txt"):
        named.get_examples("dev")


def test_the_state_says_the_level(tmp_path):
    write(tmp_path, train=TRAIN)
    state = _task(tmp_path).get_state()
    write(tmp_path, train="anna NN\n", dev="anna B-PER\n")
    task = _task(tmp_path)
    task.set_state(state)
    assert not task.is_token_level
    assert task.get_examples("dev")[0].tags == ("S-PER",)
    with pytest.raises(UserError, match="tags of another kind"):
        _task(tmp_path, scheme="token").set_state(state)


def test_scores(tmp_path):
    write(tmp_path, train=TRAIN, dev=_columns(NER["iob1"]))
    task = _task(tmp_path)
    scorer = task.get_scorer("dev")
    scorer.update(outputs(0, "B-PER E-PER O O S-LOC O".split(), labels=task.labels))
    results = dict(scorer.get_results())
    assert results["precision"] == 100 and results["recall"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("definition", "key", "hint"),
    [
        ({"words": 0}, "words", "word_column, tag_column"),
        ({"tag_colum": 0}, "tag_colum", "'tag_column'"),
        ({"scheme": "bio"}, "scheme", "iob (for"),
        ({"scheme": ["iob"]}, "scheme", "iob (for"),
        ({"scheme": 3}, "scheme", "bioes, token"),
        ({"word_column": "word"}, "word_column", "Count from 0"),
        ({"tag_column": True}, "tag_column", "Count from 0"),
        ({"tag_column": 0}, "tag_column", "different columns"),
        ({"separator": ""}, "separator", "white space"),
        ({"separator": 9}, "separator", "white space"),
        ({"files": "train.txt"}, "files", '{"train": "train.conll"}'),
        ({"files": {"valid": "x"}}, "files.valid", "train, dev, test"),
        ({"files": {"tests": "x"}}, "files.tests", "'test'"),
        ({"files": {"dev": 1}}, "files.dev", "name"),
    ],
)
def test_bad_definitions(tmp_path, definition, key, hint):
    with pytest.raises(UserError) as error:
        _task(tmp_path, **definition)
    assert error.value.where == f"hparam tasks.mine.{key}"
    assert hint in error.value.remedy
