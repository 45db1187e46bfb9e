"""Base classes of question answering tasks."""

from __future__ import annotations

import abc
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.files import write_json
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.qa.decoding import best_text, probabilities
from finetune.qa.examples import MRQA, SQUAD, QAExample, QuestionFormat, read_questions
from finetune.qa.head import QAHead
from finetune.qa.metrics import SpanBasedQAScorer, WindowOutputs
from finetune.qa.passages import tokenize_questions
from finetune.qa.question_files import Paragraph, read_mrqa, read_squad
from finetune.task import FeatureSpec, Task

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


# The question answering tasks there are: SQuAD 2.0 and 1.1, and four of MRQA 2019.


class SQuAD(SQuADTask):
    """SQuAD 2.0 (Rajpurkar et al., 2018): half of the questions to score have no answer."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "squad", tokenizer, v2=True)


class SQuADv1(SQuADTask):
    """SQuAD 1.1 (Rajpurkar et al., 2016)."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "squadv1", tokenizer)


MRQA_TASKS = ("newsqa", "naturalqs", "triviaqa", "searchqa")


def mrqa_task(name: str, config: Any, tokenizer: Tokenizer) -> MRQATask:
    """Builds one of `MRQA_TASKS`; arguments as `MRQATask`."""
    return MRQATask(config, name, tokenizer)


# Question answering tasks that hparams describe, without code.
#
#     {"task_names": ["manuals"],
#      "tasks": {"manuals": {"kind": "qa", "unanswerable": true,
#                            "files": {"train": "questions.json", "dev": "held_out.json"}}}}
#
# Files have SQuAD's JSON format. A definition may have the keys
#
#     files: split ("train", "dev", "test") -> path in the task's folder; where one is missing,
#         `<split>.json`
#     unanswerable: whether questions may have no answer (default false). They are then told apart by
#         the field `is_impossible` in the training file, and scored as in SQuAD 2.0; else as in 1.1.


KEYS = ("files", "unanswerable")
SPLITS = ("train", "dev", "test")


class CustomQATask(SQuADTask):
    """A question answering task over files of SQuAD's format.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        files: split -> path in the task's folder; the others are `<split>.json`.
        unanswerable: whether questions may have no answer.
    """

    def __init__(
        self,
        config: Any,
        name: str,
        tokenizer: Tokenizer,
        *,
        files: Mapping[str, str] | None = None,
        unanswerable: bool = False,
    ):
        super().__init__(config, name, tokenizer, v2=unanswerable)
        self._files = dict(files or {})

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file."""
        return self.path(self._files.get(split, f"{split}.json"))


def make_question_answering(
    config: Any, name: str, tokenizer: Tokenizer, definition: Mapping[str, Any]
) -> CustomQATask:
    """Builds the task that a definition describes.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        definition: `config.tasks[name]` without its kind.

    Raises:
        UserError: a key is unknown, or a value is of the wrong type.
    """
    for key, value in definition.items():
        if key not in KEYS:
            raise _refusal(name, key, "is unknown", value, nearest_name_hint(key, KEYS))
    unanswerable = definition.get("unanswerable", False)
    if not isinstance(unanswerable, bool):
        raise _refusal(name, "unanswerable", "is neither true nor false", unanswerable)
    files = definition.get("files", {})
    if not isinstance(files, Mapping):
        remedy = 'Write for example {"train": "questions.json"}.'
        raise _refusal(name, "files", "is no object", files, remedy)
    for split, file in files.items():
        if split not in SPLITS:
            remedy = nearest_name_hint(str(split), SPLITS)
            raise _refusal(name, f"files.{split}", "is no split", file, remedy)
        if not isinstance(file, str) or not posixpath.basename(file):
            raise _refusal(name, f"files.{split}", "is no file name", file)
    return CustomQATask(config, name, tokenizer, files=files, unanswerable=unanswerable)


def _refusal(
    name: str, key: str, problem: str, received: Any, remedy: str | None = None
) -> UserError:
    return UserError(
        f"In the definition of the task {name!r}, {key!r} {problem}.",
        where=f"hparam tasks.{name}.{key}",
        received=repr(received),
        remedy=remedy,
    )
