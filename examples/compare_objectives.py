"""What pre-training gives: replaced-token detection, masked LM and Electric at the same compute.

Trains the same network on the same text with each objective, for several seeds, until each has
taken the same number of FLOPs. Fine-tunes all of them on several tasks, at several points of their
training, and the same network from random weights. <data-dir> is that of run_pretraining.py, with
records of held-out text in <data-dir>/heldout and the tasks in <data-dir>/finetuning_data;
<data-dir>/models/<model-name>_comparison gets

  seed_<n>.json      all figures of a seed
  results.md         a table of means and standard deviations
  compute.png        the scores over the compute (needs matplotlib)

Run the same command again to resume it. Several processes can train seeds of their own, each with
some of --seeds; the same command with all of them then makes the table.

Examples, with the text of the quickstart:
  python examples/compare_objectives.py --data-dir quickstart_data --model-name objectives
  python examples/compare_objectives.py --data-dir quickstart_data --model-name masks \\
      --arms '{"tokens": {}, "words": {"masking": "whole_word"}}'
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import posixpath
from collections.abc import Mapping
from typing import Any

from objective_table import NOT_PRETRAINED, Cell, Place, plot, read_cells, table, write_cells
from quickstart_finetuning import HPARAMS as PARAMETERS
from quickstart_finetuning import TASK

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.compute import example_flops, pretraining_flops
from electra_tf2.console import brief, quiet_libraries, say, show
from electra_tf2.errors import UserError
from electra_tf2.files import is_dir, replace_file
from electra_tf2.hparams.ramps import LINEAR
from electra_tf2.hparams.record import contradiction, parse_hparams
from electra_tf2.loading.folder import json_path
from finetune.run.results import read_results

OBJECTIVES: dict[str, dict[str, Any]] = {
    "replaced tokens": {},
    "masked LM": {"electra_objective": False},
    "Electric": {"electric_objective": True},
}
"""Objective -> the hparams that choose it; these are compared unless --arms says otherwise."""
TASKS: dict[str, dict[str, Any]] = {
    TASK: {"tasks": PARAMETERS["tasks"], "max_seq_length": 64},
    "chunk": {"max_seq_length": 128},
    "cola": {"max_seq_length": 64},
    "mrpc": {"max_seq_length": 128},
    "squadv1": {"max_seq_length": 128, "doc_stride": 64},
}
"""Task -> its hparams beside those of all tasks."""
FINETUNING: dict[str, Any] = {
    "learning_rate": 5e-4,
    "layerwise_lr_decay": 0,  # with few layers, none is far from the task
    "log_every_steps": 100,
}
PRESET = "electra_tiny"
_SAME_FOR_ALL = {
    *("num_train_steps", "num_warmup_steps", "phases", "seed", "preset"),
    *("data_dir", "model_name", "model_dir", "do_train", "do_eval"),
}
_RANDOM = "random"
_SIZES = ("encoder", "model_size", "model_hparam_overrides", "embedding_size", "vocab_size")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags beside those of pre-training."""
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    help_text = "compare these instead of objectives: a JSON object of names and their hparams"
    add("--arms", metavar="JSON", default=json.dumps(OBJECTIVES), help=help_text)
    help_text = "how often to fine-tune, evenly over the compute (default: %(default)s)"
    add("--points", type=int, default=3, help=help_text)
    names = ", ".join(TASKS)
    add("--tasks", nargs="+", help=f"default: those of {names} that are in finetuning_data")
    add("--finetune", metavar="HPARAMS", default="{}", help="of run_finetuning.py, for all tasks")


def main(argv: list[str] | None = None) -> None:
    """Runs the comparison that the flags describe."""
    flags, more = cli.parse_run_flags(
        __doc__, argv, hparams_help=PretrainingConfig.describe(), add_flags=add_flags
    )
    more.seeds = list(dict.fromkeys(more.seeds))
    comparison = Comparison(flags, more)
    with quiet_libraries():
        from electra_tf2.training.devices import find_devices
    find_devices(comparison.reference(more.seeds[0]))
    # The ends of training come first: they are compared; the points before draw the curves.
    for point in range(more.points, 0, -1):
        for seed in more.seeds:
            comparison.run(seed, point)
        cells = [cell for seed in more.seeds for cell in comparison.read(seed)]
        text = table(cells)
        replace_file(posixpath.join(comparison.folder, "results.md"), text.encode())
        picture = posixpath.join(comparison.folder, "compute.png")
        plot(cells, picture)
    show(*text.rstrip("\n").split("\n"))
    say(f"Plot written to {picture}")


class Comparison:
    """Trains and scores what is not done yet, the ends of all seeds first.

    Args:
        flags: of pre-training.
        more: those of `add_flags`.

    Attributes:
        folder: for the figures, the table and the plot.

    Raises:
        UserError: hparams do not fit, or there is no task.
    """

    def __init__(self, flags: cli.RunFlags, more: argparse.Namespace):
        self._flags, self._points = flags, more.points
        self._arms = _parse_arms(more.arms)
        self._finetuning = parse_hparams(more.finetune, "--finetune")
        self.folder = posixpath.join(flags.data_dir, "models", f"{flags.model_name}_comparison")
        self._tasks = more.tasks or self._tasks_there()
        for own in (flags.hparams, *self._arms.values()):
            _check_hparams(own)
        reference = self.reference(more.seeds[0])
        if reference.phases:  # of a preset
            _check_hparams({"phases": reference.phases})
        steps = reference.num_train_steps
        if not 1 <= more.points <= steps:
            raise UserError(
                "The number of points is out of range.",
                where="--points",
                received=more.points,
                remedy=f"Give one of 1 to {steps}, the steps of pre-training.",
            )
        for arm in self._arms:  # refuses what does not fit before anything is trained
            self._pretraining(arm, more.seeds[0])

    def path(self, seed: int) -> str:
        """The file of a seed's figures."""
        return posixpath.join(self.folder, f"seed_{seed}.json")

    def read(self, seed: int) -> list[Cell]:
        """Reads the cells of a seed that were scored so far.

        Raises:
            UserError: they were trained or fine-tuned with other hparams.
        """
        stored = read_cells(self.path(seed))
        if stored is None:
            return []
        there = {cell.objective: cell.hparams for cell in stored.cells if cell.hparams is not None}
        other = {
            arm: there[arm] for arm in self._arms.keys() & there if there[arm] != self._arms[arm]
        }
        if other or stored.settings != self._settings():
            own = {arm: self._arms[arm] for arm in other}
            raise UserError(
                "The scores of this comparison were made with other hparams.",
                where=self.path(seed),
                received=f"{self._settings() | own}; there {stored.settings | other}",
                remedy="Give those, or choose another --model-name.",
            )
        return stored.cells

    def _settings(self) -> dict[str, Any]:
        """What all cells have in common."""
        own = {"hparams": self._flags.hparams, "finetune": self._finetuning}
        return {**own, "points": self._points}

    def run(self, seed: int, point: int) -> None:
        """Trains a seed's models and scores them at a point; writes its file after each score.

        The last point comes first, and with it the network from random weights.
        """
        cells = {cell.place: cell for cell in self.read(seed)}
        for arm in self._arms:
            self._run_point(arm, seed, point, cells)
        if point < self._points:
            return
        sized = self.reference(seed)
        sizes = {name: getattr(sized, name) for name in _SIZES}
        name = f"{self._flags.model_name}_{seed}_{_RANDOM}"
        cell = Cell(NOT_PRETRAINED, seed, 0, 0.0)
        self._score(cell, cells, name, {"init_checkpoint": None, **sizes})

    def _run_point(self, arm: str, seed: int, point: int, cells: dict[Place, Cell]) -> None:
        config = self._pretraining(arm, seed)
        steps = config.num_train_steps * point // self._points
        flops = _flops_per_step(config) * steps
        cell = Cell(arm, seed, steps, flops, hparams=self._arms[arm])
        name = f"{config.model_name}_{steps}"
        if point == self._points:
            name = config.model_name
            if cell.place not in cells:
                cell = dataclasses.replace(cell, figures=_pretrain(config))
        start = posixpath.join(config.model_dir, "checkpoints", f"step-{steps:08d}")
        self._score(cell, cells, name, {"init_checkpoint": start})

    def _tasks_there(self) -> list[str]:
        folder = posixpath.join(self._flags.data_dir, "finetuning_data")
        there = [task for task in TASKS if is_dir(posixpath.join(folder, task))]
        if not there:
            raise UserError(
                "There is no task to fine-tune on.",
                where=folder,
                received=f"none of the folders {', '.join(TASKS)}",
                remedy="Put a task's data there (docs/finetuning.md says how), "
                "or run examples/quickstart.py, which makes one.",
            )
        return there

    def reference(self, seed: int) -> PretrainingConfig:
        """The configuration without an arm's hparams, whose compute all of them get."""
        return self._make(None, seed, {})

    def _pretraining(self, arm: str, seed: int) -> PretrainingConfig:
        """The configuration of an arm, for as much compute as the reference takes."""
        own, reference = self._make(arm, seed, {}), self.reference(seed)
        flops = reference.num_train_steps * _flops_per_step(reference)
        steps = round(flops / _flops_per_step(own) / self._points) * self._points
        if not steps:
            raise UserError(
                "The compute is less than an arm's first point takes.",
                where=f"--arms, {arm}",
                received=f"{flops:.3g} FLOPs in all; {_flops_per_step(own):.3g} a step",
                remedy="Set num_train_steps higher, or --points lower.",
            )
        warmup = round(own.num_warmup_steps * steps / own.num_train_steps)
        return self._make(arm, seed, {"num_train_steps": steps, "num_warmup_steps": warmup})

    def _make(self, arm: str | None, seed: int, changes: Mapping[str, Any]) -> PretrainingConfig:
        name = f"{self._flags.model_name}_{seed}_{_in_names(arm or 'reference')}"
        hparams = {
            "preset": PRESET,
            "eval_tfrecords": posixpath.join(self._flags.data_dir, "heldout/*.tfrecord*"),
            **self._flags.hparams,
            "do_eval": True,
            **(self._arms[arm] if arm is not None else {}),
            "seed": seed,
            "keep_checkpoint_max": 0,
            **changes,
        }
        if steps := changes.get("num_train_steps"):
            hparams["save_checkpoints_steps"] = steps // self._points
        return PretrainingConfig(name, self._flags.data_dir, **hparams)

    def _score(
        self, cell: Cell, cells: dict[Place, Cell], name: str, start: Mapping[str, Any]
    ) -> None:
        """Fine-tunes a model on the tasks that its cell lacks."""
        from finetune.run.finetune import finetune

        cell = cells.setdefault(cell.place, cell)
        for task in (task for task in self._tasks if task not in cell.scores):
            say("", f"{cell.objective}, seed {cell.seed}, {cell.steps:,} steps: {task}")
            own = {"task_names": [task], "seed": cell.seed, **start}
            hparams = {**FINETUNING, **TASKS.get(task, {}), **self._finetuning, **own}
            config = FinetuningConfig(name, self._flags.data_dir, **hparams)
            with brief():
                (trial,) = finetune(config)
            metric = _main_metric(config, task)
            cell = cells[cell.place] = cell.with_score(task, metric, trial.scores[task][metric])
            write_cells(self.path(cell.seed), self._settings(), cells.values())
            gc.collect()  # the networks refer to themselves in circles


def _parse_arms(text: str) -> dict[str, dict[str, Any]]:
    """Reads --arms: name -> the hparams in which an arm differs from the others."""
    arms = parse_hparams(text, "--arms")
    fits = [isinstance(own, dict) and not _SAME_FOR_ALL & own.keys() for own in arms.values()]
    if not all(fits) or not fits:
        raise UserError(
            f"An arm has to be a name and hparams, without {' or '.join(sorted(_SAME_FOR_ALL))}.",
            where="--arms",
            received=json.dumps(arms),
            remedy='Give for example {"tokens": {}, "words": {"masking": "whole_word"}}; all get '
            "the compute of --hparams.",
        )
    taken = [_RANDOM, _in_names(NOT_PRETRAINED), *map(_in_names, arms)]
    if len(set(taken)) < len(taken):
        raise UserError(
            "Two arms would have one name in the names of models.",
            where="--arms",
            received=", ".join(taken),
            remedy=f"Give others; {_RANDOM} and {NOT_PRETRAINED} are for random weights.",
        )
    return arms


def _in_names(arm: str) -> str:
    """Returns what stands for an arm in the names of models."""
    return arm.lower().replace(" ", "_")


def _check_hparams(hparams: Mapping[str, Any]) -> None:
    """Refuses what would not be the same for arms that train for other numbers of steps."""
    given = {name: hparams[name] for name in ("phases", "lr_decay_steps") if name in hparams}
    ramps = (*LINEAR, "train_batch_size")
    given |= {n: hparams[n] for n in ramps if isinstance(hparams.get(n), list)}
    if given:
        raise contradiction(
            "What trains for other numbers of steps can't be compared with these.",
            given,
            "Leave them out, or give plain numbers.",
        )


def _flops_per_step(config: PretrainingConfig) -> float:
    flops = example_flops(pretraining_flops(config, config.network()))
    return flops.training * config.train_batch_size


def _pretrain(config: PretrainingConfig) -> dict[str, float]:
    from electra_tf2.pretraining.run.pretrain import pretrain

    say("", f"{config.model_name}: {config.num_train_steps:,} steps")
    with brief():
        figures = pretrain(config)
    assert figures is not None  # do_eval
    return figures


def _main_metric(config: FinetuningConfig, task: str) -> str:
    results = read_results(json_path(config.results_pkl))
    assert results is not None  # `finetune` wrote them
    return results.main_metrics[task]


if __name__ == "__main__":
    cli.run(main)
