"""TF_CONFIG: what is understood, and what is refused."""

import json

import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.workers import VARIABLE, Cluster, read_cluster

HOSTS = ["a:1", "b:2", "[::1]:3"]


def config(cluster=None, task=None):
    return json.dumps(
        {
            "cluster": {"worker": HOSTS} if cluster is None else cluster,
            "task": {"type": "worker", "index": 1} if task is None else task,
        }
    )


def test_workers():
    assert read_cluster({VARIABLE: config()}) == Cluster(tuple(HOSTS), 1)
    assert not read_cluster({VARIABLE: config()}).is_chief
    assert read_cluster({VARIABLE: config(task={"type": "worker", "index": 0})}).is_chief


def test_a_chief_comes_first():
    cluster = {"worker": HOSTS, "chief": ["c:4"]}
    assert read_cluster({VARIABLE: config(cluster)}) == Cluster(("c:4", *HOSTS), 2)
    chief = read_cluster({VARIABLE: config(cluster, {"type": "chief", "index": 0})})
    assert chief.is_chief


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "no such environment variable"),
        ("{cluster", "no JSON, "),
        ("[]", 'no object "cluster"'),
        (json.dumps({"cluster": {"worker": HOSTS}}), 'no object "task"'),
        (config({}), '"cluster" without a "worker"'),
        (config({"worker": HOSTS, "ps": ["d:5"]}), '"cluster" has ps'),
        (config({"worker": "a:1,b:2"}), "\"worker\" is 'a:1,b:2'"),
        (config({"worker": ["a"]}), "'a' in \"worker\""),
        (config({"worker": ["a:70000"]}), "'a:70000' in \"worker\""),
        (config({"worker": [["a", 1]]}), "['a', 1] in \"worker\""),
        (config({"worker": ["a:1", "a:1"]}), "a:1 twice"),
        (config({"worker": HOSTS, "chief": ["c:4", "d:5"]}), '2 addresses in "chief"'),
        (config(task={"index": 1}), '"task" has type None'),
        (config(task={"type": "evaluator", "index": 0}), "\"task\" has type 'evaluator'"),
        (config(task={"type": "worker", "index": 3}), 'index 3; "cluster" has 3 of type worker'),
        (config(task={"type": "worker", "index": "1"}), "index '1'"),
        (config(task={"type": "worker", "index": True}), "index True"),
        (config(task={"type": "chief", "index": 0}), '"cluster" has 0 of type chief'),
    ],
)
def test_refused(text, said):
    with pytest.raises(UserError) as info:
        read_cluster({VARIABLE: text})
    assert said in info.value.received
    assert info.value.where == "environment variable TF_CONFIG"
    assert 'TF_CONFIG=\'{"cluster"' in info.value.remedy
