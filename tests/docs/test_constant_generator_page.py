"""The commands of docs/beyond_electra.md on a generator that stays as it is fit each other."""

import dataclasses

import numpy as np

from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from tests.docs.pages import DOCS, run_shell, section


def test_the_commands_fit_each_other(tmp_path):
    text = section(DOCS / "beyond_electra.md", "A generator that stays as it is")
    calls = run_shell(text.split("```\n")[1], tmp_path)
    flags = [cli.parse_run_flags("", arguments)[0] for _, *arguments in calls]
    masked_lm, fast = (PretrainingConfig(f.model_name, f.data_dir, **f.hparams) for f in flags)
    assert fast.init_generator == masked_lm.model_dir
    assert not masked_lm.electra_objective and not fast.train_generator
    sizes = [dataclasses.asdict(n) for n in (masked_lm.network(), fast.generator_network())]
    assert sizes[0] == sizes[1]
    # The ramp is as near to an exponential decay as the page says.
    assert "stays within .04\nof 1 + (2 − 1) · e^(−10 u)" in text
    steps = np.linspace(0, fast.num_train_steps, 1001)
    ramp = np.interp(steps, *zip(*fast.temperature, strict=True))
    decay = 1 + np.exp(-10 * steps / fast.num_train_steps)
    assert np.abs(ramp - decay).max() < 0.04
