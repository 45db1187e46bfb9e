"""README.md of an exported model: what it is, how to load it, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from electra_tf2 import __version__, files
from electra_tf2.loading.source import Source
from electra_tf2.training.reports import last_reports

if TYPE_CHECKING:
    from electra_tf2.export.huggingface import ConvertedNetwork

SENTENCE_MODULES = "modules.json"
"""The file by which sentence-transformers knows a folder as one of its models."""

# Class's ending -> what the model does, and the task that Hugging Face's pages file it under.
_PURPOSES = {
    "ForPreTraining": ("tells which tokens of a text were replaced", None),
    "ForMaskedLM": ("proposes tokens for [MASK]", "fill-mask"),
    "ForSequenceClassification": ("classifies texts", "text-classification"),
    "ForMultipleChoice": ("chooses between continuations of a text", None),
    "ForTokenClassification": ("tags tokens", "token-classification"),
    "ForQuestionAnswering": ("finds answers in passages", "question-answering"),
    "Model": ("gives a state for each token of a text", "feature-extraction"),
}
# The hparams that a card shows. The network's sizes are not among them (a checkpoint may have
# overridden those), nor paths and task definitions, which are the user's own business.
_HPARAMS = """
    task_names electra_objective electric_objective mask_prob masking gen_weight
    disc_weight uniform_generator two_tower_generator untied_generator
    untied_generator_embeddings embedding_sharing train_generator
    generator_hidden_size generator_layers temperature max_seq_length segmentation
    train_batch_size num_train_steps num_train_epochs phases optimizer learning_rate
    num_warmup_steps warmup_proportion layerwise_lr_decay weight_decay_rate adam_beta_1
    adam_beta_2 adam_epsilon precision seed
""".split()


def model_card(source: Source, model: ConvertedNetwork) -> str:
    """Returns a model card in Markdown."""
    ending = next(e for e in _PURPOSES if model.model_class.endswith(e))
    # A modern discriminator is of a class that has other uses, too.
    is_detector = model.kind == "discriminator" and ending == "ForTokenClassification"
    purpose, task = _PURPOSES["ForPreTraining" if is_detector else ending]
    if ending == "ForSequenceClassification" and model.config["num_labels"] == 1:
        purpose = "gives a text, or a pair of texts, a score"
    family = model.model_class.removesuffix(ending).upper()
    text = "lower-cased" if source.casing.lower_case else "cased"
    accents = "without accents" if source.casing.removes_accents else "with accents"
    parts = [
        _front_matter(task, ["sentence-transformers"] if SENTENCE_MODULES in model.files else []),
        f"# {family} {model.kind}\n\nThis network {purpose}. It was exported with electra-tf2 "
        f"{__version__} for `{model.model_class}`. Text is {text}, {accents}.",
        *model.notes,
        "## Use",
        _usage(model.model_class),
        *_training(source),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(task: str | None, tags: Sequence[str]) -> str:
    lines = ["library_name: transformers", "tags:", "- electra", *(f"- {tag}" for tag in tags)]
    lines += [f"pipeline_tag: {task}"] if task else []
    return "\n".join(["---", *lines, "---"])


def _usage(model_class: str) -> str:
    call = 'outputs = model(**tokenizer("a text", truncation=True, return_tensors="pt"))'
    if model_class.endswith("ForMultipleChoice"):
        call = """choices = ["one choice", "another"]
tokens = tokenizer(["a context"] * 2, choices, padding=True, truncation=True, return_tensors="pt")
outputs = model(**{name: ids[None] for name, ids in tokens.items()})"""
    return f"""```python
from transformers import AutoTokenizer, {model_class}

tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")
model = {model_class}.from_pretrained("path/of/this/folder")
{call}
```"""


def _training(source: Source) -> list[str]:
    """The network's real sizes, hparams of the training, and its last metrics."""
    if source.pretrained.format != "electra_tf2":
        return ["## Training", "The weights were trained by another program."]
    stored = source.hparams()
    hparams = {name: stored[name] for name in _HPARAMS if stored.get(name) is not None}
    if "/" in str(hparams.get("phases", "")):  # they may name records
        del hparams["phases"]
    sections = {
        "Network": source.network.to_dict(),
        "Hyperparameters": hparams,
        "Last metrics": last_reports(source.pretrained.folder),
    }
    return [
        part
        for title, values in sections.items()
        if values
        for part in (f"## {title}", _json_block(values))
    ]


def _json_block(values: Mapping[str, Any]) -> str:
    return f"```json\n{files.json_bytes(values, indent=2).decode()}```"
