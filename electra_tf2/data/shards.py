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


def shard_examples(total: int, index: int, num_shards: int) -> int:
    """How many of `total` examples, dealt in turn, a shard has."""
    return total // num_shards + (index < total % num_shards)


class DealtRecords:
    """Records in memory, dealt to shards in turn, so that neighbours in the corpus part.

    Args:
        num_shards: Number of shards.

    Attributes:
        buffers: The records of each shard, framed, in order.
        num_examples: How many records have been dealt.
        size: Their bytes since the last `clear`.
    """

    def __init__(self, num_shards: int):
        self.buffers = [bytearray() for _ in range(num_shards)]
        self.num_examples = 0
        self.size = 0

    def deal(self, records: Records) -> None:
        """Deals the next records; goes on at the shard after the last one."""
        shard = self.num_examples % len(self.buffers)
        view = memoryview(records.data)
        start = 0
        for end in np.cumsum(records.sizes).tolist():
            self.buffers[shard] += view[start:end]
            start = end
            shard += 1
            if shard == len(self.buffers):
                shard = 0
        self.num_examples += len(records.sizes)
        self.size += len(records.data)

    def clear(self) -> None:
        """Empties the buffers; the turn stays where it is."""
        for buffer in self.buffers:
            buffer.clear()
        self.size = 0


class ShardWriter:
    """Deals records to the files of a data set.

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
        self._dealt = DealtRecords(num_shards)
        self._sizes = [0] * num_shards
        self._remote: dict[str, BinaryIO] = {}
        for path in self._paths:
            self._append(path, b"")

    def write(self, records: Records) -> None:
        """Writes the next records.

        Args:
            records: Framed records, in order.
        """
        self._dealt.deal(records)
        if self._dealt.size >= _BUFFERED_BYTES:
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
                examples=shard_examples(self._dealt.num_examples, index, count),
                bytes=self._sizes[index],
            )
            for index, path in enumerate(self._paths)
        )

    def _flush(self) -> None:
        for index, (path, buffer) in enumerate(zip(self._paths, self._dealt.buffers, strict=True)):
            if buffer:
                self._append(path, bytes(buffer))
                self._sizes[index] += len(buffer)
        self._dealt.clear()

    def _append(self, path: str, content: bytes) -> None:
        if files.is_local(path):
            with open(path, "ab") as file:
                file.write(content)
            return
        with files.reported_as_os_errors(path):
            if path not in self._remote:  # object stores can't append to a finished file
                self._remote[path] = files.open_binary(path, "wb")
            self._remote[path].write(content)
