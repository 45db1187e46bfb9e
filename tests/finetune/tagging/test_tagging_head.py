"""The tagging head's losses and outputs."""

import numpy as np
import pytest
import tensorflow as tf

from finetune.tagging.head import TaggingHead

HIDDEN, LABELS = 6, 4


@pytest.fixture(scope="module")
def head():
    head = TaggingHead(LABELS, HIDDEN, dtype="float32")
    head.build()
    head.classifier.bias.assign(np.arange(LABELS, dtype=np.float32))
    return head


def _batch(length, states_seed=0):
    """Three examples of 3, 1 and 0 words; the last has no tokens either."""
    states = np.random.default_rng(states_seed).normal(size=(3, 6, HIDDEN)).astype(np.float32)
    padding = np.full((3, length - 6, HIDDEN), 7.0, np.float32)

    def pad(rows, dtype):
        array = np.zeros((3, length), dtype)
        for row, values in zip(array, rows, strict=True):
            row[: len(values)] = values
        return tf.constant(array)

    return tf.constant(np.concatenate([states, padding], 1)), {
        "labels": pad([[3, 0, 2], [1], []], np.int32),
        "labels_mask": pad([[1, 1, 1], [1], []], np.float32),
        "labeled_positions": pad([[1, 2, 4], [1], []], np.int32),
    }


def test_losses_are_summed_over_the_words(head):
    states, features = _batch(6)
    losses, outputs = head(states, features)
    kernel, bias = (np.asarray(v, np.float64) for v in head.classifier.get_weights())
    expected = np.zeros(3)
    for example, position, label in [(0, 1, 3), (0, 2, 0), (0, 4, 2), (1, 1, 1)]:
        logits = states.numpy()[example, position] @ kernel + bias
        expected[example] += np.log(np.exp(logits).sum()) - logits[label]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs["loss"], losses)
    np.testing.assert_allclose(
        outputs["logits"][0, 2], states.numpy()[0, 4] @ kernel + bias, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(outputs["predictions"], np.argmax(outputs["logits"], -1))
    for name in ("labels", "labels_mask"):
        np.testing.assert_array_equal(outputs[name], features[name])


def test_numbers_do_not_depend_on_the_padded_length(head):
    short, long = (head(*_batch(length)) for length in (6, 40))
    np.testing.assert_allclose(short.losses, long.losses, rtol=1e-6)
    np.testing.assert_allclose(
        short.outputs["logits"][:, :3], long.outputs["logits"][:, :3], rtol=1e-6, atol=1e-6
    )


def test_lengths_may_be_unknown_and_gradients_of_empty_rows_are_zero(head):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, HIDDEN]),
            {
                "labels": tf.TensorSpec([None, None], tf.int32),
                "labels_mask": tf.TensorSpec([None, None]),
                "labeled_positions": tf.TensorSpec([None, None], tf.int32),
            },
        ]
    )
    def run(states, features):
        with tf.GradientTape() as tape:
            tape.watch(states)
            losses = head(states, features).losses
        return losses, tape.gradient(losses, states)

    for length in (6, 9):
        losses, gradient = run(*_batch(length))
        np.testing.assert_allclose(losses, head(*_batch(length)).losses, rtol=1e-5)
        assert losses[2] == 0
        assert np.all(gradient[2] == 0) and np.all(gradient[0, 6:] == 0)
        assert np.all(np.isfinite(gradient)) and np.any(gradient[0] != 0)


def test_half_precision_gives_float32_outputs():
    head = TaggingHead(LABELS, HIDDEN, dtype="mixed_bfloat16")
    head.build()
    states, features = _batch(6)
    losses, outputs = head(tf.cast(states, tf.bfloat16), features)
    assert losses.dtype == outputs["logits"].dtype == tf.float32
    assert head.classifier.kernel.dtype == "float32"
    assert head.classifier.compute_dtype == "bfloat16"


def test_official_names_are_those_of_all_variables(head):
    names = head.official_names()
    assert names == {"classifier/kernel": "dense/kernel", "classifier/bias": "dense/bias"}
    assert sorted(names) == sorted(v.path.split("/", 1)[1] for v in head.trainable_variables)
