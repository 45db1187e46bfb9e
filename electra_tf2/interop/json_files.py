"""JSON files of other programs."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError


def read_json_object(path: str, subject: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        subject: what the file is, the first words of the message if it can't be read.

    Raises:
        UserError: there is no such file, or it is no JSON object; says which.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = json.loads(file.read())
    except (tf.errors.OpError, ValueError, RecursionError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else str(error)
        raise _unreadable(path, subject, reason) from error
    if not isinstance(content, dict):
        raise _unreadable(path, subject, f"JSON of the type {type(content).__name__}")
    return content


def _unreadable(path: str, subject: str, reason: str) -> UserError:
    return UserError(
        f"{subject} can't be read.",
        where=path,
        received=reason,
        remedy="Copy the file again from where the model came from.",
    )
