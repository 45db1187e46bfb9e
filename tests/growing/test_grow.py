"""Grown models: the same outputs as before for old text, complete folders, and clear errors."""

import json

import numpy as np
import pytest

import grow_model
from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.loading.networks import (
    build_discriminator,
    build_encoder,
    build_generator,
    has_discriminator,
    has_generator,
)
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import PIECES
from tests.export.test_huggingface_export import own_model
from tests.finetune.fine_tuned_models import write_fine_tuned
from tests.formats.huggingface_models import NETWORK, write_model, write_pair
from tests.inference import official_models as official

NEW = ["shipbread", "##ser", "ж"]
LENGTH = 12
POSITIONS = "electra/embeddings/position_embeddings"


def grow(model, output, *flags):
    arguments = ["--model-dir", model, "--output", output, *flags]
    grow_model.main(list(map(str, arguments)))
    return open_source(str(output))


def pieces_file(tmp_path, *pieces):
    path = tmp_path / "new_pieces.txt"
    path.write_text("".join(f"{piece}\n" for piece in pieces or NEW), encoding="utf-8")
    return path


def outputs(source, ids):
    """What each of a model's networks computes; the generator over its pieces."""
    mask, segments = np.ones_like(ids), (np.arange(LENGTH) > 6) * np.ones_like(ids)
    found = {}
    if has_discriminator(source.pretrained):
        network = build_discriminator(source)
        found["discriminator"] = network(ids, mask, segments)
        encoder = network.encoder
    else:
        encoder = build_encoder(source)
    found["states"] = encoder(ids, mask, segments)
    if has_generator(source.pretrained):
        logits = build_generator(source, encoder=encoder)(ids, mask, segments)
        found["generator"] = logits[..., : len(source.vocabulary)]
    return {name: np.asarray(value) for name, value in found.items()}


def assert_old_outputs(before, after):
    """Compares outputs for random old pieces; returns the new ones."""
    size = len(before.vocabulary)
    ids = np.random.default_rng(1).integers(0, size, (3, LENGTH)).astype(np.int32)
    old, new = outputs(before, ids), outputs(after, ids)
    assert old.keys() == new.keys()
    for name, values in old.items():
        same = new[name][..., :size] if name == "generator" else new[name]
        np.testing.assert_allclose(same, values, rtol=0, atol=1e-6, err_msg=name)
    return new


def own(tmp_path, **pair):
    return own_model(tmp_path / "own", **pair)[0]


def albert(tmp_path):
    network = TransformerConfig(**{**NETWORK.to_dict(), "encoder": "albert"})
    return own_model(tmp_path / "own", network, {"generator_layers": 0.5}, generator_layers=0.5)[0]


def padded(tmp_path):
    """A model with more embeddings than pieces."""
    network = TransformerConfig(**{**NETWORK.to_dict(), "vocab_size": len(PIECES) + 2})
    return own_model(tmp_path / "own", network)[0]


def huggingface(tmp_path):
    write_pair(tmp_path / "pair", network=NETWORK)
    return tmp_path / "pair"


def huggingface_bert(tmp_path):
    network = TransformerConfig(**{**NETWORK.to_dict(), "embedding_size": 16})
    write_model(tmp_path / "bert", "generator", network, family="bert")
    return tmp_path / "bert"


MODELS = {
    "tied": own,
    "own embeddings": lambda path: own(path, untied_generator_embeddings=True),
    "disentangled": lambda path: own(path, disentangled_embeddings=True),
    "two towers": lambda path: own(path, two_tower_generator=True),
    "one encoder": lambda path: own(path, untied_generator=False),
    "no generator": lambda path: own(path, uniform_generator=True),
    "albert": albert,
    "padded": padded,
    "huggingface": huggingface,
    "huggingface, bert": huggingface_bert,
}


@pytest.mark.parametrize("kind", MODELS)
def test_old_text_has_the_outputs_that_it_had(tmp_path, kind):
    model = MODELS[kind](tmp_path)
    before = open_source(str(model))
    flags = ["--new-pieces", pieces_file(tmp_path), "--max-positions", 100]
    after = grow(model, tmp_path / "new", *flags, "--trained-positions", LENGTH)
    assert after.vocabulary.tokens == (*PIECES, *NEW)
    assert after.casing == before.casing
    assert after.network.vocab_size == len(PIECES) + 3
    assert after.network.max_position_embeddings == 100
    new = assert_old_outputs(before, after)
    if "generator" in new:
        assert new["generator"].shape[-1] == len(PIECES) + 3
    for name, array in after.pretrained.arrays.items():
        if name.endswith("/position_embeddings"):
            np.testing.assert_array_equal(array[LENGTH : 2 * LENGTH], array[:LENGTH])
        if name.endswith(("/word_embeddings", "/output_bias")):
            ids = after.vocabulary.ids  # "shipbread" was [UNK], as "##bread" is not a piece
            mean = array[: len(PIECES)].mean(axis=0)
            np.testing.assert_allclose(array[ids["shipbread"]], mean, rtol=1e-5, atol=1e-6)
            mean = (array[ids["##s"]] + array[ids["##er"]]) / 2
            np.testing.assert_allclose(array[ids["##ser"]], mean, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["electra_train", "untied_embeddings"])
def test_official_checkpoints(tmp_path, name, capsys):
    before, vocab = official.source(name), official.options(name)["vocab_file"]
    heads = before.network.num_attention_heads
    flags = ["--vocab-file", vocab, "--new-pieces", pieces_file(tmp_path, "qqж", "##жq")]
    after = grow(official.folder(name), tmp_path / "new", *flags, "--num-attention-heads", heads)
    assert after.vocabulary.tokens == (*load_vocabulary(vocab).tokens, "qqж", "##жq")
    assert after.pretrained.format == "electra_tf2"
    assert_old_outputs(before, after)
    assert "fresh optimizer" in capsys.readouterr().err


def test_a_new_piece_takes_the_place_of_those_that_spelled_it(tmp_path):
    model = own(tmp_path)
    source = grow(model, tmp_path / "new", "--new-pieces", pieces_file(tmp_path))
    assert make_tokenizer(source.vocabulary, source.casing).tokenize("shipbread olders older") == [
        "shipbread", "old", "##er", "##s", "old", "##er",
    ]  # fmt: skip


def test_padded_embeddings_are_used(tmp_path, capsys):
    model = padded(tmp_path)
    source = grow(model, tmp_path / "new", "--new-pieces", pieces_file(tmp_path, "ж"))
    assert source.network.vocab_size == len(PIECES) + 2
    assert source.vocabulary.ids["ж"] == len(PIECES)
    assert "1 took embeddings that no text had" in capsys.readouterr().err


def test_unused_pieces_give_their_places(tmp_path, capsys):
    model = own(tmp_path)
    tokens = ["[unused7]" if piece == "town" else piece for piece in PIECES]
    (model / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    flags = ["--new-pieces", pieces_file(tmp_path, "olders"), "--reuse-unused"]
    before, after = open_source(str(model)), grow(model, tmp_path / "new", *flags)
    place = PIECES.index("town")
    assert after.network == before.network and after.vocabulary.ids["olders"] == place
    assert "1 took the place of a piece [unused…]; 0 such" in capsys.readouterr().err
    for name, array in before.pretrained.arrays.items():
        new = after.pretrained.arrays[name]
        changed = name.endswith(("/word_embeddings", "/output_bias"))
        kept = np.delete(np.arange(len(array)), place) if changed else slice(None)
        np.testing.assert_array_equal(new[kept], array[kept])
        if changed:
            spelled = [PIECES.index(piece) for piece in ("old", "##er", "##s")]
            np.testing.assert_allclose(new[place], array[spelled].mean(axis=0), rtol=1e-5)


def test_trained_positions_are_those_of_the_longest_examples(tmp_path, capsys):
    phases = [{"num_train_steps": 5, "max_seq_length": 24}, {"num_train_steps": 5}]
    model, arrays = own_model(tmp_path / "own", hparams={"max_seq_length": 8, "phases": phases})
    source = grow(model, tmp_path / "new", "--max-positions", 64)
    table = source.pretrained.arrays["electra/embeddings/position_embeddings"]
    old = arrays["electra/embeddings/position_embeddings"]
    np.testing.assert_array_equal(table[:48], np.concatenate([old[:24], old[:24]]))
    assert "first 24 positions count as trained: its examples" in capsys.readouterr().err
    grow(tmp_path / "new", tmp_path / "newer", "--max-positions", 128)  # it is still known
    assert "first 24 positions count as trained: its checkpoint" in capsys.readouterr().err


def test_a_phase_that_has_not_begun_has_trained_no_positions(tmp_path, capsys):
    phases = [{"num_train_steps": 10}, {"num_train_steps": 5, "max_seq_length": 48}]
    model, arrays = own_model(tmp_path / "own", hparams={"max_seq_length": 16, "phases": phases})
    source = grow(model, tmp_path / "new", "--max-positions", 96)  # the checkpoint is of step 10
    old = arrays[POSITIONS][:16]
    np.testing.assert_array_equal(source.pretrained.arrays[POSITIONS], np.tile(old, (6, 1)))
    assert "first 16 positions count as trained" in capsys.readouterr().err


def test_stretched_positions_are_all_trained(tmp_path, capsys):
    model, _ = own_model(tmp_path / "own", hparams={"max_seq_length": 16})
    flags = ["--max-positions", 96, "--positions", "interpolate"]
    stretched = grow(model, tmp_path / "new", *flags).pretrained.arrays[POSITIONS]
    capsys.readouterr()
    # Word pieces alone change nothing about it.
    grow(tmp_path / "new", tmp_path / "pieces", "--new-pieces", pieces_file(tmp_path))
    longer = grow(tmp_path / "pieces", tmp_path / "longer", "--max-positions", 192)
    np.testing.assert_array_equal(longer.pretrained.arrays[POSITIONS], np.tile(stretched, (2, 1)))
    assert "first 96 positions count as trained" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["init_checkpoint", "branch_from"])
def test_no_row_of_other_weights_is_lost(tmp_path, capsys, start):
    """The run's own examples are short, but nothing says how long those before it were."""
    model, arrays = own_model(tmp_path / "own", hparams={"max_seq_length": 16, start: "older"})
    source = grow(model, tmp_path / "new", "--max-positions", 100)
    rows = NETWORK.max_position_embeddings
    np.testing.assert_array_equal(source.pretrained.arrays[POSITIONS][:rows], arrays[POSITIONS])
    said = capsys.readouterr().err
    assert f"first {rows} positions count as trained: it began as older" in said
    flags = ["--max-positions", 100, "--trained-positions", 16]
    source = grow(model, tmp_path / "stated", *flags)
    table = source.pretrained.arrays[POSITIONS]
    np.testing.assert_array_equal(table[16:32], arrays[POSITIONS][:16])


def test_the_hparams_that_are_printed_lead_on(tmp_path, capsys):
    """Beside a folder whose vocabulary is the old one, and with the model's other sizes."""
    sizes = {"vocab_size": len(PIECES), "num_hidden_layers": 3, "max_position_embeddings": 64}
    model, _ = own_model(tmp_path / "own", hparams={"model_hparam_overrides": sizes})
    flags = ["--new-pieces", pieces_file(tmp_path), "--max-positions", 200]
    source = grow(model, tmp_path / "new", *flags)
    printed = capsys.readouterr().err.split("the model's other hparams, ")[1].strip()
    config = PretrainingConfig("further", str(tmp_path), **json.loads(printed.removesuffix(".")))
    assert load_vocabulary(config.vocab_file).tokens == source.vocabulary.tokens
    assert config.init_checkpoint == str(tmp_path / "new")
    network = config.network()
    assert network.vocab_size == config.vocab_size == len(PIECES) + len(NEW)
    assert (network.max_position_embeddings, network.num_hidden_layers) == (200, 3)


def test_interpolation_says_that_outputs_change(tmp_path, capsys):
    flags = ["--max-positions", 128, "--positions", "interpolate"]
    source = grow(own(tmp_path), tmp_path / "new", *flags)
    table = source.pretrained.arrays["electra/embeddings/position_embeddings"]
    assert table.shape == (128, NETWORK.embedding_size)
    said = capsys.readouterr().err
    assert "all outputs change" in said and "nothing beside it says otherwise" in said


def test_the_folder_states_what_it_holds(tmp_path):
    hparams = {
        "model_hparam_overrides": {"vocab_size": 25, "max_position_embeddings": 64},
        "branch_from": "/elsewhere/step-00000001",
        "copy_positions": 12,
    }
    model, _ = own_model(tmp_path / "own", hparams=hparams)
    flags = ["--new-pieces", pieces_file(tmp_path), "--max-positions", 100]
    grow(model, tmp_path / "new", *flags)
    stored = json.loads((tmp_path / "new" / "config.json").read_text())
    assert stored["hparams"]["vocab_size"] == 28
    # Its weights are where the training begins, and their positions are to stay.
    assert stored["hparams"]["branch_from"] is stored["hparams"]["copy_positions"] is None
    assert stored["hparams"]["model_hparam_overrides"] == {
        "vocab_size": 28,
        "max_position_embeddings": 100,
    }
    assert "own/checkpoints" in stored["hparams"]["init_checkpoint"]
    assert "/secret/path" not in json.dumps(stored)
    # The vocabulary belongs to the weights: another one is refused.
    (tmp_path / "new" / "vocab.txt").write_text("".join(f"{p}\n" for p in PIECES))
    with pytest.raises(UserError, match="not the one that the model was trained with"):
        open_source(str(tmp_path / "new"))


ERRORS = {
    "nothing asked": ([], "--new-pieces, --max-positions"),
    "unused alone": (["--reuse-unused", "--max-positions", "99"], "--reuse-unused"),
    "trained alone": (["--trained-positions", "9", "--new-pieces", "x"], "--trained-positions"),
    "none trained alone": (
        ["--trained-positions", "0", "--new-pieces", "x"],
        "--trained-positions",
    ),
    "no trained ones": (["--trained-positions", "0", "--max-positions", "99"], "--trained-pos"),
    "filling alone": (["--positions", "interpolate", "--new-pieces", "x"], "--positions"),
    "default filling alone": (["--positions", "copy", "--new-pieces", "x"], "--positions"),
    "too few positions": (["--max-positions", "9"], "--max-positions"),
    "other heads": (["--max-positions", "99", "--num-attention-heads", "4"], "--num-att"),
    "no heads": (["--max-positions", "99", "--num-attention-heads", "0"], "--num-att"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_can_not_be(tmp_path, case):
    flags, where = ERRORS[case]
    model = own(tmp_path, uniform_generator=True)
    with pytest.raises(UserError) as error:
        grow(model, tmp_path / "new", *flags)
    assert error.value.where.startswith(where)
    assert not (tmp_path / "new").exists()


def test_heads_that_an_official_checkpoint_can_not_have(tmp_path):
    vocab = official.options("electra_train")["vocab_file"]
    flags = ["--vocab-file", vocab, "--max-positions", 2000, "--num-attention-heads", 7]
    with pytest.raises(UserError, match="not a multiple") as error:
        grow(official.folder("electra_train"), tmp_path / "new", *flags)
    assert error.value.where == "--num-attention-heads"


def test_a_fine_tuned_model_is_refused(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path / "tuning", ["marks"])
    with pytest.raises(UserError, match="was fine-tuned"):
        grow(trial, tmp_path / "new", "--max-positions", 999)


def test_a_generator_of_another_shape_is_refused(tmp_path):
    """The folder would say nothing of its heads, and they would be guessed wrongly."""
    write_pair(tmp_path / "pair", network=NETWORK)
    path = tmp_path / "pair" / "generator" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_attention_heads": 3}))
    with pytest.raises(UserError, match="shape that generators don't have") as error:
        grow(tmp_path / "pair", tmp_path / "new", "--max-positions", 100)
    assert "num_attention_heads 3, not 1" in error.value.received
    assert not (tmp_path / "new").exists()
    grow(tmp_path / "pair" / "discriminator", tmp_path / "new", "--max-positions", 100)


def test_the_output_has_to_be_free(tmp_path):
    model = own(tmp_path, uniform_generator=True)
    with pytest.raises(UserError, match="taken"):
        grow(model, model, "--max-positions", 100)
    assert open_pretrained(str(model)).path.endswith("step-00000010")
