"""A vocabulary that goes on where an old one ends: pieces for words that the old one cuts up.

The old pieces keep their ids. The new ones are learned by byte-pair merges as in
`vocabulary_training`, but of the old pieces in place of characters: each merge joins the two pieces
that stand beside each other most often, so a new piece always stands for several old ones.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Container, Iterable, Mapping, Sequence

from electra_tf2.errors import UserError
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary
from electra_tf2.text.vocabulary_training import (
    Alphabet,
    character_pieces,
    learn_pieces,
    parts_of_words,
)
from electra_tf2.text.wordpiece import CONTINUATION, MAX_WORD_CHARACTERS, split_word

# The trainer sees each old piece as one character, from here on: no white space, and room for more
# pieces than any vocabulary has.
_FIRST_SYMBOL = 0x20000


@dataclasses.dataclass(frozen=True)
class ExtendedVocabulary:
    """A vocabulary with new pieces behind the old ones.

    Attributes:
        vocabulary: the old pieces, then new single characters in the order of code points, then the
            longer new pieces in the order in which they were learned, the most useful first.
        new_characters: number of different characters that the old vocabulary lacked.
        unknown_before: share of the counted words that are [UNK] with the old vocabulary.
        unknown_after: share of them with the new one.
        pieces_before: pieces of a word with the old vocabulary, on average; [UNK] is one.
        pieces_after: pieces of a word with the new one.
    """

    vocabulary: Vocabulary
    new_characters: int
    unknown_before: float
    unknown_after: float
    pieces_before: float
    pieces_after: float


def extend_vocabulary(
    word_counts: Mapping[str, int],
    old: Vocabulary,
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    max_word_characters: int = MAX_WORD_CHARACTERS,
    show_progress: bool = False,
) -> ExtendedVocabulary:
    """Learns new pieces for a vocabulary; the same counts give the same ones, in every process.

    Pieces that no word of the text would be cut into, because a longer one takes their place, are
    left out.

    Args:
        word_counts: how often each normalized word of the new text occurs.
        old: the vocabulary that is extended.
        vocab_size: number of all pieces, the old ones included.
        min_frequency: characters and pairs that occur less often make no piece.
        limit_alphabet: characters that the old vocabulary lacks become pieces only if they are
            among this many most frequent ones of the text. None: among those that
            `train_vocabulary` would take.
        max_word_characters: longer words are left out, as they are unknown to the tokenizer.
        show_progress: whether to show bars on a terminal.

    Returns:
        A vocabulary of exactly `vocab_size` pieces that begins with the old one.

    Raises:
        UserError: the size is not larger than the old one's, or the text doesn't give that many
            pieces, or its new characters alone give more.
    """
    learner = _Learner(word_counts, old, limit_alphabet, max_word_characters)
    singles = learner.characters(vocab_size, min_frequency)
    check_room(len(old), vocab_size, len(singles))
    new = learner.learn(vocab_size, min_frequency, show_progress)
    if len(old) + len(new) < vocab_size:
        raise _too_few(learner, len(new), vocab_size, min_frequency)
    extended = Vocabulary((*old.tokens, *new))
    before, after = (_spell(learner.words, pieces) for pieces in (old.ids, extended.ids))
    return ExtendedVocabulary(
        vocabulary=extended,
        new_characters=len({piece.removeprefix(CONTINUATION) for piece in singles}),
        unknown_before=_share_unknown(word_counts, before),
        unknown_after=_share_unknown(word_counts, after),
        pieces_before=_pieces_of_a_word(word_counts, before),
        pieces_after=_pieces_of_a_word(word_counts, after),
    )


def check_room(old: int, vocab_size: int, singles: int = 0) -> None:
    """Refuses a size that leaves no room for new pieces beside the old ones and the characters.

    Args:
        old: pieces of the old vocabulary.
        vocab_size: pieces in all.
        singles: pieces for new characters.

    Raises:
        UserError: it is too small.
    """
    if vocab_size <= old:
        raise UserError(
            "The extended vocabulary has no room for new pieces.",
            where="--vocab-size",
            received=f"{vocab_size}; the old vocabulary has {old} pieces",
            remedy=f"Ask for the number of all pieces, old and new: {old + 1} or more.",
        )
    if vocab_size < old + singles:
        raise UserError(
            "The new characters alone are more pieces than the extended vocabulary has room for.",
            where="--vocab-size",
            received=f"{vocab_size}, with {old} old pieces and {singles} for characters",
            remedy=f"Ask for at least {old + singles} pieces, or keep the old alphabet with "
            "--limit-alphabet 1.",
        )


def _too_few(learner: _Learner, found: int, vocab_size: int, min_frequency: int) -> UserError:
    """The error for a text that gives too few pieces; what it advises was tried."""
    old_size = len(learner.old)
    # With fewer pieces the default alphabet may be smaller, and give fewer still.
    possible = old_size + found
    while (fewer := old_size + len(learner.learn(possible, min_frequency))) < possible:
        possible = fewer
    ways = [f"Ask for at most {possible} pieces"] if possible > old_size else []
    if min_frequency > 1 and old_size + len(learner.learn(vocab_size, 1)) == vocab_size:
        ways.append("use --min-frequency 1")
    ways.append("give more text")
    advice = ", or ".join(ways)
    return UserError(
        f"The text gives only {found} new pieces.",
        where="--vocab-size",
        received=f"{vocab_size}, with {old_size} old pieces",
        remedy=f"{advice[0].upper()}{advice[1:]}.",
    )


_Spelling = dict[str, list[str] | None]  # word -> its pieces; None: it is [UNK]


def _spell(words: Iterable[str], pieces: Container[str]) -> _Spelling:
    return {word: split_word(word, pieces, max_characters=len(word)) for word in words}


def _share_unknown(word_counts: Mapping[str, int], spelling: _Spelling) -> float:
    unknown = sum(n for word, n in word_counts.items() if spelling.get(word) is None)
    return unknown / max(1, sum(word_counts.values()))


def _pieces_of_a_word(word_counts: Mapping[str, int], spelling: _Spelling) -> float:
    pieces = sum(len(spelling.get(word) or [UNK]) * n for word, n in word_counts.items())
    return pieces / max(1, sum(word_counts.values()))


class _Learner:
    """Learns new pieces from a text's `words`; arguments as in `extend_vocabulary`."""

    def __init__(
        self,
        word_counts: Mapping[str, int],
        old: Vocabulary,
        limit_alphabet: int | None,
        max_word_characters: int,
    ):
        self.old = old
        self.words = {w: n for w, n in word_counts.items() if len(w) <= max_word_characters}
        self._alphabet = Alphabet(word_counts, max_word_characters)
        self._limit = limit_alphabet
        spelling = _spell(self.words, old.ids)
        self._unknown = {w: self.words[w] for w, pieces in spelling.items() if pieces is None}

    def characters(self, vocab_size: int, min_frequency: int) -> list[str]:
        """Returns the pieces of one character that the old vocabulary lacks."""
        chosen = self._alphabet.chosen(vocab_size, min_frequency, self._limit)
        chosen |= {piece.removeprefix(CONTINUATION) for piece in self.old.tokens}
        words = {word: n for word, n in self._unknown.items() if chosen.issuperset(word)}
        return [piece for piece in character_pieces(words) if piece not in self.old.ids]

    def learn(self, vocab_size: int, min_frequency: int, show_progress: bool = False) -> list[str]:
        """Returns the new pieces, at most as many as there is room for.

        More are learned than that, as long as there are any, until enough of them are of use, and
        of no harm to words that the old pieces spell.
        """
        singles = self.characters(vocab_size, min_frequency)
        wanted = count = max(0, vocab_size - len(self.old) - len(singles))
        known = {*self.old.tokens, *singles}
        spelled = _spell(self.words, known)
        symbols = _Symbols(spelled)
        words = symbols.words(self.words)
        reserved = [*SPECIAL_TOKENS, *character_pieces(words)]
        harmful: set[str] = set()
        while True:
            size = len(reserved) + count
            learned = learn_pieces(words, size, min_frequency, reserved, show_progress)
            new = dict.fromkeys(symbols.piece(token) for token in learned[len(reserved) :])
            new = [piece for piece in new if piece not in known and piece not in harmful]
            spelling = _spell(self.words, known.union(new))
            used = {piece for pieces in spelling.values() for piece in pieces or ()}
            useful = [piece for piece in new if piece in used]
            if found := _harmful(useful[:wanted], known, spelled):
                harmful |= found
                continue
            if len(useful) >= wanted or len(learned) < size:
                return [*singles, *useful[:wanted]]
            # As many more as the share of the useful ones lets expect.
            count = max(count + 1, math.ceil(count * wanted / max(1, len(useful))))


def _harmful(new: Sequence[str], known: set[str], before: _Spelling) -> set[str]:
    """Returns those of the new pieces after which a word's rest can't be spelled any more.

    With `ab ##cde` for "abcde", a new piece `abcd` makes it [UNK] where no piece begins "##e".
    """
    pieces = known.union(new)
    lost = [word for word, found in _spell(before, pieces).items() if not found and before[word]]
    return {_last_new(word, pieces, known) for word in lost}


def _last_new(word: str, pieces: Container[str], known: Container[str]) -> str:
    """Returns the last piece not known before that a word begins with, which can't be spelled."""
    last, start, end = "", 0, len(word)
    while end > start:
        piece = (CONTINUATION if start else "") + word[start:end]
        if piece in pieces:
            last = piece if piece not in known else last
            start, end = end, len(word)
        else:
            end -= 1
    return last


class _Symbols:
    """Writes words with one character for each old piece, and reads what was learned from them."""

    def __init__(self, spelling: _Spelling):
        self._spelled = {word: found for word, found in spelling.items() if found}
        pieces = sorted({piece for found in self._spelled.values() for piece in found})
        self._symbols = {piece: chr(_FIRST_SYMBOL + i) for i, piece in enumerate(pieces)}
        self._pieces = {symbol: piece for piece, symbol in self._symbols.items()}

    def words(self, counts: Mapping[str, int]) -> Mapping[str, int]:
        """Returns the counts of the words, by how they are written."""
        written: collections.Counter[str] = collections.Counter()
        for word, pieces in self._spelled.items():
            written["".join(map(self._symbols.__getitem__, pieces))] += counts[word]
        return parts_of_words(written)

    def piece(self, token: str) -> str:
        """Returns the piece that a learned token stands for."""
        first, *others = (self._pieces[symbol] for symbol in token.removeprefix(CONTINUATION))
        return first + "".join(piece.removeprefix(CONTINUATION) for piece in others)
