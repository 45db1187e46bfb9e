"""SavedModels and TFLite files of fine-tuned models: labels, scores or tags come out.

Raw strings go in or token ids; of TFLite files token ids alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.export.saved_model import (
    IDS,
    TEXTS,
    Signature,
    Signatures,
    features_of,
    of_segments,
    on_features,
    save,
)
from electra_tf2.export.tflite import write_tflite
from electra_tf2.text.graph import Features, GraphTokenizer
from finetune.classification.labels import label_problem
from finetune.classification.multilabel import MultilabelTask
from finetune.classification.regression import RegressionTask
from finetune.classification.tasks import ClassificationTask, SingleOutputTask
from finetune.fine_tuned import FineTuned
from finetune.qa.tasks import QATask
from finetune.sentences.choice import ChoiceTask
from finetune.sentences.embedding import EmbeddingTask
from finetune.tagging.tasks import TaggingTask
from finetune.task import Task
from finetune.windows import windows_of

Outputs = dict[str, tf.Tensor]
Head = Callable[[Features], Mapping[str, tf.Tensor]]

# What Python's `str.split` splits at.
_SPACES = "".join(rf"\x{{{i:X}}}" for i in range(sys.maxunicode + 1) if chr(i).isspace())


class TaskSignatures(NamedTuple):
    """What a task adds to a SavedModel.

    Attributes:
        signatures: how it is called.
        labels: the names of its classes or tags; empty if it has none.
    """

    signatures: Signatures
    labels: list[str]


def export_saved_model(source: str, output: str) -> None:
    """Exports a fine-tuned model.

    Signatures, for each of its tasks (texts are string [batch]):

        classification: `<task>`(texts), `<task>_pairs`(texts, second_texts) and `<task>_ids`(
            input_ids, input_mask, segment_ids) -> label (string [batch]), label_id,
            probabilities [batch, classes]
        multilabel: the same -> labels (string [batch, most], "" at padding), predictions (0 or 1)
            and probabilities, both [batch, labels]
        regression: the same -> score [batch]
        embedding: `<task>`(texts) and `<task>_ids`(…) -> embeddings [batch, hidden_size]
        choice: `<task>`(contexts, choices), the choices string [batch, choices] with the question
            before each -> choice, its number [batch], and probabilities [batch, choices].
            `<task>_ids`(…) -> logits [batch]; a row for each choice, context first
        tagging: `<task>`(texts), words separated by white space -> words and tags (string
            [batch, words]), probabilities of the tags; "" and 0 at padding. `<task>_ids`(
            input_ids, input_mask, segment_ids; taggers are trained on segment 1) -> tags (string),
            tag_ids and probabilities [batch, length], of which a word's are those of its first
            token

    A task with windows has no signature for pairs, and its `<task>_ids` takes single windows.
    `serving_default` is the first task's. The assets hold the vocabulary, and `<task>_labels.txt`
    with the classes, labels or tags in the order of the model's outputs.

    Args:
        source: the folder of a fine-tuned model, see `FineTuned.from_pretrained`.
        output: the folder to make.

    Raises:
        UserError: the model can't be read, one of its tasks has no such form, or the folder can't
            be made.
    """
    model = FineTuned.from_pretrained(source)
    signatures, assets = task_signatures(model)
    vocabulary = model.source.tokenizer.vocabulary
    save(output, signatures, [model.network], vocabulary, next(iter(signatures)), assets)


def export_tflite(source: str, output: str, *, int8: bool = False) -> None:
    """Exports a fine-tuned model: `<task>.tflite` for each of its tasks.

    Inputs are `input_ids`, `input_mask` and `segment_ids`, int32 [batch, length], outputs those of
    the SavedModel's `<task>_ids` without texts. Beside them are vocab.txt, and `<task>_labels.txt`
    with the classes, labels or tags in the order of the outputs.

    Args:
        source, output: as of `export_saved_model`, whose errors it raises.
        int8: whether weights have 8 bits, see `write_tflite`.
    """
    model = FineTuned.from_pretrained(source)
    signatures, assets = task_signatures(model)
    vocabulary = model.source.vocabulary
    write_tflite(output, signatures, [model.network], vocabulary, int8=int8, assets=assets)


def task_signatures(model: FineTuned) -> tuple[Signatures, dict[str, str]]:
    """Returns the signatures of all of a model's tasks, and the texts of the files of labels.

    Raises:
        UserError: one of the tasks has no such form.
    """
    signatures: Signatures = {}
    assets = {}
    for task in model.tasks.values():
        exported = exporter_of(task)(model, task)
        _check_names(task, exported.signatures, signatures)
        signatures |= exported.signatures
        if exported.labels:
            assets[f"{task.name}_labels.txt"] = "".join(f"{x}\n" for x in exported.labels)
    return signatures, assets


def _check_names(task: Task, names: Iterable[str], taken: Iterable[str]) -> None:
    twice = [name for name in names if name in {*taken, "serving_default"}]
    if twice:
        raise UserError(
            "Two signatures of the SavedModel would have one name.",
            where=f"task {task.name}",
            received=", ".join(twice),
            remedy="Fine-tune with another name for one of the tasks (_pairs and _ids are added to "
            "names, and serving_default is the first task's).",
        )


def exporter_of(task: Task) -> Callable[[FineTuned, Any], TaskSignatures]:
    """Returns what makes the signatures of a task of this kind.

    Raises:
        UserError: tasks of its kind have no SavedModel.
    """
    for base, exporter in _EXPORTERS.items():
        if isinstance(task, base):
            return exporter
    kind = "question answering" if isinstance(task, QATask) else type(task).__name__
    raise UserError(
        "A task has neither a SavedModel that takes raw strings nor a TFLite file.",
        where=f"task {task.name}",
        received=kind,
        remedy="Use FineTuned.predict."
        + " (Long passages are read in windows, and answers are put together from all of them.)"
        * isinstance(task, QATask),
    )


def _head(model: FineTuned, task: Task) -> Head:
    """Returns what computes a task's outputs from features; labels that it asks for are zeros."""

    def run(features: Features) -> Mapping[str, tf.Tensor]:
        rows = tf.shape(features["input_ids"])[0]
        batch = {
            f"{task.name}/{s.name}": tf.zeros([rows, *s.shape], s.dtype)
            for s in task.get_feature_specs()
            if not s.several  # there are no further texts
        }
        batch |= {
            name if name in ("input_ids", "input_mask", "segment_ids") else f"{task.name}/{name}": v
            for name, v in features.items()
        }
        return model.network(batch, only=task.name)[task.name].outputs

    return run


def _names(task: Task, labels: Sequence[str]) -> tf.Tensor:
    """The names of labels, which a graph holds in UTF-8 and a file of the assets one a line."""
    for label in labels:
        if problem := label_problem(label):
            raise UserError(
                "A label can't be written to a file of labels.",
                where=f"task {task.name}",
                received=f"{label!r}: {problem}",
                remedy="Rename it in the data and fine-tune again, or export with --format "
                "huggingface.",
            )
    return tf.constant(labels)


def _single_output(
    model: FineTuned, task: SingleOutputTask, convert: Callable[[Mapping[str, tf.Tensor]], Outputs]
) -> Signatures:
    """The signatures of a task with one output a text or pair of texts."""
    tokenizer, head = GraphTokenizer(model.source.tokenizer), _head(model, task)
    length = model.config.max_seq_length

    def run(features: Features) -> Outputs:
        return convert(head(features))

    signatures = on_features(task.name, tokenizer, length, run)
    signatures = of_segments(signatures, model.source.network)
    if task.windows is None:
        return signatures
    sizes, output = task.window_sizes(), task.joined_output
    join = {"mean": tf.math.segment_mean, "max": tf.math.segment_max}[task.windows]

    def in_windows(texts: tf.Tensor) -> Outputs:
        windows, text_of = windows_of(tokenizer(texts), sizes)
        outputs = head(tokenizer.rows(windows, length))
        return convert({output: join(outputs[output], text_of)})

    ids = f"{task.name}_ids"
    return {task.name: Signature(in_windows, (TEXTS,)), ids: signatures[ids]}


def _classification(model: FineTuned, task: ClassificationTask) -> TaskSignatures:
    names = _names(task, task.label_list)

    def convert(outputs: Mapping[str, tf.Tensor]) -> Outputs:
        best = tf.argmax(outputs["logits"], axis=-1)
        probabilities = tf.nn.softmax(outputs["logits"])
        return {"label": tf.gather(names, best), "label_id": best, "probabilities": probabilities}

    return TaskSignatures(_single_output(model, task, convert), list(task.label_list))


def _multilabel(model: FineTuned, task: MultilabelTask) -> TaskSignatures:
    names = _names(task, task.label_list)
    threshold = tf.constant(task.threshold, tf.float32)

    def convert(outputs: Mapping[str, tf.Tensor]) -> Outputs:
        probabilities = tf.sigmoid(outputs["logits"])
        predicted = probabilities >= threshold
        every = tf.broadcast_to(names, tf.shape(probabilities))
        return {
            "labels": tf.ragged.boolean_mask(every, predicted).to_tensor(""),
            "predictions": tf.cast(predicted, tf.int32),
            "probabilities": probabilities,
        }

    return TaskSignatures(_single_output(model, task, convert), list(task.label_list))


def _regression(model: FineTuned, task: RegressionTask) -> TaskSignatures:
    scaling = task.scaling

    def convert(outputs: Mapping[str, tf.Tensor]) -> Outputs:
        return {"score": scaling.restored(outputs["predictions"])}

    return TaskSignatures(_single_output(model, task, convert), [])


def _embedding(model: FineTuned, task: EmbeddingTask) -> TaskSignatures:
    def convert(outputs: Mapping[str, tf.Tensor]) -> Outputs:
        return {"embeddings": outputs["embeddings"][:, 0]}

    signatures = _single_output(model, task, convert)
    signatures.pop(f"{task.name}_pairs", None)
    return TaskSignatures(signatures, [])


def _choice(model: FineTuned, task: ChoiceTask) -> TaskSignatures:
    tokenizer, network = GraphTokenizer(model.source.tokenizer), model.network
    length, place = model.config.max_seq_length, network.task_names.index(task.name)

    def score(*tensors: tf.Tensor) -> Outputs:
        return {
            "logits": network.heads[place].project(network.encoder(*tensors), False, None)[:, 0]
        }

    def choose(contexts: tf.Tensor, choices: tf.Tensor) -> Outputs:
        shape = tf.shape(choices)
        every = tf.repeat(contexts, shape[1])
        second = tokenizer(tf.reshape(choices, [-1]))
        rows = tokenizer.rows(tokenizer(every), length, second=second)
        logits = score(rows["input_ids"], rows["input_mask"], rows["segment_ids"])["logits"]
        logits = tf.reshape(logits, shape)
        return {"choice": tf.argmax(logits, -1), "probabilities": tf.nn.softmax(logits)}

    inputs = (
        tf.TensorSpec([None], tf.string, "contexts"),
        tf.TensorSpec([None, None], tf.string, "choices"),
    )
    ids = Signature(score, IDS)
    return TaskSignatures({task.name: Signature(choose, inputs), f"{task.name}_ids": ids}, [])


def tagging_signatures(model: FineTuned, task: TaggingTask) -> TaskSignatures:
    """Returns the signatures of a tagging task, see `export_saved_model`."""
    tokenizer = GraphTokenizer(model.source.tokenizer, separate_ideographs=task.separate_ideographs)
    head, names = _head(model, task), _names(task, task.labels)
    outside = task.outside or ""

    def tag(texts: tf.Tensor) -> Outputs:
        words = tf.strings.split(tf.strings.regex_replace(texts, f"[{_SPACES}]", " "))
        features = word_features(tokenizer, words, model.config.max_seq_length)
        outputs = head(features)
        kept = features["labels_mask"] > 0
        there = tf.ones_like(words, tf.int32).to_tensor() > 0
        tags = tf.where(kept, tf.gather(names, outputs["predictions"]), outside)
        probabilities = tf.reduce_max(tf.nn.softmax(outputs["logits"]), axis=-1)
        return {
            "words": words.to_tensor(),
            "tags": tf.where(there, tags, ""),
            "probabilities": tf.where(kept, probabilities, 0.0),
        }

    def tag_ids(*tensors: tf.Tensor) -> Outputs:
        features = features_of(*tensors)
        ids, mask = features["input_ids"], features["input_mask"]
        every = tf.zeros_like(ids) + tf.range(tf.shape(ids)[1])  # each token as if it began a word
        labels = {"labels": tf.zeros_like(ids), "labels_mask": tf.cast(mask, tf.float32)}
        outputs = head({**features, **labels, "labeled_positions": every})
        best = outputs["predictions"]
        probabilities = tf.reduce_max(tf.nn.softmax(outputs["logits"]), axis=-1)
        return {
            "tags": tf.where(mask > 0, tf.gather(names, best), ""),
            "tag_ids": best * mask,
            "probabilities": probabilities * tf.cast(mask, tf.float32),
        }

    signatures = {task.name: Signature(tag, (TEXTS,)), f"{task.name}_ids": Signature(tag_ids, IDS)}
    return TaskSignatures(signatures, list(task.labels))


def word_features(tokenizer: GraphTokenizer, words: tf.RaggedTensor, max_length: int) -> Features:
    """The features of a tagging task, as `TaggingTask.featurize` makes them.

    Args:
        tokenizer: cuts at ideographs as the task does.
        words: string [batch, words].
        max_length: longest row of tokens; words that don't fit whole are left out.

    Returns:
        `input_ids`, `input_mask`, `segment_ids` [batch, length], and `labels`, `labels_mask` and
        `labeled_positions` [batch, words].
    """
    ragged: Any = tf.RaggedTensor  # its stub lacks the constructors
    pieces = tokenizer(words.flat_values)
    missing = tf.cast(pieces.row_lengths() == 0, tf.int64)
    unknown = tf.fill([tf.reduce_sum(missing)], tokenizer.vocabulary.unk_id)
    pieces = tf.concat([pieces, ragged.from_row_lengths(unknown, missing)], axis=1)
    lengths = words.with_values(pieces.row_lengths()).to_tensor()
    ends = tf.cumsum(lengths, axis=1)
    there = tf.sequence_mask(words.row_lengths(), tf.shape(lengths)[1])
    kept = there & (ends <= max_length - 2)
    kept_words = ragged.from_tensor(kept, words.row_lengths())
    first = tf.ragged.boolean_mask(words.with_values(pieces), kept_words).merge_dims(-2, -1)
    features = tokenizer.rows(first, max_length)
    return {
        **features,
        "segment_ids": features["input_mask"],  # all 1, as in training
        "labels": tf.zeros_like(kept, tf.int32),
        "labels_mask": tf.cast(kept, tf.float32),
        "labeled_positions": tf.where(kept, tf.cast(1 + ends - lengths, tf.int32), 0),
    }


_EXPORTERS: dict[type[Task], Callable[[FineTuned, Any], TaskSignatures]] = {
    ClassificationTask: _classification,
    MultilabelTask: _multilabel,
    RegressionTask: _regression,
    EmbeddingTask: _embedding,
    ChoiceTask: _choice,
    TaggingTask: tagging_signatures,
}
