"""Tagging tasks without code, and a sample of CoNLL-2003 from the file to the score."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from finetune.definitions import TaggingDefinition
from finetune.tagging.head import TaggingHead
from finetune.tagging.notation import MARKS
from finetune.tagging.tasks import CustomTagging
from tests.finetune.tagging.tagging_samples import TRAIN, config, outputs, tokenizer, write

SENTENCE = "anna smith the dog paris york".split()
NER = {
    # In IOB1 B only separates spans of one type; here PER and LOC never touch.
    "iob1": "I-PER I-PER O O I-LOC B-LOC",
    "iob2": "B-PER I-PER O O B-LOC B-LOC",
    "bioes": "B-PER E-PER O O S-LOC S-LOC",
}


def _task(folder, **definition):
    return CustomTagging(config(folder), "mine", tokenizer(), TaggingDefinition(**definition))


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


@pytest.mark.parametrize("outside", ["O", "NONE", "OTHER", "-", "_"])
def test_bare_types_with_another_name_for_words_outside(tmp_path, outside):
    tags = f"PER PER {outside} {outside} LOC {outside}"
    write(tmp_path, train=_columns(tags), dev=_columns(tags))
    task = _task(tmp_path, scheme="bare")
    (example,) = task.get_examples("train")
    assert example.tags == tuple("B-PER E-PER O O S-LOC O".split())
    assert set(task.labels) == {"B-PER", "E-PER", "S-LOC", outside}


def test_o_is_no_bare_type_where_words_outside_have_another_name(tmp_path):
    write(tmp_path, train=_columns("PER PER NONE NONE LOC NONE"), dev=_columns("PER O O O O O"))
    with pytest.raises(UserError, match="dev.txt, line 2"):
        _ = _task(tmp_path, scheme="bare").labels


def test_bare_types_may_be_named_other_where_words_outside_are_o(tmp_path):
    write(tmp_path, train=_columns("OTHER OTHER OTHER O O LOC"))
    (example,) = _task(tmp_path, scheme="bare").get_examples("train")
    assert example.tags == tuple("B-OTHER I-OTHER E-OTHER O O S-LOC".split())


def test_a_test_file_with_a_placeholder_is_no_label(tmp_path):
    train = _columns("DT NN DT NN DT NN")
    write(tmp_path, train=train, dev=train, test=_columns("X X X X X X"))
    assert set(_task(tmp_path, scheme="token").labels) == {"DT", "NN"}


def test_touching_spans_of_different_types_in_iob1(tmp_path):
    write(tmp_path, train=_columns("I-PER I-PER I-LOC I-LOC B-LOC I-PER"))
    (example,) = _task(tmp_path, scheme="iob").get_examples("train")
    assert example.tags == tuple("B-PER E-PER B-LOC E-LOC S-LOC S-PER".split())


@pytest.mark.parametrize(
    ("tags", "definition", "is_token_level", "said"),
    [
        ("O B-A I-A O E-A S", {}, False, "mark spans, in the scheme BIOES"),
        ("O O O O O O", {}, False, "mark spans"),
        ("O A A O O O", {}, False, "mark spans, in the scheme bare types (A, O)"),
        ("DT NN O B-A I-A O", {}, True, "stand for themselves (B-A, DT, I-A, NN, O)"),
        ("B-A B-A I-A O O O", {"scheme": "token"}, True, None),
        ("B-A B-A I-A O O O", {"scheme": "iob"}, False, None),
    ],
)
def test_the_level_is_told_from_the_training_tags(
    tmp_path, capsys, tags, definition, is_token_level, said
):
    write(tmp_path, train=_columns(tags))
    task = _task(tmp_path, **definition)
    assert task.is_token_level is is_token_level
    assert task.labels and (said or "") in (shown := capsys.readouterr().err)
    assert ("is reported" in shown) is (said is not None)
    if is_token_level:
        assert task.get_examples("train")[0].tags == tuple(tags.split())


# Notation -> tags of SENTENCE, and the labels that are learned for them.
NOTATIONS = {
    "bilou": ("B-PER L-PER O O U-LOC U-LOC", "B-PER L-PER O U-LOC"),
    "bmes": ("B-PER E-PER O O S-LOC S-LOC", "B-PER E-PER O S-LOC"),
    "bmewo": ("B-PER E-PER O O W-LOC W-LOC", "B-PER E-PER O W-LOC"),
    "iob, suffix": ("PER-B PER-I O O LOC-B LOC-B", "LOC-S O PER-B PER-E"),
    "iob, suffix and another outside": ("PER_B PER_I - - LOC_B LOC_B", "- LOC_S PER_B PER_E"),
    "bilou, slash": ("B/PER L/PER O O U/LOC U/LOC", "B/PER L/PER O U/LOC"),
    "iob, colon": ("B:PER I:PER O O B:LOC B:LOC", "B:PER E:PER O S:LOC"),
    "lower case": ("b-PER i-PER o o b-LOC b-LOC", "b-PER e-PER o s-LOC"),
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_spans_labels_and_predictions_in_every_notation(tmp_path, notation):
    tags, labels = NOTATIONS[notation]
    write(tmp_path, train=_columns(tags), dev=_columns(tags))
    scheme = notation.partition(",")[0]
    for definition in ({}, {"scheme": scheme} if scheme in MARKS or scheme == "iob" else {}):
        trained = _task(tmp_path, **definition)
        assert not trained.is_token_level and trained.labels == labels.split()
        task = _task(tmp_path, **definition)
        task.set_state(json.loads(json.dumps(trained.get_state())))
        (example,) = task.get_examples("dev")
        assert example.tags == tuple("B-PER E-PER O O S-LOC S-LOC".split())
        assert task.labels == labels.split()
        (row,) = task.featurize([example], is_training=False)
        predicted = [task.labels[i] for i in row["labels"]]
        output = outputs(0, predicted[:5], labels=task.labels)
        scorer = task.get_scorer("dev")
        scorer.update(output)
        assert dict(scorer.get_results())["recall"] == pytest.approx(200 / 3)
        (record,) = task.prediction_records("dev", [output], [example])
        assert record["tags"] == [*predicted[:5], task.outside]
        assert [(span["type"], span["text"]) for span in record["spans"]] == [
            ("PER", "anna smith"),
            ("LOC", "paris"),
        ]


def test_bare_types(tmp_path):
    write(tmp_path, train=_columns("PER PER O O LOC LOC") + "\nthe O\ndog O\n")
    for definition in ({}, {"scheme": "bare"}):
        task = _task(tmp_path, **definition)
        first, _ = task.get_examples("train")
        assert first.tags == tuple("B-PER E-PER O O B-LOC E-LOC".split())
        restored = _task(tmp_path, **definition)
        restored.set_state(task.get_state())
        assert restored.labels == task.labels == ["B-LOC", "B-PER", "E-LOC", "E-PER", "O"]
        assert restored.get_examples("train")[0].tags == first.tags


@pytest.mark.parametrize(
    ("tags", "odd", "allowed"),
    [
        ("B-PER I-PER O O B-LOC O", "0", "B-, I-"),
        ("B-PER I-PER O O B-LOC O", "B_LOC", "B-, I-"),
        ("B-PER I-PER O O B-LOC O", "LOC", "B-, I-"),
        ("B-PER L-PER O O U-LOC O", "S-LOC", "U-"),
        ("B-PER I-PER O O B-LOC O", "S-LOC", "B-, I- here"),  # among a hundred B
        ("PER_B PER_I - - LOC_B -", "O", "_B, _I"),
        ("PER PER O O LOC O", "0", "type of a span"),
    ],
)
def test_an_odd_tag_is_an_error_with_its_line(tmp_path, tags, odd, allowed):
    text = (_columns(tags) + "\n") * 50
    write(tmp_path, train=f"{text}anna {odd}\n")
    with pytest.raises(UserError) as error:
        _task(tmp_path).is_token_level  # noqa: B018, what the property does
    assert error.value.where == f"{tmp_path / 'train.txt'}, line 351"
    assert f"{odd!r} (1 of 301" in str(error.value.received)
    assert allowed in str(error.value.remedy)
    # The remedy holds for those whose tags these are.
    assert _task(tmp_path, scheme="token").main_metric == "accuracy"


def test_spans_in_brackets(tmp_path, capsys):
    write(tmp_path, train=_columns("(PER* *) * (LOC) * (LOC*)"), dev="the *\ndog (PER)\n")
    task = _task(tmp_path)
    assert task.labels == ["B-PER", "E-PER", "O", "S-LOC", "S-PER"]
    assert task.get_examples("train")[0].tags == ("B-PER", "E-PER", "O", "S-LOC", "O", "S-LOC")
    assert "in brackets" in (shown := capsys.readouterr().err) and "F1 of spans" in shown
    restored = _task(tmp_path)
    restored.set_state(task.get_state())
    assert restored.get_examples("dev") == task.get_examples("dev")
    assert _task(tmp_path, scheme="token").is_token_level


@pytest.mark.parametrize(
    ("tags", "line"), [("* *) * * * (A)", 2), ("(A* (B* * * *) *", 2), ("(A* * * * * *", 6)]
)
def test_brackets_without_their_partners(tmp_path, tags, line):
    write(tmp_path, train=_columns(tags))
    with pytest.raises(UserError, match="one after the other") as error:
        _task(tmp_path).get_examples("train")
    assert error.value.where.endswith(f"train.txt, line {line}")


@pytest.mark.parametrize("scheme", [None, "token"])
def test_one_tag_for_all_words(tmp_path, scheme):
    write(tmp_path, train=_columns("_ _ _ _ _ _"))
    with pytest.raises(UserError, match="word_column and tag_column") as error:
        _task(tmp_path, scheme=scheme).get_examples("train")
    assert error.value.where.endswith("train.txt, line 1") and "'_'" in error.value.received


@pytest.mark.parametrize("tag", ["O", "B-PER"])
def test_a_file_of_one_tag_is_warned_of(tmp_path, caplog, tag):
    write(tmp_path, train=_columns(f"{tag} " * 6), dev=_columns(NER["iob2"]))
    assert _task(tmp_path).labels
    assert f"train.txt: all tags are {tag}, so there is nothing to learn" in caplog.text


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("B-Per I-Per O O B-PER O", "'PER', 'Per'"),
        ("DT NN DT nn DT NN", "'NN', 'nn'"),
        ("B-PER I-PER O O B-LOC O", None),
    ],
)
def test_tags_that_look_alike_are_warned_of(tmp_path, caplog, tags, said):
    write(tmp_path, train=_columns(tags))
    assert _task(tmp_path).labels
    assert ("differ in capitals" in caplog.text) is (said is not None)
    assert (said or "") in caplog.text


def test_a_column_of_other_things_is_warned_of(tmp_path, caplog):
    lines = (f"{SENTENCE[i % 6]} O 0.{i}\n" if i % 9 else "\n" for i in range(90))
    write(tmp_path, train="".join(lines))
    assert _task(tmp_path).is_token_level
    assert "80 different tags of 80 words" in caplog.text


def test_features_tell_what_was_left_out_of_words(tmp_path):
    write(tmp_path, train="en:anna\tB-PER\nen:barks\tO\n")
    task = _task(tmp_path)
    assert task.get_examples("train")[0].words == ("anna", "barks")
    assert task.feature_state()["added"] == "language"


def test_the_names_of_columns_are_no_tag(tmp_path):
    write(tmp_path, train="Token Tag\n" + _columns(NER["iob2"]))
    with pytest.raises(UserError, match="(?s)line 1.*'Tag'.*names the columns"):
        _task(tmp_path).get_examples("train")


@pytest.mark.parametrize(
    ("tags", "scheme", "said"),
    [
        ("B-A O I-A B-B I-B O", None, "1 tags do not follow those before them as IOB2"),
        ("B-A I-A O E-B O S-B", None, "2 tags do not follow those before them as BIOES"),
        ("B-A O U-A B-B L-B O", "bilou", "1 tags do not follow those before them as BILOU"),
        ("I-A B-A I-B I-B O B-B", None, "1 tags do not follow those before them as IOB1"),
        ("I-A B-A I-B I-B O I-B", "iob", None),
        ("B-A I-A O B-B O B-B", None, None),
        ("B-A I-A O U-B B-B L-B", None, "1 tags do not follow those before them as BILOU"),
    ],
)
def test_tags_out_of_order_are_warned_of(tmp_path, caplog, tags, scheme, said):
    write(tmp_path, train=_columns(tags))
    assert _task(tmp_path, scheme=scheme).labels
    assert (said or "") in caplog.text
    assert ("do not follow" in caplog.text) is (said is not None)


def test_features_depend_on_the_scheme_and_the_columns(tmp_path):
    write(tmp_path, train="anna O O\n")
    definitions = ({}, {"scheme": "bioes"}, {"scheme": "iob"}, {"scheme": "token"})
    columns = ({"word_column": 1}, {"tag_column": 1}, {"separator": " "})
    settings = [_task(tmp_path, **d).feature_settings() for d in (*definitions, *columns)]
    # The scheme is found to be spans where it is not given, and they may be in either of two.
    assert settings[0] == settings[1]
    assert all(a != b for a, b in itertools.combinations(settings[1:], 2))


def test_columns_files_and_separator(tmp_path):
    text = "1\tnew york\tNP\tB-LOC\n2\tdog\tNN\tO\n"
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
    assert pos.labels == ["NN", "NP"] and pos.is_token_level


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


def test_a_model_of_an_older_version_with_decomposed_tags(tmp_path):
    """Which sorted its labels as they were written: its head is that of the same files now."""
    letter = "E\u0301"  # before F, while É comes after it
    train = f"a B-{letter}\nb B-F\nc O\n"
    write(tmp_path, train=train)
    task = _task(tmp_path)
    assert task.labels == ["O", "S-\u00c9", "S-F"]
    stored = {**task.get_state(), "labels": ["O", f"S-{letter}", "S-F"]}
    assert task.head_state(stored) == task.head_state(task.get_state())
    evaluated = _task(tmp_path)
    evaluated.set_state(stored)
    assert evaluated.labels == task.labels
    # Some files in one form, some in the other: in older versions other labels.
    write(tmp_path, train=train, dev="a B-\u00c9\n")
    assert _task(tmp_path).labels == ["O", "S-F", "S-\u00c9"]


def test_scores(tmp_path):
    write(tmp_path, train=TRAIN, dev=_columns(NER["iob1"]))
    task = _task(tmp_path)
    scorer = task.get_scorer("dev")
    scorer.update(outputs(0, "B-PER E-PER O O S-LOC O".split(), labels=task.labels))
    results = dict(scorer.get_results())
    assert results["precision"] == 100 and results["recall"] == pytest.approx(200 / 3)


CONLL_TRAIN = """-DOCSTART- -X- -X- O

Anna NNP I-NP I-PER
Smith NNP I-NP I-PER
of IN I-PP O
New NNP I-NP I-LOC
York NNP I-NP I-LOC
Times NNP I-NP I-ORG
barks VBZ I-VP O
. . O O

-DOCSTART- -X- -X- O

Paris NNP I-NP I-LOC
, , O O
U.N. NNP I-NP I-ORG
, , O O
"""
CONLL_DEV = """-DOCSTART- -X- -X- O

The DT I-NP O
U.N. NNP I-NP I-ORG
dog NN I-NP O
barks VBZ I-VP O
in IN I-PP O
Paris NNP I-NP I-LOC
New NNP I-NP B-LOC
York NNP I-NP I-LOC
Anna NNP I-NP I-PER

Smith NNP I-NP I-PER
"""
CONLL_TAGS = [
    "O S-ORG O O O S-LOC B-LOC E-LOC S-PER".split(),
    ["S-PER"],
]


@pytest.fixture
def conll(tmp_path):
    write(tmp_path, train=CONLL_TRAIN, dev=CONLL_DEV)
    return CustomTagging(config(tmp_path), "ner", tokenizer(), TaggingDefinition())


def _batch(rows, length):
    def padded(name, dtype):
        array = np.zeros((len(rows), length), dtype)
        for target, row in zip(array, rows, strict=True):
            target[: len(row[name])] = row[name]
        return array

    names = {"labels": np.int32, "labels_mask": np.float32, "labeled_positions": np.int32}
    return {name: padded(name, dtype) for name, dtype in names.items()}


def _knowing_outputs(task, rows, length):
    """Of a head that sees the gold label in the state of a word's first piece, and only there."""
    size = len(task.labels)
    head = TaggingHead(size, size, dtype="float32")
    head.build()
    head.classifier.kernel.assign(20.0 * np.eye(size, dtype=np.float32))
    features = _batch(rows, length)
    states = np.random.default_rng(0).uniform(size=(len(rows), length, size)).astype(np.float32)
    for state, row in zip(states, rows, strict=True):
        for position, label in zip(row["labeled_positions"], row["labels"], strict=True):
            state[position] = np.eye(size)[label]
    outputs = head(tf.constant(states), {k: tf.constant(v) for k, v in features.items()}).outputs
    return [
        {"eid": row["eid"], **{name: value[i].numpy() for name, value in outputs.items()}}
        for i, row in enumerate(rows)
    ]


def test_examples_of_conll_2003(conll):
    assert [list(example.tags) for example in conll.get_examples("dev")] == CONLL_TAGS
    assert conll.get_examples("train")[0].tags == tuple(
        "B-PER E-PER O B-LOC E-LOC S-ORG O O".split()
    )


@pytest.mark.parametrize("length", [16, 40])
def test_a_head_that_knows_scores_100(conll, length):
    task = conll
    examples = task.get_examples("dev")
    rows = list(task.featurize(examples, is_training=False))
    assert len(rows[0]["input_ids"]) == 15  # u . n . and bark ##s, between [CLS] and [SEP]
    outputs = _knowing_outputs(task, rows, length)
    scorer = task.get_scorer("dev")
    for output in reversed(outputs):
        scorer.update(output)
    results = dict(scorer.get_results())
    assert results["f1"] == results["seqeval_f1"] == 100
    assert 0 <= results["loss"] < 1e-6
    records = task.prediction_records("dev", outputs, examples)
    assert [record["tags"] for record in records] == CONLL_TAGS
    assert [span["text"] for span in records[0]["spans"]] == ["U.N.", "Paris", "New York", "Anna"]
