"""Presets: complete, true to their sources, beaten by what is given, and documented."""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import get_args

import pytest

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.hparams.presets import FinetuningPresetName, PresetName, all_presets_markdown
from electra_tf2.hparams.recipes import FINETUNING_PRESETS, PRESETS
from electra_tf2.hparams.record import parse_hparams
from electra_tf2.hparams.types import check_value
from electra_tf2.modeling.config import generator_config
from electra_tf2.pretraining.phases import RunCompute

DOCS = Path(__file__).parents[1] / "docs"
LAMB = "electra_large_batch_lamb"

# From the sources, once more: the hparams in which the recipes differ.
NAMES = ("learning_rate", "num_warmup_steps", "num_train_steps", "train_batch_size",
         "max_seq_length", "mask_prob", "generator_hidden_size", "optimizer")  # fmt: skip
PUBLISHED = {
    "electra_small": (5e-4, 10000, 1000000, 128, 128, 0.15, 1 / 4, "adamw"),
    "electra_small_plus": (5e-4, 10000, 4000000, 128, 512, 0.15, 1.0, "adamw"),
    "electra_base": (2e-4, 10000, 766000, 256, 512, 0.15, 1 / 3, "adamw"),
    "electra_large": (2e-4, 10000, 400000, 2048, 512, 0.25, 1 / 4, "adamw"),
    "electra_small_owt": (5e-4, 10000, 1000000, 128, 128, 0.15, 1 / 4, "adamw"),
    LAMB: (6e-3, 2000, 10933, 67584, 128, 0.15, 1 / 3, "lamb"),
    "lmtuners_small_owt": (2e-3, 40000, 500000, 512, 128, 0.15, 1.0, "lamb"),
}
# (layers, hidden, embedding, intermediate, heads, positions), and (hidden, layers) of the generator
SHAPES = {
    "electra_small": ((12, 256, 128, 1024, 4, 512), (64, 12)),
    "electra_small_plus": ((12, 256, 128, 1024, 4, 512), (256, 12)),
    "electra_base": ((12, 768, 768, 3072, 12, 512), (256, 12)),
    "electra_large": ((24, 1024, 1024, 4096, 16, 512), (256, 24)),
    "electra_small_owt": ((12, 256, 128, 1024, 4, 512), (64, 12)),
    LAMB: ((12, 768, 768, 3072, 12, 512), (256, 12)),
    "lmtuners_small_owt": ((12, 256, 256, 1024, 4, 128), (256, 3)),
}


def config(preset, **hparams):
    return PretrainingConfig("m", "/data", preset=preset, **hparams)


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name):
    resolved = config(name)
    assert tuple(getattr(resolved, hparam) for hparam in NAMES) == PUBLISHED[name]
    network = resolved.network()
    assert (
        network.num_hidden_layers,
        network.hidden_size,
        network.embedding_size,
        network.intermediate_size,
        network.num_attention_heads,
        network.max_position_embeddings,
    ) == SHAPES[name][0]
    small = generator_config(
        network,
        hidden_fraction=resolved.generator_hidden_size,
        layers_fraction=resolved.generator_layers,
    )
    assert (small.hidden_size, small.num_hidden_layers) == SHAPES[name][1]
    assert network.hidden_dropout_prob == network.attention_probs_dropout_prob == 0.1
    assert (resolved.vocab_size, resolved.disc_weight, resolved.gen_weight) == (30522, 50.0, 1.0)
    assert (resolved.weight_decay_rate, resolved.adam_epsilon) == (0.01, 1e-6)


def test_the_others_are_published_here():
    ours = {"electra_tiny": ((128, 3, 128), (16, 1)), "electra_mini": ((192, 4, 192), (32, 1))}
    assert PRESETS.keys() - PUBLISHED == ours.keys()
    for name, shapes in ours.items():
        resolved = config(name)
        network = resolved.network()
        small = generator_config(
            network,
            hidden_fraction=resolved.generator_hidden_size,
            layers_fraction=resolved.generator_layers,
        )
        sizes = network.hidden_size, network.num_hidden_layers, network.embedding_size
        assert sizes == shapes[0]
        assert (small.hidden_size, small.num_hidden_layers) == shapes[1]


def test_the_phases_of_large_batches():
    first, second = config(LAMB).phases
    assert first == {
        "num_train_steps": 10000,
        "max_seq_length": 128,
        "train_batch_size": 176 * 8 * 48,
        "gradient_accumulation_steps": 48,
        "learning_rate": 6e-3,
        "num_warmup_steps": 2000,
        "pretrain_tfrecords": "/data/pretrain_tfrecords_128/pretrain_data.tfrecord*",
    }
    assert second == {
        "num_train_steps": 933,
        "max_seq_length": 512,
        "train_batch_size": 24 * 8 * 144,
        "gradient_accumulation_steps": 144,
        "learning_rate": 4e-3,
        "num_warmup_steps": 200,
        "pretrain_tfrecords": "/data/pretrain_tfrecords_512/pretrain_data.tfrecord*",
    }
    resolved = config(LAMB)
    assert (resolved.adam_beta_1, resolved.adam_beta_2) == (0.878, 0.974)
    assert (resolved.lr_decay_power, resolved.adam_bias_correction) == (0.5, True)


@pytest.mark.parametrize("name", PRESETS)
def test_only_a_generator_of_full_size_is_warned_of(name):
    generator = ["the generator is large"] if name == "electra_small_plus" else []
    assert [warning.split(":")[0] for warning in config(name).warnings] == generator


def test_the_defaults_are_electra_small():
    assert config("electra_small").to_dict() == PretrainingConfig(
        "m", "/data", preset=None
    ).to_dict() | {"preset": "electra_small"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_and_well_typed(name):
    types = PretrainingConfig.types()
    values = PRESETS[name].values
    for hparam, (value, source) in values.items():
        assert check_value(hparam, value, types[hparam]) == value
        assert len(source) > 10
    assert values.keys() | {"phases"} == PRESETS[LAMB].values.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_recorded_and_can_be_given_back(name):
    stored = json.loads(json.dumps(config(name).to_dict()))
    assert stored["preset"] == name
    assert PretrainingConfig("m", "/data", **stored).to_dict() == stored
    plain = config(name)
    plain.preset = None
    assert PretrainingConfig.changed_on_resume(stored, plain.to_dict()) == []
    assert config(name).given == {"preset"}


@pytest.mark.parametrize(
    "name, given",
    [
        ("electra_base", {"learning_rate": 1e-3, "num_train_steps": 5, "mask_prob": 0.2}),
        ("electra_base", {"adam_beta_2": 0.98, "embedding_size": 64}),
        ("lmtuners_small_owt", {"adam_bias_correction": True, "embedding_size": 128}),
        (LAMB, {"phases": None, "num_train_steps": 7, "train_batch_size": 16}),
        (LAMB, {"phases": [{"num_train_steps": 3}]}),
    ],
)
def test_given_hparams_win(name, given):
    resolved = config(name, **given)
    for hparam, value in given.items():
        assert getattr(resolved, hparam) == value
    kept = resolved.given | {"phases", "num_train_steps"}
    for hparam, (value, _) in PRESETS[name].values.items():
        assert hparam in kept or getattr(resolved, hparam) == value


def test_given_hparams_win_in_phases_too():
    for phase in config(LAMB, mask_prob=0.2, learning_rate=1e-3).phases:
        assert "learning_rate" not in phase and phase["num_train_steps"] > 900
    with pytest.raises(UserError, match="num_train_steps of all phases = 10933"):
        config(LAMB, num_train_steps=5)


def test_what_follows_from_a_given_hparam_is_not_the_preset_s():
    assert config("electra_small", model_size="base").network().embedding_size == 768
    assert config("electra_base", encoder="albert").network().embedding_size == 128
    assert config("electra_base", optimizer="lamb").adam_bias_correction
    assert not config(LAMB, optimizer="adamw").adam_bias_correction


def test_overrides_of_the_network_are_added_to_the_preset_s():
    resolved = config("lmtuners_small_owt", model_hparam_overrides={"hidden_dropout_prob": 0.2})
    assert resolved.model_hparam_overrides == {
        "max_position_embeddings": 128,
        "hidden_dropout_prob": 0.2,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_debug_mode_stays_tiny(name):
    tiny = config(name, debug=True)
    assert (tiny.train_batch_size, tiny.num_train_steps, tiny.phases) == (8, 20, None)
    assert tiny.network().num_hidden_layers == 3
    assert config(name, debug=True, num_train_steps=7).num_train_steps == 7


@pytest.mark.parametrize(
    "preset, message",
    [
        ("electra_smal", "Did you mean 'electra_small'?"),
        ("xlnet", "Use one of: electra_small, "),
        (3, 'Give "electra_small" or'),
        ([], 'Give "electra_small" or'),
    ],
)
def test_unknown_presets(preset, message):
    with pytest.raises(UserError) as info:
        config(preset, model_hparam_overrides={})
    assert message in info.value.remedy


def test_the_types_of_the_hparams_name_them():
    assert get_args(PresetName) == tuple(PRESETS)
    assert get_args(FinetuningPresetName) == tuple(FINETUNING_PRESETS)


def test_help_names_them():
    text = " ".join(PretrainingConfig.describe().split())
    for name in PRESETS:
        assert f'"{name}"' in text


def test_the_page_shows_every_value_and_source(capsys, monkeypatch):
    page = (DOCS / "presets.md").read_text(encoding="utf-8")
    assert page.endswith(all_presets_markdown())
    for name in PRESETS:
        resolved = config(name)
        spent = RunCompute(resolved, resolved.network()).figures(resolved.num_train_steps)
        (row,) = [line for line in page.splitlines() if line.startswith(f"| [{name}](#{name}) |")]
        assert row.endswith(f" | {spent['pfs_days']:.3g} |")
        phases = resolved.phases or [resolved.to_dict()]
        for phase in phases:
            assert f"{phase['num_train_steps']:,} × {phase['train_batch_size']:,} × " in row
    monkeypatch.delitem(sys.modules, "electra_tf2.hparams.presets")
    runpy.run_module("electra_tf2.hparams.presets", run_name="__main__")
    assert capsys.readouterr().out == all_presets_markdown()


def test_the_commands_of_the_page_are_accepted():
    page = (DOCS / "presets.md").read_text(encoding="utf-8")
    configs = {"run_pretraining.py": PretrainingConfig, "run_finetuning.py": FinetuningConfig}
    commands = re.findall(r"^python (\w+\.py) .*?--hparams\s+(?:\\\n\s*)?'(.*?)'$", page, re.M)
    assert len(commands) == page.count("--hparams") == 4
    for script, text in commands:
        assert configs[script]("m", "data", **parse_hparams(text)).preset in PRESETS


@pytest.mark.parametrize(
    "name, learning_rate, decay",
    [("electra_small", 3e-4, 0.8), ("electra_base", 1e-4, 0.8), ("electra_large", 5e-5, 0.9)],
)
def test_fine_tuning(name, learning_rate, decay):
    resolved = FinetuningConfig("m", "d", preset=name, task_names=["rte"])
    assert (resolved.learning_rate, resolved.layerwise_lr_decay) == (learning_rate, decay)
    assert (resolved.weight_decay_rate, resolved.warmup_proportion) == (0.0, 0.1)
    assert (resolved.train_batch_size, resolved.num_train_epochs) == (32, 10.0)
    assert resolved.model_size == name.removeprefix("electra_")
    assert resolved.given == {"preset", "task_names"}
    assert FinetuningConfig("m", "d", preset=name, learning_rate=1.0).learning_rate == 1.0
    types = FinetuningConfig.types()
    for hparam, (value, _) in FINETUNING_PRESETS[name].values.items():
        assert check_value(hparam, value, types[hparam]) == value == getattr(resolved, hparam)


def test_fine_tuning_knows_its_own_presets_only():
    with pytest.raises(UserError, match="Did you mean 'electra_small'"):
        FinetuningConfig("m", "d", preset="electra_small_owt")
