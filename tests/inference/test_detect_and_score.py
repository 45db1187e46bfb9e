"""Replaced tokens, filled masks, and the likelihood of texts."""

import numpy as np
import pytest
import tensorflow as tf

import electra_tf2
from electra_tf2.loading.networks import log_noise
from tests.inference import official_models as official

TEXTS = ["The river  crossed a town!", "", "an old market in Zürich"]


def open_model(kind, name):
    return kind.from_pretrained(official.folder(name), **official.options(name))


@pytest.fixture(scope="module")
def discriminator():
    return open_model(electra_tf2.Discriminator, "electra_train")


@pytest.fixture(scope="module")
def electric():
    return open_model(electra_tf2.Discriminator, "electric")


@pytest.fixture(scope="module")
def generator():
    return open_model(electra_tf2.Generator, "electra_train")


def row(model, ids):
    vocabulary = model.tokenizer.vocabulary
    return np.array([[vocabulary.cls_id, *ids, vocabulary.sep_id]], np.int32)


def features(ids):
    return {"input_ids": ids, "input_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}


def test_detect(discriminator):
    for text, found in zip(TEXTS, discriminator.detect(TEXTS, batch_size=2), strict=True):
        ids = discriminator.tokenizer.encode(text)
        assert found.tokens == discriminator.tokenizer.tokenize(text)
        logits = discriminator.network(row(discriminator, ids)).numpy()[0, 1:-1]
        np.testing.assert_allclose(found.probabilities, tf.sigmoid(logits), atol=1e-5)
        plain = text.lower().replace("ü", "u")
        for token, (start, end) in zip(found.tokens, found.offsets, strict=True):
            assert token in ("[UNK]", plain[start:end], f"##{plain[start:end]}")


def test_detect_judges_what_fits(discriminator):
    (found,) = discriminator.detect(["the river"], max_length=5)
    assert len(found.tokens) == len(discriminator.tokenizer.tokenize("the river")[:3])
    (found,) = discriminator.detect(["the river " * 90])
    assert len(found.tokens) == 62
    assert discriminator.detect([]) == []
    with pytest.raises(TypeError, match=r"texts\[0\]"):
        discriminator.detect([("a", "pair")])


def test_electric_detects_with_its_noise(electric):
    (found,) = electric.detect(TEXTS[:1])
    batch = features(row(electric, electric.tokenizer.encode(TEXTS[0])))
    logits = electric.network(**batch) + log_noise(electric.noise, batch)
    np.testing.assert_allclose(
        found.probabilities, tf.sigmoid(logits)[0, 1:-1], rtol=1e-4, atol=1e-6
    )


def test_electric_score(electric):
    for text, found in zip(TEXTS, electric.score(TEXTS), strict=True):
        ids = electric.tokenizer.encode(text)
        energies = electric.network(row(electric, ids)).numpy()[0, 1:-1]
        assert found.tokens == electric.tokenizer.tokenize(text)
        np.testing.assert_allclose(found.token_scores, -energies, atol=1e-4)
        assert found.score == pytest.approx(-energies.sum(), abs=1e-3)
    assert electric.score([]) == []


def test_only_electric_scores_in_one_pass(discriminator, electric):
    with pytest.raises(ValueError, match="gives no likelihoods"):
        discriminator.score(TEXTS)
    with pytest.raises(ValueError, match=r"texts\[1\] is too long"):
        electric.score(["short", "the river " * 90])


def test_fill_mask(generator):
    vocabulary = generator.tokenizer.vocabulary
    places = generator.fill_mask("The [MASK] crossed [MASK]s.", top_k=3)
    ids = [
        *generator.tokenizer.encode("The "),
        vocabulary.mask_id,
        *generator.tokenizer.encode(" crossed "),
        vocabulary.mask_id,
        *generator.tokenizer.encode("s."),
    ]
    logits = generator.network(row(generator, ids)).numpy()[0]
    assert len(places) == 2
    for place, candidates in zip(np.flatnonzero(np.array(ids) == vocabulary.mask_id) + 1, places,
                                 strict=True):  # fmt: skip
        probabilities = tf.nn.softmax(logits[place]).numpy()
        assert [c.id for c in candidates] == np.argsort(-probabilities)[:3].tolist()
        assert [c.token for c in candidates] == [vocabulary.tokens[c.id] for c in candidates]
        expected = np.sort(probabilities)[::-1][:3]
        np.testing.assert_allclose([c.probability for c in candidates], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "text, top_k, where",
    [
        ("no mask, nor [mask]", 5, "text"),
        ("river " * 90 + "[MASK]", 5, "text"),
        ("river " * 90, 5, r"text 'river river .{80,90}\.$"),
        (["[MASK]"], 5, "text"),
        ("[MASK]", 0, "top_k"),
        ("[MASK]", 486, "top_k"),
    ],
)
def test_nothing_to_fill(generator, text, top_k, where):
    with pytest.raises((TypeError, ValueError), match=where):
        generator.fill_mask(text, top_k)


def test_a_mask_before_the_end_of_a_long_text_is_filled(generator, caplog):
    """The text is cut as in training: [SEP] stays at its end."""
    longest = generator.network.head.embeddings.config.max_position_embeddings
    tokenizer = generator.tokenizer
    ids = [tokenizer.vocabulary.mask_id, *tokenizer.encode("river " * 90)]
    probabilities = tf.nn.softmax(generator.network(row(generator, ids[: longest - 2])))[0, 1]
    (candidates,) = generator.fill_mask("[MASK] " + "river " * 90, top_k=3)
    expected = np.sort(probabilities.numpy())[::-1][:3]
    np.testing.assert_allclose([c.probability for c in candidates], expected, rtol=1e-4)
    assert f"cut to {longest} tokens" in caplog.text

    assert tokenizer.tokenize("the the") == ["the", "the"]
    assert generator.fill_mask("the " * (longest - 3) + "[MASK]")
    with pytest.raises(ValueError, match="Give a shorter text"):  # where [SEP] has to be
        generator.fill_mask("the " * (longest - 2) + "[MASK]")


def test_score_by_masking_one_token_after_the_other(generator):
    mask_id = generator.tokenizer.vocabulary.mask_id
    for text, found in zip(TEXTS, generator.score(TEXTS, batch_size=3), strict=True):
        ids = generator.tokenizer.encode(text)
        expected = []
        for i, token_id in enumerate(ids):
            masked = row(generator, [*ids[:i], mask_id, *ids[i + 1 :]])
            logits = generator.network(masked).numpy()[0, i + 1]
            expected.append(tf.nn.log_softmax(logits).numpy()[token_id])
        np.testing.assert_allclose(found.token_scores, expected, atol=1e-4)
        assert found.score == pytest.approx(sum(expected), abs=1e-3)


def test_score_by_a_generator_that_does_not_see_the_token():
    generator = open_model(electra_tf2.Generator, "electric")
    ids = generator.tokenizer.encode(TEXTS[0])
    logits = generator.network(row(generator, ids)).numpy()[0, 1:-1]
    expected = tf.nn.log_softmax(logits).numpy()[np.arange(len(ids)), ids]
    (found,) = generator.score(TEXTS[:1])
    np.testing.assert_allclose(found.token_scores, expected, atol=1e-4)
