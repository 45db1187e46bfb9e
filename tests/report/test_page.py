"""The page about a model: what it shows is what the model's folder says."""

import json
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf

import report
from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.hparams.record import parse_hparams
from electra_tf2.inference.discriminator import Discriminator
from electra_tf2.loading.folder import read_config
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.randomness import StepRandomness
from electra_tf2.report.folder import open_folder
from electra_tf2.report.judged import judge
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.report.scores import finetuning_runs, scores_section
from finetune.run.results import read_results
from tests.pretraining import tiny
from tests.report.model_pages import (
    EVAL,
    TRAIN,
    Page,
    copy_data,
    records_of,
    write_pretrained,
    write_scores,
)

pytest.importorskip("matplotlib")

CLASSES = ("<script>alert(1)</script>", "good | bad & \u202eevil")
WARNING = 'the <b>generator</b> is "too" large'


@pytest.fixture(scope="module")
def data_dir(tiny_data, tmp_path_factory):
    folder = copy_data(tiny_data, tmp_path_factory.mktemp("page"))
    vocabulary = (folder / "vocab.txt").read_text()
    assert "bread" in vocabulary
    write_pretrained(folder, warnings=[WARNING])
    write_scores(folder, classes=CLASSES)
    write_scores(folder, task="<b>task", trials=1)
    return folder


@pytest.fixture(scope="module")
def page(data_dir):
    arguments = ["--data-dir", str(data_dir), "--model-name", "page"]
    report.main(arguments)
    return Page(data_dir / "models" / "page" / "report.html")


def test_all_sections_are_there(page):
    names = "training curves discriminator generator finetuning warnings commands".split()
    assert list(page.text) == ["", *names]
    links = [value for value in page.attributes("href") if value.startswith("#")]
    assert {link[1:] for link in links} >= set(page.text) - {""}


def test_key_figures(page):
    words = " ".join(page.text[""].split())
    assert f"Discriminator AUC{EVAL['disc_auc']:.3f}held-out text" in words
    assert f"Generator accuracy{EVAL['masked_lm_accuracy']:.1%}held-out text" in words
    tokens = 6 * tiny.HPARAMS["train_batch_size"] * tiny.LENGTH
    assert "Steps6" in words and f"Tokens seen{tokens / 1e3:.3g} k" in words
    assert f"{TRAIN['pfs_days']:.3g} pfs-days" in words and "1.73 · 10¹¹" in words
    assert f"Time0:{round(tokens / TRAIN['tokens_per_second']):02d}" in words


def test_figures_and_curves_are_those_of_the_log(page):
    rows = {row[0]: row[1:] for row in page.tables["curves"]}
    assert rows["Generator: loss"] == ["3.21", "3.45"]
    assert rows["Discriminator: AUC"] == ["0.6543", "0.5678"]
    assert rows["Weighted loss"] == ["34", "31.5"]
    drawn = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    assert all("at step 2, " in label for label in drawn[:4])
    assert "held-out text 0.5678 at step 6" in drawn[3]


def test_curves_of_fine_tuning_have_all_trials(page):
    drawn = [a["aria-label"] for tag, a in page.tags if tag == "svg"][4:]
    losses, scores = [label for label in drawn if "<b>task" not in label][-2:]
    assert losses.startswith("Loss: ") and losses.count("in training 0.75 at step 6") == 3
    assert scores.startswith("marks: accuracy, dev: ") and "held out 73 at step 6" in scores


def test_what_was_trained_on_what(page, data_dir):
    text = page.text["training"]
    metadata = json.loads((data_dir / "pretrain_tfrecords" / "metadata.json").read_text())
    assert f"{metadata['num_examples']:,} examples" in text
    assert f"{metadata['counts']['tokens']:,} tokens" in text
    assert "6 steps of 8 examples of 32 tokens" in text and "lower-cased, without accents" in text
    assert "1 layer of 16, 2 heads, embeddings of 8" in text and "1 layer of 8" in text
    assert "parameters (" in text and "float32, on A" in text


def test_nothing_is_loaded_and_ids_are_unique(page):
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "base", "form"}
    assert page.attributes("src") == []
    assert {value for value in page.attributes("href") if value[0] != "#"} == {"data:,"}
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.attributes("href") if value[0] == "#"} <= set(ids)
    urls = re.findall(r"url\(#(.*?)\)", page.content)
    assert set(urls) <= set(ids)
    assert "http" not in page.content and "@import" not in page.content
    assert len(page.content) < 1_500_000


def test_what_comes_from_data_is_text(page):
    assert CLASSES[0] in page.text["finetuning"] and "<b>task" in page.text["finetuning"]
    assert "good | bad & \\u202eevil" in page.text["finetuning"]
    assert WARNING in page.text["warnings"]
    assert not any(tag in ("b", "script") for tag, _ in page.tags)


def test_the_discriminators_opinion_is_that_of_the_model(page, data_dir):
    model_dir = data_dir / "models" / "page"
    vocabulary = load_vocabulary(str(model_dir / "vocab.txt"))
    (paragraph,) = re.findall(r'<p class="sentence" dir="auto">(.*?)</p>', page.content)[:1]
    spans = re.findall(r'<span class="(token.*?)" style=.*? title="replaced: (.*?)%">', paragraph)
    # Pieces with the originals taken out again: what the discriminator saw.
    shown = re.sub(r" <small>.*?</small>", "", paragraph)
    shown = re.findall(r"title=[^>]*>([^<]*)</span>( ?)", shown)
    pieces = ["##" * (i > 0 and not shown[i - 1][1]) + text for i, (text, _) in enumerate(shown)]
    ids = [vocabulary.tokens.index(piece) for piece in pieces]
    discriminator = Discriminator.from_pretrained(str(model_dir))
    rows = records_of(str(data_dir / "held_out" / tiny.GLOB), vocabulary)
    # The row whose other tokens are those that were not replaced.
    is_kept = ["replaced" not in class_ for class_, _ in spans]
    (row,) = [r for r in rows if _agrees(r[r != 0], vocabulary, ids, is_kept)]
    corrupted = row.copy()
    special = [vocabulary.tokens.index(name) for name in ("[PAD]", "[CLS]", "[SEP]")]
    places = np.flatnonzero(~np.isin(row, special))
    corrupted[places] = ids
    mask = (row != 0).astype(np.int32)[np.newaxis]
    segments = _segments(row, vocabulary)[np.newaxis]
    logits = np.asarray(discriminator.network(corrupted[np.newaxis], mask, segments))[0]
    expected = 100 / (1 + np.exp(-logits[places]))
    np.testing.assert_allclose([float(p) for _, p in spans], expected, atol=0.0501)
    assert np.ptp(expected) > 1  # the weights are not so small that all are alike


def _agrees(row, vocabulary, ids, is_kept):
    own = [n for n in row if vocabulary.tokens[n] not in ("[CLS]", "[SEP]")]
    pairs = zip(own, ids, is_kept, strict=False)
    return len(own) == len(ids) and all((a == b) == same for a, b, same in pairs)


def _segments(row, vocabulary):
    """0 up to the first [SEP], then 1 up to the last."""
    ends = np.flatnonzero(row == vocabulary.sep_id)
    places = np.arange(len(row))
    return ((places > ends[0]) & (places <= ends[-1])).astype(np.int32)


def test_the_generators_probabilities_are_those_of_the_model(data_dir):
    model_dir = data_dir / "models" / "page"
    folder = open_folder(str(model_dir), PretrainingConfig)
    config, vocabulary = folder.config, load_vocabulary(str(model_dir / "vocab.txt"))
    judged = judge(
        config,
        folder.stored.network,
        vocabulary,
        config.eval_tfrecords,
        examples=2,
        casing=UNCASED,
    )
    objective, _ = build_pretraining(config, folder.stored.network, vocabulary)
    store = CheckpointStore(str(model_dir))
    weights = store.load(store.latest()).weights
    for name, variable in objective.named_variables().items():
        variable.assign(weights[name])
    ids = judged.original_ids
    batch = {
        "input_ids": ids,
        "input_mask": (ids != 0).astype(np.int32),
        "segment_ids": np.stack([_segments(row, vocabulary) for row in ids]),
    }
    zero = tf.constant(0, tf.int64)
    randomness = StepRandomness(config.seed, zero, zero, zero)
    prepared, _ = objective.prepare({n: tf.constant(v) for n, v in batch.items()}, randomness)
    output = objective.forward(prepared, randomness, training=False)
    likely = tf.nn.softmax(output.mlm_logits).numpy()
    seen = np.zeros(ids.shape, bool)
    slots = prepared.masked
    for row, slot in np.argwhere(slots.weights.numpy() > 0):
        place = slots.positions.numpy()[row, slot]
        seen[row, place] = True
        for found, own in ((judged.p_original, ids), (judged.p_shown, judged.shown_ids)):
            wanted = likely[row, slot, own[row, place]]
            assert found[row, place] == pytest.approx(wanted, rel=1e-4) and wanted > 0
    np.testing.assert_array_equal(judged.masked, seen)
    assert not judged.p_original[~seen].any() and not judged.p_shown[~seen].any()


def test_samples_of_the_generator(page):
    rows = [row for row in page.tables["generator"] if row[0]]
    masks = [a for tag, a in page.tags if tag == "span" and a.get("class") == "mask"]
    assert len(rows) == len(masks) > 2
    for number, original, sample, judged in rows:
        tokens, shares = zip(*(cell.rsplit(" ", 1) for cell in (original, sample)), strict=True)
        assert (tokens[1] == f"{tokens[0]} ✓") == (shares[0] == shares[1] and "✓" in tokens[1])
        assert number.isdigit() and all(0 <= float(s[:-1]) <= 100 for s in (*shares, judged))


def test_scores_with_their_spread(page):
    rows = page.tables["finetuning"]
    assert ["marks", "accuracy", "82.00", "± 1.00", "3"] in rows
    assert ["<b>task", "accuracy", "81.00", "", "1"] in rows
    assert ["median", "82.00", "0.50", "", "", ""] in rows
    assert ["2", "82.00", "0.50", "12", "1.0 min", ""] in rows
    assert "Scored on 33 rows." in page.text["finetuning"]
    assert [CLASSES[0], "100.00", "66.67", "80.00", "3"] in rows
    assert [CLASSES[0], "2", "1"] in rows  # of the confusion matrix
    shares = [a["style"] for tag, a in page.tags if a.get("class") == "cell"]
    assert shares[:4] == ["--p:0.67", "--p:0.33", "--p:0.00", "--p:1.00"]


@pytest.mark.parametrize("count, shown", [(2, "True classes are rows"), (60, "most frequent")])
def test_classes_of_any_name_and_number(tmp_path, count, shown):
    names = ["a\\|b  c", *(f"c{i}" for i in range(1, count))]
    model_dir = str(write_scores(tmp_path, classes=names, trials=1))
    content = scores_section(model_dir, finetuning_runs(model_dir)).content
    assert shown in content and content.count(names[0]) >= 2


def test_classes_of_an_older_version(tmp_path):
    model_dir = write_scores(tmp_path, trials=1)
    (figures,) = model_dir.glob("results/*_classes/*.json")
    figures.unlink()
    content = scores_section(str(model_dir), finetuning_runs(str(model_dir))).content
    assert "Score the model again" in content and "class_report" not in content


def test_commands_give_the_same_configuration(page, data_dir):
    text = page.text["commands"].replace("\\\n", " ")
    commands = re.findall(r"python run_.*?\}'", text, re.S)
    assert len(commands) == 3
    stored = {
        "run_pretraining.py": read_config(str(data_dir / "models" / "page")).hparams,
        "run_finetuning.py": read_results(
            str(data_dir / "models" / "page" / "results" / "<b>task_results.json")
        ).hparams,
    }
    for command, make in zip(commands[:2], (PretrainingConfig, FinetuningConfig), strict=True):
        _, script, *words = shlex.split(command)
        flags = dict(zip(words[::2], words[1::2], strict=True))
        hparams = parse_hparams(flags["--hparams"])
        again = make(flags["--model-name"], flags["--data-dir"], **hparams)
        assert again.to_dict() == stored[script]
        assert "learning_rate" in hparams and "adam_beta_1" not in hparams
