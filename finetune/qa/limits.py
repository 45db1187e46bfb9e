"""What limits cost: answers that no prediction can reach, and questions that are cut.

`max_answer_length` is a limit of predictions, so that longer answers are learned in vain; an answer
that no window contains as a whole is even learned as "no answer". Of an answer that begins or ends
within a word piece, more is learned.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.qa.examples import QAExample
from finetune.qa.passages import SPECIAL_TOKENS, TokenizedQuestion


class LimitReport:
    """Counts what is lost to `max_query_length`, `max_answer_length`, windows and word pieces.

    Args:
        where: the task and the split, for messages.
        config: gives the limits.
    """

    def __init__(self, where: str, config: FinetuningConfig):
        self._where = where
        self._config = config
        self._num_answers = self._num_questions = self._cut_queries = self._cut_answers = 0
        self._inexact = self._overlong = 0
        self._word_limit = 0
        self._lengths: list[int] = []
        self._largest_stride: int | None = None

    def add(self, question: TokenizedQuestion, is_training: bool) -> None:
        """Counts a question and, in training, its answer."""
        self._num_questions += 1
        self._cut_queries += question.query_is_cut
        if not is_training or question.example.is_impossible:
            return
        first, last = question.answer_pieces
        length = last - first + 1
        self._num_answers += 1
        if question.exceeds_answer:
            overlong = question.overlong
            self._overlong += overlong
            self._inexact += not overlong
            self._word_limit = question.offsets.casing.max_word_characters
        if length > self._config.max_answer_length:
            self._lengths.append(length)
        if question.windows and not any(any(question.labels(w)) for w in question.windows):
            room = self._config.max_seq_length - len(question.query) - SPECIAL_TOKENS
            self._cut_answers += 1
            stride = room - length + 1
            largest = self._largest_stride
            self._largest_stride = stride if largest is None else min(stride, largest)

    def log(self) -> None:
        """Warns of what was counted."""
        config = self._config
        if self._cut_queries:
            logging.warning(
                f"{self._where}: {self._cut_queries} of {self._num_questions} questions are cut to "
                f"max_query_length = {config.max_query_length} tokens."
            )
        self._log_inexact()
        if self._lengths:
            logging.warning(
                f"{self._where}: {len(self._lengths)} of {self._num_answers} answers have more "
                f"than max_answer_length = {config.max_answer_length} tokens. They are learned, "
                f"but can't be predicted unless you raise it: the longest has {max(self._lengths)}."
            )
        if self._largest_stride is not None:
            remedy = "Raise max_seq_length."
            if self._largest_stride > 0:
                remedy = f"Lower doc_stride to {self._largest_stride}, or raise max_seq_length."
            logging.warning(
                f"{self._where}: {self._cut_answers} of {self._num_answers} answers are cut by the "
                f"windows of their passages (max_seq_length = {config.max_seq_length}, doc_stride "
                f"= {config.doc_stride}): their questions are learned as without an answer. "
                f"{remedy}"
            )

    def _log_inexact(self) -> None:
        """Warns of answers that no pieces spell."""
        if self._inexact:
            logging.warning(
                f"{self._where}: {self._inexact} of {self._num_answers} answers begin or end "
                "within a word piece, such as an unknown word: more than the answer is learned. A "
                "vocabulary of the language leaves fewer."
            )
        if self._overlong:
            logging.warning(
                f"{self._where}: {self._overlong} of {self._num_answers} answers begin or end "
                f"within a word of more than {self._word_limit} characters, which is unknown: all "
                "of it is learned. Pre-train with a higher --max-word-characters of "
                "build_vocabulary.py or build_pretraining_dataset.py, or put spaces between the "
                "words, there and here (docs/languages.md)."
            )


def long_gold(
    where: str, examples: Sequence[QAExample], tokenizer: Tokenizer, limit: int
) -> str | None:
    """Returns a warning if questions have only right answers that are too long to be predicted."""
    answered = [example for example in examples if example.gold]
    rows = tokenizer.encode_lines([text for example in answered for text in example.gold]).rows()
    shortest = [min(len(next(rows)) for _ in example.gold) for example in answered]
    too_long = [length for length in shortest if length > limit]
    if not too_long:
        return None
    return (
        f"Warning: {where}: {len(too_long)} of {len(answered)} questions can't be answered right: "
        f"all of their right answers have more than max_answer_length = {limit} tokens (the "
        f"longest of these needs {max(too_long)}). Raise it to let them be predicted."
    )
