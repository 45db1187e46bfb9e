"""Numbers that no machine can use end in an error that names their hparam, before anything else."""

import math

import pytest

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import randomness
from electra_tf2.errors import UserError
from electra_tf2.hparams import shared_checks
from electra_tf2.hparams.shared_checks import TransformerHParams
from electra_tf2.hparams.types import type_name
from electra_tf2.pretraining.phases import examples_at, phases_of

NUMBERS = (2**63, -(2**63), 10**400, 10**12, 1e308, -1e308, 1e-320, math.inf, -math.inf, math.nan)
CONFIGS = {"pretraining": PretrainingConfig, "finetuning": FinetuningConfig}
NAMES = [
    pytest.param(config, name, id=f"{kind}-{name}")
    for kind, config in CONFIGS.items()
    for name, hint in config.types().items()
    if "integer" in type_name(hint) or "number" in type_name(hint)
]
SIZES = [name for name, hint in TransformerHParams.types().items() if "string" not in str(hint)]


def refused(config, **hparams):
    """The error of a configuration, or None if it is accepted."""
    try:
        config("model", "data", **hparams)
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("config, name", NAMES)
def test_any_number_is_used_or_refused_by_name(config, name):
    for number in NUMBERS:
        error = refused(config, **{name: number})
        if error is None:
            kept = getattr(config("model", "data", **{name: number}), name)
            assert abs(kept) <= (1e30 if isinstance(kept, float) else 10**12)
        else:
            assert name in f"{error.where} {error.received}"


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_sizes_of_the_network(config, name):
    for number in set(NUMBERS) - {1e-320}:
        error = refused(config, model_hparam_overrides={name: number})
        assert error is not None and name in f"{error.where} {error.received}", number


@pytest.mark.parametrize(
    "name", ["train_batch_size", "eval_batch_size", "embedding_size", "vocab_size", "seed"]
)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_trillion_is_too_much(config, name):
    error = refused(config, **{name: 10**12})
    assert error is not None and name in f"{error.where} {error.received}"


def test_a_network_larger_than_the_memory(monkeypatch):
    network = PretrainingConfig("model", "data").network()
    weights = 4 * (12 * 12 * 256 * 256 + (30522 + 512 + 2) * 128)
    monkeypatch.setattr(shared_checks, "_memory_bytes", lambda: weights)
    shared_checks.check_network_fits(network)
    monkeypatch.setattr(shared_checks, "_memory_bytes", lambda: weights - 1)
    with pytest.raises(UserError) as error:
        shared_checks.check_network_fits(network)
    assert "model_hparam_overrides" in error.value.where


@pytest.mark.parametrize("share", ["generator_layers", "generator_hidden_size"])
def test_shares_of_the_generator(share):
    error = refused(PretrainingConfig, **{share: 1e30})
    assert error is not None and share in error.received


def test_positions_stay_within_64_bits():
    most = {"num_train_steps": 10**12, "train_batch_size": 10**6, "max_seq_length": 8}
    config = PretrainingConfig("model", "data", **most, mask_prob=0.5)
    assert examples_at(phases_of(config), config.num_train_steps) < 2**63
    phases = [{"num_train_steps": 10**12}] * 2
    error = refused(PretrainingConfig, phases=phases)
    assert error is not None and "num_train_steps" in error.where


def test_every_layer_has_dropout_of_its_own():
    """A network's places for random numbers end before those of the next one begin."""
    assert 2 * randomness.DISCRIMINATOR_SITES <= randomness.MAX_SITES
    for places, hparams in (
        (randomness.DISCRIMINATOR_SITES, {}),
        (randomness.RIGHT_TO_LEFT_SITES, {"two_tower_generator": True}),
    ):
        most = (places - 1) // randomness.SITES_PER_BLOCK
        fits, too_deep = (
            refused(PretrainingConfig, model_hparam_overrides={"num_hidden_layers": n}, **hparams)
            for n in (most, most + 1)
        )
        assert fits is None and too_deep is not None
        assert f"at most {most}" in str(too_deep.remedy)
