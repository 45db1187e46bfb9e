"""Named arrays in safetensors files.

The format (https://github.com/huggingface/safetensors) is a length, a JSON header and the arrays'
bytes. The safetensors package isn't used because its NumPy functions have no bfloat16, copy every
array before they write the first, and know local files only. This module writes and reads array by
array, wherever `electra_tf2.files` reaches (`gs://…`), takes a checksum on the way, and its errors
name the file.
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

from electra_tf2 import files
from electra_tf2.errors import UserError
from electra_tf2.stored_json import LARGEST, shown

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
_MAX_HEADER_BYTES = 100_000_000  # as the safetensors package has it
_MAX_DIMENSIONS = 32  # NumPy 1's limit, larger than any model's
_METADATA = "__metadata__"


class Fingerprint(NamedTuple):
    """What a file is recognized by.

    Attributes:
        bytes: its size.
        crc32: CRC-32 of its content.
    """

    bytes: int
    crc32: int


def write_arrays(
    path: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Fingerprint:
    """Writes arrays to a safetensors file and syncs it.

    Args:
        path: the file; an existing one is replaced.
        arrays: arrays by name, of a boolean, integer or floating dtype (bfloat16 included). Those
            that are not in C order, such as transposed ones, are copied one at a time.
        metadata: further strings for the header, such as {"format": "pt"}.

    Returns:
        The file's fingerprint.

    Raises:
        TypeError: an array's dtype has no name in the format.
        OSError: the file can't be written.
    """
    ordered = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    size = crc = 0
    with files.durable_file(path) as file:
        chunks = (_bytes(array) for array in ordered.values())
        for chunk in itertools.chain([_header(ordered, metadata)], chunks):
            file.write(chunk if files.is_local(path) else bytes(chunk))  # `tf.io.gfile` wants bytes
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return Fingerprint(size, crc)


def read_arrays(path: str, expected: Fingerprint | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file.

    Args:
        expected: the fingerprint it must have; None to check the format only.

    Returns:
        Writable arrays by name.

    Raises:
        UserError: the file is missing, truncated or corrupt; names it.
    """
    try:
        size = files.size(path)
        if expected is not None and size != expected.bytes:
            raise _corrupt(path, f"{size} bytes instead of {expected.bytes}")
        with files.reported_as_os_errors(path), files.open_binary(path) as file:
            return _read(path, file, size, expected)
    except OSError as error:
        raise UserError(
            "A file with arrays can't be read.", where=path, received=files.reason(error)
        ) from error


def _read(
    path: str, file: IO[bytes], size: int, expected: Fingerprint | None
) -> dict[str, np.ndarray]:
    start = file.read(_LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
        raise _corrupt(path, f"{size} bytes, which end before the header does")
    if length > _MAX_HEADER_BYTES:
        raise _corrupt(path, f"a header of {length} bytes; {_MAX_HEADER_BYTES} are possible")
    text = file.read(length)
    crc = zlib.crc32(text, zlib.crc32(start))
    arrays = _empty_arrays(path, text, size - _LENGTH_BYTES - length)
    for name, array in arrays.items():
        view = _bytes(array)
        if _fill(file, view) != len(view):
            raise _corrupt(path, f"bytes that end within {name}")
        crc = zlib.crc32(view, crc)
    if expected is not None and crc != expected.crc32:
        raise _corrupt(path, "bytes that differ from those that were written (checksum)")
    return arrays


def _empty_arrays(path: str, text: bytes, num_bytes: int) -> dict[str, np.ndarray]:
    """Returns room for the arrays that a header describes, which must fill the file's bytes."""
    entries = _entries(path, text)
    arrays, place = {}, 0
    for start, end, name, entry in entries:
        if start != place or end - start != math.prod(entry.shape) * entry.dtype.itemsize:
            raise _corrupt(path, f"bytes of {name} that don't match its shape {entry.shape}")
        place = end
    if place != num_bytes:
        raise _corrupt(path, f"{num_bytes} bytes of arrays instead of {place}")
    # Only now: what a header asks for is not made before the bytes are known to be there.
    for _, _, name, entry in entries:
        try:
            arrays[name] = np.empty(entry.shape, entry.dtype)
        except (ValueError, MemoryError) as error:
            raise _corrupt(path, f"{name} of the shape {entry.shape}: {error}") from error
    return arrays


class _Entry(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]


def _entries(path: str, text: bytes) -> list[tuple[int, int, str, _Entry]]:
    """Returns the arrays of a header, sorted by their places: start, end, name, kind."""
    try:
        header = json.loads(text)
        header.pop(_METADATA, None)
        found = []
        for name, stored in header.items():
            start, end = _sizes(stored["data_offsets"])
            dtype, shape = _dtype(path, name, stored), _sizes(stored["shape"])
            if len(shape) > _MAX_DIMENSIONS:
                raise ValueError(f"{name} has {len(shape)} dimensions")
            found.append((start, end, name, _Entry(dtype, shape)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(path, f"a header that can't be understood ({error})") from error
    return sorted(found, key=lambda entry: entry[:3])


def _sizes(values: Any) -> tuple[int, ...]:
    """Checks numbers of bytes or rows."""
    if not isinstance(values, list) or not all(
        type(v) is int and 0 <= v <= LARGEST for v in values
    ):
        raise ValueError(f"{shown(values)} where sizes should be")
    return tuple(values)


def _fill(file: IO[bytes], view: memoryview) -> int:
    """Reads as many bytes as a view has; returns how many there were."""
    readinto = getattr(file, "readinto", None)
    if readinto is not None:
        return readinto(view)
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
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _bytes(array: np.ndarray) -> memoryview:
    """The array's bytes in C order; copied only if the array is not in C order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _dtype(path: str, name: str, entry: Mapping[str, Any]) -> np.dtype:
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise UserError(
            "A file holds an array of a type that can't be read.",
            where=path,
            received=f"{name}: {shown(entry['dtype'])}",
        )
    return np.dtype(_DTYPES[entry["dtype"]])


def _corrupt(path: str, received: str) -> UserError:
    return UserError("A file is truncated or corrupt.", where=path, received=received)
