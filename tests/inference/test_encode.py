"""`Encoder.encode`: any texts, in any batches, give the network's states."""

import dataclasses
import pathlib
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import electra_tf2
from electra_tf2.errors import UserError
from electra_tf2.export.saved_model import export_saved_model
from electra_tf2.inference.encoder import _Asked
from electra_tf2.inference.forward import Forward
from electra_tf2.text.rows import make_row
from tests.formats import huggingface_models
from tests.inference import official_models as official

TEXTS = ["the river", "", "a very old harbour, and the town behind it [MASK]", "Renée!"]


@pytest.fixture(scope="module")
def encoder():
    name = "electra_train"
    return electra_tf2.Encoder.from_pretrained(official.folder(name), **official.options(name))


def states_alone(encoder, tokens, segments=None):
    ids = np.array([[encoder.tokenizer.vocabulary.ids[t] for t in tokens]], np.int32)
    segments = None if segments is None else np.array([segments], np.int32)
    return encoder.network(ids, None, segments).numpy()[0]


def test_states_mask_and_tokens(encoder):
    found = encoder.encode(TEXTS, batch_size=2)
    assert found.states.shape == (*found.mask.shape, 32)
    assert found.states.dtype == np.float32
    for text, states, mask, tokens in zip(TEXTS, *found, strict=True):
        assert tokens == ["[CLS]", *encoder.tokenizer.tokenize(text), "[SEP]"]
        assert mask.tolist() == [True] * len(tokens) + [False] * (len(mask) - len(tokens))
        np.testing.assert_allclose(states[mask], states_alone(encoder, tokens), atol=1e-5)
        assert not states[~mask].any()


def test_poolings(encoder):
    states, mask, _ = encoder.encode(TEXTS)
    first = encoder.encode(TEXTS, pooling="cls").states
    np.testing.assert_allclose(first, states[:, 0], atol=1e-5)
    mean = encoder.encode(TEXTS, pooling="mean").states
    expected = [s[m].mean(axis=0) for s, m in zip(states, mask, strict=True)]
    np.testing.assert_allclose(mean, expected, atol=1e-5)


def test_pairs_and_truncation(encoder):
    pair = ("the old river and the town", "a harbour.")
    (tokens,) = encoder.encode([pair]).tokens
    end = tokens.index("[SEP]") + 1
    segments = [0] * end + [1] * (len(tokens) - end)
    expected = states_alone(encoder, tokens, segments)
    np.testing.assert_allclose(encoder.encode([pair]).states[0], expected, atol=1e-5)
    assert encoder.encode([("the river", "")]).tokens == encoder.encode(["the river"]).tokens
    (short,) = encoder.encode([pair], max_length=8).tokens
    first, second = (encoder.tokenizer.tokenize(text) for text in pair)
    assert short == ["[CLS]", *first[:3], "[SEP]", *second[:2], "[SEP]"]
    (single,) = encoder.encode(["the river " * 90]).tokens
    assert len(single) == encoder.network.config.max_position_embeddings
    assert single[-1] == "[SEP]"


def test_no_texts(encoder):
    found = encoder.encode([])
    assert found.states.shape == (0, 0, 32)
    assert found.mask.shape == (0, 0)
    assert found.tokens == []
    assert encoder.encode([], pooling="mean").states.shape == (0, 32)


def test_a_single_text_has_a_graph_of_its_own(encoder):
    """One that is faster, and gives the same."""
    expected = encoder.encode(TEXTS)
    for number in range(len(TEXTS)):
        states = encoder.encode(TEXTS[number : number + 1]).states[0]
        together = expected.states[number][: len(states)]
        np.testing.assert_allclose(states, together, atol=1e-6 * np.abs(together).max())
    *_, forward = encoder._forwards.values()
    assert {size for _, size in forward._graphs._graphs} == {None, 1}


def test_threads_share_an_encoder(encoder):
    """A graph is made once, also if several ask for it, or for more kinds than are kept."""
    traced = []

    def function(batch):
        traced.append(batch)
        time.sleep(0.05)
        return {"ids": batch["input_ids"]}

    row = make_row([5, 6], encoder.tokenizer)
    forward = Forward(function, [encoder.network])
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: list(forward.batches([row], 1)), range(6)))
    assert len(traced) == 1
    for ((_, values),) in found:
        np.testing.assert_array_equal(values["ids"], [row.input_ids])

    def ask(number):
        for i in range(3000):
            asked = _Asked(((number + i) % 3,), "mean", False)
            assert isinstance(encoder._forward(asked), Forward)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(ask, range(6)))
    finally:
        sys.setswitchinterval(interval)


def test_many_batches_give_the_same(encoder):
    expected = encoder.encode(TEXTS).states
    other = encoder.encode(TEXTS, batch_size=np.int64(1)).states
    np.testing.assert_allclose(other, expected, atol=1e-5)


@pytest.mark.parametrize(
    "texts, options, where",
    [
        ("a text", {}, "texts must be a list"),
        (b"bytes", {}, "texts must be a list"),
        (bytearray(b"ab"), {}, "texts must be a list"),
        ({"a", "b"}, {}, "texts must be a list"),
        (np.array("a text"), {}, "texts must be a list"),
        (5, {}, "texts must be a list"),
        (None, {}, "texts must be a list"),
        ([float("nan")], {}, "texts[0]"),
        (["a"], {"pooling": ["mean"]}, "pooling"),
        (["a"], {"layers": None}, "layers"),
        (["a text", 7], {}, "texts[1]"),
        ([b"bytes"], {}, "texts[0]"),
        ([("a", "b", "c")], {}, "texts[0]"),
        (["a"], {"pooling": "first"}, "pooling"),
        (["a"], {"batch_size": 0}, "batch_size"),
        (["a"], {"max_length": 4}, "max_length"),
        (["a"], {"max_length": 65}, "max_length"),
    ],
)
def test_what_is_no_text_or_out_of_range(encoder, texts, options, where):
    with pytest.raises((TypeError, ValueError), match=re.escape(where)):
        encoder.encode(texts, **options)


def test_a_pair_needs_an_embedding_of_the_second_segment(tmp_path):
    network = dataclasses.replace(huggingface_models.NETWORK, type_vocab_size=1)
    huggingface_models.write_model(tmp_path / "model", "encoder", network)
    encoder = electra_tf2.Encoder.from_pretrained(tmp_path / "model")
    assert len(encoder.encode(["the ship", ("a ship", "")]).states) == 2
    with pytest.raises(ValueError, match=r"texts\[1\] is a pair"):
        encoder.encode(["the ship", ("the ship", "a ship")])
    export_saved_model(str(tmp_path / "model"), str(tmp_path / "saved"))
    assert set(tf.saved_model.load(str(tmp_path / "saved")).signatures) == {
        "encode", "encode_ids", "serving_default",
    }  # fmt: skip


def test_sizes_that_the_model_states_are_its_own(tmp_path):
    """Other numbers of heads fit the weights, and give other states."""
    huggingface_models.write_model(tmp_path, "encoder")
    given = {"num_attention_heads": 2, "hidden_dropout_prob": 0.0}
    electra_tf2.Encoder.from_pretrained(tmp_path, model_hparam_overrides=given)
    for other in ({"num_attention_heads": 4}, {"hidden_act": "relu"}):
        with pytest.raises(UserError) as error:
            electra_tf2.Encoder.from_pretrained(tmp_path, model_hparam_overrides=given | other)
        assert [*other][0] in error.value.received


def test_models_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no pre-trained model"):
        electra_tf2.Encoder.from_pretrained(str(tmp_path / "nothing"))
    name = "electra_train"
    with pytest.raises(UserError, match="no vocabulary beside it"):
        electra_tf2.Encoder.from_pretrained(official.folder(name))
    options = {**official.options(name), "model_hparam_overrides": {"num_heads": 4}}
    with pytest.raises(ValueError, match="num_heads"):
        electra_tf2.Encoder.from_pretrained(official.folder(name), **options)
    with pytest.raises(TypeError, match="model_hparam_overrides"):
        electra_tf2.Encoder.from_pretrained(
            official.folder(name), **{**options, "model_hparam_overrides": 5}
        )
    for heads in (-1, 0, 1.0, True):
        with pytest.raises(ValueError, match="num_attention_heads must be a whole number"):
            electra_tf2.Encoder.from_pretrained(
                official.folder(name),
                **{**options, "model_hparam_overrides": {"num_attention_heads": heads}},
            )
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 1}  # it has two layers
    with pytest.raises(UserError, match="num_hidden_layers 1; the model has 2"):
        electra_tf2.Encoder.from_pretrained(
            official.folder(name), **{**options, "model_hparam_overrides": sizes}
        )
    vocab = tmp_path / "vocab.txt"
    text = pathlib.Path(official.options(name)["vocab_file"]).read_text(encoding="utf-8")
    vocab.write_text(f"{text}one\nmore\n", encoding="utf-8")
    with pytest.raises(UserError, match="more pieces than the model has embeddings"):
        electra_tf2.Encoder.from_pretrained(official.folder(name), vocab_file=str(vocab))


def test_another_vocabulary_than_the_model_s(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(official.folder("electra_train"), folder)
    options = official.options("electra_train")
    text = pathlib.Path(options["vocab_file"]).read_text(encoding="utf-8")
    (folder / "vocab.txt").write_text(text, encoding="utf-8")
    electra_tf2.Encoder.from_pretrained(folder, **options)  # the same one is fine
    lines = text.split("\n")
    other = tmp_path / "other.txt"
    other.write_text("\n".join([*lines[:30], "elsewhere", *lines[31:]]), encoding="utf-8")
    with pytest.raises(UserError, match="not the one that the model was trained") as caught:
        electra_tf2.Encoder.from_pretrained(folder, **(options | {"vocab_file": str(other)}))
    assert caught.value.where == str(other) and "line 31 differs" in caught.value.received


def test_paths_may_be_path_objects():
    folder, options = official.folder("electra_train"), official.options("electra_train")
    options = {n: pathlib.Path(v) if n == "vocab_file" else v for n, v in options.items()}
    found = electra_tf2.Encoder.from_pretrained(pathlib.Path(folder), **options)
    assert found.encode(["the river"]).tokens == [["[CLS]", "the", "river", "[SEP]"]]


def test_an_unknown_precision_is_refused():
    folder, options = official.folder("electra_train"), official.options("electra_train")
    for name in ("Encoder", "Discriminator", "Generator"):
        with pytest.raises(ValueError, match="precision"):
            getattr(electra_tf2, name).from_pretrained(folder, precision="half", **options)


def test_layers(encoder):
    """Each is the network's with the blocks above cut off."""
    blocks = encoder.network.config.num_hidden_layers
    states, mask, tokens = encoder.encode(TEXTS, layers=range(blocks + 1), batch_size=2)
    assert states.shape == (len(TEXTS), blocks + 1, *mask.shape[1:], 32)
    np.testing.assert_array_equal(states[:, -1], encoder.encode(TEXTS, batch_size=2).states)
    ids = np.array([[encoder.tokenizer.vocabulary.ids[t] for t in tokens[2]]], np.int32)
    inner = encoder.network
    x = inner.embeddings(ids)
    if inner.embeddings_project is not None:
        x = inner.embeddings_project(x)
    for layer in range(blocks + 1):
        np.testing.assert_allclose(states[2, layer, : len(tokens[2])], x[0], atol=1e-5)
        assert not states[:, layer][~mask].any()
        if layer < blocks:
            x = inner.blocks[layer](x, tf.zeros([1, 1, 1, ids.shape[1]]))
    some = encoder.encode(TEXTS, layers=[-1, 0, np.int64(-2)]).states
    np.testing.assert_allclose(some, states[:, [blocks, 0, blocks - 1]], atol=1e-5)
    one = encoder.encode(TEXTS, layers=0, pooling="mean").states
    expected = [s[m].mean(axis=0) for s, m in zip(states[:, 0], mask, strict=True)]
    np.testing.assert_allclose(one, expected, atol=1e-5)
    largest = encoder.encode(TEXTS, layers=[1, -1], pooling="max").states
    expected = [s[[1, -1]][:, m].max(axis=1) for s, m in zip(states, mask, strict=True)]
    np.testing.assert_allclose(largest, expected, atol=1e-5)
    assert encoder.encode([], layers=[0, 1]).states.shape == (0, 2, 0, 32)


def test_attentions(encoder):
    config = encoder.network.config
    states, mask, tokens, attentions = encoder.encode(TEXTS, attentions=True, batch_size=3)
    np.testing.assert_allclose(states, encoder.encode(TEXTS).states, atol=1e-5)
    longest = mask.shape[1]
    shape = (config.num_hidden_layers, config.num_attention_heads, longest, longest)
    assert attentions.shape == (len(TEXTS), *shape) and attentions.dtype == np.float32
    for own, is_token in zip(attentions, mask, strict=True):
        np.testing.assert_allclose(own[:, :, is_token].sum(axis=-1), 1, atol=1e-5)
        assert not own[:, :, ~is_token].any() and not own[..., ~is_token].any()
    attention = encoder.network.blocks[0].attention
    size = config.hidden_size // config.num_attention_heads
    x = encoder.encode([TEXTS[2]], layers=0).states[0]
    query, key = (
        (x @ layer.kernel.numpy() + layer.bias.numpy()).reshape(len(x), -1, size)
        for layer in (attention.query, attention.key)
    )
    scores = np.exp(np.einsum("qhs,khs->hqk", query, key) / np.sqrt(size))
    expected = scores / scores.sum(axis=-1, keepdims=True)
    found = attentions[2, 0][:, : len(x), : len(x)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("layers", [99, -99, [], [0, 5000]])
def test_layers_that_are_not_there(encoder, layers):
    with pytest.raises(ValueError, match="layers"):
        encoder.encode(["a"], layers=layers)


@pytest.mark.parametrize("layers", ["0", [0.5], True])
def test_layers_that_are_no_numbers(encoder, layers):
    with pytest.raises(TypeError, match="layers"):
        encoder.encode(["a"], layers=layers)


def test_few_programs_are_kept(encoder):
    """Each holds a copy of the weights."""
    for layer in range(encoder.network.config.num_hidden_layers + 1):
        encoder.encode(["a"], layers=layer)
    assert len(encoder._forwards) == 2
