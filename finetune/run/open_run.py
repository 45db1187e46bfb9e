"""A fine-tuning run, with everything checked before it trains or writes anything."""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.console import say
from electra_tf2.errors import UserError, errors_named_in, path_quoted
from electra_tf2.hparams.shared_checks import check_end_learning_rate, check_network_fits
from electra_tf2.loading.folder import check_results_paths, json_path, read_config
from electra_tf2.loading.pretrained import Pretrained, has_checkpoint, open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.outputs import check_output_paths, write_problem
from electra_tf2.plots import load_pyplot
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.training.devices import (
    Devices,
    Precision,
    check_batch_size,
    continued_precision,
    describe,
    resolve_precision,
)
from electra_tf2.training.workers import Workers
from finetune.classification.class_report import report_path
from finetune.evaluation import DevSplit, open_dev_splits
from finetune.feature_tables import FeatureTable, TaskData
from finetune.features import Preprocessor
from finetune.run.pretrained_model import resolve_casing, resolve_network, resolve_vocabulary
from finetune.run.results import read_results
from finetune.task import Task
from finetune.task_builder import get_tasks
from finetune.trial_folders import (
    TASKS,
    Origin,
    TrialFolders,
    is_finished,
    restore_tuned,
    scoring_origin,
    stored_states,
    training_origin,
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run trains or evaluates, and where.

    Attributes:
        config: the run's hparams.
        start: the checkpoint that trials start from, or the one to evaluate; None: random weights.
        trial: number of the trial that `start` is the result of; 0 if it is none.
        network: the encoder's sizes.
        casing: of the text.
        vocab_file: path of the vocabulary.
        tasks: the tasks.
        strategy: where it runs.
        workers: the processes of the run; the chief writes.
        compute_type: "float32", "bfloat16" or "float16".
        folders: of its trials.
        unwritten: hparams whose files can't be written, nor need to be.
    """

    config: FinetuningConfig
    start: Pretrained | None
    trial: int
    network: TransformerConfig
    casing: Casing
    vocab_file: str
    tasks: list[Task]
    strategy: tf.distribute.Strategy
    workers: Workers
    compute_type: Precision
    folders: TrialFolders
    unwritten: frozenset[str] = frozenset()

    def hparams(self) -> dict[str, Any]:
        """Returns all hparams, with what the model and the devices decided filled in."""
        return {**self.config.to_dict(), **self.casing.settings(), "precision": self.compute_type}


def open_run(config: FinetuningConfig, devices: Devices) -> Run:
    """Opens the checkpoint, and settles sizes, vocabulary, casing and tasks.

    Raises:
        UserError: something is missing or does not fit, here or on another worker.
    """
    return devices.workers.together(lambda: _open_run(config, devices))


def _open_run(config: FinetuningConfig, devices: Devices) -> Run:
    check_end_learning_rate(config)
    unwritten = _check_places(config)
    folders = TrialFolders(config.model_dir)
    config = _as_it_began(config, folders)
    trial, start = (0, _pretrained(config)) if config.do_train else _find_trained(config, folders)
    network = resolve_network(config, start)
    check_network_fits(network)
    check_length(config, network)
    vocabulary, vocab_file = resolve_vocabulary(config, start, network.vocab_size)
    casing = resolve_casing(config, start, vocabulary, vocab_file)
    tasks = get_tasks(config, make_tokenizer(vocabulary, casing))
    if not config.do_train and start is not None and start.format != "huggingface":
        _restore_states(tasks, start.folder)  # a Hugging Face model has no heads of ours
        restore_tuned(start.folder, tasks)
    strategy, workers = devices
    _check_batches(config, strategy.num_replicas_in_sync)
    say(describe(strategy, config.train_batch_size, workers))
    return Run(
        config=config,
        start=start,
        trial=trial,
        network=network,
        casing=casing,
        vocab_file=vocab_file,
        tasks=tasks,
        strategy=strategy,
        workers=workers,
        compute_type=resolve_precision(config.precision),
        folders=folders,
        unwritten=unwritten,
    )


def _as_it_began(config: FinetuningConfig, folders: TrialFolders) -> FinetuningConfig:
    """Returns the hparams, with the precision of earlier trials where they leave it open."""
    if config.precision != "auto" or not config.do_train or config.overwrite:
        return config
    began = None
    with contextlib.suppress(UserError):  # whoever opens the trials meets it too
        paths = map(folders.path, folders.numbers())
        stored = [own.hparams for path in paths if (own := read_config(path)) is not None]
        results = read_results(json_path(config.results_pkl))
        if results is not None and results.trials:
            stored.append(results.hparams or {})
        began = stored[-1].get("precision") if stored else None
    return continued_precision(config, began)


_RESULTS = ("results_txt", "results_pkl")


def _check_places(config: FinetuningConfig) -> frozenset[str]:
    """Refuses places that can't be written to; returns the hparams of those that need not be.

    A model that is only evaluated may lie in a folder that can't be written to.
    """
    needed = set(config.given)
    if config.do_train:
        needed.update(_RESULTS, _output_files(config))
    if config.write_test_outputs:
        needed.add("test_predictions")
    if config.class_report:
        load_pyplot()
        needed.add("class_report")
    if config.do_eval and needed & set(_RESULTS):
        check_results_paths(config.results_txt, config.results_pkl)
    paths = _output_files(config) | {name: getattr(config, name) for name in _RESULTS}
    if not config.do_train:
        del paths["model_dir"]  # only read
    check_output_paths(
        {f"hparam {n}": p for n, p in paths.items() if n in needed and n not in _RESULTS}
    )
    return frozenset(name for name, path in paths.items() if write_problem(path))


def _output_files(config: FinetuningConfig) -> dict[str, str]:
    """Returns the hparam -> a path that the run writes to, or one like it."""
    task = config.task_names[0]
    paths = {"test_predictions": config.test_predictions.format(task, "dev", 1)}
    paths["preprocessed_data_dir"] = posixpath.join(config.preprocessed_data_dir, "features")
    paths["model_dir"] = posixpath.join(f"{config.model_dir}_1", TASKS)
    if config.class_report:
        paths["class_report"] = f"{report_path(config, task, 'dev', 1)}.md"
    for name in ("qa_eval_file", "qa_preds_file", "qa_na_file"):
        paths[name] = getattr(config, name).format(task)
    return paths


_CHECK_MODEL = (
    "Check --data-dir and --model-name or the hparam init_checkpoint. To start from random "
    "weights, set init_checkpoint to null."
)


def _pretrained(config: FinetuningConfig) -> Pretrained | None:
    if config.init_checkpoint:
        return open_pretrained(config.init_checkpoint, _CHECK_MODEL)
    say("No init_checkpoint: the network starts from random weights.")
    return None


def _find_trained(config: FinetuningConfig, folders: TrialFolders) -> tuple[int, Pretrained]:
    """Finds the model to evaluate, and its trial: `init_checkpoint` (0) if given, else the last."""
    if config.init_checkpoint and "init_checkpoint" in config.given:
        return 0, open_pretrained(config.init_checkpoint, _CHECK_MODEL)
    begun = [trial for trial in folders.numbers() if has_checkpoint(folders.path(trial))]
    finished = [trial for trial in begun if is_finished(folders.path(trial))]
    unfinished = ", ".join(str(trial) for trial in begun if trial not in finished)
    if not finished:
        raise UserError(
            "There is no fine-tuned model to evaluate.",
            where=f"{folders.path(1)}, …_2 and so on",
            received=f"only trials that are not finished: {unfinished}"
            if unfinished
            else "no folder with a checkpoint",
            remedy="Fine-tune first (do_train true), or set init_checkpoint to a fine-tuned model.",
        )
    folder = folders.path(finished[-1])
    say(f"Using the last fine-tuned model: {folder}")
    if unfinished:
        say(f"  (Not finished, so not used: trial {unfinished}.)")
    return finished[-1], open_pretrained(folder)


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
            with errors_named_in(posixpath.join(folder, TASKS)):
                task.set_state(states[task.name])


def check_length(config: FinetuningConfig, network: TransformerConfig) -> None:
    """Refuses sequences that are longer than a network's position table."""
    if config.max_seq_length > network.max_position_embeddings:
        raise UserError(
            "The sequences are longer than the model's position table.",
            where="hparam max_seq_length",
            received=f"max_seq_length {config.max_seq_length}, max_position_embeddings "
            f"{network.max_position_embeddings}",
            remedy=f"Set max_seq_length to at most {network.max_position_embeddings}"
            + _growing_advice(config, network),
        )


def _growing_advice(config: FinetuningConfig, network: TransformerConfig) -> str:
    """How to make a model for longer sequences, to end a remedy."""
    path, length = config.init_checkpoint, config.max_seq_length
    if not path or network.is_modern:
        return ", or raise max_position_embeddings in model_hparam_overrides."
    output = path_quoted(f"{path.rstrip('/')}-{length}")
    return (
        f", or make a model with more positions (python grow_model.py --model-dir "
        f"{path_quoted(path)} --max-positions {length} --output {output}) and give that as "
        "init_checkpoint."
    )


def _check_batches(config: FinetuningConfig, replicas: int) -> None:
    check_batch_size(
        "train_batch_size", config.train_batch_size, replicas, config.gradient_accumulation_steps
    )
    for name in ("eval_batch_size", "predict_batch_size"):
        check_batch_size(name, getattr(config, name), replicas)


class RunData(NamedTuple):
    """The examples of a run that trains.

    Attributes:
        train: of all tasks.
        dev: what is scored, during training or at its end.
        origin: what trials are trained from.
        whole_origin: that, and what is scored.
    """

    train: TaskData
    dev: list[DevSplit]
    origin: Origin
    whole_origin: Origin


def open_data(run: Run) -> RunData:
    """Makes the features of all splits, so that bad data are found before anything is trained.

    Raises:
        UserError: a file is missing or bad, or the run would replace the model it starts from.
    """
    config, tasks, preprocessor = run.config, run.tasks, Preprocessor(run.config)
    if config.overwrite:
        _check_start_is_kept(run)
    train = TaskData(
        [task.name for task in tasks],
        [preprocessor.features(task, "train") for task in tasks],
        [task.get_feature_specs() for task in tasks],
    )
    _check_steps(config, train)
    check_segments(run.network, dict(zip(train.names, train.tables, strict=True)))
    scores = config.do_eval or config.eval_every_steps
    dev = open_dev_splits(preprocessor, tasks) if scores else []
    if config.write_test_outputs:
        for task in tasks:
            for split in task.test_splits:
                task.check_test_split(split)
                preprocessor.features(task, split)
    origin = training_origin(None if run.start is None else run.start.arrays, tasks)
    scored = scoring_origin([(split.task, split.split) for split in dev])
    return RunData(train, dev, origin, {**origin, **scored})


# Ten million steps are a thousand times what fine-tuning takes; the plans of all lie in memory.
_MOST_STEPS = 10_000_000


def _check_steps(config: FinetuningConfig, train: TaskData) -> None:
    batches = -(-train.num_rows // config.train_batch_size)
    if batches * config.num_train_epochs > _MOST_STEPS:
        raise UserError(
            "The training would not end.",
            where="hparam num_train_epochs",
            received=f"{config.num_train_epochs:g} epochs of {batches} batches",
            remedy=f"Choose at most {_MOST_STEPS // batches:g}.",
        )


def check_segments(network: TransformerConfig, tables: Mapping[str, FeatureTable]) -> None:
    """Refuses tasks with texts of a segment that the network has no embedding of."""
    highest = {
        name: int(table.ragged["segment_ids"].values.max()) for name, table in tables.items()
    }
    tasks = [name for name, segment in highest.items() if segment >= network.type_vocab_size]
    if tasks:
        raise UserError(
            "The model knows single texts only.",
            where=f"type_vocab_size {network.type_vocab_size}, task {', '.join(tasks)}",
            received="second texts, or a tagging task, whose words are of segment 1",
            remedy="Take a model with a type_vocab_size of 2.",
        )


def _check_start_is_kept(run: Run) -> None:
    """Refuses to train from a model, or to learn from one, that the run would replace."""
    used = {"teacher": [f"{run.config.teacher}/" if run.config.teacher else ""]}
    if run.start is not None:
        used["init_checkpoint"] = [run.start.path, run.vocab_file]
    for trial in run.folders.numbers():
        folder = f"{run.folders.path(trial)}/"
        for name, paths in used.items():
            if any(path.startswith(folder) for path in paths):
                raise UserError(
                    f"The model {_USE[name]} is one of those to be overwritten.",
                    where=f"hparam {name}",
                    received=paths[0],
                    remedy="Set model_dir, results_txt and results_pkl to other paths.",
                )


_USE = {"teacher": "to learn from", "init_checkpoint": "to start from"}
