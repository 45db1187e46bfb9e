"""The network that is fine-tuned: a pre-trained encoder and a head for each task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError, first_of
from electra_tf2.loading.pretrained import Pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.randomness import StepRandomness, site_seed
from finetune.task import HeadOutput, Task

# First random site of the heads; the encoder's start at 0.
_HEAD_SITES = 2048
_SHARED = ("input_ids", "input_mask", "segment_ids")


class FinetuningModel(keras.Model):
    """An encoder with a head for each task.

    Args:
        tasks: the tasks.
        network: the encoder's sizes.
        recompute: see `Encoder`.
        dtype: Keras dtype policy.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        network: TransformerConfig,
        *,
        recompute: bool = False,
        dtype: str = "float32",
        **kwargs,
    ):
        super().__init__(autocast=False, dtype=dtype, **kwargs)
        self.encoder = Encoder(network, recompute=recompute, dtype=dtype, name="electra")
        self.task_names = [task.name for task in tasks]
        self.heads = [task.make_head(network, dtype) for task in tasks]

    def build(self, input_shape=None):
        self.encoder.build()
        for head in self.heads:
            head.build((None, None, self.encoder.config.hidden_size))
        self.built = True

    def call(
        self,
        batch: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
        only: str | None = None,
    ) -> dict[str, HeadOutput]:
        """Encodes a batch and applies the heads to all of it.

        Args:
            batch: see `TaskData.batch`.
            training: whether dropout is on; it needs a `seed` then.
            seed: int64 [2].
            only: the one task whose head is applied; None for all.

        Returns:
            Task name -> losses and outputs.
        """
        shared = {name: batch[name] for name in _SHARED}
        states = self.encoder(
            shared["input_ids"],
            shared["input_mask"],
            shared["segment_ids"],
            training=training,
            seed=seed,
        )
        results = {}
        for i, (name, head) in enumerate(zip(self.task_names, self.heads, strict=True)):
            if only not in (None, name):
                continue
            own = {
                key.removeprefix(f"{name}/"): value
                for key, value in batch.items()
                if key.startswith(f"{name}/")
            }
            head_seed = site_seed(seed, _HEAD_SITES + i) if training else None
            results[name] = head(states, {**shared, **own}, training=training, seed=head_seed)
        return results

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable: `electra/…` and `task_specific/<task>/…`."""
        parts = {"electra": self.encoder}
        for name, head in zip(self.task_names, self.heads, strict=True):
            parts[f"task_specific/{name}"] = head
        return {
            f"{scope}/{own_path(part, variable)}": variable
            for scope, part in parts.items()
            for variable in part.trainable_variables
        }

    def official_head_names(self) -> dict[str, str]:
        """Returns name -> name in official checkpoints, of the heads' variables."""
        return {
            f"task_specific/{name}/{ours}": f"task_specific/{name}/{theirs}"
            for name, head in zip(self.task_names, self.heads, strict=True)
            for ours, theirs in head.official_names().items()
        }


def own_path(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """Returns a variable's path below the layer, which is built, that it is part of."""
    return variable.path.removeprefix(f"{layer.path}/")


# The loss of fine-tuning, in the form that the engine trains.


class FinetuningObjective:
    """The sum (not the mean) of the examples' losses, over the batch and over the tasks.

    That is the official program's loss. Gradients are clipped to norm 1, which a sum over a batch
    nearly always exceeds: so in effect every step has the same length.

    Args:
        model: encoder and heads.
    """

    denominator_epsilon = 0.0

    def __init__(self, model: FinetuningModel):
        self.model = model
        self.loss_weights = {f"{name}_loss": 1.0 for name in model.task_names}

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable; see `FinetuningModel.named_variables`."""
        return self.model.named_variables()

    def prepare(
        self, batch: Mapping[str, tf.Tensor], randomness: StepRandomness
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the batch as it is, and denominators that add up to 1 over all replicas."""
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        share = tf.constant(1.0 / replicas)
        return dict(batch), {name: share for name in self.loss_weights}

    def compute(
        self, prepared: Mapping[str, tf.Tensor], randomness: StepRandomness, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs the network.

        Args:
            prepared: rows of a batch.
            randomness: the step's random numbers for these rows.
            training: whether dropout is on.

        Returns:
            `<task>_loss` -> sum of the losses of the task's examples; and the sums behind
            `mean_loss`, the loss per example.
        """
        seed = randomness.dropout_seed() if training else None
        results = self.model(prepared, training=training, seed=seed)
        numerators, count = {}, tf.zeros([])
        for i, (name, result) in enumerate(results.items()):
            own = prepared["task_id"] == i
            # Not a product with 0 or 1: a row of another task may have any loss.
            losses = tf.where(own, result.losses, 0.0)
            numerators[f"{name}_loss"] = tf.reduce_sum(losses)
            count += tf.reduce_sum(tf.cast(own, tf.float32))
        total = tf.add_n(list(numerators.values()))
        return numerators, {"mean_loss": tf.stack([total, count])}

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the loss per example."""
        total, count = sums["mean_loss"]
        return {"mean_loss": float(total / max(count, 1.0))}


# Weights for a network to fine-tune or to evaluate, every variable accounted for.


_SHOWN = 8


def initialize(
    model: FinetuningModel,
    pretrained: Pretrained,
    *,
    need_heads: bool,
    allow_partial: bool,
    say: Callable[[str], None],
    other_heads: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Finds the network's variables in a checkpoint.

    Heads are taken over where the checkpoint has them in the same shape, as when a task is trained
    further; otherwise they stay as they were drawn.

    Args:
        model: the network, built.
        pretrained: the checkpoint.
        need_heads: whether the heads have to be there (nothing is trained).
        other_heads: tasks whose head in the checkpoint is for other labels: not taken over.
        allow_partial: whether parts of the encoder may be missing or of another shape.
        say: prints a line.

    Returns:
        Variable name -> value, of those that were found.

    Raises:
        UserError: the encoder (or a head that is needed) is not all there; lists what is not.
    """
    official = model.official_head_names()
    found, problems = {}, []
    for name, variable in model.named_variables().items():
        array = pretrained.arrays.get(name)
        if array is None:
            array = pretrained.arrays.get(official.get(name, ""))
        if name in official and name.split("/")[1] in other_heads and not need_heads:
            continue
        if array is not None and array.shape == tuple(variable.shape):
            found[name] = array
        elif name not in official or need_heads:
            problems.append(_problem(name, array, tuple(variable.shape)))
    heads = [name for name in official if name not in found]
    if problems and (need_heads or not allow_partial):
        raise _incomplete(pretrained.path, problems, need_heads)
    if problems:
        say(f"Warning: {len(problems)} variables stay random: {first_of(problems, _SHOWN)}")
    say(
        f"Weights from {pretrained.path}: {len(found)} variables"
        + (f"; {len(heads)} variables of task heads start at random" if heads else "")
        + (f"; not used: {first_of(pretrained.left_over, _SHOWN)}" if pretrained.left_over else "")
    )
    return found


def _problem(name: str, array: np.ndarray | None, shape: tuple[int, ...]) -> str:
    return f"{name} is missing" if array is None else f"{name} has shape {array.shape}, not {shape}"


def _incomplete(path: str, problems: list[str], need_heads: bool) -> UserError:
    if need_heads:
        return UserError(
            "The checkpoint can't be evaluated: it lacks parts of the network.",
            where=path,
            received=first_of(problems, _SHOWN),
            remedy="Give a model that was fine-tuned on these tasks, or set do_train to true.",
        )
    count = len(problems)
    return UserError(
        f"The checkpoint lacks {count} of the encoder's variables.",
        where=path,
        received=first_of(problems, _SHOWN),
        remedy="Check the sizes of the model. To start with these at random, set "
        "allow_partial_init to true.",
    )
