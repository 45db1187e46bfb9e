"""How a run is driven, apart from what it trains."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Lengths and intervals, in steps.

    Attributes:
        num_train_steps: the step at which training ends.
        global_batch_size: examples a step, over all replicas and micro-batches.
        tokens_per_example: for the tokens/s in the log, padding included; a mean where they differ.
        save_every: steps between checkpoints.
        log_every: steps between lines in the log.
        eval_every: steps between evaluations; 0 for none.
        iterations_per_loop: most steps of one graph call.
        seconds_per_loop: most seconds of one graph call, so that signals, logs and saves come in
            time.
        micro_batches: gradient accumulation.
        on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" that update.
        seed: the run's seed.
        jit_compile: whether XLA compiles forward and backward.
    """

    num_train_steps: int
    global_batch_size: int
    tokens_per_example: float
    save_every: int = 1000
    log_every: int = 10
    eval_every: int = 0
    iterations_per_loop: int = 200
    seconds_per_loop: float = 5.0
    micro_batches: int = 1
    on_nonfinite: Literal["stop", "skip"] = "stop"
    seed: int = 0
    jit_compile: bool = False

    @classmethod
    def from_hparams(
        cls,
        config: Any,
        *,
        num_train_steps: int,
        tokens_per_example: float,
        seed: int,
        jit_compile: bool,
    ) -> LoopSettings:
        """Takes batch size and intervals from a configuration; the rest as the attributes say."""
        return cls(
            num_train_steps=num_train_steps,
            global_batch_size=config.train_batch_size,
            tokens_per_example=tokens_per_example,
            save_every=config.save_checkpoints_steps,
            log_every=config.log_every_steps,
            eval_every=config.eval_every_steps,
            iterations_per_loop=config.iterations_per_loop,
            micro_batches=config.gradient_accumulation_steps,
            on_nonfinite=config.on_nonfinite,
            seed=seed,
            jit_compile=jit_compile,
        )

    def next_event(self, step: int) -> int:
        """Returns the first step after `step` at which something is logged, saved or ended."""
        intervals = [self.log_every, self.save_every]
        if self.eval_every:
            intervals.append(self.eval_every)
        due = [(step // interval + 1) * interval for interval in intervals]
        return min(*due, self.num_train_steps)
