"""The framing of TFRecord files: where each record starts, and whether the file is whole.

A record is an 8-byte little-endian length, the masked CRC-32C of these 8 bytes, the data, and the
masked CRC-32C of the data (4 bytes each). The walk below looks at the lengths only, which is enough
to count the records and to notice a truncated or overwritten file; to verify all of the data, let
TensorFlow's reader read the file through: it computes the checksums in C++.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from electra_tf2.data import files
from electra_tf2.data.crc32c import crc32c_rows, masked
from electra_tf2.errors import UserError

from electra_tf2.data.examples import _FOOTER_BYTES, _HEADER_BYTES
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
        path: The file; anything `electra_tf2.data.files` opens.

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
