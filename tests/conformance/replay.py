"""Repeats an official training run, whose learning rate depended on a race.

TF 1.15's program counts up `global_step` without an order between that and reading it: an update
has the learning rate of the step before it or of the step after it, from update to update and from
run to run. Of all the runs that this allows, one has to give the expected losses and weights.
"""

import itertools

import numpy as np
import tensorflow as tf

from electra_tf2.training.loop import StepLoop


class RacySchedule:
    """A schedule whose updates have the rate of their own step (1, as ours) or of the one before.

    Args:
        schedule: the schedule without a race.
        n_steps: number of updates.
    """

    def __init__(self, schedule, n_steps):
        self._schedule = schedule
        self.offsets = tf.Variable(np.ones(n_steps, np.int64))

    def __call__(self, step):
        return self._schedule(step - 1 + self.offsets[step - 1])


def replay(strategy, step, schedule, batches, check):
    """Trains from the optimizer's present weights until `check` is content.

    Args:
        strategy: one device.
        step: a `ReplicaStep`.
        schedule: a `RacySchedule`.
        batches: NumPy batches, one an update.
        check: (losses, offsets) -> None; raises an AssertionError if they are not the expected.

    Raises:
        AssertionError: no run fits; the failure of the run without a race.
    """
    optimizer = step.optimizer
    initial = optimizer.variables.to_numpy()
    empty = optimizer.slots.to_numpy()
    loop = StepLoop(strategy, step.train, schedule, stop_at_nonfinite=True)
    stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
    dataset = tf.data.Dataset.from_tensor_slices(stacked)
    failures = []
    for offsets in itertools.product((1, 0), repeat=len(batches)):
        schedule.offsets.assign(offsets)
        optimizer.variables.assign(initial)
        optimizer.slots.assign(empty)
        iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
        losses = [float(loop(iterator, k, 1).loss) for k in range(len(batches))]
        try:
            check(losses, offsets)
        except AssertionError as failure:
            failures.append(failure)
        else:
            return
    raise failures[0]
