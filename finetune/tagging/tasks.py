"""Tasks that tag every word of a sentence: chunking, named entities, parts of speech."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.data_files import file_changed, outputs_by_eid
from finetune.definitions import SPLITS, TaggingDefinition
from finetune.tagging.conll import Sentence, TagFile, TagReader
from finetune.tagging.head import TaggingHead
from finetune.tagging.labels import (
    LabelSet,
    describe_tags,
    learned_tags,
    plausible_prefixes,
    tag_counts,
)
from finetune.tagging.layout import Columns, Layout, bare_tag
from finetune.tagging.metrics import SpanScorer, WordAccuracyScorer, predicted_tags, tagged_sentence
from finetune.tagging.notation import (
    BARE,
    MARKS,
    Notation,
    has_brackets,
    outside_tag,
    recognize_notation,
    without_brackets,
)
from finetune.tagging.spans import OUTSIDE, Span, official_spans, seqeval_spans
from finetune.tagging.words import TaggingExample, make_features, unsplit_text, word_ids
from finetune.task import FeatureSpec, Scorer, SoftTargets, Task, TaskHead, other_kind

# Sentences of each split that a debug run reads.
_DEBUG_SENTENCES = 100


class TaggingTask(Task):
    """A tagging task over the files train.txt, dev.txt and test.txt: a word and its tag per line.

    Without a dev.txt, test.txt is scored in its place: CoNLL-2000 has no other, and published
    figures are on it. Spans are learned in the scheme BIOES, whatever the files' (see `notation`);
    the labels have the letters of the files where these say as much. The labels are those of all
    splits, sorted, so that none is unknown later.

    Args:
        config, name, tokenizer: see `Task`.
        is_token_level: whether tags stand for themselves, and accuracy is reported (True), or mark
            spans, and their F1 is reported (False). None: the tags of the training split decide.

    Attributes:
        columns: the columns of the files.
        span_prefixes: the letters of BIOES that tags other than O may have in a task of spans.
        separate_ideographs: whether ideographs in a word stand alone, as in pre-training: the
            hparam, or what the model was trained with.
    """

    features_version = 2
    columns = Columns()
    sort_by_length = False  # the loss is a sum over words; sorted batches cost chunking .6 of F1
    span_prefixes = "BIES"

    def __init__(
        self, config: FinetuningConfig, name: str, tokenizer: Tokenizer, is_token_level: bool | None
    ):
        super().__init__(config, name, tokenizer)
        self.separate_ideographs: bool = config.separate_ideographs
        self._is_token_level = is_token_level
        self._labels: list[str] | None = None  # as they are learned
        self._notation = Notation()
        self._tag_forms: set[str] = set()  # of the files that the labels are read from
        # The letters that may mark spans; none where their notation is known.
        self._marks: Sequence[str] = () if is_token_level is not None else tuple(MARKS.values())
        self._reader = TagReader()
        self._scored_file: str | None = None

    @property
    def is_token_level(self) -> bool:
        """Whether tags stand for themselves (True) or mark spans (False)."""
        if self._is_token_level is None:
            self._infer_labels()
        assert self._is_token_level is not None
        return self._is_token_level

    @property
    def labels(self) -> list[str]:
        """The label of each id; read from the files unless a state was set."""
        return [self._written(label) for label in self._learned_labels]

    @property
    def outside(self) -> str | None:
        """The tag of words outside of spans, which a word that was cut off has; None without."""
        return None if self.is_token_level else self._notation.outside

    @property
    def _learned_labels(self) -> list[str]:
        if self._labels is None:
            self._infer_labels()
        assert self._labels is not None
        return self._labels

    @property
    def main_metric(self) -> str:
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
        """Reads a file's sentences; tags in "train" and "dev" only. The model must know them.

        Raises:
            UserError: the file can't be understood, or the model has no label for a tag; names the
                file and the line.
        """
        return self._read(path, with_tags=split == "train" or split in self.dev_splits)

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of a word's label, its mask (1.0), and its first piece's position."""
        return [
            FeatureSpec("labels", per_token=True),
            FeatureSpec("labels_mask", per_token=True, is_int_feature=False),
            FeatureSpec("labeled_positions", per_token=True),
        ]

    def featurize(
        self, examples: Sequence[TaggingExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields a row for each sentence, with as many of its words as fit whole.

        Segment ids are all 1, as in the official program. A sentence of which no word fits gives a
        row without words, so that it is scored; in training it is left out.

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
        ids = word_ids(
            self.tokenizer,
            chain.from_iterable(e.words for e in examples),
            separate_ideographs=self.separate_ideographs,
        )
        label_ids = LabelSet(self._learned_labels, self.is_token_level).ids(
            {tag for example in examples for tag in example.tags}
        )
        cut = []  # how many words of each sentence that doesn't fit
        for example in examples:
            row = make_features(example, ids, label_ids, self.tokenizer, room)
            if len(row["labels"]) < len(example.words):
                cut.append(len(example.words) - len(row["labels"]))
            if row["labels"] or not is_training:
                yield row
        if cut:
            words = sum(len(example.words) for example in examples)
            logging.warning(
                f"{self.name}: {sum(cut)} words of {len(cut)} sentences "
                f"({100 * sum(cut) / words:.1f} % of all words, "
                f"{100 * len(cut) / len(examples):.1f} % of all sentences) don't fit into "
                f"max_seq_length {self.config.max_seq_length} and are cut off."
            )

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        return TaggingHead(len(self.labels), encoder.hidden_size, dtype=dtype)

    def soft_targets(self) -> SoftTargets:
        """Returns each word's logits."""
        spec = FeatureSpec("logits", per_token=True, is_int_feature=False, size=len(self.labels))
        meaning = {"tags": self.labels, "tags mark spans": not self.is_token_level}
        return SoftTargets([spec], meaning, along="labels")

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer, which knows all tags of the split's sentences."""
        path = self.data_file(split)
        if path != self._scored_file:
            logging.info("%s: scoring %s.", self.name, path)
            self._scored_file = path
        gold = [example.tags for example in self._read(path, with_tags=True)]
        scorer = WordAccuracyScorer if self.is_token_level else SpanScorer
        return scorer(self._learned_labels, gold, functools.partial(file_changed, self, split))

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[TaggingExample],
    ) -> list[dict[str, Any]]:
        """Turns a model's outputs into records; arguments as `Task.prediction_records`.

        Returns:
            For each sentence its "id" and, one per word, "words", "tags" and "probabilities" (of
            these tags). A word that was cut off has the tag O in a task of spans and null
            otherwise; its probability is null. In a task of spans also "spans": objects of "start"
            (number of the first word), "end" (of the word after the last), "type" and "text" (see
            `join_words`).
        """
        by_eid = outputs_by_eid(self, split, outputs, examples)
        labels = self._learned_labels
        records = []
        for example in examples:
            result = by_eid[example.eid]
            if len(predicted_tags(result, labels)) > len(example.words):
                raise file_changed(self, split, f"sentence {example.eid + 1} is shorter")
            tagged = tagged_sentence(example.words, result, labels, self.is_token_level)
            if not self.is_token_level:
                tagged["tags"] = [self._written(tag) for tag in tagged["tags"]]
            records.append({"id": example.eid, **tagged})
        return records

    def warn_of_texts(self, examples: Sequence[TaggingExample]) -> None:
        """Warns of words that are texts, where the model knows single characters."""
        layout = self._reader.trained
        text = unsplit_text(chain.from_iterable(example.words for example in examples))
        if layout and layout.has_characters and text:
            logging.warning(
                f"{self.name}: {text[:30]!r} gets one tag as a whole, but the words of the "
                "training data are single characters. Give lists of characters, such as list(text)."
            )

    def feature_settings(self) -> dict[str, Any]:
        return {
            **super().feature_settings(),
            "columns": dataclasses.asdict(self.columns),
            "is_token_level": self.is_token_level,
            "span_prefixes": self.span_prefixes,
        }

    def feature_state(self) -> dict[str, Any]:
        """Returns the state that features depend on; see `Task.feature_state`.

        It is that of version 0.1.0 where a file gives the same features as there.
        """
        state = self.get_state()
        state["labels"] = [*map(self._in_form_of_files, state["labels"])]
        separated = state.pop("separate_ideographs")
        layout = state.pop("layout", {})
        if layout.get("per_line", "word") != "word":
            state["layout"] = {name: layout[name] for name in ("separator", "per_line")}
        if layout.get("added"):
            state["added"] = layout["added"]
        paths = {self.path(self.file_name(split)) for split in SPLITS}
        read_otherwise, has_ideographs = self._reader.differences(paths, self.columns)
        if read_otherwise:
            state["reading"] = 2
        if separated and has_ideographs:
            state["separate_ideographs"] = True
        return state

    def head_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the tags and what they mark, without how files and words are read."""
        reading = ("layout", "separate_ideographs")
        found = {name: value for name, value in state.items() if name not in reading}
        labels = found.get("labels")
        if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
            found["labels"] = [*map(bare_tag, labels)]  # older versions kept them as written
        return found

    def get_state(self) -> dict[str, Any]:
        """Returns the labels, what they stand for, and how words and files are read."""
        state = {
            "labels": self.labels,
            "is_token_level": self.is_token_level,
            "separate_ideographs": self.separate_ideographs,
        }
        if self._notation != Notation():
            state["notation"] = dataclasses.asdict(self._notation)
        layout = self._reader.trained
        if layout not in (None, Layout(self.columns.separator)):
            state["layout"] = dataclasses.asdict(layout)
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes the labels that a model was trained with, instead of those of the data.

        Raises:
            UserError: it was trained on another kind of task or of tags.
        """
        given, stored = state.get("is_token_level"), state.get("labels")
        labels: list[Any] = stored if isinstance(stored, list) else [None]
        if not isinstance(given, bool) or not all(isinstance(label, str) for label in labels):
            raise other_kind(self.name, "tagging", state)
        if self._is_token_level not in (None, given):
            kinds = {True: "token", False: "spans"}
            raise UserError(
                "The model was trained on tags of another kind.",
                where=f"task {self.name}",
                received=f"scheme {kinds[given]!r} with the model, "
                f"{kinds[self._is_token_level]!r} here",
                remedy="Define the task as it was in training, or train a new model.",
            )
        self._is_token_level = given
        try:
            self._notation = Notation(**state.get("notation", {}))
            self._reader.trained = Layout(**state["layout"]) if "layout" in state else None
        except (TypeError, ValueError):
            raise other_kind(self.name, "tagging", state) from None
        labels = [*map(bare_tag, labels)]  # as files have them now
        self._labels = [label if given else self._notation.learned(label) for label in labels]
        # Models of version 0.1.0 don't say: they have seen ideographs as letters of their words.
        self.separate_ideographs = state.get("separate_ideographs") is True

    def find_spans(self, tags: Sequence[str]) -> list[Span]:
        """Returns the spans that a file's tags mark, by the rule of the official program."""
        return official_spans(tags)

    def _test_is_dev(self) -> bool:
        dev, test = (self.path(self.file_name(split)) for split in ("dev", "test"))
        return not exists(dev) and exists(test)

    def _written(self, label: str) -> str:
        return label if self.is_token_level else self._notation.written(label)

    def _in_form_of_files(self, label: str) -> str:
        """A label as older versions had it, which left tags as decomposed as they were."""
        return unicodedata.normalize("NFD", label) if self._tag_forms == {"NFD"} else label

    def _read(self, path: str, with_tags: bool) -> list[TaggingExample]:
        sentences = self._read_file(path, with_tags).sentences
        if self.config.debug:
            sentences = sentences[:_DEBUG_SENTENCES]
        if not with_tags:
            return [TaggingExample(i, s.words, ()) for i, s in enumerate(sentences)]
        labels = LabelSet(self._learned_labels, self.is_token_level)
        learned = self._learned_tags(path, sentences)
        labels.check_known(sentences, learned, path)
        return [
            TaggingExample(i, sentence.words, tags)
            for i, (sentence, tags) in enumerate(zip(sentences, learned, strict=True))
        ]

    def _read_file(self, path: str, with_tags: bool) -> TagFile:
        """Reads a file; spans in brackets become tags of words, unless tags are not to be spans."""
        found = self._reader.read(path, self.columns, with_tags=with_tags)
        if with_tags and self._is_token_level is not True:
            if has_brackets(tag_counts(found.sentences)):
                self._reader.say_once(f"{path}: spans in brackets, (LOC* *), are read as B-LOC.")
                sentences = without_brackets(found.sentences, path)
                return dataclasses.replace(found, sentences=sentences)
        return found

    def _learned_tags(self, path: str, sentences: Sequence[Sentence]) -> list[tuple[str, ...]]:
        if self.is_token_level:
            return [sentence.tags for sentence in sentences]
        return learned_tags(sentences, path, self.find_spans, self.span_prefixes, self._notation)

    def _infer_labels(self) -> None:
        """Reads the labels, and whether and how they mark spans, from the files of all splits."""
        train = self.path(self.file_name("train"))
        found = self._read_file(train, with_tags=True)
        self._reader.trained = found.trained
        self._recognize_scheme(train, found.sentences)
        labels = [self._labels_of(train, found)]
        for split in ("dev", "test"):
            path = self.path(self.file_name(split))
            if split == "test" and not self._test_is_dev():
                labels += self._labels_of_test(path, found.num_columns, labels[0])
            elif exists(path):
                labels.append(self._labels_of(path, self._read_file(path, with_tags=True)))
        # In the order of older versions, whose models may be trained further.
        self._labels = sorted(
            set().union(*labels), key=lambda label: self._in_form_of_files(self._written(label))
        )
        if self.is_token_level and len(self._labels) == 1:
            raise UserError(
                "All words have the same tag, so there is nothing to learn.",
                where=f"{train}, line {found.sentences[0].lines[0]}",
                received=f"{self._labels[0]!r} in column {self.columns.tag} for each word, the "
                f"first of which is {found.sentences[0].words[0]!r}",
                remedy="Name the columns with word_column and tag_column in the hparam "
                f"tasks.{self.name}, counted from 0.",
            )
        new = [self._written(label) for label in self._labels if label not in labels[0]]
        if new:
            learned = "tags" if self.is_token_level else "tags that are learned (BIOES)"
            logging.warning(
                f"{self.name}: {len(new)} {learned} occur in the splits to predict but not in "
                f"training: {first_of(new, separator=', ')}."
            )

    def _labels_of(self, path: str, file: TagFile) -> set[str]:
        self._tag_forms |= file.tag_forms
        return set(chain.from_iterable(self._learned_tags(path, file.sentences)))

    def _labels_of_test(self, path: str, num_columns: int, known: set[str]) -> list[set[str]]:
        """Returns the labels of the test split if it has any, rather than one such as "_" for all.

        What else is wrong with the file matters only to whoever predicts it.
        """
        if not exists(path):
            return []
        try:
            if self._reader.read(path, self.columns, with_tags=False).num_columns != num_columns:
                logging.info("%s has no tags, so no labels to learn.", path)
                return []
            labels = self._labels_of(path, self._read_file(path, with_tags=True))
        except UserError as error:
            logging.warning("%s gives no labels to learn: %s", path, error)
            return []
        if self.is_token_level and len(labels) == 1 and not labels & known:
            logging.info("%s has only the tag %s, so no labels to learn.", path, *labels)
            return []
        return [labels]

    def _recognize_scheme(self, path: str, sentences: Sequence[Sentence]) -> None:
        """Recognizes how the tags of the training split mark spans, if they do; says so."""
        counts = tag_counts(sentences)
        if not self._notation.marks and OUTSIDE not in counts:
            outside = outside_tag(counts)
            self._notation = dataclasses.replace(self._notation, outside=outside)
        if not self._marks and self._is_token_level is not None:
            return
        is_open = self._is_token_level is None
        notation, prefixes = recognize_notation(counts, self._marks), self.span_prefixes
        if is_open:
            self._is_token_level = notation is None
            prefixes = plausible_prefixes(counts, prefixes, notation)
        self._notation = notation or Notation(self._marks[0])
        said = describe_tags(
            sentences, path, prefixes, None if self._is_token_level else self._notation
        )
        if is_open:
            say(f"{self.name}: the tags {said}.")


class Chunking(TaggingTask):
    """Text chunking (CoNLL-2000): finds noun phrases, verb phrases and the like."""

    def __init__(self, config: FinetuningConfig, tokenizer: Tokenizer):
        super().__init__(config, "chunk", tokenizer, is_token_level=False)


class CustomTagging(TaggingTask):
    """A tagging task without code: named entities, parts of speech, slots.

    Unlike the official rule, a tag of another type than the one before opens a span, so that files
    in IOB1, where B only separates spans of one type, are read correctly.

    Args:
        config, name, tokenizer: see `Task`.
        definition: its files, their columns, and the scheme of the tags.
    """

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: TaggingDefinition,
    ):
        scheme = definition.scheme
        super().__init__(config, name, tokenizer, None if scheme is None else scheme == "token")
        self.columns = Columns(definition.word_column, definition.tag_column, definition.separator)
        if scheme == "iob":
            self.span_prefixes = "BI"
        if scheme == BARE:
            self._notation = Notation(marks="")
        elif scheme not in (None, "token"):
            self._marks = (MARKS["bioes" if scheme == "iob" else scheme],)
        self._files = definition.files

    def file_name(self, split: str) -> str:
        """Returns the name of a split's file within the task's folder, or its whole path."""
        return self._files.get(split) or super().file_name(split)

    def find_spans(self, tags: Sequence[str]) -> list[Span]:
        """Returns the spans that a file's tags mark."""
        return seqeval_spans(tags)

    def _test_is_dev(self) -> bool:
        return "dev" not in self._files and super()._test_is_dev()
