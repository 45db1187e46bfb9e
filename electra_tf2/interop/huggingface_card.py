"""README.md of an exported model: what it is, how to load it, how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from electra_tf2 import __version__
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.interop.training_facts import training_facts

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
