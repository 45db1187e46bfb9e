"""Learning curves as SVG that goes into a page: no file beside it, colours of the page's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.plots import Curve, drawn, load_pyplot
from electra_tf2.report.page import Markup, attributes_text, element

# Points of a curve that a plot this wide can show.
_MOST_POINTS = 300
# Above so many points on held-out text, their marks would hide the line.
_MOST_MARKS = 40
_MARKS = "Dos"  # of evaluations on one text and on others
# Colours that stand for those of the page's style, which depend on light and dark.
_COLORS = {"ink": "#010203", "generator": "#010204", "discriminator": "#010205"}
_STYLE = {
    "ink": "currentColor",
    "generator": "var(--generator)",
    "discriminator": "var(--discriminator)",
}
_FONTS = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


class Plot(NamedTuple):
    """What one picture shows.

    Attributes:
        name: a word that no other picture of the page has.
        title: above it.
        color: whose figure it is: "generator", "discriminator" or "ink".
        train: the curve in training; several trials have one each.
        evaluated: points from evaluations, of held-out text where no label says what on.
    """

    name: str
    title: str
    color: str
    train: Sequence[Curve]
    evaluated: Sequence[Curve] = ()


def draw(plots: Sequence[Plot]) -> Markup:
    """Returns pictures beside each other.

    Raises:
        UserError: matplotlib is not installed.
    """
    return element("div", *(element("figure", _svg(plot)) for plot in plots), class_="plots")


def _svg(plot: Plot) -> Markup:
    pyplot = load_pyplot()
    color = _COLORS[plot.color]
    with pyplot.rc_context({**_FONTS, "svg.hashsalt": plot.name}):
        figure, axes = pyplot.subplots(figsize=(4.4, 2.7), layout="constrained")
        try:
            for number, curve in enumerate(plot.train):
                steps, values = _thinned(curve)
                label = "training" if not number else None
                style = {"linewidth": 1.6, "marker": "o" if len(steps) == 1 else ""}
                axes.plot(steps, values, color=color, label=label, **style)
            marks: dict[str, str] = {}
            for curve in plot.evaluated:
                label = None if curve.label in marks else _evaluated_on(curve)
                steps, values = _thinned(curve)
                mark = marks.setdefault(curve.label, _MARKS[len(marks) % len(_MARKS)])
                style = {"markersize": 5, "linestyle": ":", "linewidth": 1.2}
                style["marker"] = mark if len(steps) <= _MOST_MARKS else ""
                axes.plot(steps, values, color=color, label=label, **style)
            _furnish(axes, plot)
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            # Browsers have fonts of their own for characters that matplotlib's lack.
            content, _ = drawn(figure, format="svg", transparent=True, metadata=nothing)
        finally:
            pyplot.close(figure)
    return _inlined(content.decode(), plot)


def _furnish(axes, plot: Plot) -> None:
    ink = _COLORS["ink"]
    axes.set_title(plot.title.replace("$", r"\$"), color=ink, fontsize=10, loc="left")
    axes.set_xlabel("step", color=ink)
    axes.tick_params(colors=ink, length=0)
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.grid(color=ink, alpha=0.15, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set(color=ink, alpha=0.4, visible=side in ("left", "bottom"))
    if (plot.train and plot.evaluated) or any(curve.label for curve in plot.evaluated):
        axes.legend(labelcolor=ink, frameon=False)


def _evaluated_on(curve: Curve) -> str:
    return curve.label or "held out"


def _whole_numbers():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _thinned(curve: Curve) -> tuple[list[int], list[float]]:
    """Every so many points, the first and the last among them."""
    count = len(curve.steps)
    kept = np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).round().astype(int))
    return [curve.steps[i] for i in kept], [curve.values[i] for i in kept]


def _inlined(svg: str, plot: Plot) -> Markup:
    """Takes away what only a file of its own needs, and makes the ids the page's."""
    tag, svg = svg[svg.index("<svg") :].split(">", 1)
    tag = re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", tag)
    tag += attributes_text(role="img", aria_label=_in_words(plot))
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)  # would be the whole page's
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{plot.name}-', svg)
    svg = re.sub(r'href="#', f'href="#{plot.name}-', svg)
    svg = svg.replace("url(#", f"url(#{plot.name}-")
    for name, color in _COLORS.items():
        svg = svg.replace(color, _STYLE[name])
    return Markup(re.sub(r">\s+<", "><", f"{tag}>{svg}").strip())


def _in_words(plot: Plot) -> str:
    parts = [
        f"{where} {curve.values[0]:.4g} at step {curve.steps[0]:,}, "
        f"{curve.values[-1]:.4g} at step {curve.steps[-1]:,}"
        for where, curve in [
            *(("in training", own) for own in plot.train),
            *((_evaluated_on(own), own) for own in plot.evaluated),
        ]
    ]
    return f"{plot.title}: {'; '.join(parts)}"
