"""A compiled training step is one program, and changes weights and moments where they are."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.randomness import seed_keys
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from tests.training.test_replica_step import batch

# Operations that compute nothing when a step runs.
FREE = {"Const", "Placeholder", "Identity", "NoOp"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


class Loop:
    """The training loop of an objective, and the data that it draws from."""

    def __init__(self, objective, *, micro_batches=1, on_failure="stop", jit_compile=True):
        self.strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        self.optimizer = AdamW(
            self.strategy,
            objective.named_variables(),
            OptimizerSettings(bias_correction=True),
        )
        step = ReplicaStep(
            objective,
            self.optimizer,
            micro_batches=micro_batches,
            jit_compile=jit_compile,
        )
        self.loop = StepLoop(
            self.strategy,
            step.train,
            PolynomialDecay(1e-3, 100),
            stop_at_nonfinite=on_failure == "stop",
            jit_compile=jit_compile,
        )
        dataset = tf.data.Dataset.from_tensors(batch()).repeat()
        self.iterator = iter(self.strategy.experimental_distribute_dataset(dataset))

    def graph(self):
        args = (self.iterator, tf.constant(0, tf.int64), tf.constant(1), seed_keys(3))
        return self.loop._many_steps.get_concrete_function(*args).graph.as_graph_def()


def operations(graph):
    """The operations of a loop's body and condition by type, outside of compiled programs, and the
    names of those programs."""
    functions = {f.signature.name: f for f in graph.library.function}
    found, programs = collections.Counter(), []

    def walk(nodes):
        for node in nodes:
            if node.op in CALLS:
                function = functions[node.attr["f"].func.name]
                if function.attr["_XlaMustCompile"].b:
                    programs.append(function.signature.name)
                else:
                    walk(function.node_def)
            elif node.op not in FREE:
                found[node.op] += 1

    (loop,) = (node for node in graph.node if node.op == "While")
    for part in ("cond", "body"):
        walk(functions[loop.attr[part].func.name].node_def)
    return found, programs


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_a_step_is_one_program(objective, micro_batches):
    found, programs = operations(Loop(objective, micro_batches=micro_batches).graph())
    assert len(programs) == 1
    assert sum(found.values()) <= 40, found
    assert not {name for name in found if "Variable" in name}


@pytest.mark.slow
def test_variables_stay_where_they_are(objective):
    """XLA writes the new values into the buffers of the old ones."""
    loop = Loop(objective)
    variables = [*loop.optimizer.variables.variables, *loop.optimizer.slots.variables]

    def addresses():
        return [np.asarray(v.read_value()).__array_interface__["data"][0] for v in variables]

    loop.loop(loop.iterator, 0, 1)
    before, weights = addresses(), loop.optimizer.variables.to_numpy()
    loop.loop(loop.iterator, 1, 2)
    assert addresses() == before
    changed = loop.optimizer.variables.to_numpy()
    assert all((changed[name] != array).any() for name, array in weights.items())


@pytest.fixture(autouse=True)
def the_same_start(objective):
    """The objective's weights as they were, for the next test."""
    variables = objective.named_variables()
    start = {name: variable.numpy() for name, variable in variables.items()}
    yield
    for name, variable in variables.items():
        variable.assign(start[name])


@pytest.mark.slow
def test_a_compiled_run_ends_with_the_same_weights(objective):
    """After 50 steps; a plain run and a compiled one round differently."""
    variables = objective.named_variables()
    start = {name: v.numpy() for name, v in variables.items()}
    ends = []
    for jit_compile in (False, True):
        loop = Loop(objective, jit_compile=jit_compile)
        loop.loop(loop.iterator, 0, 50, seed=3)
        ends.append(loop.optimizer.variables.to_numpy())
        loop.optimizer.variables.assign(start)
    for name, array in ends[0].items():
        if name.endswith("word_embeddings"):
            assert np.abs(array - start[name]).max() > 1e-2
        np.testing.assert_allclose(ends[1][name], array, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("on_failure", ["stop", "skip"])
def test_a_failed_step_changes_nothing(objective, on_failure):
    loop = Loop(objective, on_failure=on_failure)
    bias = objective.named_variables()["discriminator_predictions/dense/bias"]
    kept = bias.numpy()
    bias.assign(kept * np.nan)
    before = {**loop.optimizer.variables.to_numpy(), **loop.optimizer.slots.to_numpy()}
    window = loop.loop(loop.iterator, 0, 5)
    after = {**loop.optimizer.variables.to_numpy(), **loop.optimizer.slots.to_numpy()}
    bias.assign(kept)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert int(window.updates) == 0
    assert int(window.steps) == (1 if on_failure == "stop" else 5)
    assert np.isnan(float(window.last.loss))
