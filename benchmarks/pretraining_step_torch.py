"""The peer of `pretraining_step.py`: one ELECTRA-small training step with transformers and PyTorch.

transformers has the two networks but no pre-training objective, so masking, sampling and the loss
are written here, with as few operations as they take. Two variants:

- "shipped": `ElectraForMaskedLM` and `ElectraForPreTraining` as they are, with their own losses.
  The former projects every position to the vocabulary.
- "best": the same layers, but only the masked positions are projected, as a user who knows about
  it would write it.

Either is run as it is or through `torch.compile`, in float32 or under bfloat16 autocast.
"""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

VOCAB_SIZE = 30522
MASK_ID = 103
MASK_PROB = 0.15
DISC_WEIGHT = 50.0

Variant = Literal["shipped", "best"]
Precision = Literal["float32", "bfloat16"]


class Masked(NamedTuple):
    """A masked batch: ids int64 [B, L], positions int64 [B, k], originals int64 [B, k]."""

    ids: torch.Tensor
    positions: torch.Tensor
    originals: torch.Tensor


class Pair(torch.nn.Module):
    """Generator and discriminator of ELECTRA-small with shared embeddings, and their joint loss.

    Args:
        variant: where the generator projects to the vocabulary; see the top of this file.
        attention: transformers' name of the attention implementation, "sdpa" or "eager".
    """

    def __init__(self, variant: Variant, attention: str = "sdpa"):
        super().__init__()
        self.variant = variant
        self.discriminator = ElectraForPreTraining(_config(256, heads=4, attention=attention))
        self.generator = ElectraForMaskedLM(_config(64, heads=1, attention=attention))
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
    draws = torch.rand(ids.shape).masked_fill(mask == 0, -1.0)
    draws[:, 0] = draws[:, -1] = -1.0
    positions = draws.topk(count).indices
    originals = ids.gather(1, positions)
    shown = torch.where(torch.rand(positions.shape) < 0.85, MASK_ID, originals)
    return Masked(ids.scatter(1, positions, shown), positions, originals)


def measure_peer(
    variant: Variant,
    *,
    compiled: bool,
    precision: Precision,
    attention: str = "sdpa",
    batch_size: int = 16,
    length: int = 128,
    seconds: float = 10.0,
) -> float:
    """Trains on random batches for a while.

    Args:
        variant: where the generator projects to the vocabulary.
        compiled: whether the loss goes through `torch.compile`.
        precision: "bfloat16" means autocast.
        attention: transformers' attention implementation.
        batch_size: rows per step.
        length: tokens per row.
        seconds: how long to measure, after three steps that don't count.

    Returns:
        Examples per second: batch_size over the median time of a step.
    """
    torch.manual_seed(0)
    pair = Pair(variant, attention).train()
    loss_of = torch.compile(pair) if compiled else pair
    parameters = list(pair.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True)
    random = np.random.default_rng(0)

    def step() -> None:
        ids = torch.from_numpy(random.integers(1000, VOCAB_SIZE, (batch_size, length)))
        mask = torch.ones_like(ids)
        segments = (torch.arange(length) >= length // 2).long().expand(batch_size, length)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(ids, mask, segments)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The peer's loss is {loss.item()}.")

    for _ in range(3):
        step()
    times: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return batch_size / float(np.median(times))


def _config(hidden_size: int, *, heads: int, attention: str) -> ElectraConfig:
    return ElectraConfig(
        vocab_size=VOCAB_SIZE,
        embedding_size=128,
        hidden_size=hidden_size,
        num_hidden_layers=12,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        attn_implementation=attention,
    )


def _at_positions(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Picks [B, k, H] from [B, L, H]."""
    return values.gather(1, positions[..., None].expand(-1, -1, values.shape[-1]))
