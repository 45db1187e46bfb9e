"""What isn't plain UTF-8 text is recognized by its first bytes, and the remedies work."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf

from electra_tf2.data.sources.found import find_files
from electra_tf2.errors import UserError
from electra_tf2.text.encodings import is_mostly_utf8, likely_encoding
from electra_tf2.text.plain_text import check_plain_text, is_blank, not_utf8, recognize

TEXTS = {
    "english": "The harbour was built in 1871.\n\nIt has two basins.\n",
    "french": "Les élèves sont allés à l'école.\nÇa va ?\n",
    "russian": "Сегодня хорошая погода.\nМосква столица России.\n",
    "greek": "Ο καιρός είναι καλός σήμερα.\n",
    "arabic": "اليوم الطقس جميل\nالقاهرة عاصمة مصر\n",
    "hindi": "आज मौसम अच्छा है।\nदिल्ली भारत की राजधानी है।\n",
    "thai": "วันนี้อากาศดีมาก\nเมื่อวานนี้ฉันไปตลาด\n",
    "chinese": "今天天气很好，我们一起去公园。\n上海是一个大城市。\n",
    "japanese": "今日はいい天気です。\nトウキョウは日本の首都です。\n",
    "korean": "오늘은 날씨가 좋습니다.\n서울은 한국의 수도입니다.\n",
    "emoji": "😀 hello 😃\n",
    "joined emoji": "The 👩‍👩‍👧‍👦 and the 👩🏽‍🚀 wave 🏳️‍🌈.\n",
    "persian": "می‌خواهم به خانه بروم. کتاب‌ها را می‌خوانم.\n",
}
ARTICLES = [{"id": "a", "text": "The harbour.\nTwo basins."}, {"id": "b", "text": "Bread."}]


def refusal(path, content):
    with pytest.raises(UserError) as caught:
        check_plain_text(str(path), content)
    assert caught.value.where == str(path)
    return caught.value


def follow(remedy, folder):
    """Runs the command of a remedy as a shell would."""
    command = re.split(
        r" \(if it is|\)\. If|\)\.$", re.split(r": |(?<!: )\((?=head)", remedy, maxsplit=1)[1]
    )[0]
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("repeated", [1, 400])
def test_text_of_wide_characters_is_told_from_utf_8(language, repeated):
    text = TEXTS[language] * repeated
    for encoding in ("utf-8", "utf-8-sig"):
        assert recognize(text.encode(encoding)[: 1 << 16]) is None
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        kind = recognize(text.encode(encoding)[: 1 << 16])
        name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
        assert kind is not None and kind.name.split()[0] == name
        assert f"-f {name} -t UTF-8" in kind.remedy


ENCODINGS = [
    ("french", "cp1252"), ("russian", "cp1251"), ("russian", "koi8_r"), ("chinese", "gb18030"),
    ("japanese", "shift_jis"), ("japanese", "euc_jp"), ("korean", "euc_kr"), ("thai", "tis_620"),
    ("arabic", "cp1256"), ("greek", "cp1253"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "encoding"), ENCODINGS)
def test_other_encodings_are_left_to_decoding(language, encoding):
    assert recognize(TEXTS[language].encode(encoding) * 20) is None


@pytest.mark.parametrize(
    "text",
    ["", "a", "a\x00b is a line with a NUL\n" * 9, "fields\x1eof\x1fa log\n" * 99, "\x1b[31mred\n",
     "{braces} and [brackets]", '"quoted": {"x"', "<doc id=1>\nfrom a dump", "<3 hearts", "<p>",
     '"Yes."\n"No", he said.\n', '["a"] is a list\n["b"] too', "\x1b(B\x1b[mred\n" * 9, "a\rb\n",
     "C++ or 1+100 or +AAA\n" * 9, "~{a~} of Lisp\n" * 9, "<divide>",
     '{"not json"}', "\ufefftext", "PK is a prefix", "BZ"],
)  # fmt: skip
def test_plain_text_is_taken(text):
    assert recognize(text.encode()) is None


def packed(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zipped(buffer):
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")


def tarred(buffer):
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(b"text", mtime=0), "gzip"),
        (bz2.compress(b"text"), "bzip2"),
        (lzma.compress(b"text"), "xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (packed(zipped), "zip"),
        (packed(tarred), "tar"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 4, "binary"),
        (json.dumps(ARTICLES[0]).encode() + b"\n", "JSON lines"),
        (b'\xef\xbb\xbf \n{ "a": 1}', "JSON lines"),
        (json.dumps(ARTICLES).encode(), "JSON"),
        (json.dumps({"data": ARTICLES}, indent=1).encode(), "JSON"),
        (b"<!DOCTYPE html>\n<html>", "HTML"),
        (b"\n <HTML lang=en>", "HTML"),
        (b'<?xml version="1.0"?>\n<html xmlns="">', "HTML"),
        (b'<div class="a">text', "HTML"),
        (b"<!-- a page -->", "HTML"),
        (b'<?xml version="1.0"?>\n<mediawiki>', "XML"),
        (b"<mediawiki xmlns=", "XML"),
        (b"WARC/1.0\r\n", "WARC"),
        (b'["The harbour.", "Br', "JSON"),
        (b'[\n "The harbour', "JSON"),
        (b'"The harbour."\n\n"Bread."\n"cut o', "JSON lines"),
        (b'[1, "The harbour."]\n[2, "Bread."]\n', "JSON lines"),
        (pickle.dumps([{"text": "a"}]), "pickle"),
    ],
)
def test_other_files_are_named(content, name):
    kind = recognize(content)
    assert kind is not None and name in kind.name


def test_tfrecords_are_named(tmp_path):
    path = str(tmp_path / "a.txt")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.train.Example().SerializeToString() or b"\n\x02\n\x00" * 50)
    assert "TFRecords" in refusal(path, (tmp_path / "a.txt").read_bytes()).what


def test_markup_may_be_taken_as_text():
    for content in (b'{"text": "a"}\n', b"<html>", b"<?xml "):
        assert "--as-plain-text" in refusal("a", content).remedy
        check_plain_text("a", content, as_plain_text=True)
    with pytest.raises(UserError):
        check_plain_text("a", gzip.compress(b"text"), as_plain_text=True)


@pytest.mark.parametrize(
    "encode",
    [lambda text: text.encode("utf-16"), lambda text: text.encode("utf-16-le"),
     lambda text: text.encode("utf-16-be"), lambda text: gzip.compress(text.encode()),
     lambda text: bz2.compress(text.encode())],
)  # fmt: skip
def test_following_a_remedy_gives_the_text(tmp_path, encode):
    path = tmp_path / "it's $(a) {text}.txt"
    path.write_bytes(encode(TEXTS["chinese"]))
    follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    assert path.read_text("utf-8") == TEXTS["chinese"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


SHIFTED = [
    ("japanese", "iso2022_jp"), ("korean", "iso2022_kr"), ("chinese", "hz"), ("russian", "utf-7"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "encoding"), SHIFTED)
def test_text_in_an_encoding_of_seven_bits(tmp_path, language, encoding):
    path = tmp_path / "a b.txt"
    path.write_bytes(TEXTS[language].encode(encoding))
    follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    assert path.read_text("utf-8") == TEXTS[language]


def test_half_width_kana_of_seven_bits(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ｺﾝﾆﾁﾊ 日本\n".encode("iso2022_jp_ext"))
    follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    assert path.read_text("utf-8") == "ｺﾝﾆﾁﾊ 日本\n"


@pytest.mark.parametrize(
    ("end", "name"), [("\r", "carriage returns"), ("\x85", "NEL"), ("\u2028", "U+2028")]
)
def test_lines_that_end_otherwise(tmp_path, end, name):
    path = tmp_path / "a b.txt"
    content = TEXTS["hindi"].replace("\n", end).encode() * 2
    assert recognize(content + b"\n") is None
    path.write_bytes(content)
    error = refusal(path, content)
    assert name in error.what
    follow(error.remedy, tmp_path)
    assert path.read_text("utf-8") == TEXTS["hindi"] * 2
    check_plain_text("a", content, as_plain_text=True)


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\u2029"])
def test_a_few_newlines_do_not_make_lines(end):
    content = f"one line{end}" * 500
    assert recognize((content + "\n").encode()) is not None
    assert recognize((content + "\n").encode() * 9) is not None


@pytest.mark.parametrize(
    "text",
    ["one\r\n" * 99, "one\r\r\n" * 99, "50 %\r90 %\r100 %\n" * 9, "a\rb\rc\rd\n",
     "one\r\n" * 99 + "\r" * 99, "a\u2028b\u2028c\n" * 9],
)  # fmt: skip
def test_other_line_ends_among_newlines_are_taken(text):
    assert recognize(text.encode()) is None


TEXT_ALONE = [{"text": article["text"]} for article in ARTICLES]
OTHERS = [{"url": "a://long/address", "a": {"b": "one\n\ntwo"}}, {"a": {"b": None}}] * 2000
JSON_FILES = {
    "one list": (json.dumps(ARTICLES), ARTICLES),
    "a list in lines": ("[\n" + ",\n".join(map(json.dumps, ARTICLES)) + "\n]\n", ARTICLES),
    "a list begun": ("[" + ",\n".join(map(json.dumps, ARTICLES)) + "]", ARTICLES),
    "a long list": (json.dumps(OTHERS), OTHERS),
    "a list of texts": (json.dumps([article["text"] for article in ARTICLES]), TEXT_ALONE),
    "a list of texts, spread": (
        json.dumps([article["text"] for article in ARTICLES], indent=1),
        TEXT_ALONE,
    ),
    "a text per line": (
        "".join(json.dumps(article["text"]) + "\n\n" for article in ARTICLES),
        TEXT_ALONE,
    ),
}


@pytest.mark.parametrize("form", JSON_FILES)
def test_following_the_remedy_for_json_gives_records(tmp_path, form):
    """What field holds the text, and what a record is without one, is left to the reader."""
    content, expected = JSON_FILES[form]
    for folder in ("x", "y"):
        path = tmp_path / folder / "it's.json"
        path.parent.mkdir()
        path.write_text(content)
        follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    assert [file.name for file in found] == ["x/it's.json.jsonl", "y/it's.json.jsonl"]
    for file in found:
        lines = Path(file.path).read_text().splitlines()
        assert [json.loads(line) for line in lines] == expected


@pytest.mark.parametrize("line", [json.dumps(ARTICLES[0]), '{"a": {"text": "The harbour."}}'])
def test_lines_of_json_are_renamed(tmp_path, line):
    path = tmp_path / "it's.txt"
    path.write_text(f"{line}\n" * 2)
    remedy = refusal(path, path.read_bytes()).remedy
    command = re.search(r"\((mv .*)\)\. Or take the file as the text that it is", remedy)[1]
    assert subprocess.run(command, shell=True).returncode == 0
    assert [file.name for file in find_files(str(tmp_path), "--corpus-dir")[0]] == [
        "it's.txt.jsonl"
    ]


@pytest.mark.parametrize("packed", [lambda: packed(zipped), lambda: packed(tarred)])
def test_following_the_remedy_for_archives(tmp_path, packed):
    path = tmp_path / "it's an archive"
    path.write_bytes(packed())
    follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    assert [file.name for file in found] == ["it's an archive.files/a.txt"]


def test_following_the_remedy_for_pdf(tmp_path, monkeypatch):
    program = tmp_path / ".bin" / "pdftotext"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho text > "$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    path = tmp_path / "a b.pdf"
    path.write_bytes(b"%PDF-1.7\n")
    follow(refusal(path, path.read_bytes()).remedy, tmp_path)
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    assert [file.name for file in found] == ["a b.pdf.txt"]


def not_utf8_remedy(path):
    content = path.read_bytes()
    with pytest.raises(UnicodeDecodeError) as caught:
        content.decode()
    place = caught.value.start
    return not_utf8(
        str(path), line=1, offset=place, before=content[:place], content=content[place:]
    ).remedy


@pytest.mark.parametrize(("language", "encoding"), ENCODINGS)
def test_following_the_remedy_for_other_encodings(tmp_path, language, encoding):
    path = tmp_path / "a b.txt"
    path.write_bytes(TEXTS[language].encode(encoding))
    remedy = not_utf8_remedy(path)
    follow(remedy, tmp_path)
    assert (tmp_path / "a b.txt.new").read_text("utf-8") == TEXTS[language]
    assert "mv " not in remedy and path.read_bytes() == TEXTS[language].encode(encoding)


@pytest.mark.parametrize(("language", "encoding"), [("french", "cp1252"), ("russian", "koi8_r")])
def test_following_the_remedy_for_files_of_two_encodings_that_were_joined(
    tmp_path, language, encoding
):
    text = TEXTS[language] * 20
    path = tmp_path / "a b.txt"
    path.write_bytes(text.encode() + text.encode(encoding))
    remedy = not_utf8_remedy(path)
    follow(remedy, tmp_path)
    assert (tmp_path / "a b.txt.new").read_text("utf-8") == text * 2
    assert "mv " not in remedy and f"from byte {len(text.encode())} on" in remedy


@pytest.mark.parametrize("language", ["russian", "hebrew"])
def test_an_encoding_that_is_not_known_is_left_to_the_user(tmp_path, language):
    text = {"russian": TEXTS["russian"].encode("cp866"), "hebrew": b"\x80\x8c\x85\x8d " * 9}
    path = tmp_path / "a.txt"
    path.write_bytes(text[language])
    remedy = not_utf8_remedy(path)
    assert "iconv -f ENCODING -t UTF-8" in remedy and "mv " not in remedy


def test_a_hungarian_text_is_not_taken_for_a_western_one():
    hungarian = "Az őrült író sűrű erdőben él, és őszintén örül a jó időnek.\n"
    assert likely_encoding(hungarian.encode("cp1250")) is None
    assert likely_encoding("Os aviões põem questões à fé.\n".encode("cp1252")) == "WINDOWS-1252"


def test_a_polish_text_is_not_taken_for_a_russian_one():
    polish = "Pokój był czysty, łóżko wygodne, a śniadanie pyszne.\n"
    assert likely_encoding(polish.encode("iso8859-2")) is None
    assert likely_encoding(polish.encode("cp1250")) is None
    russian = "Установите Windows'а и Linux'а, затем откройте web-сайт.\n"
    assert likely_encoding(russian.encode("cp1251")) == "WINDOWS-1251"


def test_a_polish_text_is_not_taken_for_a_western_one():
    polish = "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.\n"
    assert likely_encoding(polish.encode("iso8859-2")) is None
    french = "Le château, déjà fermé à l'été, a été réparé à côté : 20 m³ d'eau à ±5 % près.\n"
    assert likely_encoding(french.encode("cp1252")) == "WINDOWS-1252"


def test_the_letters_of_ukrainian_are_not_taken_for_lines():
    ukrainian = "Книга була дуже гарною, її їжак, ґанок і є ще.\n"
    assert likely_encoding(ukrainian.encode("koi8-u")) == "KOI8-U"
    assert likely_encoding(TEXTS["russian"].encode("koi8-r")) == "KOI8-R"


def test_japanese_without_kana_is_not_taken_for_korean():
    names = "東京都庁舎\n大阪市役所前\n"
    for encoding in ("cp932", "euc_jp"):
        assert likely_encoding(names.encode(encoding)) is None
    assert likely_encoding(TEXTS["korean"].encode("cp949")) == "CP949"


def test_quotes_and_dashes_alone_are_those_of_windows():
    assert likely_encoding("“It’s 5 €” – at 20 °C, £7…\n".encode("cp1252")) == "WINDOWS-1252"
    assert likely_encoding("gr”n, sch”n\n".encode("cp1252")) is None  # ö of DOS
    assert likely_encoding("ŁK Łódź\n".encode("iso8859-2")) is None  # its first letter is a £


@pytest.mark.parametrize("whole", ["bread ", "né "])
def test_following_the_remedy_for_a_file_that_is_cut_off(tmp_path, whole):
    path = tmp_path / "a b.txt"
    path.write_bytes(whole.encode() + "中".encode()[:2])
    follow(not_utf8_remedy(path), tmp_path)
    assert path.read_text("utf-8") == whole
    assert is_mostly_utf8((whole + "中").encode()[:-1])


def test_following_the_remedy_for_a_damaged_place(tmp_path):
    path = tmp_path / "a b.txt"
    path.write_bytes("né\n".encode() + b"bro\xffken")
    follow(not_utf8_remedy(path), tmp_path)
    assert path.read_text("utf-8") == "né\nbroken"


def test_a_remedy_that_fails_leaves_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("né\n".encode() + b"bro\xffken")
    (tmp_path / "a.txt.new").symlink_to("/dev/full")
    command = not_utf8_remedy(path).partition("python3 ")
    done = subprocess.run("".join(command[1:]), shell=True, cwd=tmp_path, capture_output=True)
    assert done.returncode and path.read_bytes().endswith(b"bro\xffken")


@pytest.mark.parametrize("line", ["", "\ufeff", "\u200b", "\u200b \u00ad\u2060", "\x00", "\x1a"])
def test_lines_that_show_nothing_are_blank(line):
    assert is_blank(line) and not is_blank(line + "a") and not is_blank("中" + line)


@pytest.mark.parametrize("name", ["-rf", "10:00.tar"])
def test_a_remedy_for_a_name_that_programs_misread(name):
    with pytest.raises(UserError) as error:
        check_plain_text(name, gzip.compress(b"x"))
    assert f"< ./{name} > ./{name}.new && mv ./{name}.new ./{name}" in str(error.value)


def test_a_remedy_for_a_name_with_control_characters(tmp_path):
    path = tmp_path / "esc\x1b.gz"
    with pytest.raises(UserError) as error:
        check_plain_text(str(path), gzip.compress(b"x"))
    assert r"esc\x1b.gz'" in str(error.value) and "$'" in str(error.value)
