"""Tokenizing inside a graph gives the tokenizer's ids."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.text.graph import GraphTokenizer, truncated
from electra_tf2.text.normalization import Casing
from electra_tf2.text.rows import truncated_lengths
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary

CASES = Path(__file__).parents[1] / "conformance" / "cases"
TEXTS = json.loads((CASES / "tokenization.json").read_text(encoding="utf-8"))["texts"]
CONTEXT = ["ΟΔΥΣΣΕΥΣ ΣΑΣ. ΑΣ' Σ ΑΣ\u200b ΑΣ\u200bΑ", "İI\u0307", "ǅ\u1e9e", "a" * 201 + " b"]
CASINGS = [Casing(True, True), Casing(True, False), Casing(False, False)]


@pytest.fixture(scope="module", params=CASINGS, ids=["lower_strip", "lower", "cased"])
def pair(request):
    """A tokenizer and its graph."""
    tokenizer = make_tokenizer(load_vocabulary(str(CASES / "vocab.txt")), request.param)
    graph = GraphTokenizer(tokenizer)
    return tokenizer, graph, tf.function(graph, autograph=False)


def test_ids_are_the_tokenizer_s(pair):
    tokenizer, _, in_graph = pair
    texts = [text for text in [*TEXTS, *CONTEXT] if text == text.encode("utf-8", "ignore").decode()]
    assert len(texts) > 390
    actual = in_graph(tf.constant(texts)).to_list()
    differing = {
        text: (found, expected)
        for text, found in zip(texts, actual, strict=True)
        if found != (expected := tokenizer.encode(text))
    }
    assert not differing


def test_long_words_follow_the_tokenizer_s_limit():
    casing = Casing(max_word_characters=300)
    tokenizer = make_tokenizer(load_vocabulary(str(CASES / "vocab.txt")), casing)
    texts = [char * n for char in "eé" for n in (200, 201, 300, 301)]
    found = GraphTokenizer(tokenizer)(tf.constant(texts)).to_list()
    assert found == [tokenizer.encode(text) for text in texts]
    assert [len(ids) > 1 for ids in found] == [True, True, True, False] * 2


def test_rows(pair):
    tokenizer, graph, _ = pair
    vocabulary = tokenizer.vocabulary
    texts = ["the river", "", "a town of the river and the old market"]
    rows = graph.rows(graph(tf.constant(texts)), 8)
    for text, ids, mask, segments in zip(texts, *rows.values(), strict=True):
        expected = [vocabulary.cls_id, *tokenizer.encode(text)[:6], vocabulary.sep_id]
        assert ids.numpy()[mask.numpy() > 0].tolist() == expected
        assert not ids.numpy()[len(expected) :].any()
        assert not segments.numpy().any()


def test_pairs_of_rows(pair):
    tokenizer, graph, _ = pair
    vocabulary = tokenizer.vocabulary
    firsts, seconds = ["the river and the town", "the old river"], ["a market", ""]
    a, b = graph(tf.constant(firsts)), graph(tf.constant(seconds))
    rows = graph.rows(a, 8, second=b)
    keep_a, keep_b = truncated_lengths(len(a[0]), len(b[0]), 5)
    sep = vocabulary.sep_id
    both = [vocabulary.cls_id, *a[0, :keep_a].numpy(), sep, *b[0, :keep_b].numpy(), sep]
    assert rows["input_ids"][0].numpy().tolist()[: len(both)] == both
    segments = [0] * (keep_a + 2) + [1] * (keep_b + 1)
    assert rows["segment_ids"][0].numpy().tolist()[: len(both)] == segments
    single = [vocabulary.cls_id, *a[1, :6].numpy(), sep]
    mask = rows["input_mask"][1].numpy() > 0
    assert rows["input_ids"][1].numpy()[mask].tolist() == single


def test_masks(pair):
    tokenizer, graph, _ = pair
    mask_id = tokenizer.vocabulary.mask_id
    found = graph.with_masks(tf.constant(["the [MASK]s[MASK]", "no mask", "[MASK]", ""])).to_list()
    the, s = tokenizer.encode("the"), tokenizer.encode("s")
    no_mask = tokenizer.encode("no mask")
    assert found == [[*the, mask_id, *s, mask_id], no_mask, [mask_id], []]


def test_truncation():
    lengths = np.stack(np.meshgrid(np.arange(9), np.arange(9), np.arange(2, 9))).reshape(3, -1)
    found = truncated(*map(tf.constant, lengths.astype(np.int64)))
    expected = np.array([truncated_lengths(*map(int, case)) for case in lengths.T])
    np.testing.assert_array_equal(np.stack(found, axis=1), expected)
