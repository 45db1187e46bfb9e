"""Which positions are hidden, how many, and how; and writing at positions."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.batch import Inputs
from electra_tf2.pretraining.masking import Masking, scatter_positions
from tests.pretraining.batches import CLS, MASK, PAD, SEP, masking, randomness, sequences

BOTH = pytest.mark.parametrize("with_replacement", [False, True])


def draw(masking, inputs, **kwargs):
    return [a.numpy() for a in masking.mask(inputs, randomness(**kwargs))]


@BOTH
@pytest.mark.parametrize(
    "mask_prob, tokens, expected",
    [
        (0.15, 10, 2),  # 1.5: half to even
        (0.15, 30, 4),  # 4.5
        (0.25, 10, 2),  # 2.5
        (0.25, 14, 4),  # 3.5
        (0.25, 18, 4),  # 4.5
        (0.15, 3, 1),  # 0.45: at least one
        (0.15, 128, 19),  # 19.2
        (0.15, 110, 16),  # 16.5 to even
        (0.25, 128, 20),  # 32, but there are 20 slots
    ],
)
def test_how_many_are_hidden(mask_prob, tokens, expected, with_replacement):
    """k = max(1, min(slots, round(float32(mask_prob) * tokens)))."""
    mask = masking(20, mask_prob=mask_prob, with_replacement=with_replacement)
    _, _, _, weights = draw(mask, sequences([tokens], 128))
    assert weights.shape == (1, 20)
    assert weights.sum() == expected
    product = np.float32(mask_prob) * np.float32(tokens)
    assert expected == max(1, min(20, np.round(product)))


def test_the_product_is_float32():
    """0.15 x 190 is 28.5 in float64, which rounds to 28; the float32 product is over 28.5."""
    assert round(0.15 * 190) == 28
    _, _, _, weights = draw(masking(40), sequences([190], 190))
    assert weights.sum() == 29


@BOTH
def test_only_candidates_are_hidden(with_replacement):
    inputs = sequences([16, 9, 5, 12], 16, seed=3)
    ids = inputs.input_ids.numpy()
    ids[0, 5], ids[1, 2], ids[3, 4] = MASK, SEP, CLS
    inputs = inputs._replace(input_ids=tf.constant(ids))
    mask = masking(10, mask_prob=0.6, with_replacement=with_replacement)
    forbidden = np.isin(ids, [PAD, CLS, SEP, MASK])
    for step in range(20):
        masked_ids, positions, originals, weights = draw(mask, inputs, step=step)
        for row in range(4):
            used = positions[row][weights[row] > 0]
            assert len(used)
            assert not forbidden[row, used].any()
            if not with_replacement:
                assert len(set(used)) == len(used)
            np.testing.assert_array_equal(originals[row][weights[row] > 0], ids[row, used])
            # What is not chosen stays; what is chosen is [MASK] or stays.
            changed = np.nonzero(masked_ids[row] != ids[row])[0]
            assert set(changed) <= set(used)
            assert (masked_ids[row, changed] == MASK).all()


def test_special_ids_are_candidates_only_as_tokens():
    """Padding is told by the mask: a row may hold the id 0 as a token."""
    ids = tf.constant([[CLS, PAD, 7, SEP, PAD, PAD]])
    inputs = Inputs(ids, tf.constant([[1, 1, 1, 1, 0, 0]]), tf.zeros_like(ids))
    np.testing.assert_array_equal(masking(2).candidates(inputs), [[0, 1, 1, 0, 0, 0]])


@BOTH
def test_rows_with_few_candidates_or_none(with_replacement):
    inputs = sequences([16, 4, 2, 0], 16)  # candidates: 14, 2, 0, 0
    mask = masking(8, mask_prob=1.0, with_replacement=with_replacement)
    masked_ids, positions, originals, weights = draw(mask, inputs)
    n_used = weights.sum(-1).tolist()
    assert n_used == ([8, 4, 0, 0] if with_replacement else [8, 2, 0, 0])
    assert set(positions[1][weights[1] > 0]) == {1, 2}
    np.testing.assert_array_equal(masked_ids[2:], inputs.input_ids.numpy()[2:])
    assert np.isfinite(weights).all()
    unused = weights == 0
    assert not positions[unused].any()
    assert not originals[unused].any()


@BOTH
def test_unused_slots_are_zero(with_replacement):
    mask = masking(10, with_replacement=with_replacement)
    _, positions, originals, weights = draw(mask, sequences([40, 20], 40))
    np.testing.assert_array_equal(weights, np.arange(10) < [[6], [3]])
    assert not positions[weights == 0].any()
    assert not originals[weights == 0].any()
    assert positions[weights > 0].all()


@BOTH
def test_every_candidate_is_as_likely(with_replacement):
    tokens, rows, slots = 14, 3000, 4
    inputs = sequences([tokens] * rows, 16)
    mask = masking(slots, mask_prob=0.3, with_replacement=with_replacement)
    _, positions, _, weights = draw(mask, inputs, seed=8)
    assert weights.sum() == slots * rows
    counts = np.bincount(positions.ravel(), minlength=16)
    assert not counts[[0, tokens - 1, 14, 15]].any()
    assert scipy.stats.chisquare(counts[1 : tokens - 1]).pvalue > 1e-3
    # In every slot by itself: the order of the slots says nothing about the position.
    for slot in range(slots):
        counts = np.bincount(positions[:, slot], minlength=16)[1 : tokens - 1]
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_85_percent_show_the_mask_token():
    rows, slots = 2000, 15
    inputs = sequences([100] * rows, 100)
    masked_ids, positions, _, weights = draw(masking(slots), inputs, seed=2)
    assert weights.sum() == rows * slots
    shown = np.take_along_axis(masked_ids, positions, axis=1) == MASK
    assert abs(shown.mean() - 0.85) < 4 * np.sqrt(0.85 * 0.15 / shown.size)
    assert (masked_ids == MASK).sum() == shown.sum()
    # Slots show it independently of each other.
    assert np.var(shown.sum(-1)) == pytest.approx(slots * 0.85 * 0.15, rel=0.15)


def test_draws_differ_by_step_and_belong_to_the_row():
    inputs = sequences([16] * 6, 16)
    mask = masking(4, mask_prob=0.25)
    whole = draw(mask, inputs, step=1)
    part = Inputs(*(t[2:5] for t in inputs))
    for ours, theirs in zip(draw(mask, part, step=1, first_row=2), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[2:5])
    assert (draw(mask, inputs, step=2)[1] != whole[1]).any()
    assert (draw(mask, inputs, step=1, seed=1)[1] != whole[1]).any()


def test_with_replacement_positions_repeat_as_often_as_officially():
    """19 draws among 126 candidates: about 7 % of the chosen positions come more than once."""
    rows, tokens, slots = 1000, 128, 19
    inputs = sequences([tokens] * rows, 128)
    mask = masking(20, with_replacement=True)
    masked_ids, positions, _, weights = draw(mask, inputs, seed=4)
    assert weights.sum() == rows * slots
    counts = np.zeros((rows, 128), int)
    np.add.at(counts, (np.arange(rows)[:, None], positions), weights.astype(int))
    p = 1 / (tokens - 2)
    chosen, repeated = (counts > 0).mean(), (counts > 1).mean()
    expect_chosen = (1 - (1 - p) ** slots) * (tokens - 2) / 128
    expect_repeated = expect_chosen - slots * p * (1 - p) ** (slots - 1) * (tokens - 2) / 128
    assert chosen == pytest.approx(expect_chosen, rel=0.005)
    assert repeated == pytest.approx(expect_repeated, rel=0.06)
    assert repeated / chosen == pytest.approx(0.07, abs=0.01)
    # [MASK] is drawn by slot: a position drawn twice shows it unless both slots keep the token.
    twice = counts == 2
    assert (masked_ids[twice] == MASK).mean() == pytest.approx(1 - 0.15**2, abs=0.015)
    assert (masked_ids[counts == 1] == MASK).mean() == pytest.approx(0.85, abs=0.012)
    assert not (masked_ids[counts == 0] == MASK).any()


@BOTH
def test_the_batch_size_may_be_unknown(with_replacement):
    mask = masking(4, mask_prob=0.25, with_replacement=with_replacement)
    inputs = sequences([12, 9], 12)

    @tf.function(
        autograph=False, input_signature=[Inputs(*[tf.TensorSpec([None, 12], tf.int32)] * 3)]
    )
    def compiled(inputs):
        return mask.mask(inputs, randomness())

    for ours, theirs in zip(compiled(inputs), draw(mask, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def shares_shown(rows=1500, slots=15, **options):
    """Of the chosen tokens: how many show [MASK], their own id, and another one; and all ids."""
    inputs = sequences([100] * rows, 100)
    mask = Masking(MASK, (CLS, SEP, MASK), 0.15, slots, **options)
    masked_ids, positions, originals, weights = draw(mask, inputs, seed=6)
    assert weights.all()
    seen = np.take_along_axis(masked_ids, positions, axis=1)
    untouched = np.ones_like(masked_ids, bool)
    np.put_along_axis(untouched, positions, False, axis=1)
    np.testing.assert_array_equal(masked_ids[untouched], inputs.input_ids.numpy()[untouched])
    other = (seen != MASK) & (seen != originals)
    shares = [(seen == MASK).mean(), (seen == originals).mean(), other.mean()]
    return shares, seen[other]


@pytest.mark.parametrize("replace_prob", [0.0, 0.5, 1.0])
def test_the_share_of_chosen_tokens_that_show_the_mask_token(replace_prob):
    (masks, own, other), _ = shares_shown(replace_prob=replace_prob)
    assert masks == pytest.approx(replace_prob, abs=0.02)
    assert own == pytest.approx(1 - replace_prob, abs=0.02)
    assert other == 0
    assert masks in (0, 1) or replace_prob == 0.5


def test_random_tokens():
    """BERT's shares: 80 % [MASK], 10 % random, 10 % as they are; one in a hundred by chance."""
    shares, random_ids = shares_shown(replace_prob=0.8, random_token_prob=0.1, vocab_size=100)
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 96, 0.1 - 0.1 / 96], abs=0.01)
    counts = np.bincount(random_ids, minlength=100)
    assert not counts[[PAD, CLS, SEP, MASK]].any()
    ordinary = np.delete(counts, [PAD, CLS, SEP, MASK])
    assert len(ordinary) == 96 and ordinary.min() > 0
    assert scipy.stats.chisquare(ordinary).pvalue > 1e-3


def test_random_tokens_leave_the_choice_of_positions_alone():
    inputs = sequences([16] * 6, 16)
    plain = Masking(MASK, (CLS, SEP, MASK), 0.5, 8)
    with_random = Masking(
        MASK, (CLS, SEP, MASK), 0.5, 8, replace_prob=0.5, random_token_prob=0.5, vocab_size=100
    )
    shown, *rest = draw(plain, inputs)
    shown_random, *rest_random = draw(with_random, inputs)
    for ours, theirs in zip(rest_random, rest, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (shown != shown_random).any()
    shown_again, *_ = draw(with_random, inputs)
    np.testing.assert_array_equal(shown_again, shown_random)


def test_ids_that_are_never_masked():
    inputs = sequences([16] * 50, 16, vocab_size=12)
    _, _, originals, weights = draw(Masking(MASK, (CLS, SEP, 7, 9), 0.5, 8), inputs)
    assert {5, 6, 8, 10, 11} == set(originals[weights > 0])


def test_the_number_of_slots_follows_from_the_share():
    for length, mask_prob, slots in [(128, 0.15, 20), (10, 0.15, 2), (7, 1.0, 7)]:
        _, _, _, weights = draw(Masking(MASK, mask_prob=mask_prob), sequences([length], length))
        assert weights.shape == (1, slots)


def test_the_first_position_may_be_hidden():
    """Rows of one's own need not begin with [CLS]."""
    ids = tf.constant([[9, 9, 9, 9]])
    inputs = Inputs(ids, tf.ones_like(ids), tf.zeros_like(ids))
    mask = Masking(MASK, mask_prob=1.0, replace_prob=1.0)
    masked_ids, positions, originals, weights = draw(mask, inputs)
    assert sorted(positions[0]) == [0, 1, 2, 3] and weights.all()
    np.testing.assert_array_equal(masked_ids, [[MASK] * 4])
    np.testing.assert_array_equal(originals, [[9] * 4])


WRONG = {
    "mask_prob": {"mask_prob": 0.0},
    "mask_prob over 1": {"mask_prob": 1.5},
    "max_predictions": {"max_predictions": 0},
    "replace_prob": {"replace_prob": -0.1},
    "random_token_prob": {"random_token_prob": 0.3, "vocab_size": 50},
    "random_token_prob without vocabulary": {"replace_prob": 0.8, "random_token_prob": 0.1},
    "random_token_prob, with_replacement": {
        "replace_prob": 0.8,
        "random_token_prob": 0.1,
        "vocab_size": 50,
        "with_replacement": True,
    },
    "mask_id": {"vocab_size": 4},
    "never_masked": {"vocab_size": 50, "never_masked": (CLS, 50)},
}


@pytest.mark.parametrize("row", WRONG)
def test_ways_of_masking_that_are_refused(row):
    name = row.split(",")[0].split()[0]
    with pytest.raises((UserError, ValueError), match=name):
        Masking(**{"mask_id": MASK, **WRONG[row]})


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_id": None},
        {"mask_id": "4"},
        {"mask_id": 4.0},
        {"never_masked": 3},
        {"max_predictions": 2.5},
        {"mask_prob": "0.1"},
    ],
    ids=str,
)
def test_ids_and_shares_of_other_types_are_refused(changes):
    with pytest.raises(TypeError):
        Masking(**{"mask_id": 4, **changes})


def test_ids_of_any_integer_type_are_plain_ones():
    mask = Masking(np.int64(4), (np.int64(2),), max_predictions=np.int32(3))
    assert (mask.mask_id, mask.never_masked, mask.max_predictions) == (4, (2,), 3)
    assert {type(i) for i in (mask.mask_id, *mask.never_masked, mask.max_predictions)} == {int}


# Writing at positions, with the official program's rule for doubles.
SEQUENCE = [[2, 10, 11, 12, 3], [2, 20, 21, 3, 0]]


def scatter(updates, positions, sequence=SEQUENCE, chosen=None):
    """All slots but those at position 0, unless told."""
    chosen = np.not_equal(positions, 0) if chosen is None else chosen
    arguments = (sequence, updates, positions, chosen)
    changed, written = scatter_positions(*map(tf.constant, arguments))
    assert changed.dtype == written.dtype == tf.int32
    return changed.numpy().tolist(), written.numpy().tolist()


def test_values_go_to_their_positions_and_rows():
    changed, written = scatter([[50, 51], [60, 61]], [[3, 1], [2, 1]])
    assert changed == [[2, 51, 11, 50, 3], [2, 61, 60, 3, 0]]
    assert written == [[0, 1, 0, 1, 0], [0, 1, 1, 0, 0]]


def test_slots_that_are_not_chosen_are_ignored():
    changed, written = scatter([[50, 51], [60, 61]], [[0, 1], [0, 0]])
    assert changed == [[2, 51, 11, 12, 3], SEQUENCE[1]]
    assert written == [[0, 1, 0, 0, 0], [0] * 5]
    chosen = [[False, True], [True, False]]
    changed, written = scatter([[50, 51], [60, 61]], [[0, 1], [0, 3]], chosen=chosen)
    assert changed == [[2, 51, 11, 12, 3], [60, 20, 21, 3, 0]]
    assert written == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_doubles_give_the_floor_of_the_mean():
    changed, written = scatter([[50, 53, 7, 9], [60, 61, 63, 60]], [[1, 1, 2, 0], [2, 2, 2, 1]])
    assert changed == [[2, 51, 7, 12, 3], [2, 60, 61, 3, 0]]  # 103 // 2; 60; 184 // 3
    assert written == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0]]


def test_equal_doubles_stay_what_they_are():
    changed, _ = scatter([[30522, 30522, 30522]], [[1, 1, 1]], [[2, 5, 3]])
    assert changed == [[2, 30522, 3]]


def test_no_slots_change_nothing():
    empty = np.zeros((2, 0), np.int32)
    assert scatter(empty, empty) == (SEQUENCE, [[0] * 5] * 2)


def test_shapes_stay_known_in_a_graph():
    signature = [tf.TensorSpec([2, 5], tf.int32)] + [tf.TensorSpec([2, None], tf.int32)] * 2
    signature.append(tf.TensorSpec([2, None], tf.bool))
    function = tf.function(scatter_positions, autograph=False, input_signature=signature)
    changed, written = function.get_concrete_function().structured_outputs
    assert changed.shape == written.shape == [2, 5]
