"""What a model's folder tells of its training: steps, hparams, data, figures."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.data.metadata import read_metadata
from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.model_folder import read_config
from electra_tf2.results_files import json_path
from electra_tf2.training.checkpoints import STATE

# Those that say what was trained and how, in the order they are told in; paths are nobody else's
# business.
_HPARAMS = (
    "task_names",
    "electra_objective",
    "electric_objective",
    "mask_prob",
    "gen_weight",
    "disc_weight",
    "uniform_generator",
    "two_tower_generator",
    "untied_generator",
    "untied_generator_embeddings",
    "generator_hidden_size",
    "generator_layers",
    "temperature",
    "max_seq_length",
    "segmentation",
    "train_batch_size",
    "num_train_steps",
    "num_train_epochs",
    "phases",
    "optimizer",
    "learning_rate",
    "num_warmup_steps",
    "warmup_proportion",
    "layerwise_lr_decay",
    "weight_decay_rate",
    "adam_beta_1",
    "adam_beta_2",
    "adam_epsilon",
    "precision",
    "seed",
)
_LAST_LINES = ("train", "eval")
_TAIL_BYTES = 1 << 16


class TrainingFacts(NamedTuple):
    """What is known of a training; empty where nothing is.

    Attributes:
        progress: "steps", "examples".
        hparams: name -> value.
        data: what the data set's metadata say.
        figures: title -> name -> figure.
    """

    progress: dict[str, Any]
    hparams: dict[str, Any]
    data: dict[str, Any]
    figures: dict[str, dict[str, Any]]


def training_facts(pretrained: Pretrained) -> TrainingFacts:
    """Reads what lies beside a model of this program; files that can't be read are left out."""
    if pretrained.format != "electra_tf2":
        return TrainingFacts({}, {}, {}, {})
    stored = read_config(pretrained.folder)
    hparams = dict(stored["hparams"]) if stored else {}
    state = _json_object(posixpath.join(pretrained.path, STATE))
    progress = {"steps": state.get("step"), "examples": state.get("examples_seen")}
    figures = _log_figures(pretrained.folder)
    results = _json_object(json_path(hparams.get("results_pkl") or ""))
    if results:
        with contextlib.suppress(AttributeError, TypeError):  # a file of another form
            figures["Results"] = _scores(results, pretrained.folder)
    return TrainingFacts(
        {name: value for name, value in progress.items() if value is not None},
        {name: hparams[name] for name in _HPARAMS if name in hparams},
        _data(hparams),
        {title: values for title, values in figures.items() if values},
    )


def _data(hparams: Mapping[str, Any]) -> dict[str, Any]:
    try:
        metadata = read_metadata(posixpath.dirname(hparams.get("pretrain_tfrecords") or ""))
    except (UserError, OSError, tf.errors.OpError):
        return {}
    if metadata is None:
        return {}
    return {"records": metadata.num_examples, **metadata.counts}


def _scores(results: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Figures of an evaluation; of fine-tuning those of the trial that the folder holds."""
    if "trials" not in results:
        return {name: value for name, value in results.items() if isinstance(value, int | float)}
    number = folder.rstrip("/").rpartition("_")[2]
    for trial in results["trials"]:
        if str(trial.get("trial")) == number:
            scores = trial.get("scores", {})
            return {f"{task} {n}": v for task, by in scores.items() for n, v in by.items()}
    return {}


def _log_figures(folder: str) -> dict[str, dict[str, Any]]:
    """The last line of each split in metrics.jsonl."""
    path = posixpath.join(folder, "metrics.jsonl")
    try:
        size = tf.io.gfile.stat(path).length
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except tf.errors.OpError:
        return {}
    found = {}
    for line in lines:
        try:
            content = json.loads(line)
            found[content.pop("split")] = content
        except (ValueError, KeyError, AttributeError, TypeError):
            continue  # the first one is cut by the seek
    return {f"Last figures of {split}": found[split] for split in _LAST_LINES if split in found}


def _json_object(path: str) -> dict[str, Any]:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = json.loads(file.read())
    except (tf.errors.OpError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
