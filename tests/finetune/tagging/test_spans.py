"""From tags to spans, by two rules that differ on tags out of order, and back."""

import random

import pytest

from finetune.tagging.spans import (
    Span,
    bioes_tags,
    marks_spans,
    official_spans,
    seqeval_spans,
    split_tag,
)

# Tags, spans by the official rule, and spans by seqeval's where they differ; worked out by hand.
IN_ORDER = [
    ("", []),
    ("O O", []),
    ("B-A", [(0, 0, "A")]),
    ("S-A S-A", [(0, 0, "A"), (1, 1, "A")]),
    ("B-A I-A O B-B", [(0, 1, "A"), (3, 3, "B")]),
    ("B-A B-A I-A", [(0, 0, "A"), (1, 2, "A")]),
    ("B-A I-A E-A B-B E-B S-A", [(0, 2, "A"), (3, 4, "B"), (5, 5, "A")]),
    ("O I-A I-A O I-A", [(1, 2, "A"), (4, 4, "A")]),
    ("B-NP-SBJ I-NP-SBJ", [(0, 1, "NP-SBJ")]),
    ("B I O S", [(0, 1, ""), (3, 3, "")]),
    ("O E-A", [(1, 1, "A")]),
]
OUT_OF_ORDER = [
    ("B-A I-B", [(0, 1, "B")], [(0, 0, "A"), (1, 1, "B")]),
    ("I-A I-B I-B O", [(0, 2, "B")], [(0, 0, "A"), (1, 2, "B")]),
    ("B-A E-A I-A", [(0, 2, "A")], [(0, 1, "A"), (2, 2, "A")]),
    ("S-A E-A O", [(0, 1, "A")], [(0, 0, "A"), (1, 1, "A")]),
    ("E-A E-A", [(0, 1, "A")], [(0, 0, "A"), (1, 1, "A")]),
    ("S-A I-B E-B S-A", [(0, 2, "B"), (3, 3, "A")], [(0, 0, "A"), (1, 2, "B"), (3, 3, "A")]),
    ("B-A-x I-A-y", [(0, 1, "A-y")], [(0, 0, "A-x"), (1, 1, "A-y")]),
]


@pytest.mark.parametrize(("tags", "expected"), IN_ORDER)
def test_tags_in_order(tags, expected):
    assert official_spans(tags.split()) == expected
    assert seqeval_spans(tags.split()) == expected


@pytest.mark.parametrize(("tags", "official", "seqeval"), OUT_OF_ORDER)
def test_tags_out_of_order(tags, official, seqeval):
    assert official_spans(tags.split()) == official
    assert seqeval_spans(tags.split()) == seqeval


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("B-NP", ("B", "NP")),
        ("I-NP-SBJ-1", ("I", "NP-SBJ-1")),
        ("S--", ("S", "-")),
        ("E-", ("E", "")),
        ("B", ("B", "")),
        ("O", ("O", "")),
        ("NN", ("", "NN")),
        ("X-NP", ("", "X-NP")),
        ("Band-NP", ("", "Band-NP")),
        ("-LRB-", ("", "-LRB-")),
        ("", ("", "")),
    ],
)
def test_split_tag(tag, parts):
    assert split_tag(tag) == parts


@pytest.mark.parametrize(
    ("tag", "in_iob", "in_bioes"),
    [
        ("O", True, True),
        ("B-A", True, True),
        ("I", True, True),
        ("E-A", False, True),
        ("S-A", False, True),
        ("O-A", False, False),
        ("NN", False, False),
        ("-LRB-", False, False),
        ("U-A", False, False),
    ],
)
def test_what_marks_a_span(tag, in_iob, in_bioes):
    assert marks_spans(tag, "BI") is in_iob
    assert marks_spans(tag) is in_bioes


def test_bioes():
    spans = [Span(0, 0, "A"), Span(2, 3, "B"), Span(4, 6, "N-P"), Span(7, 8, "")]
    assert bioes_tags(spans, 10) == "S-A O B-B E-B B-N-P I-N-P E-N-P B E O".split()
    assert bioes_tags([], 2) == ["O", "O"]
    assert bioes_tags([], 0) == []


@pytest.mark.parametrize("find", [official_spans, seqeval_spans])
def test_encoded_spans_are_found_again(find):
    """Whatever the tags, the spans found in them survive being written as BIOES."""
    generator = random.Random(0)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "AB")]
    for _ in range(300):
        sentence = generator.choices(tags, k=generator.randrange(12))
        spans = find(sentence)
        encoded = bioes_tags(spans, len(sentence))
        assert official_spans(encoded) == seqeval_spans(encoded) == spans
        assert [tag == "O" for tag in encoded] == [tag == "O" for tag in sentence]
