"""The network that is fine-tuned: an encoder with a head for each task, its loss and its rates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.randomness import HEAD_SITES, StepRandomness, site_seed
from finetune.task import MORE_IDS, MORE_MASK, MORE_SEGMENTS, MORE_STATES, HeadOutput, Task

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
        own = {
            name: features_of_task(batch, name) for name in self.task_names if only in (None, name)
        }
        states, features = self._states(own, batch, training, seed)
        results = {}
        for i, (name, head) in enumerate(zip(self.task_names, self.heads, strict=True)):
            if name in own:
                head_seed = site_seed(seed, HEAD_SITES + i) if training else None
                results[name] = head(states, features[name], training=training, seed=head_seed)
        return results

    def teach(self, batch: Mapping[str, tf.Tensor], task: str) -> Mapping[str, tf.Tensor]:
        """Returns a task's outputs for a student to learn from; the batch as in `call`."""
        own = {task: features_of_task(batch, task)}
        states, features = self._states(own, batch)
        return self.heads[self.task_names.index(task)].teach(states, features[task])

    def _states(
        self,
        own: Mapping[str, Mapping[str, tf.Tensor]],
        batch: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, dict[str, Mapping[str, tf.Tensor]]]:
        """Encodes all texts of all examples in one pass.

        Returns the states of the first texts, and each task's features with `MORE_STATES`.
        """
        rows = [[batch[name] for name in _SHARED]]
        several = {name: features for name, features in own.items() if MORE_IDS in features}
        for features in several.values():
            texts = [features[name] for name in (MORE_IDS, MORE_MASK, MORE_SEGMENTS)]
            rows.append([tf.reshape(text, [-1, tf.shape(text)[-1]]) for text in texts])
        joined = rows[0] if len(rows) == 1 else [tf.concat(v, 0) for v in zip(*rows, strict=True)]
        states = self.encoder(*joined, training=training, seed=seed)
        if not several:
            return states, dict(own)
        first, *others = tf.split(states, [tf.shape(part[0])[0] for part in rows])
        width = self.encoder.config.hidden_size
        found = dict(own)
        for (name, features), other in zip(several.items(), others, strict=True):
            shape = [*tf.unstack(tf.shape(features[MORE_IDS])), width]
            found[name] = {**features, MORE_STATES: tf.reshape(other, shape)}
        return first, found

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


def features_of_task(batch: Mapping[str, tf.Tensor], task: str) -> dict[str, tf.Tensor]:
    """Returns the shared features of a batch and a task's own, by the names of its specs."""
    own = {
        key.removeprefix(f"{task}/"): value
        for key, value in batch.items()
        if key.startswith(f"{task}/")
    }
    return {**{name: batch[name] for name in _SHARED}, **own}


def own_path(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """Returns a variable's path below the layer, which is built, that it is part of."""
    return variable.path.removeprefix(f"{layer.path}/")


class Distillation(NamedTuple):
    """How much a student learns from its teacher, see `finetune.run.distillation`.

    Attributes:
        weight: share of the distance from the teacher in the loss.
        temperature: what the logits of both are divided by.
    """

    weight: float
    temperature: float


class FinetuningObjective:
    """The objective: the sum (not the mean) of the losses of a batch's examples, of all tasks.

    That is the official program's loss. Gradients are clipped to norm 1, which a sum over a batch
    nearly always exceeds: so in effect every step has the same length.

    Args:
        model: encoder and heads.
        distillation: how the examples' teacher counts; None if they have none.
    """

    denominator_epsilon = 0.0

    def __init__(self, model: FinetuningModel, distillation: Distillation | None = None):
        self.model = model
        self._distillation = distillation
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
            `mean_loss`, the loss per example, and with a teacher `mean_teacher_loss`, the distance
            from it.
        """
        seed = randomness.dropout_seed() if training else None
        results = self.model(prepared, training=training, seed=seed)
        numerators, count, distances = {}, tf.zeros([]), []
        for i, (name, result) in enumerate(results.items()):
            own = prepared["task_id"] == i
            losses = result.losses
            if self._distillation is not None:
                losses, distance = self._taught(i, result, prepared)
                distances.append(tf.reduce_sum(tf.where(own, distance, 0.0)))
            # Not a product with 0 or 1: a row of another task may have any loss.
            losses = tf.where(own, losses, 0.0)
            numerators[f"{name}_loss"] = tf.reduce_sum(losses)
            count += tf.reduce_sum(tf.cast(own, tf.float32))
        sums = {"mean_loss": tf.stack([tf.add_n(list(numerators.values())), count])}
        if distances:
            sums["mean_teacher_loss"] = tf.stack([tf.add_n(distances), count])
        return numerators, sums

    def _taught(
        self, task: int, result: HeadOutput, prepared: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses with the teacher's share, and the distances; both [batch]."""
        assert self._distillation is not None
        weight, temperature = self._distillation
        features = features_of_task(prepared, self.model.task_names[task])
        distances = self.model.heads[task].soft_losses(result.outputs, features, temperature)
        return (1.0 - weight) * result.losses + weight * distances, distances

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the loss per example, and with a teacher the distance from it."""
        return {name: float(total / max(count, 1.0)) for name, (total, count) in sums.items()}


# Layer-wise learning-rate decay: the nearer to the input, the smaller the learning rate.


_EMBEDDINGS = re.compile(r"electra/(embeddings|embeddings_project)/")
_LAYER = re.compile(r"electra/layer_(\d+)/")
_LAST_LAYER = re.compile(r"electra/(shared_layer|final_layer_norm)/")
_HEAD = re.compile(r"task_specific/")


def learning_rate_factors(
    names: Iterable[str],
    *,
    num_hidden_layers: int,
    decay: float | None,
    scheme: Literal["official", "paper"] = "official",
) -> dict[str, float]:
    """Returns the factor of the learning rate for each variable.

    The factor is decay^(top - depth): embeddings have depth 0, layer i (from 0) has depth i + 1,
    and the task's head has depth `top`. In the paper (arXiv:2003.10555, appendix) the head is one
    step above the last layer, whose factor is then decay; in the official program it is two steps
    above, and the last layer's factor is decay squared. The shared layer of an ALBERT-style encoder
    has the depth of the last layer: no pass then learns faster than in a stack. A LayerNorm that
    follows the last layer has its depth too.

    Args:
        names: of the variables.
        num_hidden_layers: layers of the encoder.
        decay: factor from one layer to the one below; None, 0 or less: no decay.
        scheme: "official" or "paper".

    Returns:
        Variable name -> factor.

    Raises:
        ValueError: a variable belongs to none of these parts.
    """
    names = list(names)
    top = num_hidden_layers + (2 if scheme == "official" else 1)
    depths = {name: _depth(name, num_hidden_layers, top) for name in names}
    if decay is None or decay <= 0:
        return dict.fromkeys(names, 1.0)
    return {name: decay ** (top - depth) for name, depth in depths.items()}


def _depth(name: str, last_layer: int, top: int) -> int:
    if _EMBEDDINGS.match(name):
        return 0
    if layer := _LAYER.match(name):
        return int(layer[1]) + 1
    if _LAST_LAYER.match(name):
        return last_layer
    if _HEAD.match(name):
        return top
    raise ValueError(f"This variable has no place in the decay. Received: {name!r}")
