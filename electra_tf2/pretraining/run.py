"""Pre-training from a configuration: checks, networks, training, evaluation."""

from __future__ import annotations

import functools
import math
import re
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.data.input import training_dataset
from electra_tf2.data.records import RecordFiles, explain_data_loss, open_records
from electra_tf2.errors import UserError
from electra_tf2.model_folder import (
    check_no_other_model,
    check_same_model,
    check_same_tokens,
    make_model_folder,
    read_config,
    write_model_folder,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.build import Pretraining, build_pretraining
from electra_tf2.pretraining.evaluation import Evaluation
from electra_tf2.pretraining.restore import initialize, is_resumable, resume
from electra_tf2.results_files import check_results_paths, write_results
from electra_tf2.text.vocabulary import Vocabulary, check_vocabulary_size, load_vocabulary
from electra_tf2.training import precision, strategies
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.folder_lock import FolderLock
from electra_tf2.training.optimizer import AdamW, AdamWSettings
from electra_tf2.training.run_log import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.settings import LoopSettings
from electra_tf2.training.trainer import Trainer


class Data(NamedTuple):
    """The checked inputs of a run.

    Attributes:
        vocabulary: of the records.
        train: the training records; None if the run only evaluates and has held-out records.
        evaluation: what to evaluate on.
        strip_accents: as the records' metadata says, or the hparam.
        hparams: all hparams, with what the data and the devices decided filled in.
    """

    vocabulary: Vocabulary
    train: RecordFiles | None
    evaluation: RecordFiles | None
    strip_accents: bool
    hparams: dict[str, Any]


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
    strategies.check_gpu(config.require_gpu)
    strategies.allow_memory_growth()
    if config.do_eval:
        check_results_paths(config.results_txt, config.results_pkl)
    compute_type = precision.resolve_precision(config.precision)
    network = config.network()
    data = _open_data(config, network, compute_type)
    strategy = strategies.make_strategy(config.distribution)
    _check_batches(config, strategy.num_replicas_in_sync)
    say(strategies.describe(strategy, config.train_batch_size))

    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        pretraining = build_pretraining(config, network, data.vocabulary, precision=compute_type)
    trainer = _make_trainer(config, strategy, pretraining)
    say(_describe_model(pretraining, compute_type))
    _take_weights(config, trainer)
    evaluate = Evaluation(config, trainer, data.evaluation)
    if config.do_train:
        _train(config, trainer, data, evaluate)
    return _final_evaluation(config, trainer, evaluate) if config.do_eval else None


def _open_data(config: Any, network: TransformerConfig, compute_type: str) -> Data:
    """Checks the data, and the model's folder if it holds a model, against the configuration."""
    stored = read_config(config.model_dir)
    resumable = is_resumable(config.model_dir)
    if not resumable and stored is None:
        check_no_other_model(config.model_dir)
    if resumable and stored is not None:
        check_same_model(
            config.model_dir,
            stored,
            {**config.to_dict(), "precision": compute_type},
            network.to_dict(),
            type(config).changed_on_resume,
        )
    data = _read_data(config, compute_type)
    if resumable:
        check_same_tokens(
            config.model_dir,
            data.vocabulary,
            do_lower_case=config.do_lower_case,
            strip_accents=data.strip_accents,
        )
    return data


def _take_weights(config: Any, trainer: Trainer) -> None:
    """Resumes the model folder's model, or starts from `init_checkpoint` if that is given."""
    if resume(trainer, config.model_dir, say):
        return
    if not config.do_train:
        raise UserError(
            "There is no trained model to evaluate.",
            where=config.model_dir,
            received="no checkpoint",
            remedy="Train first (do_train true), or check --data-dir and --model-name.",
        )
    if config.init_checkpoint:
        initialize(trainer, config.init_checkpoint, say)


def _check_batches(config: Any, replicas: int) -> None:
    if config.do_train:
        strategies.check_batch_size(
            "train_batch_size",
            config.train_batch_size,
            replicas,
            config.gradient_accumulation_steps,
        )
    if config.do_eval or config.eval_every_steps:
        strategies.check_batch_size("eval_batch_size", config.eval_batch_size, replicas)


def _read_data(config: Any, compute_type: str) -> Data:
    vocabulary = load_vocabulary(config.vocab_file)
    check_vocabulary_size(vocabulary, config.vocab_size, config.vocab_file)
    held_out = config.eval_tfrecords
    patterns = [] if not config.do_train and held_out else [config.pretrain_tfrecords]
    if (config.do_eval or config.eval_every_steps) and held_out:
        patterns.append(held_out)
    strip_accents = config.strip_accents if "strip_accents" in config.given else None
    opened = []
    for pattern in patterns:
        files = open_records(
            pattern,
            max_seq_length=config.max_seq_length,
            vocabulary=vocabulary,
            do_lower_case=config.do_lower_case,
            strip_accents=strip_accents,
        )
        if strip_accents is None and files.metadata is not None:
            strip_accents = files.metadata.strip_accents
        opened.append(files)
    if strip_accents is None:
        strip_accents = config.strip_accents
    train = opened[0] if patterns[0] == config.pretrain_tfrecords else None
    hparams = {**config.to_dict(), "strip_accents": strip_accents, "precision": compute_type}
    return Data(vocabulary, train, opened[-1], strip_accents, hparams)


def _make_trainer(
    config: Any, strategy: tf.distribute.Strategy, pretraining: Pretraining
) -> Trainer:
    schedule = PolynomialDecay(
        config.learning_rate,
        config.num_train_steps,
        config.num_warmup_steps,
        config.lr_decay_power,
        config.end_learning_rate,
    )
    optimizer = AdamW(
        strategy,
        pretraining.objective.named_variables(),
        AdamWSettings.from_hparams(config),
    )
    settings = LoopSettings.from_hparams(
        config,
        num_train_steps=config.num_train_steps,
        tokens_per_example=config.max_seq_length,
        seed=config.seed,
        jit_compile=precision.resolve_xla(config.xla),
    )
    return Trainer(
        pretraining.objective,
        strategy,
        optimizer,
        schedule,
        settings,
        CheckpointStore(config.model_dir, config.keep_checkpoint_max),
        RunLog(config.model_dir),
        f"pre-training {config.model_name}",
    )


def _describe_model(pretraining: Pretraining, compute_type: str) -> str:
    variables = pretraining.objective.named_variables()
    total = sum(math.prod(v.shape) for v in variables.values())
    kept = sum(math.prod(v.shape) for v in pretraining.pair.encoder.trainable_variables)
    return (
        f"Model: {total:,} parameters, {kept:,} of them in the encoder that is kept; "
        f"computing in {compute_type}"
    )


def _train(config: Any, trainer: Trainer, data: Data, evaluate: Evaluation) -> None:
    """Trains what is left to train, as the only run that writes to the model's folder."""
    if trainer.step >= config.num_train_steps:
        say(
            f"Already trained for {trainer.step} steps (num_train_steps "
            f"{config.num_train_steps}): nothing to do."
        )
        return
    make_model_folder(config.model_dir)
    with FolderLock(config.model_dir):
        trainer.log.rewind(trainer.step)  # may find that it is no log: before anything is written
        write_model_folder(
            config.model_dir,
            hparams=data.hparams,
            network=config.network().to_dict(),
            vocab_file=config.vocab_file,
            do_lower_case=config.do_lower_case,
            strip_accents=data.strip_accents,
        )
        _run_steps(config, trainer, data, evaluate)


def _run_steps(config: Any, trainer: Trainer, data: Data, evaluate: Evaluation) -> None:
    say(
        f"Training from step {trainer.step} to {config.num_train_steps} on "
        f"{data.train.num_examples:,} examples; the first step takes a while to compile."
    )
    trainer.train(
        lambda position, context: training_dataset(
            data.train,
            max_seq_length=config.max_seq_length,
            global_batch_size=config.train_batch_size,
            seed=config.seed,
            position=position,
            shuffle_buffer_size=config.shuffle_buffer_size,
            input_context=context,
        ),
        evaluate=evaluate,
        explain=functools.partial(_explain, config, data.train),
    )
    say(f"Trained to step {trainer.step}: {trainer.store.latest()}")


def _explain(config: Any, files: RecordFiles, error: Exception) -> UserError | None:
    """Explains an error of the input that the checks at the start could not see."""
    if isinstance(error, tf.errors.DataLossError):
        return explain_data_loss(files, error)
    if isinstance(error, tf.errors.InvalidArgumentError) and "ParseExample" in error.message:
        reason = re.search(r"Key: .*", error.message)
        return UserError(
            f"A record is not an example of {config.max_seq_length} tokens.",
            where=config.pretrain_tfrecords,
            received=reason[0] if reason else error.message.strip(),
            remedy="Build the data again; training then continues from its last checkpoint.",
        )
    return None


def _final_evaluation(config: Any, trainer: Trainer, evaluate) -> dict[str, float]:
    where = config.eval_tfrecords or f"the training data, {config.pretrain_tfrecords}"
    say(f"Evaluating step {trainer.step} on {where}")
    figures = {**evaluate(), "global_step": trainer.step}
    trainer.log.close()
    for name, value in sorted(figures.items()):
        say(f"  {name} = {value}")
    paths = write_results(
        figures, results_txt=config.results_txt, results_pkl=config.results_pkl
    )
    say("Results written to " + " and ".join(paths))
    return figures
