"""Passages of text -> tokenized documents, many at a time.

What `RecordBuilder` does for data sets whose examples are cut in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data.document_records import serialize_documents
from electra_tf2.data.record_builder import Counts, Part, Passage, passage_batches
from electra_tf2.text.tokenizer import Tokenizer

# A document is cut after the sentence that brings it to so many tokens, and goes on in another
# record: 128 examples of 128 tokens, 32 of 512. A record's examples lie close together in the order
# of training, which is mixed in windows; and the fewer the pieces, the fewer examples end early.
PIECE_TOKENS = 1 << 14


class _Open(NamedTuple):
    """What has been read of a document that goes on: token ids, and the sentences' lengths."""

    token_ids: np.ndarray
    lengths: list[int]


class DocumentBuilder:
    """Builds serialized documents from passages.

    Args:
        tokenizer: Makes token ids of lines.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer

    def parts(self, passages: Iterable[Passage]) -> Iterator[Part]:
        """Yields the documents of passages, in order, in parts of about half a megabyte of text.

        The figures' `examples` are records: documents, or pieces of large ones.

        Args:
            passages: See `RecordBuilder.parts`.
        """
        carried = _Open(np.zeros(0, np.int32), [])
        for batch in passage_batches(passages):
            part, carried = self._build(batch, carried)
            yield part

    def _build(self, batch: Sequence[Passage], carried: _Open) -> tuple[Part, _Open]:
        lines = [line for passage in batch for line in passage.lines if line]
        encoded = self._tokenizer.encode_lines(lines)
        counts = Counts(lines=len(lines), tokens=len(encoded.values))
        token_ids = np.concatenate([carried.token_ids, encoded.values])
        lengths = carried.lengths + np.diff(encoded.row_splits).tolist()
        ends = self._divide(batch, carried, lengths, counts)

        closed = ends[-1] if ends else 0
        token_splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        still_open = _Open(token_ids[token_splits[closed] :], lengths[closed:])
        # There is nothing to cut in a document of lines without tokens: the next one takes them.
        splits = [0, *(e for e, n in zip(ends, _differences(token_splits[ends]), strict=True) if n)]
        sentences = np.array(lengths[:closed], np.int64)
        sentence_splits = np.concatenate([[0], np.cumsum(sentences > 0)])[splits]
        records = serialize_documents(
            token_ids[: token_splits[closed]],
            token_splits[splits],
            sentences[sentences > 0],
            sentence_splits,
            len(self._tokenizer.vocabulary),
        )
        counts.examples = len(records.sizes)
        return Part(records, counts), still_open

    def _divide(
        self, batch: Sequence[Passage], carried: _Open, lengths: list[int], counts: Counts
    ) -> list[int]:
        """Returns the sentences at which records end, and counts documents and source bytes."""
        ends: list[int] = []
        sentence, tokens = len(carried.lengths), sum(carried.lengths)

        def close() -> None:
            nonlocal tokens
            tokens = 0
            if sentence > (ends[-1] if ends else 0):
                ends.append(sentence)

        for passage in batch:
            stream = passage.stream
            for line in [*passage.lines, None] if passage.ends_document else passage.lines:
                if line:
                    counts.documents += not stream.in_document
                    stream.in_document = True
                    tokens += lengths[sentence]
                    sentence += 1
                    if tokens >= PIECE_TOKENS:
                        close()
                elif line is None or passage.blanks_separate:
                    close()
                    stream.in_document = False
            counts.source_bytes += passage.source_bytes
        return ends


def _differences(ends: np.ndarray) -> list[int]:
    return np.diff(ends, prepend=0).tolist()
