"""Words with ideographs: Python, SavedModel and transformers read them alike."""

import json

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions
from electra_tf2.text.graph import GraphTokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS
from finetune import FineTuned
from finetune.export.huggingface import export_huggingface
from finetune.export.saved_model import export_saved_model, word_features
from finetune.features import feature_key
from finetune.tagging.tasks import Chunking, TaggingTask
from tests.finetune.fine_tuned_models import STATES, write_fine_tuned
from tests.finetune.tagging.tagging_samples import config, ids, tokenizer, write

WORDS = "我们 昨天 参观 了 北京大学 ， iPhone手机 用 서울 。".split()
OTHER = "他 喜欢 上海 的 天气".split()
PIECES = [
    *SPECIAL_TOKENS,
    *dict.fromkeys("".join(WORDS[:6] + OTHER) + "手机用。"),
    *"##京 ##们 ##大 ##学 北京 i ##phone ##手 서 ##울 서울".split(),
]
STATE = {**STATES["places"], "separate_ideographs": True}


def _task(folder, **values):
    return TaggingTask(config(folder, **values), "ner", tokenizer(), False)


def _row(task):
    (row,) = task.featurize(task.get_examples("train"), is_training=True)
    return {name: np.asarray(value).tolist() for name, value in row.items()}


@pytest.mark.parametrize(
    ("separate", "pieces", "positions"),
    [(True, "中 文 文 中 anna 中", [1, 3, 5]), (False, "中 ##文 [UNK] [UNK]", [1, 3, 4])],
)
def test_features_and_those_of_the_graph(tmp_path, separate, pieces, positions):
    write(tmp_path, train="中文 B-A\n文中 O\nanna中 O\n")
    task = _task(tmp_path, separate_ideographs=separate)
    row = _row(task)
    assert row["input_ids"] == ids("[CLS]", *pieces.split(), "[SEP]")
    assert row["labeled_positions"] == positions
    graph = GraphTokenizer(tokenizer(), separate_ideographs=task.separate_ideographs)
    found = word_features(graph, tf.ragged.constant([["中文", "文中", "anna中"]]), 32)
    for name in ("input_ids", "labeled_positions"):
        assert found[name][0].numpy().tolist() == row[name]


def test_a_model_keeps_the_way_that_it_was_trained_in(tmp_path):
    write(tmp_path, train="中文 B-A\n文中 O\n")
    trained = _task(tmp_path, separate_ideographs=False)
    for state in (trained.get_state(), STATES["places"] | {"labels": ["O", "S-A"]}):
        task = _task(tmp_path)
        task.set_state(json.loads(json.dumps(state)))
        assert not task.separate_ideographs and _row(task) == _row(trained)
    task = _task(tmp_path, separate_ideographs=False)
    task.set_state(_task(tmp_path).get_state())
    assert task.separate_ideographs


def test_trials_are_told_apart_only_where_there_are_ideographs(tmp_path):
    def keys(text):
        write(tmp_path, train=text)
        tasks = [_task(tmp_path, separate_ideographs=separate) for separate in (True, False)]
        return [feature_key(task, "train") for task in tasks]

    plain, chinese = keys("anna B-A\nthe O\n"), keys("中文 B-A\nthe O\n")
    assert plain[0] == plain[1] and chinese[0] != chinese[1]


def test_chunking_has_the_hparam(tmp_path):
    write(tmp_path, train="中文 B-A\n")
    settings = config(tmp_path, separate_ideographs=False)
    assert _row(Chunking(settings, tokenizer()))["input_ids"] == ids("[CLS]", "中", "##文", "[SEP]")


@pytest.mark.parametrize(
    "damage",
    [
        {"labels": ["O", 3]},
        {"notation": {"marks": "XYZ"}},
        {"notation": {"separator": 3}},
        {"notation": 3},
        {"layout": {"per_line": "page"}},
        {"layout": {"separator": ""}},
        {"layout": {"num_columns": "2"}},
        {"layout": {"has_spaces": 1}},
        {"layout": {"has_invisible": 1}},
        {"layout": {"has_characters": "no"}},
        {"layout": None},
    ],
)
def test_a_damaged_state(tmp_path, damage):
    with pytest.raises(UserError, match="another kind"):
        _task(tmp_path).set_state(STATE | damage)


def test_texts_for_a_model_of_characters_are_warned_of(tmp_path, caplog):
    for has_characters in (False, True):
        state = STATE | {"layout": {"has_characters": has_characters}}
        trial, _, _ = write_fine_tuned(
            tmp_path / str(has_characters), ["places"], states={"places": state}, pieces=PIECES
        )
        model = FineTuned.from_pretrained(str(trial))
        for given, is_text in (("我们昨天", True), (list("我们昨天"), False), ("iPhone", False)):
            caplog.clear()
            (tags,) = model.predict([given])
            assert len(tags.words) == (4 if isinstance(given, list) else 1)
            assert ("single characters" in caplog.text) is (is_text and has_characters)


def test_a_model_from_before_says_so_when_exported(tmp_path, capsys):
    for state, said in ((STATE, False), (STATES["places"], True)):
        trial, _, _ = write_fine_tuned(
            tmp_path / str(said), ["places"], states={"places": state}, pieces=PIECES
        )
        capsys.readouterr()
        export_huggingface(str(trial), str(tmp_path / f"out_{said}"), ExportOptions())
        assert ("ideographs do not stand alone" in capsys.readouterr().err) is said
        readme = (tmp_path / f"out_{said}" / "README.md").read_text()
        assert ("ideographs do not stand alone" in readme) is said


@pytest.mark.interop
def test_python_the_saved_model_and_transformers_give_the_same_tags(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: run make test-slow")
    transformers = pytest.importorskip("transformers", reason="run make test-slow")
    trial, _, _ = write_fine_tuned(tmp_path, ["places"], states={"places": STATE}, pieces=PIECES)
    expected = FineTuned.from_pretrained(str(trial)).predict([WORDS, OTHER])
    assert len({tag for tags in expected for tag in tags.tags}) > 1

    export_saved_model(str(trial), str(tmp_path / "saved"))
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    texts = tf.constant([" ".join(WORDS), " ".join(OTHER)])
    called = saved.signatures["places"](texts=texts)

    export_huggingface(str(trial), str(tmp_path / "hf"), ExportOptions())
    reader = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    model = transformers.AutoModelForTokenClassification.from_pretrained(str(tmp_path / "hf"))
    for i, words in enumerate((WORDS, OTHER)):
        count = len(words)
        assert [w.decode() for w in called["words"][i, :count].numpy()] == words
        assert [t.decode() for t in called["tags"][i, :count].numpy()] == expected[i].tags
        encoded = reader(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            probabilities = model.eval()(**encoded).logits[0].softmax(-1).numpy()
        first = [encoded.word_ids().index(j) for j in range(count)]
        best = probabilities[first].argmax(-1)
        tags = [tag.replace("E-", "I-").replace("S-", "B-") for tag in expected[i].tags]
        assert [model.config.id2label[j] for j in best] == tags
        np.testing.assert_allclose(
            probabilities[first].max(-1), expected[i].probabilities, atol=1e-5
        )
