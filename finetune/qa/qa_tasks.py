"""Base classes of question answering tasks."""

from __future__ import annotations

import abc
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.feature_spec import FeatureSpec
from finetune.json_files import write_json
from finetune.qa.decoding import best_text, probabilities
from finetune.qa.examples import MRQA, SQUAD, QAExample, QuestionFormat, read_questions
from finetune.qa.qa_head import QAHead
from finetune.qa.qa_metrics import SpanBasedQAScorer, WindowOutputs
from finetune.qa.question_files import Paragraph, read_mrqa, read_squad
from finetune.qa.windows import tokenize_questions
from finetune.task import Task

# Questions that the hparam debug reads.
_DEBUG_QUESTIONS = 100


class QATask(Task):
    """Finds the answer to a question in a passage.

    A long passage is cut into windows that overlap; each is a row of features.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name, which its folder of data has too.
        tokenizer: text -> ids.
        v2: whether questions may have no answer, as in SQuAD 2.0.

    Attributes:
        v2: as given.
        question_format: how the files write questions.
        main_metric: "f1". For SQuAD 2.0 this is the score at qa_na_threshold, what the predictions
            as they are given are worth; best_f1 takes its threshold from the answers it is scored
            on.
    """

    main_metric = "f1"
    question_format: QuestionFormat = SQUAD

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer, v2: bool = False):
        super().__init__(config, name, tokenizer)
        self.v2 = v2

    @abc.abstractmethod
    def read_paragraphs(self, path: str) -> Iterable[Paragraph]:
        """Reads the passages of a file with their questions."""

    def read_examples(self, path: str, split: str) -> list[QAExample]:
        """Reads the questions in a file; see `Task.read_examples`."""
        return read_questions(
            self.read_paragraphs(path),
            path,
            self.question_format,
            annotated=split == "train",
            scored=split in self.dev_splits,
            unanswerable=self.v2,
            limit=_DEBUG_QUESTIONS if self.config.debug else None,
        )

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the answer's first and last token and whether there is none."""
        return [
            FeatureSpec("start_positions"),
            FeatureSpec("end_positions"),
            FeatureSpec("is_impossible"),
        ]

    def featurize(
        self, examples: Sequence[QAExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields a row for each window; see `Task.featurize`."""
        vocabulary = self.tokenizer.vocabulary
        cls, sep = np.array([vocabulary.cls_id], np.int32), np.array([vocabulary.sep_id], np.int32)
        for question in tokenize_questions(examples, self.tokenizer, self.config):
            for number, window in enumerate(question.windows):
                passage = question.pieces[window.start : window.start + window.length]
                ids = np.concatenate([cls, question.query, sep, passage, sep])
                segments = np.ones(len(ids), np.int32)
                segments[: question.offset] = 0
                first, last = question.labels(window) if is_training else (0, 0)
                yield {
                    "eid": question.eid(number),
                    "input_ids": ids,
                    "segment_ids": segments,
                    "start_positions": first,
                    "end_positions": last,
                    "is_impossible": int(is_training and question.example.is_impossible),
                }

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on; see `Task.feature_settings`."""
        return {
            **super().feature_settings(),
            "max_query_length": self.config.max_query_length,
            "doc_stride": self.config.doc_stride,
            "v2": self.v2,
        }

    def make_head(self, encoder: TransformerConfig, dtype: str) -> QAHead:
        """Builds the head; see `Task.make_head`."""
        return QAHead(self.config, encoder, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> SpanBasedQAScorer:
        """Returns a fresh scorer for a split."""
        return SpanBasedQAScorer(self, split)

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[QAExample],
    ) -> list[dict[str, Any]]:
        """Returns the answers; see `Task.prediction_records`.

        Returns:
            For each question "id", "answer", with `v2` "null_odds" (the answer is "" where they are
            above qa_na_threshold), and "n_best", a list of the best texts with their "probability"
            (their shares among these).
        """
        windows = WindowOutputs(self, split)
        for results in outputs:
            windows.add(results)
        records = []
        for example, found in windows.decode(examples):
            shares = probabilities(found.answers)
            record: dict[str, Any] = {
                "id": example.id,
                "answer": (best_text(found.answers) if self.v2 else found.answers[0]).text,
            }
            if self.v2:
                record["null_odds"] = found.null_odds
                if found.null_odds > self.config.qa_na_threshold:
                    record["answer"] = ""
            record["n_best"] = [
                {"text": answer.text, "probability": share}
                for answer, share in zip(found.answers, shares, strict=True)
            ]
            records.append(record)
        return records

    def write_submission(
        self, split: str, records: Sequence[Mapping[str, Any]], folder: str
    ) -> list[str]:
        """Writes {question: answer} as JSON, "" where there is none, as SQuAD and MRQA take it.

        Returns:
            The file `<task>_predictions.json`, with the split in its name unless it is "test".
        """
        name = self.name if split == "test" else f"{self.name}_{split}"
        path = posixpath.join(folder, f"{name}_predictions.json")
        write_json(path, {record["id"]: record["answer"] for record in records})
        return [path]


class SQuADTask(QATask):
    """Question answering over SQuAD's JSON: `<split>.json`."""

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file."""
        return self.path(f"{split}.json")

    def read_paragraphs(self, path: str) -> Iterator[Paragraph]:
        """Reads the passages of a file with their questions."""
        return read_squad(path)


class MRQATask(QATask):
    """Question answering over MRQA's JSON lines: `<split>.jsonl` or `<split>.jsonl.gz`."""

    question_format = MRQA

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file: the gzipped one if only that is there."""
        path = self.path(f"{split}.jsonl")
        zipped = f"{path}.gz"
        return zipped if not tf.io.gfile.exists(path) and tf.io.gfile.exists(zipped) else path

    def read_paragraphs(self, path: str) -> Iterator[Paragraph]:
        """Reads the passages of a file with their questions."""
        return read_mrqa(path)
