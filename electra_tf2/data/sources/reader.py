"""Reading any file of a corpus: checked, cut into chunks, and read in batches of texts."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

from electra_tf2.data.sources.arrow import arrow_batches, parquet_batches, plan_arrow, plan_parquet
from electra_tf2.data.sources.chunks import Chunk, check_utf8, line_number, plan_chunks, read_chunk
from electra_tf2.data.sources.found import CorpusFile, opened
from electra_tf2.data.sources.packed import PLAIN_TEXT, Kind, TextBlock, kind_of, text_blocks
from electra_tf2.data.sources.records import Batch, json_batch, no_such_field, table_batches
from electra_tf2.errors import UserError, path_quoted, shell_quoted
from electra_tf2.files import is_dir, is_local
from electra_tf2.text.plain_text import (
    HEAD_BYTES,
    MOST_POINTER_BYTES,
    check_line_ends,
    check_no_pointer,
    check_plain_text,
    recognize,
)

_SEPARATORS = {"csv": ",", "tsv": "\t"}
_NO_RECORD = (
    "Take the file out of the corpus folder, or give it the ending of what it is: .txt is text."
)
_NO_ROW = (
    "Put each cell with a separator, a quotation mark or a line break in quotation marks, and "
    "double those in it. If it is plain text: --as-plain-text, or a name that ends in .txt."
)


@dataclasses.dataclass(frozen=True)
class CorpusReader:
    """Reads the files of a corpus, each by its kind.

    Attributes:
        text_field: the field of records that holds the text.
        as_plain_text: whether JSON lines, tables, HTML and XML are taken for the text that they
            are.
    """

    text_field: str = "text"
    as_plain_text: bool = False

    def kind(self, file: CorpusFile) -> Kind:
        """Returns what a file is."""
        return kind_of(file.name, as_plain_text=self.as_plain_text)

    def check_names(self, corpus: Sequence[CorpusFile], folder: str) -> None:
        """Refuses a folder of JSON lines in files whose names don't say so, as some dumps have it.

        With a command that renames all: the error for a single file would come for each of them.

        Raises:
            UserError: all files of the folder, two or more, are such files, packed alike or not.
        """
        endings = {
            os.path.splitext(file.name)[1] if self.kind(file).packing else "" for file in corpus
        }
        if len(corpus) < 2 or len(endings) > 1 or not (is_local(folder) and is_dir(folder)):
            return
        if not all(self._is_unnamed_json(file) for file in corpus):
            return
        ending = endings.pop()
        rename = f'for f; do mv "$f" "${{f%{ending}}}.jsonl{ending}"; done'
        raise UserError(
            "The files of the corpus are JSON lines, which their names don't say.",
            where=folder,
            received=f"{len(corpus):,} files such as {corpus[0].name}",
            remedy="Take them as the text that they are, with --as-plain-text, or give them names "
            f"that end in .jsonl{ending}: find -L {path_quoted(folder)} -mindepth 1 -name '.*' "
            f"-prune -o -type f -exec sh -c {shell_quoted(rename)} - '{{}}' +",
        )

    def _is_unnamed_json(self, file: CorpusFile) -> bool:
        kind = self.kind(file)
        if kind.format != "text" or self.as_plain_text:
            return False
        try:
            block = next(text_blocks(file, kind, as_plain_text=True), None)
        except UserError:
            return False  # told later, with the file
        found = recognize(block.text.encode("utf-8")[:HEAD_BYTES]) if block else None
        return found is not None and kind_of(f"x{found.ending}").format == "json"

    def is_divided(self, file: CorpusFile) -> bool:
        """Whether a file is cut into chunks, each of which can be read alone."""
        kind = self.kind(file)
        return not kind.packing and kind.format not in _SEPARATORS

    def check(self, file: CorpusFile) -> None:
        """Checks that a file can be used, as far as can be told without unpacking all of it.

        Plain text is read once. Of other text the beginning is looked at, and of records as much as
        it takes to find one with a text.

        Raises:
            UserError: it can't be read, is something else than its name says, is not UTF-8, or has
                records, but none with a text in the field.
        """
        kind = self.kind(file)
        if kind == PLAIN_TEXT:
            check_utf8(file, as_plain_text=self.as_plain_text)
            return
        if kind.format == "json":
            self._check_lines(file)  # a list with a record per line ends in one that can be read
        bad = None
        for chunk in self.plan(file):
            for batch in self.batches(chunk):
                if batch.texts:
                    return
                with_fields = (record for record in batch.bad if record.fields is not None)
                if bad is None or bad.fields is None:
                    bad = next(with_fields, bad or next(iter(batch.bad), None))
        if bad is not None:
            if bad.fields is None:
                if kind.format == "json":
                    self._check_lines(file, are_read=False)
                raise UserError(
                    "No record of the file can be read.",
                    where=f"{file.path}, {bad.place}",
                    received=bad.what,
                    remedy=_NO_ROW if kind.format in _SEPARATORS else _NO_RECORD,
                )
            raise no_such_field(file.path, self.text_field, bad.fields, kind.format == "json")

    def plan(self, file: CorpusFile, *, at_blank_lines: bool = False) -> Iterator[Chunk]:
        """Cuts a file at places that depend on its content alone.

        Args:
            at_blank_lines: cut plain text after blank lines, where documents end; see
                `plan_chunks`.

        Yields:
            Chunks that cover the file, in order: of what is not divided, one.

        Raises:
            UserError: it can't be read, is only a pointer of Git LFS, or has no such field.
        """
        kind = self.kind(file)
        if not file.size:
            return
        is_binary = kind.packing or kind.format in ("parquet", "arrow")
        if is_binary and file.size < MOST_POINTER_BYTES:  # text is checked where it is read
            with opened(file.path) as reader:
                check_no_pointer(file.path, reader.read(file.size))
        if kind.packing and kind.format in ("parquet", "arrow"):
            raise UserError(
                "Parquet and Arrow files are not read from within another packed file.",
                where=file.path,
                received=f"a file packed by {kind.packing}",
                remedy=f"Unpack it: {kind.packing} -d {path_quoted(file.path)}",
            )
        if not self.is_divided(file):
            yield Chunk(file, 0, 0, file.size, False)
        elif kind.format == "parquet":
            yield from plan_parquet(file, self.text_field)
        elif kind.format == "arrow":
            yield from plan_arrow(file, self.text_field)
        else:
            yield from plan_chunks(file, at_blank_lines=at_blank_lines and kind.format == "text")

    def batches(self, chunk: Chunk) -> Iterator[Batch]:
        """Reads a chunk in batches of about half a megabyte of text.

        Raises:
            UserError: it can't be read, is damaged, or is not UTF-8.
        """
        kind = self.kind(chunk.file)
        if kind.format == "parquet":
            yield from parquet_batches(chunk, self.text_field)
        elif kind.format == "arrow":
            yield from arrow_batches(chunk, self.text_field)
        elif kind.format in _SEPARATORS:
            separator = _SEPARATORS[kind.format]
            blocks = self._blocks(chunk, kind)
            yield from table_batches(chunk.file, blocks, separator, self.text_field)
        elif kind.format == "json":
            lines_before = functools.cache(lambda: line_number(chunk.file, chunk.start) - 1)
            for block in self._blocks(chunk, kind):
                yield json_batch(block, self.text_field, lines_before)
        else:
            for block in self._blocks(chunk, kind):
                yield Batch([block.text], block.source_bytes, block.is_last)

    def _blocks(self, chunk: Chunk, kind: Kind) -> Iterator[TextBlock]:
        """Reads the text of a chunk, whose lines are counted from its start."""
        as_plain_text = self.as_plain_text or kind.has_records
        if self.is_divided(chunk.file):
            text = read_chunk(chunk, as_plain_text=as_plain_text)
            yield TextBlock(text, 1, chunk.end - chunk.start, True)
        else:
            yield from text_blocks(chunk.file, kind, as_plain_text=as_plain_text)

    def _check_lines(self, file: CorpusFile, *, are_read: bool = True) -> None:
        """Refuses JSON that is not in lines, with what makes text or lines of it.

        Where any line can be read, characters that end lines elsewhere may be part of the text.
        """
        kind = self.kind(file)
        for block in text_blocks(file, kind, as_plain_text=True):
            head = block.text.encode("utf-8")[:HEAD_BYTES]
            found = recognize(head)
            member = os.path.splitext(os.path.basename(file.path))[0] if kind.packing else None
            if found is not None and found.name == "JSON":
                check_plain_text(file.path, head, member=member)
            if not are_read:
                check_line_ends(file.path, head, member=member)
            return
