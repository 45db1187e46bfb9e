"""Names of variables: whatever a task is called, and apart from those of other tasks."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from finetune.model import FinetuningModel
from finetune.qa.tasks import CustomQATask
from finetune.tagging.tasks import TaggingTask
from tests.finetune.qa.qa_samples import config, tokenizer
from tests.finetune.tagging import tagging_samples

NETWORK = TransformerConfig(
    vocab_size=40,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    embedding_size=8,
    max_position_embeddings=16,
)
LAYERS = ("start", "end", "end_hidden", "answerable", "answerable_hidden")


def expected(*names):
    return {f"task_specific/{n}/{x}/{p}" for n in names for x in LAYERS for p in ("kernel", "bias")}


@pytest.mark.parametrize(
    "names",
    [("start", "end"), ("my task", "fragen_äöü"), ("-x", "electra"), ("qa_head", "kernel")],
)
def test_tasks_of_any_name(names):
    tasks = [CustomQATask(config(), name, tokenizer()) for name in names]
    model = FinetuningModel(tasks, NETWORK)
    model.build()
    variables = model.named_variables()
    heads = {name for name in variables if name.startswith("task_specific/")}
    assert heads == expected(*names) == set(model.official_head_names())
    assert len(variables) == len(model.trainable_variables)
    assert "electra/embeddings/word_embeddings" in variables


@pytest.mark.parametrize("name", ["my task", "fragen_äöü", "-x", "start"])
def test_a_step_of_a_task_of_any_name(name):
    """In a graph Keras makes scopes of layers' names, of which TensorFlow refuses some."""
    model = FinetuningModel([CustomQATask(config(), name, tokenizer())], NETWORK)
    model.build()
    own = ("start_positions", "end_positions", "is_impossible")
    ones, zeros = tf.ones([2, 8], tf.int32), tf.zeros([2], tf.int32)
    batch = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), ones)
    batch |= {f"{name}/{feature}": zeros for feature in own}
    result = tf.function(lambda given: model(given)[name].losses)(batch)
    assert result.shape == (2,) and np.all(np.isfinite(result))


def test_tasks_of_two_kinds(tmp_path):
    tagging_samples.write(tmp_path, train=tagging_samples.TRAIN)
    chunk = TaggingTask(tagging_samples.config(tmp_path), "end", tagging_samples.tokenizer(), False)
    model = FinetuningModel([CustomQATask(config(), "start", tokenizer()), chunk], NETWORK)
    model.build()
    heads = {name for name in model.named_variables() if name.startswith("task_specific/")}
    own = {"task_specific/end/classifier/kernel", "task_specific/end/classifier/bias"}
    assert heads == expected("start") | own
