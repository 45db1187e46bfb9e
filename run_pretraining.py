"""Pre-trains an ELECTRA model, and evaluates it.

Reads TFRecords made by build_pretraining_dataset.py from <data-dir>/pretrain_tfrecords and the
vocabulary from <data-dir>/vocab.txt, and writes to <data-dir>/models/<model-name>:

  checkpoints/   weights, optimizer and position, in folders step-…
  metrics.jsonl  losses, accuracies, learning rate, gradient norm and tokens/s during training
  tensorboard/   the same for TensorBoard
  results/       the figures of evaluations (do_eval)
  report.html    a page to look at (report)

Run the same command again to resume an interrupted run.

Examples:
  python run_pretraining.py --data-dir data --model-name small
  python run_pretraining.py --data-dir data --model-name quick --hparams '{"debug": true}'
  python run_pretraining.py --data-dir data --model-name small \\
      --hparams 'num_train_steps=100000 train_batch_size=64 learning_rate=3e-4'
"""

from __future__ import annotations

from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.console import quiet_libraries


def main(argv: list[str] | None = None) -> None:
    """Pre-trains with the configuration that the flags give."""
    flags, _ = cli.parse_run_flags(__doc__, argv, hparams_help=PretrainingConfig.describe())
    config = PretrainingConfig(flags.model_name, flags.data_dir, **flags.hparams)
    with quiet_libraries():
        from electra_tf2.pretraining.run.pretrain import pretrain
        from finetune.report.write import reported
    with reported(config, config.model_dir):
        pretrain(config)


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
