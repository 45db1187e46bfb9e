"""Metrics as sums: what can be added over steps and replicas, and turned into figures at the end.

A ratio is a float32 [2] tensor, (numerator, denominator). A ranking is a float32
[2, AUC_BINS] tensor, the histograms of the scores of negatives and positives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

AUC_BINS = 8192
# Bins are equally wide in asinh(logit / scale): 0.0001 around 0, where untrained logits lie close
# together, and 0.2 % of the logit far from 0. Electric's logits reach far down, as they hold the
# log-probability of the token; beyond the range all count as equal.
_AUC_SCALE = 0.05
_AUC_RANGE = 200.0


def ratio(numerators: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums for a weighted mean: [Σ weight x numerator, Σ weight].

    Args:
        numerators: any shape and type.
        weights: the same shape.

    Returns:
        float32 [2].
    """
    weights = tf.cast(weights, tf.float32)
    total = tf.reduce_sum(tf.cast(numerators, tf.float32) * weights)
    return tf.stack([total, tf.reduce_sum(weights)])


def ranking(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Histograms of logits, from which the area under the ROC curve follows.

    Args:
        logits: float32, any shape.
        labels: 0/1, the same shape.
        weights: 0/1, the same shape; elements of weight 0 do not count.

    Returns:
        float32 [2, AUC_BINS], counts of negatives and of positives.
    """
    half = AUC_BINS / 2
    scaled = half + tf.asinh(logits / _AUC_SCALE) * (half / math.asinh(_AUC_RANGE / _AUC_SCALE))
    bins = tf.cast(tf.clip_by_value(scaled, 0.0, AUC_BINS - 1.0), tf.int32)
    labels = tf.cast(labels, tf.int32)
    counts = tf.math.unsorted_segment_sum(
        tf.reshape(tf.cast(weights, tf.float32), [-1]),
        tf.reshape(bins + AUC_BINS * labels, [-1]),
        2 * AUC_BINS,
    )
    return tf.reshape(counts, [2, AUC_BINS])


def area_under_curve(histograms: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Probability that a positive scores above a negative, ties counting half.

    Args:
        histograms: [2, bins], see `ranking`.

    Returns:
        float64 scalar, the area in 0..1; 0 where one of the classes is missing.
    """
    negatives, positives = tf.unstack(tf.cast(histograms, tf.float64))
    below = tf.cumsum(negatives, exclusive=True)
    pairs = tf.reduce_sum(negatives) * tf.reduce_sum(positives)
    area = tf.reduce_sum(positives * (below + 0.5 * negatives))
    return tf.math.divide_no_nan(area, pairs)


def summarize(sums: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Turns sums into figures.

    Args:
        sums: name -> ratio [2] or ranking [2, AUC_BINS].

    Returns:
        name -> figure; 0/0 is 0.
    """
    figures = {}
    for name, value in sums.items():
        value = np.asarray(value, np.float64)
        if value.ndim == 2:
            figures[name] = float(area_under_curve(value))
        else:
            figures[name] = float(value[0] / value[1]) if value[1] else 0.0
    return figures


# The figures that `fit` and `evaluate` show, kept as sums.


_GENERATOR = ("masked_lm_accuracy", "sampled_masked_lm_accuracy")
_DISCRIMINATOR = ("disc_accuracy", "disc_precision", "disc_recall")
_AUC = "disc_auc"


class FitFigures(keras.metrics.Metric):
    """Means over all batches since the last reset, whatever their sizes, and over all replicas.

    Args:
        loss_weights: loss name -> its weight in the total.
        with_discriminator: whether there are figures of the discriminator.

    Attributes:
        batches: float64 scalar variable, number of updates since the last reset.
    """

    def __init__(self, loss_weights: Mapping[str, float], with_discriminator: bool):
        # float64: counts of tokens soon pass what float32 can hold exactly.
        super().__init__(name="figures", dtype="float64")
        self._loss_weights = dict(loss_weights)
        names = (*loss_weights, *_GENERATOR, *(_DISCRIMINATOR if with_discriminator else ()))
        self._ratios = {name: self._sums((2,), name) for name in names}
        self._ranking = self._sums((2, AUC_BINS), _AUC) if with_discriminator else None
        self.batches = self._sums((), "batches")

    def update_state(
        self,
        numerators: Mapping[str, tf.Tensor],
        denominators: Mapping[str, tf.Tensor],
        sums: Mapping[str, tf.Tensor],
    ) -> None:
        """Adds a batch.

        Args:
            numerators: of the losses, by name.
            denominators: of the losses, by name.
            sums: of the metrics, see `metrics`.
        """
        found = {name: tf.stack([numerators[name], denominators[name]]) for name in numerators}
        found |= sums
        for name, variable in self._ratios.items():
            variable.assign_add(tf.cast(found[name], tf.float64))
        if self._ranking is not None:
            self._ranking.assign_add(tf.cast(found[_AUC], tf.float64))
        self.batches.assign_add(1.0)

    def result(self) -> dict[str, tf.Tensor]:
        """Returns name -> figure, the total loss first."""
        ratios = {
            name: tf.math.divide_no_nan(value[0], value[1])
            for name, value in ((n, tf.convert_to_tensor(v)) for n, v in self._ratios.items())
        }
        loss = sum(weight * ratios[name] for name, weight in self._loss_weights.items())
        figures = {"loss": loss, **ratios}
        if self._ranking is not None:
            figures[_AUC] = area_under_curve(tf.convert_to_tensor(self._ranking))
        return {name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def reset_state(self) -> None:
        """Forgets everything."""
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def _sums(self, shape, name):
        return self.add_variable(shape, "zeros", dtype="float64", name=name)
