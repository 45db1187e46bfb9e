"""Files of text in the encodings that people have, and what is said of other files."""

import gzip
import pathlib
import shutil
import subprocess

import pytest

from electra_tf2.errors import UserError
from finetune.data_files import read_text, whole_number

TEXT = "label\ttext\nbon\tTrès bon, 10 €…\nmauvais\tdéçu\n"
CYRILLIC = "метка\tтекст\nда\tХороший фильм\nнет\tСкучный фильм\n"


def stored(tmp_path, content, name="train.tsv"):
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


def refusal(path):
    with pytest.raises(UserError) as error:
        read_text(path)
    return error.value


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
    ],
)
def test_encodings_with_a_mark_and_gzip_are_read(tmp_path, content):
    assert read_text(stored(tmp_path, content)) == TEXT


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (TEXT, "cp1252", "WINDOWS-1252"),
        (TEXT, "utf-16-le", "UTF-16LE"),
        (TEXT, "utf-16-be", "UTF-16BE"),
        ("label,text\n1,这部电影很好看，我非常喜欢。\n" * 9, "utf-16-le", "UTF-16LE"),
        (CYRILLIC, "cp1251", "WINDOWS-1251"),
        ("label,text\n1,今日はいい天気です。\n" * 9, "iso2022_jp", "ISO-2022-JP-2"),
        ("label,text\n1,“I don’t – 5 €”\n", "cp1252", "WINDOWS-1252"),
        ("label,text\n1,win £5\n", "latin-1", "WINDOWS-1252"),
        ("label,text\n1,とても良い商品です。東京\n", "cp932", "CP932"),
    ],
)
@pytest.mark.skipif(shutil.which("iconv") is None, reason="the remedy is a command of iconv's")
def test_other_encodings_are_named_with_a_command_that_converts(tmp_path, text, encoding, named):
    path = stored(tmp_path, text.encode(encoding), "the 'best' train.tsv")
    error = refusal(path)
    assert error.where.startswith(path)
    assert named in error.remedy
    command = error.remedy[error.remedy.index("(test ") : error.remedy.index(")") + 1]
    subprocess.run(["sh", "-c", command], check=True)
    assert read_text(path) == text


def test_a_gzipped_file_is_converted_too(tmp_path):
    path = stored(tmp_path, gzip.compress(TEXT.encode("cp1252"), mtime=0), "train.tsv.gz")
    original = f"{path[:-3]}.original"
    assert f"gunzip {path} && test ! -e {original} && mv " in refusal(path).remedy


@pytest.mark.skipif(shutil.which("iconv") is None, reason="the remedy is a command of iconv's")
def test_a_second_conversion_leaves_the_original(tmp_path):
    path = stored(tmp_path, TEXT.encode("cp1252"))
    remedy = refusal(path).remedy
    command = remedy[remedy.index("(test ") : remedy.index(")") + 1]
    assert [subprocess.run(["sh", "-c", command]).returncode > 0 for _ in range(2)] == [0, 1]
    assert pathlib.Path(f"{path}.original").read_bytes() == TEXT.encode("cp1252")


@pytest.mark.parametrize("encoding", ["gb18030", "cp932", "cp949", "big5"])
def test_east_asian_encodings_are_not_taken_for_western_ones(tmp_path, encoding):
    text = {"cp932": "とても良い映画です", "cp949": "정말 좋은 영화입니다"}.get(
        encoding, "這部電影非常好看"
    )
    error = refusal(stored(tmp_path, f"text\n{text}\n".encode(encoding)))
    assert "looks like WINDOWS-1252" not in error.remedy
    assert encoding.upper() in error.remedy


def test_a_damaged_byte_in_utf8_is_named(tmp_path):
    path = stored(tmp_path, CYRILLIC.encode() + b"\xd1\t1\n")
    error = refusal(path)
    assert error.where == f"{path}, line 4"
    assert "rest of the file is UTF-8" in error.received and "iconv -c" in error.remedy


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00!\xff\xff", "xlsx"),
        (b"PAR1\x15\x04\xff\xff", "Parquet"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-9], "gzip|marker"),
    ],
)
def test_what_is_not_text_is_named(tmp_path, content, word):
    path = stored(tmp_path, content)
    error = refusal(path)
    assert error.where == path
    assert any(part in str(error) for part in word.split("|"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
        ("\n<!DOCTYPE html>\n<html><title>404</title></html>\n", "web page"),
        ('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
    ],
)
def test_what_a_download_gave_in_place_of_a_file_is_named(tmp_path, text, word):
    error = refusal(stored(tmp_path, text.encode(), "train.txt"))
    assert word in str(error)


def test_a_page_in_a_cell_is_text(tmp_path):
    text = "<html>a</html>\t1\n<html>b</html>\t0\n"
    assert read_text(stored(tmp_path, text.encode())) == text


def test_some_zeros_are_text(tmp_path):
    text = "text\tlabel\na\0b\t1\n" + "c\t0\n" * 999
    assert read_text(stored(tmp_path, text.encode())) == text


@pytest.mark.skipif(shutil.which("iconv") is None, reason="the remedy is a command of iconv's")
def test_the_command_works_for_a_name_with_control_characters(tmp_path):
    path = stored(tmp_path, "caf\xe9 au lait\n".encode("latin-1"), "tr\x1bain\n.tsv")
    shown = str(refusal(path))
    command = shown[shown.index("(test ") : shown.rindex(")") + 1]
    subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path)
    assert read_text(str(path)) == "café au lait\n"


@pytest.mark.parametrize(
    "value, number",
    [
        (1, 1), (1.0, 1), ("1", 1), (" 1.0", 1), ("1e0", 1), (-2.0, -2),
        (2**53 + 1, 2**53 + 1), (str(2**53 + 1), 2**53 + 1),
        (1.5, None), ("1.5", None), ("1_000", None), ("", None), ("x", None), (True, None),
        (None, None), (float("nan"), None), (float("inf"), None), ("inf", None), ("9" * 5000, None),
    ],
)  # fmt: skip
def test_whole_numbers(value, number):
    assert whole_number(value) == number
