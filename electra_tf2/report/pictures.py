"""What all plots have in common."""

from __future__ import annotations

import io
import posixpath
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file


def load_pyplot() -> Any:
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


def save_figure(pyplot: Any, figure: Any, output: str) -> None:
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
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            "The plot can't be written.",
            where=output,
            received=str(error),
            remedy="Give a path ending in .png, .pdf or .svg in a folder that exists.",
        ) from error
    finally:
        pyplot.close(figure)
