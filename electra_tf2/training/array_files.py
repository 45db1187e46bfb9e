"""Named arrays in safetensors files.

The safetensors package's NumPy functions have no bfloat16 and hold the whole file in memory beside
the arrays; the format is a length, a JSON header and the arrays' bytes
(https://github.com/huggingface/safetensors), so files are written and read array by array here.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.files import durable_file, is_local

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8  # of the first array, by the format
_LENGTH_BYTES = 8  # of the header's length, which comes first
_METADATA = "__metadata__"
_MAX_AXES = 64  # of NumPy's arrays
_MAX_SIZE = 1 << 59  # elements that can be counted in bytes, of 8 each at most


class Fingerprint(NamedTuple):
    """What a file is recognized by.

    Attributes:
        bytes: Its size.
        crc32: CRC-32 of its content.
    """

    bytes: int
    crc32: int


def write_arrays(
    path: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Fingerprint:
    """Writes arrays to a safetensors file and syncs it.

    Args:
        path: The file; an existing one is replaced.
        arrays: Arrays by name, of a boolean, integer or floating dtype (bfloat16 included). Those
            that don't lie in C order, such as transposed ones, are copied one at a time.
        metadata: What the header says besides, such as {"format": "pt"}.

    Returns:
        The file's fingerprint.

    Raises:
        TypeError: If an array's dtype has no name in the format.
        OSError: If the file can't be written.
    """
    ordered = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    size = crc = 0
    with durable_file(path) as file:
        chunks = (_bytes(array) for array in ordered.values())
        for chunk in itertools.chain([_header(ordered, metadata)], chunks):
            file.write(chunk)
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return Fingerprint(size, crc)


def read_arrays(path: str, expected: Fingerprint | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file.

    Args:
        path: The file.
        expected: The fingerprint it has to have; None to check the format only.

    Returns:
        Writable arrays by name.

    Raises:
        UserError: If the file is missing, truncated or corrupt; names it.
    """
    try:
        size = tf.io.gfile.stat(path).length
        if expected is not None and size != expected.bytes:
            raise _corrupt(path, f"{size} bytes instead of {expected.bytes}")
        with open(path, "rb") if is_local(path) else tf.io.gfile.GFile(path, "rb") as file:
            return _read(path, file, size, expected)
    except (OSError, tf.errors.OpError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else error.strerror
        raise UserError("A file with arrays can't be read.", where=path, received=reason) from error


def _read(
    path: str, file: IO[bytes], size: int, expected: Fingerprint | None
) -> dict[str, np.ndarray]:
    start = file.read(_LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
        raise _corrupt(path, f"{size} bytes, which end before the header does")
    text = file.read(length)
    crc = zlib.crc32(text, zlib.crc32(start))
    arrays = {}
    for name, dtype, shape in _entries(path, text, size - _LENGTH_BYTES - length):
        arrays[name] = np.empty(shape, dtype)
        view = _bytes(arrays[name])
        if _fill(file, view) != len(view):
            raise _corrupt(path, f"bytes that end within {name}")
        crc = zlib.crc32(view, crc)
    if expected is not None and crc != expected.crc32:
        raise _corrupt(path, "bytes that differ from those that were written (checksum)")
    return arrays


def _entries(path: str, text: bytes, num_bytes: int) -> list[tuple[str, np.dtype, list[int]]]:
    """Returns name, dtype and shape of a header's arrays in the order that they lie in.

    Raises:
        UserError: the header is none, or its arrays don't fill `num_bytes` from start to end.
    """
    try:
        header = json.loads(text)
        header.pop(_METADATA, None)
        rows = sorted((*entry["data_offsets"], name, entry) for name, entry in header.items())
        entries, place = [], 0
        for start, end, name, entry in rows:
            dtype, shape = _dtype(path, name, entry), list(entry["shape"])
            if not _is_shape(shape):
                raise ValueError(f"{name} has the shape {shape}")
            if start != place or end - start != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} has not as many bytes as its shape needs")
            entries.append((name, dtype, shape))
            place = end
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(path, f"a header that can't be understood ({error})") from error
    if place != num_bytes:
        raise _corrupt(path, f"{num_bytes} bytes of arrays instead of {place}")
    return entries


def _is_shape(shape: list[Any]) -> bool:
    """Whether NumPy can have an array of a shape, whose product may be 0."""
    sizes = all(type(size) is int and 0 <= size <= _MAX_SIZE for size in shape)
    return sizes and len(shape) <= _MAX_AXES and math.prod(filter(None, shape)) <= _MAX_SIZE


def _fill(file: IO[bytes], view: memoryview) -> int:
    """Reads as many bytes as a view has; returns how many there were."""
    if hasattr(file, "readinto"):
        return file.readinto(view)
    content = file.read(len(view))
    view[: len(content)] = content
    return len(content)


def _header(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise TypeError(f"Arrays of dtype {array.dtype} can't be saved. Received: {name}")
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _bytes(array: np.ndarray) -> memoryview:
    """The array's bytes in C order, without a copy if it lies so already."""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _dtype(path: str, name: str, entry: Mapping[str, Any]) -> np.dtype:
    if entry["dtype"] not in _DTYPES:
        raise UserError(
            "A file holds an array of a type that can't be read.",
            where=path,
            received=f"{name}: {entry['dtype']}",
        )
    return np.dtype(_DTYPES[entry["dtype"]])


def _corrupt(path: str, received: str) -> UserError:
    return UserError("A file is truncated or corrupt.", where=path, received=received)
