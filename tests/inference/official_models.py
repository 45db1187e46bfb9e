"""Official checkpoints of tiny networks of every kind, with what the official program computed."""

import functools
from pathlib import Path

import numpy as np

from electra_tf2.loading.source import open_source
from tests.conformance.cases import find_cases

CASES = Path(__file__).parents[1] / "conformance" / "cases"
NAMES = ("electra_train", "electric", "masked_lm", "tied_generator", "untied_embeddings")


@functools.cache
def case(name):
    (found,) = (c for c in find_cases([CASES], "pretrain") if c.name == name)
    return found


@functools.cache
def arrays(name):
    return dict(np.load(case(name).folder / "arrays.npz"))


def folder(name):
    """The folder of the checkpoint that the official figures were computed with."""
    return str(case(name).folder / "init")


def options(name):
    """What the checkpoint itself does not say."""
    heads = case(name).spec["bert_config"]["num_attention_heads"]
    overrides = {"num_attention_heads": heads}
    return {"vocab_file": str(case(name).vocab), "model_hparam_overrides": overrides}


def source(name):
    return open_source(folder(name), **options(name))


def inputs(name, ids):
    """Three tensors for a network: ids of the name given, mask, segments."""
    found = arrays(name)
    return found[ids], found["batch0/input_mask"], found["batch0/segment_ids"]
