"""What the records of a data set are: examples, or documents from which training cuts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from electra_tf2.data.document_builder import DocumentBuilder
from electra_tf2.data.record_builder import RecordBuilder
from electra_tf2.text.tokenizer import Tokenizer

COUNTS = ("documents", "lines", "tokens")


class RecordKind(NamedTuple):
    """One kind of records.

    Attributes:
        noun: Their name.
        doing: What the builder does, with a place for the length of examples.
        has_length: Whether they are of one length.
        counts: The figures of their text that are known when they are built.
        make_builder: (tokenizer, length of examples) -> what makes them.
    """

    noun: str
    doing: str
    has_length: bool
    counts: tuple[str, ...]
    make_builder: Callable[[Tokenizer, int], RecordBuilder | DocumentBuilder]


# By the segmentation that they are for.
RECORD_KINDS = {
    "static": RecordKind(
        "examples",
        "Building examples of {} tokens",
        True,
        (*COUNTS, "dropped_tokens"),
        RecordBuilder,
    ),
    "dynamic": RecordKind(
        "records",
        "Building tokenized documents",
        False,
        COUNTS,
        lambda tokenizer, max_seq_length: DocumentBuilder(tokenizer),
    ),
}
