"""Text to a WordPiece vocabulary: counting words, and learning pieces from the counts.

The pieces are learned by Hugging Face `tokenizers` (byte-pair merges written as WordPiece). Left to
itself its result differs from process to process: it numbers the pieces of single characters in the
order of a randomly seeded hash table, and equally frequent pairs are merged in the order of these
numbers. Here the single characters are chosen and numbered beforehand, which leaves nothing to
chance.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED, Casing, FastNormalizer, split_at_punctuation
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary
from electra_tf2.text.wordpiece import CONTINUATION, MAX_WORD_CHARACTERS

LARGEST_ALPHABET = 1000
SMALLEST_ALPHABET = 64
_WORDS_OF_A_TEXT = 1000  # given to the trainer


class WordCounter:
    """Counts words as the tokenizer sees them.

    Args:
        casing: the tokenizer's.
    """

    def __init__(self, casing: Casing = UNCASED):
        self._normalizer = FastNormalizer(casing)
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, text: str) -> None:
        """Counts the words of a text of any length and number of lines."""
        if text.isascii():
            normalized = self._normalizer.normalize_ascii(text).decode("ascii")
        else:
            normalized = self._normalizer.normalize(text)
        self._counts.update(normalized.split())

    def words(self) -> dict[str, int]:
        """Returns how often each word occurred, in the order of the words."""
        words: collections.Counter[str] = collections.Counter()
        for chunk, count in self._counts.items():
            for word in split_at_punctuation(chunk):
                words[word] += count
        return dict(sorted(words.items()))


@dataclasses.dataclass(frozen=True)
class TrainedVocabulary:
    """A vocabulary learned from word counts.

    Attributes:
        vocabulary: the special tokens ([PAD] first), the alphabet in the order of code points, then
            the longer pieces in the order in which they were learned, the most useful first.
        alphabet_size: number of different characters it covers.
        unknown_words: how many of the counted words (every occurrence) it can't spell.
    """

    vocabulary: Vocabulary
    alphabet_size: int
    unknown_words: int


def default_alphabet_limit(vocab_size: int) -> int:
    """Returns how many characters a vocabulary covers unless told: an eighth of it, 64 to 1000."""
    return min(LARGEST_ALPHABET, max(SMALLEST_ALPHABET, vocab_size // 8))


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
            unknown. None: `default_alphabet_limit(vocab_size)`.
        max_word_characters: longer words are left out, as they are unknown to the tokenizer.
        show_progress: whether to show bars on a terminal.

    Returns:
        A vocabulary of exactly `vocab_size` pieces.

    Raises:
        UserError: the text doesn't give that many pieces, or its characters alone give more.
    """
    limit = default_alphabet_limit(vocab_size) if limit_alphabet is None else limit_alphabet
    characters = _frequent_characters(word_counts, min_frequency, limit)
    spelled = {
        word: count
        for word, count in word_counts.items()
        if len(word) <= max_word_characters and characters.issuperset(word)
    }
    alphabet = _character_pieces(spelled)
    reserved = [*SPECIAL_TOKENS, *alphabet]
    if len(reserved) > vocab_size:
        raise UserError(
            "The special tokens and the alphabet alone are more pieces than the vocabulary holds.",
            where="--vocab-size",
            received=f"{vocab_size}, with {len(characters)} characters in {len(alphabet)} pieces "
            f"(alone and with ##) and {len(SPECIAL_TOKENS)} special tokens",
            remedy=f"Ask for at least {len(reserved)} pieces, or keep fewer characters with "
            "--limit-alphabet.",
        )
    tokens = _learn(_parts(spelled), vocab_size, min_frequency, reserved, show_progress)
    if len(tokens) < vocab_size:
        raise UserError(
            f"The text gives only {len(tokens)} pieces.",
            where="--vocab-size",
            received=f"{vocab_size}, with {len(spelled)} different words in the text",
            remedy=f"Ask for at most {len(tokens)} pieces, give more text"
            + (", or use --min-frequency 1." if min_frequency > 1 else ".")
            + _about_long_words(word_counts, max_word_characters),
        )
    return TrainedVocabulary(
        vocabulary=Vocabulary(tuple(tokens)),
        alphabet_size=len(characters),
        unknown_words=sum(word_counts.values()) - sum(spelled.values()),
    )


def _about_long_words(words: Iterable[str], limit: int) -> str:
    longest = max(map(len, words), default=0)
    if longest <= limit:
        return ""
    return f" Words of more than {limit} characters are left out: --max-word-characters {longest}."


def _parts(words: Mapping[str, int]) -> Mapping[str, int]:
    """Cuts very long words, all of whose letters would be gone through at each learned piece."""
    parts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for start in range(0, len(word), MAX_WORD_CHARACTERS):
            parts[word[start : start + MAX_WORD_CHARACTERS]] += count
    return parts


def _frequent_characters(word_counts: Mapping[str, int], at_least: int, limit: int) -> set[str]:
    counts: collections.Counter[str] = collections.Counter()
    for word, count in word_counts.items():
        for char in word:
            counts[char] += count
    ranked = sorted(counts, key=lambda char: (-counts[char], char))
    return {char for char in ranked[:limit] if counts[char] >= at_least}


def _character_pieces(words: Mapping[str, int]) -> list[str]:
    """Every character alone, and with ## where it continues a word."""
    alone = {char for word in words for char in word}
    continuing = {CONTINUATION + char for word in words for char in word[1:]}
    return sorted(alone) + sorted(continuing)


def _texts(words: Mapping[str, int]) -> Iterator[str]:
    """Text with these words: the trainer takes no counts. Short texts keep its memory small."""
    for word, count in words.items():
        for done in range(0, count, _WORDS_OF_A_TEXT):
            yield " ".join([word] * min(_WORDS_OF_A_TEXT, count - done))


def _learn(
    words: Mapping[str, int],
    vocab_size: int,
    min_frequency: int,
    reserved: list[str],
    show_progress: bool,
) -> list[str]:
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
