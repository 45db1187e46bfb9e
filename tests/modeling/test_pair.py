"""The two networks in every variant: names, tying, and what the generators may see."""

import dataclasses

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig, generator_config, transformer_config
from electra_tf2.modeling.electra import build_pair

VOCAB, LENGTH = 40, 7
CONFIG = TransformerConfig(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=8,
    max_position_embeddings=12,
    initializer_range=0.2,
)
IDS = np.random.default_rng(2).integers(5, VOCAB, (2, LENGTH)).astype(np.int32)
POSITIONS = np.array([[1, 4, 4], [6, 0, 2]], np.int32)

ELECTRA = {"electra", "discriminator_predictions"}
SMALL = {"generator", "generator_predictions"}
TOWERS = {"generator_ltr", "generator_rtl", "cloze_predictions"}
# Keyword arguments of build_pair, and the prefixes of the variables' paths.
VARIANTS = {
    "default": ({}, ELECTRA | SMALL),
    "full_size": ({"generator_hidden_size": 1.0}, ELECTRA | SMALL),
    "untied_embeddings": ({"untied_generator_embeddings": True}, ELECTRA | SMALL),
    "tied_generator": ({"untied_generator": False}, ELECTRA | {"generator_predictions"}),
    "uniform": ({"uniform_generator": True}, ELECTRA),
    "two_tower": ({"two_tower_generator": True}, ELECTRA | TOWERS),
    "two_tower_untied_embeddings": (
        {"two_tower_generator": True, "untied_generator_embeddings": True},
        ELECTRA | TOWERS,
    ),
    "masked_lm": ({"with_discriminator": False}, {"electra", "generator_predictions"}),
}


@pytest.fixture(scope="module")
def pairs():
    return {
        name: build_pair(CONFIG, **{"generator_hidden_size": 0.5, **arguments})
        for name, (arguments, _) in VARIANTS.items()
    }


def variables(pair):
    models = [pair.generator] + ([pair.discriminator] if pair.discriminator else [])
    return list({id(v): v for model in models for v in model.trainable_variables}.values())


def table(model):
    """The word embeddings of an encoder."""
    return model.embeddings.word_embeddings


@pytest.mark.parametrize("name", VARIANTS)
def test_paths_are_unique_and_start_as_promised(pairs, name):
    paths = [v.path for v in variables(pairs[name])]
    assert len(set(paths)) == len(paths)
    assert {path.split("/")[0] for path in paths} == VARIANTS[name][1]


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_at_some_positions_and_everywhere(pairs, name):
    generator, discriminator, _ = pairs[name]
    everywhere = generator(IDS).numpy()
    assert everywhere.shape == (2, LENGTH, VOCAB)
    some = generator(IDS, positions=POSITIONS).numpy()
    expected = np.take_along_axis(everywhere, POSITIONS[..., None], axis=1)
    np.testing.assert_allclose(some, expected, atol=1e-5)
    if discriminator is not None:
        assert discriminator(IDS).shape == (2, LENGTH)


def test_the_discriminator_uses_the_encoder_that_is_kept(pairs):
    for pair in pairs.values():
        if pair.discriminator is not None:
            assert pair.discriminator.encoder is pair.encoder
    assert pairs["masked_lm"].discriminator is None
    assert pairs["masked_lm"].generator.encoder is pairs["masked_lm"].encoder
    assert pairs["tied_generator"].generator.encoder is pairs["tied_generator"].encoder
    assert not pairs["uniform"].generator.variables


@pytest.mark.parametrize("name", ["default", "full_size"])
def test_tied_embeddings_are_the_same_layer(pairs, name):
    """All three tables and the LayerNorm; the projections are each tower's own."""
    generator, _, encoder = pairs[name]
    tower = generator.encoder
    assert tower.embeddings is encoder.embeddings
    assert generator.head.embeddings is encoder.embeddings
    assert tower.embeddings_project is not encoder.embeddings_project
    assert not any(path.startswith("generator/embeddings/") for path in paths_of(generator))


def test_two_towers_share_the_embeddings(pairs):
    generator, _, encoder = pairs["two_tower"]
    assert generator.left_to_right.embeddings is encoder.embeddings
    assert generator.right_to_left.embeddings is encoder.embeddings
    assert generator.head.embeddings is encoder.embeddings


def test_untied_embeddings_are_the_generators_own(pairs):
    generator, _, encoder = pairs["untied_embeddings"]
    tower = generator.encoder
    assert table(tower) is not table(encoder)
    assert table(tower).shape == (VOCAB, tower.config.hidden_size)  # no projection
    assert tower.embeddings_project is None
    assert generator.head.embeddings is tower.embeddings
    assert encoder.embeddings.word_embeddings.shape == (VOCAB, CONFIG.embedding_size)
    towers = pairs["two_tower_untied_embeddings"].generator
    assert table(towers.left_to_right) is not table(towers.right_to_left)
    assert towers.head.embeddings is towers.left_to_right.embeddings


def paths_of(model):
    return [v.path for v in model.trainable_variables]


def test_the_output_matrix_is_the_embedding_table(pairs):
    """Without one row of the table, that token's logit, and no other, is its bias."""
    generator = pairs["untied_embeddings"].generator
    generator.head.output_bias.assign(np.arange(VOCAB))
    states = np.ones((1, 1, generator.encoder.config.hidden_size), np.float32)
    before = generator.head(states).numpy()[0, 0]
    rows = table(generator.encoder).numpy()
    table(generator.encoder).assign(np.where(np.arange(VOCAB)[:, None] == 9, 0.0, rows))
    after = generator.head(states).numpy()[0, 0]
    table(generator.encoder).assign(rows)
    generator.head.output_bias.assign(np.zeros(VOCAB))
    np.testing.assert_array_equal(np.nonzero(before != after)[0], [9])
    assert after[9] == 9.0


@pytest.mark.parametrize("name", ["two_tower", "two_tower_untied_embeddings"])
def test_two_towers_never_see_the_token_that_they_predict(pairs, name):
    """Row r differs from the original in token r only."""
    generator = pairs[name].generator
    original = np.repeat(IDS[:1], LENGTH, axis=0)
    changed = original.copy()
    np.fill_diagonal(changed, 5 + (np.diag(changed) - 4) % (VOCAB - 5))
    moved = np.abs(generator(changed) - generator(original)).max(-1)
    inner = moved[1:-1, 1:-1]  # what wraps around concerns the first and last position only
    assert not np.diag(inner).any()
    assert (inner[~np.eye(LENGTH - 2, dtype=bool)] > 1e-6).all()


def test_an_ordinary_generator_sees_all_tokens(pairs):
    generator = pairs["default"].generator
    changed = IDS.copy()
    changed[:, 3] = 5 + (changed[:, 3] - 4) % (VOCAB - 5)
    assert (np.abs(generator(changed) - generator(IDS)).max(-1) > 1e-6).all()


def test_a_uniform_generator_has_no_preference(pairs):
    assert not pairs["uniform"].generator(IDS, positions=POSITIONS).numpy().any()


def test_both_networks_keep_float32_logits_under_mixed_precision():
    pair = build_pair(CONFIG, generator_hidden_size=0.5, dtype="mixed_bfloat16")
    assert pair.generator(IDS, positions=POSITIONS).dtype == "float32"
    assert pair.discriminator(IDS).dtype == "float32"
    assert {v.dtype for v in variables(pair)} == {"float32"}


def test_the_generators_sizes():
    """Width and depth are rounded shares; heads and intermediate size ignore the overrides."""
    small = transformer_config(
        model_size="small", vocab_size=30522, embedding_size=128, overrides={}
    )
    quarter = generator_config(small, hidden_fraction=0.25, layers_fraction=1.0)
    assert (quarter.hidden_size, quarter.num_attention_heads) == (64, 1)
    assert (quarter.intermediate_size, quarter.num_hidden_layers) == (256, 12)
    assert quarter.embedding_size == 128
    base = transformer_config(
        model_size="base", vocab_size=30522, embedding_size=None, overrides={}
    )
    third = generator_config(base, hidden_fraction=1 / 3, layers_fraction=0.5)
    assert (third.hidden_size, third.num_attention_heads) == (256, 4)
    assert (third.intermediate_size, third.num_hidden_layers) == (1024, 6)
    overridden = dataclasses.replace(base, num_attention_heads=2, intermediate_size=5)
    full = generator_config(overridden, hidden_fraction=1.0, layers_fraction=1.0)
    assert (full.num_attention_heads, full.intermediate_size) == (12, 3072)


def test_overrides_of_a_named_size():
    """Heads and intermediate size follow an overridden hidden size; overriding them wins."""
    wide = transformer_config(
        model_size="small",
        vocab_size=100,
        embedding_size=None,
        overrides={"hidden_size": 512, "vocab_size": 90},
    )
    assert (wide.num_attention_heads, wide.intermediate_size) == (8, 2048)
    assert (wide.embedding_size, wide.vocab_size) == (512, 90)
    own = transformer_config(
        model_size="small",
        vocab_size=100,
        embedding_size=64,
        overrides={"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 7},
    )
    assert (own.num_attention_heads, own.intermediate_size, own.embedding_size) == (4, 7, 64)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UserError, match="hidden_size 16, num_attention_heads 3"):
        dataclasses.replace(CONFIG, num_attention_heads=3)
