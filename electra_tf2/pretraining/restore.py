"""Where a run starts from: its own checkpoint, an official one, or other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from electra_tf2.errors import UserError, first_of
from electra_tf2.formats.official import is_tf1_checkpoint, load_variables, read_tf1_checkpoint
from electra_tf2.loading.pretrained import Pretrained, has_checkpoint, open_pretrained
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Trainer

Say = Callable[[str], None]
Check = Callable[[Pretrained], None]


def saved_step(model_dir: str) -> int | None:
    """Returns the step that a folder's newest checkpoint is at, or None if it holds none.

    Args:
        model_dir: the model's folder; the checkpoint may be this program's or an official one.

    Raises:
        UserError: an official checkpoint that can't be read.
    """
    steps = CheckpointStore(model_dir).steps()
    if steps:
        return steps[-1]
    return read_tf1_checkpoint(model_dir).global_step if is_tf1_checkpoint(model_dir) else None


def resume(trainer: Trainer, model_dir: str, say: Say, examples_at: Callable[[int], int]) -> bool:
    """Goes on with what `model_dir` holds, if it holds a checkpoint.

    Args:
        trainer: takes weights, slots and step.
        model_dir: the model's folder. An official checkpoint in it is resumed too, at its step and
            with its Adam slots where it has them.
        say: prints a line.
        examples_at: steps -> the examples that they train on.

    Returns:
        Whether there was something to resume.

    Raises:
        UserError: the checkpoint is damaged, or belongs to another network.
    """
    newest = trainer.store.latest()
    if newest is not None:
        checkpoint = trainer.store.load(newest)
        _check_arrays(newest, checkpoint.weights, trainer, checkpoint.optimizer)
        trainer.restore(checkpoint)
        say(f"Resuming at step {trainer.step} from {newest}")
        return True
    if not is_tf1_checkpoint(model_dir):
        return False
    weights, slots, global_step = _read_official(trainer, model_dir, say)
    trainer.optimizer.variables.assign(weights)
    if slots is not None:
        trainer.optimizer.restore_slots(slots, updates=global_step)
    trainer.step = global_step
    trainer.examples_seen = examples_at(global_step)
    say(f"Resuming the official checkpoint in {model_dir} at step {global_step}")
    return True


def initialize(trainer: Trainer, init_checkpoint: str, say: Say, check: Check) -> None:
    """Takes over weights for a new run: step 0, fresh optimizer.

    Args:
        trainer: takes the weights.
        init_checkpoint: an official checkpoint (prefix or folder), a model folder of this
            program, one checkpoint folder in it, or a Hugging Face model with all the networks
            (see `open_pretrained`).
        say: prints a line.
        check: raises a UserError for weights that are not what the run needs though they fit.

    Raises:
        UserError: nothing readable is there, or it belongs to another network.
    """
    trainer.optimizer.variables.assign(load_weights(trainer, init_checkpoint, say, check))


def load_weights(trainer: Trainer, path: str, say: Say, check: Check) -> dict[str, np.ndarray]:
    """Reads the weights of the trainer's networks; arguments as `initialize`."""
    if is_tf1_checkpoint(path):
        weights, _, _ = _read_official(trainer, path, say)
        return weights
    if not has_checkpoint(path):
        raise UserError(
            "There is no checkpoint to start from.",
            where="hparam init_checkpoint",
            received=path,
            remedy="Give a model folder, a folder named step-…, an official checkpoint "
            "(…/model.ckpt-N), or a Hugging Face model (for both networks two folders, joined by a "
            "comma).",
        )
    pretrained = open_pretrained(path)
    weights = _of_huggingface(pretrained, trainer, say)
    _check_arrays(pretrained.path, weights, trainer)
    check(pretrained)
    say(f"Starting from the weights in {pretrained.path}")
    return weights


def _of_huggingface(pretrained: Pretrained, trainer: Trainer, say: Say) -> dict[str, np.ndarray]:
    """Leaves out what a Hugging Face model has beside the run's networks, and says so.

    Embeddings of the generator's own are kept, so that a run whose two networks share theirs is
    refused; weights of this program are all needed.
    """
    if pretrained.format != "huggingface":
        return pretrained.arrays
    shapes = _shapes(trainer)
    has_generator = any(name.startswith("generator/") for name in shapes)
    needed = {
        name: array
        for name, array in pretrained.arrays.items()
        if name in shapes or (has_generator and name.startswith("generator/embeddings/"))
    }
    unused = sorted(set(pretrained.arrays) - set(needed)) + list(pretrained.left_over)
    if unused:
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        say(f"Not used of {pretrained.path}: {', '.join(unused[:8])}{more}.")
    return needed


def _read_official(trainer: Trainer, path: str, say: Say):
    checkpoint = read_tf1_checkpoint(path)
    wanted = {name: tuple(shape) for name, shape in _shapes(trainer).items()}
    weights, slots, report = load_variables(checkpoint, wanted)
    say(str(report))
    if slots is not None:
        slots = {f"{name}/{slot}": a for name, by in slots.items() for slot, a in by.items()}
    return weights, slots, checkpoint.global_step


def _shapes(trainer: Trainer) -> dict[str, tuple[int, ...]]:
    variables = trainer.optimizer.variables
    return {
        name: tuple(variable.shape)
        for name, variable in zip(variables.names, variables.variables, strict=True)
    }


def _check_arrays(
    folder: str,
    weights: Mapping[str, np.ndarray],
    trainer: Trainer,
    stored_slots: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Compares names and shapes with the networks', and with the optimizer's where it goes on."""
    problems = _differences(weights, _shapes(trainer))
    if stored_slots is not None:
        slots = trainer.optimizer.slots
        shapes = {n: tuple(v.shape) for n, v in zip(slots.names, slots.variables, strict=True)}
        problems += _differences(stored_slots, shapes)
    if problems:
        raise UserError(
            "The checkpoint belongs to another network.",
            where=folder,
            received=first_of(problems),
            remedy="Use the hparams that the checkpoint was trained with, or another model name.",
        )


def _differences(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> list[str]:
    problems = [f"{name} is missing" for name in shapes if name not in arrays]
    problems += [f"{name} is not part of the network" for name in arrays if name not in shapes]
    problems += [
        f"{name} has shape {tuple(arrays[name].shape)}, not {tuple(shape)}"
        for name, shape in shapes.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(shape)
    ]
    return problems
