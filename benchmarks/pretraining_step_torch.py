"""The peer of `pretraining_step.py` and `gpu.py`: training steps with transformers and PyTorch.

transformers has the two networks but no pre-training objective, so masking, sampling and the loss
are written here, with as few operations as they take. Two variants:

- "shipped": `ElectraForMaskedLM` and `ElectraForPreTraining` as they are, with their own losses.
  The former projects every position to the vocabulary.
- "best": the same layers, but only the masked positions are projected, as a user who knows about
  it would write it.

Either is run as it is or through `torch.compile`, in float32 or under bfloat16 autocast.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

VOCAB_SIZE = 30522
MASK_ID = 103
MASK_PROB = 0.15
DISC_WEIGHT = 50.0
BATCHES = 16  # different ones, on the device before the clock starts


class Sizes(NamedTuple):
    """Of the two networks; both have the same number of layers, and heads of the same width."""

    hidden: int
    generator_hidden: int
    embedding: int
    layers: int = 12
    head: int = 64


SIZES = {
    "tiny": Sizes(64, 32, embedding=16, layers=2, head=32),
    "small": Sizes(256, 64, embedding=128),
    "base": Sizes(768, 256, embedding=768),
}

Variant = Literal["shipped", "best"]
Precision = Literal["float32", "bfloat16"]


class Masked(NamedTuple):
    """A masked batch: ids int64 [B, L], positions int64 [B, k], originals int64 [B, k]."""

    ids: torch.Tensor
    positions: torch.Tensor
    originals: torch.Tensor


class Pair(torch.nn.Module):
    """Generator and discriminator with shared embeddings, and their joint loss.

    Args:
        variant: where the generator projects to the vocabulary; see the top of this file.
        attention: transformers' name of the attention implementation, "sdpa" or "eager".
        size: a key of `SIZES`.
    """

    def __init__(self, variant: Variant, attention: str = "sdpa", size: str = "small"):
        super().__init__()
        self.variant = variant
        sizes = SIZES[size]
        self.discriminator = ElectraForPreTraining(_config(sizes, sizes.hidden, attention))
        self.generator = ElectraForMaskedLM(_config(sizes, sizes.generator_hidden, attention))
        self.generator.electra.embeddings = self.discriminator.electra.embeddings
        self.generator.generator_lm_head.weight = (
            self.discriminator.electra.embeddings.word_embeddings.weight
        )

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch: each argument int64 [B, L], the result a scalar."""
        masked = mask_tokens(ids, mask)
        generate = self._as_shipped if self.variant == "shipped" else self._at_masked_positions
        generator_loss, logits = generate(masked, mask, segments)
        with torch.no_grad():
            gumbel = -torch.empty_like(logits, dtype=torch.float32).exponential_().log_()
            sampled = (logits + gumbel).argmax(-1)
            corrupted = ids.scatter(1, masked.positions, sampled)
            labels = (corrupted != ids).long()
        discriminator_loss = self.discriminator(
            corrupted, attention_mask=mask, token_type_ids=segments, labels=labels
        ).loss
        return generator_loss + DISC_WEIGHT * discriminator_loss

    def _as_shipped(
        self, masked: Masked, mask: torch.Tensor, segments: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The class's own loss, and its logits at the masked positions, [B, k, V]."""
        labels = torch.full_like(masked.ids, -100).scatter(1, masked.positions, masked.originals)
        output = self.generator(
            masked.ids, attention_mask=mask, token_type_ids=segments, labels=labels
        )
        return output.loss, _at_positions(output.logits, masked.positions)

    def _at_masked_positions(
        self, masked: Masked, mask: torch.Tensor, segments: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same loss and logits, without those at the other positions."""
        network = self.generator
        states = network.electra(masked.ids, attention_mask=mask, token_type_ids=segments)[0]
        states = network.generator_predictions(_at_positions(states, masked.positions))
        logits = network.generator_lm_head(states)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), masked.originals.flatten())
        return loss, logits


def mask_tokens(ids: torch.Tensor, mask: torch.Tensor) -> Masked:
    """Draws 15 % of the positions; 85 % of them become [MASK]. The first and last stay."""
    count = round(MASK_PROB * ids.shape[1])
    draws = torch.rand(ids.shape, device=ids.device).masked_fill(mask == 0, -1.0)
    draws[:, 0] = draws[:, -1] = -1.0
    positions = draws.topk(count).indices
    originals = ids.gather(1, positions)
    hidden = torch.rand(positions.shape, device=ids.device) < 0.85
    shown = torch.where(hidden, MASK_ID, originals)
    return Masked(ids.scatter(1, positions, shown), positions, originals)


def measure_peer(
    variant: Variant, *, batch_size: int = 16, seconds: float = 10.0, **options: Any
) -> float:
    """Trains ELECTRA-small on the CPU for a while.

    Args:
        variant, batch_size, options: see `training_calls`.
        seconds: how long to measure, after three steps that don't count.

    Returns:
        Examples per second: batch_size over the median time of a step.
    """
    steps = training_calls(variant, batch_size=batch_size, **options)
    for _ in range(3):
        next(steps)
    times: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        times.append(next(steps))
    return batch_size / float(np.median(times))


def training_calls(
    variant: Variant,
    *,
    compiled: bool,
    precision: Precision,
    attention: str = "sdpa",
    batch_size: int = 16,
    length: int = 128,
    size: str = "small",
    device: str = "cpu",
    n_steps: int = 1,
) -> Iterator[float]:
    """Trains on random batches without end.

    Args:
        variant: where the generator projects to the vocabulary.
        compiled: whether the loss goes through `torch.compile`.
        precision: "bfloat16" means autocast.
        attention: transformers' attention implementation.
        batch_size: rows per step.
        length: tokens per row.
        size: a key of `SIZES`.
        device: "cpu" or "cuda".
        n_steps: after so many steps the device is waited for.

    Yields:
        The seconds of `n_steps` steps; the first ones compile.
    """
    torch.manual_seed(0)
    pair = Pair(variant, attention, size).to(device).train()
    loss_of = torch.compile(pair) if compiled else pair
    parameters = list(pair.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    batches = torch.randint(1000, VOCAB_SIZE, (BATCHES, batch_size, length), device=device)
    mask = torch.ones_like(batches[0])
    segments = (torch.arange(length, device=device) >= length // 2).long().expand_as(mask)
    number = 0
    while True:
        start = time.perf_counter()
        for _ in range(n_steps):
            number += 1
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = loss_of(batches[number % BATCHES], mask, segments)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        value = loss.item()  # waits for the device
        if not math.isfinite(value):
            raise FloatingPointError(f"The peer's loss is {value}.")
        yield time.perf_counter() - start


def _config(sizes: Sizes, hidden_size: int, attention: str) -> ElectraConfig:
    return ElectraConfig(
        vocab_size=VOCAB_SIZE,
        embedding_size=sizes.embedding,
        hidden_size=hidden_size,
        num_hidden_layers=sizes.layers,
        num_attention_heads=hidden_size // sizes.head,
        intermediate_size=4 * hidden_size,
        attn_implementation=attention,
    )


def _at_positions(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Picks [B, k, H] from [B, L, H]."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))
