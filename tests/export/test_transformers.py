"""transformers and torch compute with exported models what this program computes, and back.

They are installed by `make test-slow`.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.loading.networks import build_discriminator, build_encoder, build_generator
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.array_files import read_arrays
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.export import huggingface
from finetune.fine_tuned import FineTuned
from tests.export.test_huggingface_export import own_model
from tests.finetune import tiny_tasks
from tests.finetune.fine_tuned_models import PLAIN_SPANS, write_fine_tuned
from tests.formats.huggingface_models import NETWORK, VOCABULARY

torch = pytest.importorskip("torch", reason="torch is not installed: run make test-slow")
transformers = pytest.importorskip("transformers", reason="run make test-slow")

pytestmark = pytest.mark.interop

CASES = Path(__file__).parents[1] / "conformance" / "cases"
# All the cases, where the repository lies in a workplace that has them.
SHARED = Path(__file__).parents[3] / "shared" / "conformance"
OFFICIAL = [
    path.parent
    for path in sorted((SHARED if SHARED.is_dir() else CASES).glob("*/case.json"))
    if json.loads(path.read_text())["kind"] == "pretrain"
]
TOLERANCE = 1e-5  # relative to the largest value
LENGTHS = (12, 7, 9)


def batch(vocab_size):
    stream = np.random.default_rng(3)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int32)
    ids = stream.integers(5, vocab_size, mask.shape).astype(np.int32) * mask
    segments = stream.integers(0, 2, mask.shape).astype(np.int32) * mask
    return ids, mask, segments


def theirs(model, ids, mask, segments, output="logits"):
    names = ("input_ids", "attention_mask", "token_type_ids")
    arrays = {n: torch.tensor(a.astype(np.int64)) for n, a in zip(names, (ids, mask, segments),
                                                                  strict=True)}  # fmt: skip
    with torch.no_grad():
        return model.eval()(**arrays)[output].numpy()


def assert_close(ours, other, mask):
    real = mask.astype(bool)
    ours, other = np.asarray(ours)[real], np.asarray(other)[real]
    np.testing.assert_allclose(other, ours, atol=TOLERANCE * np.abs(ours).max(), rtol=0)


def load(name, folder):
    """A model whose weights are all in the file, and which needs all that the file has."""
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    missing = {key for key in info["missing_keys"] if ".pooler." not in f".{key}"}
    assert not missing
    return model


BUILDERS = {"ElectraForPreTraining": build_discriminator, "ElectraForMaskedLM": build_generator}


def check_networks(source, exported, vocab_file=None):
    """Compares the networks of a model with those that were exported; returns their classes."""
    opened = open_source(str(source), vocab_file=vocab_file)
    inputs = batch(opened.network.vocab_size)
    classes = set()
    for path in exported.rglob("config.json"):
        (name,) = json.loads(path.read_text())["architectures"]
        found = theirs(load(name, path.parent), *inputs)
        assert_close(BUILDERS[name](opened)(*inputs), found, inputs[1])
        classes.add(name)
    return classes


@pytest.mark.parametrize("folder", OFFICIAL, ids=lambda folder: folder.name)
def test_an_official_checkpoint(tmp_path, folder):
    """Of Electric and a uniform generator the discriminator alone, of a masked LM only that."""
    vocab_file = str(CASES / "vocab.txt")
    options = ExportOptions(vocab_file=vocab_file)
    export_huggingface(str(folder / "init"), str(tmp_path / "out"), options)
    alone = {"electric": "ElectraForPreTraining", "uniform_generator": "ElectraForPreTraining",
             "masked_lm": "ElectraForMaskedLM"}  # fmt: skip
    expected = {alone[folder.name]} if folder.name in alone else set(BUILDERS)
    assert check_networks(folder / "init", tmp_path / "out", vocab_file) == expected


@pytest.mark.parametrize("pair", [{}, {"disentangled_embeddings": True}], ids=["shared", "gdes"])
def test_a_model_of_this_program(tmp_path, pair):
    source, _ = own_model(tmp_path / "model", **pair)
    export_huggingface(str(source), str(tmp_path / "out"), ExportOptions())
    assert check_networks(source, tmp_path / "out") == set(BUILDERS)


@pytest.mark.parametrize(
    "architecture, changed, tying",
    [("bert", {"embedding_size": 16}, True), ("albert", {"encoder": "albert"}, False)],
)
def test_other_families(tmp_path, architecture, changed, tying):
    network = dataclasses.replace(NETWORK, **changed)
    source, _ = own_model(tmp_path / "model", network, untied_generator_embeddings=tying)
    options = ExportOptions(architecture=architecture, network="discriminator")
    export_huggingface(str(source), str(tmp_path / "one"), options)
    options = ExportOptions(network="generator", architecture=architecture)
    export_huggingface(str(source), str(tmp_path / "two"), options)
    opened = open_source(str(source))
    inputs = batch(network.vocab_size)
    family = architecture.capitalize()
    encoder = load(f"{family}Model", tmp_path / "one")
    assert_close(
        build_encoder(opened)(*inputs), theirs(encoder, *inputs, "last_hidden_state"), inputs[1]
    )
    model = load(f"{family}ForMaskedLM", tmp_path / "two")
    assert_close(build_generator(opened)(*inputs), theirs(model, *inputs), inputs[1])


MODERN = dataclasses.replace(
    NETWORK,
    encoder="modern",
    embedding_size=16,
    num_hidden_layers=4,
    local_attention=6,
    global_attention_every=3,
    global_rope_theta=500.0,
    hidden_act="relu",
)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("changed", [{}, {"hidden_act": "gelu", "global_attention_every": 2}])
def test_a_modern_model(tmp_path, changed, attention):
    """Padded and longer than the windows; the heads too, and the encoder alone without them."""
    stream = np.random.default_rng(0)

    def shake(weights):
        for array in weights.values():
            array += stream.normal(scale=0.2, size=array.shape).astype(np.float32)

    network = dataclasses.replace(MODERN, **changed)
    source, _ = own_model(tmp_path / "m", network, change=shake, untied_generator_embeddings=True)
    export_huggingface(str(source), str(tmp_path / "out"), ExportOptions())
    opened = open_source(str(source))
    mask = (np.arange(150) < np.array([150, 90, 3])[:, None]).astype(np.int32)
    ids = stream.integers(5, network.vocab_size, mask.shape).astype(np.int32) * mask
    places = {
        "discriminator": ("ModernBertForTokenClassification", build_discriminator),
        "generator": ("ModernBertForMaskedLM", build_generator),
        "encoder": ("AutoModel", build_encoder),
    }
    for kind, (name, build) in places.items():
        folder = tmp_path / "out" / kind.replace("encoder", "discriminator")
        kwargs = {"attn_implementation": attention, "output_loading_info": True}
        model, info = getattr(transformers, name).from_pretrained(folder, **kwargs)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert kind == "encoder" or not info["unexpected_keys"]
        inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        with torch.no_grad():
            found = model.eval()(**inputs)[0].numpy()
        found = found[..., 0] if kind == "discriminator" else found
        assert_close(build(opened)(ids, mask), found, mask)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "discriminator")
    inputs = tokenizer("a ship", "an old harbour", return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert model(**inputs)[0].shape[-1] == network.hidden_size


def small(**changed):
    """ELECTRA-small's shape with a tiny vocabulary."""
    return transformers.ElectraConfig(vocab_size=len(VOCABULARY), **changed)


def test_models_that_transformers_saved(tmp_path):
    """Small's shape, random weights, biases and LayerNorms included; and back byte for byte."""
    torch.manual_seed(0)
    models = {
        "discriminator": transformers.ElectraForPreTraining(small()),
        "generator": transformers.ElectraForMaskedLM(
            small(hidden_size=64, num_attention_heads=2, intermediate_size=256)
        ),
    }
    inputs = batch(len(VOCABULARY))
    for kind, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / kind)
        (tmp_path / kind / "vocab.txt").write_text("\n".join(VOCABULARY.tokens) + "\n")
    opened = open_source(f"{tmp_path}/generator,{tmp_path}/discriminator")
    assert opened.pretrained.left_over == ()
    for kind, build in (("discriminator", build_discriminator), ("generator", build_generator)):
        assert_close(build(opened)(*inputs), theirs(models[kind], *inputs), inputs[1])

    export_huggingface(str(tmp_path), str(tmp_path / "again"), ExportOptions())
    for kind in models:
        one, other = (
            read_arrays(str(folder / kind / "model.safetensors"))
            for folder in (tmp_path, tmp_path / "again")
        )
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "AlbertForMaskedLM"])
def test_other_families_that_transformers_saved(tmp_path, name):
    torch.manual_seed(0)
    sizes = {n: v for n, v in NETWORK.to_dict().items() if n not in ("encoder", "hidden_act")}
    family = "Bert" if name.startswith("Bert") else "Albert"
    sizes.pop("embedding_size" if family == "Bert" else "", None)
    config = getattr(transformers, f"{family}Config")(**sizes, hidden_act="gelu")
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY.tokens) + "\n")
    opened = open_source(str(tmp_path))
    inputs = batch(len(VOCABULARY))
    if name.endswith("Model"):
        assert {n.split(".")[0] for n in opened.pretrained.left_over} == {"pooler"}
        ours, output = build_encoder(opened)(*inputs), "last_hidden_state"
    else:
        ours, output = build_generator(opened)(*inputs), "logits"
    assert_close(ours, theirs(model, *inputs, output), inputs[1])


def test_an_activation_that_ours_has_not(tmp_path):
    transformers.ElectraModel(small(hidden_act="gelu_new")).save_pretrained(tmp_path)
    with pytest.raises(Exception, match="gelu_new"):
        open_pretrained(str(tmp_path))


TASK_CLASSES = {
    "marks": "ElectraForSequenceClassification",
    "grades": "ElectraForSequenceClassification",
    "places": "ElectraForTokenClassification",
    "manuals": "ElectraForQuestionAnswering",
}


@pytest.mark.parametrize("task", TASK_CLASSES)
def test_fine_tuned_models(tmp_path, task):
    network = TransformerConfig(**{**tiny_tasks.NETWORK.to_dict(), "num_hidden_layers": 2})
    trial, model, (made,) = write_fine_tuned(tmp_path, [task], network, **PLAIN_SPANS)
    huggingface.export_huggingface(str(trial), str(tmp_path / "out"), ExportOptions())
    loaded = load(TASK_CLASSES[task], tmp_path / "out")
    ids, mask, segments = batch(network.vocab_size)
    segments = np.ones_like(ids) if task == "places" else segments
    states = model.encoder(ids, mask, segments)
    head = model.heads[0]
    if task in ("marks", "grades"):
        ours = head.project(states, False, None).numpy()
        if task == "grades":
            ours = made.scaling.restored(ours)
        found = theirs(loaded, ids, mask, segments)
        assert_close(ours, found, np.ones(len(ids)))
    elif task == "places":
        found = theirs(loaded, ids, mask, np.zeros_like(ids))
        assert_close(head.classifier(states), found, mask)
    else:
        for layer, output in ((head.start, "start_logits"), (head.end, "end_logits")):
            found = theirs(loaded, ids, mask, segments, output)
            assert_close(layer(states).numpy()[..., 0], found, mask)


TEXTS = ["The old ship!", "a harbour in the town", "the"]


@pytest.mark.parametrize("family", ["Electra", "ModernBert"])
def test_sentence_embeddings(tmp_path, family):
    """The mean of the states, as the files for sentence-transformers ask for it."""
    modern = {"encoder": "modern", "embedding_size": 16, "num_hidden_layers": 2}
    changed = modern if family == "ModernBert" else {}
    network = dataclasses.replace(tiny_tasks.NETWORK, **changed, local_attention=4)
    trial, _, _ = write_fine_tuned(tmp_path, ["texts"], network, max_seq_length=8)
    out = tmp_path / "out"
    huggingface.export_huggingface(str(trial), str(out), ExportOptions())
    model = load(f"{family}Model", out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    tokens = tokenizer(TEXTS, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        states = model.eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    found = ((states * mask).sum(1) / mask.sum(1)).numpy()
    ours = FineTuned.from_pretrained(str(trial)).encode(TEXTS)
    np.testing.assert_allclose(found, ours, atol=1e-5)


def test_sentence_transformers_opens_embeddings_and_rerankers(tmp_path):
    library = pytest.importorskip("sentence_transformers", reason="run make test-slow")
    trial, _, _ = write_fine_tuned(tmp_path, ["texts", "pages", "grades"], max_seq_length=16)
    out, ours = tmp_path / "out", FineTuned.from_pretrained(str(trial))
    huggingface.export_huggingface(str(trial), str(out), ExportOptions())
    model = library.SentenceTransformer(str(out / "texts"), device="cpu")
    assert model.max_seq_length == 16
    np.testing.assert_allclose(model.encode(TEXTS), ours.encode(TEXTS, task="texts"), atol=1e-5)
    pairs = [*zip(TEXTS, TEXTS[1:], strict=False)]
    for task in ("pages", "grades"):
        reranker = library.CrossEncoder(str(out / task), device="cpu")
        scores = [prediction.score for prediction in ours.predict(pairs, task=task)]
        np.testing.assert_allclose(reranker.predict(pairs), scores, atol=1e-5)


def test_multiple_choice(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["endings"])
    huggingface.export_huggingface(str(trial), str(tmp_path / "out"), ExportOptions())
    model = load("ElectraForMultipleChoice", tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    context, question, *choices = "a ship", *TEXTS
    seconds = [f"{question} {choice}" for choice in choices]
    tokens = tokenizer([context] * len(seconds), seconds, return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model.eval()(**{name: value[None] for name, value in tokens.items()}).logits
    (ours,) = FineTuned.from_pretrained(str(trial)).predict([(context, question, choices)])
    np.testing.assert_allclose(logits.softmax(-1)[0].numpy(), ours.probabilities, atol=1e-5)


def test_labels_and_pipelines(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"], max_seq_length=8)
    out = tmp_path / "out"
    huggingface.export_huggingface(str(trial), str(out), ExportOptions())
    classify = transformers.pipeline("text-classification", model=str(out))
    (result,) = classify(["the old ship"])
    assert result["label"] in ("bad", "good", "unclear")
    text = "the old ship of the town " * 20
    (ours,) = FineTuned.from_pretrained(str(trial)).predict([text])
    (result,) = classify([text], truncation=True)
    assert result["label"] == ours.label
    assert result["score"] == pytest.approx(max(ours.probabilities.values()), abs=1e-5)


def test_a_pipeline_joins_the_tags_of_spans(tmp_path):
    trial, model, _ = write_fine_tuned(tmp_path, ["places"])
    words, tags = "the old ship the town was".split(), [0, 1, 3, 3, 2, 2]  # of B-, E-, O and S-NP
    ids = np.array([[tiny_tasks.PIECES.index(word) for word in ["[CLS]", *words, "[SEP]"]]])
    states = np.asarray(model.encoder(ids, np.ones_like(ids), np.ones_like(ids)))[0, 1:-1]
    weights = {name: np.asarray(v) for name, v in model.named_variables().items()}
    head = "task_specific/places/classifier/"
    weights[head + "kernel"] = np.linalg.lstsq(states, np.eye(4, dtype=np.float32)[tags])[0]
    weights[head + "bias"] = np.zeros(4, np.float32)
    CheckpointStore(str(trial)).save(5, weights, {}, {})
    huggingface.export_huggingface(str(trial), str(tmp_path / "out"), ExportOptions())
    tag = transformers.pipeline(
        "token-classification", model=str(tmp_path / "out"), aggregation_strategy="first"
    )
    found = [(entity["entity_group"], entity["word"]) for entity in tag(" ".join(words))]
    (ours,) = FineTuned.from_pretrained(str(trial)).predict([words])
    assert found == [(span["type"], span["text"]) for span in ours.spans or ()]
    assert [text for _, text in found] == ["the old", "ship", "the"]


@pytest.mark.parametrize("lower", [True, False])
def test_the_tokenizer_as_transformers_loads_it(tmp_path, lower):
    vocab_file = CASES / "vocab.txt"
    options = ExportOptions(
        vocab_file=str(vocab_file), do_lower_case=lower, network="discriminator"
    )
    export_huggingface(str(CASES / "electra_train" / "init"), str(tmp_path / "out"), options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = make_tokenizer(load_vocabulary(str(vocab_file)), Casing(lower, lower))
    texts = json.loads((CASES / "tokenization.json").read_text("utf-8"))["texts"]
    plain = [text for text in texts if text.isascii() and "[" not in text] + ["e" * 150]
    assert len(plain) > 50
    for text in plain:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ours.encode(text), text
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert tokenizer.model_max_length == config["max_position_embeddings"]
    assert tokenizer("a [MASK]")["input_ids"][-2] == ours.vocabulary.mask_id
    assert tokenizer("a", "b")["token_type_ids"][-2:] == [1, 1]
