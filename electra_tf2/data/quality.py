"""What a data set keeps of its text, in words: figures, warnings, and the error for lost text.

All of it follows from the counts that the builder stores, so that training says it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from electra_tf2.data.shards import DatasetMetadata
from electra_tf2.errors import UserError
from electra_tf2.text.unknown import UNKNOWN_WARNING
from electra_tf2.text.wordpiece import LARGEST_WORD_LIMIT

DROPPED_WARNING = 0.05
"""Share of the tokens from which on their loss is a warning."""
LONG_WORDS_WARNING = 0.01
"""Share of the characters, in words over the limit, from which on it is a warning."""
NEARLY_ALL = 0.8
"""Share of the characters from which on unknown text is an error."""
FILL_WARNING = 2 / 3
"""Share of the examples' places that hold tokens, under which it is a warning."""
MANY_EPOCHS = 1000
"""Passes over the same examples from which on it is a warning."""
REPEATED_CORPUS = 4
"""Passes over a corpus of a mixture beyond which it is a warning: up to so many are hardly worse
than new text (Muennighoff et al. 2023, https://arxiv.org/abs/2305.16264)."""
_HIGH_LIMIT = 1_000_000  # characters of a word


class Figure(NamedTuple):
    """A count with what it means.

    Attributes:
        name: what is counted.
        count: how many.
        meaning: its share, and of what.
    """

    name: str
    count: int
    meaning: str


def figures(metadata: DatasetMetadata) -> list[Figure]:
    """Returns the figures of a data set's text, as far as its counts tell; [] of an old one."""
    counts = metadata.counts
    tokens, characters = counts.get("tokens", 0), counts.get("characters", 0)
    places = metadata.num_examples * metadata.max_seq_length
    # In the counts, by name: shown as, a share of what number, and what that says.
    meanings = {
        "characters": ("characters", 0, "of words, normalized"),
        "unknown_tokens": ("[UNK]", tokens, " of the tokens"),
        "unknown_characters": ("unknown text", characters, " of the characters are in [UNK]"),
        "long_word_characters": (
            "too long words",
            characters,
            f" of the characters are in words of more than {metadata.max_word_characters:,}",
        ),
        "bad_records": (
            "bad records",
            counts.get("bad_records", 0) + counts.get("documents", 0),
            " of the documents are left out",
        ),
        "dropped_tokens": ("tokens dropped", tokens, ": no room in an example"),
        "example_tokens": ("example tokens", places, " of the examples' places are filled"),
        "tokens_in_lines_over_128": ("in long lines", tokens, " of the tokens: over 128 in a line"),
        "tokens_in_lines_over_512": ("in longer lines", tokens, " of the tokens: over 512"),
    }
    return [
        Figure(shown, counts[name], (f"{counts[name] / whole:.1%}" if whole else "") + meaning)
        for name, (shown, whole, meaning) in meanings.items()
        if name in counts
    ]


def warnings(metadata: DatasetMetadata) -> list[str]:
    """Returns what a builder or a training run should warn of, with what to do about it."""
    counts = metadata.counts
    found = unknown_warnings(metadata)
    dropped = _share(counts, "dropped_tokens", "tokens")
    if dropped > DROPPED_WARNING:
        found.append(
            f"{dropped:.1%} of the tokens are in no example, because a line that overruns its "
            "example loses the rest (as in the official program). --split-long-lines carries it "
            "into the next example."
        )
    long_lines = _share(counts, "tokens_in_lines_over_512", "tokens")
    if long_lines > DROPPED_WARNING and not metadata.split_long_lines:
        found.append(
            f"{long_lines:.1%} of the tokens are in lines of more than 512 tokens. Training drops "
            "what overruns an example; build with --split-long-lines to keep it."
        )
    fill = estimated_fill(metadata)
    if fill is not None and fill < FILL_WARNING:
        found.append(fill_warning(metadata, fill))
    return found


def unknown_warnings(metadata: DatasetMetadata) -> list[str]:
    """Returns those of `warnings` that are about words which became [UNK]."""
    text = _share(metadata.counts, "unknown_characters", "characters")
    long = _share(metadata.counts, "long_word_characters", "characters")
    tokens = _share(metadata.counts, "unknown_tokens", "tokens")
    found = []
    if long > LONG_WORDS_WARNING:
        found.append(
            f"{long:.1%} of the text is in words of more than {metadata.max_word_characters:,} "
            "characters, each of which is one [UNK] (as in the official program). "
            f"{_raise_limit(metadata)} splits them into pieces; so do spaces in the text "
            "(docs/languages.md)."
        )
    if max(tokens, text - long) > UNKNOWN_WARNING:
        found.append(
            f"{tokens:.1%} of the tokens are [UNK], and {text:.1%} of the text is in them. Is it "
            "the vocabulary of this language, with the casing that it was made for? "
            f"{_FIT_VOCABULARY}"
        )
    return found


_FIT_VOCABULARY = (
    "build_vocabulary.py makes one from this corpus; docs/languages.md says which languages need "
    "--no-lower-case or --no-strip-accents for it."
)


def _raise_limit(metadata: DatasetMetadata) -> str:
    """The flag for words that are longer than the limit that the data was built with."""
    is_high = metadata.max_word_characters >= _HIGH_LIMIT
    return f"--max-word-characters {LARGEST_WORD_LIMIT if is_high else _HIGH_LIMIT}"


def check_known(metadata: DatasetMetadata, where: str, allow: str) -> None:
    """Refuses a data set that says next to nothing of its text.

    Args:
        metadata: with its counts.
        where: the corpus or the records.
        allow: how to take them anyway, for the remedy.

    Raises:
        UserError: nearly all characters are in words that are [UNK].
    """
    text = _share(metadata.counts, "unknown_characters", "characters")
    long = _share(metadata.counts, "long_word_characters", "characters")
    if text < NEARLY_ALL:
        return
    remedy = f"Use a vocabulary of this text: {_FIT_VOCABULARY}"
    if long >= text / 2:
        remedy = (
            f"Build with {_raise_limit(metadata)}, so that long words (DNA, proteins) are split; "
            "or put spaces into the text (docs/languages.md)."
        )
    raise UserError(
        "Nearly all of the text is [UNK]: nothing could be learned from it.",
        where=where,
        received=f"{text:.1%} of the characters are in words that are [UNK], {long:.1%} in words "
        f"of more than {metadata.max_word_characters:,} characters",
        remedy=f"{remedy} {allow}",
    )


def estimated_fill(metadata: DatasetMetadata) -> float | None:
    """Returns the share of the examples' places that hold tokens; None if nothing tells.

    Of documents, which have no length yet: the most that examples of 128 tokens can be filled.
    """
    counts, records = metadata.counts, metadata.num_examples
    if "example_tokens" in counts:
        return counts["example_tokens"] / max(1, records * metadata.max_seq_length)
    if metadata.segmentation == "static" or not counts.get("tokens"):
        return None
    return min(1.0, (counts["tokens"] / max(1, records) + 3) / 128)


def fill_warning(metadata: DatasetMetadata | None, fill: float) -> str:
    """Returns the warning of examples that are mostly padding.

    Args:
        metadata: of the data set; None where there is none.
        fill: share of the places that hold tokens.
    """
    text = f"{1 - fill:.0%} of the examples' places are padding"
    if metadata is None or not metadata.counts.get("documents"):
        return f"{text}: documents are shorter than the examples."
    mean = metadata.counts.get("tokens", 0) / metadata.counts["documents"]
    text += f", because documents are short ({mean:,.0f} tokens on average)."
    if not metadata.blanks_separate_docs:
        return f"{text} A smaller max_seq_length trains faster on them."
    return (
        f"{text} Where an empty line only ends a paragraph, build with --blanks-separate-docs "
        "false: each file is then one document. Else a smaller max_seq_length trains faster."
    )


def epochs_warning(epochs: float, examples: int) -> str | None:
    """Returns the warning of examples that are seen too often, or None."""
    if epochs <= MANY_EPOCHS:
        return None
    return (
        f"each of the {examples:,} examples is seen {epochs:,.0f} times: the model will know them "
        "by heart and little else. Add text, or lower num_train_steps or train_batch_size."
    )


def repeated_warning(epochs: float) -> str | None:
    """Returns the warning of a corpus that a mixture repeats too often, or None."""
    if epochs <= REPEATED_CORPUS:
        return None
    return (
        f"its examples are seen {epochs:,.1f} times, and beyond {REPEATED_CORPUS} times they teach "
        "less and less. Lower its weight in pretrain_tfrecords, or add text."
    )


def _share(counts: Mapping[str, int], part: str, whole: str) -> float:
    return counts.get(part, 0) / max(1, counts.get(whole, 0))
