"""Arranges a downloaded GLUE folder for fine-tuning, and checks it."""

from __future__ import annotations

import dataclasses
import os
import posixpath

from electra_tf2.console import show
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists, is_dir, list_dir, make_dirs, read_bytes, replace_file, size
from finetune.classification.glue import read_glue
from finetune.classification.glue_tables import GLUE, GlueTable

# Where the diagnostic file of mnli may be, apart from the folder of mnli.
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


@dataclasses.dataclass
class GlueFile:
    """A file of a task.

    Attributes:
        task: the task's name.
        split: the split.
        source: the downloaded file; "" if there is none.
        target: the path for fine-tuning.
        rows: number of usable rows.
        note: a remark for the table.
        error: why the file can't be used, if it can't.
    """

    task: str
    split: str
    source: str
    target: str
    rows: int = 0
    note: str = ""
    error: UserError | None = None


def prepare_glue(glue_dir: str, data_dir: str, link: bool = False) -> list[GlueFile]:
    """Copies GLUE's files to `<data_dir>/finetuning_data/<task>` and prints a table of them.

    Before the first file is copied all are checked: rows must have the columns, labels and scores
    that the task wants. A number of rows other than the published one is noted.

    Args:
        glue_dir: the downloaded folder, with CoLA, MNLI, MRPC, QNLI, QQP, RTE, SST-2, STS-B, WNLI
            and diagnostic in it; some may be missing, and anything else is ignored.
        data_dir: the folder that fine-tuning gets as `--data-dir`.
        link: whether to make symbolic links instead of copies.

    Returns:
        All possible files of the tasks, in the order of the printed table.

    Raises:
        UserError: no task is found, a file can't be used, or a target exists with other content.
            Nothing is copied then.
    """
    files = _find(glue_dir, data_dir)
    found = [file for file in files if file.source]
    if not found:
        raise UserError(
            "There is no task of GLUE in the folder.",
            where=glue_dir,
            received="it holds " + (first_of(_names(glue_dir), separator=", ") or "nothing"),
            remedy=f"Give the folder that holds {', '.join(t.folder for t in GLUE.values())}.",
        )
    for file in found:
        _check(file, GLUE[file.task])
    _print_table(files)
    if any(name.startswith("msr_paraphrase") for name in _names(_folder(glue_dir, "mrpc"))):
        show(*_MRPC_AS_TEXT.split("\n"))
    for error in (file.error for file in found if file.error):
        raise error
    for file in found:
        _refuse_other_content(file)
    for file in found:
        _arrange(file, link)
    show(f"The files are in {posixpath.join(data_dir, 'finetuning_data')}.")
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
            source = next((path for path in places if exists(path)), "")
            target = posixpath.join(data_dir, "finetuning_data", task, name)
            files.append(GlueFile(task, split, source, target))
    return files


def _folder(glue_dir: str, task: str) -> str:
    """Returns the folder of a task, whatever its case and hyphens; "" if there is none."""
    for name in _names(glue_dir):
        plain = name.lower().replace("-", "").replace("_", "")
        path = posixpath.join(glue_dir, name)
        if plain in (task, GLUE[task].folder.lower().replace("-", "")) and is_dir(path):
            return path
    return ""


def _names(folder: str) -> list[str]:
    return list_dir(folder) if folder and is_dir(folder) else []


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
    show(f"{'task':<6}{'split':<17}{'rows':>7}  note")
    for file in files:
        rows = "-" if file.error or not file.source else str(file.rows)
        note = file.note if file.source else "missing"
        show(f"{file.task:<6}{file.split:<17}{rows:>7}  {note}".rstrip())


def _refuse_other_content(file: GlueFile) -> None:
    if exists(file.target) and not _same_content(file.source, file.target):
        raise UserError(
            "There is another file of this name.",
            where=file.target,
            received=f"its content differs from {file.source}",
            remedy="Move it away, or give another --data-dir.",
        )


def _same_content(first: str, second: str) -> bool:
    if size(first) != size(second):
        return False
    return read_bytes(first) == read_bytes(second)


def _arrange(file: GlueFile, link: bool) -> None:
    if exists(file.target):
        return
    make_dirs(posixpath.dirname(file.target))
    if link:
        os.symlink(os.path.abspath(file.source), file.target)
    else:
        replace_file(file.target, read_bytes(file.source))
