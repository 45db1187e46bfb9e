"""The figures that `fit` and `evaluate` show, kept as sums."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from electra_tf2.pretraining.metrics import AUC_BINS

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
            denominators: likewise.
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
            figures[_AUC] = _area_under_curve(tf.convert_to_tensor(self._ranking))
        return {name: tf.cast(value, tf.float32) for name, value in figures.items()}

    def reset_state(self) -> None:
        """Forgets everything."""
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def _sums(self, shape, name):
        return self.add_variable(shape, "zeros", dtype="float64", name=name)


def _area_under_curve(histograms: tf.Tensor) -> tf.Tensor:
    """`metrics.area_under_curve` inside a graph."""
    negatives, positives = histograms[0], histograms[1]
    below = tf.cumsum(negatives, exclusive=True)
    pairs = tf.reduce_sum(negatives) * tf.reduce_sum(positives)
    area = tf.reduce_sum(positives * (below + 0.5 * negatives))
    return tf.math.divide_no_nan(area, pairs)
