"""The comparison of objectives: equal compute, its table, and a run that is stopped and resumed."""

import argparse
import json
import statistics
import sys
from pathlib import Path

import pytest

from electra_tf2.cli import RunFlags
from electra_tf2.errors import UserError
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))  # scripts beside each other, not a package

import compare_objectives  # noqa: E402
import objective_table  # noqa: E402
from compare_objectives import OBJECTIVES, Comparison  # noqa: E402
from objective_table import NOT_PRETRAINED, Cell, read_cells, table, write_cells  # noqa: E402

NAME = "compared"
FINETUNING = {**tiny_tasks.HPARAMS, "num_train_epochs": 0.1}
del FINETUNING["task_names"]


def flags(**changes):
    """Those beside pre-training's."""
    usual = {"points": 1, "finetune": "{}", "tasks": ["cola"], "seeds": [1]}
    return argparse.Namespace(**{**usual, "arms": json.dumps(OBJECTIVES), **changes})


def test_objectives_take_the_same_compute(tmp_path):
    hparams = {"preset": "electra_tiny", "num_train_steps": 1200, "num_warmup_steps": 300}
    comparison = Comparison(RunFlags(str(tmp_path), NAME, hparams), flags(points=3))
    configs = {name: comparison._pretraining(name, 1) for name in OBJECTIVES}
    flops = {
        name: config.num_train_steps * compare_objectives._flops_per_step(config)
        for name, config in configs.items()
    }
    assert configs["replaced tokens"].num_train_steps == 1200
    assert len({config.num_train_steps for config in configs.values()}) == 3
    for name, config in configs.items():
        assert flops[name] == pytest.approx(flops["replaced tokens"], rel=2 / 1200)
        assert config.num_warmup_steps == pytest.approx(config.num_train_steps / 4, abs=0.5)
        assert config.num_train_steps == 3 * config.save_checkpoints_steps
    assert not configs["masked LM"].electra_objective and configs["Electric"].electric_objective


@pytest.mark.parametrize(
    "hparams, points, where",
    [
        ({"phases": [{"num_train_steps": 9}]}, 1, "phases"),
        ({"train_batch_size": [[0, 8], [9, 16]]}, 1, "train_batch_size"),
        ({"lr_schedule": "wsd", "lr_decay_steps": 9}, 1, "lr_decay_steps"),
        ({}, 0, "--points"),
        ({"num_train_steps": 9}, 10, "--points"),
    ],
)
def test_what_can_not_be_compared(tmp_path, hparams, points, where):
    run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny", **hparams})
    with pytest.raises(UserError, match=where):
        Comparison(run, flags(points=points))


@pytest.mark.parametrize(
    "arms",
    [
        "{}",
        '{"words": "whole_word"}',
        '{"words": {"masking": "whole_word", "num_train_steps": 9}}',
        "masking=whole_word",
        '{"words": {"masking": "words"}}',
        '{"words": {"phases": [{"num_train_steps": 9}]}}',
        '{"words": {"model_name": "x"}}',
        '{"words": {"do_eval": false}}',
        '{"large": {"model_hparam_overrides": {"hidden_size": 640}}}',
        '{"words": {}, "Words": {"masking": "whole_word"}}',
        '{"random": {}}',
        '{"No pre-training": {}}',
    ],
)
def test_arms_that_can_not_be_compared(tmp_path, arms):
    run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny", "num_train_steps": 3})
    with pytest.raises(UserError, match="--arms|hparam masking"):
        Comparison(run, flags(arms=arms))


def test_arms_and_presets_have_no_steps_of_their_own(tmp_path):
    arms = '{"ramp": {"train_batch_size": [[0, 4], [9, 8]]}}'
    for hparams, own in (({}, arms), ({"preset": "electra_large_batch_lamb"}, "{}")):
        run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny", **hparams})
        with pytest.raises(UserError, match="other numbers of steps"):
            Comparison(run, flags(arms=own if own != "{}" else json.dumps(OBJECTIVES)))


def test_arms_take_the_compute_of_the_run_without_them(tmp_path):
    """One has hparams of its own, a frozen generator among them, which costs a third."""
    (tmp_path / "models" / "masked_lm").mkdir(parents=True)
    frozen = {"init_generator": str(tmp_path / "models" / "masked_lm"), "train_generator": False}
    run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny", "num_train_steps": 1200})
    arms = json.dumps({"span": {"masking": "span"}, "A frozen one": frozen})
    comparison = Comparison(run, flags(arms=arms))
    span, kept = (comparison._pretraining(arm, 1) for arm in ("span", "A frozen one"))
    assert span.masking == "span" and span.num_train_steps == 1200
    assert not kept.train_generator and kept.num_train_steps > 1210
    assert kept.model_name == f"{NAME}_1_a_frozen_one"


def test_an_arm_of_any_name_leaves_the_reference_alone(tmp_path):
    run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny", "num_train_steps": 1200})
    comparison = Comparison(run, flags(arms='{"reference": {"electra_objective": false}}'))
    assert comparison.reference(1).electra_objective
    assert comparison._pretraining("reference", 1).num_train_steps > 1210


def test_scores_of_other_hparams_do_not_stand(tmp_path):
    run = RunFlags(str(tmp_path), NAME, {"preset": "electra_tiny"})
    first = Comparison(run, flags(arms='{"words": {"masking": "whole_word"}}'))
    cell = Cell("words", 1, 1, 1.0, hparams={"masking": "whole_word"})
    write_cells(first.path(1), first._settings(), [cell])
    assert first.read(1) == [cell]
    assert Comparison(run, flags(arms='{"spans": {"masking": "span"}}')).read(1) == [cell]
    with pytest.raises(UserError, match="span") as info:
        Comparison(run, flags(arms='{"words": {"masking": "span"}}')).read(1)
    assert info.value.where == first.path(1)


def test_no_task(tmp_path):
    with pytest.raises(UserError) as info:
        Comparison(RunFlags(str(tmp_path), NAME, {}), flags(tasks=None))
    assert info.value.where == str(tmp_path / "finetuning_data")


def cells():
    """Two seeds of one objective at two points, and of no pre-training; one score is missing."""
    found = []
    for seed, plus in ((1, 0.0), (2, 2.0)):
        for steps, score in ((10, 60.0), (20, 70.0)):
            figures = {"disc_auc": 0.8 + plus / 100} if steps == 20 else {}
            cell = Cell("replaced tokens", seed, steps, steps * 1e9, figures)
            found.append(cell.with_score("chunk", "f1", score + plus))
        found.append(Cell(NOT_PRETRAINED, seed, 0, 0.0).with_score("chunk", "f1", 50 + plus))
    found[1] = found[1].with_score("cola", "mcc", 10.0)
    return found


def test_the_table():
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in table(cells()).splitlines()
    ]
    deviation = f"± {statistics.stdev([0, 2]):.2f}"
    assert rows[0][6:] == ["chunk, f1", "cola, mcc", "mean of the tasks"]
    assert [row[0] for row in rows[2:]] == ["replaced tokens"] * 2 + [NOT_PRETRAINED]
    early, late, without = rows[2:]
    assert early[1:] == ["10", "1e+10", "2", "", "", f"61.00 {deviation}", "", ""]
    assert late[1:4] == ["20", "2e+10", "2"] and late[4] == f"81.00 {deviation}"
    assert late[6:] == [f"71.00 {deviation}", "10.00", "40.00"]
    assert without[1:3] == ["0", "0"] and without[6] == f"51.00 {deviation}"


def test_the_file_and_the_plot(tmp_path):
    path = str(tmp_path / "seed_1.json")
    assert read_cells(path) is None
    write_cells(path, {"points": 2}, cells())
    assert read_cells(path) == ({"points": 2}, cells())
    objective_table.plot(cells(), str(tmp_path / "compute.png"))
    assert (tmp_path / "compute.png").read_bytes().startswith(b"\x89PNG")
    Path(path).write_text("{")
    with pytest.raises(UserError) as info:
        read_cells(path)
    assert info.value.where.startswith(path)


ARMS = {"Plain": {}, "masked LM": {"electra_objective": False}}


def compare(data_dir, *flags):
    hparams = {
        **tiny.HPARAMS,
        "preset": None,
        "eval_tfrecords": str(data_dir / "held_out" / tiny.GLOB),
    }
    compare_objectives.main(
        ["--data-dir", str(data_dir), "--model-name", NAME, "--hparams", json.dumps(hparams)]
        + ["--finetune", json.dumps(FINETUNING), "--tasks", "marks", "--seeds", "1"]
        + ["--points", "2", "--arms", json.dumps(ARMS), *flags]
    )


@pytest.mark.slow
def test_a_run_that_was_halted(tiny_data, monkeypatch, capsys):
    """It is halted before its first score is written; what was trained by then stands."""
    tiny_tasks.write_marks(tiny_data)
    folder = tiny_data / "models" / f"{NAME}_comparison"

    class HaltError(Exception):
        pass

    def halt(*arguments):
        raise HaltError

    with monkeypatch.context() as patch:
        patch.setattr(compare_objectives, "write_cells", halt)
        with pytest.raises(HaltError):
            compare(tiny_data)
    assert not folder.exists()
    stamps = changed(folder)
    assert len(stamps) >= 3  # two checkpoints of pre-training, one of fine-tuning
    compare(tiny_data)
    printed = capsys.readouterr()
    assert stamps.items() <= changed(folder).items()
    found = read_cells(str(folder / "seed_1.json")).cells
    ends = [(cell.objective, cell.steps, cell.hparams) for cell in found[:2]]
    assert ends == [(arm, n, ARMS[arm]) for arm, n in zip(ARMS, (6, 8), strict=True)]
    assert len(found) == 5 and found[2].objective == NOT_PRETRAINED
    for cell in found:
        assert 0 <= cell.scores["marks"] <= 100 and cell.metrics["marks"] == "accuracy"
    assert [bool(cell.figures) for cell in found] == [True] * 2 + [False] * 3
    assert (folder / "results.md").read_text() in printed.out
    assert (folder / "compute.png").read_bytes().startswith(b"\x89PNG")
    stamps = changed(folder)
    compare(tiny_data)
    assert len(stamps) >= 9 and changed(folder) == stamps
    with pytest.raises(UserError) as info:
        compare(tiny_data, "--points", "1")
    assert info.value.where == str(folder / "seed_1.json")


def changed(folder):
    """When the weights of all models were written."""
    paths = folder.parent.glob(f"{NAME}_1_*/**/weights.safetensors")
    return {path: path.stat().st_mtime_ns for path in paths}
