"""docs/compute.md shows figures that the program gives."""

import re
from pathlib import Path

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining.phases import RunCompute
from tests.compute.official_count import training_flops
from tests.compute.test_flops import PUBLISHED

PAGE = (Path(__file__).parents[2] / "docs" / "compute.md").read_text(encoding="utf-8")

_MASKED_LM = {"electra_objective": False}
_BERT = {**_MASKED_LM, "max_seq_length": 512, "train_batch_size": 256}
RUNS = {
    "BERT-Small": {**_MASKED_LM, "num_train_steps": 1450000},
    "BERT-Base": {**_BERT, "model_size": "base"},
    "BERT-Large": {**_BERT, "model_size": "large"},
    "ELECTRA-Small": {"preset": "electra_small"},
    "ELECTRA-Base": {"preset": "electra_base"},
    "ELECTRA-400K": {"preset": "electra_large"},
    "ELECTRA-1.75M": {"preset": "electra_large", "num_train_steps": 1750000},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_of_published_models(name):
    networks, batch_size, steps, _, paper = PUBLISHED[name]
    script = training_flops(*networks, batch_size=batch_size, steps=steps)
    (row,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.M)
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[0] == f"{script:.3g}"
    assert paper is None or float(cells[1]) == paper
    if name in RUNS:
        config = PretrainingConfig("m", "d", **RUNS[name])
        assert config.num_train_steps == steps
        assert cells[2] == f"{RunCompute(config, config.network()).flops(steps):.3g}"
    else:
        assert cells[2] == ""


def test_what_a_run_says():
    from electra_tf2.modeling.electra import build_pair, describe_parameters

    config = PretrainingConfig("m", "d")
    pair = build_pair(config.network(), generator_hidden_size=config.generator_hidden_size)
    lines = [f"Model: {describe_parameters(pair)}; computing in float32"]
    lines += RunCompute(config, config.network()).describe()
    assert "```\n" + "\n".join(lines) + "\n```" in PAGE
