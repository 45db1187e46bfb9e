"""The heads' outputs and losses."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from finetune.classification.regression import RegressionHead
from finetune.classification.tasks import ClassificationHead

WIDTH = 8


def make_states(dtype=tf.float32, length=5):
    states = tf.random.stateless_normal([3, length, WIDTH], seed=[1, 2])
    return tf.cast(states, dtype)


def make_head(kind=ClassificationHead, dtype="float32", dropout_prob=0.5):
    args = (4, dropout_prob) if kind is ClassificationHead else (dropout_prob,)
    head = kind(*args, dtype=dtype)
    head.build((None, None, WIDTH))
    return head


def weights_of(head):
    return {variable.path.split("/", 1)[1]: variable.numpy() for variable in head.variables}


def test_logits_and_cross_entropy():
    head = make_head()
    head.classifier.bias.assign([0.5, -1.0, 2.0, 0.0])
    label_ids = tf.constant([3, 0, 1])
    losses, outputs = head(make_states(), {"label_ids": label_ids})
    weights = weights_of(head)
    expected = make_states()[:, 0].numpy() @ weights["classifier/kernel"]
    expected += weights["classifier/bias"]
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-5)
    wanted = -log_softmax(expected, axis=-1)[np.arange(3), label_ids.numpy()]
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    np.testing.assert_array_equal(outputs["predictions"], expected.argmax(-1))
    np.testing.assert_array_equal(outputs["label_ids"], label_ids)
    np.testing.assert_array_equal(outputs["loss"], losses)


def test_scores_and_squared_error():
    head = make_head(RegressionHead)
    head.classifier.bias.assign([0.5])
    targets = tf.constant([0.0, 0.5, 1.0])
    losses, outputs = head(make_states(), {"targets": targets})
    expected = (make_states()[:, 0].numpy() @ weights_of(head)["classifier/kernel"])[:, 0] + 0.5
    np.testing.assert_allclose(outputs["predictions"], expected, rtol=1e-5)
    np.testing.assert_allclose(losses, (expected - targets) ** 2, rtol=1e-4)
    np.testing.assert_array_equal(outputs["targets"], targets)
    assert set(outputs) == {"loss", "predictions", "targets"}


@pytest.mark.parametrize("kind", [ClassificationHead, RegressionHead])
def test_official_names_cover_the_variables(kind):
    head = make_head(kind)
    assert set(head.official_names()) == set(weights_of(head))
    assert set(head.official_names().values()) == {"dense/kernel", "dense/bias"}
    assert not weights_of(head)["classifier/bias"].any()


@pytest.mark.parametrize("kind", [ClassificationHead, RegressionHead])
def test_dropout_in_training_only(kind):
    head = make_head(kind)
    features = {"label_ids": tf.zeros(3, tf.int32), "targets": tf.zeros(3)}
    seed = tf.constant([3, 4], tf.int64)

    def losses(**kwargs):
        return head(make_states(), features, **kwargs).losses.numpy()

    plain = losses()
    np.testing.assert_array_equal(losses(training=False, seed=seed), plain)
    np.testing.assert_array_equal(losses(training=True), plain)
    assert not np.allclose(losses(training=True, seed=seed), plain)
    np.testing.assert_array_equal(
        losses(training=True, seed=seed), losses(training=True, seed=seed)
    )


def test_dropout_keeps_the_expected_state():
    head = make_head(dropout_prob=0.1)
    head.classifier.kernel.assign(tf.ones([WIDTH, 4]))
    seed = tf.constant([3, 4], tf.int64)
    states = tf.ones([20000, 1, WIDTH])
    outputs = head(
        states, {"label_ids": tf.zeros(20000, tf.int32)}, training=True, seed=seed
    ).outputs
    np.testing.assert_allclose(np.mean(outputs["logits"]), WIDTH, rtol=0.01)


@pytest.mark.parametrize("kind", [ClassificationHead, RegressionHead])
def test_bfloat16_states_give_float32_results(kind):
    head = make_head(kind, dtype="mixed_bfloat16")
    features = {"label_ids": tf.zeros(3, tf.int32), "targets": tf.zeros(3)}
    states = make_states(tf.bfloat16)
    losses, outputs = head(states, features)
    assert losses.dtype == tf.float32
    expected = tf.cast(states[:, 0], tf.float32) @ head.classifier.kernel
    name = "logits" if kind is ClassificationHead else "predictions"
    np.testing.assert_allclose(
        outputs[name], np.squeeze(expected), rtol=1e-5, err_msg="not rounded to bfloat16"
    )


def test_any_length_and_batch_in_one_graph():
    head = make_head()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, WIDTH], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def run(states, label_ids):
        return head(states, {"label_ids": label_ids}).losses

    longer = tf.concat([make_states(), tf.ones([3, 7, WIDTH])], axis=1)
    np.testing.assert_array_equal(
        run(make_states(), tf.zeros(3, tf.int32)), run(longer, tf.zeros(3, tf.int32))
    )
    assert run(make_states()[:1], tf.zeros(1, tf.int32)).shape == [1]
