"""Text to a WordPiece vocabulary: counting words, and learning pieces from the counts.

The pieces are learned by Hugging Face `tokenizers` (byte-pair merges written as WordPiece). Left to
itself its result differs from process to process: it numbers the pieces of single characters in the
order of a randomly seeded hash table, and equally frequent pairs are merged in the order of these
numbers. Here the single characters are chosen and numbered beforehand, which leaves nothing to
chance.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED, Casing, FastNormalizer, split_at_punctuation
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary
from electra_tf2.text.wordpiece import CONTINUATION, MAX_WORD_CHARACTERS

# The default alphabet: as many characters as cover this share of the text, but at least an eighth
# of the vocabulary's pieces within these limits, and never more than fit.
COVERAGE = 0.9998
MOST_BY_SIZE = 1000
LEAST_BY_SIZE = 64
# Where less than this share of the text could be spelled, too few pieces were asked for.
LEAST_SPELLED = 0.9
# Share of the characters in words that can't be spelled, above which the program warns.
MANY_UNKNOWN = 0.01
_WORDS_OF_A_TEXT = 1000  # given to the trainer


class WordCounter:
    """Counts words as the tokenizer sees them."""

    def __init__(self, casing: Casing = UNCASED):
        self._normalizer = FastNormalizer(casing)
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, text: str) -> None:
        """Counts the words of a text of any length and number of lines."""
        self._counts.update(self._normalizer.words(text))

    def words(self) -> dict[str, int]:
        """Returns how often each word occurred, in the order of the words."""
        words: collections.Counter[str] = collections.Counter()
        for chunk, count in self._counts.items():
            for word in split_at_punctuation(chunk):
                words[word] += count
        return dict(sorted(words.items()))


def default_alphabet_limit(vocab_size: int) -> int:
    """Returns how many characters a vocabulary has at least: an eighth of it, 64 to 1000."""
    return min(MOST_BY_SIZE, max(LEAST_BY_SIZE, vocab_size // 8))


@dataclasses.dataclass(frozen=True)
class TrainedVocabulary:
    """A vocabulary learned from word counts.

    Attributes:
        vocabulary: the special tokens ([PAD] first), the alphabet in the order of code points, then
            the longer pieces in the order in which they were learned, the most useful first.
        alphabet_size: number of different characters it covers.
        unknown_words: how many of the counted words (every occurrence) it can't spell.
        unknown_characters: share of the counted characters (every occurrence) that lie in such
            words, 0 to 1.
        overlong_characters: share of them in words of more than `max_word_characters` characters.
        advice: what would make more of the words known, such as "--min-frequency 1"; "" where
            nothing would but shorter words or a higher limit.
    """

    vocabulary: Vocabulary
    alphabet_size: int
    unknown_words: int
    unknown_characters: float
    overlong_characters: float
    advice: str


def train_vocabulary(
    word_counts: Mapping[str, int],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    max_word_characters: int = MAX_WORD_CHARACTERS,
    show_progress: bool = False,
) -> TrainedVocabulary:
    """Learns a vocabulary; the same counts give the same one, in every process.

    Args:
        word_counts: how often each normalized word occurs (see `WordCounter.words`).
        vocab_size: number of pieces, special tokens included.
        min_frequency: characters and pairs that occur less often make no piece.
        limit_alphabet: at most this many characters, the most frequent ones; words with others are
            unknown. None: as many as cover 99.98 % of the text, at least
            `default_alphabet_limit(vocab_size)`, as far as they fit into the vocabulary.
        max_word_characters: longer words are left out, as they are unknown to the tokenizer.
        show_progress: whether to show bars on a terminal.

    Returns:
        A vocabulary of exactly `vocab_size` pieces.

    Raises:
        UserError: the text doesn't give that many pieces, or its characters alone give more.
    """
    alphabet = Alphabet(word_counts, max_word_characters)
    if not alphabet.words:
        raise _all_too_long(alphabet, max_word_characters)
    characters = alphabet.chosen(vocab_size, min_frequency, limit_alphabet)
    spelled = alphabet.spelled(characters)
    pieces = character_pieces(spelled)
    reserved = [*SPECIAL_TOKENS, *pieces]
    if len(reserved) > vocab_size:
        received = f"{len(characters)} characters in {len(pieces)} pieces (alone and with ##)"
        raise _too_many_characters(alphabet, received, len(reserved), vocab_size, min_frequency)
    tokens = learn_pieces(
        parts_of_words(spelled), vocab_size, min_frequency, reserved, show_progress
    )
    if len(tokens) < vocab_size:
        raise _too_few(alphabet, len(tokens), vocab_size, min_frequency, limit_alphabet)
    total = max(1, alphabet.total)
    unknown = total - sum(len(word) * count for word, count in spelled.items())
    return TrainedVocabulary(
        vocabulary=Vocabulary(tuple(tokens)),
        alphabet_size=len(characters),
        unknown_words=sum(word_counts.values()) - sum(spelled.values()),
        unknown_characters=unknown / total,
        overlong_characters=alphabet.overlong / total,
        advice=alphabet.advice(characters, vocab_size, min_frequency, limit_alphabet),
    )


def _too_many_characters(
    alphabet: Alphabet, received: str, needed: int, vocab_size: int, min_frequency: int
) -> UserError:
    """The error for a vocabulary that is too small for its `needed` reserved pieces."""
    fit = alphabet.fitting(vocab_size)
    is_usable = alphabet.share_spelled(alphabet.chosen(vocab_size, min_frequency, fit)) > 0.5
    fewer = f", or keep fewer characters with --limit-alphabet {fit}" if is_usable else ""
    return UserError(
        "The special tokens and the alphabet alone are more pieces than the vocabulary holds.",
        where="--vocab-size",
        received=f"{vocab_size}, with {received} and {len(SPECIAL_TOKENS)} special tokens",
        remedy=f"Ask for at least {needed} pieces{fewer}.",
    )


def _all_too_long(alphabet: Alphabet, limit: int) -> UserError:
    return UserError(
        f"Every word of the text is longer than {limit} characters, and so unknown.",
        where="the corpus",
        received=f"words of up to {alphabet.longest} characters",
        remedy=f"Learn from them with --max-word-characters {alphabet.longest} or more, or put "
        "spaces between what is to be a word (docs/languages.md).",
    )


def _too_few(
    alphabet: Alphabet, found: int, vocab_size: int, min_frequency: int, limit: int | None
) -> UserError:
    """The error for a text that gives too few pieces; what it advises was tried."""

    def learned(
        size: int,
        frequency: int = min_frequency,
        limit: int | None = limit,
        alphabet: Alphabet = alphabet,
    ) -> int:
        spelled = alphabet.spelled(alphabet.chosen(size, frequency, limit))
        reserved = [*SPECIAL_TOKENS, *character_pieces(spelled)]
        return len(
            learn_pieces(parts_of_words(spelled), size, frequency, reserved, show_progress=False)
        )

    # With fewer pieces the default alphabet may be smaller, and give fewer still.
    possible = found
    while (fewer := learned(possible)) < possible:
        possible = fewer
    ways = [f"Ask for at most {possible} pieces"] if possible > len(SPECIAL_TOKENS) else []
    if limit is not None and learned(vocab_size, min_frequency, None) == vocab_size:
        ways.append("leave --limit-alphabet out")
    if min_frequency > 1 and learned(vocab_size, 1) == vocab_size:
        ways.append("use --min-frequency 1")
    if alphabet.overlong and learned(vocab_size, alphabet=alphabet.of_all_words()) == vocab_size:
        ways.append(f"learn from long words too with --max-word-characters {alphabet.longest}")
    ways.append("give more text")
    return UserError(
        f"The text gives only {found} pieces.",
        where="--vocab-size",
        received=f"{vocab_size}, with {len(alphabet.words)} different words in the text",
        remedy=", or ".join(ways) + ".",
    )


class Alphabet:
    """The characters of a text, the most frequent first, and which of them a vocabulary has.

    Args:
        word_counts: how often each word occurs.
        max_word_characters: longer words are left out.

    Attributes:
        words: the counts of those words that are short enough to be spelled.
        total: number of characters in all words.
        overlong: number of those in words that are too long.
        longest: number of characters of the longest word.
    """

    def __init__(self, word_counts: Mapping[str, int], max_word_characters: int):
        self._all_words = word_counts
        self.words = {w: n for w, n in word_counts.items() if len(w) <= max_word_characters}
        self.longest = max(map(len, word_counts), default=0)
        self.total = sum(len(word) * count for word, count in word_counts.items())
        self._counts: collections.Counter[str] = collections.Counter()
        self._continuing: set[str] = set()
        for word, count in self.words.items():
            for char in word:
                self._counts[char] += count
            self._continuing.update(word[1:])
        self.overlong = self.total - self._counts.total()
        self._ranked = sorted(self._counts, key=lambda char: (-self._counts[char], char))

    def of_all_words(self) -> Alphabet:
        """Returns that of the text with its long words."""
        return Alphabet(self._all_words, self.longest)

    def chosen(self, vocab_size: int, min_frequency: int, limit: int | None) -> set[str]:
        """Returns the alphabet; arguments as in `train_vocabulary`."""
        default = max(default_alphabet_limit(vocab_size), self._covering())
        ranked = self._ranked[: default if limit is None else limit]
        characters = {char for char in ranked if self._counts[char] >= min_frequency}
        fit = characters.intersection(self._ranked[: self.fitting(vocab_size)])
        # Of a large alphabet, as of Chinese, the rare end may be left out.
        if limit is None and fit != characters and self.share_spelled(fit) >= LEAST_SPELLED:
            return fit
        return characters

    def fitting(self, vocab_size: int) -> int:
        """Returns how many characters surely fit into a vocabulary."""
        sizes = itertools.accumulate(1 + (char in self._continuing) for char in self._ranked)
        return bisect.bisect_right(list(sizes), vocab_size - len(SPECIAL_TOKENS))

    def spelled(self, characters: set[str]) -> dict[str, int]:
        """Returns the counts of the words that consist of some characters."""
        return {word: n for word, n in self.words.items() if characters.issuperset(word)}

    def advice(
        self, characters: set[str], vocab_size: int, min_frequency: int, limit: int | None
    ) -> str:
        """Returns flags with which few words are unknown; "" where few are.

        Args:
            characters: the alphabet that was chosen.
            vocab_size: see `train_vocabulary`, as for the rest.
            min_frequency: at least so often a character occurs.
            limit: how many characters were asked for.
        """
        if self._is_spelled(characters):
            return ""
        frequency = min_frequency
        if not self._is_spelled(self.chosen(vocab_size, frequency, len(self._ranked))):
            frequency = 1
        count = bisect.bisect_left(
            range(len(self._ranked)),
            True,
            key=lambda n: self._is_spelled(self.chosen(vocab_size, frequency, n)),
        )
        size = max(vocab_size, self._num_pieces(self.chosen(vocab_size, frequency, count)))
        flags = [f"--vocab-size {size}"] if size != vocab_size else []
        flags += [f"--min-frequency {frequency}"] if frequency != min_frequency else []
        default = self.chosen(size, frequency, None)
        # A larger vocabulary has to be filled, by the alphabet alone if need be.
        is_enough = size == vocab_size or self._num_pieces(default) == size
        if limit is not None or not is_enough or not self._is_spelled(default):
            flags.append(f"--limit-alphabet {count}")
        return " ".join(flags)

    def _num_pieces(self, characters: set[str]) -> int:
        return len(SPECIAL_TOKENS) + len(character_pieces(self.spelled(characters)))

    def _is_spelled(self, characters: set[str]) -> bool:
        return self.share_spelled(characters) >= 1 - MANY_UNKNOWN

    def share_spelled(self, characters: set[str]) -> float:
        """Returns the share of the characters, words that are too long left out."""
        known = sum(len(word) * n for word, n in self.spelled(characters).items())
        return known / max(1, self._counts.total())

    def _covering(self) -> int:
        """Returns how many characters cover the share `COVERAGE` of the text."""
        covered = list(itertools.accumulate(self._counts[char] for char in self._ranked))
        return bisect.bisect_left(covered, COVERAGE * self._counts.total()) + 1


def parts_of_words(words: Mapping[str, int]) -> Mapping[str, int]:
    """Cuts very long words, all of whose letters would be gone through at each learned piece."""
    parts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for start in range(0, len(word), MAX_WORD_CHARACTERS):
            parts[word[start : start + MAX_WORD_CHARACTERS]] += count
    return parts


def character_pieces(words: Mapping[str, int]) -> list[str]:
    """Every character alone, and with ## where it continues a word."""
    alone = {char for word in words for char in word}
    continuing = {CONTINUATION + char for word in words for char in word[1:]}
    return sorted(alone) + sorted(continuing)


def _texts(words: Mapping[str, int]) -> Iterator[str]:
    """Text with these words: the trainer takes no counts. Short texts keep its memory small."""
    for word, count in words.items():
        for done in range(0, count, _WORDS_OF_A_TEXT):
            yield " ".join([word] * min(_WORDS_OF_A_TEXT, count - done))


def learn_pieces(
    words: Mapping[str, int],
    vocab_size: int,
    min_frequency: int,
    reserved: list[str],
    show_progress: bool,
) -> list[str]:
    """Learns pieces by byte-pair merges.

    Args:
        words: how often each word occurs.
        vocab_size: number of pieces, the reserved ones included.
        min_frequency: pairs that occur less often make no piece.
        reserved: the special tokens, and all characters (see `character_pieces`), numbered so.
        show_progress: whether to show bars on a terminal.

    Returns:
        The reserved pieces, then the others as they were learned; fewer where the words give no
        more.
    """
    # Imported here: only training needs it, and everything else works without.
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=UNK))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=reserved,
        continuing_subword_prefix=CONTINUATION,
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(_texts(words), trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)
