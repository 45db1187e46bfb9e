"""Pre-training from a configuration: checks, networks, training, evaluation."""

from __future__ import annotations

import contextlib
import functools
import posixpath
import re
from typing import TYPE_CHECKING

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.data.input import Mixture, TrainingFiles
from electra_tf2.data.open_records import explain_data_loss, is_data_loss
from electra_tf2.data.order import Reading
from electra_tf2.data.position import describe_places
from electra_tf2.errors import UserError
from electra_tf2.files import exists
from electra_tf2.hparams.ramps import shown
from electra_tf2.loading.folder import (
    CONFIG,
    check_results_paths,
    make_model_folder,
    write_model_folder,
    write_results,
)
from electra_tf2.outputs import folder_lock
from electra_tf2.patterns import weighted
from electra_tf2.pretraining.guards import discriminator_guard
from electra_tf2.pretraining.phases import examples_at, phases_of
from electra_tf2.pretraining.run.data_report import report_data
from electra_tf2.pretraining.run.init_generator import load_generator
from electra_tf2.pretraining.run.open_run import Run, are_results_optional, open_run
from electra_tf2.pretraining.run.phase_trainers import PhaseTrainers
from electra_tf2.pretraining.run.restore import (
    branch,
    check_start,
    copy_positions,
    initialize,
    resume,
)
from electra_tf2.training.devices import open_devices
from electra_tf2.training.reports import WARNINGS, kept_warnings
from electra_tf2.training.trainer import Hooks, Interrupted, Trainer

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


def pretrain(config: PretrainingConfig) -> dict[str, float] | None:
    """Trains and evaluates as the configuration says; the same call resumes an interrupted run.

    Returns:
        The evaluation's figures, or None if `do_eval` is off.

    Raises:
        UserError: data, model folder or hparams do not fit; or training met a loss that is not
            finite, or was stopped by a signal.
    """
    with kept_warnings(posixpath.join(config.model_dir, WARNINGS)) as kept:
        for warning in config.warnings:
            say(f"Warning: {warning}")
        devices = open_devices(config)
        with devices.workers.watched():
            run = open_run(config, devices)
            devices.workers.on_chief(kept.start)
            trainers = PhaseTrainers(run)
            if config.do_train:
                say(*trainers.compute.describe())
            devices.workers.together(lambda: _take_weights(run, trainers.trainer))
            if config.do_train:
                train(run, trainers)
            return evaluate(run, trainers) if config.do_eval else None


def _take_weights(run: Run, trainer: Trainer) -> None:
    """Resumes the model folder's model, or starts from what `branch_from` or the like names."""
    config = run.config
    examples = functools.partial(examples_at, phases_of(config))
    if resume(trainer, config.model_dir, examples):
        return
    if not config.do_train:
        raise UserError(
            "There is no trained model to evaluate.",
            where=config.model_dir,
            received="no checkpoint",
            remedy="Train first (do_train true), or check --data-dir and --model-name.",
        )
    if config.branch_from:
        branch(trainer, config.branch_from)
    elif config.init_checkpoint or config.init_generator:
        check = functools.partial(check_start, config=config, casing=run.data.casing)
        names = trainer.run.optimizer.variables.names
        generator = load_generator(config, run.data.casing, names)
        initialize(trainer, config.init_checkpoint, check, generator)


def train(run: Run, trainers: PhaseTrainers) -> None:
    """Trains the phases that are left, as the only run that writes to the model's folder."""
    config, trainer = run.config, trainers.trainer
    if trainer.step >= config.num_train_steps:
        say(
            f"Already trained for {trainer.step} steps (num_train_steps "
            f"{config.num_train_steps}): nothing to do."
        )
        return
    with contextlib.ExitStack() as until_trained:
        trainer.run.workers.on_chief(lambda: _open_folder(run, trainer, until_trained))
        stored = posixpath.join(config.model_dir, CONFIG)
        seen = "there" if exists(stored) else "none"
        trainer.run.workers.check_same_view(stored, seen)
        # Not left to the collector, which may be late: open files keep a disk busy.
        until_trained.callback(lambda: trainers.trainer.run.log.close())
        _run_phase(run, trainers)
        while trainers.next():
            _run_phase(run, trainers)


def _open_folder(run: Run, trainer: Trainer, until_trained: contextlib.ExitStack) -> None:
    """Takes the model's folder for this run, and writes down what it trains."""
    config, data = run.config, run.data
    make_model_folder(config.model_dir)
    until_trained.enter_context(folder_lock(config.model_dir))
    trainer.run.log.rewind(trainer.step)  # may refuse a broken log: before anything is written
    write_model_folder(
        config.model_dir,
        hparams=data.hparams,
        network=run.network,
        vocab_file=config.vocab_file,
        casing=data.casing,
    )


def _run_phase(run: Run, trainers: PhaseTrainers) -> None:
    """Trains to the end of a phase; a signal in its last step counts if another phase follows."""
    phase, trainer, files = trainers.phase, trainers.trainer, trainers.records.train
    assert files is not None  # do_train
    config = phase.config
    reading = Reading(config.seed, config.max_seq_length, config.shuffle_buffer_size)
    first = phase.first_example
    if phase.title:
        batch = f"{shown(config.train_batch_size)} x {config.max_seq_length} tokens a step"
        say(f"{phase.title.capitalize()}: {batch}")
    if config.copy_positions and trainer.step == phase.first_step:
        # The masked LM may have been trained on longer examples than the discriminator.
        of_generator = not run.data.generator_began
        copy_positions(trainer, config.copy_positions, of_generator=of_generator)
    report = report_data(files, run.data.vocabulary, phase)
    trainers.epochs = report.epochs
    say(
        f"Training from step {trainer.step} to {phase.last_step} on {report.trained_on}; "
        "the first step takes a while to compile."
    )
    say(*report.lines, *phase.describe_ramps())
    hooks = Hooks(
        evaluate=trainers.evaluate,
        explain=functools.partial(_explain, config, files),
        locate=lambda position: describe_places(
            files.places(reading, position - first, trainer.batch_size)
        ),
        watch=discriminator_guard(phase),
        close=files.close,
    )
    with contextlib.closing(files):
        trainer.train(
            lambda position, context: files.training_dataset(
                reading, position - first, trainer.batch_size, context
            ),
            hooks,
        )
    say(f"Trained to step {trainer.step}: {trainer.run.store.latest()}")
    if report.epochs:
        say(f"Epochs: {report.epochs.describe(trainer.step)}")
    if trainer.late_signal and phase.number < phase.count:
        raise Interrupted(trainer.late_signal, trainer.step, trainer.run.store.latest())


def _explain(
    config: PretrainingConfig, files: TrainingFiles | Mixture, error: Exception
) -> UserError | None:
    """Explains an error of the input that the checks at the start could not see.

    Raises what ended the thread that cuts documents, if it is another error.
    """
    cause = files.failure
    error = cause or error
    if is_data_loss(files, error):
        return explain_data_loss(files, error)
    unreadable = isinstance(error, UnicodeDecodeError)
    not_parsed = isinstance(error, tf.errors.InvalidArgumentError) and "ParseExample" in str(error)
    if unreadable or not_parsed:
        reason = re.search(r"Key: .*", "" if unreadable else str(error))
        return UserError(
            f"A record is not an example of {config.max_seq_length} tokens.",
            where=", ".join(weighted(config.pretrain_tfrecords)),
            received=reason[0] if reason else "bytes that can't be parsed",
            remedy="Build the data again; training then continues from its last checkpoint.",
        )
    if cause is not None:
        raise cause
    return None


def evaluate(run: Run, trainers: PhaseTrainers) -> dict[str, float]:
    """Scores the present weights on the held-out records; writes and returns the figures."""
    trainer, own = trainers.trainer, trainers.phase.config
    where = own.eval_tfrecords or own.pretrain_tfrecords
    trained_on = trainers.records.evaluated_on == "text it was trained on"
    say(f"Evaluating step {trainer.step} on {'the training data, ' * trained_on}{where}")
    spent = trainers.compute.figures(trainer.step)
    figures = {**trainers.evaluate(), "global_step": trainer.step, **spent}
    trainer.run.log.close()
    results = {**figures, **trainer.speed()}
    for name, value in sorted(results.items()):
        say(f"  {name} = {value}")
    trainer.run.workers.on_chief(lambda: _write_results(run.config, results))
    return figures


def _write_results(config: PretrainingConfig, figures: dict[str, float]) -> None:
    if are_results_optional(config):
        try:
            check_results_paths(config.results_txt, config.results_pkl)
        except UserError as error:
            say(f"Warning: the results are not written: {error.received}")
            return
    paths = write_results(figures, results_txt=config.results_txt, results_pkl=config.results_pkl)
    say("Results written to " + " and ".join(paths))
