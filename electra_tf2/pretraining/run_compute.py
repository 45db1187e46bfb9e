"""The compute that a pre-training run has used, from its configuration and its step."""

from __future__ import annotations

from typing import Any

from electra_tf2.compute.flops import PFS_DAY, total
from electra_tf2.compute.pretraining_flops import example_flops, pretraining_flops
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phases import phases_of

PFS_DAYS = "pfs_days"


class RunCompute:
    """Operations of a run's steps.

    Counted are the operations that training needs, whatever the devices made of them: not what was
    computed before `init_checkpoint`, nor steps that a halted run did twice.

    Args:
        config: a `PretrainingConfig`.
        network: the discriminator's sizes.
    """

    def __init__(self, config: Any, network: TransformerConfig):
        self._phases = phases_of(config)
        self._networks = [pretraining_flops(phase.config, network) for phase in self._phases]
        self._per_step = [
            example_flops(networks).training * phase.config.train_batch_size
            for networks, phase in zip(self._networks, self._phases, strict=True)
        ]

    def flops(self, step: int) -> float:
        """Returns the operations of the first `step` steps, forward and backward."""
        done = 0.0
        for phase, per_step in zip(self._phases, self._per_step, strict=True):
            end = step if phase is self._phases[-1] else min(step, phase.last_step)
            done += max(0, end - phase.first_step) * per_step
        return done

    def figures(self, step: int) -> dict[str, float]:
        """Returns `pfs_days`, the petaflop/s-days of the first `step` steps."""
        return {PFS_DAYS: self.flops(step) / PFS_DAY}

    def describe(self) -> list[str]:
        """Returns lines of text: the operations of the run and of an example, by network and part.

        The example is one of the first phase.
        """
        networks, steps = self._networks[0], self._phases[-1].last_step
        example = example_flops(networks)
        lines = [
            f"Compute: {self.flops(steps):.3g} FLOPs in {steps:,} steps, "
            f"{self.flops(steps) / PFS_DAY:.3g} pfs-days; {example.training:.3g} an example, "
            f"{example.forward:.3g} forward and {example.backward:.3g} backward"
        ]
        for name, parts in networks.items():
            shares = (
                f"{part.replace('_', ' ')} {flops.training / example.training:.1%}"
                for part, flops in parts.items()
            )
            own = total(parts.values()).training / example.training
            lines.append(f"  {name} {own:.1%}: {', '.join(shares)}")
        return lines
