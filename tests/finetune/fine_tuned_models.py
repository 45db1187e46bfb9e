"""Folders of fine-tuned models with random weights, without training."""

import dataclasses
import json
import pathlib

import keras
import numpy as np

from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.model import FinetuningModel
from finetune.task_builder import get_tasks
from finetune.trial_folders import TASKS
from tests.finetune import tiny_tasks

TABLES = {
    "marks": {"kind": "classification", "text": "text", "label": "label"},
    "grades": {"kind": "regression", "text": "text", "label": "label", "min": 2.0, "max": 6.0},
    "places": {"kind": "tagging"},
    "manuals": {"kind": "qa"},
    "topics": {"kind": "multilabel", "text": "text", "label": "label", "threshold": "tuned"},
    "pages": {
        "kind": "regression",
        "text": "query",
        "text_b": "page",
        "label": "label",
        "min": 0.0,
        "max": 1.0,
        "loss": "logistic",
    },
    "texts": {"kind": "embedding", "text": "anchor", "text_b": "positive"},
    "endings": {
        "kind": "choice",
        "text": "start",
        "text_b": "question",
        "choices": "endings",
        "label": "label",
    },
}
STATES = {
    "marks": {"labels": ["bad", "good", "unclear"]},
    "grades": {"min": 2.0, "max": 6.0},
    "places": {"labels": ["B-NP", "E-NP", "O", "S-NP"], "is_token_level": False},
    "manuals": {},
    "topics": {"labels": ["air", "sea"], "multilabel": True},
    "pages": {"min": 0.0, "max": 1.0, "loss": "logistic"},
    "texts": {"pooling": "mean"},
    "endings": {"choices": True},
    "sts": {"min": 0.0, "max": 5.0},
}
PLAIN_SPANS = {"joint_prediction": False, "answerable_classifier": False}


def write_fine_tuned(
    folder, tasks, network=tiny_tasks.NETWORK, states=None, pieces=None, **hparams
):
    """Writes a trial's folder; returns it, the network and the tasks.

    Args:
        folder: a data folder; the trial is `model_1` in it.
        tasks: names of `STATES`.
        network: the encoder's sizes.
        states: task -> state, where it is another.
        pieces: the vocabulary, where it is another; then the network has as many embeddings.
        **hparams: of fine-tuning.
    """
    states = {name: {**STATES, **(states or {})}[name] for name in tasks}
    folder.mkdir(parents=True, exist_ok=True)
    vocab_file = tiny_tasks.write_vocabulary(folder)
    if pieces:
        pathlib.Path(vocab_file).write_text("".join(f"{piece}\n" for piece in pieces))
        network = dataclasses.replace(network, vocab_size=len(pieces))
    config = tiny_tasks.configure(
        folder,
        task_names=list(tasks),
        tasks={name: TABLES[name] for name in tasks if name in TABLES},
        **hparams,
    )
    tokenizer = make_tokenizer(load_vocabulary(vocab_file))
    made = get_tasks(config, tokenizer)
    for task in made:
        task.set_state(states[task.name])
    keras.utils.set_random_seed(0)
    model = FinetuningModel(made, network)
    model.build()
    stream = np.random.default_rng(0)
    for variable in model.named_variables().values():  # biases and LayerNorms too
        variable.assign(np.asarray(variable) + stream.normal(scale=0.1, size=variable.shape))
    trial = pathlib.Path(folder) / "model_1"
    make_model_folder(str(trial))
    write_model_folder(
        str(trial),
        hparams=config.to_dict(),
        network=network,
        vocab_file=vocab_file,
        casing=UNCASED,
    )
    (trial / TASKS).write_text(json.dumps(states))
    weights = {name: np.asarray(v) for name, v in model.named_variables().items()}
    CheckpointStore(str(trial)).save(4, weights, {}, {"examples_seen": 32})
    return trial, model, made
