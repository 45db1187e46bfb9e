"""The figures of an evaluation, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file


def json_path(results_pkl: str) -> str:
    """Returns where the JSON goes: the official program's pickle path with .json for .pkl."""
    return results_pkl.removesuffix(".pkl") + ".json"


def check_results_paths(results_txt: str, results_pkl: str) -> None:
    """Refuses result paths that could not be written at the end of a long run.

    Args:
        results_txt: path of the text.
        results_pkl: names the JSON file.

    Raises:
        UserError: a path is empty, is a folder, lies below a file, or both are the same.
    """
    text, data = results_txt, json_path(results_pkl)
    for name, path in (("results_txt", text), ("results_pkl", data)):
        problem = _problem(path)
        if text == data:
            problem = "the same path as the other results file"
        if problem:
            raise UserError(
                "The evaluation's results can't be written there.",
                where=f"hparam {name}",
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file of its own, or leave the hparam out.",
            )


def check_output_paths(paths: Mapping[str, str]) -> None:
    """Refuses paths that could not be written.

    Args:
        paths: where it was given, such as "hparam model_dir" -> path of a file.

    Raises:
        UserError: a path is empty, is a folder, or lies below a file.
    """
    for where, path in paths.items():
        problem = _problem(path)
        if problem:
            raise UserError(
                "The output can't be written there.",
                where=where,
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file that can be made there.",
            )


def _problem(path: str) -> str:
    if not path or path.endswith("/"):
        return "no file name"
    if tf.io.gfile.isdir(path):
        return "a folder"
    parent = path.rpartition("/")[0]
    while parent:
        if tf.io.gfile.exists(parent):
            return "" if tf.io.gfile.isdir(parent) else f"{parent} is a file"
        parent = parent.rpartition("/")[0]
    return ""


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
