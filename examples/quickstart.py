"""From text to a trained ELECTRA in a few minutes, without a download.

    make quickstart                      (or: python examples/quickstart.py)

Collects the docstrings of the installed Python packages as a corpus, trains a vocabulary, builds
TFRecords, pre-trains a tiny ELECTRA, evaluates it on modules it has not seen, and shows what its
discriminator says of some of their sentences. Then it fine-tunes the model on a task whose labels
come from the docstrings too, see `parameter_lists`, and scores it beside the same network without
pre-training and a simple baseline. Run it again to see the results once more: finished stages are
not done twice, and a halted training goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from detection_display import detect, legend, render
from docstring_corpus import PACKAGES, collect
from parameter_lists import build
from quickstart_finetuning import RANDOM, TASK, command_line, finetune_both, show_predictions
from quickstart_finetuning import make_config as finetuning_config
from tag_scores import table

from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.console import brief, quiet_libraries
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.building.vocabulary_builder import VocabularyConfig, build_vocabulary
from electra_tf2.errors import UserError, path_quoted
from electra_tf2.files import write_json
from electra_tf2.hparams.recipes import PRESETS
from electra_tf2.stored_json import read_record

MODEL_NAME = "quickstart"
PRESET = "electra_tiny"
RECIPE = {name: sourced.value for name, sourced in PRESETS[PRESET].values.items()}
VOCAB_SIZE, LENGTH = RECIPE["vocab_size"], RECIPE["max_seq_length"]
STEPS_AT_LEAST, STEPS_AT_MOST, TRIAL_STEPS = 300, 6000, 40  # with --minutes
_SIZES = ("vocab_size", "embedding_size", "model_hparam_overrides")
HPARAMS: dict[str, Any] = {
    "preset": PRESET,
    "eval_batch_size": 64,
    "num_eval_steps": 40,
    "save_checkpoints_steps": 500,
    "keep_checkpoint_max": 2,
    "do_eval": True,
}


def main(argv: list[str] | None = None) -> None:
    """Runs all stages."""
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("--output-dir", type=Path, default=Path("quickstart_data"), help="default: %(default)s")
    help_text = f"to pre-train for (default: {RECIPE['num_train_steps']:,}, of the preset {PRESET})"
    add("--steps", type=int, help=help_text)
    add("--minutes", type=float, help="pre-train for about so long instead, however fast it is")
    add("--packages", default=",".join(PACKAGES), help="whose docstrings (default: %(default)s)")
    help_text = "to fine-tune, each with another seed; 1 to 5 (default: 1)"
    add("--trials", type=int, choices=range(1, 6), metavar="N", default=1, help=help_text)
    flags = parser.parse_args(argv)
    if flags.minutes is not None and not flags.minutes > 0:
        parser.error(f"--minutes is more than 0; received {flags.minutes}")
    started = time.monotonic()
    with quiet_libraries():  # TensorFlow takes seconds to import
        from electra_tf2.pretraining.run.pretrain import pretrain
        from electra_tf2.training.devices import find_devices
    find_devices(make_config(flags.output_dir, TRIAL_STEPS, "auto"))
    prepare(flags.output_dir, flags.packages.split(","))
    steps, precision = make_plan(flags)
    config = make_config(flags.output_dir, steps, precision)
    check_recipe(config)
    write_plan(flags.output_dir, Plan(steps, precision))
    headline(f"4. Pre-training for {steps:,} steps")
    with brief():
        figures = pretrain(config)
    headline("5. What the discriminator says of text it has not seen")
    show_detections(config)
    steps = int(figures["global_step"])
    scores = learn_task(steps, flags)
    conclude(config, figures, scores, time.monotonic() - started)
    suggest(flags, steps)


def prepare(folder: Path, packages: list[str]) -> None:
    """Makes corpus, vocabulary and TFRecords, those that are not there yet."""
    train, held_out, finished = folder / "corpus/train", folder / "corpus/heldout", "collected.json"
    headline("1. Collecting docstrings")
    if not (folder / "corpus" / finished).exists():
        size = collect(train, held_out, packages=packages)
        (folder / "corpus" / finished).write_text(json.dumps(size._asdict()) + "\n", "utf-8")
    size = json.loads((folder / "corpus" / finished).read_text("utf-8"))
    print(
        f"{size['train_documents']:,} docstrings to train on "
        f"({size['train_characters'] / 1e6:.1f} MB), "
        f"{size['held_out_documents']:,} held out ({size['held_out_characters'] / 1e6:.1f} MB)"
    )
    headline(f"2. Training a vocabulary of {VOCAB_SIZE:,} word pieces")
    vocabulary = folder / "vocab.txt"
    if not vocabulary.exists():
        build_vocabulary(VocabularyConfig(str(train), str(vocabulary), vocab_size=VOCAB_SIZE))
    print(f"{vocabulary} is there")
    headline("3. Building TFRecords")
    for corpus, name, processes in ((train, "pretrain_tfrecords", 2), (held_out, "heldout", 1)):
        if not (folder / name / "metadata.json").exists():
            build_dataset(
                BuildConfig(
                    str(corpus),
                    str(vocabulary),
                    str(folder / name),
                    max_seq_length=LENGTH,
                    num_processes=processes,
                    num_out_files=8,
                    split_long_lines=True,
                )
            )
        print(f"{folder / name} is there")


def make_config(folder: Path, steps: int, precision: str, **changes: Any) -> PretrainingConfig:
    """The configuration that `run_pretraining.py` would make of these hparams."""
    hparams = {
        **HPARAMS,
        "num_train_steps": steps,
        "precision": precision,
        "log_every_steps": max(1, min(100, steps // 10)),
        "eval_tfrecords": str(folder / "heldout" / "pretrain_data.tfrecord*"),
    }
    return PretrainingConfig(MODEL_NAME, str(folder), **(hparams | changes))


class Plan(NamedTuple):
    """What is decided once for a folder, so that the same command resumes the same training.

    Attributes:
        steps: of pre-training.
        precision: the hparam.
    """

    steps: int
    precision: str


def make_plan(flags: argparse.Namespace) -> Plan:
    """Decides on the steps as asked, or as planned before, or as the time allows."""
    before = read_plan(flags.output_dir)
    precision = before.precision if before else fastest_precision()
    if flags.steps is not None:
        steps = flags.steps
    elif before is not None:
        steps = before.steps
        if flags.minutes is not None:
            print(f"{steps:,} steps, as planned before (--steps changes that)")
    elif flags.minutes is not None:
        steps = steps_in(flags, precision)
    else:
        steps = RECIPE["num_train_steps"]
    return Plan(steps, precision)


def read_plan(folder: Path) -> Plan | None:
    """Reads a folder's plan, or what its model was trained by; None in a new folder."""
    path = folder / "plan.json"
    if path.exists():
        return read_record(Plan, str(path), "The plan of the quickstart", "Remove the file.")
    config = folder / "models" / MODEL_NAME / "config.json"
    if config.exists():
        stored = json.loads(config.read_text("utf-8"))["hparams"]
        return Plan(stored["num_train_steps"], stored["precision"])
    return None


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes the plan that later runs in this folder go by."""
    write_json(str(folder / "plan.json"), plan._asdict())


def fastest_precision() -> str:
    """The hparam `precision` for this machine: bfloat16 where the processor multiplies it faster.

    There, this training is half as fast again. On older processors bfloat16 is several times
    slower, so both are tried.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "auto"

    def seconds(dtype: tf.DType) -> float:
        states = tf.ones([RECIPE["train_batch_size"] * LENGTH, 512], dtype)
        weights = tf.ones([512, 128], dtype)
        times = []
        for _ in range(20):  # the best of them: other processes only add to the time
            started = time.perf_counter()
            tf.matmul(states, weights).numpy()
            times.append(time.perf_counter() - started)
        return min(times)

    return "bfloat16" if seconds(tf.bfloat16) < 0.8 * seconds(tf.float32) else "float32"


def steps_in(flags: argparse.Namespace, precision: str) -> int:
    """How many steps this machine makes in the minutes that were asked for, about."""
    from electra_tf2.pretraining.run.pretrain import pretrain

    headline(f"   A trial of {TRIAL_STEPS} steps, to see how fast this machine is")
    trial = flags.output_dir / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    log_every = TRIAL_STEPS // 2
    changes = {"do_eval": False, "model_dir": str(trial), "log_every_steps": log_every}
    with brief():
        pretrain(make_config(flags.output_dir, TRIAL_STEPS, precision, **changes))
    lines = (trial / "metrics.jsonl").read_text("utf-8").splitlines()
    steps_per_second = json.loads(lines[-1])["tokens_per_second"] / (
        RECIPE["train_batch_size"] * LENGTH
    )
    shutil.rmtree(trial)
    steps = min(STEPS_AT_MOST, 60 * flags.minutes * steps_per_second)
    return max(STEPS_AT_LEAST, int(steps) // 100 * 100)


def check_recipe(config: PretrainingConfig) -> None:
    """Refuses a folder whose model was trained by another recipe, of an older version."""
    stored = Path(config.model_dir, "config.json")
    if stored.exists() and json.loads(stored.read_text("utf-8"))["hparams"]["preset"] != PRESET:
        raise UserError(
            "The model in this folder was trained by the quickstart of another version.",
            where=str(stored),
            received=f"another recipe than the preset {PRESET}",
            remedy="Give another folder with --output-dir, or remove this one.",
        )


def show_detections(config: PretrainingConfig, examples: int = 4) -> None:
    """Prints some held-out examples with replaced tokens and the discriminator's opinion."""
    color = sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns - 2, 100)
    print(legend(color))
    for number, detection in enumerate(detect(config, examples), 1):
        print(f"\nExample {number}")
        print(render(detection, color=color, width=width))


def learn_task(steps: int, flags: argparse.Namespace) -> str:
    """Fine-tunes the model and one that is not pre-trained; returns the table of their scores."""
    folder = flags.output_dir
    headline("6. Fine-tuning: which words are a parameter's name, its type, its default value?")
    train, dev = build(folder / "finetuning_data" / TASK, flags.packages.split(","))
    print(
        f"{train:,} texts from the parameter lists of the docstrings to train on, "
        f"{dev:,} from held-out modules"
    )
    if not train or not dev:
        print("That is too little to fine-tune on: these packages don't use NumPy's style.")
        return ""
    sizes = {name: RECIPE[name] for name in _SIZES}
    scores = finetune_both(folder, MODEL_NAME, steps, sizes, trials=flags.trials)
    headline("7. What the fine-tuned model makes of held-out parameter lists")
    print("Layout and punctuation are taken away. [KIND words]+ is right, [KIND words]- is not.")
    show_predictions(folder, MODEL_NAME, color=sys.stdout.isatty())
    return table(scores)


def python() -> str:
    """How to call this Python from the current folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def conclude(
    config: PretrainingConfig, figures: dict[str, float], scores: str, seconds: float
) -> None:
    """Prints the figures, and where everything lies."""
    folder = config.data_dir
    headline("Done")
    print(
        f"On held-out modules, after {figures['global_step']:,.0f} steps and "
        f"{seconds / 60:.1f} minutes in all:\n"
        f"  discriminator AUC       {figures['disc_auc']:.3f}   (0.5: guessing; 1: perfect)\n"
        f"  discriminator accuracy  {figures['disc_accuracy']:.3f}\n"
        f"  generator accuracy      {figures['masked_lm_accuracy']:.3f}   (of masked tokens)\n"
    )
    if scores:
        print(f"Names, types and defaults found in held-out parameter lists, F1 in %:\n{scores}")
    print(
        f"""
Where everything lies:
  {folder}/corpus               the text, one file per package
  {folder}/vocab.txt            the vocabulary
  {folder}/pretrain_tfrecords   the examples; heldout: those for evaluation
  {config.model_dir}
      checkpoints, config.json, metrics.jsonl (all losses), tensorboard, results
      finetuning_models, test_predictions (the tags of every word)
  {folder}/models/{RANDOM}
      what was fine-tuned without pre-training

A page with all of it, to look at in a browser:
  {write_page(config)}"""
    )


def suggest(flags: argparse.Namespace, steps: int) -> None:
    """Prints what to try next."""
    folder = flags.output_dir
    again = f"{python()} examples/quickstart.py --output-dir {path_quoted(str(folder))}"
    if flags.packages != ",".join(PACKAGES):
        again += f" --packages {flags.packages}"
    print(
        f"""
What to try next:
  Fine-tune with three seeds:
    {again} --trials 3
  Fine-tune by hand:
    {command_line(finetuning_config(folder, MODEL_NAME, 1), python())}
  Pre-train for longer; the same model resumes:
    {again} --steps {2 * steps}
  Your own text, a sentence per line, a blank line between documents (or JSON lines, Parquet, ...):
    {python()} build_vocabulary.py --corpus-dir TEXT --output-file data/vocab.txt --vocab-size 30522
    {python()} build_pretraining_dataset.py --corpus-dir TEXT --vocab-file data/vocab.txt \\
        --output-dir data/pretrain_tfrecords
    {python()} run_pretraining.py --data-dir data --model-name my_electra"""
    )


def write_page(config: PretrainingConfig) -> str:
    """Writes the page about the model; returns where it is, or what it lacks."""
    from finetune.report.write import write_report

    try:
        return write_report(config.model_dir)
    except UserError as error:
        return f"{error.what} {error.remedy}"


def headline(text: str) -> None:
    """Prints the title of a stage."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    cli.run(main)
