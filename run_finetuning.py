"""Fine-tunes a pre-trained model on a task, and scores it; or predicts a file.

Reads the model from <data-dir>/models/<model-name> (trained by run_pretraining.py, or an official
checkpoint) and the task's files from <data-dir>/finetuning_data/<task>, and writes below the model:

  finetuning_models/<task>_model_<trial>/   weights, logs and labels of each trial
  results/<task>_results.{txt,json,md}      the scores of all trials
  results/scores.md                         all tasks of the model, and the GLUE average
  report.html                               a page to look at (report)
  test_predictions/                         predictions on the dev split (and test splits)

Tasks: cola sst mrpc sts qqp mnli qnli rte wnli · squad squadv1 newsqa naturalqs triviaqa searchqa ·
chunk; or any of your own, described by the hparam tasks (see docs/finetuning.md).
Run the same command again to resume an interrupted run.

Examples:
  python run_finetuning.py --data-dir data --model-name small --hparams 'task_names=["cola"]'
  python run_finetuning.py --data-dir data --model-name small \\
      --hparams '{"task_names": ["rte"], "num_trials": 5, "learning_rate": 3e-4}'
  python run_finetuning.py --data-dir data --model-name small \\
      --hparams 'task_names=["cola"]' --predict sentences.tsv --output predictions.jsonl
"""

from __future__ import annotations

import argparse

from configure_finetuning import FinetuningConfig
from electra_tf2 import cli
from electra_tf2.console import quiet_libraries
from electra_tf2.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags beside those of pre-training."""
    parser.add_argument("--predict", help="a file without labels to predict; nothing is trained")
    parser.add_argument("--output", help="where the predictions go, as JSON lines")


def main(argv: list[str] | None = None) -> None:
    """Fine-tunes or predicts with the configuration that the flags give."""
    flags, more = cli.parse_run_flags(
        __doc__, argv, hparams_help=FinetuningConfig.describe(), add_flags=add_flags
    )
    if (more.predict is None) != (more.output is None):
        given, other = ("--output", "--predict")[:: 1 if more.predict is None else -1]
        raise UserError(
            f"{given} needs {other} beside it.",
            where=given,
            remedy=f"Give {other} as well, or leave {given} out.",
        )
    only_predict = {"do_train": False, "do_eval": True} if more.predict else {}
    config = FinetuningConfig(flags.model_name, flags.data_dir, **flags.hparams | only_predict)
    with quiet_libraries():
        from finetune.report.write import reported
        from finetune.run.finetune import finetune, predict
    if more.predict:
        predict(config, more.predict, more.output)
    else:
        with reported(config, config.pretrained_model_dir):
            finetune(config)


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
