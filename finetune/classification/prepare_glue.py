"""Arranges a downloaded GLUE folder as fine-tuning wants it, and checks it."""

from __future__ import annotations

import dataclasses
import os
import posixpath

import tensorflow as tf

from electra_tf2.errors import UserError
from finetune.classification.glue import read_glue
from finetune.classification.glue_tables import GLUE, GlueTable

# Where mnli's diagnostic file may be, beside the folder of mnli.
_DIAGNOSTIC = (
    ("diagnostic", "diagnostic.tsv"),
    ("diagnostic", "AX.tsv"),
    ("AX", "diagnostic.tsv"),
    ("AX", "AX.tsv"),
    ("AX.tsv",),
    ("diagnostic.tsv",),
)
_MRPC_AS_TEXT = (
    "MRPC: msr_paraphrase_*.txt is the corpus as Microsoft distributes it. GLUE's train.tsv and "
    "dev.tsv are a split of its training part by a list of ids: make them with the script "
    "download_glue_data.py (--path_to_mrpc) that GLUE refers to."
)
_CHUNK = 1 << 20


@dataclasses.dataclass
class GlueFile:
    """A file of a task.

    Attributes:
        task: the task's name.
        split: the split.
        source: the downloaded file; "" if there is none.
        target: where it is to be.
        rows: its usable rows.
        note: what else there is to say about it.
        error: why it can't be used, if so.
    """

    task: str
    split: str
    source: str
    target: str
    rows: int = 0
    note: str = ""
    error: UserError | None = None


def prepare_glue(glue_dir: str, data_dir: str, link: bool = False) -> list[GlueFile]:
    """Copies GLUE's files to `<data_dir>/finetuning_data/<task>` and prints what there is.

    Every file is checked before the first one is copied: that its rows have the columns, labels
    and scores that the task wants. Another number of rows than the published one is noted.

    Args:
        glue_dir: the downloaded folder, with CoLA, MNLI, MRPC, QNLI, QQP, RTE, SST-2, STS-B, WNLI
            and diagnostic in it; some may be missing, and anything else is ignored.
        data_dir: the folder that fine-tuning gets as `--data-dir`.
        link: make symbolic links in place of copies.

    Returns:
        All files that the tasks have, in the order of the printed table.

    Raises:
        UserError: no task is found, a file can't be used, or one with other content is where a
            file is to be. Nothing is copied then.
    """
    files = _find(glue_dir, data_dir)
    found = [file for file in files if file.source]
    if not found:
        raise UserError(
            "No task of GLUE is in the folder.",
            where=glue_dir,
            received="it holds " + (", ".join(_names(glue_dir)[:10]) or "nothing"),
            remedy=f"Give the folder that holds {', '.join(t.folder for t in GLUE.values())}.",
        )
    for file in found:
        _check(file, GLUE[file.task])
    _print_table(files)
    if any(name.startswith("msr_paraphrase") for name in _names(_folder(glue_dir, "mrpc"))):
        print(_MRPC_AS_TEXT)
    for error in (file.error for file in found if file.error):
        raise error
    for file in found:
        _refuse_other_content(file)
    for file in found:
        _arrange(file, link)
    print(f"The files are in {posixpath.join(data_dir, 'finetuning_data')}.")
    return files


def _find(glue_dir: str, data_dir: str) -> list[GlueFile]:
    files = []
    for task, table in GLUE.items():
        folder = _folder(glue_dir, task)
        for split in table.splits:
            name = table.file_name(split)
            places = [posixpath.join(folder, name)] if folder else []
            if split == "diagnostic":
                places += [posixpath.join(glue_dir, *parts) for parts in _DIAGNOSTIC]
            source = next((path for path in places if tf.io.gfile.exists(path)), "")
            target = posixpath.join(data_dir, "finetuning_data", task, name)
            files.append(GlueFile(task, split, source, target))
    return files


def _folder(glue_dir: str, task: str) -> str:
    """Returns the folder of a task, however its name is written; "" if there is none."""
    for name in _names(glue_dir):
        plain = name.lower().replace("-", "").replace("_", "")
        path = posixpath.join(glue_dir, name)
        if plain in (task, GLUE[task].folder.lower().replace("-", "")) and tf.io.gfile.isdir(path):
            return path
    return ""


def _names(folder: str) -> list[str]:
    if not folder or not tf.io.gfile.isdir(folder):
        return []
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def _check(file: GlueFile, table: GlueTable) -> None:
    try:
        examples, num_rows = read_glue(table, file.source, file.split)
    except UserError as error:
        file.error, file.note = error, "unusable"
        return
    file.rows = len(examples)
    notes = []
    if num_rows > len(examples):
        notes.append(f"bad rows, to be skipped: {num_rows - len(examples)}")
    if file.rows != table.num_rows[file.split]:
        notes.append(f"published: {table.num_rows[file.split]} rows")
    file.note = "; ".join(notes)


def _print_table(files: list[GlueFile]) -> None:
    print(f"{'task':<6}{'split':<17}{'rows':>7}  note")
    for file in files:
        rows = "-" if file.error or not file.source else str(file.rows)
        note = file.note if file.source else "missing"
        print(f"{file.task:<6}{file.split:<17}{rows:>7}  {note}".rstrip())


def _refuse_other_content(file: GlueFile) -> None:
    if tf.io.gfile.exists(file.target) and not _same_content(file.source, file.target):
        raise UserError(
            "There is another file of this name.",
            where=file.target,
            received=f"its content is not that of {file.source}",
            remedy="Move it away, or give another --data-dir.",
        )


def _same_content(first: str, second: str) -> bool:
    if tf.io.gfile.stat(first).length != tf.io.gfile.stat(second).length:
        return False
    with tf.io.gfile.GFile(first, "rb") as a, tf.io.gfile.GFile(second, "rb") as b:
        while True:
            chunk = a.read(_CHUNK)
            if chunk != b.read(_CHUNK):
                return False
            if not chunk:
                return True


def _arrange(file: GlueFile, link: bool) -> None:
    if tf.io.gfile.exists(file.target):
        return
    tf.io.gfile.makedirs(posixpath.dirname(file.target))
    if link:
        os.symlink(os.path.abspath(file.source), file.target)
        return
    temporary = f"{file.target}.tmp"
    tf.io.gfile.copy(file.source, temporary, overwrite=True)
    tf.io.gfile.rename(temporary, file.target, overwrite=True)
