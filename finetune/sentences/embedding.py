"""Sentence embeddings: texts that belong together get vectors that point the same way.

Mean of the tokens' states (Sentence-BERT, arXiv:1908.10084), trained with the other texts of the
batch as negatives (multiple negatives ranking loss, arXiv:1705.00652, section 4.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import cell_text
from finetune.classification.regression import check_points, parse_score
from finetune.classification.table_tasks import TableTask
from finetune.classification.tables import TableRow
from finetune.classification.tasks import InputExample, SingleOutputTask
from finetune.definitions import Column, EmbeddingDefinition
from finetune.feature_tables import text_features
from finetune.sentences.retrieval import RetrievalScorer, SimilarityScorer, cosine
from finetune.task import (
    MORE_MASK,
    MORE_STATES,
    MORE_TEXTS,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Seed,
    TaskHead,
    Tensors,
    other_kind,
)

SCALE = 20.0
"""What cosines are multiplied by before the softmax, as in sentence-transformers."""

# The anchor, the positive and the negative.
_TEXTS = 3
_NO_SECOND = np.zeros(0, np.int32)


class EmbeddingHead(TaskHead):
    """Mean of the tokens' states; it has no variables.

    The loss is the cross-entropy of an anchor's own positive among the positives and negatives of
    the global batch, by their cosines with the anchor times a scale. Texts that are no negatives
    are left out: copies of the anchor or its positive, and positives of the same anchor.

    Args:
        scale: what the cosines are multiplied by.
    """

    def __init__(self, scale: float = SCALE, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape=None):
        self.built = True

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Embeds texts; see `TaskHead.call`. Losses are 0 but in training.

        The features are `MORE_STATES` and `MORE_MASK`, where there are positives; `texts` (int32
        [batch, 3]), numbers that tell different texts apart; and `targets` (float32 [batch]). The
        outputs are embeddings (float32 [batch, texts, hidden_size]), texts and targets.
        """
        embeddings = mean_state(states, features["input_mask"])[:, tf.newaxis]
        losses = tf.zeros(tf.shape(states)[:1])
        if MORE_STATES in features:
            more = mean_state(features[MORE_STATES], features[MORE_MASK])
            embeddings = tf.concat([embeddings, more], axis=1)
            if training:
                losses = self._contrast(embeddings, features)
        outputs = {name: features[name] for name in ("texts", "targets")}
        return HeadOutput(losses, {"embeddings": embeddings, **outputs})

    def _contrast(self, embeddings: tf.Tensor, features: Tensors) -> tf.Tensor:
        directions = tf.math.l2_normalize(embeddings, axis=-1)
        anchors, candidates = directions[:, 0], directions[:, 1:]
        texts = features["texts"][:, : embeddings.shape[1]]
        # Rows of other tasks, and texts that an example lacks, have no tokens.
        there = features[MORE_MASK][:, :, 0]
        own = self.scale * tf.reduce_sum(anchors * candidates[:, 0], axis=-1)
        candidates, every, there = _of_all_replicas(candidates, texts, there)
        cosines = tf.einsum("ah,bch->abc", anchors, candidates)
        same = lambda i, numbers: texts[:, i, tf.newaxis, tf.newaxis] == numbers  # noqa: E731
        left_out = same(0, every[:, 1:]) | same(1, every[:, 1:]) | (there == 0)
        of_same_anchor = same(0, every[:, :1])
        is_positive = tf.range(tf.shape(candidates)[1]) == 0
        left_out |= of_same_anchor & is_positive
        logits = tf.where(left_out, candidates.dtype.min, self.scale * cosines)
        logits = tf.reshape(logits, [tf.shape(logits)[0], -1])
        return tf.reduce_logsumexp(tf.concat([own[:, tf.newaxis], logits], 1), axis=1) - own

    def official_names(self) -> dict[str, str]:
        return {}


def mean_state(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the tokens' states, [CLS] and [SEP] included, 0 where there is no token.

    Args:
        states: [..., length, hidden_size].
        mask: int32 [..., length].

    Returns:
        float32 [..., hidden_size].
    """
    weights = tf.cast(mask, tf.float32)
    # Not as an einsum, which TFLite lacks.
    total = tf.squeeze(tf.matmul(tf.expand_dims(weights, -2), tf.cast(states, tf.float32)), -2)
    return total / tf.maximum(tf.reduce_sum(weights, axis=-1, keepdims=True), 1.0)


def _of_all_replicas(*tensors: tf.Tensor) -> Sequence[tf.Tensor]:
    """Returns the rows of the global batch."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    return [context.all_gather(tensor, axis=0) for tensor in tensors]


class EmbeddingTask(SingleOutputTask):
    """A task that learns which texts belong together; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `InputExample`s: `text_a` is the
    anchor, `text_b` its positive, `negative` a text that is similar but does not belong to it.

    Attributes:
        scale: see `EmbeddingHead`.
        has_scores: whether the dev split's pairs have scores of similarity as labels. Without, its
            anchors look for their positives.
    """

    compares_examples = True
    sort_by_length = False  # a batch of texts of one length would be easier to tell apart
    scale: float = SCALE
    has_scores: bool = False

    def __init__(self, config: FinetuningConfig, name: str, tokenizer: Tokenizer):
        super().__init__(config, name, tokenizer)
        self.main_metric = "spearman" if self.has_scores else "mrr_at_10"
        if config.do_train and config.gradient_accumulation_steps > 1:
            raise contradiction(
                f"The texts of a micro-batch alone would be the negatives of the task {name!r}.",
                {"gradient_accumulation_steps": config.gradient_accumulation_steps},
                "Set it to 1; to save memory set recompute to true, or train_batch_size lower.",
            )

    def parse_label(self, text: str) -> float:
        """Returns the score; raises ValueError if it is not a number."""
        return parse_score(text)

    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns `targets`, the score."""
        return {"targets": float(example.label or 0.0)}

    def label_features(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `targets`, the scores scaled to 0..1 by the split's lowest and highest."""
        scores = [row["targets"] for row in super().label_features(examples, is_training)]
        low, width = min(scores), max(scores) - min(scores)
        yield from ({"targets": (score - low) / (width or 1.0)} for score in scores)

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the further texts, of all texts' numbers and of `targets`."""
        numbers = FeatureSpec("texts", size=_TEXTS)
        return [*MORE_TEXTS, numbers, FeatureSpec("targets", is_int_feature=False)]

    def featurize(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `[CLS] text [SEP]` for each text of an example; in training one has a positive.

        Args:
            is_training: whether every example must have a positive.

        Raises:
            UserError: `max_seq_length` leaves no room for text.
            ValueError: a positive is missing: an error of the task.
        """
        self.check_room()
        texts = [(e.text_a, e.text_b, e.negative) for e in examples]
        most = max(i for own in texts for i, text in enumerate(own, 1) if text is not None)
        ids = [
            self.tokenizer.encode_lines([own[i] or "" for own in texts]).rows() for i in range(most)
        ]
        numbers: dict[str, int] = {}
        labels = self.label_features(examples, is_training)
        for example, own, label, *rows in zip(examples, texts, labels, *ids, strict=True):
            if is_training and own[1] is None:
                raise ValueError(f"An example to train on has no positive. Received: {example}")
            known = [None if own[i] is None else (rows[i], _NO_SECOND) for i in range(most)]
            yield {
                "eid": example.eid,
                "texts": [
                    -1 if text is None else numbers.setdefault(text, len(numbers)) for text in own
                ],
                **label,
                **text_features(known, self.tokenizer, self.config.max_seq_length),
            }

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        return EmbeddingHead(self.scale, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer: of correlations with scores, or of the search for positives."""
        return SimilarityScorer() if self.has_scores else RetrievalScorer(self.scale)

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a text's "embedding", or the "score" of a pair, its cosine."""
        embeddings = np.asarray(output["embeddings"])
        if len(embeddings) == 1:
            return {"embedding": embeddings[0].tolist()}
        return {"score": cosine(embeddings[0], embeddings[1])}

    def get_state(self) -> dict[str, Any]:
        """Returns how a text's vector is made of its tokens' states."""
        return {"pooling": "mean"}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a model was trained on a task of this kind.

        Raises:
            UserError: it was not.
        """
        if state != self.get_state():
            raise other_kind(self.name, "embedding", state)


class TableEmbedding(TableTask, EmbeddingTask):
    """Sentence embeddings without code: the columns of a TSV, CSV or JSON file.

    Negatives are read from the training file alone, scores from the dev file alone; of a file to
    predict only the first texts are read. Arguments: see `TableTask`.
    """

    definition: EmbeddingDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: EmbeddingDefinition,
    ):
        self.has_scores, self.scale = definition.label is not None, definition.scale
        super().__init__(config, name, tokenizer, definition)

    def _columns(self, split: str) -> tuple[list[Column], list[Column]]:
        given = self.definition
        further = {
            "train": [given.text_b, given.negative],
            "dev": [given.text_b, given.label],
            "test": [given.text_b],
        }.get(split, [])
        return [given.text, *(column for column in further if column is not None)], []

    def _read(self, path: str, split: str) -> list[TableRow]:
        rows, label = super()._read(path, split), self.definition.label
        if split == "dev" and label is not None:
            check_points(path, {row.line: row.cells.get(label) for row in rows})
        return rows

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        given = self.definition
        if split == "train":
            negative = None if given.negative is None else cell_text(row.cells[given.negative])
            fields = {"negative": negative}
        else:
            has_score = given.label is not None
            fields = {"label": self.parse_label(self._label_text(row)) if has_score else None}
        for key, column in given.columns_of_texts().items():
            if column is None or column not in row.cells:
                continue
            if not cell_text(row.cells[column]).strip():
                raise ValueError(f"{key} (the column {column!r}) is empty")
        return fields
