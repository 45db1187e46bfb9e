"""Tiny tasks with several texts an example."""

import json

import numpy as np

from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from finetune.task_builder import get_tasks
from tests.data.small_corpus import write_vocabulary
from tests.finetune import tiny_tasks

PAIRS = {"kind": "embedding", "text": "anchor", "text_b": "positive"}
TRIPLETS = {**PAIRS, "negative": "negative"}
SIMILARITY = {**PAIRS, "label": "score"}


def write_lines(path, rows):
    """Writes objects as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_task(folder, definition, name="texts", **hparams):
    """Builds a task over the vocabulary of `tiny_tasks`."""
    path = write_vocabulary(folder)
    config = tiny_tasks.configure(folder, task_names=[name], tasks={name: definition}, **hparams)
    (task,) = get_tasks(config, make_tokenizer(load_vocabulary(path)))
    return task


def triplets(count, seed=0):
    """Rows whose anchor and positive share all words, in another order."""
    rows = []
    for i, (text, _) in enumerate(tiny_tasks.sentences(count, seed)):
        words = text.split()
        shuffled = np.random.default_rng(i).permutation(words).tolist()
        rows.append(
            {"anchor": text, "positive": " ".join(shuffled), "negative": " ".join(words[1:] or "a")}
        )
    return rows
