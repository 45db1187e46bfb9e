"""The figures of every class, and the confusion matrix, as a table and as a picture."""

import json

import numpy as np
import pytest
from sklearn import metrics

from electra_tf2 import plots
from electra_tf2.errors import UserError
from finetune.classification.class_report import (
    ClassFigures,
    ClassScores,
    read_class_report,
    report_path,
    scores_of_classes,
    write_class_report,
)
from finetune.classification.metrics import MacroF1Scorer
from finetune.report.scores import _tables_of
from finetune.tagging.metrics import SpanScorer, WordAccuracyScorer
from tests.finetune.classification.test_classification_metrics import fill

PNG = b"\x89PNG"


def test_figures_are_those_of_scikit_learn():
    stream = np.random.default_rng(0)
    true, predicted = stream.integers(0, 3, 60), stream.integers(0, 2, 60)
    scores = fill(MacroF1Scorer("abc"), true, predicted).class_scores()
    np.testing.assert_array_equal(scores.confusion, metrics.confusion_matrix(true, predicted))
    table = metrics.precision_recall_fscore_support(true, predicted, zero_division=0)
    for own, precision, recall, f1, gold in zip(scores.figures, *table, strict=True):
        assert own[1:] == pytest.approx((100 * precision, 100 * recall, 100 * f1, gold))


def test_classes_that_the_model_does_not_know():
    scores = scores_of_classes([0, 1, 5, -1], [0, 0, 1, 1], ["a", "b"])
    assert [own.name for own in scores.figures] == ["a", "b", "(another)"]
    np.testing.assert_array_equal(scores.confusion, [[1, 0, 0], [1, 0, 0], [0, 2, 0]])
    assert [own.name for own in scores_of_classes([0], [1], ()).figures] == ["0", "1"]


def test_names_of_classes_in_any_script(tmp_path, capsys, recwarn):
    def write(*names):
        figures = [ClassFigures(name, 1, 2, 3, 4) for name in names]
        write_class_report(ClassScores(figures), str(tmp_path / "r"), "t")
        return capsys.readouterr().err

    curved, private = "⌒", "\U0010fffd"  # of DejaVu Sans Mono, not Sans; of no font
    assert write("good", "schön") == write("good", curved) == ""
    assert "boxes in place of" in write(curved, private)
    assert not recwarn.list


def test_types_of_spans_and_tags():
    def scorer(kind, labels, gold, predicted):
        made = kind(labels, [gold])
        ids = np.array([labels.index(tag) for tag in predicted])
        result = {"eid": 0, "loss": 0.0, "predictions": ids, "labels_mask": np.ones(len(ids))}
        made.update(result)
        return made.class_scores()

    spans = scorer(SpanScorer, ["O", "S-A", "S-B"], ["S-A", "O", "S-B"], ["S-A", "S-B", "O"])
    assert spans.figures == [ClassFigures("A", 100, 100, 100, 1), ClassFigures("B", 0, 0, 0, 1)]
    tags = scorer(WordAccuracyScorer, ["N", "V"], ["N", "N", "V"], ["N", "V"])  # one is cut off
    assert tags.figures == [
        ClassFigures("N", 100, 50, pytest.approx(200 / 3), 2),
        ClassFigures("V", 0, 0, 0, 1),
    ]


def test_files(tmp_path):
    names = ["a|b", "$x_$", "two\nlines"]
    scores = scores_of_classes([0, 1, 2, 2], [0, 1, 2, 1], names)
    table, picture = write_class_report(scores, str(tmp_path / "r" / "t_dev_1"), "t, dev")
    text = (tmp_path / "r" / "t_dev_1.md").read_text()
    assert text.startswith("# t, dev\n")
    assert "| two lines | 100.00 | 50.00 | 66.67 | 2 |" in text
    assert r"| a\|b | 1 | 0 | 0 |" in text and "| two lines | 0 | 1 | 1 |" in text
    stored = read_class_report(str(tmp_path / "r" / "t_dev_1.json"))
    assert stored.figures == scores.figures
    np.testing.assert_array_equal(stored.confusion, scores.confusion)
    assert (table, picture) == tuple(f"{tmp_path}/r/t_dev_1{ending}" for ending in (".md", ".png"))
    assert (tmp_path / "r" / "t_dev_1.png").read_bytes().startswith(PNG)


def test_labels_without_a_confusion_matrix_and_many_classes(tmp_path):
    write_class_report(ClassScores([ClassFigures("a", 1, 2, 3, 4)]), str(tmp_path / "bars"), "t")
    assert "Confusion" not in (tmp_path / "bars.md").read_text()
    assert read_class_report(str(tmp_path / "bars.json")).confusion is None
    assert (tmp_path / "bars.png").read_bytes().startswith(PNG)
    names = [f"c{i}" for i in range(60)]
    scores = scores_of_classes([*range(60), 7, 7], [*range(60), 8, 8], names)
    write_class_report(scores, str(tmp_path / "many"), "t")
    text = (tmp_path / "many.md").read_text()
    assert "| c7 | c8 | 2 |" in text and "| c8 | c7 |" not in text


def test_many_classes_without_a_confusion(tmp_path):
    scores = scores_of_classes(range(60), range(60), [f"c{i}" for i in range(60)])
    write_class_report(scores, str(tmp_path / "right"), "t")
    for text in (
        (tmp_path / "right.md").read_text(),
        "".join(_tables_of(read_class_report(str(tmp_path / "right.json")), "dev")),
    ):
        assert "No example was given a wrong class." in text and "frequent" not in text


@pytest.mark.parametrize("change", [{"figures": [["a"]]}, {"confusion": [[1]]}, {"confusion": 1}])
def test_a_damaged_file_of_figures(tmp_path, change):
    write_class_report(scores_of_classes([0, 1], [0, 1], ["a", "b"]), str(tmp_path / "t"), "t")
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="report on the classes can't be read") as error:
        read_class_report(str(path))
    assert str(path) in error.value.where and next(iter(change)) in error.value.where


def test_without_matplotlib_nothing_is_trained(monkeypatch, data_dir):
    from tests.finetune import tiny_tasks

    def missing():
        raise UserError("Plots need matplotlib.", remedy="Install it.")

    monkeypatch.setattr("finetune.run.open_run.load_pyplot", missing)
    assert plots.load_pyplot() is not None
    with pytest.raises(UserError, match="matplotlib"):
        tiny_tasks.finetune_here(data_dir, class_report=True)
    assert not (tiny_tasks.model_of(data_dir) / "finetuning_models").exists()
    config = tiny_tasks.configure(data_dir)
    path = report_path(config, "marks", "dev", 2)
    assert path.endswith("results/marks_results_classes/marks_dev_2")
