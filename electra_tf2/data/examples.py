"""Plans of examples -> arrays -> the bytes of a TFRecord file.

A record is a `tf.train.Example` with the int64 features `input_ids`, `input_mask` and
`segment_ids`, as the official program writes it. The protocol buffer is encoded with NumPy for all
examples of a batch together, several times faster than message objects; the bytes are those that
`SerializeToString(deterministic=True)` gives.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data import crc32c
from electra_tf2.data.segments import ExamplePlan

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
    checksums = crc32c.masked(crc32c.crc32c_rows(messages, lengths)).astype("<u4")
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
    checksums = crc32c.crc32c_rows(np.ascontiguousarray(headers[:, :8]), np.full(len(lengths), 8))
    headers[:, 8:] = crc32c.masked(checksums).astype("<u4")[:, None].view(np.uint8)
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
