"""Documents cut in every epoch, compared with `SegmentPlanner`."""

import numpy as np
import pytest

from electra_tf2.data.documents import (
    Cuts,
    Documents,
    count_examples,
    example_lengths,
    find_cuts,
    make_examples,
)
from electra_tf2.data.segments import CutRule, example_draws
from tests.data.cut_plainly import CLS, SEP, plain_examples


def random_documents(seed, count=60):
    """Documents of no to 60 sentences of all kinds of lengths, and their token ids."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 60, count)
    lengths = generator.choice([1, 2, 3, 5, 8, 13, 20, 40, 90, 300], counts.sum())
    documents = Documents(
        generator.integers(0, 9, count),
        generator.integers(0, 1000, count),
        lengths,
        np.concatenate([[0], np.cumsum(counts)]),
    )
    return documents, np.arange(10, 10 + lengths.sum())


def cut(documents, token_ids, epoch, rule):
    cuts = find_cuts(documents, epoch, rule)
    return make_examples(documents, token_ids, cuts, epoch, rule, CLS, SEP)


def same(one, other):
    return all(np.array_equal(*parts) for parts in zip(one, other, strict=True))


@pytest.mark.parametrize("split_long_lines", [False, True])
@pytest.mark.parametrize("length", [5, 6, 16, 64, 128])
def test_every_epoch_is_cut_by_the_rules(length, split_long_lines):
    documents, token_ids = random_documents(length, count=8 if length < 16 else 40)
    rule = CutRule(7, length, split_long_lines)
    epochs = [cut(documents, token_ids, epoch, rule) for epoch in range(3)]
    for epoch, examples in enumerate(epochs):
        assert same(examples, plain_examples(documents, token_ids, epoch, rule)), epoch
        cuts = find_cuts(documents, epoch, rule)
        lengths = example_lengths(documents, cuts, epoch, rule)
        assert np.array_equal(lengths.whole, examples.lengths)
        assert lengths.tokens.sum() == (examples.input_ids >= 10).sum()
        if split_long_lines:
            kept = np.sort(examples.input_ids[examples.input_ids >= 10])
            assert np.array_equal(kept, token_ids), "no token is lost"
    if length > 6:
        assert not same(epochs[0], epochs[1]) and not same(epochs[1], epochs[2])


def test_every_token_is_in_a_cut_and_none_crosses_documents():
    documents, token_ids = random_documents(1)
    cuts = find_cuts(documents, 4, CutRule(0, 32))
    assert cuts.starts[0] == 0 and cuts.ends[-1] == len(token_ids)
    assert np.array_equal(cuts.starts[1:], cuts.ends[:-1])
    borders = np.concatenate([[0], np.cumsum(documents.sentence_lengths)])[documents.splits]
    assert np.isin(borders, np.append(cuts.starts, cuts.ends[-1])).all()


def test_a_document_is_cut_alike_in_any_company():
    documents, token_ids = random_documents(2)
    rule = CutRule(3, 24)
    together = find_cuts(documents, 1, rule)
    examples = make_examples(documents, token_ids, together, 1, rule, CLS, SEP)
    counts = count_examples(documents, 1, rule)
    assert counts.sum() == len(together.ends)
    tokens = np.concatenate([[0], np.cumsum(documents.sentence_lengths)])
    for row in (0, 17, 59):
        first, last = documents.splits[row : row + 2]
        alone = Documents(
            documents.files[row : row + 1],
            documents.numbers[row : row + 1],
            documents.sentence_lengths[first:last],
            np.array([0, last - first]),
        )
        ids = token_ids[tokens[first] : tokens[last]]
        chosen = together.documents == row
        assert counts[row] == chosen.sum()
        expected = type(examples)(*(part[chosen] for part in examples))
        assert same(cut(alone, ids, 1, rule), expected), row


def test_a_part_of_the_examples_can_be_made():
    documents, token_ids = random_documents(3)
    rule = CutRule(3, 24)
    cuts = find_cuts(documents, 0, rule)
    part = Cuts(*(values[5:] for values in cuts))
    found = make_examples(documents, token_ids, part, 0, rule, CLS, SEP)
    everything = make_examples(documents, token_ids, cuts, 0, rule, CLS, SEP)
    assert same(found, [values[5:] for values in everything])
    none = Cuts(*(values[:0] for values in cuts))
    assert make_examples(documents, token_ids, none, 0, rule, CLS, SEP).input_ids.shape == (0, 24)


def test_draws_depend_on_every_part_of_the_address():
    def targets(seed=1, epoch=2, file=3, document=4):
        rule = CutRule(seed, 128)
        numbers = np.arange(500)
        return example_draws(rule, epoch, file, document, numbers).target_lengths.tolist()

    others = [targets(seed=5), targets(epoch=5), targets(file=5), targets(document=5)]
    assert targets() == targets()
    assert all(other != targets() for other in others)


def test_draws_have_the_official_frequencies():
    numbers = np.arange(200_000)
    draws = example_draws(CutRule(0, 128), 0, 0, 0, numbers)
    short = draws.target_lengths[draws.target_lengths < 128]
    # Four standard deviations; one short length in 124 is the full one.
    assert len(short) / len(numbers) == pytest.approx(0.05 * 123 / 124, abs=0.002)
    assert (short.min(), short.max()) == (5, 127)
    assert short.mean() == pytest.approx(66, abs=1.5)
    assert draws.single_segments.mean() == pytest.approx(0.1, abs=0.003)
    assert draws.joins_first.mean() == pytest.approx(0.5, abs=0.005)
