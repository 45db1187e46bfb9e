"""Named arrays in safetensors files.

The safetensors package's NumPy functions have no bfloat16 and build the whole file in memory; the
format is a length, a JSON header and the arrays' bytes (https://github.com/huggingface/safetensors),
so files are written array by array here. Reading leaves the checks to the package.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import durable_file

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


class Fingerprint(NamedTuple):
    """What a file is recognized by.

    Attributes:
        bytes: Its size.
        crc32: CRC-32 of its content.
    """

    bytes: int
    crc32: int


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> Fingerprint:
    """Writes arrays to a safetensors file and syncs it.

    Args:
        path: The file; an existing one is replaced.
        arrays: Arrays by name, of a boolean, integer or floating dtype (bfloat16 included).

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
        for chunk in (_header(ordered), *chunks):
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
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
    except tf.errors.OpError as error:
        raise UserError(
            "A file with arrays can't be read.", where=path, received=error.message
        ) from error
    if expected is not None and len(content) != expected.bytes:
        raise _corrupt(path, f"{len(content)} bytes instead of {expected.bytes}")
    if expected is not None and zlib.crc32(content) != expected.crc32:
        raise _corrupt(path, "bytes that differ from those that were written (checksum)")
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise _corrupt(path, str(error)) from error
    return {name: _array(path, name, entry) for name, entry in entries}


def _header(arrays: Mapping[str, np.ndarray]) -> bytes:
    entries, end = {}, 0
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


def _array(path: str, name: str, entry: Mapping) -> np.ndarray:
    if entry["dtype"] not in _DTYPES:
        raise UserError(
            "A file holds an array of a type that can't be read.",
            where=path,
            received=f"{name}: {entry['dtype']}",
        )
    return np.frombuffer(bytearray(entry["data"]), _DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _corrupt(path: str, received: str) -> UserError:
    return UserError("A file is truncated or corrupt.", where=path, received=received)
