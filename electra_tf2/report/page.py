"""The page itself: one HTML file that needs nothing beside it, for screens of any width.

It is made of elements whose text is escaped, whatever data it comes from.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from electra_tf2 import __version__
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


class Figure(NamedTuple):
    """One of the figures at the top.

    Attributes:
        label: what it is.
        value: as it is shown.
        remark: such as what it was measured on.
    """

    label: str
    value: str
    remark: str = ""


class Section(NamedTuple):
    """A part of the page with a heading.

    Attributes:
        name: a word for links to it.
        title: the heading.
        content: below it.
    """

    name: str
    title: str
    content: Markup


def render_page(
    title: str, subtitle: str, figures: Sequence[Figure], sections: Sequence[Section]
) -> bytes:
    """Returns the HTML of a page."""
    links = [element("a", s.title, href=f"#{s.name}") for s in sections]
    cards = [
        element(
            "div",
            element("dt", figure.label),
            element("dd", figure.value, class_="value"),
            element("dd", figure.remark, class_="remark"),
        )
        for figure in figures
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # An icon of nothing, or browsers would look for one.
        element("link", rel="icon", href="data:,"),
        Markup(f"<style>{STYLE}</style>"),
    )
    main = element(
        "main",
        element("header", element("h1", title, dir="auto"), element("p", subtitle, dir="auto")),
        element("dl", *cards, class_="figures") if cards else "",
        element("nav", *links),
        *(element("section", element("h2", s.title), s.content, id=s.name) for s in sections),
        element("footer", f"electra-tf2 {__version__}, {time.strftime('%Y-%m-%d %H:%M')}"),
    )
    page = element("html", head, element("body", main), lang="en")
    return joined([Markup("<!DOCTYPE html>\n"), page, Markup("\n")]).encode(
        "utf-8", "backslashreplace"
    )


STYLE = """
:root{--page:#fbfaf8;--card:#fff;--ink:#22252b;--soft:#667080;--line:#e3e1dc;--accent:#2f62a8;
--generator:#b8651b;--discriminator:#2f62a8;--found:#1a7f37;--missed:#c5283d;--glow:240 130 30;
--code:#f3f1ec}
@media(prefers-color-scheme:dark){:root{--page:#16181c;--card:#1e2126;--ink:#e4e6ea;--soft:#9aa3b0;
--line:#32363d;--accent:#86b4f0;--generator:#eba05c;--discriminator:#86b4f0;--found:#5fc67c;
--missed:#ff8090;--glow:240 130 30;--code:#262a31}}
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
overflow-wrap:anywhere}
main{max-width:62rem;margin:0 auto;padding:2.2rem 1.2rem 3rem}
h1{font-size:2rem;line-height:1.2;margin:0;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:0 0 .8rem}
h3{font-size:1rem;margin:1.6rem 0 .5rem}
header p{color:var(--soft);margin:.3rem 0 1.4rem}
a{color:var(--accent)}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.9rem;margin:1.3rem 0 0}
section{margin-top:2.6rem;scroll-margin-top:1rem}
section>h2{border-bottom:1px solid var(--line);padding-bottom:.35rem}
dl{margin:0}dd{margin:0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.7rem}
.figures>div{background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.7rem .85rem}
.figures dt,.figures .remark{color:var(--soft);font-size:.8rem;line-height:1.35}
.figures .value{font-size:1.3rem;white-space:nowrap;font-weight:600;line-height:1.35;
font-variant-numeric:tabular-nums}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));
gap:.65rem 2rem}
.facts dt{color:var(--soft);font-size:.85rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem;
margin-bottom:1rem}
.plots figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.6rem;
padding:.6rem}
.plots svg{display:block;width:100%;height:auto;color:var(--ink)}
.plots svg *{stroke-linejoin:round;stroke-linecap:butt}
.scroll{overflow-x:auto;margin:.4rem 0 1rem}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
th,td{padding:.3rem .8rem .3rem 0;text-align:start;vertical-align:top;
border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500;font-size:.85rem}
tbody th{font-weight:500}
td small{color:var(--soft);white-space:nowrap}
td.cell{text-align:center;padding:.3rem .6rem;background:rgb(var(--glow)/calc(var(--p)*.6))}
.note{color:var(--soft);font-size:.9rem;margin:.3rem 0 .9rem}
.sentence{background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.7rem 0;
padding:.8rem 1rem;line-height:2}
.token{background:rgb(var(--glow)/calc(var(--p)*.6));border-radius:.2rem;padding:.08em 0}
.replaced{display:inline-block;max-width:100%;line-height:1.5;
border:1px solid;border-radius:.25rem;padding:.08em .25em}
.replaced small{font-size:.8em}
.replaced del{text-decoration:none}
.found{border-color:var(--found)}.found small{color:var(--found)}
.missed{border-color:var(--missed);border-style:dashed}.missed small{color:var(--missed)}
.suspected{text-decoration:underline wavy;text-underline-offset:.25em}
.mask{border:1px solid var(--generator);color:var(--generator);border-radius:.25rem;
padding:0 .35em;font-size:.85em}
pre{background:var(--code);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem;
font-size:.85rem;line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;
-webkit-user-select:all}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.warnings li{margin:.5rem 0}
.warnings time{display:block;color:var(--soft);font-size:.85rem}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media(max-width:30rem){main{padding:1.3rem .9rem 2rem}h1{font-size:1.6rem}
.figures{grid-template-columns:1fr 1fr}.figures .value{font-size:1.15rem}}
@media print{nav{display:none}section{break-inside:avoid-page}}
"""
