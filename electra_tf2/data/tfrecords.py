"""Plans of examples -> arrays -> the bytes of a TFRecord file.

A record is a `tf.train.Example` with the int64 features `input_ids`, `input_mask` and
`segment_ids`, as the official program writes it. The protocol buffer is encoded with NumPy for all
examples of a batch together, several times faster than message objects; the bytes are those that
`SerializeToString(deterministic=True)` gives.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2 import files
from electra_tf2.data.segments import ExamplePlan
from electra_tf2.errors import UserError

# CRC-32C of many byte strings at once: the checksum that TFRecords carry.
#
# The checksum is computed column by column over a matrix with one string per row, so that a few
# hundred NumPy operations serve thousands of strings. Strings of very different lengths are cut
# into blocks, whose checksums are computed so and then joined.


_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reflected
_ALL_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8  # TFRecord's masking, tensorflow/core/lib/hash/crc32c.h
_BLOCK_BYTES = 128  # a multiple of 4


def crc32c_rows(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """CRC-32C of strings that are right-aligned in the rows of a matrix.

    Args:
        rows: uint8 `[n, width]`, width a multiple of 4; row i holds its string in the last
            `lengths[i]` columns and zeros before. Not changed.
        lengths: Integers `[n]`, at least 4 each.

    Returns:
        uint32 `[n]`.

    Raises:
        ValueError: The width or a length is not as described.
    """
    count, width = rows.shape
    if width % 4 or (count and int(lengths.min()) < 4):
        raise ValueError(
            "Rows must be a multiple of 4 wide, strings at least 4 long. "
            f"Received: width {width}, shortest {lengths.min() if count else None}"
        )
    # Starting from all ones equals starting from zero with the first four bytes inverted, and
    # leading zeros leave a checksum of zero as it is: strings of all lengths go in step.
    inverted = rows.copy()
    starts = (width - lengths)[:, None] + np.arange(4)
    inverted[np.arange(count)[:, None], starts] ^= 0xFF
    words = np.ascontiguousarray(inverted.view("<u4").T)
    return _through(words, _word_tables()) ^ np.uint32(_ALL_ONES)


def crc32c_strings(strings: Sequence[bytes]) -> np.ndarray:
    """CRC-32C of strings of any lengths.

    Args:
        strings: The strings, at least 4 bytes each.

    Returns:
        uint32 `[n]`.

    Raises:
        ValueError: A string is too short.
    """
    if not strings:
        return np.zeros(0, np.uint32)
    if (shortest := min(map(len, strings))) < 4:
        raise ValueError(f"Strings must be at least 4 bytes long. Received: {shortest} bytes")
    # As above, with zeros before each string up to a whole number of blocks.
    blocks = np.array([-(-len(string) // _BLOCK_BYTES) for string in strings])
    last = np.cumsum(blocks)
    padded = bytearray(int(last[-1]) * _BLOCK_BYTES)
    for string, end in zip(strings, (last * _BLOCK_BYTES).tolist(), strict=True):
        padded[end - len(string) : end] = string
    rows = np.frombuffer(padded, np.uint8)
    starts = last * _BLOCK_BYTES - np.array([len(string) for string in strings])
    rows[starts[:, None] + np.arange(4)] ^= 0xFF
    words = np.ascontiguousarray(rows.view("<u4").reshape(int(last[-1]), -1).T)
    by_block = _through(words, _word_tables())
    # Right-aligned by block, so that the strings go in step again.
    most = int(blocks.max())
    aligned = np.zeros((most, len(strings)), np.uint32)
    place = np.arange(int(last[-1])) - np.repeat(last, blocks) + most
    aligned[place, np.repeat(np.arange(len(strings)), blocks)] = by_block
    crc = np.zeros(len(strings), np.uint32)
    low_table, high_table = _block_tables()
    for block in aligned:
        crc = low_table[crc & 0xFFFF] ^ high_table[crc >> 16] ^ block
    return crc ^ np.uint32(_ALL_ONES)


def _through(words: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The checksums after columns of 4-byte words `[words, n]`, without any inversion."""
    low_table, high_table = tables
    count = words.shape[1]
    crc = np.zeros(count, "<u4")
    low_half, high_half = crc.view("<u2").reshape(count, 2).T
    for word in words:
        crc ^= word
        # "wrap" only because it is quicker than to check indices that can't be out of range.
        low, high = low_table.take(low_half, mode="wrap"), high_table.take(high_half, mode="wrap")
        np.bitwise_xor(low, high, out=crc)
    return crc.astype(np.uint32)


def masked(crc: np.ndarray) -> np.ndarray:
    """The form in which TFRecord files store a checksum (uint32, any shape)."""
    return ((crc >> 15) | (crc << 17)) + np.uint32(_MASK_DELTA)


@functools.cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the low and the high half of a 4-byte word add to the checksum after the word."""
    after = np.arange(256, dtype=np.uint32)  # after a byte, then after 1, 2 and 3 zeros more
    for _ in range(8):
        after = (after >> 1) ^ np.where(after & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    byte_table = after
    by_zeros = [byte_table]
    for _ in range(3):
        after = (after >> 8) ^ byte_table[after & 0xFF]
        by_zeros.append(after)
    halves = np.arange(1 << 16)
    low = by_zeros[3][halves & 0xFF] ^ by_zeros[2][halves >> 8]
    high = by_zeros[1][halves & 0xFF] ^ by_zeros[0][halves >> 8]
    return low, high


@functools.cache
def _block_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the low and the high half of a checksum become after a block of zeros."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    words = np.zeros((_BLOCK_BYTES // 4, 32), np.uint32)
    words[0] = bits  # a checksum is xor-ed with the word that follows
    after = _through(words, _word_tables())
    halves = np.arange(1 << 16, dtype=np.uint32)
    low, high = np.zeros_like(halves), np.zeros_like(halves)
    for bit in range(16):
        is_set = (halves >> bit & 1).astype(bool)
        low ^= np.where(is_set, after[bit], np.uint32(0))
        high ^= np.where(is_set, after[16 + bit], np.uint32(0))
    return low, high


FEATURES = ("input_ids", "input_mask", "segment_ids")  # in the order of their encoding

# Tags of the two kinds of features.
INT64_LIST, BYTES_LIST = b"\x1a", b"\x0a"

_HEADER_BYTES = 12  # of a record: length and its checksum
_FOOTER_BYTES = 4  # the checksum of the data


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
    """Serialized examples.

    Attributes:
        data: The records one after the other, framed as in a TFRecord file.
        sizes: int64 `[n]`: the bytes of each record with its framing.
    """

    data: bytes
    sizes: np.ndarray


def assemble_examples(
    plans: Sequence[ExamplePlan], values: np.ndarray, max_seq_length: int, cls_id: int, sep_id: int
) -> Examples:
    """Puts the tokens of plans together.

    Args:
        plans: What to take.
        values: int32 `[total]`, the token ids that the plans' spans refer to.
        max_seq_length: Length of an example.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].

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
    """Encodes examples as framed `tf.train.Example` records.

    Args:
        examples: The examples; ids are not negative.

    Returns:
        The records, in order.
    """
    count, max_seq_length = examples.input_ids.shape
    if not count:
        return Records(b"", np.zeros(0, np.int64))
    id_bytes, id_used = varints(examples.input_ids)
    id_sizes = id_used.sum(axis=1)
    prefixes, prefix_sizes = _prefixes(id_sizes, max_seq_length)
    masks = _masks(examples, max_seq_length)
    lengths = prefix_sizes + id_sizes + masks.shape[1]

    # Messages are right-aligned, as the checksums want them, with room for the framing around.
    margin = _HEADER_BYTES + prefixes.shape[1]
    masks_start = margin + -(-int(id_sizes.max() + masks.shape[1]) // 4) * 4 - masks.shape[1]
    framed = np.zeros((count, masks_start + masks.shape[1] + _FOOTER_BYTES), np.uint8)
    ids_start = (masks_start - id_sizes)[:, None]
    framed[:, masks_start:-_FOOTER_BYTES] = masks
    columns = np.arange(masks_start)
    framed[:, :masks_start][columns >= ids_start] = id_bytes[id_used]
    rows = np.arange(count)[:, None]
    framed[rows, ids_start - prefixes.shape[1] + np.arange(prefixes.shape[1])] = prefixes
    return _frame(framed, lengths)


def _frame(framed: np.ndarray, lengths: np.ndarray) -> Records:
    """Puts length and checksums around right-aligned messages and joins them."""
    messages = framed[:, _HEADER_BYTES:-_FOOTER_BYTES]
    checksums = masked(crc32c_rows(messages, lengths)).astype("<u4")
    framed[:, -_FOOTER_BYTES:] = checksums[:, None].view(np.uint8)
    margins = (messages.shape[1] - lengths)[:, None]
    rows = np.arange(len(lengths))[:, None]
    framed[rows, margins + np.arange(_HEADER_BYTES)] = headers(lengths)
    kept = np.arange(framed.shape[1]) >= margins
    return Records(framed[kept].tobytes(), lengths + (_HEADER_BYTES + _FOOTER_BYTES))


def headers(lengths: np.ndarray) -> np.ndarray:
    """The record headers, uint8 `[n, 12]`."""
    headers = np.empty((len(lengths), _HEADER_BYTES), np.uint8)
    headers[:, :8] = lengths.astype("<i8")[:, None].view(np.uint8)
    checksums = crc32c_rows(np.ascontiguousarray(headers[:, :8]), np.full(len(lengths), 8))
    headers[:, 8:] = masked(checksums).astype("<u4")[:, None].view(np.uint8)
    return headers


def varints(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The varints of ids, padded to the width of the longest, and which bytes are theirs.

    Returns:
        uint8 and bool `[n, length * width]`.
    """
    width = max(1, -(-int(ids.max()).bit_length() // 7))
    encoded = np.empty((*ids.shape, width), np.uint8)
    used = np.empty(encoded.shape, bool)
    rest = ids
    for place in range(width):
        used[..., place] = True if place == 0 else rest > 0
        more = rest >= 0x80
        encoded[..., place] = (rest & 0x7F) | (more.astype(ids.dtype) << 7)
        rest = rest >> 7
    return encoded.reshape(len(ids), -1), used.reshape(len(ids), -1)


def _masks(examples: Examples, max_seq_length: int) -> np.ndarray:
    """The encoded features input_mask and segment_ids: values of one byte, so constant in size."""
    columns = np.arange(max_seq_length)
    real = columns < examples.lengths[:, None]
    second = real & (columns >= examples.first_lengths[:, None])
    parts = []
    for name, values in zip(FEATURES[1:], (real, second), strict=True):
        start = np.frombuffer(feature_start(name, max_seq_length), np.uint8)
        parts.append(np.broadcast_to(start, (len(values), len(start))))
        parts.append(values.astype(np.uint8))
    return np.concatenate(parts, axis=1)


def _prefixes(id_sizes: np.ndarray, max_seq_length: int) -> tuple[np.ndarray, np.ndarray]:
    """What stands before the ids of each example, right-aligned, and its sizes.

    The width is a multiple of 4.
    """
    sizes, inverse = np.unique(id_sizes, return_inverse=True)
    texts = [_example_start(int(size), max_seq_length) for size in sizes]
    width = -(-max(map(len, texts)) // 4) * 4
    table = np.frombuffer(b"".join(text.rjust(width, b"\0") for text in texts), np.uint8)
    text_sizes = np.array([len(text) for text in texts])
    return table.reshape(len(texts), width)[inverse], text_sizes[inverse]


@functools.lru_cache(maxsize=1 << 14)
def _example_start(id_size: int, max_seq_length: int) -> bytes:
    """Everything of an example before its ids, which take `id_size` bytes."""
    features = len(feature_start(FEATURES[0], id_size)) + id_size
    for name in FEATURES[1:]:
        features += len(feature_start(name, max_seq_length)) + max_seq_length
    return b"\x0a" + varint(features) + feature_start(FEATURES[0], id_size)


@functools.lru_cache(maxsize=1 << 14)
def feature_start(name: str, size: int, kind: bytes = INT64_LIST) -> bytes:
    """The start of one entry of the feature map, up to its `size` bytes of packed values.

    Each level is a tag byte (field number << 3 | 2: a length follows) and the length of the rest:
    map entry 1 { key 1 = name, value 2 = Feature { int64_list 3 = { value 1 = packed varints }}};
    in place of the latter, bytes_list 1 = { value 1 = a byte string }.
    """
    values = b"\x0a" + varint(size)
    values = kind + varint(len(values) + size) + values
    feature = b"\x12" + varint(len(values) + size) + values
    key = b"\x0a" + struct.pack("B", len(name)) + name.encode("ascii")
    return b"\x0a" + varint(len(key) + len(feature) + size) + key + feature


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


# Tokenized documents as TFRecords.
#
# A record is a `tf.train.Example` with two features: `sentence_lengths`, integers, the number of
# tokens of each sentence; and `token_ids`, one string of bytes, the tokens of all sentences without
# [CLS] and [SEP] one after the other, each in 2 bytes (little-endian), or in 4 where the vocabulary
# has more than 65,536 pieces. (Integer features would take as much space, and longer to parse than
# cutting takes.) The bytes are those that `SerializeToString(deterministic=True)` gives.


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
    checksums = masked(crc32c_strings(messages)).astype("<u4")
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


# The framing of TFRecord files: where each record starts, and whether the file is whole.
#
# A record is an 8-byte little-endian length, the masked CRC-32C of these 8 bytes, the data, and
# the masked CRC-32C of the data (4 bytes each). The walk below looks at the lengths only, which
# is enough to count the records and to notice a truncated or overwritten file; to verify all of
# the data, let TensorFlow's reader read the file through: it computes the checksums in C++.


_CHUNK_BYTES = 8 << 20
_BUILD_AGAIN = "Build or copy this file again: everything from this byte on is unreadable."


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
    """Yields every record of a TFRecord file without reading its data into Python objects.

    Args:
        path: The file; anything `electra_tf2.files` opens.

    Raises:
        UserError: A length is damaged, or the file ends inside a record. The message names the file
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
            record = Record(offset, _checked_length(path, offset, chunk[begin : begin + 12]))
            if record.end > size:
                raise _truncated(path, offset, f"{record.end - size} bytes are missing at its end")
            yield record
            offset = record.end


def read_data(path: str, record: Record) -> bytes:
    """The data of one record.

    Args:
        path: The file.
        record: A record of it.

    Raises:
        UserError: The data does not fit its checksum.
    """
    with files.open_binary(path) as file:
        file.seek(record.data_start)
        data, checksum = file.read(record.length), file.read(_FOOTER_BYTES)
    if len(data) < 4:
        return data  # Too short for the checksum below, and for an example.
    if struct.pack("<I", _masked_crc32c(data)) != checksum:
        raise corrupt_data(path, record)
    return data


def corrupt_data(path: str, record: Record) -> UserError:
    """The error for a record whose data does not fit its checksum."""
    return UserError(
        "A TFRecord file is corrupt: the data of a record does not fit its checksum.",
        where=f"{path}, in the record at byte {record.offset}",
        received=f"{record.length} bytes of data with another checksum",
        remedy="Build or copy this file again.",
    )


def _checked_length(path: str, offset: int, header: bytes) -> int:
    if len(header) < _HEADER_BYTES:
        raise _truncated(path, offset, f"{len(header)} bytes where a header of 12 should be")
    length, checksum = struct.unpack("<QI", header)
    if checksum != _cached_masked_crc32c(header[:8]):
        raise UserError(
            "A TFRecord file is corrupt: the length of a record does not fit its checksum.",
            where=f"{path}, byte {offset}",
            received=f"length {length}, checksum {checksum:#010x}",
            remedy=_BUILD_AGAIN,
        )
    return length


def _truncated(path: str, offset: int, received: str) -> UserError:
    return UserError(
        "A TFRecord file is truncated: it ends inside a record.",
        where=f"{path}, in the record at byte {offset}",
        received=received,
        remedy=_BUILD_AGAIN,
    )


@functools.lru_cache(maxsize=1 << 16)
def _cached_masked_crc32c(data: bytes) -> int:
    """For headers: the lengths of a file's records repeat."""
    return _masked_crc32c(data)


def _masked_crc32c(data: bytes) -> int:
    """The checksum of at least 4 bytes as TFRecords store it."""
    padding = -len(data) % 4
    row = np.frombuffer(bytes(padding) + data, np.uint8)[None]
    return int(masked(crc32c_rows(row, np.array([len(data)])))[0])
