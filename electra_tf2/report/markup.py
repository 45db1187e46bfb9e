"""HTML from Python: elements whose text is escaped, whatever data it comes from."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from electra_tf2.errors import printable

_WITHOUT_END = ("br", "link", "meta")


class Markup(str):
    """Text that is HTML already; any other string is escaped where it becomes content."""


def element(tag: str, /, *content: str, **attributes: str | None) -> Markup:
    """Returns an element.

    Args:
        tag: its name.
        *content: elements, and text.
        **attributes: by name, with `class_` for class; None leaves an attribute out.
    """
    given = attributes_text(**attributes)
    if tag in _WITHOUT_END:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(content)}</{tag}>")


def attributes_text(**attributes: str | None) -> str:
    """Returns attributes as they stand in a tag, each after a space; see `element`."""
    return "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )


def joined(parts: Iterable[str]) -> Markup:
    """Returns elements and text one after the other."""
    return Markup("".join(p if isinstance(p, Markup) else _escaped(p) for p in parts))


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Returns a table that scrolls by itself where the screen is too narrow for it.

    Args:
        header: of the columns.
        rows: cells, elements or text; the first is the heading of its row.
    """
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", dir="auto"),
            *(element("td", cell, dir="auto") for cell in row[1:]),
        )
        for row in rows
    ]
    content = element("table", element("thead", head), element("tbody", *body))
    return element("div", content, class_="scroll")


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Returns a list of names and what they are; pairs without a text are left out."""
    shown = [
        element("div", element("dt", name), element("dd", text, dir="auto"))
        for name, text in pairs
        if text
    ]
    return element("dl", *shown, class_="facts")


def paragraph(*content: str, class_: str | None = None) -> Markup:
    """Returns a paragraph."""
    return element("p", *content, class_=class_)


def note(*content: str) -> Markup:
    """Returns a paragraph of explanation, in small letters."""
    return paragraph(*content, class_="note")


def command(lines: Sequence[str]) -> Markup:
    """Returns a command to copy: a click selects all of it."""
    parts: list[str] = []
    for line in lines:
        parts += [line, Markup("\n")]
    return element("pre", element("code", *parts[:-1]))
