"""What a file is that isn't plain UTF-8 text, by its first bytes, and how to make text of it."""

from __future__ import annotations

import codecs
import json
import os
import re
from typing import NamedTuple

from electra_tf2.errors import UserError, shell_quoted
from electra_tf2.text.normalization import is_dropped

HEAD_BYTES = 1 << 16
"""As many of a file's first bytes tell what it is."""

_NOT_TAKEN = "Take it out of the corpus folder, or put its text there as UTF-8."


class FileKind(NamedTuple):
    """What a file is instead of plain text.

    Attributes:
        name: what it is.
        remedy: how to make plain text of it; `{path}`, `{new}` (a file beside it) and `{text}` (one
            in another folder) stand for names quoted for a shell.
        is_markup: whether it is text all the same, which may be taken as it is.
    """

    name: str
    remedy: str = _NOT_TAKEN
    is_markup: bool = False

    def remedy_for(self, path: str) -> str:
        """Returns the remedy for a file."""
        text = os.path.join("plain_text", f"{os.path.basename(path)}.txt")
        names = {"{path}": path, "{new}": f"{path}.new", "{text}": text}
        return re.sub("|".join(names), lambda name: shell_quoted(names[name[0]]), self.remedy)


def check_plain_text(path: str, content: bytes, *, as_plain_text: bool = False) -> None:
    """Looks whether the beginning of a file is that of plain text.

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
    if not before.isascii():
        remedy = (
            "The text before it is UTF-8, so this place is damaged. To leave out what can't be "
            "read: iconv -c -f UTF-8 -t UTF-8 {path} > {new}; mv {new} {path}"
        )
    else:
        example = "WINDOWS-1252" if _is_western(content) else "GB18030"
        remedy = (
            f"Convert the file, here from {example}: {_iconv(example)} (if it is "
            "something else, put that in its place, such as WINDOWS-1250, WINDOWS-1251, KOI8-R, "
            "SHIFT_JIS, EUC-JP, EUC-KR, BIG5 or GB18030), or take it out of the corpus."
        )
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
_NOT_IN_WINDOWS_1252 = b"\x81\x8d\x8f\x90\x9d"
_WIDE = {"UTF-32LE": 4, "UTF-32BE": 4, "UTF-16LE": 2, "UTF-16BE": 2}


def _is_western(content: bytes) -> bool:
    """Whether text that isn't UTF-8 may be WINDOWS-1252: single accented letters in ASCII words.

    Args:
        content: from the first byte on that isn't UTF-8.
    """
    content = content[:HEAD_BYTES]
    if any(byte in content for byte in _NOT_IN_WINDOWS_1252):
        return False
    runs = re.findall(rb"[\x80-\xff]+", content)
    return sum(len(run) == 1 for run in runs) > 0.8 * len(runs)


def _iconv(encoding: str) -> str:
    """A shell command that makes a file UTF-8; for `FileKind.remedy`."""
    return f"iconv -f {encoding} -t UTF-8 {{path}} > {{new}} && mv {{new}} {{path}}"


def _encoded(name: str, encoding: str) -> FileKind:
    return FileKind(name, f"Convert it: {_iconv(encoding)}")


def _compressed(program: str) -> FileKind:
    unpack = f"{program} -dc < {{path}} > {{new}} && mv {{new}} {{path}}"
    return FileKind(f"data compressed by {program}", f"Unpack it: {unpack}")


_ZIP = FileKind(
    "a zip archive, or an office document, which is one",
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
