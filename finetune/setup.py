"""All that a run decides and checks before it trains or writes anything."""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import Pretrained, has_checkpoint, open_pretrained
from electra_tf2.interop.tf1_checkpoint import is_tf1_checkpoint
from electra_tf2.model_folder import read_config
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.results_files import check_output_paths, check_results_paths
from electra_tf2.training.precision import resolve_precision, say_if_emulated
from electra_tf2.training.strategies import check_batch_size, describe
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.training.devices import Devices
from electra_tf2.training.durable_files import replace_file
from electra_tf2.training.workers import Workers
from finetune.pretrained import (
    resolve_network,
    resolve_tokenizer,
    resolve_vocabulary,
)
from finetune.task import Task
from finetune.task_builder import get_tasks

# What was inferred from a task's data, beside the checkpoints of a fine-tuned model.
TASKS = "tasks.json"
_FINISHED = "finished.json"


class Setup(NamedTuple):
    """What the trials of a run share.

    Attributes:
        config: a `FinetuningConfig`.
        start: the checkpoint that trials start from, or the one to evaluate; None: random weights.
        trial: number of the trial that `start` is the result of; 0 if it is none.
        network: the encoder's sizes.
        tokenizer: `do_lower_case` and `strip_accents`.
        vocab_file: path of the vocabulary.
        tasks: the tasks.
        strategy: where it runs.
        workers: the processes of the run; the chief writes.
        compute_type: "float32", "bfloat16" or "float16".
    """

    config: Any
    start: Pretrained | None
    trial: int
    network: TransformerConfig
    tokenizer: dict[str, bool]
    vocab_file: str
    tasks: list[Task]
    strategy: tf.distribute.Strategy
    workers: Workers
    compute_type: str

    def hparams(self) -> dict[str, Any]:
        """Returns all hparams, with what the model and the devices decided filled in."""
        return {**self.config.to_dict(), **self.tokenizer, "precision": self.compute_type}


def prepare(config: Any, devices: Devices) -> Setup:
    """Opens the checkpoint, and settles sizes, vocabulary, casing and tasks.

    Args:
        config: a `FinetuningConfig`.
        devices: of the run.

    Raises:
        UserError: something is missing or does not fit, here or on another worker.
    """
    return devices.workers.together(lambda: _prepare(config, devices))


def _prepare(config: Any, devices: Devices) -> Setup:
    if config.do_eval:
        check_results_paths(config.results_txt, config.results_pkl)
    check_output_paths(_output_files(config))
    trial, start = (0, _pretrained(config)) if config.do_train else find_trained(config)
    network = resolve_network(config, start)
    _check_length(config, network)
    settings = resolve_tokenizer(config, start)
    vocabulary, vocab_file = resolve_vocabulary(config, start, network.vocab_size)
    tokenizer = make_tokenizer(
        vocabulary,
        lower_case=settings["do_lower_case"],
        strip_accents=settings["strip_accents"],
    )
    tasks = get_tasks(config, tokenizer)
    if not config.do_train and start.format != "huggingface":  # which has no heads of ours
        _restore_states(tasks, start.folder)
    strategy, workers = devices
    _check_batches(config, strategy.num_replicas_in_sync)
    say(describe(strategy, config.train_batch_size, workers))
    compute_type = resolve_precision(config.precision)
    say_if_emulated(compute_type, strategy, say)
    return Setup(
        config, start, trial, network, settings, vocab_file, tasks, strategy, workers, compute_type
    )


def _output_files(config: Any) -> dict[str, str]:
    """Returns where it is given -> a path that the run writes to, or one like it."""
    task = config.task_names[0]
    files = {"test_predictions": config.test_predictions.format(task, "dev", 1)}
    files["preprocessed_data_dir"] = posixpath.join(config.preprocessed_data_dir, "features")
    files["model_dir"] = posixpath.join(f"{config.model_dir}_1", TASKS)
    for name in ("qa_eval_file", "qa_preds_file", "qa_na_file"):
        files[name] = getattr(config, name).format(task)
    return {f"hparam {name}": path for name, path in files.items()}


def _pretrained(config: Any) -> Pretrained | None:
    if config.init_checkpoint:
        return open_pretrained(config.init_checkpoint)
    say("No init_checkpoint: the network starts from random weights.")
    return None


def find_trained(config: Any) -> tuple[int, Pretrained]:
    """Finds the fine-tuned model to evaluate.

    Args:
        config: its `init_checkpoint` if that was given, else the last trial's model.

    Returns:
        The trial's number (0 for an `init_checkpoint`), and the model.

    Raises:
        UserError: there is none; says where it looked.
    """
    if config.init_checkpoint and "init_checkpoint" in config.given:
        return 0, open_pretrained(config.init_checkpoint)
    trials, unfinished = [], []
    for trial in trial_numbers(config):
        folder = trial_folder(config, trial)
        if has_checkpoint(folder):
            (trials if is_finished(folder) else unfinished).append(trial)
    if not trials:
        raise UserError(
            "There is no fine-tuned model to evaluate.",
            where=f"{config.model_dir}_1, …_2 and so on",
            received="only trials that are not finished: " + ", ".join(map(str, unfinished))
            if unfinished
            else "no folder with a checkpoint",
            remedy="Fine-tune first (do_train true), or set init_checkpoint to a fine-tuned model.",
        )
    folder = trial_folder(config, trials[-1])
    say(f"Using the last fine-tuned model: {folder}")
    if unfinished:
        say(f"  (Not finished, so not used: trial {', '.join(map(str, unfinished))}.)")
    return trials[-1], open_pretrained(folder)


def trial_numbers(config: Any, suffix: str = "") -> list[int]:
    """Returns the numbers of the trials that have a folder, in rising order.

    Args:
        config: a `FinetuningConfig`.
        suffix: of the folders' names, after the number.
    """
    parent, prefix = posixpath.split(config.model_dir)
    if not tf.io.gfile.isdir(parent or "."):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(parent or ".")]
    found = re.compile(re.escape(f"{prefix}_") + "([0-9]+)" + re.escape(suffix))
    return sorted(int(match[1]) for name in names if (match := found.fullmatch(name)))


def is_finished(folder: str) -> bool:
    """Whether a trial was trained to its end; the official program's always count as finished."""
    return tf.io.gfile.exists(posixpath.join(folder, _FINISHED)) or is_tf1_checkpoint(folder)


def mark_finished(folder: str, step: int) -> None:
    """Notes that a trial was trained to its end."""
    replace_file(posixpath.join(folder, _FINISHED), f'{{"step": {step}}}\n'.encode())


def trial_folder(config: Any, trial: int) -> str:
    """Returns the folder of a trial's model."""
    return f"{config.model_dir}_{trial}"


def _restore_states(tasks: list[Task], folder: str) -> None:
    """Gives the tasks the labels that the model was trained with."""
    states = stored_states(folder)
    if not states and read_config(folder) is not None:
        raise UserError(
            "The model does not say which labels it was trained with.",
            where=posixpath.join(folder, TASKS),
            received="no such file, or nothing in it",
            remedy="Restore the file, or give a model that was fine-tuned.",
        )
    for task in tasks:
        if task.name in states:
            task.set_state(states[task.name])


def stored_states(folder: str) -> dict[str, dict[str, Any]]:
    """Returns task -> what it inferred from its data when the model in a folder was trained.

    Raises:
        UserError: the file can't be read.
    """
    path = posixpath.join(folder, TASKS)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        return {name: dict(state) for name, state in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            "What the model knows of its tasks can't be read.",
            where=path,
            received=str(error),
            remedy="Restore the file, or fine-tune again.",
        ) from error


def _check_length(config: Any, network: TransformerConfig) -> None:
    if config.max_seq_length > network.max_position_embeddings:
        raise UserError(
            "The sequences are longer than the model's position table.",
            where="hparam max_seq_length",
            received=f"max_seq_length {config.max_seq_length}, max_position_embeddings "
            f"{network.max_position_embeddings}",
            remedy=f"Set max_seq_length to at most {network.max_position_embeddings}.",
        )


def _check_batches(config: Any, replicas: int) -> None:
    check_batch_size(
        "train_batch_size", config.train_batch_size, replicas, config.gradient_accumulation_steps
    )
    for name in ("eval_batch_size", "predict_batch_size"):
        check_batch_size(name, getattr(config, name), replicas)
