"""Question answering tasks: SQuAD 2.0 and 1.1, MRQA 2019, and tasks without code."""

from __future__ import annotations

import abc
import functools
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.console import say
from electra_tf2.files import exists, write_json
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.rows import make_row
from electra_tf2.text.tokenizer import Tokenizer
from finetune.definitions import QADefinition
from finetune.qa.decoding import ScoredAnswer, WindowOutputs, best_text, probabilities
from finetune.qa.examples import QAExample, read_questions
from finetune.qa.head import QAHead
from finetune.qa.limits import LimitReport
from finetune.qa.metrics import SpanBasedQAScorer
from finetune.qa.passages import WINDOWS_PER_EXAMPLE, tokenize_questions
from finetune.qa.question_files import MRQA, SQUAD, Paragraph, QuestionFormat, read_mrqa, read_squad
from finetune.task import FeatureSpec, SoftTargets, Task

# Questions of each split that a debug run reads.
_DEBUG_QUESTIONS = 100


class QATask(Task):
    """Finds the answer to a question in a passage.

    A long passage is cut into windows that overlap; each is a row of features.

    Args:
        config, name, tokenizer: see `Task`.
        v2: whether questions may have no answer, as in SQuAD 2.0.

    Attributes:
        v2: as given.
        question_format: how the files write questions.
        main_metric: "f1". For SQuAD 2.0 it is the score at qa_na_threshold, which is what the
            predictions are worth; best_f1 takes its threshold from the answers being scored.
    """

    main_metric = "f1"
    # 2: labels by characters; 3: of the first answer that is found; 4: places such as 1.0; 5: case
    # of Turkish and others
    features_version = 5
    question_format: QuestionFormat = SQUAD

    def __init__(self, config: FinetuningConfig, name: str, tokenizer: Tokenizer, v2: bool = False):
        super().__init__(config, name, tokenizer)
        self.v2 = v2
        self.say_once = functools.cache(say)  # scores are computed again and again

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
            official=self.config.qa_spans == "official",
            limit=_DEBUG_QUESTIONS if self.config.debug else None,
        )

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the answer's first and last token, and of "no answer"."""
        return [
            FeatureSpec("start_positions"),
            FeatureSpec("end_positions"),
            FeatureSpec("is_impossible"),
        ]

    def featurize(
        self, examples: Sequence[QAExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields a row for each window; see `Task.featurize`."""
        use = "training" if is_training else "scoring or predicting"
        report = LimitReport(f"{self.name}, {use}", self.config)
        for question in tokenize_questions(examples, self.tokenizer, self.config):
            report.add(question, is_training)
            for number, window in enumerate(question.windows):
                passage = question.pieces[window.start : window.start + window.length]
                row = make_row(question.query, self.tokenizer, second=passage)
                first, last = question.labels(window) if is_training else (0, 0)
                yield {
                    "eid": question.eid(number),
                    **row._asdict(),
                    "start_positions": first,
                    "end_positions": last,
                    "is_impossible": int(is_training and question.example.is_impossible),
                }
        report.log()

    def num_examples(self, eids: np.ndarray) -> int:
        """Returns the number of questions that some windows belong to; see `Task`."""
        return super().num_examples(eids // WINDOWS_PER_EXAMPLE)

    def feature_settings(self) -> dict[str, Any]:
        settings = {
            **super().feature_settings(),
            "max_query_length": self.config.max_query_length,
            "doc_stride": self.config.doc_stride,
            "v2": self.v2,
        }
        if self.config.qa_spans != "characters":  # the default is no part of older keys
            settings["qa_spans"] = self.config.qa_spans
        return settings

    def make_head(self, encoder: TransformerConfig, dtype: str) -> QAHead:
        return QAHead(self.config, encoder, dtype=dtype)

    def soft_targets(self) -> SoftTargets:
        """Returns the logits of start and end at each token, and those of "no answer"."""
        specs = [
            FeatureSpec(name, per_token=True, is_int_feature=False)
            for name in ("start_logits", "end_logits")
        ]
        names = ("joint_prediction", "answerable_classifier")
        meaning = {name: getattr(self.config, name) for name in names}
        if self.config.answerable_classifier:
            specs.append(FeatureSpec("answerable_logit", is_int_feature=False))
        return SoftTargets(specs, meaning, along="input_ids")

    def get_scorer(self, split: str = "dev") -> SpanBasedQAScorer:
        return SpanBasedQAScorer(self, split)

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[QAExample],
    ) -> list[dict[str, Any]]:
        """Returns the answers; see `Task.prediction_records`.

        Returns:
            For each question "id", "answer", with `v2` "null_odds" (above qa_na_threshold the
            answer is ""), and "n_best": the best texts with their "probability" among these. Where
            no text can be an answer, as in a passage without any, the answer is "" too.
        """
        windows = WindowOutputs(self, split)
        for results in outputs:
            windows.add(results)
        records = []
        unanswered = []
        for example, found in windows.decode(examples):
            if found.nothing_left:
                unanswered.append(example.id)
                found = found._replace(answers=[ScoredAnswer("", 0.0)])
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
        if unanswered:
            logging.warning(
                f"{self.name}, {split}: {len(unanswered)} of {len(examples)} questions get the "
                "answer '', as no part of their passages can be one, first the question "
                f"{unanswered[0]!r}."
            )
        return records

    def write_submission(
        self, split: str, records: Sequence[Mapping[str, Any]], folder: str
    ) -> list[str]:
        """Writes {question: answer} as JSON, as the servers of SQuAD and MRQA take it.

        The file is `<task>_predictions.json`, with the split in its name unless it is "test".

        Args:
            records: from `prediction_records`; the answer is "" where there is none.
            folder: where to write it; made if it is missing.
        """
        name = self.name if split == "test" else f"{self.name}_{split}"
        path = posixpath.join(folder, f"{name}_predictions.json")
        write_json(path, {record["id"]: record["answer"] for record in records})
        return [path]


class SQuADTask(QATask):
    """Question answering over SQuAD's JSON: `<split>.json`. Other forms: see `read_squad`."""

    def data_file(self, split: str) -> str:
        return self.path(f"{split}.json")

    def read_paragraphs(self, path: str) -> Iterator[Paragraph]:
        return read_squad(path)


class MRQATask(QATask):
    """Question answering over MRQA's JSON lines: `<split>.jsonl` or `<split>.jsonl.gz`."""

    question_format = MRQA

    def data_file(self, split: str) -> str:
        """Returns the path of a split's file: the gzipped one if only that exists."""
        path = self.path(f"{split}.jsonl")
        zipped = f"{path}.gz"
        return zipped if not exists(path) and exists(zipped) else path

    def read_paragraphs(self, path: str) -> Iterator[Paragraph]:
        return read_mrqa(path)


class SQuAD(SQuADTask):
    """SQuAD 2.0 (Rajpurkar et al., 2018): half of the questions that are scored have no answer."""

    def __init__(self, config: FinetuningConfig, tokenizer: Tokenizer):
        super().__init__(config, "squad", tokenizer, v2=True)


class SQuADv1(SQuADTask):
    """SQuAD 1.1 (Rajpurkar et al., 2016)."""

    def __init__(self, config: FinetuningConfig, tokenizer: Tokenizer):
        super().__init__(config, "squadv1", tokenizer)


MRQA_TASKS = ("newsqa", "naturalqs", "triviaqa", "searchqa")


class CustomQATask(SQuADTask):
    """A question answering task without code, over files of SQuAD's format.

    Args:
        config, name, tokenizer: see `Task`.
        definition: its files, and whether questions may have no answer.
    """

    def __init__(
        self, config: FinetuningConfig, name: str, tokenizer: Tokenizer, definition: QADefinition
    ):
        super().__init__(config, name, tokenizer, v2=definition.unanswerable)
        self._files = definition.files

    def data_file(self, split: str) -> str:
        return self.path(self._files.get(split, f"{split}.json"))
