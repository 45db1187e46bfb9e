"""Plots of training histories."""

import json

import pytest

from electra_tf2 import plots
from electra_tf2.errors import UserError


@pytest.fixture
def model_dir(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    lines = [
        {"step": 10, "split": "train", "loss": 3.0, "disc_auc": None},
        {"step": 20, "split": "train", "loss": 2.0, "disc_auc": 0.6},
        {"step": 20, "split": "eval", "loss": 2.5},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_curve_holds_the_figures_of_one_split(model_dir):
    curve = plots.read_curve(str(model_dir), "loss")
    assert curve == ("small", [10, 20], [3.0, 2.0])
    assert plots.read_curve(str(model_dir), "disc_auc").steps == [20]
    assert plots.read_curve(str(model_dir), "loss", split="eval").values == [2.5]


def test_steps_that_were_reported_out_of_order(model_dir):
    """As by an evaluation beside a training, of what that had saved."""
    with open(model_dir / "metrics.jsonl", "a") as file:
        file.write('{"step": 10, "split": "eval", "loss": 2.75}\n')
    curve = plots.read_curve(str(model_dir), "loss", split="eval")
    assert (curve.steps, curve.values) == ([10, 20], [2.75, 2.5])


def test_a_line_that_a_kill_cut(model_dir):
    with open(model_dir / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "split": "train", "lo')
    assert plots.read_curve(str(model_dir), "loss").steps == [10, 20]


def test_a_line_of_something_else(model_dir):
    with open(model_dir / "metrics.jsonl", "a") as file:
        file.write("[]\n")
    with pytest.raises(UserError) as error:
        plots.read_curve(str(model_dir), "loss")
    assert error.value.where.endswith("metrics.jsonl, line 4")


def test_picture_is_written(model_dir, tmp_path):
    (tmp_path / "more.json").write_text('{"other": {"steps": [10, 20], "values": [4, 3]}}')
    output = tmp_path / "plot.png"
    more = ["--curves", str(tmp_path / "more.json"), "--output", str(output)]
    plots.main([str(model_dir), *more])
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {"steps": [1]}}'])
def test_curves_of_another_form_are_refused(tmp_path, content):
    path = tmp_path / "curves.json"
    path.write_text(content)
    with pytest.raises(UserError, match="can't be read"):
        plots.read_curves_file(str(path))


def test_unknown_figure_names_those_there_are(model_dir):
    with pytest.raises(UserError) as error:
        plots.read_curve(str(model_dir), "lots")
    assert "disc_auc" in error.value.remedy
