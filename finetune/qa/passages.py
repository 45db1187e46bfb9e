"""Tokenization of passages and questions, and the windows that passages are cut into."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import Casing, is_ideograph, normalize
from electra_tf2.text.offsets import tokenize_with_offsets
from electra_tf2.text.tokenizer import Tokenizer
from finetune.qa.annotations import Passage
from finetune.qa.examples import QAExample
from finetune.windows import Window, cut_windows

SPECIAL_TOKENS = 3
"""Those of a row: [CLS] question [SEP] passage [SEP]."""
# Questions tokenized at once: enough to hide the cost of a call, few enough for the memory.
_BLOCK = 2048

WINDOWS_PER_EXAMPLE = 1000
"""The number of a row is this times the number of its question, plus that of its window."""
_MAX_EID = np.iinfo(np.int32).max


class PieceOffsets:
    """The characters that the pieces of words come from.

    Attributes:
        casing: that of the tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.casing = tokenizer.casing
        # Finding them takes long, and questions about a passage follow each other.
        self.of = functools.lru_cache(maxsize=4096)(self._of)

    def _of(self, word: str) -> list[tuple[int, int]]:
        """Returns start and end of each piece, with the marks that normalization takes from it."""
        pieces = tokenize_with_offsets(word, self._tokenizer)
        return [(p.start, _past_marks(word, p.end, self._tokenizer.casing)) for p in pieces]


def _past_marks(text: str, end: int, casing: Casing) -> int:
    """Returns where a part of a text ends that includes the marks that normalization removes."""
    if casing.removes_accents:
        while end < len(text) and unicodedata.category(text[end]) == "Mn":
            end += 1
    return end


@dataclasses.dataclass(frozen=True)
class TokenizedQuestion:
    """A question and its passage in word pieces.

    Attributes:
        example: the question.
        query: int32 [tokens], ids of the question, cut to max_query_length.
        passage: the passage and its words.
        pieces: int32 [pieces], ids of the passage.
        word_starts: int64 [words + 1], first piece of each word, then the number of pieces.
        answer: int32 [tokens], ids of the annotated answer; empty if there is none.
        windows: windows of the passage; none if it has no pieces.
        offsets: the characters of pieces.
        query_is_cut: whether the question had more than max_query_length tokens.
    """

    example: QAExample
    query: np.ndarray
    passage: Passage
    pieces: np.ndarray
    word_starts: np.ndarray
    answer: np.ndarray
    windows: list[Window]
    offsets: PieceOffsets
    query_is_cut: bool

    @property
    def offset(self) -> int:
        """Position of the passage in a row: after [CLS], the question and [SEP]."""
        return len(self.query) + 2

    def eid(self, window: int) -> int:
        """Returns the number of a window's row."""
        return WINDOWS_PER_EXAMPLE * self.example.eid + window

    @property
    def answer_pieces(self) -> tuple[int, int]:
        """The first and last piece of the annotated answer.

        They are the answer's own pieces if the words that it covers contain them: "1895" in the
        word "(1895-1943)". Where these stand in several places or in none, the answer's pieces are
        those of its characters. (Officially: the first of several places, or all of the words.)
        """
        return self._label[:2]

    @property
    def exceeds_answer(self) -> bool:
        """Whether the answer begins or ends within one of its pieces, such as an unknown word."""
        return self._label[2]

    @property
    def overlong(self) -> bool:
        """Whether the answer's words hold one that is too long to be split into pieces."""
        example, casing = self.example, self.offsets.casing
        text = " ".join(self.passage.words[example.first_word : example.last_word + 1])
        return max(map(len, normalize(text, casing)), default=0) > casing.max_word_characters

    @functools.cached_property
    def _label(self) -> tuple[int, int, bool]:
        """First and last piece, and whether they hold more than the answer."""
        example, size = self.example, len(self.answer)
        first = int(self.word_starts[example.first_word])
        last = int(self.word_starts[example.last_word + 1]) - 1
        starts = range(first, last - size + 2) if size else ()
        own = [s for s in starts if np.array_equal(self.pieces[s : s + size], self.answer)]
        if own and (example.span is None or (len(own) == 1 and self._occurs_once())):
            return own[0], own[0] + size - 1, False
        touched = self._touched(*example.span) if example.span else []
        if not touched:
            return first, last, True
        (first, start, _), (last, _, end) = touched[0], touched[-1]
        assert example.span is not None
        return first, last, start < example.span[0] or end > example.span[1]

    def _occurs_once(self) -> bool:
        """Whether the words plainly contain the answer once: offsets take longer to find."""
        example, answer = self.example, self.example.answer or ""
        text = " ".join(self.passage.words[example.first_word : example.last_word + 1])
        # Nowhere else can the same pieces have come from other characters.
        is_plain = text.isascii() or all(map(is_ideograph, answer))
        return is_plain and text.lower().count(answer.lower()) == 1

    def _touched(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """Returns the pieces at some of the passage's characters, and their first and last ones."""
        touched = []
        for word in range(self.example.first_word, self.example.last_word + 1):
            shift = self.passage.word_starts[word]
            places = self.offsets.of(self.passage.words[word])
            for piece, (left, right) in enumerate(places, int(self.word_starts[word])):
                if shift + left < end and shift + right > start:
                    touched.append((piece, shift + left, shift + right))
        return touched

    def labels(self, window: Window) -> tuple[int, int]:
        """Returns the positions of the answer's first and last token in the row of a window.

        They are 0, that of [CLS], if there is no answer or the window doesn't contain all of it.
        """
        if self.example.is_impossible:
            return 0, 0
        first, last = self.answer_pieces
        if last < first or first < window.start or last >= window.start + window.length:
            return 0, 0
        shift = self.offset - window.start
        return first + shift, last + shift

    def max_context(self) -> list[np.ndarray]:
        """Finds the window in which each piece has the most context.

        The context of a piece in a window is the number of pieces to its left or its right,
        whichever is smaller, plus a hundredth of the window's length. The first of equal windows
        counts.

        Returns:
            For each window bool [length]: whether it is the one with the most context for a piece.
        """
        best_score = np.full(len(self.pieces), -1.0)
        best_window = np.full(len(self.pieces), -1)
        for number, (start, length) in enumerate(self.windows):
            place = np.arange(length)
            score = np.minimum(place, length - 1 - place) + 0.01 * length
            better = np.flatnonzero(score > best_score[start : start + length])
            best_score[start + better] = score[better]
            best_window[start + better] = number
        return [
            best_window[start : start + length] == number
            for number, (start, length) in enumerate(self.windows)
        ]


def tokenize_questions(
    examples: Sequence[QAExample], tokenizer: Tokenizer, config: FinetuningConfig
) -> Iterator[TokenizedQuestion]:
    """Tokenizes questions and passages, and cuts the passages into windows.

    Args:
        examples: the questions; neighbours share the tokens of a common passage.
        tokenizer: text -> ids.
        config: gives `max_seq_length`, `max_query_length` and `doc_stride`.

    Yields:
        The tokenized questions, in order.

    Raises:
        UserError: a question leaves no room for its passage, or a passage has too many windows.
    """
    offsets = PieceOffsets(tokenizer)
    for start in range(0, len(examples), _BLOCK):
        block = examples[start : start + _BLOCK]
        yield from _tokenize_block(block, tokenizer, config, offsets)


def _tokenize_block(
    examples: Sequence[QAExample],
    tokenizer: Tokenizer,
    config: FinetuningConfig,
    offsets: PieceOffsets,
) -> Iterator[TokenizedQuestion]:
    texts = {text: i for i, text in enumerate(dict.fromkeys(e.passage for e in examples))}
    passages = [Passage(text) for text in texts]
    pieces = _word_pieces([passage.words for passage in passages], tokenizer)
    queries = tokenizer.encode_lines([example.question for example in examples]).rows()
    answers = tokenizer.encode_lines([example.answer or "" for example in examples]).rows()
    for example, query, answer in zip(examples, queries, answers, strict=True):
        number = texts[example.passage]
        ids, word_starts = pieces[number]
        num_tokens, query = len(query), query[: config.max_query_length]
        room = config.max_seq_length - len(query) - SPECIAL_TOKENS
        if room < 1:
            raise _no_room(example, len(query), config)
        windows = cut_windows(len(ids), room, config.doc_stride)
        last_eid = WINDOWS_PER_EXAMPLE * example.eid + len(windows)
        if len(windows) > WINDOWS_PER_EXAMPLE or last_eid > _MAX_EID:
            raise _too_many(example, len(windows), len(ids))
        yield TokenizedQuestion(
            example=example,
            query=query,
            passage=passages[number],
            pieces=ids,
            word_starts=word_starts,
            answer=answer,
            windows=windows,
            offsets=offsets,
            query_is_cut=len(query) < num_tokens,
        )


def _word_pieces(
    passages: Sequence[Sequence[str]], tokenizer: Tokenizer
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns `pieces` and `word_starts` of each passage; distinct words are tokenized once."""
    numbers = {word: i for i, word in enumerate(dict.fromkeys(w for p in passages for w in p))}
    values, splits = tokenizer.encode_lines(list(numbers))
    sizes = np.diff(splits)
    result = []
    for words in passages:
        chosen = np.fromiter((numbers[word] for word in words), np.int64, len(words))
        starts = np.zeros(len(words) + 1, np.int64)
        np.cumsum(sizes[chosen], out=starts[1:])
        shift = np.repeat(splits[chosen] - starts[:-1], sizes[chosen])
        result.append((values[shift + np.arange(starts[-1])], starts))
    return result


def _no_room(example: QAExample, query_length: int, config: FinetuningConfig) -> UserError:
    return UserError(
        "A question leaves no room for its passage.",
        where=f"question {example.id!r}",
        received=f"{query_length} tokens of the question and {SPECIAL_TOKENS} special tokens; "
        f"max_seq_length = {config.max_seq_length}, max_query_length = {config.max_query_length}",
        remedy="Raise max_seq_length, or lower max_query_length.",
    )


def _too_many(example: QAExample, num_windows: int, num_pieces: int) -> UserError:
    if num_windows <= WINDOWS_PER_EXAMPLE:
        return UserError(
            "A file has too many questions.",
            where=f"question {example.id!r}",
            received=f"question number {example.eid + 1}",
            remedy=f"Split the file: at most {_MAX_EID // WINDOWS_PER_EXAMPLE} questions per file.",
        )
    return UserError(
        f"A passage is cut into more than {WINDOWS_PER_EXAMPLE} windows.",
        where=f"the passage of question {example.id!r}",
        received=f"{num_windows} windows of a passage of {num_pieces} tokens",
        remedy="Split the passage, or raise doc_stride or max_seq_length.",
    )
