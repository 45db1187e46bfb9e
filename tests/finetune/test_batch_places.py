"""Which examples a step of fine-tuning trains on."""

import numpy as np
import pytest

from finetune.batches import Batching, describe_batch, training_dataset
from finetune.features import FeatureTable, TaskData


def table(n, first_eid):
    """Examples of their own lengths; every token is the example's number."""
    rows = [
        {"eid": first_eid + i, "input_ids": np.full(2 + i % 5, first_eid + i)} for i in range(n)
    ]
    return FeatureTable.from_rows([{**row, "segment_ids": row["input_ids"]} for row in rows], [])


@pytest.mark.parametrize("position", [0, 8, 40, 64])  # the last two in later epochs
def test_examples_are_those_of_the_batch(position):
    data = TaskData(["mrpc", "cola"], [table(20, 100), table(9, 500)], [[], []])
    batching = Batching(8, 16)
    dataset = training_dataset(data, batching, seed=4, position=position, num_steps=1)
    (batch,) = dataset.as_numpy_iterator()
    numbers = sorted(set(batch["input_ids"][:, 0]) - {0})  # 0: rows that fill the batch up
    mrpc, cola = [n for n in numbers if n < 500], [n for n in numbers if n >= 500]
    parts = [f"mrpc {', '.join(map(str, mrpc))}"] if mrpc else []
    parts += [f"cola {', '.join(map(str, cola))}"] if cola else []
    said = describe_batch(data, batching, seed=4, position=position)
    assert said == "examples: " + "; ".join(parts)


def test_large_batches_are_shortened():
    data = TaskData(["mrpc"], [table(30, 1)], [[]])
    said = describe_batch(data, Batching(30, 16), seed=0, position=0)
    assert said == f"examples: mrpc {', '.join(map(str, range(1, 17)))} and 14 more"
