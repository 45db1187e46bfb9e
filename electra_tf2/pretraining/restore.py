"""Where a run starts from: its own checkpoint, an official one, or other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.interop.tf1_checkpoint import (
    is_tf1_checkpoint,
    load_variables,
    read_tf1_checkpoint,
)
from electra_tf2.training.checkpoints import Checkpoint, CheckpointStore
from electra_tf2.training.trainer import Trainer

Say = Callable[[str], None]


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


def resume(
    trainer: Trainer, model_dir: str, say: Say, examples_at: Callable[[int], int]
) -> bool:
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
        _check_arrays(newest, checkpoint, trainer)
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


def initialize(trainer: Trainer, init_checkpoint: str, say: Say) -> None:
    """Takes over weights for a new run: step 0, fresh optimizer.

    Args:
        trainer: takes the weights.
        init_checkpoint: an official checkpoint (prefix or folder), a model folder of this
            program, or one checkpoint folder in it.
        say: prints a line.

    Raises:
        UserError: nothing readable is there, or it belongs to another network.
    """
    trainer.optimizer.variables.assign(load_weights(trainer, init_checkpoint, say))


def load_weights(trainer: Trainer, path: str, say: Say) -> dict[str, np.ndarray]:
    """Reads the weights of the trainer's networks; arguments as `initialize`."""
    if is_tf1_checkpoint(path):
        weights, _, _ = _read_official(trainer, path, say)
        return weights
    store = CheckpointStore(path)
    folder = store.latest() or path
    if not tf.io.gfile.exists(tf.io.gfile.join(folder, "weights.safetensors")):
        raise UserError(
            "There is no checkpoint to start from.",
            where="hparam init_checkpoint",
            received=path,
            remedy="Give a model folder, a folder named step-…, or an official checkpoint "
            "(…/model.ckpt-N).",
        )
    checkpoint = store.load(folder)
    _check_arrays(folder, checkpoint, trainer, with_slots=False)
    say(f"Starting from the weights in {folder}")
    return checkpoint.weights


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
    folder: str, checkpoint: Checkpoint, trainer: Trainer, *, with_slots: bool = True
) -> None:
    """Compares names and shapes with the networks'."""
    problems = _differences(checkpoint.weights, _shapes(trainer))
    if with_slots:
        slots = trainer.optimizer.slots
        shapes = {n: tuple(v.shape) for n, v in zip(slots.names, slots.variables, strict=True)}
        problems += _differences(checkpoint.optimizer, shapes)
    if problems:
        shown = "; ".join(problems[:8])
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise UserError(
            "The checkpoint belongs to another network.",
            where=folder,
            received=shown + more,
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
