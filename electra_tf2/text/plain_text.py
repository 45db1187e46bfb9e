"""What a file is that isn't plain UTF-8 text, by its first bytes, and how to make text of it."""

from __future__ import annotations

import codecs
import json
import os
import re
from typing import NamedTuple

from electra_tf2.errors import UserError, path_quoted, shell_quoted
from electra_tf2.text.encodings import (
    begins_otherwise,
    cut_character,
    is_mostly_utf8,
    is_utf8,
    likely_encoding,
    seven_bit_encoding,
    wide_encoding,
)
from electra_tf2.text.normalization import is_dropped

HEAD_BYTES = 1 << 16
"""As many of a file's first bytes tell what it is."""

# Not iconv -c: some versions of it fail where they leave something out, as if the disk were full.
_WITHOUT_DAMAGE = "python3 -X utf8 -c " + shell_quoted(
    'import sys; sys.stdout.writelines(open(0, errors="ignore", newline=""))'
)
_NOT_TAKEN = "Take it out of the corpus folder, or put its text there as UTF-8."
_AS_IT_IS = "Take the file as the text that it is, with --as-plain-text"
_AS_IT_IS_OR = f"{_AS_IT_IS}, or "
_TO_PYTHON = "python3 -X utf8 -c"


class FileKind(NamedTuple):
    """What a file is instead of plain text.

    Attributes:
        name: what it is.
        remedy: how to make plain text of it, a command at the end; `{path}` and names beside it
            stand for names quoted for a shell: `{new}`, `{text}`, `{lines}`, `{folder}` and
            `{hidden}`, which the builders leave out.
        is_markup: whether it is text that may be taken as it is.
        encoding: iconv's name of the encoding, where it is text in another one.
        ending: that of the names of such files, which the builders know them by; "" if they don't.
        is_packed: whether other files are in it.
    """

    name: str
    remedy: str = _NOT_TAKEN
    is_markup: bool = False
    encoding: str = ""
    ending: str = ""
    is_packed: bool = False

    def remedy_for(self, path: str) -> str:
        """Returns the remedy for a file."""
        names = {
            "{path}": path,
            "{new}": f"{path}.new",
            "{text}": f"{path}.txt",
            "{lines}": f"{path}.jsonl",
            "{folder}": f"{path}.files",
            "{hidden}": os.path.join(os.path.dirname(path), f".{os.path.basename(path)}"),
        }
        return re.sub("|".join(names), lambda name: path_quoted(names[name[0]]), self.remedy)


def check_plain_text(
    path: str, content: bytes, *, as_plain_text: bool = False, member: str | None = None
) -> None:
    """Checks that a file begins like plain text.

    Args:
        path: the file, for the error.
        content: its first bytes, or all.
        as_plain_text: take JSON lines, HTML and XML for the text that they are.
        member: its name in an archive, if `path` is a place in one.

    Raises:
        UserError: it is something else; says what, and how to make text of it.
    """
    kind = recognize(content[:HEAD_BYTES])
    if kind is not None and not (kind.is_markup and as_plain_text):
        raise _refusal(path, content, kind, member)


def check_no_pointer(path: str, content: bytes) -> None:
    """Checks that a file, whatever it should hold, is not a pointer of Git LFS.

    Args:
        content: its first bytes, or all of it.

    Raises:
        UserError: it is one; says how to get the file itself.
    """
    if content.startswith(POINTER):
        raise _refusal(path, content, _MAGIC[POINTER], None)


def check_line_ends(path: str, content: bytes, *, member: str | None = None) -> None:
    """Checks that lines end as they do in plain text, whatever is in them.

    Args:
        path, content, member: see `check_plain_text`.

    Raises:
        UserError: they end otherwise; says how to convert them.
    """
    if kind := _line_ends(content[:HEAD_BYTES]):
        raise _refusal(path, content, kind, member)


def _refusal(path: str, content: bytes, kind: FileKind, member: str | None) -> UserError:
    if kind is TAR and member and _gives(path, member):
        member = None  # tar unpacks the file itself
    return UserError(
        f"A file of the corpus is not plain text but {kind.name}.",
        where=path,
        received=f"it begins with {content[:24]!r}",
        remedy=_or_another_name(_remedy(kind.remedy, path, member), kind, path, member),
    )


def _or_another_name(remedy: str, kind: FileKind, path: str, member: str | None) -> str:
    """Returns a remedy with the one of a name by which the file is read as what it is, if any."""
    stem, packing = os.path.splitext(path) if member else (path, "")
    if not kind.ending or stem.lower().endswith(kind.ending):
        return remedy
    if member and (kind.ending != _LINES or not _gives(path, member)):
        return remedy  # what is packed is read from within no other packed file
    names = f"{path_quoted(path)} {path_quoted(stem + kind.ending + packing)}"
    ending = kind.ending + packing
    rename = f"Give it a name that ends in {ending}, to be read as what it is (mv {names})."
    return f"{rename} Or {remedy[0].lower()}{remedy[1:]}"


def _gives(path: str, member: str) -> bool:
    """Whether unpacking a file gives `member` alone: it is none of the files of an archive."""
    return os.path.splitext(os.path.basename(path))[0] == member


def not_utf8(
    path: str, *, line: int, offset: int, before: bytes, content: bytes, member: str | None = None
) -> UserError:
    """The error for text in another encoding.

    Args:
        path: where it is.
        line: number of the line, from 1.
        offset: the offending byte, from 0.
        before: some text before it.
        content: some text from it on.
        member: its name in an archive, if `path` is a place in one.
    """
    what = "The corpus is not UTF-8 text."
    line_start = before.rpartition(b"\n")[2][-HEAD_BYTES:]
    if cut_character(content) == content:
        what = "A file of the corpus ends within a character."
        remedy = (
            "If the file was cut off, copy it again, or leave the rest of the character out (head "
            f"-c {offset} {{path}} > {{new}} && mv {{new}} {{path}})."
        )
        if before.isascii():
            conversion = _conversion(line_start + content)
            remedy += f" If it has another encoding: {conversion.replace('Convert', 'convert')}"
    elif begins_otherwise(before[-HEAD_BYTES:], content[:HEAD_BYTES]):
        remedy = _conversion(line_start + content[:HEAD_BYTES], offset - len(line_start))
    elif is_mostly_utf8(before[-HEAD_BYTES:] + content[:HEAD_BYTES]):
        remedy = (
            "The text around it is UTF-8, so this place is damaged. To leave out what can't be "
            f"read: {_WITHOUT_DAMAGE} < {{path}} > {{new}} && mv {{new}} {{path}}"
        )
    else:
        remedy = _conversion(line_start + content[:HEAD_BYTES])
    return UserError(
        what,
        where=f"{path}, line {line}, byte {offset} of the file (counted from 0)",
        received=f"byte 0x{content[0]:02x} in {content[:12]!r}",
        remedy=_remedy(remedy, path, member),
    )


def _remedy(remedy: str, path: str, member: str | None) -> str:
    around = "Unpack the archive, mend the file in it, and pack it again. " if member else ""
    return around + FileKind("", remedy).remedy_for(member or path)


def is_blank(line: str) -> bool:
    """Whether a stripped line shows nothing: white space, and characters the tokenizer drops.

    Those are byte order marks, zero-width spaces and control characters, among others.
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
        return TAR
    if _is_record(head):
        return FileKind("TFRecords", "Give the text that they were built from.")
    if encoding := seven_bit_encoding(head):
        return _shifted(encoding)
    controls = _share(head, _CONTROLS)
    if controls > _FEW:
        valid = is_utf8(head)
        # Of the scripts whose UTF-16 may be UTF-8 too, one byte of each character is that low.
        if not valid or max(_share(head[i::2], bytes(range(32))) for i in (0, 1)) > _MOST:
            if encoding := wide_encoding(head):
                return _encoded(f"{encoding} text without a byte order mark", encoding)
        if controls > (_MANY if valid else _SOME):
            return FileKind("binary data")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return _json_texts(start) or _markup(start) or _line_ends(head)


_FEW, _SOME, _MANY, _MOST = 0.01, 0.05, 0.3, 0.7  # shares of bytes
# Control bytes that text doesn't have: not tab, line ends, form feed, escape.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"


def _conversion(content: bytes, start: int = 0) -> str:
    """How to make text in an unknown encoding UTF-8; for `FileKind.remedy`.

    The file stays, as a wrong encoding would destroy it.

    Args:
        content: some of that text.
        start: its first byte, before which the file is UTF-8 already.
    """
    likely = likely_encoding(content)
    where = "likely from this encoding" if likely else "with its encoding for ENCODING"
    encoding, what = likely or "ENCODING", "the file"
    command = _iconv(encoding)
    if start:
        what = f"what comes from byte {start} on, as if another file had been joined to it"
        convert = f"tail -c +{start + 1} {{path}} | iconv -f {encoding} -t UTF-8"
        command = f"(head -c {start} {{path}}; {convert}) > {{new}}"
    return (
        f"Convert {what}, {where}: {command} (if it is not readable then, "
        "try another name, such as WINDOWS-1250, WINDOWS-1251, WINDOWS-1252, KOI8-R, CP932, "
        "EUC-JP, CP949, BIG5 or GB18030). Then put the new file in its place, or take it out of "
        "the corpus."
    )


def _iconv(encoding: str) -> str:
    """A shell command that writes a file as UTF-8; for `FileKind.remedy`."""
    return f"iconv -f {encoding} -t UTF-8 {{path}} > {{new}}"


def _encoded(name: str, encoding: str) -> FileKind:
    remedy = f"Convert it: {_iconv(encoding)} && mv {{new}} {{path}}"
    return FileKind(name, remedy, encoding=encoding)


def _shifted(encoding: str) -> FileKind:
    """Text whose bytes are ASCII. But for escape sequences, it may just look like that."""
    kind = _encoded(f"{encoding} text", encoding)
    if encoding.startswith("ISO"):
        return kind
    if encoding == "HZ":  # which GNU's iconv doesn't know
        program = "import sys; print(sys.stdin.buffer.read().decode('hz'), end='')"
        kind = FileKind(
            kind.name,
            f"Convert it: {_TO_PYTHON} {shell_quoted(program)} < {{path}} > {{new}} && mv {{new}} "
            "{path}",
        )
    remedy = _AS_IT_IS_OR + kind.remedy.replace("Convert", "convert")
    return kind._replace(remedy=remedy, is_markup=True)


def _compressed(program: str, ending: str = "") -> FileKind:
    unpack = f"{program} -dc < {{path}} > {{new}} && mv {{new}} {{path}}"
    name = f"data compressed by {program}"
    return FileKind(name, f"Unpack it: {unpack}", ending=ending, is_packed=True)


_ZIP = FileKind(
    "a zip archive, as .docx and .xlsx files are",
    "Save a document as UTF-8 text in its place, or unpack an archive: mkdir {folder} && "
    "python3 -m zipfile -e {path} {folder} && mv {path} {hidden}",
    is_packed=True,
)
TAR = FileKind(
    "a tar archive",
    "Unpack it: mkdir {folder} && tar -xf {path} -C {folder} && mv {path} {hidden}",
    is_packed=True,
)
_EXPORT = "Put a file of UTF-8 text in its place, with a sentence or paragraph per line."
_SAVE = "Save it as UTF-8 text, in its place."
POINTER = b"version https://git-lfs.github.com/spec/"
"""What a pointer of Git LFS begins with."""
MOST_POINTER_BYTES = 1024
"""A pointer of Git LFS is shorter."""
# The longer of two that begin alike comes first.
_MAGIC = {
    POINTER: FileKind(
        "a pointer of Git LFS, in place of a file that was not downloaded",
        "Download the file itself: git lfs pull, in the repository that it comes from.",
    ),
    codecs.BOM_UTF32_LE: _encoded("UTF-32 text", "UTF-32"),
    codecs.BOM_UTF32_BE: _encoded("UTF-32 text", "UTF-32"),
    codecs.BOM_UTF16_LE: _encoded("UTF-16 text", "UTF-16"),
    codecs.BOM_UTF16_BE: _encoded("UTF-16 text", "UTF-16"),
    b"\x1f\x8b": _compressed("gzip", ".gz"),
    b"BZh": _compressed("bzip2", ".bz2"),
    b"\xfd7zXZ\x00": _compressed("xz", ".xz"),
    b"\x28\xb5\x2f\xfd": _compressed("zstd", ".zst"),
    b"\x04\x22\x4d\x18": _compressed("lz4"),
    b"PK\x03\x04": _ZIP,
    b"7z\xbc\xaf\x27\x1c": FileKind("a 7z archive"),
    b"Rar!\x1a\x07": FileKind("a RAR archive"),
    b"PAR1": FileKind("a Parquet file", _EXPORT, ending=".parquet"),
    b"ARROW1": FileKind("an Arrow file", _EXPORT, ending=".arrow"),
    b"\xff\xff\xff\xff": FileKind("an Arrow stream, or binary data", _EXPORT, ending=".arrow"),
    b"SQLite format 3\x00": FileKind("a SQLite database", _EXPORT),
    b"\x89HDF": FileKind("an HDF5 file", _EXPORT),
    b"\x93NUMPY": FileKind("a NumPy array", _EXPORT),
    b"%PDF-": FileKind(
        "a PDF document", "Extract its text: pdftotext {path} {text} && mv {path} {hidden}"
    ),
    b"{\\rtf": FileKind("an RTF document", _SAVE),
    b"\xd0\xcf\x11\xe0": FileKind("an old office document", _SAVE),
    b"\x89PNG": FileKind("a picture"),
    b"\xff\xd8\xff": FileKind("a picture"),
    b"\x7fELF": FileKind("a program"),
    **{
        bytes([0x80, version]): FileKind("a pickle of Python's", _EXPORT) for version in range(2, 6)
    },
}


def _is_record(head: bytes) -> bool:
    """Whether these are a record's length, in 8 bytes, a checksum, and a message of protobuf."""
    return head[:3] != bytes(3) == head[3:6] and head[6:8] == bytes(2) and head[12:13] == b"\n"


def _share(data: bytes, members: bytes) -> float:
    """The share of some bytes in data."""
    return (len(data) - len(data.translate(None, members))) / max(1, len(data))


_LINES = ".jsonl"
_JSON = re.compile(rb'(\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:')
# Not <p>, <s> or <doc>, with which corpora of plain text mark their parts.
_XML = re.compile(
    rb"<\?xml\b|<!--|<!doctype\b|"
    rb"<(html|head|body|div|article|section|script|style|meta|title|mediawiki|rss|tei)\b",
    re.IGNORECASE,
)


def _markup(start: bytes) -> FileKind | None:
    if _JSON.match(start):
        return _json(start)
    if found := _XML.match(start):
        tag = (found[1] or b"").lower()
        is_xml = tag in (b"mediawiki", b"rss", b"tei") or start.startswith(b"<?xml")
        name = "XML" if is_xml and b"<html" not in start[:1000].lower() else "HTML"
        remedy = "put the text in it, without tags, in its place."
        return FileKind(name, _AS_IT_IS_OR + remedy, is_markup=True)
    if start.startswith(b"WARC/"):
        return _export("a web archive (WARC)")
    return None


def _export(name: str) -> FileKind:
    return FileKind(name, _AS_IT_IS_OR + _EXPORT.replace("Put", "put"), is_markup=True)


def _json(start: bytes) -> FileKind:
    if start.startswith(b"["):
        return _objects_in_json("JSON", "item", _ITEMS[1])
    first, _, rest = start.partition(b"\n")
    if rest.strip() and first.rstrip().endswith((b"{", b",")):
        return _export("JSON")  # an object over several lines
    return FileKind("JSON lines", f"{_AS_IT_IS}.", is_markup=True, ending=_LINES)


_TEXT_ALONE = '{"text": item}'
_ITEMS = ("(json.loads(line) for line in sys.stdin if line.strip())", "json.load(sys.stdin)")


def _objects_in_json(name: str, record: str, items: str) -> FileKind:
    """JSON to make lines of, with Python expressions for its items and an item's record."""
    # Records, not texts: one may have empty lines, lack its text, or have several to choose from.
    program = f"import json, sys; [print(json.dumps({record})) for item in {items}]"
    remedy = f"write a JSON object per line beside it: {_piped(program, '{lines}')}"
    return FileKind(name, _AS_IT_IS_OR + remedy, is_markup=True)


def _piped(program: str, new: str) -> str:
    """A command by which a program of Python's writes a new file, which takes the other's place."""
    return f"{_TO_PYTHON} {shell_quoted(program)} < {{path}} > {new} && mv {{path}} {{hidden}}"


_JSON_TEXTS = re.compile(rb'\[\s*(\[\s*)?"(?:[^"\\\n]|\\.)*"\s*,|\[\s*\n\s*(\[\s*)?"')


def _json_texts(start: bytes) -> FileKind | None:
    """Recognizes a list of texts, or a text or list in every line, in JSON."""
    lines = [line for line in start.split(b"\n") if line.strip()]
    # The last line may be cut.
    items = [_text_or_list(line) for line in lines[: max(2, len(lines) - 1)]]
    if len(items) > 1 and None not in items:
        if all(isinstance(item, str) for item in items):
            return _objects_in_json("JSON lines", _TEXT_ALONE, _ITEMS[0])
        return _export("JSON lines")
    if found := _JSON_TEXTS.match(start):
        is_nested = found[1] or found[2]
        if not is_nested:
            return _objects_in_json("JSON", _TEXT_ALONE, _ITEMS[1])
        return _export("JSON")
    return None


def _text_or_list(line: bytes) -> str | list[object] | None:
    """The text or list that a line of JSON holds; None for any other line."""
    if not line.startswith((b'"', b"[")):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# What ends lines elsewhere: its name, and what makes "\n" of it.
_LINE_ENDS = {
    b"\r": ("carriage returns, as on an old Mac", r"tr '\r' '\n' < {path}"),
    b"\xc2\x85": ("U+0085 (NEL)", r"sed 's/\xc2\x85/\n/g' {path}"),
    b"\xe2\x80\xa8": ("U+2028", r"sed 's/\xe2\x80\xa8/\n/g' {path}"),
    b"\xe2\x80\xa9": ("U+2029", r"sed 's/\xe2\x80\xa9/\n/g' {path}"),
}
# So many of them, and so many times as many as of "\n": one may end the file, or come from a join.
_FEWEST_ENDS, _MORE_THAN_NEWLINES = 3, 10


def _line_ends(head: bytes) -> FileKind | None:
    least = max(_FEWEST_ENDS, _MORE_THAN_NEWLINES * head.count(b"\n") + 1)
    for end, (name, command) in _LINE_ENDS.items():
        ends = head.count(end) - (head.count(b"\r\n") if end == b"\r" else 0)
        if ends >= least:
            remedy = f"{_AS_IT_IS_OR}convert it: {command} > {{new}} && mv {{new}} {{path}}"
            return FileKind(f"text whose lines end with {name}", remedy, is_markup=True)
    return None
