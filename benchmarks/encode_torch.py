"""The peer of `encode.py`: transformers' ELECTRA with PyTorch, as feature extraction is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from encode_rate import Contender
from transformers import AutoModel, AutoTokenizer

BATCH_SIZE = 32
_MAX_LENGTH = 512


def open_peer(folder: Path, *, attention: str, sort: bool) -> Contender:
    """Opens the exported model.

    Args:
        folder: with config, weights and tokenizer.
        attention: transformers' name of the attention implementation, "sdpa" or "eager".
        sort: whether batches are of sentences sorted by their length in characters.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
    model.eval()

    @torch.inference_mode()
    def batches(sentences: list[str]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        order = list(range(len(sentences)))
        if sort:
            order.sort(key=lambda i: -len(sentences[i]))
        for first in range(0, len(order), BATCH_SIZE):
            rows = order[first : first + BATCH_SIZE]
            batch = tokenizer(
                [sentences[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=_MAX_LENGTH,
                return_tensors="pt",
            )
            states = model(**batch).last_hidden_state
            yield rows, states.numpy(), batch["attention_mask"].numpy()

    def encode(sentences: list[str]) -> list[np.ndarray]:
        found = {
            i: row[there > 0]
            for rows, states, mask in batches(sentences)
            for i, row, there in zip(rows, states, mask, strict=True)
        }
        return [found[i] for i in range(len(sentences))]

    def encode_all(sentences: list[str]) -> None:
        for _ in batches(sentences):
            pass

    return Contender(encode, encode_all)
