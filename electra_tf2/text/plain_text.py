"""What a file is that isn't plain UTF-8 text, by its first bytes, and how to make text of it."""

from __future__ import annotations

import codecs
import json
import os
import re
import unicodedata
from typing import NamedTuple

from electra_tf2.errors import UserError, path_quoted, shell_quoted
from electra_tf2.text.normalization import is_dropped

HEAD_BYTES = 1 << 16
"""As many of a file's first bytes tell what it is."""

# Not iconv -c: some versions of it fail where they leave something out, as if the disk were full.
_WITHOUT_DAMAGE = "python3 -X utf8 -c " + shell_quoted(
    'import sys; sys.stdout.writelines(open(0, errors="ignore", newline=""))'
)
_NOT_TAKEN = "Take it out of the corpus folder, or put its text there as UTF-8."


class FileKind(NamedTuple):
    """What a file is instead of plain text.

    Attributes:
        name: what it is.
        remedy: how to make plain text of it; `{path}`, `{new}` (a file beside it) and `{text}` (one
            in another folder) stand for names quoted for a shell.
        is_markup: whether it is text that may be taken as it is.
        encoding: iconv's name of the encoding, where it is text in another one.
    """

    name: str
    remedy: str = _NOT_TAKEN
    is_markup: bool = False
    encoding: str = ""

    def remedy_for(self, path: str) -> str:
        """Returns the remedy for a file."""
        text = os.path.join("plain_text", f"{os.path.basename(path)}.txt")
        names = {"{path}": path, "{new}": f"{path}.new", "{text}": text}
        return re.sub("|".join(names), lambda name: path_quoted(names[name[0]]), self.remedy)


def check_plain_text(path: str, content: bytes, *, as_plain_text: bool = False) -> None:
    """Checks that a file begins like plain text.

    Args:
        path: the file, for the error.
        content: its first bytes, or all.
        as_plain_text: take JSON lines, HTML and XML for the text that they are.

    Raises:
        UserError: it is something else; says what, and how to make text of it.
    """
    kind = recognize(content[:HEAD_BYTES])
    if kind is None or (kind.is_markup and as_plain_text):
        return
    raise UserError(
        f"A file of the corpus is not plain text but {kind.name}.",
        where=path,
        received=f"it begins with {content[:24]!r}",
        remedy=kind.remedy_for(path),
    )


def not_utf8(
    path: str, *, line: int, offset: int, before: bytes, content: bytes, file: str | None = None
) -> UserError:
    """The error for text in another encoding.

    Args:
        path: where it is.
        line: number of the line, from 1.
        offset: the offending byte, from 0.
        before: some text before it.
        content: some text from it on.
        file: to convert; None for `path`.
    """
    if is_mostly_utf8(before[-HEAD_BYTES:] + content[:HEAD_BYTES]):
        remedy = (
            "The text around it is UTF-8, so this place is damaged. To leave out what can't be "
            f"read: {_WITHOUT_DAMAGE} < {{path}} > {{new}} && mv {{new}} {{path}}"
        )
    else:
        line_start = before.rpartition(b"\n")[2][-HEAD_BYTES:]
        remedy = _conversion(line_start + content[:HEAD_BYTES])
    return UserError(
        "The corpus is not UTF-8 text.",
        where=f"{path}, line {line}, byte {offset} of the file (counted from 0)",
        received=f"byte 0x{content[0]:02x} in {content[:12]!r}",
        remedy=FileKind("", remedy).remedy_for(file or path),
    )


def is_blank(line: str) -> bool:
    """Whether a line shows nothing: white space, and characters that the tokenizer drops.

    Those are byte order marks, zero-width spaces and control characters, among others.

    Args:
        line: stripped of white space.
    """
    return not line or (
        not line[0].isprintable() and all(char.isspace() or is_dropped(char) for char in line)
    )


def recognize(head: bytes) -> FileKind | None:
    """Recognizes what isn't plain UTF-8 text.

    Args:
        head: the file's first `HEAD_BYTES`, or all of it.

    Returns:
        What it is; None for plain text, and for text in an encoding of one byte or several that
        only shows where it can't be decoded.
    """
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar":
        return _TAR
    if _is_record(head):
        return FileKind("TFRecords", "Give the text that they were built from.")
    controls = _share(head, _CONTROLS)
    if controls > _FEW:
        is_utf8 = _is_utf8(head)
        # Of the scripts whose UTF-16 may be UTF-8 too, one byte of each character is that low.
        if not is_utf8 or max(_share(head[i::2], bytes(range(32))) for i in (0, 1)) > _MOST:
            if encoding := _wide_encoding(head):
                return _encoded(f"{encoding} text without a byte order mark", encoding)
        if controls > (_MANY if is_utf8 else _SOME):
            return FileKind("binary data")
    return _markup(head.removeprefix(codecs.BOM_UTF8).lstrip())


_FEW, _SOME, _MANY, _MOST = 0.01, 0.05, 0.3, 0.7  # shares of bytes or characters
# Control bytes that text doesn't have: not tab, line ends, form feed, escape.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"
_WIDE = {"UTF-32LE": 4, "UTF-32BE": 4, "UTF-16LE": 2, "UTF-16BE": 2}


class _Encoding(NamedTuple):
    """An encoding that text may have, and how its text looks.

    Attributes:
        name: iconv's and Python's.
        letters: a regular expression for letters that are frequent in it.
        least: their share of the letters and digits that aren't ASCII, or more.
        fewest: so many of them are enough to tell.
    """

    name: str
    letters: str
    least: float
    fewest: int = 3


_KANA, _CYRILLIC = "[ぁ-ヺー]", "[оеаинтсрвлдкуі]"
_WESTERN = "WINDOWS-1252"
_ENCODINGS = (
    _Encoding(_WESTERN, "[éèêëàâáãäçîïíìôöóõûüúùñßœæøåÉÈÀÇÄÖÜÅØ]", 0.9, fewest=1),
    _Encoding("WINDOWS-1251", _CYRILLIC, 0.65),
    _Encoding("KOI8-R", _CYRILLIC, 0.65),
    _Encoding("WINDOWS-1253", "[αοιετσςνηυρκάίόέή]", 0.75),
    _Encoding("WINDOWS-1255", "[יוהלאמרתבשםנ]", 0.7),
    _Encoding("WINDOWS-1256", "[اليمونترب]", 0.55),
    _Encoding("TIS-620", "[านรอกเงม่ยลดวตัทีสแ้]", 0.6),
    _Encoding("CP949", "[가-힣]", 0.9),  # of Windows; EUC-KR is a part of it
    _Encoding("CP932", _KANA, 0.25),
    _Encoding("EUC-JP", _KANA, 0.25),
    _Encoding("GB18030", "[的一是不了在有人我他这中大来上个们到说国和地也子时天很]", 0.12),
    _Encoding("BIG5", "[的一是不了在有人我他這中大來上個們到說國和地也子時天很]", 0.12),
)


def _conversion(content: bytes) -> str:
    """How to make text in an unknown encoding UTF-8; for `FileKind.remedy`.

    The file stays, as a wrong encoding would destroy it.

    Args:
        content: from a line's beginning on, with something that isn't UTF-8.
    """
    likely = likely_encoding(content)
    where = "likely from this encoding" if likely else "with its encoding for ENCODING"
    return (
        f"Convert the file, {where}: {_iconv(likely or 'ENCODING')} (if it is not readable then, "
        "try another name, such as WINDOWS-1250, WINDOWS-1251, WINDOWS-1252, KOI8-R, CP932, "
        "EUC-JP, CP949, BIG5 or GB18030). Then put the new file in its place, or take it out of "
        "the corpus."
    )


def likely_encoding(content: bytes) -> str | None:
    """Guesses the encoding of text by the letters that are frequent in it.

    Args:
        content: from a line's beginning on, with something that isn't UTF-8.

    Returns:
        Its name for iconv and Python; None where none or several of the known ones may be it.
    """
    found = [encoding.name for encoding in _ENCODINGS if _may_be(content, encoding)]
    return found[0] if len(found) == 1 else None


def _may_be(content: bytes, encoding: _Encoding) -> bool:
    if (encoding.name == _WESTERN) != _has_single_letters(content):
        return False
    try:
        text = codecs.getincrementaldecoder(encoding.name)().decode(content)
    except UnicodeDecodeError:
        return False
    text = "".join(char for char in text if not char.isascii() and not char.isspace())
    usual = len(re.findall(encoding.letters, text))
    whole = sum(char.isalnum() or unicodedata.category(char)[0] in "MC" for char in text)
    return usual >= max(encoding.fewest, encoding.least * whole)


def _has_single_letters(content: bytes) -> bool:
    """Whether what isn't ASCII stands alone or in pairs for the most part, not in words."""
    lengths = [len(run) for run in re.findall(rb"[\x80-\xff]+", content)]
    return sum(length for length in lengths if length > 2) <= 0.2 * sum(lengths)


def is_mostly_utf8(content: bytes) -> bool:
    """Whether nearly all characters that aren't ASCII are UTF-8."""
    whole = len(content.translate(None, bytes(range(128))))
    valid = len(content.decode("utf-8", "ignore").encode().translate(None, bytes(range(128))))
    return 2 * valid > whole and whole - valid <= max(2, 0.1 * whole)


def _iconv(encoding: str) -> str:
    """A shell command that writes a file as UTF-8; for `FileKind.remedy`."""
    return f"iconv -f {encoding} -t UTF-8 {{path}} > {{new}}"


def _encoded(name: str, encoding: str) -> FileKind:
    remedy = f"Convert it: {_iconv(encoding)} && mv {{new}} {{path}}"
    return FileKind(name, remedy, encoding=encoding)


def _compressed(program: str) -> FileKind:
    unpack = f"{program} -dc < {{path}} > {{new}} && mv {{new}} {{path}}"
    return FileKind(f"data compressed by {program}", f"Unpack it: {unpack}")


_ZIP = FileKind(
    "a zip archive, as .docx and .xlsx files are",
    "Save a document as UTF-8 text; unpack an archive (mkdir -p plain_text && "
    "python3 -m zipfile -e {path} plain_text) and give the folder plain_text.",
)
_TAR = FileKind(
    "a tar archive",
    "Unpack it (mkdir -p plain_text && tar -xf {path} -C plain_text) and give the folder "
    "plain_text.",
)
_EXPORT = "Write its texts into a file of UTF-8 text, a sentence or paragraph per line."
# The longer of two that begin alike comes first.
_MAGIC = {
    codecs.BOM_UTF32_LE: _encoded("UTF-32 text", "UTF-32"),
    codecs.BOM_UTF32_BE: _encoded("UTF-32 text", "UTF-32"),
    codecs.BOM_UTF16_LE: _encoded("UTF-16 text", "UTF-16"),
    codecs.BOM_UTF16_BE: _encoded("UTF-16 text", "UTF-16"),
    b"\x1f\x8b": _compressed("gzip"),
    b"BZh": _compressed("bzip2"),
    b"\xfd7zXZ\x00": _compressed("xz"),
    b"\x28\xb5\x2f\xfd": _compressed("zstd"),
    b"\x04\x22\x4d\x18": _compressed("lz4"),
    b"PK\x03\x04": _ZIP,
    b"7z\xbc\xaf\x27\x1c": FileKind("a 7z archive"),
    b"Rar!\x1a\x07": FileKind("a RAR archive"),
    b"PAR1": FileKind("a Parquet file", _EXPORT),
    b"ARROW1": FileKind("an Arrow file", _EXPORT),
    b"\xff\xff\xff\xff": FileKind("an Arrow stream, or binary data", _EXPORT),
    b"SQLite format 3\x00": FileKind("a SQLite database", _EXPORT),
    b"\x89HDF": FileKind("an HDF5 file", _EXPORT),
    b"\x93NUMPY": FileKind("a NumPy array", _EXPORT),
    b"%PDF-": FileKind("a PDF document", "Extract its text: pdftotext {path} {new}.txt"),
    b"{\\rtf": FileKind("an RTF document", "Save it as UTF-8 text."),
    b"\xd0\xcf\x11\xe0": FileKind("an old office document", "Save it as UTF-8 text."),
    b"\x89PNG": FileKind("a picture"),
    b"\xff\xd8\xff": FileKind("a picture"),
    b"\x7fELF": FileKind("a program"),
}


def _is_record(head: bytes) -> bool:
    """Whether these are a record's length, in 8 bytes, a checksum, and a message of protobuf."""
    return head[:3] != bytes(3) == head[3:6] and head[6:8] == bytes(2) and head[12:13] == b"\n"


def _share(data: bytes, members: bytes) -> float:
    """The share of some bytes in data."""
    return (len(data) - len(data.translate(None, members))) / max(1, len(data))


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return True


def _wide_encoding(head: bytes) -> str | None:
    """The encoding of text whose characters take two or four bytes; None if it isn't that."""
    for encoding, size in _WIDE.items():
        text = head[: len(head) // size * size].decode(encoding, "replace")
        strange = sum(is_dropped(char) for char in text)
        if text and strange <= _FEW * len(text):
            return encoding
    return None


_JSON = re.compile(rb'(\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:')
# Not <p>, <s> or <doc>, with which corpora of plain text mark their parts.
_XML = re.compile(
    rb"<\?xml\b|<!--|<!doctype\b|"
    rb"<(html|head|body|div|article|section|script|style|meta|title|mediawiki|rss|tei)\b",
    re.IGNORECASE,
)
_AS_IT_IS = " Or take the file as the text that it is, with --as-plain-text."


def _markup(start: bytes) -> FileKind | None:
    if _JSON.match(start):
        return _json(start)
    if found := _XML.match(start):
        tag = (found[1] or b"").lower()
        is_xml = tag in (b"mediawiki", b"rss", b"tei") or start.startswith(b"<?xml")
        name = "XML" if is_xml and b"<html" not in start[:1000].lower() else "HTML"
        remedy = "Write the text in it, without tags, into a file of UTF-8 text."
        return FileKind(name, remedy + _AS_IT_IS, is_markup=True)
    if start.startswith(b"WARC/"):
        return FileKind("a web archive (WARC)", _EXPORT + _AS_IT_IS, is_markup=True)
    return None


def _json(start: bytes) -> FileKind:
    first, _, rest = start.partition(b"\n")
    field = _text_field(first)
    spread = bool(rest.strip()) and first.rstrip().endswith((b"{", b"[", b","))
    name = "JSON" if spread or start.startswith(b"[") else "JSON lines"
    if spread or field == "":
        return FileKind(name, _EXPORT + _AS_IT_IS, is_markup=True)
    items = "json.load(sys.stdin)"
    if not start.startswith(b"["):
        items = "(json.loads(line) for line in sys.stdin if line.strip())"
    # An empty line after each text, so that each is a document.
    key = json.dumps(field or "text")
    program = f'import json, sys; [print(item[{key}], end="\\n\\n") for item in {items}]'
    command = f"mkdir -p plain_text && python3 -c {shell_quoted(program)} < {{path}} > {{text}}"
    return FileKind(
        name,
        f"Write its texts into a folder ({command}) and give the folder plain_text.{_AS_IT_IS}",
        is_markup=True,
    )


def _text_field(line: bytes) -> str | None:
    """The field with the longest text of a JSON object, or of the first in a list.

    "" where it has none, None where the line is cut off.
    """
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(item, list):
        item = item[0] if item else None
    texts = {k: v for k, v in item.items() if isinstance(v, str)} if isinstance(item, dict) else {}
    plain = [name for name in texts if name.isascii() and name.isidentifier()]
    return max(plain, key=lambda name: len(texts[name])) if plain else ""
