"""Plots how losses and metrics went during training.

    python -m electra_tf2.plots data/models/small --output small.png
    python -m electra_tf2.plots data/models/a data/models/b --name disc_auc

Needs matplotlib (`pip install '.[report]'`).
"""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries, show
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

    Args:
        pyplot: from `load_pyplot`.
        figure: made by it.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).

    Raises:
        UserError: the picture can't be written.
    """
    content = io.BytesIO()
    try:
        figure.savefig(content, format=posixpath.splitext(output)[1].lstrip("."), dpi=130)
        replace_file(output, content.getvalue())
    except (OSError, ValueError) as error:
        raise UserError(
            "The plot can't be written.",
            where=output,
            received=str(error),
            remedy="Give a path ending in .png, .pdf or .svg in a folder that exists.",
        ) from error
    finally:
        pyplot.close(figure)


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

    Args:
        reports: of a log, see `read_reports`.
        split: what it was measured on.
        name: of the figure.
        label: the curve's.

    Returns:
        The curve, without values that were not finite; None if there is none.
    """
    points = [
        (report["step"], float(report[name]))
        for report in reports
        if report["split"] == split and isinstance(report.get(name), int | float)
    ]
    steps, values = zip(*points, strict=True) if points else ((), ())
    return Curve(label, list(steps), list(values)) if points else None


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
        known = sorted({key for report in reports for key in report} - {"split"})
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
