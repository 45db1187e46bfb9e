"""Pre-training starts from Hugging Face models: every variable, the same tokens, or an error."""

import types

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.pretraining.run.restore import check_start, load_weights
from electra_tf2.text.normalization import UNCASED, Casing
from tests.formats.huggingface_models import NETWORK, SMALLER, write_model, write_pair
from tests.pretraining import tiny

HPARAMS = {
    "model_hparam_overrides": {
        name: NETWORK.to_dict()[name]
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads",
                     "intermediate_size", "max_position_embeddings")
    },
    "generator_hidden_size": 0.75,
}  # fmt: skip


def trainer(**pair):
    """As much of a trainer as loading needs: the variables' names and shapes."""
    built = build_pair(NETWORK, generator_hidden_size=0.75, **pair)
    networks = filter(None, (built.encoder, built.discriminator, built.generator))
    variables = {v.path: v for part in networks for v in part.trainable_variables}
    named = types.SimpleNamespace(names=list(variables), variables=list(variables.values()))
    optimizer = types.SimpleNamespace(variables=named)
    return types.SimpleNamespace(run=types.SimpleNamespace(optimizer=optimizer))


def load(folder, check=lambda pretrained: None, **pair):
    return load_weights(trainer(**pair), str(folder), check)


def test_both_networks_are_taken_whole(tmp_path, capsys):
    discriminator, generator = write_pair(tmp_path)
    weights = load(tmp_path)
    assert weights.keys() == set(trainer().run.optimizer.variables.names)
    np.testing.assert_array_equal(
        weights["generator/layer_1/output/kernel"].T,
        generator["electra.encoder.layer.1.output.dense.weight"],
    )
    assert "Not used" not in capsys.readouterr().err


def test_a_masked_lm_and_what_it_has_no_use_for(tmp_path, capsys):
    write_pair(tmp_path)
    weights = load(tmp_path, uniform_generator=True)
    assert not any(name.startswith("generator") for name in weights)
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "Not used" in x)
    assert "generator/" in line
    with pytest.raises(UserError) as error:
        load(tmp_path / "discriminator")
    assert "generator/layer_0/attention/query/kernel is missing" in error.value.received


def test_embeddings_of_the_generator_s_own_are_not_dropped(tmp_path):
    write_pair(tmp_path, tied=False)
    with pytest.raises(UserError) as error:
        load(tmp_path)
    assert "generator/embeddings/word_embeddings is not part of the network" in str(error.value)
    load(tmp_path, uniform_generator=True)  # has no generator to share them with


@pytest.fixture
def configured(tmp_path):
    tiny.write_vocabulary(tmp_path)
    return lambda **hparams: tiny.configure(tmp_path, **HPARAMS | hparams)


@pytest.mark.parametrize(
    "hparams, strip_accents, part",
    [
        ({}, True, None),
        ({"do_lower_case": False}, True, "do_lower_case: True there, False here"),
        ({}, False, "strip_accents: True there, False here"),
        (
            {"model_hparam_overrides": HPARAMS["model_hparam_overrides"] | {
                "num_attention_heads": 4}},
            True,
            "num_attention_heads: 2 there, 4 here",
        ),
    ],
)  # fmt: skip
def test_what_shapes_do_not_show(tmp_path, configured, hparams, strip_accents, part):
    write_pair(tmp_path / "pair")
    config = configured(**hparams)
    casing = Casing(config.do_lower_case, strip_accents)
    check = lambda model: check_start(model, config, casing)  # noqa: E731
    if part is None:
        load(tmp_path / "pair", check)
        return
    with pytest.raises(UserError, match="belong to another model") as error:
        load(tmp_path / "pair", check)
    assert part in error.value.received


def test_accents_of_cased_text_are_no_difference(tmp_path, configured):
    write_model(tmp_path, "discriminator", casing=Casing(False, False))
    pretrained = open_pretrained(str(tmp_path))
    check_start(pretrained, configured(do_lower_case=False), Casing(False, True))


def test_another_vocabulary_and_other_heads_of_the_generator(tmp_path, configured):
    small = TransformerConfig(**NETWORK.to_dict() | SMALLER | {"num_attention_heads": 3})
    write_pair(tmp_path / "pair", tied=False)
    write_model(tmp_path / "pair" / "generator", "generator", small)
    for path in (tmp_path / "pair").rglob("*"):
        if path.name in ("vocab.txt", "tokenizer.json"):
            path.write_text(path.read_text().replace("ship", "boat"))
    config = configured()
    with pytest.raises(UserError) as error:
        check_start(open_pretrained(str(tmp_path / "pair")), config, UNCASED)
    assert "the generator's num_attention_heads: 3 there, 1 here" in error.value.received
    assert "the vocabulary:" in error.value.received
    with pytest.raises(UserError) as error:
        pretrained = open_pretrained(str(tmp_path / "pair"))
        check_start(pretrained, configured(uniform_generator=True), UNCASED)
    assert "the generator's" not in error.value.received


@pytest.mark.slow
def test_a_run_that_starts_there(tiny_data, tmp_path):
    network = TransformerConfig(
        **NETWORK.to_dict() | {
            "num_hidden_layers": 1, "intermediate_size": 64,
            "max_position_embeddings": tiny.LENGTH,
        }
    )  # fmt: skip
    write_model(tmp_path, "discriminator", network)
    _, shown = tiny.pretrain_here(
        tiny_data, "from-huggingface", **tiny.UNIFORM, num_train_steps=1,
        init_checkpoint=str(tmp_path),
    )  # fmt: skip
    assert f"Starting from the weights in {tmp_path}/model.safetensors" in shown
