"""The quickstart's second part: the pre-trained model learns a task, beside one that was not.

The task needs no code: the hparam `tasks` describes it, and `run_finetuning.py` does the same with
the hparams that the quickstart prints at its end.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tag_scores
from parameter_lists import TaggedText, read_columns

from configure_finetuning import FinetuningConfig
from electra_tf2.console import brief
from electra_tf2.errors import path_quoted

TASK = "parameters"
RANDOM = "quickstart_random"  # name of the model that starts from random weights
HPARAMS: dict[str, Any] = {
    "task_names": [TASK],
    "tasks": {TASK: {"kind": "tagging", "scheme": "iob"}},
    "max_seq_length": 64,
    "train_batch_size": 32,
    "learning_rate": 5e-4,
    "layerwise_lr_decay": 0,  # with three layers, none is far from the task
    "num_train_epochs": 1,
    "log_every_steps": 100,
}
NEXT_LINE = "\n      "
_STARTED_FROM = "finetuned_from.json"  # steps of pre-training of the fine-tuned model that is there
BASELINE, NOT_PRETRAINED, PRETRAINED = "commonest tag", "not pre-trained", "pre-trained"


def make_config(
    folder: Path, model_name: str, trials: int, sizes: Mapping[str, Any] | None = None
) -> FinetuningConfig:
    """The configuration that `run_finetuning.py` would make of these hparams.

    Args:
        folder: the quickstart's folder.
        model_name: the model to fine-tune, or a name for one that is not pre-trained.
        trials: how many, with different seeds.
        sizes: of a network to start from random weights; None for the pre-trained model.
    """
    start: dict[str, Any] = {} if sizes is None else {"init_checkpoint": None, **sizes}
    start["class_report"] = importlib.util.find_spec("matplotlib") is not None  # it draws
    return FinetuningConfig(model_name, str(folder), **HPARAMS, num_trials=trials, **start)


def command_line(config: FinetuningConfig, python: str) -> str:
    """The command that does the same."""
    given = [*HPARAMS, *sorted(config.given - {*HPARAMS})]
    hparams = json.dumps({name: getattr(config, name) for name in given})
    lines = textwrap.wrap(hparams, 84, break_long_words=False, break_on_hyphens=False)
    return (
        f"{python} run_finetuning.py --data-dir {path_quoted(config.data_dir)} "
        f"--model-name {config.model_name} \\\n"
        f"    --hparams {shlex.quote(NEXT_LINE.join(lines))}"
    )


def finetune_both(
    folder: Path,
    model_name: str,
    pretraining_steps: int,
    sizes: Mapping[str, Any],
    *,
    trials: int,
) -> dict[str, list[tag_scores.Scores]]:
    """Fine-tunes the pre-trained model and one that is not, and scores them and the baseline.

    Trials that are there are not trained again, unless the pre-trained model was trained further.

    Args:
        folder: the quickstart's folder, with the task's files in finetuning_data.
        model_name: the pre-trained model.
        pretraining_steps: of it.
        sizes: hparams that state the sizes of its network.
        trials: how many of each.

    Returns:
        For each, the scores of its trials.
    """
    from finetune.run.finetune import finetune  # TensorFlow takes seconds to import

    train, dev = texts(folder)
    baseline = tag_scores.CommonestTag(train)
    gold = [text.tags for text in dev]
    rows = {BASELINE: [tag_scores.score(gold, [baseline.tag(text.words) for text in dev])]}
    configs = {
        NOT_PRETRAINED: make_config(folder, RANDOM, trials, sizes),
        PRETRAINED: make_config(folder, model_name, trials),
    }
    forget_older(folder, model_name, pretraining_steps)
    for title, config in configs.items():
        print(f"{title.capitalize()}:", flush=True)
        with brief():
            results = finetune(config)
        rows[title] = [
            tag_scores.score(gold, predictions(config, result.trial)) for result in results[:trials]
        ]
    return rows


def texts(folder: Path) -> tuple[list[TaggedText], list[TaggedText]]:
    """The texts to train on, and the dev set's."""
    data = folder / "finetuning_data" / TASK
    return read_columns(data / "train.txt"), read_columns(data / "dev.txt")


def predictions(config: FinetuningConfig, trial: int) -> list[list[str]]:
    """The tags that a trial predicted for the dev set, from the file that fine-tuning wrote."""
    path = config.test_predictions.format(TASK, "dev", trial).removesuffix(".pkl") + ".jsonl"
    lines = Path(path).read_text("utf-8").splitlines()
    return [json.loads(line)["tags"] for line in lines]


def forget_older(folder: Path, model_name: str, pretraining_steps: int) -> None:
    """Removes what was fine-tuned from an earlier state of the pre-trained model."""
    model = folder / "models" / model_name
    stamp = model / _STARTED_FROM
    if stamp.exists() and json.loads(stamp.read_text("utf-8")) != pretraining_steps:
        print("The model was pre-trained further since it was fine-tuned: it is fine-tuned anew.")
        for path in (model / "finetuning_models").glob(f"{TASK}_model_*"):
            shutil.rmtree(path)
        for path in (model / "results").glob(f"{TASK}_results.*"):
            path.unlink()
    stamp.write_text(json.dumps(pretraining_steps) + "\n", "utf-8")


def show_predictions(folder: Path, model_name: str, *, color: bool, examples: int = 4) -> None:
    """Prints some of the dev set's texts with the tags that the pre-trained model gave them.

    Args:
        folder: the quickstart's folder.
        model_name: the pre-trained model.
        color: whether for a terminal.
        examples: how many; they are taken evenly from those with two parameters or more.
    """
    found = predictions(make_config(folder, model_name, 1), 1)
    several = [
        (text, tags)
        for text, tags in zip(texts(folder)[1], found, strict=True)
        if text.tags.count("B-NAME") > 1
    ]
    step = max(1, len(several) // examples)
    for text, tags in several[step // 2 :: step][:examples]:
        print("\n" + tag_scores.render(text, tags, color=color))
