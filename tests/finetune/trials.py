"""The folder of a "fine-tuned" model with random weights and tasks of every kind."""

import json
import pathlib

import keras
import numpy as np

from configure_finetuning import FinetuningConfig
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.model import FinetuningModel
from finetune.task_builder import get_tasks
from finetune.trial_folders import write_tuned

CASES = pathlib.Path(__file__).parents[1] / "conformance" / "cases"
VOCAB = CASES / "vocab.txt"
LENGTH = 64
LABELS = ["bad", "fair", "good"]
TAGS = ["B-LOC", "E-LOC", "I-LOC", "O", "S-LOC", "S-PER"]
TOPICS = ["air", "land", "sea", "fire"]
TASKS = {
    "reviews": {"kind": "classification", "text": "text", "label": "label", "labels": LABELS},
    "points": {"kind": "regression", "text": "text", "label": "label", "min": 1, "max": 5},
    "places": {"kind": "tagging", "scheme": "bioes"},
    "manuals": {"kind": "qa", "unanswerable": True},
    "topics": {
        "kind": "multilabel",
        "text": "text",
        "label": "label",
        "labels": TOPICS,
        "threshold": "tuned",
        "windows": "mean",
    },
}
STATES = {
    "reviews": {"labels": LABELS},
    "points": {"min": 1.0, "max": 5.0},
    "places": {"labels": TAGS, "is_token_level": False},
    "manuals": {},
    "topics": {"labels": TOPICS, "multilabel": True},
}
THRESHOLD = 0.625  # a float32 exactly, of "topics"
DOC_STRIDE = 20
# Large weights, so that what is predicted depends on the text.
NETWORK = TransformerConfig(
    vocab_size=485,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    embedding_size=16,
    max_position_embeddings=LENGTH,
    initializer_range=0.4,
)


def configure(folder, names, **hparams):
    """The configuration of a run with these tasks."""
    given = {"task_names": list(names), "tasks": {n: TASKS[n] for n in names}}
    sizes = {"max_seq_length": LENGTH, "doc_stride": DOC_STRIDE}
    return FinetuningConfig("tiny", str(folder), **given, **sizes, **hparams)


def write_trial(folder, names=tuple(TASKS), seed=1):
    """Writes the folder of a trial on some of `TASKS`, as run_finetuning.py leaves it."""
    config = configure(folder, names)
    tasks = get_tasks(config, make_tokenizer(load_vocabulary(str(VOCAB))))
    for task in tasks:
        task.set_state(STATES[task.name])
    keras.utils.set_random_seed(seed)
    model = FinetuningModel(tasks, NETWORK)
    model.build()
    make_model_folder(str(folder))
    write_model_folder(
        str(folder),
        hparams={**config.to_dict(), "precision": "float32"},
        network=NETWORK,
        vocab_file=str(VOCAB),
        casing=UNCASED,
    )
    states = {name: STATES[name] for name in names}
    (pathlib.Path(folder) / "tasks.json").write_text(json.dumps(states))
    if "topics" in names:
        write_tuned(str(folder), {"topics": {"threshold": THRESHOLD}})
    weights = {name: np.asarray(v) for name, v in model.named_variables().items()}
    CheckpointStore(str(folder)).save(1, weights, {}, {})
    return str(folder)


def conformance_texts():
    """The texts of the tokenization cases that UTF-8 can hold."""
    content = json.loads((CASES / "tokenization.json").read_text(encoding="utf-8"))
    return [t for t in content["texts"] if t == t.encode("utf-8", "ignore").decode("utf-8")]
