"""The peer of `finetuning.py`: transformers' ELECTRA classifier, fine-tuned with PyTorch.

Batches are drawn at random (training) or in the file's order (prediction) and padded to their
longest sentence, as the documented data collator does. AdamW is PyTorch's fused one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from harness import rate
from transformers import ElectraConfig, ElectraForSequenceClassification

BATCH_SIZE = 32
VOCAB_SIZE = 30522
PREDICTED = 1024  # sentences


def measure_peer(
    lengths: np.ndarray, *, precision: str, seconds: float, attention: str
) -> dict[str, float]:
    """Trains and predicts for a while.

    Args:
        lengths: tokens of each sentence.
        precision: "float32", or "bfloat16" for autocast.
        seconds: how long to measure each, after a few batches (prediction: a pass) that
            don't count.
        attention: transformers' name of the attention implementation, "sdpa" or "eager".

    Returns:
        "training" and "prediction" in examples/s.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    sentences = [torch.from_numpy(random.integers(1000, VOCAB_SIZE, n)) for n in lengths]
    labels = torch.from_numpy(random.integers(0, 2, len(lengths)))
    model = ElectraForSequenceClassification(
        ElectraConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=256,
            embedding_size=128,
            num_hidden_layers=12,
            num_attention_heads=4,
            intermediate_size=1024,
            attn_implementation=attention,
        )
    )
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    return {
        "prediction": _prediction(model, sentences, labels, autocast, seconds),
        "training": _training(model, sentences, labels, autocast, seconds),
    }


def _batches(sentences, labels, order) -> Iterator[dict[str, torch.Tensor]]:
    for rows in order.split(BATCH_SIZE):
        chosen = [sentences[i] for i in rows]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(s) for s in chosen], True)
        yield {"input_ids": ids, "attention_mask": mask, "labels": labels[rows]}


def _training(model, sentences, labels, autocast, seconds) -> float:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    done, start, step = 0, 0.0, 0
    while True:
        for batch in _batches(sentences, labels, torch.randperm(len(sentences))):
            with autocast:
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"The peer's loss is {loss.item()}.")
            step += 1
            if step == 4:
                start = time.perf_counter()
            elif step > 4:
                done += len(batch["labels"])
                if time.perf_counter() - start >= seconds:
                    return done / (time.perf_counter() - start)


@torch.no_grad()
def _prediction(model, sentences, labels, autocast, seconds) -> float:
    model.eval()

    def predict() -> int:  # a whole pass
        for batch in _batches(sentences, labels, torch.arange(PREDICTED)):
            with autocast:
                model(**batch).logits.float().numpy()
        return PREDICTED

    predict()
    return rate(predict, seconds)
