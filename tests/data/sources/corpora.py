"""Corpora of every kind for the tests of this folder and of the builders."""

import bz2
import csv
import gzip
import io
import json
import lzma

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import zstandard

from electra_tf2.data.building import corpus
from electra_tf2.data.sources import arrow, chunks, packed, reader, records

PACKERS = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.compress(data),
}


def cut_small(monkeypatch, size):
    """Makes chunks, blocks, batches and tasks of so many bytes. In this process only."""
    for module in (arrow, chunks, corpus, packed, records):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
    monkeypatch.setattr(arrow, "LARGEST_CHUNK_BYTES", size)
    cut = reader.plan_chunks
    monkeypatch.setattr(
        reader, "plan_chunks", lambda file, **options: cut(file, chunk_bytes=size, **options)
    )


def text_bytes(texts):
    """Plain text, an empty line between documents; theirs are left out."""
    documents = ["\n".join(line for line in text.split("\n") if line.strip()) for text in texts]
    return "\n\n".join(documents).encode()


def json_bytes(texts):
    """A JSON object per line, with another field before the text."""
    return b"".join(
        json.dumps({"id": n, "text": text}).encode() + b"\n" for n, text in enumerate(texts)
    )


def table_bytes(texts, separator=","):
    """A table whose cells are in quotes where they need them."""
    table = io.StringIO(newline="")
    rows = csv.writer(table, delimiter=separator)
    rows.writerows([["id", "text"], *([str(n), text] for n, text in enumerate(texts))])
    return table.getvalue().encode()


def columns(texts):
    """The same as a table of Arrow's."""
    return pyarrow.table({"id": list(range(len(texts))), "text": texts})


def parquet_bytes(texts, rows=10**6):
    """A Parquet file with so many rows per row group."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(columns(texts), file, row_group_size=rows)
    return file.getvalue()


def stream_bytes(texts, rows=10**6):
    """An Arrow stream with so many rows per record batch."""
    file, table = io.BytesIO(), columns(texts)
    with pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return file.getvalue()


def feather_bytes(texts, rows=10**6):
    """An Arrow file with an index, so many rows per record batch, packed inside."""
    file = io.BytesIO()
    pyarrow.feather.write_feather(columns(texts), file, chunksize=rows, compression="lz4")
    return file.getvalue()


def write_saved(folder, texts, shards=2):
    """A data set as `datasets.Dataset.save_to_disk` writes it, with a file of an older version."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{shards:05}.arrow" for n in range(shards)]
    size = -(-len(texts) // shards)
    for n, name in enumerate(names):
        (folder / name).write_bytes(stream_bytes(texts[n * size : (n + 1) * size], 2))
    (folder / "cache-1f2e.arrow").write_bytes(stream_bytes(["of another version"]))
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
