"""The head: losses, joint prediction, options, and independence of the padding."""

import math
import types

import numpy as np
import pytest
import tensorflow as tf

from finetune.qa.head import QAHead
from tests.finetune.qa.qa_samples import config

WIDTH = 6
BEAMS = ("start_top_log_probs", "start_top_index", "end_top_log_probs", "end_top_index")


def make_head(dtype="float32", **options):
    head = QAHead(config(**options), types.SimpleNamespace(hidden_size=WIDTH), dtype=dtype)
    head.build()
    rng = np.random.default_rng(0)
    for variable in head.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * (0.1 if "hidden" in variable.path else 1))
    return head


def make_batch(lengths=(9, 12, 5), question=4, padded=12, seed=1):
    """States and features; passage and closing [SEP] are what follows `question` tokens."""
    rng = np.random.default_rng(seed)
    longest = max(lengths)
    states = np.zeros((len(lengths), padded, WIDTH), np.float32)
    states[:, :longest] = rng.normal(size=(len(lengths), longest, WIDTH))
    place = np.arange(padded)
    input_mask = (place < np.array(lengths)[:, None]).astype(np.int32)
    features = {
        "input_mask": input_mask,
        "segment_ids": input_mask * (place >= question).astype(np.int32),
        "start_positions": np.array([4, 0, 0], np.int32)[: len(lengths)],
        "end_positions": np.array([6, 0, 0], np.int32)[: len(lengths)],
        "is_impossible": np.array([0, 1, 0], np.int32)[: len(lengths)],
    }
    return tf.constant(states), {name: tf.constant(value) for name, value in features.items()}


def dense(variables, layer, inputs):
    return inputs @ variables[f"{layer}/kernel"] + variables[f"{layer}/bias"]


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def reference(head, states, features, training):
    """The head as behaviour.md and its source describe it, with every concatenation made."""
    options = head.config
    values = {v.path.split("/", 1)[1]: v.numpy().astype(np.float64) for v in head.variables}
    states = states.numpy().astype(np.float64)
    features = {name: value.numpy() for name, value in features.items()}
    batch, length, width = states.shape
    rows = np.arange(batch)
    mask = (features["input_mask"] * features["segment_ids"]).astype(float)
    mask[:, 0] += 1
    mask = 1000.0 * (mask - 1)
    start_logits = dense(values, "start", states)[..., 0] + mask

    def ends_given(first):
        """first: [batch, width]."""
        both = np.concatenate([np.repeat(first[:, None], length, 1), states], -1)
        return dense(values, "end", gelu(dense(values, "end_hidden", both)))[..., 0] + mask

    out = {"start_logits": start_logits}
    if not options.joint_prediction:
        out["end_logits"] = dense(values, "end", states)[..., 0] + mask
    elif training:
        out["end_logits"] = ends_given(states[rows, features["start_positions"]])
    else:
        out["end_logits"] = np.zeros((batch, length))
        log_probs = log_softmax(start_logits)
        k = min(options.beam_size, length)
        starts = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
        out["start_top_index"] = starts
        out["start_top_log_probs"] = np.take_along_axis(log_probs, starts, 1)
        given = np.stack([log_softmax(ends_given(states[rows, s])) for s in starts.T], 1)
        ends = np.argsort(-given, axis=2, kind="stable")[:, :, :k]
        out["end_top_index"], out["end_top_log_probs"] = ends, np.take_along_axis(given, ends, 2)
    start_loss = -log_softmax(start_logits)[rows, features["start_positions"]]
    end_loss = -log_softmax(out["end_logits"])[rows, features["end_positions"]]
    if options.joint_prediction and not training:
        end_loss = np.full(batch, math.log(options.max_seq_length))
    loss = (start_loss + end_loss) / 2
    out["answerable_logit"] = np.zeros(batch)
    if options.answerable_classifier:
        summary = states[:, 0]
        if options.answerable_uses_start_logits:
            weights = np.exp(log_softmax(start_logits))
            summary = np.concatenate([summary, (weights[..., None] * states).sum(1)], -1)
            summary = gelu(dense(values, "answerable_hidden", summary))
        logit = dense(values, "answerable", summary)[:, 0]
        out["answerable_logit"] = logit
        truth = features["is_impossible"]
        loss += options.answerable_weight * (np.log1p(np.exp(logit)) - truth * logit)
    return {**out, "loss": loss}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"joint_prediction": False},
        {"answerable_uses_start_logits": False},
        {"answerable_classifier": False},
        {"joint_prediction": False, "answerable_classifier": False},
        {"answerable_weight": 2.0, "beam_size": 3},
    ],
    ids=str,
)
def test_all_options_against_plain_numpy(options, training):
    head = make_head(**options)
    states, features = make_batch()
    found = head(states, features, training=training)
    expected = reference(head, states, features, training)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found.outputs[name], value, rtol=1e-5, atol=2e-4 if "end_top" in name else 1e-5,
            err_msg=name,
        )  # fmt: skip
    np.testing.assert_array_equal(found.losses, found.outputs["loss"])
    assert found.losses.dtype == tf.float32
    if options.get("joint_prediction", True):
        assert set(BEAMS) <= set(found.outputs) or training
    elif not training:
        for name in BEAMS:
            assert not np.any(found.outputs[name])


def test_official_names():
    head = {"start/kernel": "dense/kernel", "start/bias": "dense/bias"}
    all_options = make_head()
    assert all_options.official_names() == {
        **head,
        "end_hidden/kernel": "qa_hidden/kernel",
        "end_hidden/bias": "qa_hidden/bias",
        "end/kernel": "dense_1/kernel",
        "end/bias": "dense_1/bias",
        "answerable_hidden/kernel": "dense_2/kernel",
        "answerable_hidden/bias": "dense_2/bias",
        "answerable/kernel": "dense_3/kernel",
        "answerable/bias": "dense_3/bias",
    }
    simple = make_head(joint_prediction=False, answerable_uses_start_logits=False)
    assert simple.official_names()["end/kernel"] == "dense_1/kernel"
    assert simple.official_names()["answerable/kernel"] == "dense_2/kernel"
    assert "end_hidden/kernel" not in simple.official_names()
    for made in (all_options, simple, make_head(answerable_classifier=False)):
        own = {variable.path.split("/", 1)[1] for variable in made.trainable_variables}
        assert own == set(made.official_names())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_numbers_do_not_depend_on_the_padded_length(training, joint):
    head = make_head(joint_prediction=joint)
    short = head(*make_batch(padded=12), training=training).outputs
    long = head(*make_batch(padded=40), training=training).outputs
    np.testing.assert_allclose(short["loss"], long["loss"], rtol=1e-6)
    np.testing.assert_allclose(short["answerable_logit"], long["answerable_logit"], rtol=1e-6)
    np.testing.assert_allclose(short["start_logits"], long["start_logits"][:, :12], rtol=1e-6)
    if joint and not training:
        assert short["loss"][1] > math.log(head.config.max_seq_length) / 2
        # Rows of 9 and 12 tokens have at least five places an answer may start at: a beam of 4.
        for name in BEAMS:
            np.testing.assert_allclose(short[name][:2], long[name][:2], rtol=1e-5, atol=1e-4)


def test_a_beam_wider_than_the_batch_is_long():
    head = make_head(beam_size=20)
    short = head(*make_batch(padded=12)).outputs
    long = head(*make_batch(padded=40)).outputs
    for outputs in (short, long):
        assert outputs["start_top_index"].shape == (3, 20)
        assert outputs["end_top_index"].shape == (3, 20, 20)
    np.testing.assert_array_equal(short["start_top_index"][:, 12:], 0)
    np.testing.assert_array_equal(short["end_top_index"][:, :, 12:], 0)
    assert np.max(short["start_top_log_probs"][:, 12:]) <= -1000
    assert np.max(short["end_top_log_probs"][:, :, 12:]) <= -1000
    # The places that an answer may take come first, in the same order: of row 1 [CLS] and 4 to 11.
    np.testing.assert_array_equal(short["start_top_index"][1, :9], long["start_top_index"][1, :9])
    assert sorted(short["start_top_index"][1, :9].numpy()) == [0, *range(4, 12)]


def test_no_integers_of_32_bits_are_transposed():
    """TensorFlow prints an error about them on processors without AVX-512."""
    head, (states, features) = make_head(), make_batch()
    search = tf.function(lambda: head(states, features).outputs["end_top_index"])
    graph = search.get_concrete_function().graph
    transposed = [op.outputs[0].dtype for op in graph.get_operations() if op.type == "Transpose"]
    assert transposed and tf.int32 not in transposed
    assert search().dtype == tf.int32


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_rows_without_example_are_finite(joint, training):
    head = make_head(joint_prediction=joint)
    features = {name: tf.zeros_like(value) for name, value in make_batch()[1].items()}
    for states in (tf.zeros([3, 12, WIDTH]), make_batch()[0]):
        with tf.GradientTape() as tape:
            found = head(states, features, training=training)
            total = tf.reduce_sum(found.losses)
        for value in found.outputs.values():
            assert np.all(np.isfinite(np.asarray(value, np.float64)))
        for gradient in tape.gradient(total, head.trainable_variables):
            assert gradient is None or np.all(np.isfinite(gradient))


def test_training_sees_every_variable():
    head = make_head()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(head(*make_batch(), training=True).losses)
    for variable, gradient in zip(
        head.trainable_variables, tape.gradient(total, head.trainable_variables), strict=True
    ):
        # The bias of a softmax's logits changes nothing.
        if variable.path.split("/", 1)[1] not in ("start/bias", "end/bias"):
            assert np.abs(gradient).max() > 1e-6, variable.path


def test_unknown_batch_and_length_in_bfloat16_and_under_xla():
    plain = make_head()(*make_batch()).outputs
    head = make_head("mixed_bfloat16")
    step = tf.function(
        lambda states, features: head(states, features).outputs,
        input_signature=(
            tf.TensorSpec([None, None, WIDTH], tf.bfloat16),
            {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for name, v in _unknown().items()},
        ),
        jit_compile=True,
    )
    for padded in (12, 16):
        states, features = make_batch(padded=padded)
        found = step(tf.cast(states, tf.bfloat16), features)
        for name, value in found.items():
            assert value.dtype in (tf.float32, tf.int32)
            if "index" not in name and "end_logits" not in name:
                n = min(value.shape[-1], plain[name].shape[-1])
                np.testing.assert_allclose(
                    value[..., :n], plain[name][..., :n], rtol=0.02, atol=0.1, err_msg=name
                )


def _unknown():
    features = make_batch()[1]
    return {
        name: tf.TensorSpec([None, None] if len(value.shape) == 2 else [None], value.dtype)
        for name, value in features.items()
    }
