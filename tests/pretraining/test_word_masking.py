"""Whole words and spans of words that are hidden."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from electra_tf2.pretraining.batch import Inputs
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.pretraining.word_masking import LONGEST_SPAN
from tests.pretraining.batches import CLS, FIRST_TOKEN, MASK, PAD, SEP, masking, randomness
from tests.pretraining.networks import convolution_discriminator, embedding_layer, unigram_generator

FIRST_CONTINUATION, VOCAB = 60, 100
CONTINUATIONS = tuple(range(FIRST_CONTINUATION, VOCAB))
# Pieces of the words of English text with BERT's vocabulary, about.
SIZES, SHARES = np.arange(1, 7), [0.82, 0.09, 0.05, 0.02, 0.01, 0.01]
UNITS = pytest.mark.parametrize("unit", ["whole_word", "span"])
SLOTS = 20


def text(tokens, length, seed=0, shares=SHARES):
    """Rows [CLS] … [SEP] … [SEP] and padding; the second segment may begin within a word."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((len(tokens), length), np.int32)
    for row, count in zip(ids, tokens, strict=True):
        sizes = rng.choice(SIZES[: len(shares)], count, p=shares)
        first = np.zeros(count + 10, bool)
        first[np.cumsum(sizes)[np.cumsum(sizes) < count]] = True
        plain = rng.integers(FIRST_TOKEN, FIRST_CONTINUATION, count)
        row[:count] = np.where(first[:count], plain, rng.integers(FIRST_CONTINUATION, VOCAB, count))
        row[0], row[1], row[count // 2], row[count - 1] = CLS, FIRST_TOKEN, SEP, SEP
    mask = (np.arange(length) < np.asarray(tokens)[:, None]).astype(np.int32)
    return Inputs(*map(tf.constant, (ids, mask, np.zeros_like(ids))))


def hiding(unit, max_predictions=SLOTS, **options):
    return Masking(
        MASK, (CLS, SEP, MASK), max_predictions=max_predictions, unit=unit,
        continuations=CONTINUATIONS, **options,
    )  # fmt: skip


def test_ids_above_the_last_piece_that_continues_a_word_are_words():
    mask = Masking(MASK, (CLS, SEP, MASK), unit="whole_word", continuations=(FIRST_TOKEN,))
    ids = tf.constant([[CLS, *range(FIRST_TOKEN + 1, FIRST_TOKEN + 19), SEP]])
    inputs = Inputs(ids, tf.ones_like(ids), tf.zeros_like(ids))
    assert mask.mask(inputs, randomness()).weights.numpy().sum() == 3  # .15 x 20


def draw(mask, inputs, **kwargs):
    return [a.numpy() for a in mask.mask(inputs, randomness(**kwargs))]


def words_of(row):
    """Lists of positions of a row's words, and which stretch of text each is in."""
    words, stretches, stretch, inside = [], [], 0, False
    for position, token in enumerate(row.tolist()):
        if token in (PAD, CLS, SEP, MASK):
            stretch, inside = stretch + 1, False
        elif token in CONTINUATIONS and inside:
            words[-1].append(position)
        else:
            words.append([position])
            stretches.append(stretch)
            inside = True
    return words, stretches


def greedy(words, order, room):
    """Positions of the words that fit, one after the other."""
    chosen = []
    for word in order:
        if len(chosen) + len(words[word]) <= room:
            chosen += words[word]
    return sorted(chosen)


def span_order(stretches, keys, draws):
    """Words in the order of the spans; which span each is in; and all spans' lengths."""
    shares = 0.2 * 0.8 ** np.arange(LONGEST_SPAN)
    lengths = 1 + np.searchsorted(np.cumsum(shares / shares.sum())[:-1], draws, side="right")
    span_of = {}
    for start in np.argsort(keys, kind="stable").tolist():
        for word in range(start, min(start + lengths[start], len(stretches))):
            if stretches[word] == stretches[start]:
                span_of.setdefault(word, start)
    return list(span_of), span_of, lengths


@UNITS
def test_what_is_hidden_is_what_a_loop_over_the_words_takes(unit):
    """Many rows against a plain re-implementation, and the rules that follow from it."""
    inputs = text([64, 40, 63, 9, 4] * 40, 64, seed=3)
    ids = inputs.input_ids.numpy()
    masked_ids, positions, originals, weights = draw(hiding(unit), inputs, seed=5, step=2)
    draws = randomness(seed=5, step=2).uniform("mask_positions", len(ids), 128).numpy()
    drawn_lengths = []
    for row, (words, stretches) in enumerate(map(words_of, ids)):
        count = len(words)
        order = np.argsort(draws[row, :count], kind="stable")
        if unit == "span":
            order, span_of, lengths = span_order(stretches, draws[row, :count], draws[row, 64:])
            drawn_lengths += lengths.tolist()
        wanted = max(1, round(np.float32(0.15) * np.float32(np.sum(ids[row] != PAD))))
        used = positions[row][weights[row] > 0]
        assert used.tolist() == greedy(words, order, max(wanted, min(map(len, words))))
        np.testing.assert_array_equal(originals[row][weights[row] > 0], ids[row, used])
        shown = masked_ids[row] != ids[row]
        assert not shown[np.setdiff1d(np.arange(64), used)].any()
        if unit == "span":  # all of a span, or nothing
            of_span = {}
            for word in (w for w, places in enumerate(words) if set(places) <= set(used)):
                of_span.setdefault(span_of[word], set()).update(shown[words[word]].tolist())
            assert all(len(states) == 1 for states in of_span.values())
    unused = weights == 0
    assert not positions[unused].any() and not originals[unused].any()
    assert unit == "whole_word" or np.mean(drawn_lengths) == pytest.approx(3.797, abs=0.05)


@UNITS
def test_the_share_of_hidden_tokens_is_that_of_single_tokens(unit):
    inputs = text([128] * 400 + [100] * 400 + [30] * 100, 128, seed=1)
    *_, as_tokens = draw(masking(SLOTS), inputs)
    masked_ids, _, _, weights = draw(hiding(unit), inputs)
    assert (weights.sum(-1) <= as_tokens.sum(-1)).all()
    assert weights.sum() == pytest.approx(as_tokens.sum(), rel=0.01)
    share = (masked_ids == MASK).sum() / weights.sum()
    assert share == pytest.approx(0.85, abs=0.02)


def test_words_of_one_length_are_equally_likely():
    words = text([42] * 3000, 42, shares=[1.0])
    _, positions, _, weights = draw(hiding("whole_word", 4, mask_prob=0.1), words, seed=8)
    counts = np.bincount(positions[weights > 0], minlength=42)
    assert not counts[[0, 21, 41]].any()
    assert scipy.stats.chisquare(np.delete(counts, [0, 21, 41])).pvalue > 1e-3


@UNITS
def test_rows_of_long_words(unit):
    """Words of 4, 2 and 6 pieces, one of 8, and none."""
    plain, more = FIRST_TOKEN, FIRST_CONTINUATION
    ids = np.zeros((3, 14), np.int32)
    ids[:, 0] = CLS
    ids[0, 1:13] = [plain, *[more] * 3, plain, more, plain, *[more] * 5]
    ids[1, 1:9] = [plain, *[more] * 7]
    mask = (ids != PAD).astype(np.int32)
    inputs = Inputs(*map(tf.constant, (ids, mask, np.zeros_like(ids))))
    for step in range(5):
        _, positions, _, weights = draw(hiding(unit, 6, mask_prob=0.08), inputs, step=step)
        assert positions[0][weights[0] > 0].tolist() == [5, 6]  # k is 1; the shortest has two
        assert not weights[1:].any()  # none fits into the slots


@UNITS
def test_draws_differ_by_step_and_belong_to_the_row(unit):
    inputs, mask = text([32] * 6, 32), hiding(unit, 8)
    whole = draw(mask, inputs, step=1)
    part = Inputs(*(t[2:5] for t in inputs))
    for ours, theirs in zip(draw(mask, part, step=1, first_row=2), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[2:5])
    assert (draw(mask, inputs, step=2)[1] != whole[1]).any()
    assert (draw(mask, inputs, step=1, seed=1)[1] != whole[1]).any()


@UNITS
def test_xla_and_a_batch_of_unknown_size_give_the_same(unit):
    inputs, mask = text([24, 20], 24), hiding(unit, 6, mask_prob=0.25)

    def run(inputs):
        return mask.mask(inputs, randomness())

    unknown = [Inputs(*[tf.TensorSpec([None, 24], tf.int32)] * 3)]
    for compiled in (
        tf.function(run, autograph=False, jit_compile=True),
        tf.function(run, autograph=False, input_signature=unknown),
    ):
        for ours, theirs in zip(compiled(inputs), draw(mask, inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_spans_of_tokens_need_no_continuations():
    inputs = text([64] * 50, 64)
    spans = Masking(MASK, (CLS, SEP, MASK), max_predictions=10, unit="span")
    *_, weights = draw(spans, inputs)
    assert (weights.sum(-1) == 10).all()


def test_ways_of_hiding_words_that_are_refused():
    with pytest.raises(ValueError, match="continuations"):
        Masking(MASK, unit="whole_word")
    with pytest.raises(ValueError, match="with_replacement"):
        Masking(MASK, unit="span", with_replacement=True)
    with pytest.raises(ValueError, match="unit"):
        Masking(MASK, unit="words")  # pyright: ignore[reportArgumentType]
    tokens = embedding_layer()
    pair = unigram_generator(tokens), convolution_discriminator(tokens)
    electric = Options(electric=True, all_candidates=True)
    with pytest.raises(ValueError, match="independently"):
        ReplacedTokenDetection(*pair, Masking(MASK, unit="span"), electric)
