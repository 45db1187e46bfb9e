"""Rows of texts and of pairs of texts, with their special tokens."""

import itertools

import numpy as np
import pytest

from electra_tf2.text.rows import check_texts, make_row, truncated_lengths
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

TOKENIZER = make_tokenizer(Vocabulary((*SPECIAL_TOKENS, *"abc")), implementation="reference")
CLS, SEP = TOKENIZER.vocabulary.cls_id, TOKENIZER.vocabulary.sep_id


@pytest.mark.parametrize(
    ("first", "second", "max_length", "ids", "segments"),
    [
        ([7, 8], [], None, [CLS, 7, 8, SEP], [0] * 4),
        ([], [], None, [CLS, SEP], [0] * 2),
        ([7, 8, 9], [], 4, [CLS, 7, 8, SEP], [0] * 4),
        ([7], [8, 9], None, [CLS, 7, SEP, 8, 9, SEP], [0] * 3 + [1] * 3),
        ([], [8], None, [CLS, SEP, 8, SEP], [0] * 2 + [1] * 2),
        ([5, 6, 7], [8, 9], 6, [CLS, 5, 6, SEP, 8, SEP], [0] * 4 + [1] * 2),
    ],
)
def test_rows(first, second, max_length, ids, segments):
    for kind in (list, np.array):
        row = make_row(kind(first), TOKENIZER, second=kind(second), max_length=max_length)
        assert row.input_ids.tolist() == ids and row.segment_ids.tolist() == segments
        assert row.input_ids.dtype == row.segment_ids.dtype == np.int32


def token_by_token(length_a, length_b, room):
    while length_a + length_b > room:
        if length_a > length_b:
            length_a -= 1
        else:
            length_b -= 1
    return length_a, length_b


def test_truncation_of_pairs_is_that_of_one_token_at_a_time():
    for case in itertools.product(range(14), range(14), range(2, 15)):
        assert truncated_lengths(*case) == token_by_token(*case), case


class Table:
    """Like a data frame, whose items are the names of its columns."""

    columns = ("first", "second")

    def __iter__(self):
        return iter(self.columns)


def test_what_is_no_list_of_texts_is_named_and_shown_in_short():
    with pytest.raises(TypeError, match="inputs must be a list; give a column of the table"):
        check_texts(Table(), name="inputs")
    with pytest.raises(TypeError, match=r"^texts\[1\] must be a text") as error:
        check_texts(["a", ("b" * 10**5, None)])
    assert len(str(error.value)) < 200
