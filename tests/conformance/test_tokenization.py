"""Both tokenizers give exactly the official program's ids."""

import pytest

from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from tests.conformance.cases import Case

MODES = {
    "lower_strip": Casing(lower_case=True, strip_accents=True),
    "lower_keep_accents": Casing(lower_case=True, strip_accents=False),
    "cased": Casing(lower_case=False, strip_accents=False),
}


@pytest.mark.conformance("tokenization")
@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_ids_equal_the_official_ones(case: Case, implementation: str):
    tokenizer = make_tokenizer(
        load_vocabulary(str(case.vocab)), MODES[case.name], implementation=implementation
    )
    texts, expected = case.spec["texts"], case.spec["ids"]

    values, splits = tokenizer.encode_lines(texts)

    actual = [values[a:b].tolist() for a, b in zip(splits[:-1], splits[1:], strict=True)]
    assert len(texts) == len(expected) > 0
    differing = {t: (a, e) for t, a, e in zip(texts, actual, expected, strict=True) if a != e}
    assert not differing
    assert [tokenizer.encode(text) for text in texts] == expected
