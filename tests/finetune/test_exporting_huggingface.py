"""Fine-tuned models for transformers: what its heads compute from the exported tensors is ours."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import erf

from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions
from electra_tf2.training.array_files import read_arrays
from finetune.export.huggingface import export_huggingface
from finetune.trial_folders import write_tuned
from tests.finetune import tiny_tasks
from tests.finetune.fine_tuned_models import PLAIN_SPANS, write_fine_tuned

STATES = np.random.default_rng(1).normal(size=(5, 7, 16)).astype(np.float32)


def export(trial, output, **options):
    export_huggingface(str(trial), str(output), ExportOptions(**options))
    return output


def read(folder):
    return json.loads((folder / "config.json").read_text()), read_arrays(
        str(folder / "model.safetensors")
    )


def gelu(x):
    return x * 0.5 * (1.0 + erf(x / np.sqrt(2.0)))


def sequence_head(tensors, first):
    """ElectraClassificationHead without dropout."""
    hidden = first @ tensors["classifier.dense.weight"].T + tensors["classifier.dense.bias"]
    return (
        gelu(hidden) @ tensors["classifier.out_proj.weight"].T + tensors["classifier.out_proj.bias"]
    )


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_a_classifier_goes_through_the_layer_and_gelu_unchanged(tmp_path, scale):
    trial, model, _ = write_fine_tuned(tmp_path, ["marks"])
    config, tensors = read(export(trial, tmp_path / "out"))
    ours = model.heads[0].project(STATES * scale, False, None).numpy()
    theirs = sequence_head(tensors, STATES[:, 0] * scale)
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())
    assert config["architectures"] == ["ElectraForSequenceClassification"]
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "unclear"}
    assert config["label2id"]["unclear"] == 2
    assert config["problem_type"] == "single_label_classification"
    assert config["classifier_dropout"] == 0.1


@pytest.mark.parametrize("given, longest", [(12, 12), (64, 64)])
def test_texts_are_cut_as_in_training(tmp_path, given, longest):
    tasks = ["marks", "texts", "manuals"]  # the last one is the encoder alone
    trial, _, _ = write_fine_tuned(tmp_path, tasks, max_seq_length=given)
    out = export(trial, tmp_path / "out")
    for task in tasks:
        tokenizer = json.loads((out / task / "tokenizer_config.json").read_text())
        assert tokenizer["model_max_length"] == longest
        assert read(out / task)[0]["max_position_embeddings"] == 64


def test_a_tagger_whose_network_has_one_segment(tmp_path):
    network = dataclasses.replace(tiny_tasks.NETWORK, type_vocab_size=1)
    trial, _, _ = write_fine_tuned(tmp_path, ["places"], network)
    _, tensors = read(export(trial, tmp_path / "out"))
    assert not tensors["electra.embeddings.token_type_embeddings.weight"].any()


def test_a_task_with_several_labels(tmp_path):
    trial, model, _ = write_fine_tuned(tmp_path, ["topics"])
    write_tuned(str(trial), {"topics": {"threshold": 0.375}})
    out = export(trial, tmp_path / "out")
    config, tensors = read(out)
    ours = model.heads[0].project(STATES, False, None).numpy()
    np.testing.assert_allclose(sequence_head(tensors, STATES[:, 0]), ours, atol=1e-5)
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "air", "1": "sea"}
    assert "from the probability 0.375 on" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    "states, message",
    [
        ({"../marks": {"labels": ["a"]}, "marks": {"labels": ["a", "b", "c"]}}, "'../marks'"),
        ({"others": {"labels": ["a", "b", "c"]}}, "'others'"),
        ({"marks": {"labels": ["a", "b"]}}, "2 labels, a head with 3 outputs"),
        ({"marks": {"labels": ["a", "b", "b"]}}, "occurs twice"),
        ({"marks": {"labels": 3}}, "classification here"),
    ],
)
def test_a_state_of_other_tasks(tmp_path, states, message):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"])
    (trial / "tasks.json").write_text(json.dumps(states))
    with pytest.raises(UserError, match=message):
        export(trial, tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()


def test_casing_and_stored_sizes(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"])
    cased = {"do_lower_case": False, "strip_accents": True}  # accents stay in cased text
    (trial / "casing.json").write_text(json.dumps(cased))
    out = export(trial, tmp_path / "out")
    assert "cased, with accents" in (out / "README.md").read_text()
    (trial / "casing.json").write_text(json.dumps(cased | {"do_lower_case": "no"}))
    with pytest.raises(UserError, match="stored casing can't be read"):
        export(trial, tmp_path / "again")
    stored = json.loads((trial / "config.json").read_text())
    for change in ({"heads": 2}, {"hidden_size": "16"}, {"encoder": "xl"}, {"hidden_size": 15}):
        content = stored | {"network": stored["network"] | change}
        (trial / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=min(change)) as error:
            export(trial, tmp_path / "again")
        assert error.value.where == str(trial / "config.json")


@pytest.mark.parametrize("task, low, scale", [("grades", 2.0, 4.0), ("sts", 0.0, 5.0)])
def test_a_regression_gives_scores_of_the_data(tmp_path, task, low, scale):
    trial, model, made = write_fine_tuned(tmp_path, [task])
    out = export(trial, tmp_path / "out")
    config, tensors = read(out)
    assert "a pair of texts, a score" in (out / "README.md").read_text()
    normalized = model.heads[0].project(STATES, False, None).numpy()
    assert made[0].scaling == (low, scale)
    np.testing.assert_allclose(
        sequence_head(tensors, STATES[:, 0]), normalized * scale + low, atol=1e-5
    )
    assert config["problem_type"] == "regression" and len(config["id2label"]) == 1


def test_a_score_by_sigmoid_and_one_without_name_their_activation(tmp_path):
    trial, model, _ = write_fine_tuned(tmp_path, ["pages", "grades"])
    out = export(trial, tmp_path / "out")
    config, tensors = read(out / "pages")
    ours = model.heads[0].project(STATES, False, None).numpy()
    np.testing.assert_allclose(sequence_head(tensors, STATES[:, 0]), ours, atol=1e-5)
    assert config["problem_type"] == "multi_label_classification" and config["num_labels"] == 1
    assert config["sentence_transformers"]["activation_fn"].endswith(".Sigmoid")
    assert read(out / "grades")[0]["sentence_transformers"]["activation_fn"].endswith(".Identity")


def test_a_choice_goes_through_the_layer_and_gelu_unchanged(tmp_path):
    trial, model, _ = write_fine_tuned(tmp_path, ["endings"])
    config, tensors = read(export(trial, tmp_path / "out"))
    hidden = STATES[:, 0] @ tensors["sequence_summary.summary.weight"].T
    hidden = gelu(hidden + tensors["sequence_summary.summary.bias"])
    theirs = hidden @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    ours = model.heads[0].project(STATES, False, None).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    assert config["architectures"] == ["ElectraForMultipleChoice"]
    assert config["summary_type"] == "first" and config["summary_activation"] == "gelu"
    assert config["summary_first_dropout"] == 0.1 and config["summary_last_dropout"] == 0.0


def test_embeddings_are_an_encoder_with_files_of_sentence_transformers(tmp_path, capsys):
    trial, _, _ = write_fine_tuned(tmp_path, ["texts", "marks"], max_seq_length=24)
    out = export(trial, tmp_path / "out") / "texts"
    config, tensors = read(out)
    assert config["architectures"] == ["ElectraModel"]
    assert "embeddings.word_embeddings.weight" in tensors
    modules = json.loads((out / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling"]
    pooling = json.loads((out / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] and pooling["word_embedding_dimension"] == 16
    sizes = json.loads((out / "sentence_bert_config.json").read_text())
    assert sizes["max_seq_length"] == 24
    assert "sentence-transformers" in (out / "README.md").read_text()
    said = capsys.readouterr().err
    assert "Left out" not in said and "Exported the model of texts as ElectraModel" in said
    assert not (tmp_path / "out" / "marks" / "modules.json").exists()


def test_more_labels_than_pass_through(tmp_path, capsys):
    state = {"marks": {"labels": [f"label {i}" for i in range(9)]}}
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"], states=state)
    config, tensors = read(export(trial, tmp_path / "out"))
    assert config["architectures"] == ["ElectraModel"]
    assert not any(name.startswith("classifier") for name in tensors)
    said = capsys.readouterr().err
    assert "The encoder alone, without the head of marks" in said and "9 labels" in said


def test_a_tagger(tmp_path, capsys):
    """A single text has segment 1 here and segment 0 there."""
    trial, model, _ = write_fine_tuned(tmp_path, ["places"])
    config, tensors = read(export(trial, tmp_path / "out"))
    assert config["architectures"] == ["ElectraForTokenClassification"]
    ours = model.heads[0].classifier(STATES).numpy()
    theirs = STATES @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    segments = np.asarray(model.named_variables()["electra/embeddings/token_type_embeddings"])
    table = tensors["electra.embeddings.token_type_embeddings.weight"]
    np.testing.assert_array_equal(table, segments[::-1])
    assert "first token" in capsys.readouterr().err


NP = ["B-NP", "E-NP", "O", "S-NP"]


@pytest.mark.parametrize(
    "changed, names",
    [
        ({}, ["B-NP", "I-NP", "O", "B-NP"]),
        ({"labels": ["B", "E", "O", "S"]}, ["B-places", "I-places", "O", "B-places"]),
        (
            {
                "labels": ["NP_b", "NP_l", "other", "NP_u"],
                "notation": dict(marks="bilu", separator="_", is_suffix=True, outside="other"),
            },
            ["B-NP", "I-NP", "O", "B-NP"],
        ),
        (
            {
                "labels": ["B-NP", "E-NP", "OTHER", "S-NP"],  # of bare types
                "notation": dict(marks="", outside="OTHER"),
            },
            ["B-NP", "I-NP", "O", "B-NP"],
        ),
        ({"labels": ["ADJ", "E-NP", "O", "S"], "is_token_level": True}, ["ADJ", "E-NP", "O", "S"]),
    ],
)
def test_tags_of_spans_are_those_that_pipelines_join(tmp_path, changed, names):
    state = {"labels": NP, "is_token_level": False, **changed}
    trial, _, _ = write_fine_tuned(tmp_path, ["places"], states={"places": state})
    out = export(trial, tmp_path / "out")
    config, _ = read(out)
    assert [*config["id2label"].values()] == names
    assert all(config["id2label"][str(i)] == name for name, i in config["label2id"].items())
    assert ("count as I-" in (out / "README.md").read_text()) is (names != state["labels"])
    damaged = {"places": {**state, "is_token_level": False, "notation": {"marks": "XYZ"}}}
    (trial / "tasks.json").write_text(json.dumps(damaged))
    with pytest.raises(UserError, match="another kind") as error:
        export(trial, tmp_path / "again")
    assert error.value.where.startswith(str(trial / "tasks.json"))


def test_question_answering(tmp_path):
    trial, model, _ = write_fine_tuned(tmp_path, ["manuals"], **PLAIN_SPANS)
    config, tensors = read(export(trial, tmp_path / "out"))
    assert config["architectures"] == ["ElectraForQuestionAnswering"]
    theirs = STATES @ tensors["qa_outputs.weight"].T + tensors["qa_outputs.bias"]
    head = model.heads[0]
    for i, layer in enumerate((head.start, head.end)):
        np.testing.assert_allclose(theirs[..., i], layer(STATES).numpy()[..., 0], atol=1e-5)


def test_a_head_that_transformers_has_not(tmp_path, capsys):
    trial, _, _ = write_fine_tuned(tmp_path, ["manuals"])
    config, _ = read(export(trial, tmp_path / "out"))
    assert config["architectures"] == ["ElectraModel"]
    assert "no head with answerable, answerable_hidden, end, end_hidden" in capsys.readouterr().err


def test_several_tasks_are_several_models(tmp_path, capsys):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks", "places"])
    out = export(trial, tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["marks", "places"]
    assert "Left out" not in capsys.readouterr().err
    states = json.loads((trial / "tasks.json").read_text())
    del states["marks"]
    (trial / "tasks.json").write_text(json.dumps(states))
    export(trial, tmp_path / "one")
    assert "Left out: the heads of marks, of which" in capsys.readouterr().err
    assert read(out / "marks")[0]["architectures"] == ["ElectraForSequenceClassification"]
    assert read(out / "places")[0]["architectures"] == ["ElectraForTokenClassification"]


@pytest.mark.parametrize(
    "architecture, changed",
    [("bert", {"embedding_size": 16}), ("albert", {"encoder": "albert"})],
)
def test_other_families(tmp_path, capsys, architecture, changed):
    network = dataclasses.replace(tiny_tasks.NETWORK, **changed)
    trial, _, _ = write_fine_tuned(tmp_path, ["marks", "places"], network)
    out = export(trial, tmp_path / "out", architecture=architecture)
    config, tensors = read(out / "places")
    family = architecture.capitalize()
    assert config["architectures"] == [f"{family}ForTokenClassification"]
    assert f"{architecture}.embeddings.word_embeddings.weight" in tensors
    assert read(out / "marks")[0]["architectures"] == [f"{family}Model"]
    assert "has a tanh layer" in capsys.readouterr().err


def test_of_a_modern_model_the_encoder(tmp_path, capsys):
    network = dataclasses.replace(tiny_tasks.NETWORK, encoder="modern", embedding_size=16)
    trial, _, _ = write_fine_tuned(tmp_path, ["marks", "places", "texts"], network)
    out = export(trial, tmp_path / "out")
    for task in ("marks", "places", "texts"):
        assert read(out / task)[0]["architectures"] == ["ModernBertModel"]
        # A mean has no head that would be lost.
        assert (out / task / "modules.json").exists() == (task == "texts")
    said = capsys.readouterr().err
    assert "LayerNorm in its heads" in said and "the head of texts" not in said


def test_the_card_tells_of_the_training(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"])
    card = (export(trial, tmp_path / "out") / "README.md").read_text()
    assert '"learning_rate": 0.001' in card and "pipeline_tag: text-classification" in card
    assert str(tmp_path) not in card


def test_a_fine_tuned_model_is_one_network(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"])
    with pytest.raises(UserError, match="is one network"):
        export(trial, tmp_path / "out", network="generator")


def test_a_model_without_tasks(tmp_path):
    trial, _, _ = write_fine_tuned(tmp_path, ["marks"])
    (trial / "tasks.json").write_text("{}")
    with pytest.raises(UserError, match="not fine-tuned by this program"):
        export(trial, tmp_path / "out")
    assert not (tmp_path / "out").exists()
