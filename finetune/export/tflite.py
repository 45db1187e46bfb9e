"""TFLite files of fine-tuned models: token ids in, labels, scores or tags out."""

from __future__ import annotations

from electra_tf2.export.tflite import write_tflite
from finetune.export.saved_model import task_signatures
from finetune.fine_tuned import FineTuned


def export_tflite(source: str, output: str) -> None:
    """Exports a fine-tuned model: `<task>.tflite` for each of its tasks.

    Inputs are `input_ids`, `input_mask` and `segment_ids`, int32 [batch, length], outputs those of
    the SavedModel's `<task>_ids` without texts, see `finetune.export.saved_model`. Beside them are
    vocab.txt, and `<task>_labels.txt` with the classes, labels or tags in the order of the outputs.

    Args:
        source: the folder of a fine-tuned model, see `FineTuned.from_pretrained`.
        output: the folder to make.

    Raises:
        UserError: the model can't be read, one of its tasks has no such form, or the folder can't
            be made.
    """
    _export(source, output, int8=False)


def export_tflite_int8(source: str, output: str) -> None:
    """Exports as `export_tflite`, with weights of 8 bits; see `write_tflite`."""
    _export(source, output, int8=True)


def _export(source: str, output: str, int8: bool) -> None:
    model = FineTuned.from_pretrained(source)
    signatures, assets = task_signatures(model)
    vocabulary = model.source.vocabulary
    write_tflite(output, signatures, [model.network], vocabulary, int8=int8, assets=assets)
