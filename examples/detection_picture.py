"""Draws what the quickstart's discriminator says about text that it has not seen.

    python examples/detection_picture.py        (after: make quickstart)

The darker a token, the more likely it was replaced, according to the discriminator. Tokens that the
generator did replace are framed, and the original stands below: in green if the token is among the
most suspected ones, of which there are as many as were replaced, and in red if it is not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from detection_display import Detection, detect
from quickstart import make_config

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries
from electra_tf2.plots import load_pyplot, save_figure

COLUMNS = 92
_CHARACTER, _LINE, _GAP = 0.098, 0.40, 0.22  # inches: width, distance of lines and of examples
_FONT = {"family": "monospace", "fontsize": 11.5}
_FOUND, _MISSED, _SUSPICION = "#1a7f37", "#cf222e", (0.95, 0.45, 0.05)


def main(argv: list[str] | None = None) -> None:
    """Judges some held-out examples, or reads stored judgements, and draws them."""
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("quickstart_data"), help="default: %(default)s")
    add("--examples", type=int, default=3, help="how many to judge (default: %(default)s)")
    add("--detections", type=Path, help="draw those in this JSON file instead")
    add("--output", default="detections.png", help="the picture's path (default: %(default)s)")
    flags = parser.parse_args(argv)
    draw(read(flags.detections) if flags.detections else judge(flags), flags.output)
    print(f"Picture written to {flags.output}")


def judge(flags: argparse.Namespace) -> list[Detection]:
    """Lets the quickstart's model judge held-out examples; stores them beside the picture."""
    with quiet_libraries():  # TensorFlow takes seconds to import
        detections = detect(make_config(flags.data_dir, 1, "float32"), flags.examples)
    stored = json.dumps([detection._asdict() for detection in detections], indent=1)
    Path(flags.output).with_suffix(".json").write_text(stored + "\n", "utf-8")
    return detections


def read(path: Path) -> list[Detection]:
    """Reads what `judge` has stored."""
    return [Detection(**stored) for stored in json.loads(path.read_text("utf-8"))]


def draw(detections: list[Detection], output: str) -> None:
    """Draws detections below each other.

    Args:
        detections: what to draw.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).
    """
    pyplot = load_pyplot()
    layouts = [layout(detection) for detection in detections]
    height = sum(_LINE * (1 + places[-1][0]) + _GAP for places in layouts)
    figure = pyplot.figure(figsize=(_CHARACTER * COLUMNS, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, COLUMNS), ylim=(height, 0))
    axes.axis("off")
    top = 0.5 * _GAP
    for detection, places in zip(detections, layouts, strict=True):
        tokens = zip(places, *detection, detection.replaced, detection.suspected, strict=True)
        for (line, column), *token in tokens:
            _draw_token(pyplot, axes, column, top + line * _LINE, *token)
        top += _LINE * (1 + places[-1][0]) + _GAP
    save_figure(pyplot, figure, output)


def layout(detection: Detection) -> list[tuple[int, int]]:
    """Returns the line and column of each token; pieces of a word stay together."""
    line, column, places = 0, 1, []
    for token, original in zip(detection.shown, detection.originals, strict=True):
        width = max(len(_text(token)), len(_text(original)) if token != original else 0)
        column -= bool(places) and token.startswith("##")
        if column + width >= COLUMNS:
            line, column = line + 1, 1
        places.append((line, column))
        column += width + 1
    return places


def _text(token: str) -> str:
    return token.removeprefix("##")


def _draw_token(
    pyplot: Any,
    axes: Any,
    x: float,
    y: float,
    shown: str,
    original: str,
    probability: float,
    replaced: bool,
    suspected: bool,
) -> None:
    color = _FOUND if suspected else _MISSED
    box = pyplot.Rectangle(
        (x - 0.15, y),
        len(_text(shown)) + 0.3,
        0.19,
        facecolor=(*_SUSPICION, probability),
        edgecolor=color if replaced else "none",
        linewidth=1.2,
    )
    axes.add_patch(box)
    axes.text(x, y + 0.155, _text(shown), **_FONT)
    if replaced:
        small = {**_FONT, "fontsize": 8.5, "color": color}
        axes.text(x, y + 0.315, _text(original), **small)


if __name__ == "__main__":
    cli.run(main)
