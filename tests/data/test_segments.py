"""Planning of examples by a plain transcription of the rules, and Philox by its known answers."""

import random

import numpy as np
import pytest

from electra_tf2.data.segments import SegmentPlanner, StreamDraws, philox_words


def examples_by_the_rules(documents, max_length, stream):
    """The rules word by word: lists of sentences in, pairs of id lists out."""
    target, examples = max_length, []
    for document in documents:
        gathered = []
        for number, sentence in enumerate([*document, None]):
            at_end = number == len(document)
            if not at_end:
                gathered.append(sentence)
            length = sum(map(len, gathered))
            if not (length >= target or (at_end and length)):
                continue
            limit = 100000 if stream.random() < 0.1 else (target - 3) // 2
            first, second = [], []
            for ids in gathered:
                if not first or len(first) + len(ids) < limit:
                    first = first + ids
                elif not second and len(first) < limit and stream.random() < 0.5:
                    first = first + ids
                else:
                    second = second + ids
            first = first[: max_length - 2]
            second = second[: max(0, max_length - len(first) - 3)]
            examples.append((first, second))
            gathered = []
            target = stream.randint(5, max_length) if stream.random() < 0.05 else max_length
    return examples


def plan_all(documents, max_length, stream, **options):
    """What `SegmentPlanner` makes of the same documents, with the plans."""
    planner = SegmentPlanner(max_length, StreamDraws(stream), **options)
    ids, plans = [], []
    for document in documents:
        for sentence in document:
            planner.add_sentence(len(ids), len(sentence))
            ids += sentence
        planner.end_document()
        plans += planner.take_finished()

    def tokens(spans):
        return [i for start, length in spans for i in ids[start : start + length]]

    return [(tokens(plan.first), tokens(plan.second)) for plan in plans], plans


def random_documents(seed):
    """Documents of all kinds of lengths, with sentences without tokens and far too long ones."""
    stream = random.Random(seed)
    ids = iter(range(10**9))
    lengths = [0, 1, 2, 3, 5, 8, 13, 20, 40, 90, 300]
    return [
        [
            [next(ids) for _ in range(stream.choice(lengths))]
            for _ in range(stream.choice([0, 1, 2, 5, 30]))
        ]
        for _ in range(40)
    ]


@pytest.mark.parametrize("max_length", [5, 6, 16, 64, 128])
@pytest.mark.parametrize("seed", range(4))
def test_plans_follow_the_rules_draw_by_draw(max_length, seed):
    documents = random_documents(seed)
    expected_stream, stream = random.Random(seed), random.Random(seed)

    expected = examples_by_the_rules(documents, max_length, expected_stream)
    examples, plans = plan_all(documents, max_length, stream)

    assert examples == expected
    assert len(examples) > 20
    # Not a draw more or less, or everything that follows would differ.
    assert stream.getstate() == expected_stream.getstate()
    total = sum(len(sentence) for document in documents for sentence in document)
    kept = sum(len(first) + len(second) for first, second in examples)
    assert sum(plan.tokens for plan in plans) == total
    assert sum(plan.dropped for plan in plans) == total - kept > 0


@pytest.mark.parametrize("max_length", [5, 16, 128])
def test_split_long_lines_keeps_every_token(max_length):
    documents = random_documents(7)

    examples, plans = plan_all(documents, max_length, random.Random(3), split_long_lines=True)

    kept = sorted(i for first, second in examples for i in first + second)
    assert kept == [i for document in documents for sentence in document for i in sentence]
    assert not any(plan.dropped for plan in plans)
    assert all(len(first) + len(second) <= max_length - 3 for first, second in examples)
    assert any(second for _, second in examples) or max_length == 5


def test_relocated_sentences_are_taken_from_their_new_place():
    planner = SegmentPlanner(16, StreamDraws(random.Random(0)))
    planner.add_sentence(100, 3)
    planner.add_sentence(200, 4)

    planner.relocate(10)

    assert planner.gathered == [(10, 3), (13, 4)]
    planner.end_document()
    (plan,) = planner.take_finished()
    assert sorted(plan.first + plan.second)[0][0] == 10
    assert planner.take_finished() == []


def test_length_without_room_for_tokens():
    with pytest.raises(ValueError, match="at least 5. Received: 4"):
        SegmentPlanner(4, StreamDraws(random.Random(0)))


ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ONES << 32 | ONES, (ONES,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            0x299F31D0A4093822,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_known_answers(key, counter, expected):
    assert philox_words(key, counter).tolist() == list(expected)


def test_many_counters_at_once():
    numbers = np.arange(5)
    words = philox_words(7, (numbers, 3, numbers * 1000, 1))
    assert words.shape == (4, 5)
    for number in range(5):
        alone = philox_words(7, (number, 3, number * 1000, 1))
        assert words[:, number].tolist() == alone.tolist()
    assert philox_words(-1, (0, 0, 0, 0)).tolist() == philox_words(2**64 - 1, (0,) * 4).tolist()
