"""A vocabulary, files and configurations for the tests of tagging."""

import types

from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

PIECES = (
    "the dog bark ##s in paris anna smith of new york u . , - [ ] cls sep e ##e 中 ##文 文 Anna"
)
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *PIECES.split()))
TRAIN = "anna B-PER\nsmith I-PER\nbarks O\nin O\nparis B-LOC\n\nthe O\ndog O\nbarks O\n"
DEV = "the O\nnew B-LOC\nyork I-LOC\ndog O\n"


def tokenizer(*, lower_case=True, implementation="reference"):
    return make_tokenizer(VOCABULARY, Casing(lower_case), implementation=implementation)


def config(folder, **values):
    """What tagging tasks ask of a FinetuningConfig; the task's data lie in `folder`."""
    defaults = {"max_seq_length": 32, "debug": False, "separate_ideographs": True}
    return types.SimpleNamespace(**{**defaults, **values}, raw_data_folder=lambda name: str(folder))


def write(folder, **splits):
    """Writes <split>.txt files."""
    for split, text in splits.items():
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    return folder


def ids(*pieces):
    return [VOCABULARY.ids[piece] for piece in pieces]


def outputs(eid, predictions, *, labels, padded=8, loss=1.0):
    """What a head gives for an example: `predictions` are tags."""
    missing = padded - len(predictions)
    index = [labels.index(tag) for tag in predictions] + [0] * missing
    return {
        "eid": eid,
        "loss": loss,
        "predictions": index,
        "labels": [0] * padded,
        "labels_mask": [1.0] * len(predictions) + [0.0] * missing,
        "logits": [[2.0 * (i == j) for j in range(len(labels))] for i in index],
    }
