"""One trial: a network is trained from the start checkpoint, with a seed of its own."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from electra_tf2.compute import encoder_flops, total
from electra_tf2.console import say
from electra_tf2.loading.folder import make_model_folder, stored_config, write_model_folder
from electra_tf2.modeling.electra import count_parameters, describe_encoder
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training import devices
from electra_tf2.training.checkpoints import CheckpointStore, newest_checkpoint
from electra_tf2.training.devices import ReplicaVariables
from electra_tf2.training.loop import LoopSettings
from electra_tf2.training.objective import Objective
from electra_tf2.training.optimizers import ReplicaOptimizer, make_optimizer
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Hooks, Interrupted, Trainer, TrainingRun
from finetune.batches import Batching, describe_batch, training_dataset
from finetune.evaluation import Evaluation
from finetune.feature_tables import TaskData
from finetune.model import Distillation, FinetuningModel, FinetuningObjective, learning_rate_factors
from finetune.run.best_weights import WITHOUT_GAIN, BestWeights, Patience
from finetune.run.open_run import Run, RunData
from finetune.run.pretrained_model import initialize
from finetune.run.results import Best
from finetune.trial_folders import mark_finished, stored_states, write_origin, write_states


class TrainedTrial(NamedTuple):
    """A trained network.

    Attributes:
        evaluation: runs it.
        checkpoint: its newest one.
        step: training steps.
        seconds: duration of the training in this process.
        best: the best weights during training, if they were looked for.
        trainer: has trained it; None for a network that was trained before.
    """

    evaluation: Evaluation
    checkpoint: str
    step: int
    seconds: float
    best: Best | None
    trainer: Trainer | None = None


def build_model(run: Run, seed: int, *, need_heads: bool) -> FinetuningModel:
    """Builds the network with the start checkpoint's weights; the seed draws those it lacks.

    Raises:
        UserError: the checkpoint lacks parts of the encoder, or heads that are needed.
    """
    config = run.config
    keras.utils.set_random_seed(seed)
    with run.strategy.scope():
        model = FinetuningModel(
            run.tasks,
            run.network,
            recompute=config.recompute,
            dtype=devices.DTYPE_POLICIES[run.compute_type],
        )
        model.build()
    if run.start is not None:
        states = stored_states(run.start.folder)
        found = initialize(
            model,
            run.start,
            need_heads=need_heads,
            # A head of other labels must not be taken for this one.
            other_heads=[
                task.name
                for task in run.tasks
                if task.name in states
                and task.head_state(states[task.name]) != task.head_state(task.get_state())
            ],
            allow_partial=config.allow_partial_init,
        )
        variables = ReplicaVariables(run.strategy, model.named_variables())
        variables.assign({**variables.to_numpy(), **found})
    return model


def train_trial(
    run: Run, data: RunData, trial: int, earlier: TrainedTrial | None = None
) -> TrainedTrial:
    """Trains a trial, or what is left of it.

    Args:
        run: what is trained, and where.
        data: the training examples, and the splits to score every `eval_every_steps`.
        trial: its number, from 1.
        earlier: the last trial of this process. Its network is trained afresh from other weights,
            so that its programs serve again; its own weights are gone then.

    Raises:
        UserError: training met a loss that is not finite, or was stopped by a signal.
    """
    folder, start = run.folders.path(trial), time.monotonic()
    patience = Patience(run.config.patience)
    trainer, evaluation = _begin(run, data, trial, patience, earlier)
    newest = newest_checkpoint(trainer.run.store, run.workers)
    run.workers.together(lambda: _resume(trainer, newest, patience))

    def describe():
        _describe_model(run, folder)
        write_origin(folder, data.whole_origin)

    run.workers.on_chief(describe)
    best = None
    if run.config.eval_every_steps:
        describe_best, metric = functools.partial(_describe_model, run), run.config.best_metric
        best = BestWeights(folder, trainer, evaluation, data.dev, describe_best, metric, patience)
        if trainer.step == 0:
            best.check_metric()
    _train(run, trainer, data.train, best)
    if best:
        if trainer.step % run.config.eval_every_steps:
            best()  # the end counts as well
        run.workers.on_chief(best.finish)
    run.workers.on_chief(lambda: mark_finished(folder, trainer.step))
    return TrainedTrial(
        evaluation,
        trainer.run.store.latest() or folder,
        trainer.step,
        time.monotonic() - start,
        best.found if best else None,
        trainer,
    )


def _begin(
    run: Run, data: RunData, trial: int, patience: Patience, earlier: TrainedTrial | None
) -> tuple[Trainer, Evaluation]:
    """Builds a trial's network, or gives that of an earlier trial the weights it begins with."""
    seed = run.config.seed + trial - 1
    model = build_model(run, seed, need_heads=False)
    say(f"Model: {count_parameters(model):,} parameters; {describe_encoder(model.encoder)}")
    trainer = _make_trainer(run, model, data, seed, trial, patience, earlier and earlier.trainer)
    return trainer, earlier.evaluation if earlier else Evaluation(run.config, model, run.strategy)


def _describe_model(run: Run, folder: str) -> None:
    """Writes to a folder what the model is besides its weights, the tasks' labels included."""
    make_model_folder(folder)
    write_states(folder, run.tasks)
    write_model_folder(
        folder,
        hparams=run.hparams(),
        network=run.network,
        vocab_file=run.vocab_file,
        casing=run.casing,
    )


def _batching(run: Run) -> Batching:
    config = run.config
    return Batching(
        config.train_batch_size,
        config.max_seq_length,
        config.pad_to_max_length,
        sort=all(task.sort_by_length for task in run.tasks),
        few_lengths=devices.resolve_xla(config.xla),
    )


def _make_optimizer(run: Run, variables: Mapping[str, keras.Variable]) -> ReplicaOptimizer:
    config = run.config
    factors = learning_rate_factors(
        variables,
        num_hidden_layers=run.network.num_hidden_layers,
        decay=config.layerwise_lr_decay,
        scheme=config.layerwise_lr_decay_scheme,
    )
    return make_optimizer(config, run.strategy, variables, factors)


def _encoder_operations(model: FinetuningModel, length: int) -> float:
    """Operations in matrix products of one text; the heads' are too few to count."""
    return total(encoder_flops(model.encoder.config, length).values()).training_products


def _make_trainer(
    run: Run,
    model: FinetuningModel,
    data: RunData,
    seed: int,
    trial: int,
    patience: Patience,
    earlier: Trainer | None,
) -> Trainer:
    config, folder = run.config, run.folders.path(trial)
    objective, optimizer = _what_is_trained(run, model, earlier)
    lengths = [plan.length for plan in _batching(run).epoch(data.train.lengths, seed, 0)]
    # Whole batches; a data set smaller than one, or a fraction of an epoch, still trains.
    steps = max(1, int(len(lengths) * config.num_train_epochs))
    settings = LoopSettings.from_hparams(
        config,
        num_train_steps=steps,
        tokens_per_example=data.train.num_texts * sum(lengths) / len(lengths),
        flops_per_example=data.train.num_texts
        * sum(_encoder_operations(model, length) for length in lengths)
        / len(lengths),
        seed=seed,
    )
    if run.strategy.num_replicas_in_sync > 1 and any(t.compares_examples for t in run.tasks):
        # Replicas can't exchange anything inside of a program that XLA compiles.
        settings = dataclasses.replace(settings, jit_compile=False)
    training = TrainingRun(
        objective=objective,
        strategy=run.strategy,
        optimizer=optimizer,
        schedule=PolynomialDecay(
            config.learning_rate,
            steps,
            steps * config.warmup_proportion,
            end_learning_rate=config.end_learning_rate,
        ),
        settings=settings,
        store=CheckpointStore(folder, config.keep_checkpoint_max),
        log=RunLog(folder, writes=run.workers.is_chief),
        description=f"{','.join(config.task_names)} trial {trial}",
        workers=run.workers,
        identity=_identity(run, data),
        totals=patience.totals if patience.limit else None,
        shown=("mean_loss",),
    )
    return Trainer(training, earlier)


def _what_is_trained(
    run: Run, model: FinetuningModel, earlier: Trainer | None
) -> tuple[Objective, ReplicaOptimizer]:
    """The model and an optimizer, or an earlier trainer's with the weights of the model."""
    if earlier is None:
        taught = Distillation(run.config.distillation_weight, run.config.distillation_temperature)
        objective = FinetuningObjective(model, taught if run.config.teacher else None)
        return objective, _make_optimizer(run, objective.named_variables())
    objective, optimizer = earlier.run.objective, earlier.run.optimizer
    optimizer.variables.assign(ReplicaVariables(run.strategy, model.named_variables()).to_numpy())
    optimizer.reset_slots()
    return objective, optimizer


def _identity(run: Run, data: RunData) -> dict[str, Any]:
    """What the state of checkpoints says of the trial: what its folder says too, in other files."""
    hparams = run.hparams()
    names = run.config.names_kept_on_resume()
    config = stored_config({name: hparams[name] for name in names}, run.network)
    return {
        "config": config,
        "vocab_sha256": load_vocabulary(run.vocab_file).sha256,
        "casing": run.casing.to_dict(),
        "origin": dict(data.whole_origin),
    }


def _resume(trainer: Trainer, newest: str | None, patience: Patience) -> None:
    if newest is not None:
        checkpoint = trainer.run.store.load(newest)
        trainer.restore(checkpoint)
        patience.without_gain = checkpoint.state.get(WITHOUT_GAIN, 0)
        say(f"Resuming at step {trainer.step} from {newest}")


def _train(run: Run, trainer: Trainer, data: TaskData, best: BestWeights | None) -> None:
    steps, seed = trainer.run.settings.num_train_steps, trainer.run.settings.seed
    run.workers.on_chief(lambda: trainer.run.log.rewind(trainer.step))
    if trainer.step >= steps or (best and best.patience.is_exhausted):
        say(f"Already trained for {trainer.step} steps: nothing to do.")
        return
    say(
        f"Training from step {trainer.step} to {steps} on {data.num_rows:,} examples; "
        "the first step takes a while to compile."
    )
    trainer.train(
        lambda position, context: training_dataset(
            data,
            _batching(run),
            seed=seed,
            position=position,
            num_steps=steps - trainer.step,
            input_context=context,
        ),
        Hooks(
            evaluate=best,
            locate=lambda position: describe_batch(
                data, _batching(run), seed=seed, position=position
            ),
        ),
    )
    trainer.run.log.close()
    if best and best.patience.is_exhausted:
        count, metric = best.patience.limit, run.config.best_metric or "score"
        say(f"Training ends early: {count} evaluations in a row without a better {metric}.")
    if trainer.late_signal:
        raise Interrupted(trainer.late_signal, trainer.step, trainer.run.store.latest())
