"""Table and plot of a sweep over the generator's size."""

import dataclasses
import json
import math
import sys

import pytest

from electra_tf2.errors import UserError
from electra_tf2.sweep import table
from electra_tf2.sweep.size_results import SizeResult, SizeScore, Sweep, read_sweep, write_sweep


def result(size, auc, loss=0.30, **scores):
    figures = {
        "generator_loss": 5.0 - size,
        "masked_lm_accuracy": 0.2 + size / 10,
        "discriminator_loss": loss,
        "disc_accuracy": 0.90,
        "disc_precision": 0.8,
        "disc_recall": 0.3,
        "disc_auc": auc,
    }
    folder = f"models/m_generator_{size:g}"
    own = {task: SizeScore("accuracy", trials) for task, trials in scores.items()}
    return SizeResult(size, folder, int(128 * size), 1000, 501000, figures, {"weights": {}}, own)


def sweep(*results, steps=20000, sizes=(), electric=False):
    sizes = [own.size for own in results] + list(sizes)
    batches = f"{steps:,} steps of 32 examples of 64 tokens"
    return Sweep("m", 128, steps, 500, "held_out/*", electric, sizes, list(results), batches)


def cells(text):
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]


def test_table():
    text = table.table(sweep(result(0.25, 0.81, mrpc=[70.0, 71.0]), result(0.5, 0.75)))
    head, _, first, second = cells(text)
    row = dict(zip(head, first, strict=True))
    assert row["size"] == "0.25" and row["width"] == "32"
    assert row["generator's own parameters"] == "1,000"
    assert row["parameters in all"] == "501,000"
    assert row["generator loss"] == "4.750"
    assert row["masked-LM accuracy"] == "0.225"
    assert row["AUC"] == "0.810"
    assert row["mrpc, accuracy"] == "70.50 (70.00, 71.00)"
    # 1 - accuracy = .1 = (.7 + .3 (1 / .8 - 1)) s
    assert row["replaced tokens"] == "12.9%"
    assert row["loss without looking"] == "0.3845"
    assert "pfs-days" not in head and len(first) == len(second) + 1 == len(head)
    assert second[:2] == ["0.5", "64"] and "collapsed" not in text
    assert "20,000 steps of 32 examples of 64 tokens" in text and "held_out/*" in text


def test_table_of_what_is_there_so_far():
    begun = sweep(result(0.25, 0.8), sizes=[0.5, 1.0])
    assert "Still to come: 0.5, 1." in table.table(begun)
    assert "Still to come: 1." in table.table(sweep(sizes=[1.0]))


def test_collapse_beside_a_size_that_learned():
    found = sweep(result(0.25, 0.81), result(1.0, 0.52), steps=1500)
    assert found.collapsed() == ["size 1 has collapsed: AUC 0.520 is under 0.6 (.5 is guessing)"]
    assert "Size 1 has collapsed: AUC 0.520" in table.table(found)


def test_no_collapse_where_two_sizes_hardly_differ():
    assert sweep(result(0.25, 0.601), result(1.0, 0.596), steps=1500).collapsed() == []


def test_collapse_of_all_after_enough_steps():
    found = sweep(result(0.25, 0.52), result(1.0, 0.8, loss=0.3846), steps=20000)
    both = found.collapsed()
    assert len(both) == 2 and "loss 0.3846 is no better" in both[1]


def test_too_early_for_a_collapse():
    found = sweep(result(0.25, 0.55), result(1.0, 0.52), steps=1500)
    assert found.collapsed() == []
    text = table.table(found)
    assert "No discriminator has learned anything yet" in text and "5,000 steps" in text


def test_electric_is_not_judged():
    found = sweep(result(0.25, 0.5), electric=True)
    assert found.collapsed() == [] and "learned" not in table.table(found)


def test_results_are_kept_as_they_are(tmp_path):
    path = str(tmp_path / "results.json")
    kept = sweep(result(0.25, 0.81, mrpc=[70.0]), result(0.5, 0.7), sizes=[1.0])
    write_sweep(kept, path)
    assert read_sweep(path) == kept
    lost = dataclasses.replace(kept, results=[result(0.25, math.nan, mrpc=[math.nan])])
    write_sweep(lost, path)
    assert (
        json.loads((tmp_path / "results.json").read_text())["results"][0]["figures"]["disc_auc"]
        is None
    )
    (back,) = read_sweep(path).results
    assert math.isnan(back.figures["disc_auc"]) and math.isnan(back.scores["mrpc"].trials[0])
    assert lost.collapsed()


@pytest.mark.parametrize("content", ["", "[]", '{"results": []}', '{"results": [{"size": 1}]}'])
def test_other_json_is_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(UserError, match="results can't be read"):
        read_sweep(str(path))


@pytest.mark.parametrize("scores", [{}, {"mrpc": [70.0, 71.0]}], ids=["losses", "and scores"])
def test_plot(tmp_path, scores):
    write_sweep(sweep(result(0.25, 0.81, **scores), result(0.5, 0.7)), str(tmp_path / "r.json"))
    output = tmp_path / "plot.png"
    table.main([str(tmp_path / "r.json"), "--output", str(output)])
    assert output.read_bytes().startswith(b"\x89PNG")


def test_plot_that_can_not_be_drawn(tmp_path, monkeypatch):
    drawn = sweep(result(0.25, 0.8))
    for output in ("plot.xyz", "plot", "missing/plot.png"):
        with pytest.raises(UserError, match="can't be written"):
            table.plot_sweep(drawn, str(tmp_path / output))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="need matplotlib"):
        table.plot_sweep(drawn, str(tmp_path / "plot.png"))


def test_nothing_to_plot(tmp_path):
    with pytest.raises(UserError, match="no results") as error:
        table.main([str(tmp_path / "results.json")])
    assert error.value.received == "no such file"
