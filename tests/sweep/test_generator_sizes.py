"""The configurations of a sweep: one hparam differs, and what can't be swept is refused."""

from pathlib import Path

import pytest

import sweep_generator_size
from configure_pretraining import PretrainingConfig
from electra_tf2.cli import RunFlags
from electra_tf2.errors import UserError
from electra_tf2.sweep.size_results import read_sweep
from electra_tf2.sweep.sizes import SIZES, sweep_configs
from electra_tf2.sweep.sweep import _begin
from electra_tf2.sweep.table import table


def configs(*sizes, **hparams):
    return sweep_configs(PretrainingConfig, RunFlags("data", "m", hparams), sizes or SIZES)


def with_width(hidden_size):
    return {"model_hparam_overrides": {"hidden_size": hidden_size, "num_attention_heads": 1}}


def test_only_the_generators_size_differs():
    made = configs(0.5, 0.125, 1.0, learning_rate=1e-3, num_train_steps=7)
    assert list(made) == [0.125, 0.5, 1.0]
    own = ("generator_hidden_size", "model_dir", "results_txt", "results_pkl")
    common = [{n: v for n, v in c.to_dict().items() if n not in own} for c in made.values()]
    assert common[0] == common[1] == common[2]
    assert common[0]["num_train_steps"] == 7
    assert common[0]["do_eval"]
    assert [c.generator_hidden_size for c in made.values()] == list(made)
    assert made[0.125].model_dir == "data/models/m_generator_0.125"
    assert made[1.0].results_txt == "data/models/m_generator_1/results/unsup_results.txt"


def test_a_sweep_of_phases_says_what_they_are():
    first = {"num_train_steps": 1, "train_batch_size": 2, "max_seq_length": 64}
    second = {"num_train_steps": 2, "train_batch_size": 8, "eval_tfrecords": "held_out/*"}
    own = {"phases": [first, second], "max_seq_length": 32, "num_warmup_steps": 1}
    begun = _begin("m", configs(0.5, **own))
    assert begun.batches == (
        "1 steps of 2 examples of 64 tokens; then 2 steps of 8 examples of 32 tokens"
    )
    assert begun.evaluated_on == "held_out/*" and begun.num_train_steps == 3
    assert begun.batches in table(begun)


def test_fine_tuning_has_no_model_of_its_own():
    argv = ["--data-dir", "d", "--model-name", "m", "--finetune", "model_name=x"]
    with pytest.raises(UserError, match="model_name is a flag") as error:
        sweep_generator_size.main(argv)
    assert error.value.where == "--finetune"


def test_default_sizes_fit_all_model_sizes():
    for model_size in ("small", "base", "large"):
        assert tuple(configs(model_size=model_size)) == SIZES


@pytest.mark.parametrize(
    "sizes, what",
    [
        ((0.5, 0.0), "share"),
        ((-0.5,), "share"),
        ((float("nan"),), "share"),
        ((float("inf"),), "share"),
        ((25.0,), "share"),
        ((0.001,), "is impossible"),
        ((0.25, 0.5, 0.25), "same generator"),
        ((0.25, 0.2501), "same generator"),
    ],
    ids=str,
)
def test_sizes_that_are_refused(sizes, what):
    with pytest.raises(UserError, match=what) as error:
        configs(*sizes)
    assert error.value.where == "--sizes"


@pytest.mark.parametrize("hidden_size, size", [(256, 0.59), (1000, 0.5), (1000, 0.2)])
def test_sizes_near_by_are_named_and_fit(hidden_size, size):
    with pytest.raises(UserError, match="impossible") as error:
        configs(size, **with_width(hidden_size))
    near = error.value.remedy.split("that do: ")[1].rstrip(".").split(" and ")
    below, above = map(float, near)
    assert below < size < above
    assert len(configs(below, above, **with_width(hidden_size))) == 2


def test_a_size_of_which_the_default_is_impossible():
    # A quarter of 524 is 131, for two heads; no one asked for it.
    assert list(configs(0.1, **with_width(524))) == [0.1]


@pytest.mark.parametrize(
    "hparams, what",
    [
        ({"generator_hidden_size": 0.3}, "sets this itself"),
        ({"model_dir": "elsewhere"}, "sets this itself"),
        ({"do_eval": True}, "sets this itself"),
        ({"uniform_generator": True}, "no generator beside a discriminator"),
        ({"untied_generator": False}, "no generator beside a discriminator"),
        ({"electra_objective": False}, "no generator beside a discriminator"),
        ({"disc_weight": 0.0}, "no generator beside a discriminator"),
        ({"init_generator": "a/model"}, "no generator beside a discriminator"),
        ({"train_generator": False}, "no generator beside a discriminator"),
        ({"distribution": "multi_worker"}, "one process"),
        ({"lerning_rate": 1}, "Unknown hparam"),
        ({"generator_layers": 0.01}, "shape is impossible"),
    ],
    ids=str,
)
def test_hparams_that_are_refused(hparams, what):
    with pytest.raises(UserError, match=what):
        configs(**hparams)


def test_electric_has_a_generator():
    assert configs(0.25, electra_objective=False, electric_objective=True)


def test_real_discriminators_that_guess():
    """Five sizes after 1,500 steps of a network that learns nothing in so short a time."""
    sweep = read_sweep(str(Path(__file__).with_name("guessing_discriminators.json")))
    assert len(sweep.results) == 5
    assert all(sweep.reasons()) and not sweep.had_time
    assert sweep.collapsed() == []
    assert "No discriminator has learned anything yet" in table(sweep)
