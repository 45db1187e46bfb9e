"""Warnings of settings and figures under which ELECTRA learns little."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from electra_tf2.hparams.ramps import largest
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phases import Phase

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Clark et al. 2020, section 3.2: generators of 1/4 to 1/2 of the discriminator's size work best.
LARGEST_GENERATOR = 0.5
# .5 is guessing.
LOWEST_AUC = 0.6
# Until then, or until half of a shorter run, even a healthy one may be at .5, however short its
# warm-up.
FIRST_STEPS = 5000
# Steps over which the AUC is averaged before it is judged.
SPAN = 500


# By whether the generator is trained.
_SMALLER = {
    True: "Lower generator_hidden_size or generator_layers",
    False: "Raise temperature, or name a smaller masked LM as init_generator",
}


def generator_size_warning(config: PretrainingConfig, network: TransformerConfig) -> str | None:
    """Warns of a generator that is more than half as large as the discriminator.

    The size is width times depth, each as a share of the discriminator's; the paper varies the
    width. A two-tower generator counts by one tower.

    Returns:
        What to print, or None.
    """
    detection = config.electra_objective or config.electric_objective
    if not detection or config.uniform_generator:
        return None
    best = "a quarter to half of the discriminator's size works best (ELECTRA paper, section 3.2)"
    if not config.untied_generator:
        return (
            "the generator is the discriminator's own network (untied_generator false), as large "
            f"as it: {best}."
        )
    small = config.generator_network(network)
    width, depth = small.hidden_size, small.num_hidden_layers
    share = width / network.hidden_size * depth / network.num_hidden_layers
    if share <= LARGEST_GENERATOR:
        return None
    return (
        f"the generator is large: hidden size {width} of {network.hidden_size}, {depth} of "
        f"{network.num_hidden_layers} layers, {share:.0%} of the discriminator. Its samples become "
        f"too good to tell from the text; {best}. {_SMALLER[config.train_generator]}."
    )


# Below them, small networks learned nothing or little (docs/results.md, a recipe for minutes).
LEAST_WARMUP, LEAST_BATCH = 500, 32
# The official rate of the small network; wider ones have lower rates.
HIGHEST_RATE, NARROW = 5e-4, 128


def likeliest_cause(
    config: PretrainingConfig, network: TransformerConfig, *, is_first_phase: bool = True
) -> str:
    """Returns what most likely keeps a discriminator from learning, and what to do.

    Args:
        config: how it is trained.
        network: its sizes.
        is_first_phase: whether training begins with it, and not with a model that has learned.
    """
    is_adam = config.optimizer == "adamw"  # LAMB has other rates
    warmup = min(2 * LEAST_WARMUP, config.num_train_steps // 2)
    if is_adam and is_first_phase and config.num_warmup_steps < min(LEAST_WARMUP, warmup):
        return f"the warm-up was too short: start a new run with num_warmup_steps {warmup} or more"
    if not config.untied_generator:
        return "the generator is too large: start a new run with untied_generator true"
    if generator_size_warning(config, network):
        if not config.train_generator:
            return f"the generator is too good. {_SMALLER[False]}, in a new run"
        return "the generator is too large: start a new run with generator_hidden_size 0.25"
    if is_adam and config.learning_rate > HIGHEST_RATE and network.hidden_size > NARROW:
        return f"the rate is too high: start a new run with learning_rate {HIGHEST_RATE:g} or less"
    if largest(config.train_batch_size) < LEAST_BATCH:
        return f"the batch is small: set train_batch_size to {2 * LEAST_BATCH} or more"
    return (
        "a small model on a hard corpus needs more steps (num_train_steps); if many have been "
        "made, start a new run with half of learning_rate and twice num_warmup_steps"
    )


class DiscriminatorGuard:
    """Warns, at most twice in a phase, of a discriminator that learns nothing.

    The AUC of the training reports is averaged over spans of `SPAN` steps, from the end of the
    warm-up on. The first span under `LOWEST_AUC` gives a warning, and so does a later one after
    twice as many steps, if it is still so low.

    Args:
        first_step: reports up to this step don't count.
        cause: the likeliest, for the text.
    """

    def __init__(self, first_step: int, cause: str):
        self._first_step = first_step
        self._cause = cause
        self._aucs: list[float] = []
        self._span_end: int | None = None
        self._next_warning: float = 0

    def __call__(self, step: int, figures: Mapping[str, float]) -> str | None:
        """Takes a report.

        Args:
            step: steps done.
            figures: of the steps since the last report; without `disc_auc` nothing happens.

        Returns:
            What to print, or None.
        """
        if self._span_end is None:  # a resumed run has a whole span, too
            self._span_end = max(self._first_step, step) + SPAN
        auc = figures.get("disc_auc", math.nan)
        # 0: no token was replaced, or none was kept, so there is nothing to tell apart.
        if step <= self._first_step or not auc > 0:
            return None
        self._aucs.append(auc)
        if step < self._span_end:
            return None
        mean = sum(self._aucs) / len(self._aucs)
        self._aucs, self._span_end = [], step + SPAN
        if mean >= LOWEST_AUC or step < self._next_warning:
            return None
        self._next_warning = 2 * step if not self._next_warning else math.inf
        return self._text(step, mean)

    def _text(self, step: int, auc: float) -> str:
        return (
            f"Warning: the discriminator learns nothing: up to step {step} its AUC is {auc:.3f} "
            f"(.5 is guessing), and the warm-up is over. Most likely {self._cause}."
        )


def discriminator_guard(phase: Phase) -> Callable[[int, Mapping[str, float]], str | None]:
    """Returns the guard of a phase: (step, figures of a report) -> what to print, or None.

    A model that comes from an earlier phase has had its first steps there. Electric has no guard:
    it counts all masked tokens as positives, also those whose sample is right, so that a low AUC
    says little.
    """
    config = phase.config
    if config.electric_objective:
        return lambda step, figures: None
    # With a ramp, from where the discriminator's loss counts in full.
    weights = phase.points("disc_weight")
    heaviest = next(step for step, weight in weights if weight == largest(config.disc_weight))
    first_step = max(
        phase.first_step + config.num_warmup_steps,
        min(FIRST_STEPS, phase.last_step // 2),
        heaviest,
    )
    cause = likeliest_cause(config, config.network(), is_first_phase=phase.first_step == 0)
    return DiscriminatorGuard(first_step, cause)


# Whether a discriminator has learned anything, by the figures of an evaluation.


def replaced_share(figures: Mapping[str, float]) -> float | None:
    """Returns the share of tokens that were replaced, which the evaluation does not state.

    It follows from accuracy a, precision p and recall r at a threshold of .5: the wrong answers
    are the replaced tokens that were missed, (1 - r) s, and the originals that were taken for
    replaced, r s (1 / p - 1). Without any hit (r = 0) all are taken to be missed.

    Returns:
        s in 0..1; None where all answers are right or nothing was measured.
    """
    accuracy, precision, recall = (
        figures.get(name, math.nan) for name in ("disc_accuracy", "disc_precision", "disc_recall")
    )
    per_replaced = 1 - recall + (recall * (1 / precision - 1) if recall and precision else 0)
    if not per_replaced > 0 or not accuracy < 1:
        return None
    return min(1.0, (1 - accuracy) / per_replaced)


def entropy(share: float) -> float:
    """Returns the loss in nats of answering every time with the share of positives."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def learns_nothing(figures: Mapping[str, float]) -> str | None:
    """Says by what a discriminator shows that it has learned nothing.

    Args:
        figures: of an evaluation of ELECTRA (Electric counts other tokens as replaced).

    Returns:
        The reason, or None if it has learned something.
    """
    auc = figures.get("disc_auc", math.nan)
    if not auc >= LOWEST_AUC:
        return f"AUC {auc:.3f} is under {LOWEST_AUC:g} (.5 is guessing)"
    share, loss = replaced_share(figures), figures.get("discriminator_loss", math.nan)
    if share is not None and not loss < entropy(share):
        return (
            f"loss {loss:.4f} is no better than that of always answering with the share of "
            f"replaced tokens, {entropy(share):.4f}"
        )
    return None
