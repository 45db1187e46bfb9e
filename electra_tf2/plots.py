"""Plots how losses and metrics went during training.

    python -m electra_tf2.plots data/models/small --output small.png
    python -m electra_tf2.plots data/models/a data/models/b --name disc_auc

Needs matplotlib (`pip install '.[report]'`).
"""

from __future__ import annotations

import io
import json
import posixpath
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries, say, show
from electra_tf2.errors import UserError
from electra_tf2.files import exists, read_bytes, replace_file
from electra_tf2.outputs import check_output_paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What all plots have in common.


def load_pyplot() -> ModuleType:
    """Returns matplotlib's pyplot, drawing into files.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(
            "Plots need matplotlib.",
            received=str(error),
            remedy="Install it: pip install 'electra-tf2[report]'.",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_figure(pyplot: ModuleType, figure: Figure, output: str) -> None:
    """Writes a figure and forgets it.

    Where the usual font lacks characters, such as those of East Asia, others that are installed are
    taken for them. Says so if none has them.

    Args:
        pyplot: from `load_pyplot`.
        figure: made by it.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).

    Raises:
        UserError: the picture can't be written.
    """
    options = {"format": posixpath.splitext(output)[1].lstrip("."), "dpi": 130}
    try:
        content, lacking = drawn(figure, **options)
        if lacking:
            _add_fonts(figure, lacking)
            content, lacking = drawn(figure, **options)
        replace_file(output, content)
    except (OSError, ValueError) as error:
        raise UserError(
            "The plot can't be written.",
            where=output,
            received=str(error),
            remedy="Give a path ending in .png, .pdf or .svg in a folder that exists.",
        ) from error
    finally:
        pyplot.close(figure)
    if lacking:
        say(
            f"warning: {output} has boxes in place of {''.join(sorted(lacking))[:_NAMED]}: install "
            "a font that has them, such as the Noto Sans of the language, and draw it again."
        )


def drawn(figure: Figure, **options: Any) -> tuple[bytes, set[str]]:
    """Draws a figure.

    Args:
        figure: what to draw.
        **options: those of matplotlib's `savefig`.

    Returns:
        The picture, and the characters in it that its fonts lack.
    """
    content, lacking = io.BytesIO(), set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(content, **options)
    for warning in caught:
        if found := _LACKS_GLYPH.match(str(warning.message)):
            lacking.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return content.getvalue(), lacking


_LACKS_GLYPH = re.compile(r"Glyph (\d+) .*missing from font")
_NAMED = 20  # characters in a message
# This font has a box for every character.
_BOXES = "Last Resort"


def _add_fonts(figure: Figure, lacking: set[str]) -> None:
    """Gives the texts of a figure further fonts, for characters that theirs lack."""
    from matplotlib.text import Text

    families, left = [], set(map(ord, lacking))
    for family, characters in _installed_fonts():
        if left & characters:
            families.append(family)
            left -= characters
        if not left:
            break
    for text in figure.findobj(Text):
        text.set_fontfamily([*text.get_fontfamily(), *families])


def _installed_fonts() -> Iterator[tuple[str, set[int]]]:
    """Yields the families of fonts, plain ones first, and the characters that they have."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    # What was installed since matplotlib looked for fonts is not among those that it knows.
    paths = known.union(font_manager.findSystemFonts())
    for path in sorted(paths, key=lambda path: (not _PLAIN.search(path), path)):
        try:
            font = font_manager.get_font(path)
            characters = set(font.get_charmap())
            if path not in known:
                font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):  # not one that can be drawn with
            continue
        if not font.family_name.startswith(_BOXES):
            yield font.family_name, characters


_PLAIN = re.compile(r"Sans[^/]*Regular|Gothic[^/]*Regular|Sans\.")


class Curve(NamedTuple):
    """One line of a plot.

    Attributes:
        label: its name in the legend.
        steps: training steps.
        values: the figure at each step.
    """

    label: str
    steps: list[int]
    values: list[float]


def history(
    reports: Sequence[Mapping[str, Any]], split: str, name: str, *, label: str = ""
) -> Curve | None:
    """Returns the history of a figure.

    Returns:
        The curve, without values that were not finite; None if there is none.
    """
    points = [
        (report["step"], float(report[name]))
        for report in sorted(reports, key=_step)
        if report["split"] == split and isinstance(report.get(name), int | float)
    ]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return Curve(label, list(steps), list(values)) if points else None


def _step(report: Mapping[str, Any]) -> int:
    # Steps may be reported out of order: by an evaluation beside the training.
    return report["step"]


def read_curve(model_dir: str, name: str, *, split: str = "train") -> Curve:
    """Reads one figure's history from a model folder.

    Args:
        model_dir: folder with a metrics.jsonl.
        name: a figure in it, such as "loss" or "disc_auc".
        split: "train" or "eval".

    Returns:
        The curve, labelled with the folder's name.

    Raises:
        UserError: there is no log, it has no such figure, or a line of it other than the last is
            not a report.
    """
    with quiet_libraries():  # TensorFlow takes seconds to import
        from electra_tf2.training.reports import RunLog, read_reports

    path = RunLog(model_dir).path
    if not exists(path):
        raise UserError(
            "There is no log to plot.",
            where=path,
            received=model_dir,
            remedy="Give the folder of a model that was trained: <data-dir>/models/<model-name>.",
        )
    reports = [report for report in read_reports(path) if report["split"] == split]
    curve = history(reports, split, name, label=posixpath.basename(model_dir.rstrip("/")))
    if curve is None:
        known = sorted({key for report in reports for key in report} - {"split", "evaluated_on"})
        raise UserError(
            "The log has no such figure.",
            where=path,
            received=f"{name} (split {split})",
            remedy=f"Choose one of: {', '.join(known)}." if known else "Choose another split.",
        )
    return curve


def read_curves_file(path: str) -> list[Curve]:
    """Reads curves from JSON: {label: {"steps": […], "values": […]}, …}."""
    try:
        content = json.loads(read_bytes(path))
        return [Curve(label, c["steps"], c["values"]) for label, c in content.items()]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "The curves can't be read.",
            where=path,
            received=str(error).splitlines()[0],
            remedy='Give a JSON file of the form {"label": {"steps": […], "values": […]}}.',
        ) from error


def plot_curves(curves: list[Curve], output: str, *, ylabel: str, title: str = "") -> None:
    """Draws curves into one picture.

    Args:
        curves: what to draw.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).
        ylabel: what the values are.
        title: heading of the picture.

    Raises:
        UserError: matplotlib is not installed, or the picture can't be written.
    """
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for curve in curves:
        axes.plot(curve.steps, curve.values, label=curve.label, linewidth=1.5)
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(pyplot, figure, output)


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and plots."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("model_dirs", nargs="*", help="model folders, each one curve")
    parser.add_argument("--name", default="loss", help="the figure to plot (default: loss)")
    parser.add_argument("--split", default="train", choices=("train", "eval"))
    parser.add_argument("--curves", help="a JSON file of further curves")
    parser.add_argument("--output", default="learning_curves.png", help="the picture's path")
    parser.add_argument("--title", default="")
    flags = parser.parse_args(argv)
    check_output_paths({"--output": flags.output})
    curves = [read_curve(folder, flags.name, split=flags.split) for folder in flags.model_dirs]
    if flags.curves:
        curves += read_curves_file(flags.curves)
    if not curves:
        parser.error("nothing to plot: give a model folder or --curves")
    plot_curves(curves, flags.output, ylabel=flags.name, title=flags.title)
    show(f"Plot written to {flags.output}")


if __name__ == "__main__":
    cli.run(main)
