"""Files for GLUE's evaluation server (https://gluebenchmark.com)."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file
from finetune.classification.glue_tables import HIGHEST, LOWEST


def write_submission(
    name: str,
    test_file: str,
    num_rows: int,
    records: Sequence[Mapping[str, Any]],
    folder: str,
) -> str:
    """Writes `index<tab>prediction` lines under a header of these words.

    Args:
        name: the file's name.
        test_file: what was predicted, for messages.
        num_rows: its number of rows.
        records: of its rows, with the row's number from 0 as "id" and a "label" or a "score".
        folder: where to, made if need be.

    Returns:
        The file's path.

    Raises:
        UserError: a row has no prediction, so that the server would refuse the file or take
            predictions for those of other rows. Nothing is written.
    """
    by_row = {record["id"]: _shown(record) for record in records}
    check_rows(name, test_file, num_rows, by_row)
    lines = ["index\tprediction", *(f"{row}\t{by_row[row]}" for row in range(num_rows))]
    tf.io.gfile.makedirs(folder)
    path = posixpath.join(folder, name)
    replace_file(path, ("\n".join(lines) + "\n").encode())
    return path


def check_rows(name: str, test_file: str, num_rows: int, rows: Collection[int]) -> None:
    """Checks that every row of a test file has a prediction, or will have one.

    Args:
        name: the submission's name.
        test_file: the test file, for messages.
        num_rows: its number of rows.
        rows: the rows, from 0, that are predicted.

    Raises:
        UserError: one of them is not.
    """
    missing = [row for row in range(num_rows) if row not in rows]
    if missing:
        named = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise UserError(
            f"The submission {name} would lack {len(missing)} of {num_rows} predictions.",
            where=test_file,
            received=f"no usable row {named} (counted from 0, after the header)",
            remedy="Mend the rows, or copy the file from GLUE again.",
        )


def _shown(record: Mapping[str, Any]) -> str:
    if "score" in record:
        return f"{min(max(record['score'], LOWEST), HIGHEST):.3f}"
    return record["label"]
