"""The bytes of TFRecord files: examples and documents encoded, records framed and found again.

A record of an example is a `tf.train.Example` with the int64 features `input_ids`, `input_mask` and
`segment_ids`, as the official program writes it. A record of a document has two features:
`sentence_lengths`, integers, the number of tokens of each sentence; and `token_ids`, one byte
string: the tokens of all sentences, without [CLS] and [SEP], in 2 bytes each (little-endian), or in
4 where the vocabulary has more than 65,536 pieces. (Integer features would take as much space, and
longer to parse than cutting takes.)

The ids are encoded with NumPy for all records of a batch together, several times faster than
message objects; the bytes are those that `SerializeToString(deterministic=True)` gives.

In a file, a record is an 8-byte little-endian length, the masked CRC-32C of these 8 bytes, the
data, and the masked CRC-32C of the data (4 bytes each; tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np

from electra_tf2 import files
from electra_tf2.data.segments import ExamplePlan
from electra_tf2.errors import UserError

FEATURES = ("input_ids", "input_mask", "segment_ids")  # in the order of their encoding
SENTENCE_LENGTHS, TOKEN_IDS = "sentence_lengths", "token_ids"

# Tags of the two kinds of features.
_INT64_LIST, _BYTES_LIST = b"\x1a", b"\x0a"

_HEADER_BYTES = 12  # of a record: length and its checksum
_FOOTER_BYTES = 4  # the checksum of the data
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h
_CHUNK_BYTES = 8 << 20  # of a file, read at once
_REPLACE_FILE = "Build or copy this file again: everything from this byte on is unreadable."


class Examples(NamedTuple):
    """A batch of examples.

    Attributes:
        input_ids: integers `[n, max_seq_length]`: [CLS] first [SEP], or [CLS] first [SEP] second
            [SEP], then zeros.
        first_lengths: int64 `[n]`: tokens of the first segment with its [CLS] and [SEP].
        lengths: int64 `[n]`: all tokens that are not padding.
    """

    input_ids: np.ndarray
    first_lengths: np.ndarray
    lengths: np.ndarray


class Records(NamedTuple):
    """Serialized examples or documents.

    Attributes:
        data: the records one after the other, framed as in a TFRecord file.
        sizes: int64 `[n]`: the bytes of each record with its framing.
    """

    data: bytes
    sizes: np.ndarray


def assemble_examples(
    plans: Sequence[ExamplePlan], values: np.ndarray, max_seq_length: int, cls_id: int, sep_id: int
) -> Examples:
    """Puts the tokens of plans together.

    Args:
        plans: what to take.
        values: int32 `[total]`, the token ids that the plans' spans refer to.
        max_seq_length: length of an example in tokens.

    Returns:
        One example per plan, in order.
    """
    input_ids = np.zeros((len(plans), max_seq_length), np.int32)
    first_lengths = np.empty(len(plans), np.int64)
    lengths = np.empty(len(plans), np.int64)
    for row, plan in enumerate(plans):
        ids = input_ids[row]
        ids[0] = cls_id
        end = 1
        for start, length in plan.first:
            ids[end : end + length] = values[start : start + length]
            end += length
        ids[end] = sep_id
        end += 1
        first_lengths[row] = end
        if plan.second:
            for start, length in plan.second:
                ids[end : end + length] = values[start : start + length]
                end += length
            ids[end] = sep_id
            end += 1
        lengths[row] = end
    return Examples(input_ids, first_lengths, lengths)


def serialize_examples(examples: Examples) -> Records:
    """Encodes examples, whose ids are not negative, as framed records.

    Returns:
        The records, in order.
    """
    count, max_seq_length = examples.input_ids.shape
    if not count:
        return _frame([])
    all_ids, sizes = _varints(examples.input_ids)
    rows = zip(_sliced(all_ids, sizes), _encoded_masks(examples), strict=True)
    return _frame(
        _example_start(len(ids), max_seq_length) + ids + masks.tobytes() for ids, masks in rows
    )


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
        vocab_size: number of the vocabulary's pieces.

    Returns:
        The records, in order.
    """
    if len(token_splits) == 1:
        return _frame([])
    dtype = token_dtype(vocab_size)
    ids = _sliced(token_ids.astype(dtype).tobytes(), np.diff(token_splits) * dtype.itemsize)
    encoded, sizes = _varints(sentence_lengths[:, None])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    lengths = _sliced(encoded, np.diff(ends[sentence_splits]))
    return _frame(_document(*parts) for parts in zip(lengths, ids, strict=True))


def token_dtype(vocab_size: int) -> np.dtype:
    """Returns the type of tokens in the records of documents: uint16 or int32, little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<i4")


def parse_token_ids(strings: np.ndarray, num_tokens: int) -> np.ndarray:
    """Decodes the feature `token_ids` of documents.

    Args:
        strings: the features' strings, an array of `bytes` objects `[n]`.
        num_tokens: tokens of all of them, at least 1.

    Returns:
        uint16 or int32 `[num_tokens]`.
    """
    data = b"".join(strings)
    return np.frombuffer(data, "<u2" if len(data) == 2 * num_tokens else "<i4")


# Encoding.


def _frame(messages: Iterable[bytes]) -> Records:
    """Puts length and checksums around messages and joins them."""
    parts, sizes = [], []
    for message in messages:
        parts += _header(len(message)), message, _checksum(message)
        sizes.append(_HEADER_BYTES + len(message) + _FOOTER_BYTES)
    return Records(b"".join(parts), np.array(sizes, np.int64))


@functools.lru_cache(maxsize=1 << 14)
def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + _checksum(packed)


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C, as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _varints(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Encodes rows of integers `[n, length]`; returns the bytes, and those of each row `[n]`."""
    width = max(1, -(-int(values.max()).bit_length() // 7))
    encoded = np.empty((*values.shape, width), np.uint8)
    used = np.empty(encoded.shape, bool)
    rest = values
    for place in range(width):
        used[..., place] = True if place == 0 else rest > 0
        more = rest >= 0x80
        encoded[..., place] = (rest & 0x7F) | (more.astype(values.dtype) << 7)
        rest = rest >> 7
    return encoded[used].tobytes(), used.sum(axis=(1, 2))


def _sliced(data: bytes, sizes: np.ndarray) -> list[bytes]:
    """Cuts bytes into strings of the given sizes `[n]`."""
    ends = np.cumsum(sizes)
    bounds = zip((ends - sizes).tolist(), ends.tolist(), strict=True)
    return [data[start:end] for start, end in bounds]


def _encoded_masks(examples: Examples) -> np.ndarray:
    """The features input_mask and segment_ids, uint8 `[n, size]`: their values take a byte each."""
    length = examples.input_ids.shape[1]
    columns = np.arange(length)
    real = columns < examples.lengths[:, None]
    second = real & (columns >= examples.first_lengths[:, None])
    parts = []
    for name, values in zip(FEATURES[1:], (real, second), strict=True):
        start = np.frombuffer(_feature_start(name, length), np.uint8)
        parts.append(np.broadcast_to(start, (len(values), len(start))))
        parts.append(values.astype(np.uint8))
    return np.concatenate(parts, axis=1)


@functools.lru_cache(maxsize=1 << 14)
def _example_start(id_size: int, max_seq_length: int) -> bytes:
    """Everything of an example before its ids, which take `id_size` bytes."""
    features = len(_feature_start(FEATURES[0], id_size)) + id_size
    for name in FEATURES[1:]:
        features += len(_feature_start(name, max_seq_length)) + max_seq_length
    return b"\x0a" + _varint(features) + _feature_start(FEATURES[0], id_size)


def _document(lengths: bytes, ids: bytes) -> bytes:
    """A document of encoded features; deterministic encoding sorts them by name."""
    entries = b"".join(
        [
            _feature_start(SENTENCE_LENGTHS, len(lengths)),
            lengths,
            _feature_start(TOKEN_IDS, len(ids), _BYTES_LIST),
            ids,
        ]
    )
    return b"\x0a" + _varint(len(entries)) + entries


@functools.lru_cache(maxsize=1 << 14)
def _feature_start(name: str, size: int, kind: bytes = _INT64_LIST) -> bytes:
    """The start of one entry of the feature map, up to its `size` bytes of packed values.

    Each level is a tag byte (field number << 3 | 2: a length follows) and the length of the rest:
    map entry 1 { key 1 = name, value 2 = Feature { int64_list 3 = { value 1 = packed varints }}};
    in place of the latter, bytes_list 1 = { value 1 = a byte string }.
    """
    values = b"\x0a" + _varint(size)
    values = kind + _varint(len(values) + size) + values
    feature = b"\x12" + _varint(len(values) + size) + values
    key = b"\x0a" + struct.pack("B", len(name)) + name.encode("ascii")
    return b"\x0a" + _varint(len(key) + len(feature) + size) + key + feature


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# Finding the records of a file, and whether it is whole.


class Record(NamedTuple):
    """Where one record lies: `offset` of its header and `length` of its data, both in bytes."""

    offset: int
    length: int

    @property
    def data_start(self) -> int:
        """The byte at which the data begins."""
        return self.offset + _HEADER_BYTES

    @property
    def end(self) -> int:
        """The byte after the record."""
        return self.data_start + self.length + _FOOTER_BYTES


def walk_records(path: str) -> Iterator[Record]:
    """Yields every record of a TFRecord file; looks at the lengths only, not at the data.

    That is enough to count the records and to notice a truncated or overwritten file. TensorFlow's
    reader verifies the checksums of the data.

    Raises:
        UserError: a length is damaged, or the file ends inside a record. The message names the file
            and the byte offset at which the damaged record begins.
    """
    size = files.size(path)
    with files.open_binary(path) as file:
        chunk, chunk_start, offset = b"", 0, 0
        while offset < size:
            if offset + _HEADER_BYTES > chunk_start + len(chunk):
                file.seek(offset)
                chunk, chunk_start = file.read(_CHUNK_BYTES), offset
            begin = offset - chunk_start
            header = chunk[begin : begin + _HEADER_BYTES]
            record = Record(offset, _checked_length(path, offset, header))
            if record.end > size:
                raise _truncated(path, offset, f"{record.end - size} bytes are missing at its end")
            yield record
            offset = record.end


def corrupt_data(path: str, record: Record) -> UserError:
    """The error for a record whose data doesn't match its checksum."""
    return UserError(
        "A TFRecord file is corrupt: the data of a record doesn't match its checksum.",
        where=f"{path}, in the record at byte {record.offset}",
        received=f"{record.length} bytes of data with another checksum",
        remedy="Build or copy this file again.",
    )


def _checked_length(path: str, offset: int, header: bytes) -> int:
    if len(header) < _HEADER_BYTES:
        raise _truncated(path, offset, f"{len(header)} bytes where a header of 12 should be")
    length, checksum = struct.unpack("<QI", header)
    if header != _header(length):
        raise UserError(
            "A TFRecord file is corrupt: the length of a record doesn't match its checksum.",
            where=f"{path}, byte {offset}",
            received=f"length {length}, checksum {checksum:#010x}",
            remedy=_REPLACE_FILE,
        )
    return length


def _truncated(path: str, offset: int, received: str) -> UserError:
    return UserError(
        "A TFRecord file is truncated: it ends inside a record.",
        where=f"{path}, in the record at byte {offset}",
        received=received,
        remedy=_REPLACE_FILE,
    )
