"""README.md of an exported model: what it is, how to load it, how it was trained."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.data.shards import read_metadata
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import json_path, read_config
from electra_tf2.loading.pretrained import Pretrained
from electra_tf2.training.checkpoints import STATE

# What a model's folder tells of its training: steps, hparams, data, figures.


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


# Class's ending -> what the model does, and the task that Hugging Face's pages file it under.
_PURPOSES = {
    "ForPreTraining": ("tells which tokens of a text were replaced", None),
    "ForMaskedLM": ("proposes tokens for [MASK]", "fill-mask"),
    "ForSequenceClassification": ("classifies texts", "text-classification"),
    "ForTokenClassification": ("tags tokens", "token-classification"),
    "ForQuestionAnswering": ("finds answers in passages", "question-answering"),
    "Model": ("gives a state for each token of a text", "feature-extraction"),
}
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "embedding_size",
    "max_position_embeddings",
)


def model_card(pretrained: Pretrained, tokenizer: Mapping[str, bool], model: Any) -> str:
    """Returns a model card in Markdown.

    Args:
        pretrained: what the model was made from.
        tokenizer: its casing and accents.
        model: a `huggingface_export.Exported`.
    """
    ending = next(e for e in _PURPOSES if model.model_class.endswith(e))
    purpose, task = _PURPOSES[ending]
    family = model.model_class.removesuffix(ending).upper()
    text = "lower-cased" if tokenizer["do_lower_case"] else "cased"
    accents = "without accents" if tokenizer["strip_accents"] else "with accents"
    parts = [
        _front_matter(task),
        f"# {family} {model.kind}\n\nThis network {purpose}. It was exported with electra-tf2 "
        f"{__version__} for `{model.model_class}`. Text is {text}, {accents}.",
        *model.notes,
        "## Use",
        _usage(model.model_class),
        "## Network",
        _table({name: model.config[name] for name in _SIZES if name in model.config}),
        *_training(pretrained),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(task: str | None) -> str:
    lines = ["library_name: transformers", "tags:", "- electra"]
    lines += [f"pipeline_tag: {task}"] if task else []
    return "\n".join(["---", *lines, "---"])


def _usage(model_class: str) -> str:
    return f"""```python
from transformers import AutoTokenizer, {model_class}

tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")
model = {model_class}.from_pretrained("path/of/this/folder")
outputs = model(**tokenizer("a text", return_tensors="pt"))
```"""


def _training(pretrained: Pretrained) -> list[str]:
    facts = training_facts(pretrained)
    if pretrained.format != "electra_tf2":
        return ["## Training", "The weights were trained by another program."]
    sections = {
        "Training": facts.progress,
        "Data": facts.data,
        "Hyperparameters": facts.hparams,
        **facts.figures,
    }
    found = {title: values for title, values in sections.items() if values}
    return [part for title, values in found.items() for part in (f"## {title}", _table(values))]


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|")
