"""Writing fine-tuned models for transformers: the encoder with a task's head.

What a task's head is follows from the state that training kept of it (tasks.json) and from its
variables, so that models of tasks written as classes are exported without their code.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, errors_named_in
from electra_tf2.export.huggingface import (
    ConvertedNetwork,
    ExportOptions,
    Tensors,
    bare_encoder,
    encoder_tensors,
    exported,
    open_to_export,
    write_models,
)
from electra_tf2.export.huggingface_card import SENTENCE_MODULES
from electra_tf2.formats.huggingface_config import architecture_for
from electra_tf2.formats.huggingface_names import MODERNBERT, Architecture
from electra_tf2.loading.source import Source
from finetune.classification.multilabel import DEFAULT_THRESHOLD
from finetune.classification.regression import trained_scaling
from finetune.classification.tasks import saved_labels
from finetune.tagging.notation import Notation
from finetune.tagging.spans import OUTSIDE, split_tag
from finetune.tagging.words import has_ideographs
from finetune.task import other_kind
from finetune.trial_folders import TASKS, stored_states, stored_tuned

_SCOPE = "task_specific"
_CLASSIFIER = {"classifier/kernel", "classifier/bias"}
# What the state of an embedding task has; its head has no variables.
_POOLING = "pooling"
_SPANS = {"start/kernel", "start/bias", "end/kernel", "end/bias"}
_TOKEN_TYPES = "embeddings.token_type_embeddings.weight"


class TrainedWith(NamedTuple):
    """The hparams of training that an export needs; see `configure_finetuning.py`."""

    head_dropout_prob: float = 0.1
    max_seq_length: int = 128
    tasks: dict[str, Any] = {}  # noqa: RUF012 # never changed


class TrainedTask(NamedTuple):
    """A task of a fine-tuned model.

    Attributes:
        name: the task's.
        head: its variables by their paths below the task's scope.
        state: what training kept of it, see `Task.get_state`.
        hparams: those of the training.
        path: of the file that holds the state.
        tuned: what was tuned for the model, see `Task.set_tuned`.
        source: the whole model.
        architecture: the family of transformers that it becomes one of.
    """

    name: str
    head: Mapping[str, np.ndarray]
    state: Mapping[str, Any]
    hparams: TrainedWith
    path: str
    tuned: Mapping[str, Any]
    source: Source
    architecture: Architecture

    @property
    def definition(self) -> Mapping[str, Any]:
        """Its entry in the hparam `tasks`; empty for a task by class."""
        return self.hparams.tasks.get(self.name, {})

    @property
    def output_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel [hidden, labels] and bias [labels] of a head that is one layer."""
        return self.head["classifier/kernel"], self.head["classifier/bias"]

    def encoder(self) -> Tensors:
        """Returns the tensors below the head."""
        return encoder_tensors(self.source, self.architecture)

    def model(self, purpose: str, tensors: Tensors, *notes: str, **config: Any) -> ConvertedNetwork:
        """Puts the task's model together, see `exported`."""
        network, architecture = self.source.network, self.architecture
        return exported(self.name, purpose, architecture, network, tensors, *notes, **config)


# Makes a model of a task; if transformers has none, says why instead.
Make = Callable[[TrainedTask], "ConvertedNetwork | str"]


def export_huggingface(source: str, output: str, options: ExportOptions) -> None:
    """Exports a fine-tuned model; one that was trained on several tasks as a folder for each.

    Args:
        source: a trial's folder.
        output: the folder to make.
        options: the architecture; `network` has no meaning here.

    Raises:
        UserError: the model can't be read, lacks parts of the encoder, or the output is not free.
    """
    if options.network is not None:
        raise UserError(
            "A fine-tuned model is one network.",
            where="--network",
            received=options.network,
            remedy="Leave the flag out, or export the model that it was fine-tuned from.",
        )
    opened = open_to_export(source, options)
    hparams = opened.trained_with(TrainedWith)
    path = posixpath.join(opened.pretrained.folder, TASKS)
    states = stored_states(opened.pretrained.folder)
    if not states:
        raise UserError(
            "The model was not fine-tuned by this program.",
            where=path,
            received="no such file, or nothing in it",
            remedy="Give the folder of a trial, …/finetuning_models/<tasks>_model_<trial>.",
        )
    _check_tasks(opened, states)
    _say_left_out(opened, states)
    tuned = stored_tuned(opened.pretrained.folder)
    model = opened, architecture_for(opened.network, options.architecture)
    tasks = [
        TrainedTask(task, _head(opened, task), state, hparams, path, tuned.get(task, {}), *model)
        for task, state in states.items()
    ]
    write_models(opened, [_task_model(task, options) for task in tasks], output)


def _check_tasks(source: Source, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses names that the weights don't have or that no folder can have."""
    wrong = [
        task
        for task, state in tasks.items()
        if not (_head(source, task) or _POOLING in state) or task in (".", "..") or "/" in task
    ]
    if wrong:
        raise UserError(
            "The model's weights have no heads of its tasks.",
            where=posixpath.join(source.pretrained.folder, TASKS),
            received=", ".join(map(repr, wrong)),
            remedy="Restore the file, or fine-tune again.",
        )


def _say_left_out(source: Source, tasks: Collection[str]) -> None:
    scopes = [name.split("/") for name in source.pretrained.arrays]
    heads = {parts[1] for parts in scopes if parts[0] == _SCOPE and len(parts) > 2}
    if others := sorted(heads - set(tasks)):
        path = posixpath.join(source.pretrained.folder, TASKS)
        say(f"Left out: the heads of {', '.join(others)}, of which {path} says nothing.")


def _head(source: Source, task: str) -> dict[str, np.ndarray]:
    prefix = f"{_SCOPE}/{task}/"
    arrays = source.pretrained.arrays
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _task_model(trained: TrainedTask, options: ExportOptions) -> ConvertedNetwork:
    result: ConvertedNetwork | str = "transformers' ModernBERT has a LayerNorm in its heads"
    if trained.architecture.model_type != MODERNBERT or not trained.head:
        result = _maker(trained)(trained)
    if isinstance(result, str):
        note = f"The encoder alone, without the head of {trained.name}: {result}."
        result = bare_encoder(trained.source, options, note)
    # More positions than training used are as pre-training, or chance, left them.
    positions = trained.source.network.max_position_embeddings
    longest = min(trained.hparams.max_seq_length, positions)
    cut = f"Texts are cut to {longest} tokens, as in its training."
    return result._replace(kind=trained.name, max_length=longest, notes=(*result.notes, cut))


def _maker(trained: TrainedTask) -> Make:
    """Returns what makes a model with a head of this kind."""
    kinds: tuple[tuple[set[str], set[str], Make], ...] = (
        (_CLASSIFIER, {"labels", "is_token_level"}, _tagger),
        (_CLASSIFIER, {"labels", "multilabel"}, _multilabel),
        (_CLASSIFIER, {"labels"}, _classifier),
        (_CLASSIFIER, {"min", "max"}, _regression),
        (_CLASSIFIER, {"choices"}, _multiple_choice),
        (_SPANS, set(), _question_answering),
        (set(), {_POOLING}, _embedding),
    )
    for variables, keys, make in kinds:
        if variables == set(trained.head) and keys <= set(trained.state):
            return make
    return _unlike


def _unlike(trained: TrainedTask) -> str:
    """A head with layers that transformers lacks, such as joint prediction's."""
    layers = sorted({name.partition("/")[0] for name in trained.head})
    return "transformers has no head with " + ", ".join(layers)


def _classifier(trained: TrainedTask) -> ConvertedNetwork | str:
    config = {"problem_type": "single_label_classification", **_trained_labels(trained)}
    return _single_output(trained, *trained.output_layer, config)


def _multilabel(trained: TrainedTask) -> ConvertedNetwork | str:
    config = {"problem_type": "multi_label_classification", **_trained_labels(trained)}
    given = trained.definition.get("threshold", DEFAULT_THRESHOLD)
    default = DEFAULT_THRESHOLD if isinstance(given, str) else given
    threshold = trained.tuned.get("threshold", default)
    note = f"A label counts as predicted from the probability {threshold:g} on."
    return _single_output(trained, *trained.output_layer, config, note)


def _regression(trained: TrainedTask) -> ConvertedNetwork | str:
    """The head learned scaled scores: its last layer undoes the scaling, if no sigmoid follows."""
    with errors_named_in(trained.path):
        scaling = trained_scaling(trained.name, trained.state, trained.hparams._asdict())
    kernel, bias = trained.output_layer
    if trained.state.get("loss") == "logistic":
        config = _score_config("multi_label_classification", "activation.Sigmoid")
        note = "Its score is the sigmoid of the logit" + (
            "." if scaling == (0.0, 1.0) else f", times {scaling.divisor:g}, plus {scaling.low:g}."
        )
        return _single_output(trained, kernel, bias, config, note)
    config = _score_config("regression", "linear.Identity")
    return _single_output(trained, kernel * scaling.divisor, scaling.restored(bias), config)


def _score_config(problem_type: str, activation: str) -> dict[str, Any]:
    """The configuration of a model of one score; `CrossEncoder` applies the activation to it."""
    return {
        "problem_type": problem_type,
        "sentence_transformers": {"activation_fn": f"torch.nn.modules.{activation}"},
        **_labels(["score"]),
    }


def _single_output(
    trained: TrainedTask,
    kernel: np.ndarray,
    bias: np.ndarray,
    config: Mapping[str, Any],
    *notes: str,
) -> ConvertedNetwork | str:
    if "sequence" not in trained.architecture.classes:
        return _has_tanh(trained)
    hidden, labels = kernel.shape
    if 2 * labels > hidden:
        return (
            f"transformers has a GELU layer before it, through which at most half of the hidden "
            f"size {hidden} passes, and there are {labels} labels"
        )
    tensors = trained.encoder() | _through_gelu(kernel, bias)
    dropout = _dropout(trained, trained.hparams.head_dropout_prob)
    if join := trained.definition.get("windows"):
        notes = (*notes, f"It was trained on windows of long texts, and their {join} counts.")
    if trained.definition.get("text_b"):
        notes = (*notes, "Give a row whose second text is empty as the first text alone.")
    return trained.model("sequence", tensors, *notes, **config, **dropout)


def _has_tanh(trained: TrainedTask) -> str:
    family = trained.architecture.model_type
    return f"between it and the states transformers' {family} has a tanh layer"


def _through_gelu(
    kernel: np.ndarray,
    bias: np.ndarray,
    first: str = "classifier.dense",
    last: str = "classifier.out_proj",
) -> dict[str, np.ndarray]:
    """One dense layer as dense, GELU, dense.

    transformers has a layer and an activation between the state of [CLS] and the logits; ours has
    not. Both signs of every logit z go through the activation, and the last layer takes their
    difference: gelu(z) - gelu(-z) = z (Phi(z) + Phi(-z)) = z, for GELU is z Phi(z) and the normal
    distribution is symmetric. The other units of the layer are 0, and so is their GELU.

    Args:
        kernel: [hidden, labels], with 2 x labels <= hidden.
        bias: [labels].
    """
    hidden, labels = kernel.shape
    dense = np.zeros((hidden, hidden), np.float32)
    dense_bias = np.zeros(hidden, np.float32)
    difference = np.zeros((labels, hidden), np.float32)
    for sign, start in ((1, 0), (-1, labels)):
        rows = slice(start, start + labels)
        dense[rows] = sign * kernel.T
        dense_bias[rows] = sign * bias
        difference[:, rows] = sign * np.eye(labels, dtype=np.float32)
    return {
        f"{first}.weight": dense,
        f"{first}.bias": dense_bias,
        f"{last}.weight": difference,
        f"{last}.bias": np.zeros(labels, np.float32),
    }


def _tagger(trained: TrainedTask) -> ConvertedNetwork:
    tensors = trained.encoder()
    # Taggers are trained on segment 1, as in the official program, and transformers gives a single
    # text segment 0: the two embeddings change places.
    name = trained.architecture.prefix + _TOKEN_TYPES
    segments = tensors[name]
    if len(segments) == 1:  # there is none of segment 1
        tensors[name] = np.zeros_like(segments)
    else:
        tensors[name] = segments[[1, 0, *range(2, len(segments))]]
    kernel, tensors["classifier.bias"] = trained.output_layer
    tensors["classifier.weight"] = kernel.T
    notes = [
        "A word's tag is that of its first token. Give words that show nothing, such as a "
        "zero-width space, as [UNK]: the tokenizer would leave them out. Words that don't fit as a "
        "whole are cut off here; there, their first pieces stay."
    ]
    if trained.state.get("separate_ideographs") is not True and any(
        map(has_ideographs, trained.source.vocabulary.tokens)
    ):
        notes.append(
            "It was trained on words in which ideographs do not stand alone, whereas the exported "
            "tokenizer separates them: tags of words with ideographs may differ from this "
            "program's."
        )
    labels = _trained_labels(trained)
    if trained.state["is_token_level"] is False:
        learned = [*labels["id2label"].values()]
        names = _iob2_names(learned, trained)
        if names != learned:
            notes.append(
                "Its tags are B- and I- before the type of a span, and O, which transformers' "
                "pipelines join to spans: last words count as I-, single ones as B-."
            )
        labels = _labels(names)
    return trained.model("tokens", tensors, *notes, **labels, **_dropout(trained, 0.0))


def _iob2_names(labels: Sequence[str], trained: TrainedTask) -> list[str]:
    """Returns IOB2 names, which pipelines join rightly: E-LOC and I-LOC are both I-LOC."""
    try:
        notation = Notation(**trained.state.get("notation", {}))
    except (TypeError, ValueError):
        with errors_named_in(trained.path):
            raise other_kind(trained.name, "tagging", trained.state) from None
    names = []
    for label in labels:
        mark, kind = split_tag(notation.learned(label))
        letter = {"B": "B", "S": "B", "I": "I", "E": "I"}.get(mark)
        other = OUTSIDE if label == notation.outside else label
        names.append(f"{letter}-{kind or trained.name}" if letter else other)
    return names


def _question_answering(trained: TrainedTask) -> ConvertedNetwork:
    head, tensors = trained.head, trained.encoder()
    layers = [head["start/kernel"], head["end/kernel"]]
    tensors["qa_outputs.weight"] = np.concatenate(layers, axis=1).T
    tensors["qa_outputs.bias"] = np.concatenate([head["start/bias"], head["end/bias"]])
    note = "Candidates are the tokens of the passage, and [CLS] for no answer; all have logits."
    return trained.model("answers", tensors, note)


def _multiple_choice(trained: TrainedTask) -> ConvertedNetwork | str:
    if "choices" not in trained.architecture.classes:
        return _has_tanh(trained)
    layers = ("sequence_summary.summary", "classifier")
    tensors = trained.encoder() | _through_gelu(*trained.output_layer, *layers)
    config = {
        "summary_type": "first",
        "summary_use_proj": True,
        "summary_activation": "gelu",
        "summary_first_dropout": trained.hparams.head_dropout_prob,
        "summary_last_dropout": 0.0,
    }
    note = "Give it the context as the first text of every pair, and question and choice as second."
    return trained.model("choices", tensors, note, **config)


def _embedding(trained: TrainedTask) -> ConvertedNetwork | str:
    """The encoder, with the files by which sentence-transformers takes the mean of its states."""
    source, architecture = trained.source, trained.architecture
    tensors = encoder_tensors(source, architecture, with_prefix=False)
    note = (
        'sentence-transformers opens this folder: `SentenceTransformer("path/of/this/folder")`. A '
        "text's vector is the mean of its tokens' states, [CLS] and [SEP] included."
    )
    modules = ("Transformer", ""), ("Pooling", "1_Pooling")
    files = {
        SENTENCE_MODULES: [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (name, path) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": source.network.hidden_size,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "sentence_bert_config.json": {
            "max_seq_length": trained.hparams.max_seq_length,
            "do_lower_case": False,  # the tokenizer does it
        },
        "config_sentence_transformers.json": {
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    return trained.model("encoder", tensors, note)._replace(files=files)


def _dropout(trained: TrainedTask, rate: float) -> dict[str, float]:
    """The rate in front of a head, by the name that a family has for it."""
    ending = "_prob" if trained.architecture.model_type == "albert" else ""
    return {f"classifier_dropout{ending}": rate}


def _trained_labels(trained: TrainedTask) -> dict[str, Any]:
    with errors_named_in(trained.path):
        names = saved_labels(trained.name, trained.state)
    outputs = len(trained.head["classifier/bias"])
    if len(set(names)) != outputs:
        raise UserError(
            "A task's labels are not those of its head.",
            where=f"{trained.path}, task {trained.name}",
            received=f"{len(set(names))} labels, a head with {outputs} outputs",
            remedy="Restore the file, or fine-tune again.",
        )
    return _labels(names)


def _labels(names: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(names),
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: names.index(name) for name in names},
    }
