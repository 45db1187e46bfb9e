"""A sweep over the generator's size as a table and as a plot.

    python -m electra_tf2.sweep.table data/models/small_sweep/results.json

draws the plot of a sweep again. It needs matplotlib (`pip install '.[report]'`).
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from electra_tf2 import cli
from electra_tf2.console import markdown_table, show
from electra_tf2.errors import UserError
from electra_tf2.outputs import check_output_paths
from electra_tf2.plots import load_pyplot, save_figure
from electra_tf2.pretraining.guards import FIRST_STEPS, LOWEST_AUC, entropy, replaced_share
from electra_tf2.pretraining.phases import PFS_DAYS
from electra_tf2.sweep.size_results import SizeResult, SizeScore, Sweep, read_sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def table(sweep: Sweep) -> str:
    """Returns the results in Markdown, and what they say of collapses."""
    return "\n".join([_heading(sweep), *([_rows(sweep)] if sweep.results else []), *_notes(sweep)])


def _heading(sweep: Sweep) -> str:
    return (
        f"# {sweep.model_name}: the generator's size\n\n"
        f"The generator's width as a share of the discriminator's {sweep.hidden_size}; "
        f"{sweep.batches or f'{sweep.num_train_steps:,} steps'}. "
        f"Evaluated on {sweep.evaluated_on}.\n"
    )


def _rows(sweep: Sweep) -> str:
    rows = [{**_cells(result), **_score_cells(sweep, result)} for result in sweep.results]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    return markdown_table([heads, *([row[head] for head in heads] for row in rows)])


def _cells(result: SizeResult) -> dict[str, str]:
    """Returns heading -> cell, of the columns that every sweep has."""
    share = replaced_share(result.figures)
    cost = result.figures.get(PFS_DAYS)
    return {
        "size": f"{result.size:g}",
        "width": str(result.hidden_size),
        "generator's own parameters": f"{result.generator_parameters:,}",
        "parameters in all": f"{result.parameters:,}",
        "pfs-days": "" if cost is None else f"{cost:.2g}",
        "generator loss": f"{_figure(result, 'generator_loss'):.3f}",
        "masked-LM accuracy": f"{_figure(result, 'masked_lm_accuracy'):.3f}",
        "replaced tokens": "" if share is None else f"{share:.1%}",
        "discriminator loss": f"{_figure(result, 'discriminator_loss'):.4f}",
        "loss without looking": "" if share is None else f"{entropy(share):.4f}",
        "AUC": f"{_figure(result, 'disc_auc'):.3f}",
    }


def _score_cells(sweep: Sweep, result: SizeResult) -> dict[str, str]:
    return {
        f"{task}, {metric}": _score_cell(result.scores.get(task))
        for task, metric in sweep.tasks.items()
    }


def _score_cell(score: SizeScore | None) -> str:
    if score is None:
        return ""
    each = ", ".join(f"{value:.2f}" for value in score.trials)
    return each if len(score.trials) == 1 else f"{statistics.fmean(score.trials):.2f} ({each})"


def _figure(result: SizeResult, name: str) -> float:
    return result.figures.get(name, math.nan)


def _notes(sweep: Sweep) -> list[str]:
    notes = [f"{text[0].upper()}{text[1:]}.\n" for text in sweep.collapsed()]
    reasons = sweep.reasons()
    if reasons and not sweep.had_time and None not in reasons:
        notes.append(
            f"No discriminator has learned anything yet (AUC under {LOWEST_AUC:g}, or a loss no "
            "better than that of always answering with the share of replaced tokens). Within "
            f"{FIRST_STEPS:,} steps that need not be a collapse: even a healthy one may be at .5.\n"
        )
    missing = [f"{size:g}" for size in sweep.sizes[len(sweep.results) :]]
    if missing:
        notes.append(f"Still to come: {', '.join(missing)}.\n")
    return notes


def plot_sweep(sweep: Sweep, output: str) -> None:
    """Draws losses, masked-LM accuracy, AUC and scores over the generator's size.

    Args:
        sweep: with at least one result.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).

    Raises:
        UserError: matplotlib is not installed, or the picture can't be written.
    """
    pyplot = load_pyplot()
    panels = [_draw_generator, _draw_discriminator, _draw_auc]
    if sweep.tasks:
        panels.append(_draw_scores)
    width = 3.4 * len(panels)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(width, 3.4), layout="constrained")
    for draw, own in zip(panels, axes, strict=True):
        draw(own, sweep)
        own.set_xlabel("generator's width / discriminator's")
        own.set_xticks([result.size for result in sweep.results])
        own.tick_params(axis="x", rotation=45)
        own.grid(alpha=0.3)
    save_figure(pyplot, figure, output)


def _draw(axes: Axes, sweep: Sweep, values: list[float], label: str, **style: Any) -> None:
    sizes = [result.size for result in sweep.results]
    axes.plot(sizes, values, **{"marker": "o", "linewidth": 1.5, "label": label, **style})


def _draw_figure(axes: Axes, sweep: Sweep, name: str, label: str, **style: Any) -> None:
    _draw(axes, sweep, [_figure(result, name) for result in sweep.results], label, **style)


def _draw_generator(axes: Axes, sweep: Sweep) -> None:
    axes.set_title("generator")
    _draw_figure(axes, sweep, "generator_loss", "loss")
    axes.set_ylabel("loss")
    right = axes.twinx()
    _draw_figure(right, sweep, "masked_lm_accuracy", "accuracy", color="C1", marker="s")
    right.set_ylabel("masked-LM accuracy")
    lines = [*axes.get_lines(), *right.get_lines()]
    right.legend(lines, [str(line.get_label()) for line in lines], fontsize="small")


def _draw_discriminator(axes: Axes, sweep: Sweep) -> None:
    axes.set_title("discriminator")
    _draw_figure(axes, sweep, "discriminator_loss", "loss")
    shares = [replaced_share(result.figures) for result in sweep.results]
    values = [math.nan if share is None else entropy(share) for share in shares]
    _draw(axes, sweep, values, "without looking", color="0.5", linestyle="--", marker=None)
    axes.set_ylabel("loss")
    axes.legend(fontsize="small")


def _draw_auc(axes: Axes, sweep: Sweep) -> None:
    axes.set_title("discriminator")
    _draw_figure(axes, sweep, "disc_auc", "AUC")
    axes.axhline(0.5, color="0.5", linestyle="--", label="guessing")
    axes.axhline(LOWEST_AUC, color="C3", linestyle=":", label="collapsed below")
    axes.set_ylabel("AUC")
    axes.legend(fontsize="small")


def _draw_scores(axes: Axes, sweep: Sweep) -> None:
    axes.set_title("fine-tuned")
    for number, (task, metric) in enumerate(sweep.tasks.items()):
        scored = [(r.size, r.scores[task].trials) for r in sweep.results if task in r.scores]
        means = [statistics.fmean(trials) for _, trials in scored]
        color = f"C{number}"
        axes.plot([size for size, _ in scored], means, color=color, label=f"{task}, {metric}")
        points = [(size, value) for size, trials in scored for value in trials]
        axes.scatter(*zip(*points, strict=True), color=color, s=14)
    axes.set_ylabel("score")
    axes.legend(fontsize="small")


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and plots."""
    parser = cli.make_parser(__doc__)
    parser.add_argument("results", help="the results.json of a sweep")
    parser.add_argument("--output", default="generator_sizes.png", help="the picture's path")
    flags = parser.parse_args(argv)
    check_output_paths({"--output": flags.output})
    sweep = read_sweep(flags.results)
    if sweep is None or not sweep.results:
        raise UserError(
            "There are no results of a sweep to plot.",
            where=flags.results,
            received="no such file" if sweep is None else "a sweep without a finished size",
            remedy="Give the results.json that sweep_generator_size.py has written.",
        )
    plot_sweep(sweep, flags.output)
    show(f"Plot written to {flags.output}")


if __name__ == "__main__":
    cli.run(main)
