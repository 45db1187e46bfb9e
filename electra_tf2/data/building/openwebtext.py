"""A folder of tar archives of text files, as OpenWebText is published.

Every regular file in an archive is one document, blank lines or not. Archives are read in memory
and nothing is extracted, so a member's path can do no harm. An archive is the unit of work: it has
one random stream.
"""

from __future__ import annotations

import lzma
import random
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from electra_tf2 import files
from electra_tf2.data.building.builders import CorpusPassage
from electra_tf2.data.building.corpus import Corpus, chunk_stream, shuffled
from electra_tf2.data.sources.chunks import decoded, split_lines
from electra_tf2.data.sources.found import CorpusFile, unreadable
from electra_tf2.errors import UserError
from electra_tf2.text.plain_text import HEAD_BYTES, TAR, check_plain_text, recognize

_BLOCK_BYTES = 1 << 19
_DAMAGES = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError)


class Block(NamedTuple):
    """Some lines of a member, and whether they are its last."""

    lines: list[str]
    is_last: bool


class TarCorpus(Corpus):
    """Tar archives, compressed in any way that `tarfile` knows. Each is a task."""

    def check(self) -> None:
        """Looks at the beginning of every local archive.

        Raises:
            UserError: a file is not a tar archive or can't be read.
        """
        for file in self.files:
            if files.is_local(file.path):
                with _Archive(file):
                    pass

    def tasks_of(self, ordered: Iterable[CorpusFile]) -> Iterator[CorpusFile]:
        """Yields the archives."""
        yield from ordered

    def passages(self, task: CorpusFile) -> Iterator[CorpusPassage]:
        """Yields the passages of an archive, in its order of members."""
        stream = self._stream(chunk_stream(self.seed, task.name, 0))
        unreported = task.size
        with _Archive(task) as archive:
            for member in archive.members():
                for block in archive.blocks(member, self.as_plain_text):
                    yield CorpusPassage(stream, block.lines, False, block.is_last, unreported)
                    unreported = 0

    def official_passages(self) -> Iterator[CorpusPassage]:
        """Yields all text as one stream with the official program's order of random draws.

        The official program shuffles an archive's members as the file system lists them, which no
        other run can repeat; here they are sorted first. An archive's text is held in memory.
        """
        randomness = random.Random(self.seed)
        ordered = shuffled(self.files, randomness)
        stream = self._stream(randomness)
        for file in ordered:
            with _Archive(file) as archive:
                texts = {
                    m.name: list(archive.blocks(m, self.as_plain_text)) for m in archive.members()
                }
            names = sorted(texts)
            randomness.shuffle(names)
            unreported = file.size
            for name in names:
                for block in texts[name]:
                    yield CorpusPassage(stream, block.lines, False, block.is_last, unreported)
                    unreported = 0


class _Member(tarfile.TarInfo):
    """A member, of which a damaged header is an error: `tarfile` takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """Reads a header; see `tarfile.TarInfo.frombuf`."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # the end
            raise tarfile.ReadError(f"damaged header of a member: {error}") from error


class _Archive:
    """An open archive whose errors name it."""

    def __init__(self, file: CorpusFile):
        self._file = file
        self._member: str | None = None

    def __enter__(self) -> _Archive:
        self._raw = self._guarded(files.open_binary, self._file.path)
        try:
            # Zeros end an archive, and others may follow where archives were joined.
            self._tar = self._guarded(
                lambda: tarfile.open(
                    fileobj=self._raw, mode="r:*", tarinfo=_Member, ignore_zeros=True
                )
            )
        except UserError:
            self._raw.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()
        self._raw.close()

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yields the regular files."""
        while True:
            self._member = None
            member = self._guarded(self._tar.next)
            if member is None:
                return
            # TarFile remembers every member it has seen, which grows without end.
            self._tar.members = []
            if member.isreg():
                yield member

    def blocks(self, member: tarfile.TarInfo, as_plain_text: bool = False) -> Iterator[Block]:
        """Yields a member's lines in blocks, at least one."""
        where = f"{self._file.path}, member {member.name}"
        self._member = member.name
        reader = self._guarded(self._tar.extractfile, member)
        offset = 0
        line = 1
        is_last = False
        while not is_last:
            content = self._guarded(lambda: reader.read(_BLOCK_BYTES) + reader.readline())
            if not offset:
                self._check_is_no_archive(where, content)
                check_plain_text(where, content, as_plain_text=as_plain_text, member=member.name)
            text = decoded(where, content, line=line, offset=offset, member=member.name)
            lines = split_lines(text)
            offset += len(content)
            line += content.count(b"\n")
            is_last = offset >= member.size or not content
            yield Block(lines, is_last)

    def _check_is_no_archive(self, where: str, content: bytes) -> None:
        """Refuses an archive of archives, as OpenWebText is downloaded."""
        kind = recognize(content[:HEAD_BYTES])
        if kind is not None and kind.is_packed:
            raise UserError(
                "An archive of the OpenWebText folder holds others, which it reads by themselves.",
                where=where,
                received=kind.name,
                remedy=TAR.remedy_for(self._file.path),
            )

    def _guarded(self, read: Callable[..., Any], *args: Any) -> Any:
        """Calls a reading function; what goes wrong in it becomes an error that names the place."""
        try:
            with files.reported_as_os_errors(self._file.path):
                return read(*args)
        except (OSError, *_DAMAGES) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> UserError:
        where = self._file.path + (f", member {self._member}" if self._member else "")
        if isinstance(error, OSError) and error.errno is not None:
            return unreadable(where, error)
        received = str(error) or type(error).__name__
        remedy = "Download the archive again, or take the file out of the folder."
        if isinstance(error, tarfile.ReadError) and not self._member:
            self._raw.seek(0)
            kind = recognize(self._raw.read(HEAD_BYTES))
            # What tarfile says of a file that it can't open ends in a list of what it tried.
            found = kind.name if kind else "text"
            received = f"{received.partition(':' + chr(10))[0]}; it looks like {found}"
            if kind is None or kind.is_markup:
                remedy = "Folders of text files are for build_pretraining_dataset.py."
            elif kind.is_packed and kind.ending:
                unpack = kind.remedy_for(self._file.path)
                remedy = f"If a tar archive is in it, {unpack[0].lower()}{unpack[1:]}"
        return UserError(
            "A file of the OpenWebText folder is not a tar archive, or is damaged.",
            where=where,
            received=received,
            remedy=remedy,
        )
