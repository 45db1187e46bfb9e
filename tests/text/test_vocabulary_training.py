"""Learning a vocabulary from word counts."""

import hashlib
import re

import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED, Casing, normalize
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS
from electra_tf2.text.vocabulary_training import (
    WordCounter,
    default_alphabet_limit,
    train_vocabulary,
)
from tests.programs import run_python

LINES = [
    "The lower the newer, the wider the lowest: Zoë's café, ΑΣ. 中文!",
    "low lower lowest new newer newest wide wider widest",
]
TEXT = "\n".join(LINES * 3)
# Equally frequent everywhere: every merge is a choice among equals.
TIES = {a + b + c: 5 for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"}


def counted(text: str, casing: Casing = UNCASED) -> dict[str, int]:
    counter = WordCounter(casing)
    counter.add(text)
    return counter.words()


@pytest.mark.parametrize("text", [TEXT, "Plain ASCII: it's e=mc^2,\tIt's!\x00\n" * 2])
@pytest.mark.parametrize("lower_case", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_words_are_the_tokenizers(text, lower_case, strip_accents):
    casing = Casing(lower_case, strip_accents)
    words = normalize(text, casing)
    assert counted(text, casing) == {word: words.count(word) for word in words}


def test_counts_add_up():
    counter = WordCounter()
    counter.add("one two")
    counter.add("Two, three")
    assert counter.words() == {",": 1, "one": 1, "three": 1, "two": 2}


@pytest.mark.parametrize("size", [50, 55, 60])
def test_exactly_the_asked_size(size):
    words = counted(TEXT)
    vocabulary = train_vocabulary(words, size).vocabulary

    assert len(vocabulary) == len(set(vocabulary.tokens)) == size
    assert vocabulary.tokens[:5] == SPECIAL_TOKENS
    assert vocabulary.pad_id == 0
    tokenizer = make_tokenizer(vocabulary, implementation="reference")
    assert "[UNK]" not in tokenizer.tokenize(TEXT)


def test_frequent_words_become_pieces():
    vocabulary = train_vocabulary(counted(TEXT), 60).vocabulary
    assert "the" in vocabulary.ids
    assert "lower" in vocabulary.ids


def test_rare_characters_are_left_out():
    words = {"aab": 10, "ba": 10, "aé": 9, "az": 1}

    assert "é" not in "".join(train_vocabulary(words, 10, limit_alphabet=2).vocabulary.tokens)
    trained = train_vocabulary(words, 10, limit_alphabet=2)
    assert (trained.alphabet_size, trained.unknown_words) == (2, 10)

    trained = train_vocabulary(words, 12, min_frequency=2)
    assert (trained.alphabet_size, trained.unknown_words) == (3, 1)
    assert "##é" in trained.vocabulary.ids and "##z" not in trained.vocabulary.ids


def test_overlong_words_are_left_out():
    trained = train_vocabulary({"a" * 201: 5, "ab": 5}, 9)
    assert trained.unknown_words == 5
    assert trained.vocabulary.tokens[5:] == ("a", "b", "##b", "ab")


def test_a_higher_limit_for_long_words():
    dna = "ACGGT" * 60
    with pytest.raises(UserError, match="longer than 200 characters") as caught:
        train_vocabulary({dna: 3}, 16)
    assert "--max-word-characters 300" in caught.value.remedy
    with pytest.raises(UserError, match="gives only") as caught:
        train_vocabulary({dna: 3, "AC": 3}, 16)
    assert "--max-word-characters 300" in caught.value.remedy
    for words in ({dna: 3}, {dna: 3, "AC": 3}):
        trained = train_vocabulary(words, 16, max_word_characters=300)
        assert trained.unknown_words == trained.overlong_characters == 0
        assert len(trained.vocabulary) == 16


def test_errors_say_what_is_possible():
    with pytest.raises(UserError, match="The text gives only 9 pieces") as caught:
        train_vocabulary({"ab": 5}, 100)
    assert "at most 9" in caught.value.remedy
    with pytest.raises(UserError, match="more pieces than the vocabulary holds") as caught:
        train_vocabulary({"ab": 5}, 7)
    assert "at least 8" in caught.value.remedy


def zipf(characters: int, most: int) -> dict[str, int]:
    """Ideographs, each a word; the n-th most frequent occurs most / n times."""
    return {chr(0x4E00 + n): max(1, most // (n + 1)) for n in range(characters)}


def flags_in(advice: str) -> dict[str, int]:
    return {name.replace("-", "_"): int(v) for name, v in re.findall(r"--(\S+) (\d+)", advice)}


def test_the_alphabet_follows_the_text():
    words = dict.fromkeys(zipf(3000, 0), 5)
    trained = train_vocabulary(words, 3005)
    assert (trained.alphabet_size, trained.unknown_words, trained.advice) == (3000, 0, "")
    # Rare ones don't displace pieces: 1000 of 2000 cover all but a few of the text.
    words = dict.fromkeys(list(zipf(2000, 0))[:1000], 100) | dict.fromkeys("ab", 2)
    assert train_vocabulary(words, 1005).alphabet_size == 1000


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (800, {"min_frequency": 2, "limit_alphabet": 400}),
        (700, {}),
        (812, {"min_frequency": 3}),
        (850, {"min_frequency": 1, "limit_alphabet": 845}),
    ],
)
def test_advice_where_much_is_unknown_holds(size, options):
    words = zipf(1000, 800)
    size = min(size, _possible(words, size, options))
    trained = train_vocabulary(words, size, **options)
    assert trained.unknown_characters > 0.01 and trained.advice
    better = {"vocab_size": size, **options} | flags_in(trained.advice)
    trained = train_vocabulary(words, **better)
    assert trained.unknown_characters <= 0.01 and not trained.advice


def _possible(words, size, options) -> int:
    try:
        train_vocabulary(words, size, **options)
    except UserError as error:
        return int(re.search(r"at most (\d+)", error.remedy)[1])
    return size


def test_what_errors_advise_holds():
    # The default alphabet depends on the size: with 500 pieces it is 64 characters.
    words = {f"{a}{b}": 3 for a in map(chr, range(0xE01, 0xE2F)) for b in "กขคง"}
    with pytest.raises(UserError, match="gives only") as error:
        train_vocabulary(words, 9000)
    size = int(re.search(r"at most (\d+)", error.value.remedy)[1])
    assert len(train_vocabulary(words, size).vocabulary) == size
    with pytest.raises(UserError, match="more pieces than") as error:
        train_vocabulary(zipf(1000, 2000), 300)
    size, limit = map(int, re.findall(r"(\d+)", error.value.remedy))
    assert len(train_vocabulary(zipf(1000, 2000), size).vocabulary) == size
    assert len(train_vocabulary(zipf(1000, 2000), 300, limit_alphabet=limit).vocabulary) == 300


def test_words_that_are_all_too_long():
    with pytest.raises(UserError, match="longer than 200"):
        train_vocabulary({"A" * 201: 3}, 50)


@pytest.mark.parametrize(("size", "limit"), [(100, 64), (4096, 512), (30522, 1000)])
def test_default_alphabet(size, limit):
    assert default_alphabet_limit(size) == limit


def test_every_process_gives_the_same():
    program = (
        "import hashlib\n"
        "from electra_tf2.text.vocabulary_training import train_vocabulary\n"
        f"words = {TIES!r}\n"
        "print(train_vocabulary(words, 200).vocabulary.sha256)"
    )
    digests = set()
    for seed in ("0", "1", "2"):
        result = run_python("-c", program, PYTHONHASHSEED=seed, RAYON_NUM_THREADS=seed)
        digests.add(result.stdout.strip())
    reversed_words = dict(reversed(TIES.items()))
    tokens = train_vocabulary(reversed_words, 200).vocabulary.tokens
    assert digests == {hashlib.sha256("\n".join(tokens).encode()).hexdigest()}
