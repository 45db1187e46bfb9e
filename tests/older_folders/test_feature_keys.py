"""Trials of version 0.1.0 are told from those of other data by the keys of their features."""

import pytest

from configure_finetuning import FinetuningConfig
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from finetune.features import feature_key
from finetune.task_builder import get_task

REVIEWS = {"kind": "classification", "text": "body", "label": "stars"}
GRADES = {**REVIEWS, "kind": "regression"}
# Task without code -> its definition, its training file and the file's text.
DEFINED = {
    "c1": (REVIEWS, "train.tsv", "body\tstars\na b\t1\nc\t0\n"),
    "c2": (
        {**REVIEWS, "labels": [1, "0", True, 0.5], "files": {"train": "x.csv"}},
        "x.csv",
        "body,stars\na b,1\nc,0\n",
    ),
    "c3": (
        {"kind": "classification", "text": 0, "text_b": 1, "label": 2, "header": False},
        "train.tsv",
        "a\tb\tx\nc\td\ty\n",
    ),
    "r1": (GRADES, "train.tsv", "body\tstars\na b\t1\nc\t0\n"),
    "r2": ({**GRADES, "min": 0, "max": 5}, "train.tsv", "body\tstars\na b\t1\nc\t0\n"),
    "t1": ({"kind": "tagging"}, "train.txt", "a B-X\nb O\n"),
    "t2": (
        {"kind": "tagging", "scheme": "iob", "separator": "\t", "files": {"train": "a.conll"}},
        "a.conll",
        "a\tB-X\nb\tO\n",
    ),
    "t3": (
        {"kind": "tagging", "scheme": "token", "word_column": 1},
        "train.txt",
        "a b X\nb c O\n",
    ),
    # Decomposed, and the letter after it: their order in the other form is the opposite.
    "t4": ({"kind": "tagging"}, "train.txt", "a B-E\u0301\nb B-F\nc O\n"),
    "t5": ({"kind": "tagging"}, "train.txt", "a E\u0301\nb F\nc G\n"),
    "q1": ({"kind": "qa"}, "train.json", "{}"),
    "q2": (
        {"kind": "qa", "unanswerable": True, "files": {"train": "z.json"}},
        "z.json",
        "{}",
    ),
    "e1": (
        {"kind": "embedding", "text": "anchor", "text_b": "positive"},
        "train.csv",
        "anchor,positive\na,b\n",
    ),
    "o1": (
        {"kind": "choice", "text": "ctx", "label": "label", "choices": ["a1", "a2"]},
        "train.csv",
        "ctx,a1,a2,label\na,b,c,0\n",
    ),
}
# The keys that version 0.1.0 computes; those of GLUE and QA are of missing files. Embeddings and
# choices came later: theirs are those of the modules that they were first in.
KEYS = {
    "cola": "417ed2683c29abf0",
    "mrpc": "f265e4f8d92459f5",
    "sts": "bc28f94b2d6eeed3",
    "mnli": "db364b68dde591f3",
    "squad": "bc4f56d5156a7df7",
    "squadv1": "3ca60164e3b1589d",
    "newsqa": "b3d69468ce33fd14",
    "chunk": "26c1c2a327c143a2",
    "c1": "8fce429770ebda44",
    "c2": "f1956d386750005d",
    "c3": "c5c3bf61ca196258",
    "r1": "edc0654a8762e111",
    "r2": "126e1f4edf78d338",
    "t1": "df5067372cb2361c",
    "t2": "620f670aeee3212b",
    "t3": "fa8e806468837400",
    "t4": "b6c305bad0ffb9af",
    "t5": "145192817b339b82",
    "q1": "56dffa452f95ea5e",
    "q2": "fcd1e740e7f6d19a",
    "e1": "8808c493f31647ec",
    "o1": "813218e3c5416a0e",
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_features(tmp_path, name):
    folder = tmp_path / "finetuning_data" / name
    folder.mkdir(parents=True)
    if name in DEFINED:
        _, file, text = DEFINED[name]
        (folder / file).write_text(text)
    elif name == "chunk":
        (folder / "train.txt").write_text("a B-X\nb O\n")
    tasks = {defined: definition for defined, (definition, _, _) in DEFINED.items()}
    config = FinetuningConfig("m", str(tmp_path), task_names=["cola"], tasks=tasks)
    letters = Vocabulary((*SPECIAL_TOKENS, *"abcdefghij"))
    task = get_task(config, name, make_tokenizer(letters, implementation="reference"))
    assert feature_key(task, "train") == KEYS[name]
