"""Exports a model: to Hugging Face's transformers, as a SavedModel, TFLite or Keras file.

Takes a model of run_pretraining.py, a trial of run_finetuning.py, an official checkpoint or a
Hugging Face folder, and writes it in another format. Nothing is trained, and the model stays as it
is.

Examples:
  python export_model.py --data-dir data --model-name small --format huggingface --output small_hf
  python export_model.py --model-dir data/models/small/finetuning_models/cola_model_1 \\
      --format huggingface --output cola_hf
  python export_model.py --model-dir electra_small/electra_small --format huggingface \\
      --network discriminator --output discriminator_hf
  python export_model.py --data-dir data --model-name small --format savedmodel --output small_tf
"""

from __future__ import annotations

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries
from finetune.export.export_model import EPILOG, add_export_flags


def main(argv: list[str] | None = None) -> None:
    """Exports the model that the flags name."""
    parser = cli.make_parser(__doc__, epilog=EPILOG)
    add_export_flags(parser)
    flags = parser.parse_args(argv)
    with quiet_libraries():
        import tensorflow as tf

        from finetune.export.export_model import export_model

        tf.config.list_physical_devices()
    export_model(flags)


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
