"""Tasks that tag every word of a sentence: chunking, named entities, parts of speech."""

from __future__ import annotations

import dataclasses
import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import tensorflow as tf
from absl import logging

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.data_files import file_changed, outputs_by_eid
from finetune.tagging.conll import Columns, Sentence, first_line, read_sentences, word_ids
from finetune.tagging.head import TaggingHead
from finetune.tagging.metrics import AccuracyScorer, SpanScorer, predicted_tags, tagged_sentence
from finetune.tagging.spans import OUTSIDE, Span, bioes_tags, marks_spans, official_spans, split_tag
from finetune.task import FeatureSpec, Scorer, Task, TaskHead, other_kind

# Of the tags that a message is about, how many it names.
_NAMED = 10
# Sentences of each split that a debug run reads.
_DEBUG_SENTENCES = 100


@dataclasses.dataclass(frozen=True)
class TaggingExample:
    """A sentence.

    Attributes:
        eid: its number within its file, from 0.
        words: its words.
        tags: their tags as they are learned (spans in the scheme BIOES); empty where unknown.
    """

    eid: int
    words: tuple[str, ...]
    tags: tuple[str, ...]


class TaggingTask(Task):
    """A tagging task over the files train.txt, dev.txt and test.txt, a word and its tag a line.

    Where there is no dev.txt, test.txt is scored in its place (CoNLL-2000 has no other, and
    published figures are on it). Tags of spans may be in the scheme IOB2 or BIOES; they are learned
    in BIOES. The labels are those of all splits, sorted, so that none of them is unknown later.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        is_token_level: whether tags stand for themselves and accuracy is reported (True), or they
            mark spans, which F1 is reported of (False). None: the tags of the training split say
            which.
    """

    columns = Columns()
    sort_by_length = False  # the loss is a sum over words; sorted batches cost chunking .6 of F1
    span_prefixes = "BIES"
    """What tags other than O may begin with in the files of a task of spans."""

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer, is_token_level: bool | None):
        super().__init__(config, name, tokenizer)
        self._is_token_level = is_token_level
        self._labels: list[str] | None = None
        self._scored_file: str | None = None

    @property
    def is_token_level(self) -> bool:
        """Whether tags stand for themselves (True) or mark spans (False)."""
        if self._is_token_level is None:
            self._infer_labels()
        return self._is_token_level

    @property
    def labels(self) -> list[str]:
        """The label of each id; read from the files where no state was set."""
        if self._labels is None:
            self._infer_labels()
        return self._labels

    @property
    def label_mapping(self) -> dict[str, int]:
        """The id of each label."""
        return {label: i for i, label in enumerate(self.labels)}

    @property
    def main_metric(self) -> str:
        """The metric by which models are compared."""
        return "accuracy" if self.is_token_level else "f1"

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The test split, unless it is scored in place of a dev split."""
        return () if self._test_is_dev() else ("test",)

    def file_name(self, split: str) -> str:
        """Returns the name of a split's file within the task's folder."""
        return f"{split}.txt"

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file; of the test split's if there is no dev split."""
        if split == "dev" and self._test_is_dev():
            split = "test"
        return self.path(self.file_name(split))

    def read_examples(self, path: str, split: str) -> list[TaggingExample]:
        """Reads the sentences of a file.

        Args:
            path: the file.
            split: tags are read in "train" and "dev"; elsewhere their column may be absent.

        Raises:
            UserError: the file can't be understood, or the model knows none of the labels for a
                tag; names the file and the line.
        """
        return self._read(path, with_tags=split == "train" or split in self.dev_splits)

    def get_feature_specs(self) -> list[FeatureSpec]:
        """One value a word: its label, 1.0 for being a word, and where its first piece is."""
        return [
            FeatureSpec("labels", per_token=True),
            FeatureSpec("labels_mask", per_token=True, is_int_feature=False),
            FeatureSpec("labeled_positions", per_token=True),
        ]

    def featurize(
        self, examples: Sequence[TaggingExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields a row for each sentence: as many of its words as fit whole.

        Segment ids are all 1, as in the official program. A sentence of which no word fits gives a
        row without words, so that it is scored, but none in training.

        Raises:
            UserError: max_seq_length leaves no room for a word.
        """
        room = self.config.max_seq_length - 2  # [CLS] and [SEP]
        if room < 1:
            raise contradiction(
                "There is no room for a word between [CLS] and [SEP].",
                {"max_seq_length": self.config.max_seq_length},
                "Choose at least 3, better 128.",
            )
        ids = word_ids(self.tokenizer, chain.from_iterable(e.words for e in examples))
        mapping = self._id_of_each({tag for e in examples for tag in e.tags})
        vocabulary = self.tokenizer.vocabulary
        cut_words = cut_sentences = 0
        for example in examples:
            pieces = [ids[word] for word in example.words]
            ends = list(accumulate(map(len, pieces), initial=1))
            kept = bisect_right(ends, room + 1) - 1
            if kept < len(pieces):
                cut_words += len(pieces) - kept
                cut_sentences += 1
            if is_training and not kept:
                continue
            tokens = chain.from_iterable(pieces[:kept])
            input_ids = [vocabulary.cls_id, *tokens, vocabulary.sep_id]
            yield {
                "eid": example.eid,
                "input_ids": input_ids,
                "segment_ids": [1] * len(input_ids),
                "labels": [mapping[tag] for tag in example.tags[:kept]] or [0] * kept,
                "labels_mask": [1.0] * kept,
                "labeled_positions": ends[:kept],
            }
        if cut_words:
            logging.warning(
                "%s: %d words of %d sentences don't fit into max_seq_length %d and are cut off.",
                self.name,
                cut_words,
                cut_sentences,
                self.config.max_seq_length,
            )

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds the head."""
        return TaggingHead(len(self.labels), encoder.hidden_size, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer, which knows the whole sentences of the split."""
        path = self.data_file(split)
        if path != self._scored_file:
            logging.info("%s: scores are on %s.", self.name, path)
            self._scored_file = path
        gold = [example.tags for example in self._read(path, with_tags=True)]
        scorer = AccuracyScorer if self.is_token_level else SpanScorer
        return scorer(self.labels, gold, functools.partial(file_changed, self, split))

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[TaggingExample],
    ) -> list[dict[str, Any]]:
        """Turns a model's outputs into records.

        Args:
            split: where the examples are from.
            outputs: one mapping per sentence, in any order.
            examples: the sentences.

        Returns:
            For each sentence "id", "words", "tags" and "probabilities" (of these tags), one a word.
            A word that was cut off has the tag O in a task of spans and null otherwise; its
            probability is null. In a task of spans also "spans": objects of "start" (number of the
            first word), "end" (of the word after the last), "type" and "text".
        """
        by_eid = outputs_by_eid(self, split, outputs, examples)
        records = []
        for example in examples:
            result = by_eid[example.eid]
            if len(predicted_tags(result, self.labels)) > len(example.words):
                raise file_changed(self, split, f"sentence {example.eid + 1} is shorter")
            tagged = tagged_sentence(example.words, result, self.labels, self.is_token_level)
            records.append({"id": example.eid, **tagged})
        return records

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on; see `Task.feature_settings`."""
        return {
            **super().feature_settings(),
            "columns": dataclasses.asdict(self.columns),
            "is_token_level": self.is_token_level,
            "span_prefixes": self.span_prefixes,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns the labels, and whether they stand for themselves."""
        return {"labels": list(self.labels), "is_token_level": self.is_token_level}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes the labels that a model was trained with, in place of the data's.

        Raises:
            UserError: it was trained on another kind of task or of tags.
        """
        given, labels = state.get("is_token_level"), state.get("labels")
        if not isinstance(given, bool) or not isinstance(labels, list):
            raise other_kind(self.name, "tagging", state)
        if self._is_token_level not in (None, given):
            kinds = {True: "token", False: "spans"}
            raise UserError(
                "The model was trained on tags of another kind.",
                where=f"task {self.name}",
                received=f"scheme {kinds[given]!r} with the model, "
                f"{kinds[self._is_token_level]!r} here",
                remedy="Describe the task as it was in training, or train a model anew.",
            )
        self._is_token_level = given
        self._labels = list(labels)

    def find_spans(self, tags: Sequence[str]) -> list[Span]:
        """Returns the spans that a file's tags mark; by default by the official program's rule."""
        return official_spans(tags)

    def _test_is_dev(self) -> bool:
        dev, test = (self.path(self.file_name(split)) for split in ("dev", "test"))
        return not tf.io.gfile.exists(dev) and tf.io.gfile.exists(test)

    def _read(self, path: str, with_tags: bool) -> list[TaggingExample]:
        sentences = read_sentences(path, self.columns, with_tags=with_tags)
        if self.config.debug:
            sentences = sentences[:_DEBUG_SENTENCES]
        if not with_tags:
            return [TaggingExample(i, s.words, ()) for i, s in enumerate(sentences)]
        encoded = self._encode(path, sentences)
        self._check_labels(path, sentences, encoded)
        return [
            TaggingExample(i, sentence.words, tags)
            for i, (sentence, tags) in enumerate(zip(sentences, encoded, strict=True))
        ]

    def _encode(self, path: str, sentences: Sequence[Sentence]) -> list[tuple[str, ...]]:
        """Returns the tags as they are learned."""
        if self.is_token_level:
            return [sentence.tags for sentence in sentences]
        wrong = {
            tag
            for tag in set(chain.from_iterable(s.tags for s in sentences))
            if not marks_spans(tag, self.span_prefixes)
        }
        if wrong:
            line, tag = first_line(sentences, [s.tags for s in sentences], wrong)
            begins = ", ".join(f"{prefix}-" for prefix in self.span_prefixes)
            raise UserError(
                "A tag does not mark a span.",
                where=f"{path}, line {line}",
                received=repr(tag),
                remedy=f"Tags of spans are O or begin with one of {begins}. Where tags stand for "
                "themselves, describe the task with the scheme token.",
            )
        return [tuple(bioes_tags(self.find_spans(s.tags), len(s.tags))) for s in sentences]

    def _check_labels(
        self, path: str, sentences: Sequence[Sentence], encoded: Sequence[Sequence[str]]
    ) -> None:
        """Refuses tags that no label is near to; only possible where labels came with a model."""
        unknown = set(chain.from_iterable(encoded)) - set(self.labels)
        known = set(self._by_type()) | (set() if self.is_token_level else {OUTSIDE})
        unknown = {tag for tag in unknown if self._type(tag) not in known}
        if not unknown:
            return
        line, tag = first_line(sentences, encoded, unknown)
        raise UserError(
            "A tag is none of the labels that the model was trained with.",
            where=f"{path}, line {line}",
            received=repr(self._type(tag)) + (f" (of {len(unknown)} such)" * (len(unknown) > 1)),
            remedy=nearest_name_hint(self._type(tag), sorted(known))
            + " Mend the tag, or train a model that knows it.",
        )

    def _type(self, tag: str) -> str:
        """Returns what a label says beside the place of its word in a span."""
        return tag if self.is_token_level or tag == OUTSIDE else split_tag(tag)[1]

    def _by_type(self) -> dict[str, int]:
        """Returns the id of some label of each type."""
        return {self._type(label): i for i, label in reversed([*enumerate(self.labels)])}

    def _id_of_each(self, tags: set[str]) -> dict[str, int]:
        """Returns the id to learn for each tag.

        Data scored with a trained model may have a type of span in places where the training data
        did not, such as alone. Its loss is then of another label of the type. The scorer compares
        tags, not ids, so that its metrics are exact.
        """
        mapping, by_type = self.label_mapping, self._by_type()
        return {tag: mapping.get(tag, by_type.get(self._type(tag), 0)) for tag in tags}

    def _infer_labels(self) -> None:
        """Reads the labels of all splits."""
        splits = {}
        num_columns = None
        for split in ("train", "dev", "test"):
            path = self.path(self.file_name(split))
            if split == "train" or tf.io.gfile.exists(path):
                if split == "test" and not self._test_is_dev():
                    bare = read_sentences(path, self.columns, with_tags=False)
                    if bare[0].num_columns != num_columns:
                        logging.info("%s: without tags, so without labels to learn.", path)
                        continue
                splits[path] = read_sentences(path, self.columns, with_tags=True)
                num_columns = num_columns or splits[path][0].num_columns
        if self._is_token_level is None:
            self._infer_level(splits[self.path(self.file_name("train"))])
        labels = [
            set(chain.from_iterable(self._encode(path, sentences)))
            for path, sentences in splits.items()
        ]
        new = sorted(set().union(*labels) - labels[0])
        if new:
            logging.warning(
                "%s: %d tags occur in the splits to predict but not in training: %s%s.",
                self.name,
                len(new),
                ", ".join(new[:_NAMED]),
                ", ..." * (len(new) > _NAMED),
            )
        self._labels = sorted(set().union(*labels))

    def _infer_level(self, sentences: Sequence[Sentence]) -> None:
        """Tags stand for themselves where one of the training split can't mark a span."""
        tags = sorted(set(chain.from_iterable(sentence.tags for sentence in sentences)))
        other = [tag for tag in tags if not marks_spans(tag, self.span_prefixes)]
        self._is_token_level = bool(other)
        logging.info(
            "%s: the tags %s (%s%s): %s.",
            self.name,
            "stand for themselves" if other else "mark spans",
            ", ".join((other or tags)[:_NAMED]),
            ", ..." * (len(other or tags) > _NAMED),
            "accuracy is reported" if other else "F1 of spans is reported",
        )


# Text chunking (CoNLL-2000).


class Chunking(TaggingTask):
    """Finds noun phrases, verb phrases and the like."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "chunk", tokenizer, is_token_level=False)
