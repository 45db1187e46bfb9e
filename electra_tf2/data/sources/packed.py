"""What a corpus file is, by the ending of its name; and text that is unpacked while it is read."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal, NamedTuple

from electra_tf2.data.sources.chunks import CHUNK_BYTES, decoded
from electra_tf2.data.sources.found import CorpusFile, opened
from electra_tf2.errors import UserError, path_quoted
from electra_tf2.text.plain_text import check_plain_text

Format = Literal["text", "json", "csv", "tsv", "parquet", "arrow"]
Packing = Literal["", "gzip", "bzip2", "xz", "zstd"]

_FORMATS: dict[str, Format] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_PACKINGS: dict[str, Packing] = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
}
_MARKUP: tuple[Format, ...] = ("json", "csv", "tsv")
_DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError)
_PACKED_BYTES = 1 << 15  # read at a time: as little may be a thousand times as much text
_UNPACKED_BYTES = 1 << 18  # at a time, where it can be limited: bzip2 packs a million to one
_LARGEST_WINDOW = 1 << 31  # of zstd --long=31


class Kind(NamedTuple):
    """What a file is.

    Attributes:
        format: what it holds once it is unpacked.
        packing: the program that packed it, or "".
    """

    format: Format
    packing: Packing

    @property
    def has_records(self) -> bool:
        """Whether each document is a record of its own."""
        return self.format != "text"


PLAIN_TEXT = Kind("text", "")
"""Text as it lies on the disk."""


def kind_of(name: str, *, as_plain_text: bool = False) -> Kind:
    """Returns what a file is by its name.

    Args:
        name: the file's name; capitals don't matter.
        as_plain_text: take JSON lines and tables for the text that they are.
    """
    stem, ending = os.path.splitext(name.lower())
    packing = _PACKINGS.get(ending, "")
    if packing:
        ending = os.path.splitext(stem)[1]
    found = _FORMATS.get(ending, "text")
    if found in _MARKUP and as_plain_text:
        found = "text"
    return Kind(found, packing)


class TextBlock(NamedTuple):
    """Some lines of a file.

    Attributes:
        text: the lines, with their ends.
        line: number of the first one, from 1.
        source_bytes: bytes of the file, packed as it is, that they complete.
        is_last: whether nothing follows.
    """

    text: str
    line: int
    source_bytes: int
    is_last: bool


def text_blocks(file: CorpusFile, kind: Kind, *, as_plain_text: bool) -> Iterator[TextBlock]:
    """Reads a file's text in blocks of half a megabyte, unpacking it on the way.

    Args:
        kind: what it is.
        as_plain_text: take JSON, HTML and XML for the text that they are.

    Yields:
        The blocks, in order; none of an empty file.

    Raises:
        UserError: it can't be read, is damaged, or is not UTF-8 text.
    """
    # Messages about the text within tell how to mend what unpacking gives.
    member = os.path.splitext(os.path.basename(file.path))[0] if kind.packing else None
    offset, line, reported = 0, 1, 0
    with _unpacked(file.path, kind.packing) as (stream, raw):
        content = _read_block(stream)
        while content:
            if not offset:
                check_plain_text(file.path, content, as_plain_text=as_plain_text, member=member)
            following = _read_block(stream)
            position = raw.tell() if following else file.size
            text = decoded(file.path, content, line=line, offset=offset, member=member)
            yield TextBlock(text, line, position - reported, not following)
            offset, line = offset + len(content), line + content.count(b"\n")
            content, reported = following, position


def _read_block(stream: BinaryIO) -> bytes:
    return stream.read(CHUNK_BYTES) + stream.readline()


@contextlib.contextmanager
def _unpacked(path: str, packing: Packing) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Opens a file; yields its unpacked bytes, and the file itself."""
    with opened(path) as raw:
        if not packing:
            yield raw, raw
            return
        try:
            with _OPENERS[packing](raw) as stream:
                yield stream, raw
        except _DAMAGES as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file system
            raise UserError(
                f"A file of the corpus is not {packing} data, or is damaged.",
                where=path,
                received=str(error) or type(error).__name__,
                remedy=f"Copy it again ({packing} -t {path_quoted(path)} tells whether it is "
                "whole). If it is not packed, take the last ending off its name.",
            ) from error


def _open_zstd(raw: BinaryIO) -> BinaryIO:
    try:
        import zstandard  # an extra
    except ModuleNotFoundError as error:
        raise missing_extra("zstandard", raw.name, error) from error

    def unpack(frame: Any, packed: bytes) -> bytes:
        try:
            return frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error

    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    return io.BufferedReader(_FrameStream(raw, decompressor.decompressobj, unpack))


def _open_limited(raw: BinaryIO, new_frame: Callable[[], Any], padding: bytes = b"") -> BinaryIO:
    """Opens what a standard decompressor unpacks, some text at a time."""

    def unpack(frame: Any, packed: bytes) -> bytes:
        return frame.decompress(packed, _UNPACKED_BYTES)

    return io.BufferedReader(_FrameStream(raw, new_frame, unpack, padding))


# By itself it would take zeros for an empty file of xz's predecessor.
_new_xz = functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ)
_OPENERS: dict[Packing, Callable[[BinaryIO], Any]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bzip2": lambda raw: _open_limited(raw, bz2.BZ2Decompressor),
    "xz": lambda raw: _open_limited(raw, _new_xz, padding=b"\0"),
    "zstd": _open_zstd,
}


class _FrameStream(io.RawIOBase):
    """Unpacks frame by frame, as bzip2 and xz call their streams; `padding` may follow each.

    The packages' own readers take a file that was cut off, or whose next frame begins with damage,
    for whole.
    """

    def __init__(
        self,
        raw: BinaryIO,
        new_frame: Callable[[], Any],
        unpack: Callable[[Any, bytes], bytes],
        padding: bytes = b"",
    ):
        self._raw = raw
        self._new_frame = new_frame
        self._unpack = unpack
        self._padding = padding
        self._pieces = self._unpacked()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there are bytes; returns how many, 0 at the end."""
        while not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._ready = memoryview(piece)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpacked(self) -> Iterator[bytes]:
        packed = self._raw.read(_PACKED_BYTES)
        while packed:
            frame = self._new_frame()
            while not frame.eof:
                # One that is not read to the end of its input needs no more; zstd's always is.
                if not packed and getattr(frame, "needs_input", True):
                    packed = self._raw.read(_PACKED_BYTES)
                    if not packed:
                        raise EOFError("the file ends within a frame")
                yield self._unpack(frame, packed)
                packed = b""
            packed = frame.unused_data.lstrip(self._padding)
            while not packed and (more := self._raw.read(_PACKED_BYTES)):
                packed = more.lstrip(self._padding)


def missing_extra(package: str, path: str, error: ModuleNotFoundError) -> UserError:
    """The error for a file whose format needs a package that is not installed."""
    return UserError(
        f"A file of the corpus needs the package {package}, which is not installed.",
        where=path,
        received=str(error),
        remedy="pip install 'electra-tf2[corpora]'",
    )
