"""Pre-training from a configuration: checks, networks, training, evaluation."""

from __future__ import annotations

import contextlib
import functools
import math
import posixpath
import re
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.data.background_producer import stop_producers, take_failure
from electra_tf2.data.dataset import RecordFiles, explain_data_loss, is_data_loss
from electra_tf2.data.input import READERS
from electra_tf2.data.order import describe_places
from electra_tf2.errors import UserError
from electra_tf2.files import FolderLock
from electra_tf2.loading.folder import CONFIG, make_model_folder, write_model_folder, write_results
from electra_tf2.modeling.electra import describe_parameters
from electra_tf2.pretraining.guards import discriminator_guard
from electra_tf2.pretraining.objective import PretrainingObjective
from electra_tf2.pretraining.open_run import (
    Data,
    PhaseData,
    Pretraining,
    build_objective,
    build_pretraining,
    check_start,
    open_data,
)
from electra_tf2.pretraining.phases import Phase, PhaseSchedule, RunCompute, examples_at, phases_of
from electra_tf2.pretraining.restore import initialize, resume
from electra_tf2.training.checkpoints import CheckpointStore, newest_checkpoint
from electra_tf2.training.devices import (
    Devices,
    check_batch_size,
    describe,
    open_devices,
    resolve_precision,
    resolve_xla,
    say_if_emulated,
)
from electra_tf2.training.loop import Evaluator
from electra_tf2.training.optimizers import make_optimizer
from electra_tf2.training.reports import RunLog, SilentLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Interrupted, LoopSettings, Trainer

# Figures of a pre-trained model on held-out records.


# Keeps the masks and samples of evaluations apart from those of training.
_SEED_OFFSET = 1 << 32


class Evaluation:
    """Scores a trainer's present weights and reports the figures to its log.

    Calling it again at the same step gives the same figures without computing or reporting anew.

    Args:
        config: a `PretrainingConfig`; at most its `num_eval_steps` batches are scored.
        trainer: has the weights.
        files: the records.
    """

    def __init__(self, config: Any, trainer: Trainer, files: RecordFiles):
        self._config = config
        self._trainer = trainer
        self._files = files
        # One for all evaluations of a run, so that its graph is built once.
        self._evaluator = Evaluator(
            trainer.objective, trainer.strategy, seed=config.seed + _SEED_OFFSET
        )
        self._step: int | None = None
        self._figures: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        """Returns the figures by name, see `Evaluator.evaluate`.

        Raises:
            UserError: the records are no longer what they were when they were opened.
        """
        if self._step != self._trainer.step:
            try:
                figures = self._compute()
            except tf.errors.OpError as error:
                if not is_data_loss(self._files, error):
                    raise
                raise explain_data_loss(self._files, error) from error
            self._step, self._figures = self._trainer.step, figures
            self._trainer.log.write(self._step, self._figures, split="eval")
        return dict(self._figures)

    def _compute(self) -> dict[str, float]:
        config, files = self._config, self._files
        reader = READERS[config.segmentation]
        wanted = config.num_eval_steps * config.eval_batch_size
        n_examples = reader.num_examples(files, config.max_seq_length, wanted)
        n_batches = math.ceil(n_examples / config.eval_batch_size)
        return self._evaluator.evaluate(
            lambda context: reader.evaluation_dataset(
                files,
                max_seq_length=config.max_seq_length,
                global_batch_size=config.eval_batch_size,
                max_batches=n_batches,
                input_context=context,
            ),
            n_batches,
        )


# The trainers of a run's phases, over the same networks, optimizer, checkpoints and logs.


class PhaseTrainers:
    """Holds the trainer of one phase at a time.

    Phases differ in the shape of a batch, so each has a trainer, and with it graphs, of its own.

    Args:
        config: a `PretrainingConfig`.
        devices: where it runs.
        pretraining: networks, and the objective of the first phase.
        data: gives the phases and their records.

    Attributes:
        phase: the one to train.
        records: its data.
        trainer: its trainer.
        compute: counts the operations of the run's steps.
        evaluate: scores the present weights on its records.
    """

    def __init__(self, config: Any, devices: Devices, pretraining: Pretraining, data: Data):
        self._devices, self._pair, self._data = devices, pretraining.pair, data
        self._optimizer = make_optimizer(
            config, devices.strategy, pretraining.objective.named_variables()
        )
        self._store = CheckpointStore(config.model_dir, config.keep_checkpoint_max)
        self._log = RunLog(config.model_dir) if devices.workers.is_chief else SilentLog()
        self._index = 0
        self.compute = RunCompute(config, pretraining.pair.encoder.config)
        self.trainer = self._make_trainer(pretraining.objective)
        self.evaluate = Evaluation(self.phase.config, self.trainer, self.records.evaluation)

    @property
    def phase(self) -> Phase:
        return self._data.phases[self._index]

    @property
    def records(self) -> PhaseData:
        return self._data.records[self._index]

    def next(self) -> bool:
        """Goes on to the next phase, with the step and counts of this one's trainer.

        Returns:
            Whether there is one.
        """
        if self._index + 1 == len(self._data.phases):
            return False
        self._index += 1
        objective = build_objective(self.phase.config, self._pair, self._data.vocabulary)
        before, self.trainer = self.trainer, self._make_trainer(objective)
        self.trainer.step = before.step
        self.trainer.examples_seen = before.examples_seen
        self.trainer.skipped = before.skipped
        self.evaluate = Evaluation(self.phase.config, self.trainer, self.records.evaluation)
        return True

    def _make_trainer(self, objective: PretrainingObjective) -> Trainer:
        phase = self.phase
        config = phase.config
        schedule = PolynomialDecay(
            config.learning_rate,
            config.num_train_steps,
            config.num_warmup_steps,
            config.lr_decay_power,
            config.end_learning_rate,
        )
        settings = LoopSettings.from_hparams(
            config,
            num_train_steps=phase.last_step,
            tokens_per_example=config.max_seq_length,
            seed=config.seed,
            jit_compile=resolve_xla(config.xla),
        )
        return Trainer(
            objective,
            self._devices.strategy,
            self._optimizer,
            PhaseSchedule(schedule, phase.first_step) if phase.first_step else schedule,
            settings,
            self._store,
            self._log,
            ", ".join(filter(None, [f"pre-training {config.model_name}", phase.title])),
            self._devices.workers,
            self.compute.figures,
        )


def pretrain(config: Any) -> dict[str, float] | None:
    """Trains and evaluates as the configuration says; the same call goes on with a halted run.

    Args:
        config: a `PretrainingConfig`.

    Returns:
        The evaluation's figures, or None if `do_eval` is off.

    Raises:
        UserError: data, model folder or hparams do not fit; or training met a loss that is not
            finite, or was stopped by a signal.
    """
    for warning in config.warnings:
        say(f"Warning: {warning}")
    devices = open_devices(config, say)
    with devices.workers.watched():
        return _pretrain(config, devices)


def _pretrain(config: Any, devices: Devices) -> dict[str, float] | None:
    strategy, workers = devices
    compute_type = resolve_precision(config.precision)
    network = config.network()
    newest_checkpoint(CheckpointStore(config.model_dir), workers)  # the same for all, or an error
    data = workers.together(lambda: open_data(config, network, compute_type))
    workers.check_same_view("the data", data.fingerprint())
    for phase in data.phases:
        with phase.named_in_errors():
            _check_batches(phase.config, strategy.num_replicas_in_sync)
    first = data.phases[0].config
    say(describe(strategy, first.train_batch_size, workers))
    say_if_emulated(compute_type, strategy, say)

    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        pretraining = build_pretraining(first, network, data.vocabulary, precision=compute_type)
    trainers = PhaseTrainers(config, devices, pretraining, data)
    say(f"Model: {describe_parameters(pretraining.pair)}; computing in {compute_type}")
    if config.do_train:
        say("\n".join(trainers.compute.describe()))
    workers.together(lambda: _take_weights(config, trainers.trainer, data))
    if config.do_train:
        _train(config, trainers, data)
    return _final_evaluation(config, trainers) if config.do_eval else None


def _take_weights(config: Any, trainer: Trainer, data: Data) -> None:
    """Resumes the model folder's model, or starts from `init_checkpoint` if that is given."""
    examples = functools.partial(examples_at, phases_of(config))
    if resume(trainer, config.model_dir, say, examples):
        return
    if not config.do_train:
        raise UserError(
            "There is no trained model to evaluate.",
            where=config.model_dir,
            received="no checkpoint",
            remedy="Train first (do_train true), or check --data-dir and --model-name.",
        )
    if config.init_checkpoint:
        check = functools.partial(check_start, config=config, strip_accents=data.strip_accents)
        initialize(trainer, config.init_checkpoint, say, check)


def _check_batches(config: Any, replicas: int) -> None:
    if config.do_train:
        check_batch_size(
            "train_batch_size",
            config.train_batch_size,
            replicas,
            config.gradient_accumulation_steps,
        )
    if config.do_eval or config.eval_every_steps:
        check_batch_size("eval_batch_size", config.eval_batch_size, replicas)


def _train(config: Any, trainers: PhaseTrainers, data: Data) -> None:
    """Trains what is left to train, as the only run that writes to the model's folder."""
    trainer = trainers.trainer
    if trainer.step >= config.num_train_steps:
        say(
            f"Already trained for {trainer.step} steps (num_train_steps "
            f"{config.num_train_steps}): nothing to do."
        )
        return
    with contextlib.ExitStack() as until_trained:
        until_trained.callback(stop_producers)
        trainer.workers.on_chief(lambda: _open_folder(config, trainer, data, until_trained))
        stored = posixpath.join(config.model_dir, CONFIG)
        trainer.workers.check_same_view(stored, "there" if tf.io.gfile.exists(stored) else "none")
        _run_phase(trainers)
        while trainers.next():
            _run_phase(trainers)


def _open_folder(
    config: Any, trainer: Trainer, data: Data, until_trained: contextlib.ExitStack
) -> None:
    """Takes the model's folder for this run, and writes down what it trains."""
    make_model_folder(config.model_dir)
    until_trained.enter_context(FolderLock(config.model_dir))
    trainer.log.rewind(trainer.step)  # may find that it is no log: before anything is written
    write_model_folder(
        config.model_dir,
        hparams=data.hparams,
        network=config.network().to_dict(),
        vocab_file=config.vocab_file,
        do_lower_case=config.do_lower_case,
        strip_accents=data.strip_accents,
    )


def _run_phase(trainers: PhaseTrainers) -> None:
    """Trains to the end of a phase.

    Raises:
        Interrupted: a signal asked to stop, be it in the phase's last step if another follows.
    """
    phase, trainer, files = trainers.phase, trainers.trainer, trainers.records.train
    config = phase.config
    reader = READERS[config.segmentation]
    order = {"seed": config.seed, "shuffle_buffer_size": config.shuffle_buffer_size}
    if phase.title:
        batch = f"{config.train_batch_size} x {config.max_seq_length} tokens a step"
        say(f"{phase.title.capitalize()}: {batch}")
    say(
        f"Training from step {trainer.step} to {phase.last_step} on {files.described}; "
        "the first step takes a while to compile."
    )
    trainer.train(
        lambda position, context: reader.training_dataset(
            files,
            max_seq_length=config.max_seq_length,
            global_batch_size=config.train_batch_size,
            position=position - phase.first_example,
            input_context=context,
            **order,
        ),
        evaluate=trainers.evaluate,
        explain=functools.partial(_explain, config, files),
        locate=lambda position: describe_places(
            reader.places(
                files,
                max_seq_length=config.max_seq_length,
                position=position - phase.first_example,
                count=config.train_batch_size,
                **order,
            )
        ),
        watch=discriminator_guard(phase),
    )
    stop_producers()
    say(f"Trained to step {trainer.step}: {trainer.store.latest()}")
    if trainer.late_signal and phase.number < phase.count:
        raise Interrupted(trainer.late_signal, trainer.step, trainer.store.latest())


def _explain(config: Any, files: RecordFiles, error: Exception) -> UserError | None:
    """Explains an error of the input that the checks at the start could not see.

    Raises:
        Exception: what ended the thread that cuts documents, if it is no such error.
    """
    cause = take_failure()
    error = cause or error
    if is_data_loss(files, error):
        return explain_data_loss(files, error)
    unreadable = isinstance(error, UnicodeDecodeError)
    not_parsed = isinstance(error, tf.errors.InvalidArgumentError) and "ParseExample" in str(error)
    if unreadable or not_parsed:
        reason = re.search(r"Key: .*", "" if unreadable else error.message)
        return UserError(
            f"A record is not an example of {config.max_seq_length} tokens.",
            where=config.pretrain_tfrecords,
            received=reason[0] if reason else "bytes that can't be parsed",
            remedy="Build the data again; training then continues from its last checkpoint.",
        )
    if cause is not None:
        raise cause
    return None


def _final_evaluation(config: Any, trainers: PhaseTrainers) -> dict[str, float]:
    trainer, own = trainers.trainer, trainers.phase.config
    where = own.eval_tfrecords or f"the training data, {own.pretrain_tfrecords}"
    say(f"Evaluating step {trainer.step} on {where}")
    spent = trainers.compute.figures(trainer.step)
    figures = {**trainers.evaluate(), "global_step": trainer.step, **spent}
    trainer.log.close()
    for name, value in sorted(figures.items()):
        say(f"  {name} = {value}")
    trainer.workers.on_chief(lambda: _write_results(config, figures))
    return figures


def _write_results(config: Any, figures: dict[str, float]) -> None:
    paths = write_results(figures, results_txt=config.results_txt, results_pkl=config.results_pkl)
    say("Results written to " + " and ".join(paths))
