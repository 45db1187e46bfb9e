"""Learning a vocabulary from word counts."""

import hashlib
import os
import subprocess
import sys

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


def test_errors_say_what_is_possible():
    with pytest.raises(UserError, match="The text gives only 9 pieces") as caught:
        train_vocabulary({"ab": 5}, 100)
    assert "at most 9" in caught.value.remedy
    with pytest.raises(UserError, match="more pieces than the vocabulary holds") as caught:
        train_vocabulary({"ab": 5}, 7)
    assert "at least 8" in caught.value.remedy


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
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed}
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(result.stdout.strip())
    reversed_words = dict(reversed(TIES.items()))
    tokens = train_vocabulary(reversed_words, 200).vocabulary.tokens
    assert digests == {hashlib.sha256("\n".join(tokens).encode()).hexdigest()}
