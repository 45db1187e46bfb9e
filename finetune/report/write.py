"""A page about a model to look at: its pre-training, and what it was fine-tuned on.

<model_dir>/report.html    one file that needs nothing beside it
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import time
from collections.abc import Iterator, Sequence

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError, path_quoted
from electra_tf2.outputs import check_output_paths
from electra_tf2.plots import load_pyplot
from electra_tf2.report.commands import Place, command_lines, given_hparams, place_of
from electra_tf2.report.folder import PretrainedFolder, open_folder
from electra_tf2.report.page import Markup, Section, command, element, joined, note, render_page
from electra_tf2.report.pretraining import curves_section, key_figures, training_section
from electra_tf2.report.sentences import examples_sections
from electra_tf2.training.cluster import read_cluster
from electra_tf2.training.reports import WARNINGS, StoredWarning, read_warnings
from finetune.report.scores import FinetuningRun, finetuning_runs, scores_section
from finetune.run.results import warnings_path
from finetune.trial_folders import TASKS

REPORT = "report.html"


def report_path(model_dir: str) -> str:
    """Returns where the page about a model is written by default."""
    return posixpath.join(model_dir, REPORT)


@contextlib.contextmanager
def reported(config: PretrainingConfig | FinetuningConfig, model_dir: str) -> Iterator[None]:
    """Writes the page about a model after the run within, if `config.report` asks for it.

    Of several workers, the chief does.

    Raises:
        UserError: before the run: matplotlib is not installed, or the page can't be written there.
    """
    if not config.report:
        yield
        return
    load_pyplot()
    check_output_paths({"hparam report": report_path(model_dir)})
    yield
    if config.distribution != "multi_worker" or read_cluster().index == 0:
        say(f"Page written to {write_report(model_dir)}")


def write_report(model_dir: str, output: str | None = None) -> str:
    """Writes the page about a model.

    Args:
        model_dir: the model's folder: pre-trained, fine-tuned, or both.
        output: path of the page; None: report.html in the folder.

    Returns:
        The page's path.

    Raises:
        UserError: there is nothing to report on, a file of the folder can't be read, matplotlib is
            not installed, or the page can't be written.
    """
    if posixpath.basename(model_dir.rstrip("/")) in ("", ".", ".."):  # they say no name
        model_dir = posixpath.abspath(model_dir)
    output = output or report_path(model_dir)
    check_output_paths({"--output": output})
    load_pyplot()
    _check_folder(model_dir)
    folder = open_folder(model_dir, PretrainingConfig)
    runs = finetuning_runs(model_dir)
    if not folder.reports and not folder.state and not runs:
        raise UserError(
            "There is nothing to report on.",
            where=model_dir,
            received="a folder without checkpoints, metrics.jsonl and results",
            remedy="Train first (run_pretraining.py, run_finetuning.py), or check --data-dir and "
            "--model-name.",
        )
    examples, judged = examples_sections(folder)
    sections = [
        training_section(folder, judged),
        curves_section(folder),
        *examples,
        scores_section(model_dir, runs),
        warnings_section(folder, runs),
        commands_section(folder, runs),
    ]
    name = _name(folder, runs)
    page = render_page(
        name, _subtitle(folder, runs), key_figures(folder), [s for s in sections if s]
    )
    files.make_dirs(posixpath.dirname(output))
    files.replace_file(output, page)
    return output


def _check_folder(model_dir: str) -> None:
    if not files.is_dir(model_dir):
        raise UserError(
            "There is no such model.",
            where=model_dir,
            received="a file" if files.exists(model_dir) else "no such folder",
            remedy="Give the folder of a model: <data-dir>/models/<model-name>.",
        )
    if files.exists(posixpath.join(model_dir, TASKS)):
        parent = posixpath.dirname(posixpath.dirname(model_dir.rstrip("/")))
        raise UserError(
            "This is the folder of a trial; the page is about a model with all its trials.",
            where=model_dir,
            received=f"a folder with {TASKS}",
            remedy=f"Give the model's folder, such as {path_quoted(parent or '.')}.",
        )


def _name(folder: PretrainedFolder, runs: Sequence[FinetuningRun]) -> str:
    if folder.stored is not None or not runs:
        return folder.place.model_name
    return runs[0].results.model_name or folder.place.model_name


def _subtitle(folder: PretrainedFolder, runs: Sequence[FinetuningRun]) -> str:
    done = ["pre-trained"] if folder.reports or folder.state else []
    tasks = dict.fromkeys(task for run in runs for task in run.results.task_names)
    done += [f"fine-tuned on {', '.join(tasks)}"] if tasks else []
    return f"{' and '.join(done).capitalize()} ({folder.model_dir})"


def warnings_section(folder: PretrainedFolder, runs: Sequence[FinetuningRun]) -> Section:
    """Returns the warnings that the runs gave."""
    found = [("pre-training", read_warnings(posixpath.join(folder.model_dir, WARNINGS)))]
    for run in runs:
        title = f"fine-tuning on {', '.join(run.results.task_names)}"
        found.append((title, read_warnings(warnings_path(f"{run.stem}.txt"))))
    items = [_warning(title, warning) for title, own in found for warning in own]
    none = note("None are kept with this model.")
    content = element("ul", *items, class_="warnings") if items else none
    return Section("warnings", "Warnings", content)


def _warning(title: str, warning: StoredWarning) -> Markup:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(warning.wall_time))
    return element("li", element("time", f"{when}, {title}"), warning.text)


def commands_section(folder: PretrainedFolder, runs: Sequence[FinetuningRun]) -> Section | None:
    """Returns the commands that do all training again; None if no hparams are stored."""
    parts: list[str] = []
    if folder.config is not None and folder.stored is not None and not folder.is_grown:
        hparams = given_hparams(PretrainingConfig, folder.place, folder.stored.hparams)
        hparams.pop("report", None)
        lines = command_lines("run_pretraining.py", folder.place, hparams)
        parts += [element("h3", "Pre-training"), command(lines)]
    for run in runs:
        if run.results.hparams:
            place = _place(run, folder)
            hparams = given_hparams(FinetuningConfig, place, run.results.hparams)
            hparams.pop("report", None)
            lines = command_lines("run_finetuning.py", place, hparams)
            title = f"Fine-tuning on {', '.join(run.results.task_names)}"
            parts += [element("h3", title), command(lines)]
    if not parts:
        return None
    parts += [element("h3", "This page")]
    parts += [command([f"python report.py --model-dir {path_quoted(folder.model_dir)}"])]
    intro = note("From the folder where they were given first; a click selects a command.")
    return Section("commands", "The commands that repeat it", joined([intro, *parts]))


def _place(run: FinetuningRun, folder: PretrainedFolder) -> Place:
    """The flags of a fine-tuning run, from where its results were written."""
    written = str((run.results.hparams or {}).get("results_txt", ""))
    match = re.fullmatch(r"(.*/models/[^/]+)/results/[^/]*", written)
    if match:
        return place_of(match[1])
    return folder.place._replace(model_name=run.results.model_name or folder.place.model_name)
