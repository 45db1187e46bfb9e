"""Counts of operations: the official script's figures, and the products that TensorFlow runs."""

import contextlib
import dataclasses

import numpy as np
import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.compute import (
    PFS_DAY,
    Flops,
    encoder_flops,
    example_flops,
    pretraining_flops,
    replaced_token_head_flops,
    total,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phases import RunCompute
from tests.compute.official_count import forward_flops, training_flops


def network(hidden, layers, *, vocabulary=30522, embedding=None):
    return TransformerConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
        embedding_size=embedding or hidden,
    )


def masked_lm(length, *sizes, share=0.15625, **more):
    return forward_flops(network(*sizes, **more), length, discriminator=False, masked_share=share)


def detector(length, *sizes, **more):
    return forward_flops(network(*sizes, **more), length, discriminator=True)


# Name -> (networks, batch size, steps, what flops_computation.py prints, what the paper's tables
# 1 and 2 say, if it is the same).
PUBLISHED = {
    "GPT": ([masked_lm(512, 768, 12, vocabulary=40000, share=1.0)], 128, 960800,
            3.968752230785352e19, 4.0e19),
    "BERT-Small": ([masked_lm(128, 256, 12, embedding=128)], 128, 1450000,
                   1.4187399146496e18, 1.4e18),
    "BERT-Base": ([masked_lm(512, 768, 12)], 256, 1000000, 6.428335104e19, 6.4e19),
    "BERT-Large": ([masked_lm(512, 1024, 24)], 256, 1000000, 1.91720905883648e20, 1.9e20),
    "ELECTRA-Small": (
        [detector(128, 256, 12, embedding=128), masked_lm(128, 64, 12, embedding=128)],
        128, 1000000, 1.293743798272e18, None),  # the paper says 1.4e18
    "ELECTRA-Base": (
        [detector(512, 768, 12), masked_lm(512, 256, 12, embedding=768)],
        256, 766000, 6.424541834277683e19, 6.4e19),
    "ELECTRA-400K": (
        [detector(512, 1024, 24), masked_lm(512, 256, 24, embedding=1024)],
        2048, 400000, 7.117606040895488e20, 7.1e20),
    "ELECTRA-1.75M": (
        [detector(512, 1024, 24), masked_lm(512, 256, 24, embedding=1024)],
        2048, 1750000, 3.113952642891776e21, 3.1e21),
    "RoBERTa": ([masked_lm(512, 1024, 24, vocabulary=50265)], 8000, 500000,
                3.187221435776e21, 3.2e21),
    "ALBERT": ([masked_lm(512, 4096, 12, vocabulary=30000, embedding=128)], 4096, 1500000,
               3.113923955392512e22, 3.1e22),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_official_script_s_figures(name):
    networks, batch_size, steps, script, paper = PUBLISHED[name]
    found = training_flops(*networks, batch_size=batch_size, steps=steps)
    assert found == pytest.approx(script, rel=1e-12)
    assert paper is None or float(f"{found:.1e}") == paper


@contextlib.contextmanager
def counted_products():
    """Sums 2 m k n over the matrix products that TensorFlow runs, one by one, meanwhile."""
    from tensorflow.python.framework import op_callbacks

    found = [0]

    def note(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        if op_type in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):  # V3 for a single example
            named = dict(zip(attrs[::2], attrs[1::2], strict=True))
            turned = named["transpose_a"] if op_type == "MatMul" else named["adj_x"]
            inner = inputs[0].shape[-2 if turned else -1]
            found[0] += 2 * inner * int(np.prod(outputs[0].shape))

    op_callbacks.add_op_callback(note)
    try:
        yield found
    finally:
        op_callbacks.remove_op_callback(note)


SIZES = TransformerConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=8,
    max_position_embeddings=32,
)
VARIANTS = {
    "electra": {},
    "albert": {"encoder": "albert"},
    "modern": {"encoder": "modern"},
    "modern, without projection": {"encoder": "modern", "embedding_size": 16},
    "modern, in blocks": {"encoder": "modern", "model_hparam_overrides": {"local_attention": 10}},
    "no projection": {"embedding_size": 16},
    "masked LM": {"electra_objective": False},
    "tied": {"untied_generator": False},
    "untied embeddings": {"untied_generator_embeddings": True},
    "embeddings of a width": {"untied_generator_embeddings": True, "generator_embedding_size": 12},
    "uniform": {"uniform_generator": True},
    "two towers": {"two_tower_generator": True},
    "shallow generator": {"generator_layers": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_products_are_those_that_tensorflow_runs(variant):
    import tensorflow as tf

    from electra_tf2.modeling.electra import build_pair

    hparams = {"generator_hidden_size": 0.5, "max_seq_length": 32, **variant}
    config = PretrainingConfig("m", "d", **hparams)
    sizes = {n: v for n, v in variant.items() if n in ("encoder", "embedding_size")}
    shape = dataclasses.replace(SIZES, **sizes, **config.model_hparam_overrides)
    ways = {n: v for n, v in hparams.items() if "generator" in n}
    pair = build_pair(shape, with_discriminator=config.electra_objective, **ways)
    ids = tf.ones([1, 32], tf.int32)
    slots = tf.zeros([1, config.max_predictions_per_seq], tf.int32)
    calls = [lambda: pair.discriminator(ids)] if pair.discriminator else []
    if not config.uniform_generator:
        positions = None if config.two_tower_generator else slots
        calls.append(lambda: pair.generator(ids, positions=positions))
    counted = example_flops(pretraining_flops(config, shape))
    # Without segment ids, no product with one-hot rows.
    towers = 2 if config.two_tower_generator else 1
    embedded = len(calls) + (towers - 1)
    own, width = config.untied_generator_embeddings, config.generator_embedding_size or 8
    segments = 2 * 2 * 32 * (shape.embedding_size * (embedded - own) + width * own)
    if shape.is_modern:
        segments = 0
    with counted_products() as forward, tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(call()) for call in calls)
    assert forward[0] == counted.products - segments
    variables = [v.value for m in (pair.generator, pair.discriminator) if m
                 for v in m.trainable_variables]  # fmt: skip
    with counted_products() as backward:
        tape.gradient(loss, variables)
    assert backward[0] == 2 * forward[0]


def test_forward_and_backward():
    flops = Flops(10.0, 3.0) + Flops(2.0, 1.0) * 2
    assert (flops.forward, flops.backward, flops.training) == (19.0, 33.0, 52.0)
    assert total([flops, flops]) == flops * 2


def test_a_generator_that_is_not_trained_has_no_backward_pass():
    given = {"untied_generator_embeddings": True, "generator_embedding_size": 128}
    trained = PretrainingConfig("m", "d", **given)
    kept = PretrainingConfig("m", "d", **given, train_generator=False, init_generator="x")
    ours, theirs = (pretraining_flops(own, own.network()) for own in (kept, trained))
    assert ours["discriminator"] == theirs["discriminator"]
    generator, before = (total(networks["generator"].values()) for networks in (ours, theirs))
    assert generator.forward == generator.training == before.forward
    assert generator.backward == 0 and generator.training_products == before.products
    example, of_both = example_flops(ours), example_flops(theirs)
    assert of_both.training - example.training == before.backward
    assert of_both.training_products - example.training_products == 2 * before.products
    assert (example * 2).forward == 2 * example.forward == 2 * of_both.forward


def test_small_by_hand():
    """Products of a token in a block: 24 h² for the dense layers and 4 L h for attention."""
    small = network(256, 12, embedding=128)
    parts = encoder_flops(small, 128)
    block = 128 * 12 * (24 * 256**2 + 4 * 128 * 256)
    assert sum(parts[n].products for n in parts if n != "embeddings") == block
    assert parts["embeddings"].products == 128 * 2 * 128 * (256 + 2)
    assert replaced_token_head_flops(small, 128).products == 128 * 2 * (256**2 + 256)
    everything = total(parts.values())
    assert everything.elementwise < 0.05 * everything.products


def test_large_predicts_a_quarter_of_its_tokens():
    large = {"model_size": "large", "max_seq_length": 512}
    quarter = PretrainingConfig("m", "d", mask_prob=0.25, **large)
    less = PretrainingConfig("m", "d", mask_prob=0.15, **large)
    heads = [
        pretraining_flops(config, config.network())["generator"]["head"].products
        for config in (quarter, less)
    ]
    assert heads[0] / heads[1] == pytest.approx(130 / 79)


def test_a_run_of_one_phase():
    config = PretrainingConfig("m", "d", num_train_steps=10, train_batch_size=4)
    run = RunCompute(config, config.network())
    example = example_flops(pretraining_flops(config, config.network())).training
    assert run.flops(0) == 0
    assert run.flops(10) == pytest.approx(40 * example)
    assert run.flops(25) == pytest.approx(100 * example)  # prolonged
    assert run.figures(10)["pfs_days"] == pytest.approx(40 * example / 8.64e19)
    assert PFS_DAY == 8.64e19
    first, generator, discriminator = run.describe()
    assert f"{40 * example:.3g} FLOPs in 10 steps" in first
    shares = [float(line.split("%")[0].split()[-1]) for line in (generator, discriminator)]
    assert sum(shares) == pytest.approx(100, abs=0.11) and shares[0] < 15


def test_a_run_of_two_phases():
    phases = [
        {"num_train_steps": 5, "max_seq_length": 128, "train_batch_size": 8},
        {"num_train_steps": 3, "max_seq_length": 512, "train_batch_size": 2},
    ]
    config = PretrainingConfig("m", "d", phases=phases)
    run = RunCompute(config, config.network())
    short, long = (
        RunCompute(own, own.network()).flops(1)
        for own in (PretrainingConfig("m", "d", **phase) for phase in phases)
    )
    assert run.flops(4) == pytest.approx(4 * short)
    assert run.flops(7) == pytest.approx(5 * short + 2 * long)
    assert run.flops(9) == pytest.approx(5 * short + 4 * long)
