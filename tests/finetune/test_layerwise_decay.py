"""Layer-wise learning-rate decay."""

import pytest

from finetune.model import learning_rate_factors

NAMES = [
    "electra/embeddings/word_embeddings",
    "electra/embeddings_project/kernel",
    "electra/layer_0/attention/query/kernel",
    "electra/layer_1/output/bias",
    "task_specific/my_task/classifier/kernel",
]


@pytest.mark.parametrize(
    "scheme, decay, powers",
    [
        ("official", 0.8, [4, 4, 3, 2, 0]),  # the last layer has decay squared
        ("paper", 0.8, [3, 3, 2, 1, 0]),
        ("official", 0.0, [0, 0, 0, 0, 0]),
        ("official", -1.0, [0, 0, 0, 0, 0]),
        ("paper", None, [0, 0, 0, 0, 0]),
    ],
)
def test_factors(scheme, decay, powers):
    factors = learning_rate_factors(NAMES, num_hidden_layers=2, decay=decay, scheme=scheme)
    assert list(factors) == NAMES
    assert list(factors.values()) == pytest.approx([(decay or 1) ** p for p in powers])


@pytest.mark.parametrize("scheme, power", [("official", 2), ("paper", 1)])
def test_a_shared_layer_is_trained_as_fast_as_the_last_one(scheme, power):
    names = ["electra/embeddings/word_embeddings", "electra/shared_layer/output/bias"]
    factors = learning_rate_factors(names, num_hidden_layers=6, decay=0.8, scheme=scheme)
    assert list(factors.values()) == pytest.approx([0.8 ** (6 + power), 0.8**power])


def test_the_last_layer_norm_is_trained_as_fast_as_the_last_layer():
    names = ["electra/layer_5/gate/kernel", "electra/final_layer_norm/gamma"]
    factors = learning_rate_factors(names, num_hidden_layers=6, decay=0.8)
    assert list(factors.values()) == pytest.approx([0.8**2] * 2)


@pytest.mark.parametrize("decay", [0.8, None])
def test_a_variable_without_a_rule_is_an_error(decay):
    with pytest.raises(ValueError, match="pooler"):
        learning_rate_factors(["electra/pooler/kernel"], num_hidden_layers=2, decay=decay)
