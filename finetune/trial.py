"""One trial: a network is trained from the start checkpoint, with a seed of its own."""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import replace_file
from electra_tf2.formats.official import is_tf1_checkpoint
from electra_tf2.loading.folder import (
    check_no_other_model,
    check_same_model,
    make_model_folder,
    read_config,
    write_model_folder,
)
from electra_tf2.modeling.electra import count_parameters, describe_encoder
from electra_tf2.training import devices
from electra_tf2.training.checkpoints import CheckpointStore, newest_checkpoint
from electra_tf2.training.devices import ReplicaVariables
from electra_tf2.training.optimizers import ReplicaOptimizer, make_optimizer
from electra_tf2.training.reports import RunLog, SilentLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Interrupted, LoopSettings, Trainer
from finetune.batches import COMPILED_STEP, Batching, describe_batch, training_dataset
from finetune.features import TaskData
from finetune.layerwise_decay import learning_rate_factors
from finetune.model import FinetuningModel, FinetuningObjective, initialize
from finetune.scoring import DevSplit, Evaluation, score_all
from finetune.setup import TASKS, Setup, mark_finished, stored_states, trial_folder
from finetune.trial_folders import Origin, check_same_origin, read_origin, write_origin

# Keeps the weights that scored best during training, in <model_dir>_<trial>/best.


class BestWeights:
    """Scores the dev splits when called, and saves the weights if none before scored higher.

    The score is the main metric, or the mean of the tasks' main metrics.

    Args:
        folder: the trial's folder.
        trainer: has the weights.
        evaluation: runs the network.
        dev: what is scored.
        describe: writes the model's files (config, vocabulary, …) to a folder.
    """

    def __init__(
        self,
        folder: str,
        trainer: Trainer,
        evaluation: Evaluation,
        dev: list[DevSplit],
        describe: Callable[[str], None],
    ):
        self._folder = posixpath.join(folder, "best")
        self._trainer = trainer
        self._evaluation = evaluation
        self._dev = dev
        self._describe = describe
        self._store = CheckpointStore(self._folder, keep_max=1)
        trainer.workers.on_chief(self._remove_later_weights)
        newest = self._store.latest()
        self.found: dict[str, Any] | None = None
        if newest is not None:
            self.found = {**self._store.load(newest).state["best"], "checkpoint": newest}

    def _remove_later_weights(self) -> None:
        """Removes weights of a later step: the run goes on from before, maybe to other weights."""
        newest = self._store.latest()
        if newest and self._store.load(newest).state["best"]["step"] > self._trainer.step:
            tf.io.gfile.rmtree(self._folder)

    def __call__(self) -> None:
        step = self._trainer.step
        scores = score_all(self._evaluation, self._dev)
        self._trainer.log.write(step, scores.flat(), split="dev")
        score = scores.main_score()
        say(f"Step {step}, dev: " + ", ".join(f"{n} {v:.2f}" for n, v in scores.flat().items()))
        if self.found is not None and not score > self.found["score"]:
            return
        self.found = {"step": step, "score": score, "scores": scores.metrics}
        self._trainer.workers.on_chief(self._save)
        self.found = {**self.found, "checkpoint": self._store.latest()}

    def _save(self) -> None:
        self._describe(self._folder)
        weights = self._trainer.optimizer.variables.to_numpy()
        self._store.save(self._trainer.step, weights, {}, {"best": self.found})


class Trained(NamedTuple):
    """A trained network.

    Attributes:
        evaluation: runs it.
        checkpoint: its newest one.
        step: training steps.
        seconds: that training took in this process.
        best: see `TrialResult.best`.
    """

    evaluation: Evaluation
    checkpoint: str
    step: int
    seconds: float
    best: dict[str, Any] | None


def build_model(setup: Setup, seed: int, *, need_heads: bool) -> FinetuningModel:
    """Builds the network with the start checkpoint's weights; what it lacks is drawn by the seed.

    Raises:
        UserError: the checkpoint lacks parts of the encoder, or heads that are needed.
    """
    config = setup.config
    keras.utils.set_random_seed(seed)
    with setup.strategy.scope():
        model = FinetuningModel(
            setup.tasks,
            setup.network,
            recompute=config.recompute,
            dtype=devices.DTYPE_POLICIES[setup.compute_type],
        )
        model.build()
    if setup.start is not None:
        states = stored_states(setup.start.folder)
        found = initialize(
            model,
            setup.start,
            need_heads=need_heads,
            # A head of other labels must not be taken for this one.
            other_heads=[
                task.name
                for task in setup.tasks
                if task.name in states and states[task.name] != task.get_state()
            ],
            allow_partial=config.allow_partial_init,
            say=say,
        )
        variables = ReplicaVariables(setup.strategy, model.named_variables())
        variables.assign({**variables.to_numpy(), **found})
    return model


def check_trial_folder(setup: Setup, origin: Origin, trial: int) -> None:
    """Refuses a folder that holds another model, before anything is trained.

    Args:
        setup: of the run.
        origin: what the trial is trained from.
        trial: its number.

    Raises:
        UserError: it holds files of another program, or a model of other hparams or other data.
    """
    folder = trial_folder(setup.config, trial)
    stored = read_config(folder)
    if is_tf1_checkpoint(folder):
        raise UserError(
            "The folder of the trial holds a model of the official program.",
            where=folder,
            received="files of a TensorFlow 1 checkpoint",
            remedy="Set model_dir to another folder, or overwrite to true to replace the model.",
        )
    if stored is None and CheckpointStore(folder).latest() is not None:
        raise UserError(
            "The folder of the trial holds a checkpoint of an unknown configuration.",
            where=folder,
            received="no config.json beside it",
            remedy="Remove the folder, or set overwrite to true to replace the model.",
        )
    if stored is None:
        check_no_other_model(folder)
        return
    check_same_model(
        folder,
        stored,
        setup.hparams(),
        setup.network.to_dict(),
        type(setup.config).changed_on_resume,
    )
    check_same_origin(read_origin(folder), origin, folder)


def train_trial(
    setup: Setup, origin: Origin, data: TaskData, dev: Sequence[DevSplit], trial: int
) -> Trained:
    """Trains a trial, or what is left of it.

    Args:
        setup: of the run.
        origin: what is trained from.
        data: the training examples.
        dev: scored every `eval_every_steps`.
        trial: its number, from 1.

    Raises:
        UserError: training met a loss that is not finite, or was stopped by a signal.
    """
    config, folder = setup.config, trial_folder(setup.config, trial)
    seed = config.seed + trial - 1
    start = time.monotonic()
    model = build_model(setup, seed, need_heads=False)
    say(f"Model: {count_parameters(model):,} parameters; {describe_encoder(model.encoder)}")
    trainer = _make_trainer(setup, model, data, seed, folder, trial)
    evaluation = Evaluation(config, model, setup.strategy)
    newest = newest_checkpoint(trainer.store, setup.workers)
    setup.workers.together(lambda: _resume(trainer, newest))

    def describe():
        describe_model(setup, folder)
        write_origin(folder, origin)

    setup.workers.on_chief(describe)
    best = None
    if config.eval_every_steps:
        best = BestWeights(
            folder, trainer, evaluation, list(dev), lambda path: describe_model(setup, path)
        )
    _run(setup, trainer, data, seed, best)
    setup.workers.on_chief(lambda: mark_finished(folder, trainer.step))
    return Trained(
        evaluation,
        trainer.store.latest(),
        trainer.step,
        time.monotonic() - start,
        best.found if best else None,
    )


def describe_model(setup: Setup, folder: str) -> None:
    """Writes to a folder what the model is besides its weights, the tasks' labels included."""
    make_model_folder(folder)
    states = {task.name: task.get_state() for task in setup.tasks}
    replace_file(posixpath.join(folder, TASKS), (json.dumps(states, indent=2) + "\n").encode())
    write_model_folder(
        folder,
        hparams=setup.hparams(),
        network=setup.network.to_dict(),
        vocab_file=setup.vocab_file,
        **setup.tokenizer,
    )


def _batching(setup: Setup) -> Batching:
    config = setup.config
    return Batching(
        config.train_batch_size,
        config.max_seq_length,
        config.pad_to_max_length,
        sort=all(task.sort_by_length for task in setup.tasks),
        length_step=COMPILED_STEP if devices.resolve_xla(config.xla) else 1,
    )


def _make_optimizer(setup: Setup, variables: Mapping[str, keras.Variable]) -> ReplicaOptimizer:
    config = setup.config
    factors = learning_rate_factors(
        variables,
        num_hidden_layers=setup.network.num_hidden_layers,
        decay=config.layerwise_lr_decay,
        scheme=config.layerwise_lr_decay_scheme,
    )
    return make_optimizer(config, setup.strategy, variables, factors)


def _make_trainer(
    setup: Setup, model: FinetuningModel, data: TaskData, seed: int, folder: str, trial: int
) -> Trainer:
    config = setup.config
    objective = FinetuningObjective(model)
    plans = _batching(setup).epoch(data.lengths, seed, 0)
    # Whole batches; a data set smaller than one, or a fraction of an epoch, still trains.
    steps = max(1, int(len(plans) * config.num_train_epochs))
    settings = LoopSettings.from_hparams(
        config,
        num_train_steps=steps,
        tokens_per_example=sum(plan.length for plan in plans) / len(plans),
        seed=seed,
        jit_compile=devices.resolve_xla(config.xla),
    )
    return Trainer(
        objective,
        setup.strategy,
        _make_optimizer(setup, objective.named_variables()),
        PolynomialDecay(
            config.learning_rate,
            steps,
            steps * config.warmup_proportion,
            end_learning_rate=config.end_learning_rate,
        ),
        settings,
        CheckpointStore(folder, config.keep_checkpoint_max),
        RunLog(folder) if setup.workers.is_chief else SilentLog(),
        f"{','.join(config.task_names)} trial {trial}",
        setup.workers,
    )


def _resume(trainer: Trainer, newest: str | None) -> None:
    if newest is not None:
        trainer.restore(trainer.store.load(newest))
        say(f"Resuming at step {trainer.step} from {newest}")


def _run(
    setup: Setup, trainer: Trainer, data: TaskData, seed: int, best: BestWeights | None
) -> None:
    steps = trainer.settings.num_train_steps
    setup.workers.on_chief(lambda: trainer.log.rewind(trainer.step))
    if trainer.step >= steps:
        say(f"Already trained for {trainer.step} steps: nothing to do.")
        return
    say(
        f"Training from step {trainer.step} to {steps} on {data.num_rows:,} examples; "
        "the first step takes a while to compile."
    )
    trainer.train(
        lambda position, context: training_dataset(
            data,
            _batching(setup),
            seed=seed,
            position=position,
            num_steps=steps - trainer.step,
            input_context=context,
        ),
        evaluate=best or (lambda: None),
        locate=lambda position: describe_batch(
            data, _batching(setup), seed=seed, position=position
        ),
    )
    trainer.log.close()
    if trainer.late_signal:
        raise Interrupted(trainer.late_signal, trainer.step, trainer.store.latest())
