"""Parquet and Arrow files: one column of texts of them, read with pyarrow.

Arrow files come in two forms: with an index at the end (Feather), and as a stream, which is what
the `datasets` library writes.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from electra_tf2 import files
from electra_tf2.data.sources.chunks import CHUNK_BYTES, LARGEST_CHUNK_BYTES, Chunk
from electra_tf2.data.sources.found import CorpusFile, opened
from electra_tf2.data.sources.packed import missing_extra
from electra_tf2.data.sources.records import (
    BadRecord,
    Batch,
    check_one_column,
    checked_text,
    no_such_field,
)
from electra_tf2.errors import UserError

_BATCH_ROWS = 256
# Without, and with `pre_buffer`, the column of a row group would be read as a whole.
_BUFFER_BYTES = 1 << 20
_INDEXED = b"ARROW1"
_STREAM_ENDS = (b"\xff\xff\xff\xff" + bytes(4), bytes(4))  # the second one before 2019


def plan_parquet(file: CorpusFile, field: str) -> Iterator[Chunk]:
    """Cuts a Parquet file into chunks of consecutive row groups.

    Yields:
        Chunks of four megabytes of text or more; their `units` are row groups.

    Raises:
        UserError: the file can't be read, or has no such column of texts.
    """
    with _opened_parquet(file, field) as parquet:
        metadata = parquet.metadata
        leaves = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
        column = leaves.index(field)
        sizes = [
            metadata.row_group(number).column(column).total_uncompressed_size
            for number in range(metadata.num_row_groups)
        ]
    yield from _chunks(file, sizes, LARGEST_CHUNK_BYTES)


def plan_arrow(file: CorpusFile, field: str) -> Iterator[Chunk]:
    """Cuts an Arrow file into chunks of consecutive record batches.

    Yields:
        Chunks of half a megabyte of the file or more. Their `units` are record batches or, of a
        stream, bytes. A stream that can't be cut, because it is remote or has dictionaries, is one
        chunk without units.

    Raises:
        UserError: the file can't be read, or has no such column of texts.
    """
    with _opened_arrow(file, field) as (reader, source, _):
        if reader is not None:
            count = reader.num_record_batches
            starts = [file.size * number // max(1, count) for number in range(count + 1)]
        else:
            starts = _message_starts(source) if files.is_local(file.path) else []
    if not starts:
        yield Chunk(file, 0, 0, file.size, False)
        return
    sizes = [end - start for start, end in zip(starts, starts[1:], strict=False)]
    for chunk in _chunks(file, sizes, CHUNK_BYTES):
        first, end = chunk.units
        yield chunk if reader is not None else chunk._replace(units=(starts[first], starts[end]))


def _chunks(file: CorpusFile, sizes: Sequence[int], least: int) -> Iterator[Chunk]:
    """Gathers units until they have so many bytes; the chunks share the file's bytes likewise."""
    total = max(1, sum(sizes))
    first = number = start = done = gathered = 0
    for index, size in enumerate(sizes):
        done, gathered = done + size, gathered + size
        is_last = index == len(sizes) - 1
        if gathered >= least or is_last:
            end = file.size if is_last else file.size * done // total
            yield Chunk(file, number, start, end, False, (first, index + 1))
            first, number, start, gathered = index + 1, number + 1, end, 0


def _message_starts(stream: Any) -> list[int]:
    """Returns where the record batches of a stream begin, and where the last one ends.

    [] of a stream that has something else in it (dictionaries); ArrowInvalid if it is cut off.
    """
    import pyarrow

    starts = [stream.tell()]
    with contextlib.suppress(EOFError):
        while message := pyarrow.ipc.read_message(stream):
            if message.type != "record batch":
                return []
            starts.append(stream.tell())
    _check_end(stream, starts[-1])
    return starts


def _check_end(stream: Any, position: int) -> None:
    """Checks that a stream ends where its last batch does, and the file with it.

    To pyarrow, a file that was cut between two batches is whole, and zeros are an end as well.
    """
    import pyarrow

    stream.seek(position)
    if stream.read(len(_STREAM_ENDS[0]) + 1) not in _STREAM_ENDS:
        raise pyarrow.ArrowInvalid(
            f"the stream and the file don't end at byte {position}, after a batch: it was cut off, "
            "or something else is there"
        )


def parquet_batches(chunk: Chunk, field: str) -> Iterator[Batch]:
    """Reads the texts of a chunk of a Parquet file; see `Batch`."""
    with _opened_parquet(chunk.file, field) as parquet:
        first, end = chunk.units
        batches = parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=range(first, end), columns=[field]
        )

        @functools.cache
        def rows_before() -> int:
            return sum(parquet.metadata.row_group(number).num_rows for number in range(first))

        rows = sum(parquet.metadata.row_group(number).num_rows for number in range(first, end))
        columns = (batch.column(0) for batch in batches)
        fields = _fields(parquet.schema_arrow)
        yield from _batches(columns, field, fields, rows_before, rows, chunk.end - chunk.start)


def arrow_batches(chunk: Chunk, field: str) -> Iterator[Batch]:
    """Reads the texts of a chunk of an Arrow file; see `Batch`."""
    with _opened_arrow(chunk.file, field) as (reader, source, schema):
        first, end = chunk.units
        if reader is not None:
            batches = map(reader.get_batch, range(first, end))
        elif end:
            batches = _stream_batches(source, first, end)
        else:
            batches = _whole_stream(source)

        @functools.cache
        def rows_before() -> int:
            if reader is not None:
                before = map(reader.get_batch, range(first))
            else:
                before = _stream_batches(source, 0, first) if first else ()
            return sum(batch.num_rows for batch in before)

        # A record batch may have any number of rows.
        columns = (
            batch.column(field).slice(row, _BATCH_ROWS)
            for batch in batches
            for row in range(0, batch.num_rows, _BATCH_ROWS)
        )
        fields = _fields(schema)
        yield from _batches(columns, field, fields, rows_before, 0, chunk.end - chunk.start)


def _stream_batches(stream: Any, first: int, end: int) -> Iterator[Any]:
    """Yields the record batches between two bytes of a stream; 0 is the byte of the first one."""
    import pyarrow

    stream.seek(0)
    schema = pyarrow.ipc.read_schema(stream)
    position = first or stream.tell()
    while position < end:
        stream.seek(position)  # the rows before may have been counted in between
        message = pyarrow.ipc.read_message(stream)
        position = stream.tell()
        yield pyarrow.ipc.read_record_batch(message, schema)


def _whole_stream(stream: Any) -> Iterator[Any]:
    import pyarrow

    stream.seek(0)
    batches = pyarrow.ipc.open_stream(stream)
    end = stream.tell()
    for batch in batches:
        end = stream.tell()
        yield batch
    _check_end(stream, end)


def _batches(
    columns: Iterable[Any],
    field: str,
    fields: Mapping[str, Any],
    rows_before: Callable[[], int],
    rows: int,
    source_bytes: int,
) -> Iterator[Batch]:
    """Gathers columns of texts to batches of about half a megabyte.

    They share `source_bytes` by their rows: what pandas writes is mostly one row group, and its
    progress is to be seen. `rows` is 0 where their number is not known. `fields` are all columns of
    the file, see `_fields`: what a bad record has.
    """
    texts: list[str] = []
    bad: list[BadRecord] = []
    row = characters = reported = 0
    for column in columns:
        for number, value in enumerate(_values(column), row + 1):
            found = checked_text(value, field)
            if isinstance(found, str):
                texts.append(found)
                characters += len(found)
            else:
                own = {**fields, field: value}
                bad.append(found._replace(place=f"record {rows_before() + number}", fields=own))
        row += len(column)
        if characters >= CHUNK_BYTES or len(bad) >= _BATCH_ROWS:
            done = source_bytes * row // rows if rows else source_bytes
            yield Batch(texts, done - reported, bad=bad)
            texts, bad, characters, reported = [], [], 0, done
    yield Batch(texts, source_bytes - reported, bad=bad)


def _values(column: Any) -> list[Any]:
    """Returns an array's values; bytes where one is not UTF-8, which pyarrow doesn't check."""
    import pyarrow

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(
            pyarrow.binary() if column.nbytes < 1 << 31 else pyarrow.large_binary()
        )
        return [_decoded(value) for value in values.to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return value if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value


@contextlib.contextmanager
def _opened_parquet(file: CorpusFile, field: str) -> Iterator[Any]:
    """Opens a Parquet file that has a column of texts of this name."""
    with _opened_source(file, mapped=False) as source:
        import pyarrow.parquet

        parquet = pyarrow.parquet.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        _check_column(parquet.schema_arrow, field, file.path)
        yield parquet


@contextlib.contextmanager
def _opened_arrow(file: CorpusFile, field: str) -> Iterator[tuple[Any, Any, Any]]:
    """Yields an Arrow file's reader (None without an index), stream (behind the schema), schema."""
    with _opened_source(file, mapped=True) as source:
        import pyarrow

        is_indexed = source.read(len(_INDEXED)) == _INDEXED
        source.seek(0)
        reader = pyarrow.ipc.open_file(source) if is_indexed else None
        schema = reader.schema if reader is not None else pyarrow.ipc.read_schema(source)
        _check_column(schema, field, file.path)
        yield reader, source, schema


@contextlib.contextmanager
def _opened_source(file: CorpusFile, *, mapped: bool) -> Iterator[Any]:
    """Opens a file for pyarrow, `mapped` not to read what is skipped; errors name the file."""
    try:
        import pyarrow  # an extra
    except ModuleNotFoundError as error:
        raise missing_extra("pyarrow", file.path, error) from error
    with opened(file.path) as raw:
        try:
            if not files.is_local(file.path):
                source = pyarrow.PythonFile(_Seekable(raw), "r")
            else:
                source = pyarrow.memory_map(file.path) if mapped else pyarrow.OSFile(file.path)
            with source:
                yield source
        except MemoryError:
            raise  # pyarrow's is an ArrowException too, and says nothing of the file
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the file system
            raise UserError(
                "A file of the corpus can't be read as Parquet or Arrow, as its name has it.",
                where=file.path,
                received=str(error).partition("\n")[0],
                remedy="Copy it again, or take it out of the corpus folder.",
            ) from error


class _Seekable(io.RawIOBase):
    """A file of TensorFlow's as pyarrow wants it."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it has places: always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there are bytes; returns how many, 0 at the end."""
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a byte; returns it."""
        self._raw.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        """Returns the next byte's place."""
        return self._raw.tell()


def _check_column(schema: Any, field: str, path: str) -> None:
    """Checks that there is a column of texts of this name."""
    check_one_column(path, field, schema.get_all_field_indices(field), len(schema))
    index = schema.get_field_index(field)
    fields = _fields(schema)
    if fields.get(field) is None:
        found_type = "" if index < 0 else str(schema.field(index).type)
        raise no_such_field(path, field, fields, as_text=False, found_type=found_type)


def _fields(schema: Any) -> dict[str, str | None]:
    """Returns the names of the columns; "" stands for texts, None for anything else."""
    import pyarrow

    def holds_text(kind: Any) -> bool:
        types = pyarrow.types
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)

    return {column.name: "" if holds_text(column.type) else None for column in schema}
