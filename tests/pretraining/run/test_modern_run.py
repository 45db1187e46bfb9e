"""Pre-training a modern pair: what is stored and resumed, and that every door opens the result."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.export.keras_file import export_keras
from electra_tf2.export.saved_model import export_saved_model
from electra_tf2.growing.grow import Growth, grow_model
from electra_tf2.inference.discriminator import Discriminator
from electra_tf2.inference.encoder import Encoder
from electra_tf2.inference.generator import Generator
from electra_tf2.loading.networks import build_encoder
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.attention import blocked_attention_mask
from tests.modeling.reference import encode_modern, weights_of
from tests.pretraining import tiny

NETWORK = {n: v for n, v in tiny.NETWORK.items() if n != "max_position_embeddings"}
MODERN = {
    "encoder": "modern",
    "model_hparam_overrides": NETWORK | {"num_hidden_layers": 2, "local_attention": 8},
}
TEXTS = ["the old harbour", "a"]


@pytest.fixture(scope="module")
def trained(tiny_data):
    """Six steps, with checkpoints after 3 and 6.

    Returns the model folder, what was printed, and the shapes of masks of attention in blocks.
    """
    blocks = set()

    def in_blocks(*arguments):
        mask = blocked_attention_mask(*arguments)
        blocks.add(tuple(mask.shape[1:]))
        return mask

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("electra_tf2.modeling.encoder.blocked_attention_mask", in_blocks)
        _, shown = tiny.pretrain_here(tiny_data, "modern_pair", do_eval=True, **MODERN)
    return tiny_data / "models" / "modern_pair", shown, blocks


@pytest.fixture(scope="module")
def source(trained):
    return open_source(str(trained[0]))


def test_what_is_stored(trained):
    folder, shown, _ = trained
    network = json.loads((folder / "config.json").read_text())["network"]
    assert network["encoder"] == "modern" and network["local_attention"] == 8
    assert network["max_position_embeddings"] == 8192
    weights = tiny.newest(folder.parents[1], folder.name).weights
    assert not [name for name in weights if "position" in name or "token_type" in name]
    for scope in ("electra", "generator"):
        assert f"{scope}/layer_1/gate/kernel" in weights
        assert f"{scope}/final_layer_norm/gamma" in weights
    lines = tiny.lines(folder, "train")
    assert np.isfinite([line["loss"] for line in lines]).all()
    assert "parameters" in shown


def test_local_attention_is_computed_in_blocks_of_known_length(trained):
    assert trained[2] == {(1, tiny.LENGTH // 4, 4, 12)}


@pytest.mark.slow
def test_a_resumed_run_is_the_same(trained, tiny_data):
    folder = trained[0]
    again = tiny_data / "models" / "modern_again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "checkpoints" / "step-00000006")
    _, shown = tiny.pretrain_here(tiny_data, again.name, **MODERN)
    assert "Resuming at step 3" in shown
    tiny.assert_same_end(tiny_data, again.name, folder.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [{"precision": "bfloat16", "electric_objective": True}, {"xla": True}], ids=str
)
def test_other_ways_to_compute(tiny_data, changed):
    name = f"modern_{'_'.join(changed)}"
    tiny.pretrain_here(tiny_data, name, **MODERN, num_train_steps=2, **changed)
    assert np.isfinite(tiny.lines(tiny_data / "models" / name, "train")[-1]["loss"])


def test_other_windows_are_refused(trained, tiny_data):
    folder = trained[0]
    other = {**MODERN, "model_hparam_overrides": NETWORK | {"num_hidden_layers": 2}}
    with pytest.raises(UserError, match="model_hparam_overrides"):
        tiny.pretrain_here(tiny_data, folder.name, **other)
    with pytest.raises(UserError, match="local_attention: 8 there, 128 here"):
        tiny.pretrain_here(tiny_data, "modern_next", init_checkpoint=str(folder), **other)


def test_states_of_texts_longer_than_those_of_training(source):
    """Attentions of each layer and states of all come out; positions have no end."""
    encoder = Encoder.from_source(source, "float32")
    text = " ".join(["old"] * 3 * tiny.LENGTH)
    found = encoder.encode([text, *TEXTS], layers=[0, -1], attentions=True)
    length = len(found.tokens[0])
    assert length > 2 * tiny.LENGTH
    assert found.attentions.shape == (3, 2, 2, length, length)
    distances = np.abs(np.arange(length)[:, None] - np.arange(length))
    assert (found.attentions[0, 1].max(axis=0) > 0).tolist() == (distances <= 4).tolist()
    ids = np.array([[source.vocabulary.ids[token] for token in found.tokens[0]]], np.int32)
    expected = encode_modern(source.network, weights_of(encoder.network), ids, np.ones_like(ids))
    np.testing.assert_allclose(found.states[0, 1], expected[0], atol=1e-5)


def test_pairs_of_texts_are_told_apart_by_sep_alone(source):
    encoder = Encoder.from_source(source, "float32")
    pair = encoder.encode([("the old", "harbour")])
    assert pair.tokens[0].count("[SEP]") == 2
    assert np.isfinite(pair.states).all()


def test_discriminator_and_generator(trained):
    detected = Discriminator.from_pretrained(trained[0]).detect(TEXTS)
    assert len(detected) == 2
    (filled,) = Generator.from_pretrained(trained[0]).fill_mask("the [MASK] harbour")
    assert filled


@pytest.mark.slow
def test_a_saved_model_and_keras_files(trained, source, tmp_path):
    expected = Encoder.from_source(source, "float32").encode(TEXTS)
    export_saved_model(str(trained[0]), str(tmp_path / "saved"))
    model = tf.saved_model.load(str(tmp_path / "saved"))
    found = model.signatures["encode"](texts=tf.constant(TEXTS))
    np.testing.assert_allclose(found["states"], expected.states, atol=1e-5)
    export_keras(str(trained[0]), str(tmp_path / "keras"))
    network = tf.keras.models.load_model(str(tmp_path / "keras" / "encoder.keras"))
    assert network.config == source.network
    states = network(found["input_ids"], found["mask"]).numpy()
    real = expected.mask
    np.testing.assert_allclose(states[real], expected.states[real], atol=1e-5)


def test_it_grows_by_pieces_and_not_by_positions(trained, tmp_path):
    folder = str(trained[0])
    with pytest.raises(UserError, match="rotary") as caught:
        grow_model(folder, str(tmp_path / "long"), Growth(max_positions=9000))
    assert caught.value.where == "--max-positions"
    pieces = tmp_path / "pieces.txt"
    pieces.write_text("xylophone\n")
    grow_model(folder, str(tmp_path / "grown"), Growth(new_pieces=str(pieces)))
    grown = open_source(str(tmp_path / "grown"))
    rows = open_source(folder).network.vocab_size + 1
    assert grown.network == dataclasses.replace(open_source(folder).network, vocab_size=rows)
    build_encoder(grown)
