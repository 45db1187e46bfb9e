"""The network that is fine-tuned, an encoder with a head for each task, and its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.randomness import HEAD_SITES, StepRandomness, site_seed
from finetune.task import HeadOutput, Task

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
            head_seed = site_seed(seed, HEAD_SITES + i) if training else None
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


class FinetuningObjective:
    """The objective: the sum (not the mean) of the losses of a batch's examples, of all tasks.

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
