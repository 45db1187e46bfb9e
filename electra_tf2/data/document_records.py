"""Tokenized documents as TFRecords.

A record is a `tf.train.Example` with two features: `sentence_lengths`, integers, the number of
tokens of each sentence; and `token_ids`, one string of bytes, the tokens of all sentences without
[CLS] and [SEP] one after the other, each in 2 bytes (little-endian), or in 4 where the vocabulary
has more than 65,536 pieces. (Integer features would take as much space, and longer to parse than
cutting takes.) The bytes are those that `SerializeToString(deterministic=True)` gives.
"""

from __future__ import annotations

import numpy as np

from electra_tf2.data import crc32c
from electra_tf2.data.examples import (
    BYTES_LIST,
    INT64_LIST,
    Records,
    feature_start,
    headers,
    varint,
    varints,
)

SENTENCE_LENGTHS, TOKEN_IDS = "sentence_lengths", "token_ids"


def serialize_documents(
    token_ids: np.ndarray,
    token_splits: np.ndarray,
    sentence_lengths: np.ndarray,
    sentence_splits: np.ndarray,
    vocab_size: int,
) -> Records:
    """Encodes documents as framed records.

    Args:
        token_ids: int32 `[tokens]`, at least 0 and below `vocab_size`.
        token_splits: int64 `[n + 1]`: document i has the tokens `token_splits[i]` to
            `token_splits[i + 1]`, at least one.
        sentence_lengths: int64 `[sentences]`, at least 1 each.
        sentence_splits: int64 `[n + 1]`, likewise.
        vocab_size: Number of the vocabulary's pieces.

    Returns:
        The records, in order.
    """
    if len(token_splits) == 1:
        return Records(b"", np.zeros(0, np.int64))
    dtype = token_dtype(vocab_size)
    ids = _sliced(token_ids.astype(dtype).tobytes(), token_splits * dtype.itemsize)
    encoded, used = varints(sentence_lengths[:, None])
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    lengths = _sliced(encoded[used].tobytes(), ends[sentence_splits])
    messages = [_message(*parts) for parts in zip(lengths, ids, strict=True)]
    sizes = np.array([len(message) for message in messages])
    starts = headers(sizes)
    checksums = crc32c.masked(crc32c.crc32c_strings(messages)).astype("<u4")
    framed = [
        part
        for start, message, checksum in zip(starts, messages, checksums, strict=True)
        for part in (start.tobytes(), message, checksum.tobytes())
    ]
    return Records(b"".join(framed), sizes + 16)


def token_dtype(vocab_size: int) -> np.dtype:
    """Returns the type of tokens in records: uint16 or int32, little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<i4")


def parse_token_ids(strings: np.ndarray, num_tokens: int) -> np.ndarray:
    """Decodes the feature `token_ids` of documents.

    Args:
        strings: The features' strings, an array of `bytes` objects `[n]`.
        num_tokens: Tokens of all of them, at least 1.

    Returns:
        uint16 or int32 `[num_tokens]`.
    """
    data = b"".join(strings)
    return np.frombuffer(data, "<u2" if len(data) == 2 * num_tokens else "<i4")


def _sliced(data: bytes, ends: np.ndarray) -> list[bytes]:
    bounds = ends.tolist()
    return [data[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def _message(lengths: bytes, ids: bytes) -> bytes:
    # The keys of a map are sorted in deterministic encoding.
    entries = b"".join(
        [
            feature_start(SENTENCE_LENGTHS, len(lengths), INT64_LIST),
            lengths,
            feature_start(TOKEN_IDS, len(ids), BYTES_LIST),
            ids,
        ]
    )
    return b"\x0a" + varint(len(entries)) + entries
