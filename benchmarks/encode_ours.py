"""Our side of `encode.py`: a model with random weights, its export, and `Encoder.encode`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from encode_rate import Contender

from electra_tf2 import Encoder
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.modeling.config import transformer_config
from electra_tf2.modeling.electra import build_pair
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore

BATCH_SIZE = 32


def write_models(work: str) -> None:
    """Writes ELECTRA-small with random weights, and the same for Hugging Face.

    Args:
        work: a folder with vocab.txt; gets the folders `ours` and `huggingface`.
    """
    vocab_file, folder = f"{work}/vocab.txt", f"{work}/ours"
    network = transformer_config(
        model_size="small",
        vocab_size=len(load_vocabulary(vocab_file)),
        embedding_size=128,
        overrides={},
    )
    keras.utils.set_random_seed(0)
    pair = build_pair(network, uniform_generator=True)
    make_model_folder(folder)
    write_model_folder(
        folder,
        hparams={},
        network=network,
        vocab_file=vocab_file,
        casing=UNCASED,
    )
    weights = {v.path: np.asarray(v) for v in pair.discriminator.trainable_variables}
    CheckpointStore(folder).save(0, weights, {}, {})
    export_huggingface(folder, f"{work}/huggingface", ExportOptions(network="discriminator"))


def open_ours(folder: Path) -> Contender:
    """Opens the model with the Python API."""
    encoder = Encoder.from_pretrained(str(folder))

    def encode(sentences: list[str]) -> list[np.ndarray]:
        states, mask, _ = encoder.encode(sentences, batch_size=BATCH_SIZE)
        return [row[there] for row, there in zip(states, mask, strict=True)]

    def encode_all(sentences: list[str]) -> None:
        encoder.encode(sentences, batch_size=BATCH_SIZE)

    return Contender(encode, encode_all)
