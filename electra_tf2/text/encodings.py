"""The encodings that text may have instead of UTF-8, told by how it looks."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import NamedTuple

from electra_tf2.text.normalization import is_dropped

# What shifts to other characters in text of ASCII bytes alone, and iconv's name of the encoding.
# The colours of terminals (ESC [) and the way back to ASCII (ESC ( B) are not among them.
_SHIFTS = (
    (re.compile(rb"\x1b\$\)C"), "ISO-2022-KR"),
    (re.compile(rb"\x1b\$[)*]"), "ISO-2022-CN-EXT"),
    (re.compile(rb"\x1b\(I"), "ISO-2022-JP-3"),
    (re.compile(rb"\x1b\$([@AB]|\([A-D])"), "ISO-2022-JP-2"),
)
_HZ = re.compile(rb"~\{(?:[\x21-\x77][\x21-\x7e])+~\}")
_UTF7 = re.compile(rb"\+[A-Za-z0-9+/]{3}")
_FEWEST_SHIFTS, _FEWEST_SHIFTED = 3, 10
_FEWEST_OF_AN_ENCODING = 20  # bytes
_WIDE = {"UTF-32LE": 4, "UTF-32BE": 4, "UTF-16LE": 2, "UTF-16BE": 2}
_STRANGE = 0.01  # the share of characters that text may have and BERT's cleaning drops


class _Encoding(NamedTuple):
    """An encoding that text may have, and how its text looks.

    Attributes:
        name: iconv's and Python's.
        letters: a regular expression for letters that are frequent in it.
        least: their share of the letters and digits that aren't ASCII, or more.
        fewest: so many of them are enough to tell.
        apart: whether its words have no ASCII letters.
    """

    name: str
    letters: str
    least: float
    fewest: int = 3
    apart: bool = False


_KANA, _CYRILLIC = "[ぁ-ヺー]", "[оеаинтсрвлдкуі]"
_WESTERN = "WINDOWS-1252"
_ENCODINGS = (
    _Encoding(_WESTERN, "[éèêëàâáãäçîïíìôöóõûüúùñßœæøåÉÈÀÇÄÖÜÅØ]", 0.9, fewest=1),
    _Encoding("WINDOWS-1251", _CYRILLIC, 0.65, apart=True),
    _Encoding("KOI8-R", _CYRILLIC, 0.65, apart=True),
    _Encoding("WINDOWS-1253", "[αοιετσςνηυρκάίόέή]", 0.75, apart=True),
    _Encoding("WINDOWS-1255", "[יוהלאמרתבשםנ]", 0.7, apart=True),
    _Encoding("WINDOWS-1256", "[اليمونترب]", 0.55, apart=True),
    _Encoding("TIS-620", "[านรอกเงม่ยลดวตัทีสแ้]", 0.6),
    # Of Windows; EUC-KR is a part of it. Nearly all bytes of Japanese are some syllable of it.
    _Encoding(
        "CP949",
        "[이다는가에을의고하지은를한로기도사리자인시대서어정해나아요게들그있것니라면만보]",
        0.12,
    ),
    _Encoding("CP932", _KANA, 0.25),
    _Encoding("EUC-JP", _KANA, 0.25),
    _Encoding("GB18030", "[的一是不了在有人我他这中大来上个们到说国和地也子时天很]", 0.12),
    _Encoding("BIG5", "[的一是不了在有人我他這中大來上個們到說國和地也子時天很]", 0.12),
)


# Quotes, dashes and the like, as English text has them: they are the same in the encodings of
# Windows for Latin letters, and elsewhere those bytes are letters or controls.
_SIGNS = re.compile(rb"[\x80\x82\x84\x85\x8b\x91-\x97\x99\x9b\xa0\xa7\xb0]{1,2}|\xa3(?=[0-9])")
_SIGN_AS_LETTER = re.compile(rb"[A-Za-z][^\0-\x7f\x92\x96\x97][A-Za-z]")


# Letters of Ukrainian in KOI8-U, where KOI8-R has lines for drawing.
_KOI8_U = re.compile(rb"[\xa4\xa6\xa7\xad\xb4\xb6\xb7\xbd]")
# Words of other letters are a few endings of names at most ("Windows'а") where the encoding is
# right, and nearly all words where the letters are those of Central Europe.
_NOT_ASCII = re.compile("[^\0-\x7f]+")
_MIXED = re.compile("(?<=[A-Za-z])[^\0-\x7f]+|[^\0-\x7f]+(?=[A-Za-z])")
_FEW_MIXED = 0.3


def likely_encoding(content: bytes) -> str | None:
    """Guesses the encoding of text by the letters that are frequent in it.

    Args:
        content: from a line's beginning on, with something that isn't UTF-8.

    Returns:
        Its name for iconv and Python; None where none or several of the known ones may be it.
    """
    if _SIGNS.search(content) and _SIGNS.sub(b"", content).isascii():
        if not _SIGN_AS_LETTER.search(content):
            return _WESTERN
    found = [encoding.name for encoding in _ENCODINGS if _may_be(content, encoding)]
    if found == ["KOI8-R"] and _KOI8_U.search(content):
        return "KOI8-U"
    return found[0] if len(found) == 1 else None


def _may_be(content: bytes, encoding: _Encoding) -> bool:
    if (encoding.name == _WESTERN) != _has_single_letters(content):
        return False
    try:
        text = codecs.getincrementaldecoder(encoding.name)().decode(content)
    except UnicodeDecodeError:
        return False
    if encoding.name == _WESTERN and _is_of_central_europe(text.lower()):
        return False
    if encoding.apart and len(_MIXED.findall(text)) > _FEW_MIXED * len(_NOT_ASCII.findall(text)):
        return False
    text = "".join(char for char in text if not char.isascii() and not char.isspace())
    usual = len(re.findall(encoding.letters, text))
    whole = sum(char.isalnum() or unicodedata.category(char)[0] in "MC" for char in text)
    return usual >= max(encoding.fewest, encoding.least * whole)


def _is_of_central_europe(text: str) -> bool:
    """Whether text read as WINDOWS-1252 may be WINDOWS-1250 or ISO-8859-2.

    Hungarian then has õ for ő and û for ű, Czech ø for ř beside ì or ù for ě or ů, and words have
    signs in them, such as Polish by³a for była. In the west, õ stands before e, as in Portuguese,
    and û comes with other letters of French.
    """
    if re.search("[a-z][±³µ¶¹¼¾¿]+[a-z]", text):
        return True
    hungarian = re.search("õ(?!e)", text) or ("û" in text and not re.search("[èêàç]", text))
    return bool(hungarian) or ("ø" in text and re.search("[ìù]", text) is not None)


def _has_single_letters(content: bytes) -> bool:
    """Whether what isn't ASCII stands alone or in pairs for the most part, not in words."""
    lengths = [len(run) for run in re.findall(rb"[\x80-\xff]+", content)]
    return sum(length for length in lengths if length > 2) <= 0.2 * sum(lengths)


def is_mostly_utf8(content: bytes) -> bool:
    """Whether nearly all characters that aren't ASCII are UTF-8; the last may be cut."""
    whole, valid = _not_ascii(content)
    return whole in (0, valid) or 2 * valid > whole and whole - valid <= max(2, 0.1 * whole)


def begins_otherwise(before: bytes, content: bytes) -> bool:
    """Whether a text is UTF-8 up to a place and in another encoding from there on.

    So it is where files were joined. A few characters may be UTF-8, or not, by chance.
    """
    whole, valid = _not_ascii(content)
    there = _not_ascii(before)[1]
    return min(there, whole - valid) >= _FEWEST_OF_AN_ENCODING and 2 * valid < whole


def _not_ascii(content: bytes) -> tuple[int, int]:
    """The bytes that aren't ASCII, and those of them that are UTF-8; the last may be cut."""
    content = content[: len(content) - len(cut_character(content))]
    whole = len(content.translate(None, bytes(range(128))))
    return whole, len(content.decode("utf-8", "ignore").encode().translate(None, bytes(range(128))))


def cut_character(content: bytes) -> bytes:
    """The bytes at the end that begin a character of UTF-8 without completing it."""
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    decoder.decode(content[-3:])
    return decoder.getstate()[0]


def is_utf8(head: bytes) -> bool:
    """Whether this is the beginning of UTF-8 text."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return True


def wide_encoding(head: bytes) -> str | None:
    """The encoding of text whose characters take two or four bytes; None if it isn't that."""
    for encoding, size in _WIDE.items():
        text = head[: len(head) // size * size].decode(encoding, "replace")
        # Joiners and marks of direction are common: of Persian words, of emoji, of quotations.
        strange = sum(is_dropped(c) and unicodedata.category(c) != "Cf" for c in text)
        if text and strange <= _STRANGE * len(text):
            return encoding
    return None


def seven_bit_encoding(head: bytes) -> str | None:
    """The encoding of text whose bytes are ASCII while its characters aren't; None for others.

    Args:
        head: the first bytes of a file.

    Returns:
        Its name for iconv; "HZ", which GNU's doesn't know, for Python.
    """
    if not head.isascii():
        return None
    if b"\x1b" in head:
        for shift, encoding in _SHIFTS:
            if shift.search(head):
                return encoding
    if b"~{" in head and 2 * _FEWEST_SHIFTED <= sum(map(len, _HZ.findall(head))):
        return "HZ"
    return "UTF-7" if _is_utf7(head) else None


def _is_utf7(head: bytes) -> bool:
    if len(_UTF7.findall(head)) < _FEWEST_SHIFTS:
        return False
    try:
        text = codecs.getincrementaldecoder("utf-7")().decode(head)
    except UnicodeDecodeError:
        return False
    shifted = [char for char in text if not char.isascii()]
    usual = sum(unicodedata.category(char)[0] in "LMNPZ" for char in shifted)
    enough = max(_FEWEST_SHIFTED, 0.01 * len(text))
    return len(shifted) >= enough and usual >= 0.95 * len(shifted)
