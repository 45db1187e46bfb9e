"""The optimizer that a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.training.lamb import Lamb
from electra_tf2.training.loss_scale import LossScale
from electra_tf2.training.optimizer import AdamW
from electra_tf2.training.replica_optimizer import ReplicaOptimizer

# By their names as hparam `optimizer`.
OPTIMIZERS: dict[str, type[ReplicaOptimizer]] = {"adamw": AdamW, "lamb": Lamb}


def make_optimizer(
    config: Any,
    strategy: tf.distribute.Strategy,
    variables: Mapping[str, keras.Variable],
    learning_rate_factors: Mapping[str, float] | None = None,
) -> ReplicaOptimizer:
    """Builds the optimizer by the hparams, with a loss scale if `precision` is "float16".

    Args:
        config: has `optimizer`, `precision`, `weight_decay_rate`, `max_grad_norm` and the `adam_…`
            constants.
        strategy: the strategy under whose scope the slots are made.
        variables: name -> trainable variable.
        learning_rate_factors: name -> factor of the learning rate; 1 for names not in it.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    return optimizer(
        strategy,
        variables,
        optimizer.settings_type.from_hparams(config),
        learning_rate_factors,
        LossScale(strategy) if config.precision == "float16" else None,
    )
