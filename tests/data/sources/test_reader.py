"""Files of every kind, read as documents: whole, in chunks, with bad records and damage."""

import json
import lzma
import random
import re
import subprocess
import tarfile

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from electra_tf2.data.building.corpus import TextCorpus
from electra_tf2.data.sources import packed, records
from electra_tf2.data.sources.found import CorpusFile, find_files, opened
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.data.sources.separators import likeliest_separator
from electra_tf2.errors import UserError
from tests.data.sources import corpora
from tests.data.sources.corpora import (
    PACKERS,
    cut_small,
    feather_bytes,
    json_bytes,
    parquet_bytes,
    stream_bytes,
    table_bytes,
    text_bytes,
)

TEXTS = [
    'The harbour was built in 1871.\nIt has "two" basins,\t\tand a Café.',
    "One line",
    "A paragraph.\n\n \nAnother one of the same document.\r\n\tIts end.\n",
    "ガラスの窓がある。\nHalf of a pair: \ud83d, and a whole one: 😀".encode(
        "utf-16", "surrogatepass"
    ).decode("utf-16", "replace"),
    "",
    " \n\n",
    "'Quotes'\n\"at a line's start\" and its end\"",
]
DOCUMENTS = [
    [line.strip() for line in text.split("\n") if line.strip()] for text in TEXTS if text.strip()
]
FORMS = {
    **{f"a.txt{ending}": text_bytes for ending in PACKERS},
    **{f"a.jsonl{ending}": json_bytes for ending in PACKERS},
    "a.NDJSON": json_bytes,
    "a.json.gz": json_bytes,
    "a.csv": table_bytes,
    "a.csv.zst": table_bytes,
    "a.tsv": lambda texts: table_bytes(texts, "\t"),
    "a.tsv.xz": lambda texts: table_bytes(texts, "\t"),
    "a.parquet": lambda texts: parquet_bytes(texts, 3),
    "a.arrow": lambda texts: stream_bytes(texts, 3),
    "a.feather": lambda texts: feather_bytes(texts, 3),
}


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of some hundred bytes."""
    cut_small(monkeypatch, 300)


def put(folder, name, data):
    path = folder / name
    ending = "." + name.rpartition(".")[2]
    path.write_bytes(PACKERS.get(ending, bytes)(data))
    return CorpusFile(name, str(path), path.stat().st_size)


def passages_of(*files, **settings):
    corpus = TextCorpus(files, 16, **settings)
    corpus.check()
    return [passage for task in corpus.tasks_of(files) for passage in corpus.passages(task)]


def documents_of(passages):
    """The documents as the builders divide them."""
    documents = [[]]
    for passage in passages:
        for line in passage.lines:
            if line:
                documents[-1].append(line)
            elif passage.blanks_separate:
                documents.append([])
        if passage.ends_document:
            documents.append([])
    return [document for document in documents if document]


@pytest.mark.parametrize("name", FORMS)
def test_every_kind_gives_the_same_documents(tmp_path, name):
    file = put(tmp_path, name, FORMS[name](TEXTS))

    passages = passages_of(file)

    assert documents_of(passages) == DOCUMENTS
    assert sum(passage.source_bytes for passage in passages) == file.size
    assert not any(passage.bad for passage in passages)


@pytest.mark.parametrize("name", FORMS)
def test_files_are_read_in_parts(tmp_path, name, small_parts):
    stream = random.Random(0)
    texts = [
        "\n".join(f"line {n} of {stream.random()}" for n in range(stream.randint(0, 9)))
        for _ in range(99)
    ]
    file = put(tmp_path, name, FORMS[name](texts))
    corpus = CorpusReader()

    passages = passages_of(file)
    parts = list(corpus.plan(file, at_blank_lines=True))

    assert documents_of(passages) == [text.split("\n") for text in texts if text]
    assert sum(passage.source_bytes for passage in passages) == file.size
    assert len(passages) > 9
    assert max(len("".join(passage.lines)) for passage in passages) < 2000
    streams = {id(passage.stream) for passage in passages}
    assert len(streams) == len(parts)
    assert (len(parts) > 9) == corpus.is_divided(file)
    assert [(part.number, part.start) for part in parts] == [
        (n, parts[n - 1].end if n else 0) for n in range(len(parts))
    ]
    assert corpus.is_divided(file) == (
        name.endswith(("txt", "jsonl", "NDJSON", "parquet", "arrow", "feather"))
    )


def test_byte_order_marks_of_json_lines_that_were_joined(tmp_path):
    data = b"".join(b"\xef\xbb\xbf" + json_bytes([text]) for text in ("one", "two", "three"))
    (passage,) = passages_of(put(tmp_path, "a.jsonl", data))
    assert documents_of([passage]) == [["one"], ["two"], ["three"]] and not passage.bad


@pytest.mark.parametrize("separate", [None, False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt.gz"])
def test_empty_lines_of_records_and_of_text(tmp_path, name, separate):
    text = "one\n\ntwo"
    file = put(tmp_path, name, json_bytes([text]) if "json" in name else text.encode())

    documents = documents_of(passages_of(file, blanks_separate_docs=separate))

    divided = separate if separate is not None else "txt" in name
    assert documents == ([["one"], ["two"]] if divided else [["one", "two"]])
    corpus = TextCorpus([file], 16, blanks_separate_docs=separate)
    assert corpus.ends_documents_at_blanks == divided


def test_a_very_long_record_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("electra_tf2.data.building.corpus.LARGEST_CHUNK_BYTES", 50)
    lines = [f"line number {n}" for n in range(40)]
    file = put(tmp_path, "a.jsonl", json_bytes(["\n".join(lines), "next"]))
    passages = passages_of(file)
    assert len(passages) > 5 and documents_of(passages) == [lines, ["next"]]


GOOD, OTHER = {"text": "good"}, {"id": 7}
BAD_LINES = [
    (json.dumps(OTHER), "no field 'text'"),
    (json.dumps({"text": None}), "its field 'text' is null"),
    (json.dumps({"text": ["a"]}), "type list"),
    ('{"text": "cut off', "not JSON"),
    ("[1, 2]", "a JSON list"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.bz2"])
def test_bad_lines_are_named_and_left_out(tmp_path, name, small_parts):
    lines = [json.dumps(GOOD)] * 30
    for line, _ in BAD_LINES:
        lines += ["", line, json.dumps(GOOD)]
    file = put(tmp_path, name, "\n".join(lines).encode())

    passages = passages_of(file)

    assert len(documents_of(passages)) == 30 + len(BAD_LINES)
    bad = [place for passage in passages for place in passage.bad]
    for number, (place, (_, what)) in enumerate(zip(bad, BAD_LINES, strict=True)):
        assert place.startswith(f"{file.path}, line {32 + 3 * number}: ") and what in place


def test_half_of_a_pair_becomes_a_sign_of_its_own(tmp_path):
    file = put(tmp_path, "a.jsonl", rb'{"text": "a \ud83d b \ud83d\ude00"}')
    assert documents_of(passages_of(file)) == [["a \ufffd b 😀"]]


def test_bad_rows_are_named_and_left_out(tmp_path):
    rows = ["id,text", "0,good", "1", '2,"good, in quotes"', '3,"is" not', "4,a,b", "", "5,good"]
    file = put(tmp_path, "a.csv", ("\ufeff" + "\r\n".join(rows)).encode())

    (passage,) = passages_of(file)

    assert documents_of([passage]) == [["good"], ["good, in quotes"], ["good"]]
    assert [place.removeprefix(f"{file.path}, record ")[:3] for place in passage.bad] == [
        "2: ", "4: ", "5: "
    ]  # fmt: skip
    assert "1 cells, where the header has 2" in passage.bad[0]


@pytest.mark.parametrize("header, kept", [("id,text", 0), ("text", 1)])
def test_the_header_again_where_files_were_joined(tmp_path, header, kept):
    again = header if kept else f"\ufeff{header}"
    rows = [header, header.replace("text", "good"), again, header.replace("text", "better")]
    (passage,) = passages_of(put(tmp_path, "a.csv", "\n".join(rows).encode()))
    assert documents_of([passage]) == [["good"], ["text"], ["better"]][:: 1 if kept else 2]
    assert ["header again" in place for place in passage.bad] == [True] * (1 - kept)


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_MAX_CELL", 1000)
    monkeypatch.setattr(
        records.csv, "field_size_limit", lambda *_, set=records.csv.field_size_limit: set(1000)
    )
    text = 'id,text\n0,good\n1,"not closed\n' + "2,good\n" * 400
    (passage,) = passages_of(put(tmp_path, "a.csv", text.encode()))
    assert "record 2: not a row" in passage.bad[0] and "limit" in passage.bad[0]
    assert 200 < len(documents_of([passage])) < 400


@pytest.mark.parametrize("form", [parquet_bytes, stream_bytes, feather_bytes])
def test_nulls_of_tables_are_named(tmp_path, form, small_parts):
    texts = ["good " * 9] * 50
    texts[3] = texts[41] = None
    ending = {parquet_bytes: "parquet", stream_bytes: "arrow", feather_bytes: "feather"}[form]
    file = put(tmp_path, f"a.{ending}", form(texts, 7))

    passages = passages_of(file)

    assert len(documents_of(passages)) == 48
    assert [place for passage in passages for place in passage.bad] == [
        f"{file.path}, record {n}: its field 'text' is null" for n in (4, 42)
    ]


@pytest.mark.parametrize("form", [parquet_bytes, stream_bytes, feather_bytes])
def test_a_column_of_nulls_names_the_others(tmp_path, form, monkeypatch):
    nulls = pyarrow.array([None] * 9, pyarrow.string())
    table = pyarrow.table({"id": [1] * 9, "text": nulls, "body": ["x"] * 9})
    monkeypatch.setattr(corpora, "columns", lambda _: table)
    ending = {parquet_bytes: "parquet", stream_bytes: "arrow", feather_bytes: "feather"}[form]
    file = put(tmp_path, f"a.{ending}", form([], 7))
    with pytest.raises(UserError, match="'text'") as caught:
        passages_of(file)
    assert "'text' is null" in caught.value.received and "'id'" in caught.value.received
    assert "--text-field body" in caught.value.remedy


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
)
def test_columns_of_other_types_of_text(tmp_path, kind):
    table = pyarrow.table({"text": pyarrow.array(["one\ntwo", "three"]).cast(kind)})
    with pyarrow.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    path = tmp_path / "a.arrow"
    file = CorpusFile("a.arrow", str(path), path.stat().st_size)
    assert documents_of(passages_of(file)) == [["one", "two"], ["three"]]


@pytest.mark.parametrize(("kind", "chunks"), [(pyarrow.string(), 3), ("dictionary", 1)])
def test_a_dictionary_in_any_column_makes_a_stream_one_chunk(tmp_path, kind, chunks, monkeypatch):
    cut_small(monkeypatch, 1)
    if kind == "dictionary":
        kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    names = pyarrow.array(["x", "y", "x"]).cast(kind)
    table = pyarrow.table({"text": ["one", "two", "three"], "source": names})
    with pyarrow.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    path = tmp_path / "a.arrow"
    file = CorpusFile("a.arrow", str(path), path.stat().st_size)
    assert len(list(CorpusReader().plan(file))) == chunks
    assert documents_of(passages_of(file)) == [["one"], ["two"], ["three"]]


def test_a_large_row_group_is_not_read_as_a_whole(tmp_path):
    text = random.Random(0).randbytes(5000).hex()
    table = pyarrow.table({"text": [f"{n} {text[n:]}" for n in range(5000)]})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path, compression="none", use_dictionary=False)
    file, corpus = CorpusFile(path.name, str(path), path.stat().st_size), CorpusReader()
    (chunk,) = corpus.plan(file)
    before = pyarrow.total_allocated_bytes()
    held, progress = [], []
    for batch in corpus.batches(chunk):
        held.append(pyarrow.total_allocated_bytes() - before)
        progress.append(batch.source_bytes)
    assert file.size > 35_000_000 and max(held) < 30_000_000
    assert sum(progress) == file.size
    assert max(progress) < 3 * min(progress[:-1])  # a share of the file with each batch


def test_text_of_a_table_that_is_not_utf8_is_a_bad_record(tmp_path):
    texts = pyarrow.array([b"good", b"\xff", b"good"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    (passage,) = passages_of(CorpusFile("a.parquet", str(path), path.stat().st_size))
    assert len(documents_of([passage])) == 2 and "record 2: " in passage.bad[0]


FIELDS = {"id": 1, "url": "a", "content": "the text of it"}
NO_FIELD = {
    "a.jsonl": lambda: (json.dumps(FIELDS) + "\n").encode() * 3,
    "a.json.xz": lambda: (json.dumps(FIELDS) + "\n").encode() * 3,
    "a.csv": lambda: b"id,url,content\n1,a,the text of it\n",
    "a.tsv.gz": lambda: b"id\turl\tcontent\n1\ta\tthe text of it\n",
    "a.parquet": lambda: parquet_of(FIELDS),
}


def parquet_of(fields):
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"content": ["x"], "id": [fields["id"]]}), buffer)
    return buffer.getvalue().to_pybytes()


@pytest.mark.parametrize("name", NO_FIELD)
def test_a_field_of_no_record_names_those_there_are(tmp_path, name):
    file = put(tmp_path, name, NO_FIELD[name]())
    with pytest.raises(UserError, match="'text'") as caught:
        passages_of(file)
    assert caught.value.where == file.path
    assert "'id'" in caught.value.received and "'content'" in caught.value.received
    assert "--text-field content" in caught.value.remedy
    with pytest.raises(UserError, match="'text'"):
        passages_of(file._replace(path=f"file://{file.path}"))
    assert documents_of(passages_of(file, text_field="content"))
    if "parquet" not in name:
        assert "--as-plain-text" in caught.value.remedy
        assert documents_of(passages_of(file, as_plain_text=True))


def test_a_text_in_an_object_is_found_by_following_the_remedy(tmp_path):
    records = [{"id": "a", "doc": {"raw.text": f"The text {n}.", "n": n}} for n in range(3)]
    records += [{"id": "a", "doc": "text"}, {"id": "a", "doc": {"raw.text": None}}]
    file = put(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in records).encode())
    with pytest.raises(UserError, match="'text'") as caught:
        passages_of(file)
    assert "'doc.raw.text'" in caught.value.received
    field = re.search(r"--text-field (\S+)\.", caught.value.remedy)[1]
    passages = passages_of(file, text_field=field)
    assert documents_of(passages) == [[f"The text {n}."] for n in range(3)]
    assert [text.split(", ")[1] for passage in passages for text in passage.bad] == [
        "line 4: no field 'doc.raw.text'",
        "line 5: its field 'doc.raw.text' is null",
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a b.tsv", "{}\tA sentence of the news, number {}."),
        ("a.csv", "A sentence of the news number {},{}"),
        ("one.tsv", "A sentence of the news number {}{}"),
    ],
)
def test_a_table_without_names_gets_them_by_following_the_remedy(tmp_path, name, line):
    rows = [line.format(n, n) for n in range(9)]
    file = put(tmp_path, name, "".join(row + "\n" for row in rows).encode())
    with pytest.raises(UserError, match="does not seem to name its columns") as caught:
        passages_of(file)
    assert "sentence" in caught.value.received
    assert "--text-field" in caught.value.remedy and "--as-plain-text" in caught.value.remedy
    subprocess.run(caught.value.remedy.rpartition("before it: ")[2], shell=True, check=True)
    (found, _) = find_files(file.path, "--corpus-dir")
    texts = [max(re.split("[\t,](?! )", row), key=len) for row in rows]
    assert documents_of(passages_of(*found)) == [[text] for text in texts]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("mark", [";", "|", "\t", ","])
def test_it_gets_them_whatever_separates_its_columns(tmp_path, mark, start):
    texts = [f"A sentence of the news{mark} and, there, number {n}." for n in range(9)]
    table = start + "".join(f'"{n}"{mark}"{text}"{mark}5\n' for n, text in enumerate(texts))
    file = put(tmp_path, "a.csv", table.encode())
    with pytest.raises(UserError, match="does not seem to name its columns") as caught:
        passages_of(file)
    subprocess.run(caught.value.remedy.rpartition("before it: ")[2], shell=True, check=True)
    passages = passages_of(*find_files(file.path, "--corpus-dir")[0])
    assert documents_of(passages) == [[text] for text in texts]
    assert not any(passage.bad for passage in passages)


@pytest.mark.parametrize(
    ("rows", "usual", "expected"),
    [
        (["1;Film, guzel", "2;Oyun, iyi", "3;a, b"], ",", ";"),  # as many cells with either
        (["1;Film,guzel", "2;Oyun,iyi", "3;a,b"], ",", ","),
        (["1, 2", "3, 4"], ",", ","),
        (["1;Film, guzel;4", "2;Oyun, iyi;5", "3;a, b;3"], ",", ";"),
        (["1;Film, guzel", "2;Oyun", "3;a, b, c"], ",", ";"),
        (["1,a; b", "2,c", "3,d; e; f"], ",", ","),
        (['1,"a; b",5', '2,"c; d",5'], ",", ","),
        (['1\the, "x", said', '2\tit, "y", was'], "\t", "\t"),
        (["a sentence, of words", "and one"], "\t", "\t"),
        ([], ",", ","),
    ],
)
def test_the_likeliest_separator(rows, usual, expected):
    assert likeliest_separator("".join(row + "\n" for row in rows), usual) == expected


@pytest.mark.parametrize("mark", [";", "|", "\t", ","])
def test_columns_with_another_separator(tmp_path, mark):
    name = "a.tsv" if mark == "," else "a.csv"
    rows = [["id", "text"], ["1", f'"one{mark} ""two"", three; four"'], ["2"], ["3", "five"]]
    file = put(tmp_path, name, "\n".join(map(mark.join, rows)).encode())
    (passage,) = passages_of(file)
    assert documents_of([passage]) == [[f'one{mark} "two", three; four'], ["five"]]
    assert len(passage.bad) == 1 and "record 2: " in passage.bad[0]
    with pytest.raises(UserError, match="'words'") as caught:
        passages_of(file, text_field="words")
    assert "'id', 'text'" in caught.value.received
    assert "--text-field text" in caught.value.remedy


def test_marks_in_texts_separate_no_columns(tmp_path):
    """Where the usual separator finds the field, and where there is but one column."""
    table = "id,text\n1,a; text; b\n2,c | d\n"
    assert documents_of(passages_of(put(tmp_path, "a.csv", table.encode()))) == [
        ["a; text; b"],
        ["c | d"],
    ]
    table = "text\na; text; b\nc | d\n"
    assert documents_of(passages_of(put(tmp_path, "b.tsv", table.encode()))) == [
        ["a; text; b"],
        ["c | d"],
    ]
    table = "a;text\n1;2\n"
    named = passages_of(put(tmp_path, "c.csv", table.encode()), text_field="a;text")
    assert documents_of(named) == [["1;2"]]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("line", ["\ufeffsep={}\r\n", '"sep={}"\n'])
def test_a_line_of_excel_names_the_separator(tmp_path, mark, line):
    table = f"{line}id{{}}text\r\n1{{}}one\r\n2\r\n".replace("{}", mark)
    (passage,) = passages_of(put(tmp_path, "a.csv", table.encode()))
    assert documents_of([passage]) == [["one"]]
    assert len(passage.bad) == 1 and "record 2: " in passage.bad[0]


@pytest.mark.parametrize(
    "name", ["a.txt", "a.txt.gz", "a.zst", "a.jsonl", "a.csv", "a.parquet", "a.arrow"]
)
def test_pointers_of_git_lfs(tmp_path, name):
    """A clone without Git LFS has them in place of the data: text, to look at."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    file = put(tmp_path, name, pointer)
    for as_plain_text in (False, True):
        with pytest.raises(UserError, match="Git LFS") as caught:
            passages_of(file, as_plain_text=as_plain_text)
        assert caught.value.where == file.path and "git lfs pull" in caught.value.remedy
    assert documents_of(passages_of(put(tmp_path, "b.txt", b"One\n" + pointer)))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_two_columns_of_one_name(tmp_path, name):
    path = tmp_path / name
    table = pyarrow.table([["a"], ["1"], ["b"]], names=["text", "id", "text"])
    if name == "a.csv":
        path.write_text("text,id,text\na,1,b\n", encoding="utf-8")
    elif name == "a.parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
    file = CorpusFile(name, str(path), path.stat().st_size)
    with pytest.raises(UserError, match="Several columns of the file have the") as caught:
        passages_of(file)
    assert caught.value.where == str(path) and caught.value.received == "the columns 1, 3 of 3"
    assert "--text-field" not in caught.value.remedy
    assert documents_of(passages_of(file, text_field="id")) == [["1"]]


def test_a_header_that_is_not_a_row(tmp_path):
    file = put(tmp_path, "a.csv", b'id,"te"xt,text\n1,a,b\n')
    with pytest.raises(UserError, match="header") as caught:
        passages_of(file)
    assert caught.value.where.startswith(file.path) and "not a row" in caught.value.received


@pytest.mark.parametrize(
    "rows",
    [
        'id\ttext\n1\t"I came.\n2\tI looked around.\n\n3\tI saw."\n4\tgood\n',
        'text\tid\n"I came.\t1\nI looked around.\t2\nI saw."\t3\ngood\t4\n',
        'id\ttitle\ttext\n1\t"A\tI came.\nbad\n2\tB\tI saw.\n3\tC"\tno\n4\tD\tgood\n',
    ],
)
def test_rows_of_tsv_that_a_quotation_mark_would_merge_are_bad(tmp_path, rows):
    (passage,) = passages_of(put(tmp_path, "a.tsv", rows.encode()))
    assert documents_of([passage]) == [["good"]]
    (bad,) = passage.bad
    assert "record 1: " in bad and "quotation mark" in bad and "double the mark" in bad


def test_quotation_marks_of_tsv_that_are_text_are_doubled(tmp_path):
    rows = 'id\ttext\n1\t"""I came."\n2\tI saw."\n3\t"A list:\n\tone\n\ntwo\n"\n'
    file = put(tmp_path, "a.tsv", rows.encode())
    assert documents_of(passages_of(file)) == [['"I came.'], ['I saw."'], ["A list:", "one", "two"]]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.jsonl", b'{"text": ["a"]}\n', "list"),
        ("a.jsonl", b'{"text": null}\n', "null"),
        ("a.jsonl", b'{"n": 1, "l": ["a"]}\n', "'n', 'l'"),
        ("a.parquet", {"text": [b"a"]}, "binary"),
        ("a.parquet", {"doc": [{"text": "a"}]}, "'doc'"),
    ],
)
def test_the_type_of_a_field_without_texts_is_named(tmp_path, name, data, kind):
    if isinstance(data, dict):
        table, buffer = pyarrow.table(data), pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, buffer)
        data = buffer.getvalue().to_pybytes()
    file = put(tmp_path, name, data)
    with pytest.raises(UserError, match="'text'") as caught:
        passages_of(file)
    assert caught.value.where == file.path and kind in caught.value.received
    assert "--text-field" not in caught.value.remedy


def test_a_field_that_is_not_text(tmp_path):
    file = put(tmp_path, "a.parquet", parquet_bytes(["a"]))
    with pytest.raises(UserError, match="'id'") as caught:
        passages_of(file, text_field="id")
    assert "--text-field text" in caught.value.remedy


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_that_is_not_in_lines_is_refused(tmp_path, name):
    file = put(tmp_path, name, json.dumps([{"text": "a"}, {"text": "b"}]).encode())
    with pytest.raises(UserError, match="not plain text but JSON") as caught:
        passages_of(file)
    assert caught.value.where == file.path and "per line beside it" in caught.value.remedy


@pytest.mark.parametrize("form", ["[\n{}\n]\n", "[{}\n]", "[{}]"])
def test_a_list_with_a_record_per_line_is_refused(tmp_path, form):
    """Its last record alone would be a line of JSON."""
    records = ",\n".join(json.dumps({"text": f"text {n}"}) for n in range(3))
    file = put(tmp_path, "a.json", form.replace("{}", records).encode())
    with pytest.raises(UserError, match="not plain text but JSON"):
        passages_of(file)
    assert passages_of(file, as_plain_text=True)


@pytest.mark.parametrize("last", ["", "\n"])
def test_json_lines_of_an_old_mac(tmp_path, last):
    data = json_bytes(["one", "two", "three", "four"] * 9).replace(b"\n", b"\r") + last.encode()
    file = put(tmp_path, "a.jsonl", data)
    with pytest.raises(UserError, match="lines end with carriage returns") as caught:
        passages_of(file)
    subprocess.run(caught.value.remedy.partition("convert it: ")[2], shell=True, check=True)
    assert len(documents_of(passages_of(file))) == 36


def test_line_ends_within_json_are_text(tmp_path):
    file = put(
        tmp_path, "a.jsonl", json.dumps({"text": "a\u2028" * 50}, ensure_ascii=False).encode()
    )
    assert len(documents_of(passages_of(file))) == 1


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten", "not packed"])
def test_damaged_files_are_named(tmp_path, ending, damage):
    text = "".join(f"{random.Random(n).random()}\n" for n in range(9000)).encode()
    file = put(tmp_path, f"a.txt.{ending}", text)
    data = bytearray((tmp_path / file.name).read_bytes())
    if damage == "cut off":
        del data[-100:]
    elif damage == "overwritten":
        data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    else:
        data = text
    (tmp_path / file.name).write_bytes(data)
    with pytest.raises(UserError, match="or is damaged") as caught:
        passages_of(file)
    assert caught.value.where == file.path and " -t " in caught.value.remedy


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("place", [0, 2])
def test_a_later_frame_whose_beginning_is_damaged(tmp_path, ending, place):
    frames = [PACKERS[f".{ending}"](text) for text in (b"one\n", b"two\n" * 50, b"three\n")]
    data = bytearray(b"".join(frames))
    data[len(frames[0]) + place] ^= 0xFF
    path = tmp_path / f"a.txt.{ending}"
    path.write_bytes(data)
    with pytest.raises(UserError, match="or is damaged") as caught:
        passages_of(CorpusFile(path.name, str(path), len(data)))
    assert caught.value.where == str(path)


def test_padding_of_xz(tmp_path, monkeypatch):
    monkeypatch.setattr("electra_tf2.data.sources.packed._PACKED_BYTES", 7)
    one, two = lzma.compress(b"one\n"), lzma.compress(b"two\n")
    path = tmp_path / "a.txt.xz"
    path.write_bytes(one + bytes(16) + two + bytes(32))
    file = CorpusFile(path.name, str(path), path.stat().st_size)
    assert documents_of(passages_of(file)) == [["one", "two"]]
    path.write_bytes(bytes(file.size))
    with pytest.raises(UserError, match="or is damaged"):
        passages_of(file)


def test_bzip2_does_not_fill_the_memory(tmp_path):
    file = put(tmp_path, "a.txt.bz2", b"o" * 5_000_000)
    with opened(file.path) as raw, packed._OPENERS["bzip2"](raw) as stream:
        assert file.size < 100 and stream.read(3) == b"ooo"
        assert len(stream.raw._ready) < 1 << 20


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_damaged_tables_are_named(tmp_path, name):
    file = put(tmp_path, name, FORMS[name](TEXTS * 50)[:-2000])
    with pytest.raises(UserError, match="Parquet or Arrow") as caught:
        passages_of(file)
    assert caught.value.where == file.path


def test_a_lack_of_memory_is_no_damage(tmp_path, monkeypatch):
    def fail(*_):
        raise pyarrow.ArrowMemoryError("malloc of size 9 failed")

    file = put(tmp_path, "a.arrow", stream_bytes(["one"]))
    monkeypatch.setattr(pyarrow.ipc, "read_schema", fail)
    with pytest.raises(MemoryError):
        passages_of(file)


@pytest.mark.parametrize("way", ["local", "remote", "dictionary"])
def test_a_stream_that_ends_between_two_batches_is_damaged(tmp_path, way):
    table = pyarrow.table({"text": ["one", "two", "three"]})
    if way == "dictionary":
        table = table.append_column("source", pyarrow.array(["x"] * 3).dictionary_encode())
    path = tmp_path / "a.arrow"
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    data = path.read_bytes()
    for end in (b"", bytes(8), data[-8:] + b"more"):
        path.write_bytes(data[:-8] + end)
        where = str(path) if way != "remote" else f"file://{path}"
        with pytest.raises(UserError, match="Parquet or Arrow") as caught:
            passages_of(CorpusFile(path.name, where, path.stat().st_size))
        assert caught.value.where == where


def test_files_of_several_frames_and_streams(tmp_path):
    for ending, pack in PACKERS.items():
        if ending:
            (tmp_path / f"a.txt{ending}").write_bytes(pack(b"one\n") + pack(b"two\n"))
            path = tmp_path / f"a.txt{ending}"
            file = CorpusFile(path.name, str(path), path.stat().st_size)
            assert documents_of(passages_of(file)) == [["one", "two"]]


def test_bytes_that_are_not_utf8_in_a_packed_file(tmp_path):
    file = put(tmp_path, "a.txt.zst", b"one\ntwo \xff three\n")
    with pytest.raises(UserError, match="not UTF-8") as caught:
        passages_of(file)
    assert caught.value.where.startswith(f"{file.path}, line 2, byte 8")


def test_what_a_packed_file_holds_is_recognized(tmp_path):
    with pytest.raises(UserError, match="packed file") as caught:
        passages_of(put(tmp_path, "a.parquet.gz", parquet_bytes(["a"])))
    assert caught.value.remedy.endswith(f"gzip -d {tmp_path}/a.parquet.gz")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_following_the_remedy_for_a_packed_archive(tmp_path, ending):
    with tarfile.open(tmp_path / ".tar", "w") as archive:
        archive.add(tmp_path / put(tmp_path, ".a", b"one\n").name, "a.txt")
    file = put(tmp_path, f"it's.tar{ending}", (tmp_path / ".tar").read_bytes())
    with pytest.raises(UserError, match="a tar archive") as caught:
        passages_of(file)
    subprocess.run(caught.value.remedy.partition("npack it: ")[2], shell=True, check=True)
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    assert documents_of(passages_of(*found)) == [["one"]]


@pytest.mark.parametrize("ending", ["", ".bz2"])
@pytest.mark.parametrize("count", [1, 3])
def test_following_the_remedy_for_json_lines_without_their_ending(tmp_path, ending, count):
    """As wikiextractor writes them: packed or not, in folders."""
    folder = tmp_path / ".dumps" / "it's wiki"
    names = [f"A{'ABC'[n]}/wiki_0{n}{ending}" for n in range(count)]
    for name in [*names, ".hidden/wiki"]:
        (folder / name).parent.mkdir(parents=True)
        put(folder, name, json_bytes(TEXTS))
    found, _ = find_files(str(folder), "--corpus-dir")
    with pytest.raises(UserError, match="JSON lines") as caught:
        CorpusReader().check_names(found, str(folder))
        CorpusReader().check(found[0])
    remedy = caught.value.remedy
    assert "--as-plain-text" in remedy
    CorpusReader(as_plain_text=True).check_names(found, str(folder))
    command = re.search(r"\((mv .*?)\)\.|(find .*)", remedy)
    subprocess.run(command[1] or command[2], shell=True, check=True)
    found, _ = find_files(str(folder), "--corpus-dir")
    assert len(found) == count
    assert documents_of(passages_of(*found)) == DOCUMENTS * count
    CorpusReader().check_names(found, str(folder))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "jsonl", "parquet", "arrow"])
def test_following_the_remedy_for_a_file_without_its_ending(tmp_path, ending):
    name = f"a.txt.{ending}" if f".{ending}" in PACKERS else f"a.{ending}"
    put(tmp_path, name, FORMS[name](TEXTS))
    path = (tmp_path / name).rename(tmp_path / "it's text")
    with pytest.raises(UserError, match="not plain text but") as caught:
        passages_of(CorpusFile(path.name, str(path), path.stat().st_size))
    subprocess.run(re.search(r"\((mv .*?)\)\.", caught.value.remedy)[1], shell=True, check=True)
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    assert documents_of(passages_of(*found)) == DOCUMENTS


def test_empty_files_are_empty(tmp_path):
    for name in FORMS:
        path = tmp_path / name
        path.write_bytes(b"")
        assert passages_of(CorpusFile(name, str(path), 0)) == []


@pytest.mark.parametrize("name", FORMS)
def test_remote_files_are_read_alike(tmp_path, name):
    file = put(tmp_path, name, FORMS[name](TEXTS))
    remote = file._replace(path=f"file://{file.path}")
    assert documents_of(passages_of(remote)) == DOCUMENTS


def test_missing_packages_are_named(tmp_path, monkeypatch):
    for name, package in (("a.parquet", "pyarrow"), ("a.txt.zst", "zstandard")):
        file = put(tmp_path, name, FORMS[name](TEXTS))
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UserError, match=package) as caught:
            passages_of(file)
        assert caught.value.where == file.path
        assert caught.value.remedy == "pip install 'electra-tf2[corpora]'"


def test_a_zstd_window_of_any_size(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packed_text = zstandard.ZstdCompressor(compression_params=parameters).compress(b"one\n" * 99)
    path = tmp_path / "a.txt.zst"
    path.write_bytes(packed_text)
    file = CorpusFile(path.name, str(path), len(packed_text))
    assert len(documents_of(passages_of(file))[0]) == 99
