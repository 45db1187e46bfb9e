"""Trains, evaluates and compares a model for each generator size."""

from __future__ import annotations

import dataclasses
import gc
import math
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from electra_tf2.cli import RunFlags
from electra_tf2.console import say, show
from electra_tf2.errors import UserError
from electra_tf2.files import exists, read_bytes, replace_file
from electra_tf2.loading.folder import make_model_folder, read_config
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.outputs import folder_lock
from electra_tf2.pretraining.phases import describe_batches, phases_of
from electra_tf2.pretraining.run.open_run import Data, as_it_began, check_same_data, open_data
from electra_tf2.pretraining.run.pretrain import pretrain
from electra_tf2.pretraining.run.restore import saved_step
from electra_tf2.sweep.size_results import SizeResult, SizeScore, Sweep, read_sweep, write_sweep
from electra_tf2.sweep.table import plot_sweep, table
from electra_tf2.training import devices
from electra_tf2.training.checkpoints import CheckpointStore

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

RESULTS, TABLE, PICTURE = "results.json", "results.md", "generator_sizes.png"

# Not the generator's: the encoder that is kept, and the head beside it.
_DISCRIMINATOR = ("electra/", "discriminator_predictions/")


class Scores(Protocol):
    """Scores models by what they reach after pre-training."""

    def check(self, pretraining: PretrainingConfig) -> None:
        """Refuses what does not fit the pre-training, before anything is trained."""
        ...

    def __call__(self, model_name: str) -> dict[str, SizeScore]:
        """Returns task -> score of a model."""
        ...


def run_sweep(
    flags: RunFlags, configs: Mapping[float, PretrainingConfig], scores: Scores | None = None
) -> Sweep:
    """Trains and scores the sizes one after the other; the same call resumes an interrupted sweep.

    Table, plot and results go to `<data-dir>/models/<model-name>_sweep`. The table is rewritten
    after each size.

    Args:
        flags: the sweep's `data_dir` and `model_name`.
        configs: size -> its configuration, in rising order, see `sweep_configs`.
        scores: fine-tunes the models; None leaves that out.

    Returns:
        The sweep with all results.

    Raises:
        UserError: as `pretrain`; or a model was trained for more steps than the sweep's.
    """
    data = {size: _check(config) for size, config in configs.items()}
    if scores is not None:
        scores.check(next(iter(configs.values())))
    folder = posixpath.join(flags.data_dir, "models", f"{flags.model_name}_sweep")
    make_model_folder(folder)
    with folder_lock(folder):
        stored = read_sweep(posixpath.join(folder, RESULTS))
        done = {result.size: result for result in (stored.results if stored else [])}
        _keep_previous(stored, configs, folder)
        sweep = _begin(flags.model_name, configs)
        for number, (size, config) in enumerate(configs.items(), 1):
            say("", f"Generator size {size:g} ({number} of {len(configs)}): {config.model_dir}")
            result = _pretrained(size, config, data[size], done.get(size))
            sweep = _add(sweep, result, folder)  # a halt while fine-tuning must not lose it
            if scores is not None:
                result = dataclasses.replace(result, scores=scores(config.model_name))
                sweep = _add(sweep, result, folder)
            gc.collect()  # the networks refer to themselves in circles
        show(*table(sweep).split("\n"))
        _plot(sweep, posixpath.join(folder, PICTURE))
    return sweep


def _begin(model_name: str, configs: Mapping[float, PretrainingConfig]) -> Sweep:
    config = next(iter(configs.values()))
    phases = [phase.config for phase in phases_of(config)]
    held_out = phases[-1].eval_tfrecords
    return Sweep(
        model_name=model_name,
        hidden_size=config.network().hidden_size,
        num_train_steps=config.num_train_steps,
        num_warmup_steps=max(phase.num_warmup_steps for phase in phases),
        batches=describe_batches(config),
        evaluated_on=held_out or f"the training data, {phases[-1].pretrain_tfrecords}",
        electric=config.electric_objective,
        sizes=list(configs),
    )


def _check(config: PretrainingConfig) -> str:
    """Refuses data, or a model that is there, that does not fit; returns the data's fingerprint."""
    devices.find_devices(config)
    config = as_it_began(config)
    compute_type = devices.resolve_precision(config.precision)
    data = open_data(config, config.network(), compute_type)
    step = saved_step(config.model_dir)
    if step is not None:
        _check_same_training(config, data, step)
    if step is not None and step > config.num_train_steps:
        raise UserError(
            "The model was trained for longer than the others of this sweep.",
            where=config.model_dir,
            received=f"{step} steps; num_train_steps {config.num_train_steps}",
            remedy=f"Set num_train_steps to {step} for all sizes, or choose another --model-name.",
        )
    return data.fingerprint()


def _check_same_training(config: PretrainingConfig, data: Data, step: int) -> None:
    """Refuses a model that began with other data or weights: sizes would not be comparable."""
    trained_on = CheckpointStore(config.model_dir).newest_state().get("data")
    if step >= config.num_train_steps:  # where training resumes, `open_data` has compared them
        check_same_data(data, trained_on)
    stored = read_config(config.model_dir)
    before = stored.hparams if stored else {}
    # Of models of older versions only the path of the data is known.
    for name in ("init_checkpoint", *(["pretrain_tfrecords"] if trained_on is None else [])):
        now = getattr(config, name)
        if name in before and before[name] != now:
            raise UserError(
                "A model of the sweep was trained from something else than the others would be.",
                where=config.model_dir,
                received=f"{name} {now!r}; that model has {before[name]!r}",
                remedy="Give the former one, or choose another --model-name.",
            )


def _keep_previous(
    stored: Sweep | None, configs: Mapping[float, PretrainingConfig], folder: str
) -> None:
    """Sets aside the results of a sweep that this one will not repeat."""
    if stored is None:
        return
    steps = next(iter(configs.values())).num_train_steps
    sizes = [result.size for result in stored.results]
    if stored.num_train_steps == steps and set(sizes) <= set(configs):
        return
    # Named by what they hold: no other results take their place.
    told = f"{'_'.join(f'{size:g}' for size in sorted(sizes))}_{stored.num_train_steps}_steps"
    for name in (RESULTS, TABLE):
        path = posixpath.join(folder, name)
        stem, ending = posixpath.splitext(name)
        if exists(path):
            kept = posixpath.join(folder, f"{stem}_{told}{ending}")
            replace_file(kept, read_bytes(path))
    say(f"The earlier results, of other sizes or steps, are kept in {folder}/*_{told}.*")


def _pretrained(
    size: float, config: PretrainingConfig, data: str, before: SizeResult | None
) -> SizeResult:
    """Trains a size to its end and evaluates it, unless it was before."""
    evaluated = _evaluated(config, data)
    if before is not None and before.evaluated == evaluated:
        say("Trained and evaluated before: its figures stand.")
        return before
    figures = pretrain(config)
    assert figures is not None  # do_eval
    arrays = open_pretrained(config.model_dir).arrays
    counts = {name: math.prod(array.shape) for name, array in arrays.items()}
    own = sum(count for name, count in counts.items() if not name.startswith(_DISCRIMINATOR))
    return SizeResult(
        size=size,
        model_dir=config.model_dir,
        hidden_size=int(round(config.network().hidden_size * size)),
        generator_parameters=own,
        parameters=sum(counts.values()),
        figures=figures,
        evaluated=_evaluated(config, data),
    )


def _evaluated(config: PretrainingConfig, data: str) -> dict[str, Any]:
    """What the figures of a model's evaluation depend on; its weights only if it is trained."""
    newest = CheckpointStore(config.model_dir).latest()
    weights = None
    if newest is not None and saved_step(config.model_dir) == config.num_train_steps:
        weights = CheckpointStore(config.model_dir).fingerprint(newest)
    return {
        "weights": weights,
        "data": data,
        "eval_batch_size": config.eval_batch_size,
        "num_eval_steps": config.num_eval_steps,
    }


def _add(sweep: Sweep, result: SizeResult, folder: str) -> Sweep:
    """Adds a result, in place of an earlier one of its size, writes it, and says of collapses."""
    others = [own for own in sweep.results if own.size != result.size]
    added = dataclasses.replace(sweep, results=[*others, result])
    write_sweep(added, posixpath.join(folder, RESULTS))
    replace_file(posixpath.join(folder, TABLE), table(added).encode())
    known = sweep.collapsed()
    for text in added.collapsed():
        if text not in known:
            say(f"Warning: {text}.")
    return added


def _plot(sweep: Sweep, path: str) -> None:
    """Draws the plot where matplotlib is there; the table does not need it."""
    try:
        plot_sweep(sweep, path)
    except UserError as error:
        say(f"No plot. {error}")
    else:
        say(f"Plot written to {path}")
