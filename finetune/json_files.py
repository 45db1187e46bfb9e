"""JSON that the program writes: UTF-8, each file in one step.

Half of a surrogate pair, which a text of JSON may hold and UTF-8 may not, is written as its escape.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from electra_tf2.training.durable_files import replace_file


def write_json(path: str, content: Any) -> None:
    """Writes a JSON file; makes its folder if need be.

    Args:
        path: the file; an existing one is replaced.
        content: JSON values.
    """
    _write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_json_lines(path: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; arguments as `write_json`."""
    _write(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _write(path: str, text: str) -> None:
    tf.io.gfile.makedirs(posixpath.dirname(path) or ".")
    replace_file(path, text.encode("utf-8", "backslashreplace"))
