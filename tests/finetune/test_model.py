"""The network and its loss: names of variables, and losses that depend on the example alone."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.randomness import StepRandomness
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from finetune.feature_tables import NO_ROW, TaskData
from finetune.features import Preprocessor
from finetune.model import FinetuningModel, FinetuningObjective
from finetune.qa.tasks import SQuADTask
from finetune.tagging.tasks import TaggingTask
from finetune.task_builder import get_tasks
from tests.finetune import tiny_tasks
from tests.finetune.qa import qa_samples
from tests.finetune.tagging import tagging_samples

WITHOUT_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": tiny_tasks.POSITIONS,
}
ALL = ["marks", "cola", "chunk", "squad"]
SMALL = TransformerConfig(
    vocab_size=40,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    embedding_size=8,
    max_position_embeddings=16,
)
LAYERS = ("start", "end", "end_hidden", "answerable", "answerable_hidden")


def make(data_dir, names, seed=0):
    """(model, training data) of some tasks, without dropout."""
    config = tiny_tasks.configure(
        data_dir,
        task_names=names,
        head_dropout_prob=0.0,
        model_hparam_overrides=WITHOUT_DROPOUT,
        embedding_size=8,
        vocab_size=tiny_tasks.NETWORK.vocab_size,
        double_unordered=False,
    )
    tasks = get_tasks(config, make_tokenizer(load_vocabulary(str(data_dir / "vocab.txt"))))
    tf.keras.utils.set_random_seed(seed)
    model = FinetuningModel(tasks, config.network())
    model.build()
    preprocessor = Preprocessor(config)
    tables = [preprocessor.make(task, task.get_examples("train"), "train") for task in tasks]
    return model, TaskData(names, tables, [task.get_feature_specs() for task in tasks])


def loss_and_gradients(model, batch, training=True):
    objective = FinetuningObjective(model)
    randomness = StepRandomness(0, tf.constant(0, tf.int64), tf.constant(0, tf.int64), 0)
    variables = model.named_variables()
    values = [v.value for v in variables.values()]
    with tf.GradientTape() as tape:
        numerators, _ = objective.compute(batch, randomness, training)
        loss = tf.add_n(list(numerators.values()))
    gradients = tape.gradient(loss, values, unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    return numerators, dict(zip(variables, gradients, strict=True))


def assert_same(one, other):
    (losses, gradients), (other_losses, other_gradients) = one, other
    for name in losses:
        np.testing.assert_allclose(losses[name], other_losses[name], rtol=1e-5)
    scale = max(np.abs(g).max() for g in gradients.values())
    for name in gradients:
        difference = np.abs(gradients[name] - other_gradients[name]).max()
        assert difference <= 1e-5 * scale, name


@pytest.mark.parametrize("name", ALL)
def test_a_short_batch_is_worth_the_same_as_at_full_length(tiny_finetuning, name):
    model, data = make(tiny_finetuning, [name])
    rows = np.argsort(data.lengths, kind="stable")[:6]
    longest = int(data.lengths[rows].max())
    short, full = (data.batch(rows, length) for length in (longest, tiny_tasks.POSITIONS))
    assert longest < tiny_tasks.POSITIONS
    ours = loss_and_gradients(model, short)
    assert max(np.abs(g).max() for g in ours[1].values()) > 1e-3
    assert_same(ours, loss_and_gradients(model, full))


def test_rows_without_an_example_carry_no_loss(tiny_finetuning):
    model, data = make(tiny_finetuning, ALL)
    rows = np.arange(0, data.num_rows, 9)
    filled = np.concatenate([rows, [NO_ROW] * 3])
    one, other = (loss_and_gradients(model, data.batch(r, 40)) for r in (rows, filled))
    assert_same(one, other)


def test_tasks_together_add_up(tiny_finetuning):
    """Each task's examples have the loss that they have without the other tasks' examples."""
    model, data = make(tiny_finetuning, ALL)
    first = np.cumsum([0, *(table.num_rows for table in data.tables)])
    together = np.concatenate([np.arange(start, start + 3) for start in first[:-1]])
    losses, _ = loss_and_gradients(model, data.batch(together, 40))
    assert list(losses) == [f"{name}_loss" for name in ALL]
    for name, start in zip(ALL, first[:-1], strict=True):
        alone, _ = loss_and_gradients(model, data.batch(np.arange(start, start + 3), 40))
        np.testing.assert_allclose(losses[f"{name}_loss"], alone[f"{name}_loss"], rtol=1e-5)
        assert float(alone[f"{name}_loss"]) > 0
        assert sum(float(loss) for loss in alone.values()) == float(alone[f"{name}_loss"])


def expected(*names):
    return {f"task_specific/{n}/{x}/{p}" for n in names for x in LAYERS for p in ("kernel", "bias")}


@pytest.mark.parametrize(
    "names",
    [("start", "end"), ("my task", "fragen_äöü"), ("-x", "electra"), ("qa_head", "kernel")],
)
def test_tasks_of_any_name(names):
    tasks = [SQuADTask(qa_samples.config(), name, qa_samples.tokenizer()) for name in names]
    model = FinetuningModel(tasks, SMALL)
    model.build()
    variables = model.named_variables()
    heads = {name for name in variables if name.startswith("task_specific/")}
    assert heads == expected(*names) == set(model.official_head_names())
    assert len(variables) == len(model.trainable_variables)
    assert "electra/embeddings/word_embeddings" in variables


@pytest.mark.parametrize("name", ["my task", "fragen_äöü", "-x", "start"])
def test_a_graph_of_a_task_of_any_name(name):
    """In a graph Keras makes scopes of layers' names, of which TensorFlow refuses some."""
    model = FinetuningModel([SQuADTask(qa_samples.config(), name, qa_samples.tokenizer())], SMALL)
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
    model = FinetuningModel(
        [SQuADTask(qa_samples.config(), "start", qa_samples.tokenizer()), chunk], SMALL
    )
    model.build()
    heads = {name for name in model.named_variables() if name.startswith("task_specific/")}
    own = {"task_specific/end/classifier/kernel", "task_specific/end/classifier/bias"}
    assert heads == expected("start") | own
