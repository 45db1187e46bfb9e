"""Folders that are either complete or not there."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.data.files import is_local


def check_free(path: str) -> None:
    """Refuses a path where something is; an empty folder may be there.

    Raises:
        UserError: a file or a folder with something in it is there, or the path is empty.
    """
    if not path.strip("/"):
        raise UserError(
            "There is no name for the folder that is to be made.",
            where="--output",
            received=repr(path),
            remedy="Give the path of a folder that is not there yet.",
        )
    if not tf.io.gfile.exists(path):
        return
    is_folder = tf.io.gfile.isdir(path)
    if not is_folder or tf.io.gfile.listdir(path):
        raise UserError(
            "Where the model is to go there is something already.",
            where=path,
            received="a folder that is not empty" if is_folder else "a file",
            remedy="Give another folder, or move that one away.",
        )


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Gives a folder to write to, which gets its name when all is written.

    Args:
        path: the folder to make; an empty one may be there.

    Yields:
        The path to write to.

    Raises:
        UserError: something is there already, or the folder can't be made.
    """
    check_free(path)
    # So that "." and links are what they lead to, and the name beside the folder's is one.
    path = os.path.realpath(path) if is_local(path) else path.rstrip("/")
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        tf.io.gfile.makedirs(temporary)
    except tf.errors.OpError as error:
        raise UserError(
            "The folder for the model can't be made.",
            where=path,
            received=error.message,
            remedy="Give a folder where you may write.",
        ) from error
    try:
        yield temporary
        check_free(path)
        if tf.io.gfile.exists(path):
            tf.io.gfile.rmtree(path)
        tf.io.gfile.rename(temporary, path)
    except BaseException:
        tf.io.gfile.rmtree(temporary)
        raise
