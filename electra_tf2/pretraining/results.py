"""The figures of an evaluation, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import tensorflow as tf

from electra_tf2.training.durable_files import replace_file


def json_path(results_pkl: str) -> str:
    """Returns where the JSON goes: the official program's pickle path with .json for .pkl."""
    return results_pkl.removesuffix(".pkl") + ".json"


def write_results(
    figures: Mapping[str, float], *, results_txt: str, results_pkl: str
) -> tuple[str, str]:
    """Writes an evaluation's figures.

    Args:
        figures: name -> value.
        results_txt: gets one line `name = value` a figure, sorted by name.
        results_pkl: names the JSON file, see `json_path`.

    Returns:
        The paths of the two files.
    """
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(figures.items()))
    paths = results_txt, json_path(results_pkl)
    for path, text in zip(
        paths, (lines, json.dumps(dict(figures), indent=2, sort_keys=True) + "\n"), strict=True
    ):
        tf.io.gfile.makedirs(path.rpartition("/")[0] or ".")
        replace_file(path, text.encode())
    return paths
