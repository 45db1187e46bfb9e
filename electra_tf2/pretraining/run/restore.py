"""Where a run starts from: its own checkpoint, another run's, an official one, or other weights."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists, is_local
from electra_tf2.formats.match import Shape, match_arrays
from electra_tf2.formats.official import (
    is_tf1_checkpoint,
    load_variables,
    our_path,
    read_tf1_checkpoint,
)
from electra_tf2.loading.disentangled import folded, shared_shapes, unfolded
from electra_tf2.loading.folder import WEIGHTS_ONLY, StoredConfig, config_of_state, read_config
from electra_tf2.loading.positions import TRAINED_POSITIONS, MorePositions, grown_positions
from electra_tf2.loading.pretrained import (
    Pretrained,
    check_encoder,
    check_own_vocabulary,
    has_checkpoint,
    no_model_advice,
    open_pretrained,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.embeddings import DELTA
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary, vocabulary_difference
from electra_tf2.training.checkpoints import STATE, Checkpoint, CheckpointStore, model_of
from electra_tf2.training.trainer import Trainer

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

Check = Callable[[Pretrained], None]
Arrays = Mapping[str, np.ndarray]
_NONE: Arrays = {}
_STARTS = ("init_checkpoint", "init_generator", "branch_from")


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


def resume(trainer: Trainer, model_dir: str, examples_at: Callable[[int], int]) -> bool:
    """Resumes the checkpoint that `model_dir` holds, if it holds one.

    Args:
        trainer: takes weights, slots and step.
        model_dir: the model's folder. An official checkpoint in it is resumed too, at its step and
            with its Adam slots where it has them. So is one of weights alone, as grow_model.py
            writes it, with fresh slots.
        examples_at: steps -> the examples that they train on.

    Returns:
        Whether there was something to resume.

    Raises:
        UserError: the checkpoint is damaged, or belongs to another network.
    """
    newest = trainer.run.store.latest()
    if newest is not None:
        checkpoint = trainer.run.store.load(newest)
        if checkpoint.state.get(WEIGHTS_ONLY) is True:
            say("The model holds weights alone: the optimizer starts afresh.")
            checkpoint = checkpoint._replace(
                weights=unfolded(checkpoint.weights, _shapes(trainer)),
                optimizer=trainer.run.optimizer.slots.to_numpy(),
            )
        _check_arrays(newest, checkpoint.weights, trainer, checkpoint.optimizer)
        _restore(trainer, checkpoint)
        say(f"Resuming at step {trainer.step} from {newest}")
        return True
    if not is_tf1_checkpoint(model_dir):
        return False
    weights, slots, global_step = _read_official(_shapes(trainer), model_dir)
    if slots is None:
        slots = trainer.run.optimizer.slots.to_numpy()  # fresh ones
    state = {"examples_seen": examples_at(global_step)}
    trainer.restore(Checkpoint(global_step, weights, slots, state))
    say(f"Resuming the official checkpoint in {model_dir} at step {global_step}")
    return True


def _restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Restores a trainer, which hands on how many positions of a grown model are trained."""
    trainer.restore(checkpoint)
    if TRAINED_POSITIONS in checkpoint.state:
        trainer.notes = {TRAINED_POSITIONS: checkpoint.state[TRAINED_POSITIONS]}


class Start(NamedTuple):
    """The checkpoint that a run goes on from.

    Attributes:
        model_dir: the folder of the model that it belongs to.
        step: steps done.
        state: what the trainer saved; {} of an official checkpoint.
        configs: all that says how it was trained.
    """

    model_dir: str
    step: int
    state: dict[str, Any]
    configs: Sequence[StoredConfig]

    @property
    def generator_began(self) -> bool:
        """Whether its generator began as another model's; see `Data.training_identity`."""
        named = any(own.hparams.get("init_generator") for own in self.configs)
        return named or self.state.get("init_generator") is True

    @property
    def origin(self) -> dict[str, Any]:
        """The hparams that say which weights the model began as; {} where that is not known."""
        known = self.configs[0].hparams if self.configs else {}
        # The hparams beside weights alone don't say; those of an older version don't have all.
        return {name: known.get(name) for name in _STARTS} if _STARTS[0] in known else {}

    def unread_weights_warning(self, hparams: Mapping[str, Any]) -> str | None:
        """Returns a warning where a run that resumes names weights, which it does not read.

        Returns:
            A sentence for the user; None if the run names none, or those that the model began as.
        """
        names = [n for n, own in self.origin.items() if not _may_be_same(hparams[n], own)]
        if not names:
            return None
        began = next(filter(None, self.origin.values()), "random weights")
        return (
            f"{' and '.join(names)}: only read for a new model. This one, in {self.model_dir}, "
            f"began as {began} according to its config.json, and resumes at its own step "
            f"{self.step}."
        )


def _may_be_same(given: str | None, stored: str | None) -> bool:
    """Whether the weights that a run names, if any, can be those that its model began as."""
    if not given or given == stored:
        return True
    if not stored or not is_local(stored) or not is_local(given):
        return given.rstrip("/") == (stored or "").rstrip("/")
    # What is no longer there may have been moved to where the run finds it.
    return not exists(stored) or os.path.realpath(given) == os.path.realpath(stored)


def open_branch(config: PretrainingConfig) -> Start:
    """Reads what the checkpoint to branch from says of itself.

    Raises:
        UserError: it is no checkpoint of this program, is damaged, does not say how it was trained,
            or comes after the run's last step.
    """
    path = (config.branch_from or "").rstrip("/")
    if not exists(posixpath.join(path, STATE)):
        found = [f"step-{step:08d}" for step in CheckpointStore(path).steps()]
        raise UserError(
            "There is no checkpoint to branch from.",
            where="hparam branch_from",
            received=path,
            remedy="Name the folder of a checkpoint, <model>/checkpoints/step-…"
            + (f"; that model has {first_of(found[::-1], 8, ', ')}." if found else "."),
        )
    model_dir = model_of(path)
    with _remedied():
        head = CheckpointStore(model_dir).head(path)
    if head.step >= config.num_train_steps:
        raise UserError(
            "The branch would end before it begins.",
            where="hparam num_train_steps",
            received=f"{config.num_train_steps} steps, to branch from step {head.step}",
            remedy=f"Set num_train_steps above {head.step}: the steps before the branch count.",
        )
    if head.state.get(WEIGHTS_ONLY) is True:
        raise UserError(
            "The checkpoint holds weights alone, and no optimizer to resume with.",
            where="hparam branch_from",
            received=path,
            remedy="Start a new run from its weights: leave branch_from out and set "
            "init_checkpoint to this path.",
        )
    stored = config_of_state(head.state, path) or read_config(model_dir)
    if stored is None:
        raise UserError(
            "The checkpoint does not say how it was trained, so no run can be compared with it.",
            where=f"hparam branch_from, {path}",
            received="a state.json without hparams, and no config.json in the model's folder",
            remedy="Start a new run from its weights: leave branch_from out and set "
            "init_checkpoint to this path.",
        )
    return Start(model_dir, head.step, head.state, [stored])


def branch(trainer: Trainer, path: str) -> None:
    """Goes on from a checkpoint of another run: its weights, slots, step and place in the data.

    Raises:
        UserError: the checkpoint is damaged, or belongs to another network.
    """
    with _remedied():
        checkpoint = CheckpointStore(model_of(path)).load(path)
    _check_arrays(path, checkpoint.weights, trainer, checkpoint.optimizer)
    _restore(trainer, checkpoint)
    say(f"Branching off at step {trainer.step} from {path}")


@contextlib.contextmanager
def _remedied() -> Iterator[None]:
    """Replaces advice on how to resume by what helps where a branch can't be read."""
    try:
        yield
    except UserError as error:
        remedy = "Restore the file from a copy, or branch from another checkpoint."
        raise error.with_(remedy=remedy) from error


def initialize(
    trainer: Trainer, init_checkpoint: str | None, check: Check, generator: Arrays = _NONE
) -> None:
    """Takes over weights for a new run: step 0, fresh optimizer.

    Args:
        trainer: takes the weights.
        init_checkpoint: an official checkpoint (prefix or folder), a model folder of this
            program, one checkpoint folder in it, or a Hugging Face model with all the networks
            (see `open_pretrained`); None: the random weights, but for the generator's.
        check: raises a UserError for weights that are not what the run needs though they fit.
        generator: variables that come from another model, see `load_generator`.

    Raises:
        UserError: nothing readable is there, or it belongs to another network.
    """
    variables = trainer.run.optimizer.variables
    if init_checkpoint:
        weights = load_weights(trainer, init_checkpoint, check, generator)
    else:
        weights = {**variables.to_numpy(), **generator}
        _check_arrays("hparam init_generator", weights, trainer)
    variables.assign(weights)


def copy_positions(trainer: Trainer, trained: int, *, of_generator: bool = True) -> None:
    """Repeats the first rows of all position tables that are trained over their other rows.

    A second time it changes nothing, so a run may be resumed before its first step.

    Args:
        trainer: has the weights; its optimizer's slots stay.
        trained: number of these rows.
        of_generator: whether a table of the generator's own is one of them; a constant never is.
    """
    variables = trainer.run.optimizer.variables
    weights = variables.to_numpy()
    kept = set(trainer.run.optimizer.constants)
    if not of_generator:
        kept |= {name for name in weights if name.startswith("generator/")}
    if kept:  # a sum's rows, not those of what is added to a table that stays
        weights = folded(weights)
    table = "embeddings/position_embeddings"
    tables = [name for name in weights if name.endswith((table, table + DELTA))]
    for name in set(tables) - kept:
        rows = len(weights[name])
        weights[name] = grown_positions(weights[name], MorePositions(rows, trained, "copy"))
    variables.assign(unfolded(weights, _shapes(trainer)) if kept else weights)
    say(f"The first {trained} position embeddings are copied over the others.")


def load_weights(
    trainer: Trainer, path: str, check: Check, generator: Arrays = _NONE
) -> dict[str, np.ndarray]:
    """Reads the weights of the trainer's networks; arguments as `initialize`."""
    shapes = _shapes(trainer)
    if is_tf1_checkpoint(path):
        others = {name: shape for name, shape in shapes.items() if name not in generator}
        weights, _, _ = _read_official(shared_shapes(others), path)
        return unfolded({**weights, **generator}, shapes)
    if not has_checkpoint(path):
        raise UserError(
            "There is no checkpoint to start from.",
            where="hparam init_checkpoint",
            received=path,
            remedy="Hugging Face's two networks are two folders, joined by a comma. "
            + no_model_advice(path),
        )
    pretrained = open_pretrained(path)
    arrays = pretrained.arrays
    check_encoder(pretrained.path, arrays, shapes)
    if generator:
        own = {name: array for name, array in arrays.items() if not name.startswith("generator")}
        arrays = {**own, **generator}
    weights = _of_huggingface(pretrained, unfolded(arrays, shapes), shapes)
    _check_arrays(pretrained.path, weights, trainer)
    check(pretrained)
    say(f"Starting from the weights in {pretrained.path}")
    return weights


def _of_huggingface(
    pretrained: Pretrained, arrays: dict[str, np.ndarray], shapes: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
    """Leaves out what a Hugging Face model has beside the run's networks, and says so.

    Embeddings of the generator's own are kept, so that a run whose two networks share theirs is
    refused; weights of this program are all needed.
    """
    if pretrained.format != "huggingface":
        return arrays
    has_generator = any(name.startswith("generator/") for name in shapes)
    needed = {
        name: array
        for name, array in arrays.items()
        if name in shapes or (has_generator and name.startswith("generator/embeddings/"))
    }
    unused = sorted(set(arrays) - set(needed)) + list(pretrained.left_over)
    if unused:
        say(f"Not used of {pretrained.path}: {first_of(unused, separator=', ')}.")
    return needed


def _read_official(shapes: Mapping[str, Shape], path: str):
    checkpoint = read_tf1_checkpoint(path)
    check_encoder(checkpoint.path, (our_path(n) or n for n in checkpoint.variables), shapes)
    weights, slots, report = load_variables(checkpoint, shapes)
    say(str(report))
    if slots is not None:
        slots = {f"{name}/{slot}": a for name, by in slots.items() for slot, a in by.items()}
    return weights, slots, checkpoint.global_step


def _shapes(trainer: Trainer) -> dict[str, Shape]:
    variables = trainer.run.optimizer.variables
    shapes = {n: tuple(v.shape) for n, v in zip(variables.names, variables.variables, strict=True)}
    return shapes  # pyright: ignore[reportReturnType] # of a variable, all sizes are known


def _check_arrays(
    folder: str,
    weights: Mapping[str, np.ndarray],
    trainer: Trainer,
    stored_slots: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Compares names and shapes with the networks', and with the optimizer's where it resumes."""
    shapes = _shapes(trainer)
    if stored_slots is not None:
        slots = trainer.run.optimizer.slots
        shapes |= {n: tuple(v.shape) for n, v in zip(slots.names, slots.variables, strict=True)}
    match = match_arrays(shapes, {**weights, **(stored_slots or {})})
    lacks_embeddings = any(name.startswith("generator/embeddings/") for name in match.missing)
    advice = " Or set init_generator to it too, which gives the generator embeddings of its own."
    match.complete(
        "The checkpoint belongs to another network.",
        where=folder,
        remedy="Use the hparams that the checkpoint was trained with, or another model name."
        + match.growing_advice
        + advice * (lacks_embeddings and stored_slots is None),
        more=(f"{name} is not part of the network" for name in match.left_over),
    )


# What the shapes of the weights don't show.
_UNSEEN = ("num_attention_heads", "num_hidden_layers", "hidden_act")
# The same of a modern encoder. The wave lengths of its positions may be changed for longer texts.
_UNSEEN_WINDOWS = ("global_attention_every", "local_attention")


def check_start(pretrained: Pretrained, config: PretrainingConfig, casing: Casing) -> None:
    """Refuses weights of a network, a vocabulary or a casing that is not the run's.

    Args:
        pretrained: the weights; what nothing beside them says is not compared.
        config: gives the run's networks, vocabulary and casing.
        casing: of the run's data.

    Raises:
        UserError: lists every difference.
    """
    network = config.network()
    # Where nothing is stored, the activation is unknown.
    names = [name for name in _UNSEEN if pretrained.network or name != "hidden_act"]
    names += _UNSEEN_WINDOWS if network.is_modern else ()
    different = _network_differences("", names, pretrained.encoder_config(), network)
    if _has_small_generator(config) and not config.init_generator:
        small = config.generator_network()
        different += _network_differences("the generator's ", _UNSEEN, pretrained.generator, small)
    different += text_differences(pretrained, config, casing)
    if different:
        raise UserError(
            "The weights to start from belong to another model than this run trains.",
            where=f"hparam init_checkpoint, {pretrained.path}",
            received="; ".join(different),
            remedy="Use the hparams, the vocabulary and data of the kind that the weights were "
            "trained with.",
        )


def text_differences(
    pretrained: Pretrained, config: PretrainingConfig, casing: Casing
) -> list[str]:
    """Returns how the casing and the vocabulary of a model differ from a run's, in words.

    Args:
        pretrained: the model; what nothing beside it says is not compared.
        config: gives the run's vocabulary.
        casing: of the run's data.

    Raises:
        UserError: the vocabulary beside the model is not the one that it was saved with.
    """
    there = pretrained.casing or casing
    different = [
        f"{name}: {theirs} there, {ours} here"
        for name, theirs, ours in (
            ("do_lower_case", there.lower_case, casing.lower_case),
            ("strip_accents", there.removes_accents, casing.removes_accents),
        )
        if theirs != ours
    ]
    if pretrained.vocab_file:
        theirs, ours = load_vocabulary(pretrained.vocab_file), load_vocabulary(config.vocab_file)
        check_own_vocabulary(pretrained, theirs, pretrained.vocab_file)
        if difference := vocabulary_difference(theirs, ours):
            different.append(f"the vocabulary: {pretrained.vocab_file}, {difference}")
    return different


def _has_small_generator(config: PretrainingConfig) -> bool:
    detection = config.electra_objective or config.electric_objective
    return detection and config.untied_generator and not config.uniform_generator


def _network_differences(
    whose: str, names: Iterable[str], there: TransformerConfig | None, here: TransformerConfig
) -> list[str]:
    found = [(name, getattr(there or here, name), getattr(here, name)) for name in names]
    return [
        f"{whose}{name}: {theirs} there, {ours} here"
        for name, theirs, ours in found
        if theirs != ours
    ]
