"""Dealing serialized examples to the TFRecord files of a data set."""

from __future__ import annotations

import concurrent.futures
import os
from typing import BinaryIO

import numpy as np

from electra_tf2.data import files
from electra_tf2.data.examples import Records
from electra_tf2.data.metadata import Shard

_BUFFERED_BYTES = 64 << 20
_SYNC_THREADS = 8


def shard_name(index: int, num_shards: int) -> str:
    """The name of a shard, as the official program has it."""
    return f"pretrain_data.tfrecord-{index}-of-{num_shards}"


class ShardWriter:
    """Deals records to shards in turn, so that neighbours in the corpus part.

    Records wait in memory, 64 MB in all, and are appended to the files many at a time. Local files
    are open only while that happens: a thousand shards are more than many systems let a process
    have open.

    Args:
        directory: An existing folder.
        num_shards: Number of files; all are made, even those that get no record.

    Raises:
        OSError: A file can't be made; later, from the methods: it can't be written.
    """

    def __init__(self, directory: str, num_shards: int):
        self._paths = [
            os.path.join(directory, shard_name(index, num_shards)) for index in range(num_shards)
        ]
        self._buffers = [bytearray() for _ in range(num_shards)]
        self._buffered = 0
        self._sizes = [0] * num_shards
        self._written = 0
        self._remote: dict[str, BinaryIO] = {}
        for path in self._paths:
            self._append(path, b"")

    def write(self, records: Records) -> None:
        """Writes the next records.

        Args:
            records: Framed records, in order.
        """
        shard = self._written % len(self._buffers)
        view = memoryview(records.data)
        start = 0
        for end in np.cumsum(records.sizes).tolist():
            self._buffers[shard] += view[start:end]
            start = end
            shard += 1
            if shard == len(self._buffers):
                shard = 0
        self._written += len(records.sizes)
        self._buffered += len(records.data)
        if self._buffered >= _BUFFERED_BYTES:
            self._flush()

    def finish(self) -> tuple[Shard, ...]:
        """Writes what waits, and returns when all is on the disk.

        Returns:
            The shards with their counts and sizes.
        """
        self._flush()
        for path, file in self._remote.items():
            with files.reported_as_os_errors(path):
                file.close()
        with concurrent.futures.ThreadPoolExecutor(_SYNC_THREADS) as threads:
            list(threads.map(files.sync, self._paths))
        count = len(self._paths)
        return tuple(
            Shard(
                name=os.path.basename(path),
                examples=self._written // count + (index < self._written % count),
                bytes=self._sizes[index],
            )
            for index, path in enumerate(self._paths)
        )

    def _flush(self) -> None:
        for index, (path, buffer) in enumerate(zip(self._paths, self._buffers, strict=True)):
            if buffer:
                self._append(path, bytes(buffer))
                self._sizes[index] += len(buffer)
                buffer.clear()
        self._buffered = 0

    def _append(self, path: str, content: bytes) -> None:
        if files.is_local(path):
            with open(path, "ab") as file:
                file.write(content)
            return
        with files.reported_as_os_errors(path):
            if path not in self._remote:  # object stores can't append to a finished file
                self._remote[path] = files.open_binary(path, "wb")
            self._remote[path].write(content)
