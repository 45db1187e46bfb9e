"""The generator's weights from an existing masked LM: which models fit, and what is said."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.growing.grow import Growth, grow_model
from electra_tf2.loading.networks import build_discriminator, build_generator
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.electra import build_pair
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.pretraining.run.init_generator import load_generator
from electra_tf2.pretraining.run.restore import load_weights
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import write_vocabulary
from tests.formats import huggingface_models
from tests.pretraining import tiny
from tests.pretraining.masked_lms import DISCRIMINATOR, MASKED_LM, write_model

CASES = pathlib.Path(__file__).parents[2] / "conformance" / "cases"
UNTIED = {"untied_generator_embeddings": True}
OWN = {"untied_generator_embeddings": True, "generator_embedding_size": 4}
KEPT = {"train_generator": False, "generator_embedding_size": 4}
WINDOW = {"model_hparam_overrides": tiny.NETWORK | {"local_attention": 8}}
MODERN = {"encoder": "modern", "generator_layers": 4.0, **WINDOW}
SMALL = {"generator_hidden_size": 0.5, "with_discriminator": True}


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    write_vocabulary(folder)
    return folder / "vocab.txt"


def configure(vocabulary, path, **hparams):
    hparams = {"vocab_file": str(vocabulary), "init_generator": str(path)} | hparams
    return tiny.configure(vocabulary.parent, **hparams)


def taken(config, casing=UNCASED):
    """Builds the run's networks and gives the generator its weights; returns (pair, arrays)."""
    vocabulary = load_vocabulary(config.vocab_file)
    objective, pair = build_pretraining(config, config.network(), vocabulary)
    variables = {**objective.named_variables(), **objective.named_constants()}
    arrays = load_generator(config, casing, variables)
    for name, array in arrays.items():
        variables[name].assign(array)
    return pair, arrays


def own(**pair):
    network = MASKED_LM if not pair else DISCRIMINATOR
    return lambda folder, vocab_file: write_model(folder, vocab_file, network, **pair)


def modern(**changed):
    fields = {"encoder": "modern", "intermediate_size": 24, "num_hidden_layers": 4} | changed
    network = dataclasses.replace(MASKED_LM, local_attention=8, **fields)
    return lambda folder, vocab_file: write_model(folder, vocab_file, network)


def huggingface(family, **changed):
    network = dataclasses.replace(MASKED_LM, **changed)
    return lambda folder, _: huggingface_models.write_model(folder, "generator", network, family)


def official(folder, _):
    folder.symlink_to(CASES / "electra_train" / "final")


OFFICIAL = json.loads((CASES / "electra_train" / "case.json").read_text())["hparams"] | {
    "vocab_file": str(CASES / "vocab.txt"),
    "generator_embedding_size": 16,
}
# How a model is written, and the hparams that fit it.
SOURCES = {
    "a masked LM": (own(), OWN),
    "a masked LM, kept": (own(), KEPT),
    "a masked LM, shared": (own(), {"embedding_size": 4}),
    "a generator": (own(**SMALL), KEPT | {"generator_embedding_size": 8}),
    "a generator, gdes": (
        own(**SMALL, disentangled_embeddings=True), {"embedding_sharing": "gdes"},
    ),
    "its own embeddings": (own(**SMALL, **UNTIED), {"train_generator": False}),
    "ELECTRA in transformers": (huggingface("electra"), KEPT),
    "BERT in transformers": (huggingface("bert", embedding_size=8), {"train_generator": False}),
    "ALBERT in transformers": (
        huggingface("albert", encoder="albert"), KEPT | {"encoder": "albert"},
    ),
    "modern, kept": (modern(max_position_embeddings=99), KEPT | MODERN),
    "modern, shared": (modern(), MODERN | {"embedding_size": 4}),
    "an official checkpoint": (official, OFFICIAL | {"train_generator": False}),
}  # fmt: skip


@pytest.mark.parametrize("write, hparams", SOURCES.values(), ids=SOURCES)
def test_the_generator_computes_what_the_masked_lm_does(tmp_path, vocab_file, write, hparams):
    path = tmp_path / "source"
    write(path, vocab_file)
    config = configure(vocab_file, path, **hparams)
    pair, _ = taken(config)
    source = open_source(path, vocab_file=config.vocab_file)
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (2, 12)).astype(np.int32)
    mask = (np.arange(12) < np.array([[12], [7]])).astype(np.int32)
    expected = build_generator(source)(ids, mask, ids % 2)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(pair.generator(ids, mask, ids % 2), expected, atol=1e-6)
    if config.embedding_sharing == "gdes":  # the discriminator begins with the same tables
        table = pair.encoder.embeddings.table("word_embeddings")
        np.testing.assert_array_equal(table, pair.generator.encoder.embeddings.word_embeddings)


def trainer_of(pair):
    """As much of a trainer as loading needs, and the variables by name."""
    variables = {v.path: v for part in pair[:2] for v in part.trainable_variables}
    named = types.SimpleNamespace(names=list(variables), variables=list(variables.values()))
    run = types.SimpleNamespace(optimizer=types.SimpleNamespace(variables=named))
    return types.SimpleNamespace(run=run), variables


def test_a_checkpoint_whose_networks_share_embeddings(tmp_path, vocab_file):
    write_model(tmp_path / "shared", vocab_file, DISCRIMINATOR, **SMALL)
    stub, _ = trainer_of(build_pair(DISCRIMINATOR, generator_hidden_size=0.5, **UNTIED))
    with pytest.raises(UserError, match="belongs to another network") as info:
        load_weights(stub, str(tmp_path / "shared"), lambda pretrained: None)
    assert "set init_generator to it too" in info.value.remedy


@pytest.mark.parametrize(
    "there, here",
    [("modern", "bert"), ("bert", "modern"), ("albert", "bert"), ("official", "modern")],
)
def test_a_checkpoint_with_another_kind_of_encoder(tmp_path, vocab_file, there, here):
    path = CASES / "electra_train" / "final"
    if there != "official":
        path = tmp_path / there
        write_model(path, vocab_file, dataclasses.replace(DISCRIMINATOR, encoder=there), **SMALL)
    network = dataclasses.replace(DISCRIMINATOR, encoder=here)
    stub, _ = trainer_of(build_pair(network, generator_hidden_size=0.5))
    with pytest.raises(UserError, match="encoder is of another kind") as info:
        load_weights(stub, str(path), lambda pretrained: None)
    kind = "bert" if there == "official" else there
    assert info.value.received == f"encoder: {kind} there, {here} here"
    assert f"Set the hparam encoder to {kind}" in info.value.remedy


@pytest.mark.parametrize(
    "pair", [OWN, {"disentangled_embeddings": True}], ids=["own embeddings", "gdes"]
)
@pytest.mark.parametrize("is_official", [False, True], ids=["transformers", "official"])
def test_a_discriminator_from_another_model(tmp_path, pair, is_official):
    """Each network from its own source, whatever generator the discriminator's has."""
    path, vocabulary = CASES / "electra_train" / "final", CASES / "vocab.txt"
    if not is_official:
        path, vocabulary = tmp_path / "other", None
        huggingface_models.write_model(path, "discriminator", DISCRIMINATOR)
    source = open_source(path, vocab_file=vocabulary)
    built = build_pair(source.network, generator_hidden_size=0.5, **pair)
    stub, variables = trainer_of(built)
    given = {v.path: np.full(v.shape, 0.5, "float32") for v in built.generator.trainable_variables}
    found = load_weights(stub, str(path), lambda pretrained: None, given)
    assert found.keys() == variables.keys()
    for name, variable in variables.items():
        variable.assign(found[name])
    assert all((found[name] == 0.5).all() for name in given)
    ids = np.arange(5, 17, dtype=np.int32)[np.newaxis]
    expected = build_discriminator(source)(ids)
    np.testing.assert_allclose(built.discriminator(ids), expected, atol=1e-5)


def refused(config, casing=UNCASED):
    with pytest.raises(UserError) as info:
        load_generator(config, casing, [])
    assert info.value.where.startswith("hparam init_generator")
    return info.value


def test_other_sizes_and_the_hparams_that_give_them(tmp_path, vocab_file):
    """The remedy is followed literally."""
    network = dataclasses.replace(
        MASKED_LM, hidden_size=20, intermediate_size=80, num_hidden_layers=3
    )
    write_model(tmp_path / "larger", vocab_file, network)
    error = refused(configure(vocab_file, tmp_path / "larger", train_generator=False))
    assert "hidden_size: 20 there, 8 here; num_hidden_layers: 3 there, 1 here" in error.received
    assert error.remedy == (
        "Set generator_hidden_size to 1.25, generator_layers to 3, generator_embedding_size to 4."
    )
    words = error.remedy.removesuffix(".").removeprefix("Set ").split(", ")
    hparams = {name: json.loads(value) for name, value in (w.split(" to ") for w in words)}
    taken(configure(vocab_file, tmp_path / "larger", train_generator=False, **hparams))


@pytest.mark.parametrize(
    "changed, hparams, remedy",
    [
        ({}, {}, "Set embedding_size to 4."),
        ({"max_position_embeddings": 64}, OWN, "model_hparam_overrides.max_position_embeddings to"),
        ({"intermediate_size": 64}, OWN, "a generator of this width has intermediate_size 32"),
        ({"num_attention_heads": 2}, OWN, "num_attention_heads 1, whatever"),
        ({"hidden_act": "relu"}, OWN, "model_hparam_overrides.hidden_act to relu"),
    ],
)
def test_what_does_not_fit(tmp_path, vocab_file, changed, hparams, remedy):
    network = dataclasses.replace(MASKED_LM, **changed)
    write_model(tmp_path / "other", vocab_file, network)
    error = refused(configure(vocab_file, tmp_path / "other", **hparams))
    assert remedy in error.remedy
    assert all(f"{name}: {value} there" in error.received for name, value in changed.items())


def test_a_modern_masked_lm_for_other_hparams(tmp_path, vocab_file):
    modern(hidden_size=20, intermediate_size=56)(tmp_path / "modern", vocab_file)
    error = refused(configure(vocab_file, tmp_path / "modern", **KEPT))
    assert "local_attention: 8 there, 128 here" in error.received
    assert error.remedy == (
        "Set generator_hidden_size to 1.25, generator_layers to 4, encoder to modern, "
        "model_hparam_overrides.local_attention to 8."
    )
    hparams = KEPT | MODERN | {"generator_hidden_size": 1.25}
    taken(configure(vocab_file, tmp_path / "modern", **hparams))
    hparams["model_hparam_overrides"] = WINDOW["model_hparam_overrides"] | {"local_rope_theta": 99}
    error = refused(configure(vocab_file, tmp_path / "modern", **hparams))
    assert error.remedy == "Set model_hparam_overrides.local_rope_theta to 10000.0."


def test_positions_that_stay_random_are_warned_of(tmp_path, vocab_file, capsys):
    """Until the advice is followed."""
    paths = [tmp_path / name for name in ("short", "grown")]
    write_model(paths[0], vocab_file, hparams={"max_seq_length": 16})
    grow_model(str(paths[0]), str(paths[1]), Growth(max_positions=tiny.LENGTH))
    for path in paths:
        taken(configure(vocab_file, path, **KEPT))
    taken(configure(vocab_file, paths[0], **KEPT, max_seq_length=16))
    taken(configure(vocab_file, paths[0], **OWN))
    phases = [
        {"num_train_steps": 1, "max_seq_length": 16},
        {"num_train_steps": 1, "copy_positions": 16},
    ]
    copies = {"phases": phases, "num_train_steps": 2}
    taken(configure(vocab_file, paths[0], embedding_size=4, **copies))
    taken(configure(vocab_file, paths[0], **OWN, **copies))
    shown = capsys.readouterr().err.splitlines()
    warning, other = (line for line in shown if line.startswith("Warning"))
    assert "are random, and copy_positions leaves them as they are" in other
    assert "are random and stay so. Copy" in warning
    assert "examples of 16 tokens, and this run has 32" in warning
    assert f"--model-dir {paths[0]} --max-positions 32" in warning


def test_other_text(tmp_path, vocab_file):
    pieces = vocab_file.read_text().replace("ship", "boat")
    (tmp_path / "vocab.txt").write_text(pieces)
    write_model(tmp_path / "other", tmp_path / "vocab.txt", casing=Casing(False, False))
    error = refused(configure(vocab_file, tmp_path / "other", **KEPT))
    assert "do_lower_case: False there, True here" in error.received
    assert "the vocabulary:" in error.received and "vocab_file" in error.remedy


NO_MASKED_LM = {
    "nothing": (lambda folder, _: folder.mkdir(), "no masked LM to take", "model's folder"),
    "a discriminator": (
        lambda folder, _: huggingface_models.write_model(folder, "discriminator"),
        "no masked LM that can be",
        "electra_objective false",
    ),
    "two towers": (own(**SMALL, two_tower_generator=True), "no masked LM that", "of one tower"),
}


@pytest.mark.parametrize("write, what, remedy", NO_MASKED_LM.values(), ids=NO_MASKED_LM)
def test_no_masked_lm(tmp_path, vocab_file, write, what, remedy):
    write(tmp_path / "source", vocab_file)
    with pytest.raises(UserError, match=what) as info:
        load_generator(configure(vocab_file, tmp_path / "source", **KEPT), UNCASED, [])
    assert (
        remedy in info.value.remedy and str(tmp_path) in f"{info.value.where}{info.value.received}"
    )


def test_nothing_is_read_without_the_hparam():
    assert load_generator(PretrainingConfig("m", "d"), UNCASED, []) == {}
