"""The same model from folders of different programs, and networks of other architectures."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import electra_tf2
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.export.saved_model import _pretrained_signatures
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.text.normalization import UNCASED
from electra_tf2.training.checkpoints import CheckpointStore
from tests.formats.huggingface_models import NETWORK, VOCABULARY, write_pair
from tests.inference import official_models as official

TEXTS = ["the river", "an old market in Zürich"]
IDS = np.array([[2, 30, 31, 4, 3]], np.int32)


@pytest.fixture
def model(tmp_path):
    """An official checkpoint with its vocabulary."""
    shutil.copytree(official.folder("electra_train"), tmp_path / "model")
    shutil.copy(official.case("electra_train").vocab, tmp_path / "model")
    return str(tmp_path / "model")


def test_hugging_face_folders(model, tmp_path):
    there = str(tmp_path / "huggingface")
    export_huggingface(model, there, ExportOptions())
    ours, theirs = (electra_tf2.Encoder.from_pretrained(path) for path in (model, there))
    np.testing.assert_array_equal(ours.encode(TEXTS).states, theirs.encode(TEXTS).states)
    for kind in (electra_tf2.Discriminator, electra_tf2.Generator):
        ours, theirs = (kind.from_pretrained(path).network for path in (model, there))
        np.testing.assert_array_equal(ours(IDS), theirs(IDS))
    alone = electra_tf2.Generator.from_pretrained(f"{there}/generator").network
    np.testing.assert_array_equal(alone(IDS), ours(IDS))


def test_a_table_with_more_rows_than_pieces(tmp_path, capsys):
    """What has no piece is never proposed, and has no text."""
    network = dataclasses.replace(NETWORK, vocab_size=len(VOCABULARY) + 7)
    write_pair(tmp_path, network=network)
    generator = electra_tf2.Generator.from_pretrained(tmp_path)
    assert "25 pieces, the model 32 embeddings" in capsys.readouterr().err
    (candidates,) = generator.fill_mask("the [MASK]", top_k=len(VOCABULARY))
    assert {candidate.token for candidate in candidates} == set(VOCABULARY.tokens)
    assert sum(candidate.probability for candidate in candidates) == pytest.approx(1, abs=1e-5)

    signatures, _ = _pretrained_signatures(open_source(tmp_path))
    filled = signatures["fill_mask"].function(tf.constant(["the [MASK]"]))
    assert [c.token for c in candidates[:5]] == [t.decode() for t in filled["tokens"][0, 0].numpy()]
    ids = tf.constant([[2, 8, len(VOCABULARY) + 6, 3]])
    found = signatures["detect_ids"].function(ids, tf.ones_like(ids), tf.zeros_like(ids))
    assert [t.decode() for t in found["tokens"][0].numpy()] == ["[CLS]", "a", "", "[SEP]"]


def test_layers_that_share_their_weights(tmp_path):
    keras.utils.set_random_seed(3)
    network = TransformerConfig(
        vocab_size=485,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        embedding_size=16,
        max_position_embeddings=64,
        encoder="albert",
    )
    pair = build_pair(network, generator_hidden_size=0.5, generator_layers=0.67)
    folder = str(tmp_path / "albert")
    make_model_folder(folder)
    write_model_folder(
        folder,
        hparams={"generator_layers": 0.67},
        network=network,
        vocab_file=str(official.case("electra_train").vocab),
        casing=UNCASED,
    )
    variables = [*pair.discriminator.trainable_variables, *pair.generator.trainable_variables]
    CheckpointStore(folder).save(1, {v.path: np.asarray(v) for v in variables}, {}, {})
    for kind, network in (
        (electra_tf2.Discriminator, pair.discriminator),
        (electra_tf2.Generator, pair.generator),
    ):
        np.testing.assert_array_equal(kind.from_pretrained(folder).network(IDS), network(IDS))
