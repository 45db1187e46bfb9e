"""All that a run decides and checks before it trains or writes anything."""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import replace_file
from electra_tf2.formats.official import is_tf1_checkpoint
from electra_tf2.loading.folder import (
    VOCABULARY,
    check_output_paths,
    check_results_paths,
    read_config,
)
from electra_tf2.loading.pretrained import STRUCTURE, Pretrained, has_checkpoint, open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phases import PFS_DAYS
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import (
    Vocabulary,
    check_same_vocabulary,
    check_vocabulary_size,
    load_vocabulary,
)
from electra_tf2.training.checkpoints import STATE
from electra_tf2.training.devices import (
    Devices,
    check_batch_size,
    describe,
    resolve_precision,
    say_if_emulated,
)
from electra_tf2.training.workers import Workers
from finetune.task import Task
from finetune.task_builder import get_tasks

# What fine-tuning takes over from a pre-trained model, and what the hparams may say of it.


_LARGE = 1024  # hidden size from which on a model is a large one
_LEARNING_RATES = {"model_size", "preset", "learning_rate"}  # hparams that choose one


def resolve_network(config: Any, pretrained: Pretrained | None) -> TransformerConfig:
    """The sizes of the encoder: the checkpoint's, which the hparams may state again but not change.

    Args:
        config: a `FinetuningConfig`.
        pretrained: the checkpoint; None for random weights by the hparams.

    Raises:
        UserError: the hparams give other sizes than the checkpoint has; all are listed.
    """
    network = config.network()
    if pretrained is None or not pretrained.network:
        return network
    # Models of older versions don't say which encoder they have: there was one.
    whole = {"encoder": "bert", **pretrained.network}
    stored = {n: v for n, v in whole.items() if n in STRUCTURE}
    overrides = config.model_hparam_overrides
    if pretrained.network.keys() == stored.keys():  # no configuration beside it
        if "num_attention_heads" in overrides:
            stored["num_attention_heads"] = network.num_attention_heads
        else:
            heads = stored["num_attention_heads"]
            say(
                "Nothing beside the checkpoint says how many attention heads it has: "
                f"{heads} by the official rule (model_hparam_overrides may say otherwise)."
            )
    stated = stated_sizes(config)
    if stored["encoder"] == "albert" and "embedding_size" not in config.given:
        stated.discard("embedding_size")  # with albert, model_size doesn't say it
    different = {
        n: (v, getattr(network, n))
        for n, v in stored.items()
        if n in stated and getattr(network, n) != v
    }
    if different:
        raise UserError(
            "The hparams describe another network than the checkpoint's.",
            where=pretrained.path,
            received="; ".join(
                f"{name}: the checkpoint has {old}, the hparams say {new}"
                for name, (old, new) in different.items()
            ),
            remedy="Leave model_size, encoder, vocab_size, embedding_size and the sizes in "
            "model_hparam_overrides out: the checkpoint's are then used.",
        )
    _warn_of_another_size(config, stored["hidden_size"], network.hidden_size)
    rates = {n: v for n, v in pretrained.network.items() if n not in stored and n not in overrides}
    return dataclasses.replace(network, **{**rates, **stored})


def _warn_of_another_size(config: Any, hidden_size: int, expected: int) -> None:
    """Says so where the learning rate and its decay are those of models of another size."""
    if hidden_size >= _LARGE and not config.given & _LEARNING_RATES:
        say(
            f"Warning: a large model is trained with the small one's learning rate "
            f"({config.learning_rate:g}). Set model_size to large for its settings, or state it."
        )
    if config.preset is not None and hidden_size != expected:
        say(
            f"Warning: the preset {config.preset} is for a hidden size of {expected}; the "
            f"checkpoint's is {hidden_size}."
        )


def stated_sizes(config: Any) -> set[str]:
    """Returns the sizes that the hparams state: those that a checkpoint has to agree with."""
    overrides = config.model_hparam_overrides
    stated = {name for name in STRUCTURE if name in overrides or name in config.given}
    if "model_size" in config.given:
        stated |= {"hidden_size", "num_hidden_layers", "embedding_size"}
    if "hidden_size" in stated:
        stated |= {"num_attention_heads", "intermediate_size"}
    return stated


def pretraining_pfs_days(pretrained: Pretrained | None) -> float | None:
    """Returns what pre-training has cost, in petaflop/s-days; None if the checkpoint doesn't say.

    Args:
        pretrained: the checkpoint; None for random weights.
    """
    path = posixpath.join(pretrained.path, STATE) if pretrained else ""
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        stored = json.loads(file.read()).get(PFS_DAYS)
    return None if stored is None else float(stored)


def resolve_tokenizer(config: Any, pretrained: Pretrained | None) -> dict[str, bool]:
    """Casing and accents: the model's, which the hparams may state again but not change.

    Returns:
        `do_lower_case` and `strip_accents`.

    Raises:
        UserError: a hparam that was given contradicts the model's.
    """
    stored = pretrained.tokenizer if pretrained else {}
    settings = {}
    for name in ("do_lower_case", "strip_accents"):
        settings[name] = stored.get(name, getattr(config, name))
        if name in config.given and getattr(config, name) != settings[name]:
            raise UserError(
                "The model was pre-trained on text that was tokenized otherwise.",
                where=f"hparam {name}",
                received=f"{getattr(config, name)}; the model has {settings[name]}",
                remedy=f"Leave {name} out: the model's is then used.",
            )
    return settings


def resolve_vocabulary(
    config: Any, pretrained: Pretrained | None, vocab_size: int
) -> tuple[Vocabulary, str]:
    """The vocabulary: `vocab_file` if given, else the model's, else the data folder's.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: it can't be read, has another size than the network, or differs from the model's.
    """
    beside = [
        pretrained.vocab_file if pretrained else None,
        posixpath.join(config.pretrained_model_dir, VOCABULARY),
        posixpath.join(config.data_dir, VOCABULARY),
    ]
    path = config.vocab_file
    if not path:
        there = [p for p in beside if p and tf.io.gfile.exists(p)]
        path = there[0] if there else beside[-1]
    vocabulary = load_vocabulary(path)
    check_vocabulary_size(vocabulary, vocab_size, path)
    if beside[0] and beside[0] != path:
        stored = load_vocabulary(beside[0])
        check_same_vocabulary(vocabulary, path, stored, beside[0], "vocab_file")
    return vocabulary, path


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
