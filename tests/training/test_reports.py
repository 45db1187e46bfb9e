import json
import math
import threading
import time

import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training import reports
from electra_tf2.training.reports import RunLog, last_reports, read_reports
from tests.tensorboard_scalars import scalars


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def shown(folder, split="train"):
    """What TensorBoard shows of a split."""
    return scalars(folder / "tensorboard" / split)


def reported(folder, *steps):
    """A closed log with a report of these steps, of both splits."""
    log = RunLog(str(folder))
    for step in steps:
        log.write(step, {"loss": step})
        log.write(step, {"loss": -step}, split="eval")
    log.close()


def test_lines_and_events(tmp_path):
    log = RunLog(str(tmp_path / "model"))
    before = time.time()
    log.write(10, {"loss": 44.5, "learning_rate": 5e-4})
    log.write(10, {"loss": 43.0}, split="eval")
    log.close()
    first, second = lines(tmp_path / "model")
    assert before - 1 <= first.pop("wall_time") <= time.time() + 1
    assert first == {"step": 10, "split": "train", "loss": 44.5, "learning_rate": 5e-4}
    assert (second["split"], second["loss"]) == ("eval", 43.0)
    assert shown(tmp_path / "model") == {
        "loss": [(10, 44.5)],
        "learning_rate": [(10, pytest.approx(5e-4))],
    }
    assert shown(tmp_path / "model", "eval") == {"loss": [(10, 43.0)]}


def test_each_report_can_be_read_at_once(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (1, 2, 3):
        log.write(step, {"loss": step})
        assert [line["step"] for line in lines(tmp_path)] == list(range(1, step + 1))
        assert [reported for reported, _ in shown(tmp_path)["loss"]] == list(range(1, step + 1))


def test_nothing_is_written_before_the_first_report(tmp_path):
    log = RunLog(str(tmp_path / "model"))
    log.rewind(5)
    log.close()
    assert not (tmp_path / "model").exists()


def test_values_that_json_can_not_say(tmp_path):
    log = RunLog(str(tmp_path))
    log.write(1, {"loss": math.nan, "norm": math.inf, "array": tf.constant(2.0).numpy()})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (line["loss"], line["norm"], line["array"]) == (None, None, 2.0)
    ((_, loss),) = shown(tmp_path)["loss"]
    assert math.isnan(loss)


def test_the_logs_own_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wall_time"):
        RunLog(str(tmp_path)).write(1, {"wall_time": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_rewind_and_continue(tmp_path):
    """Steps that a resumed run repeats don't show twice, and those that it doesn't, not at all."""
    reported(tmp_path, 10, 20, 30, 40)
    resumed = RunLog(str(tmp_path))
    resumed.rewind(20)
    assert [line["step"] for line in lines(tmp_path)] == [10, 10, 20, 20]
    assert shown(tmp_path)["loss"] == [(10, 10), (20, 20)]
    resumed.write(30, {"loss": 300})
    resumed.close()
    resumed.write(35, {"loss": 350})  # in another file
    resumed.close()
    found = [(line["step"], line["loss"]) for line in lines(tmp_path)]
    assert found == [(10, 10), (10, -10), (20, 20), (20, -20), (30, 300), (35, 350)]
    assert shown(tmp_path)["loss"] == [(10, 10), (20, 20), (30, 300), (35, 350)]
    assert shown(tmp_path, "eval")["loss"] == [(10, -10), (20, -20)]


def test_rewind_twice(tmp_path):
    reported(tmp_path, 1, 2, 3)
    for _ in range(2):
        log = RunLog(str(tmp_path))
        log.rewind(1)
        log.write(2, {"loss": 20})
        log.close()
    assert shown(tmp_path)["loss"] == [(1, 1), (2, 20)]


def test_rewind_leaves_files_without_later_reports_as_they_are(tmp_path):
    reported(tmp_path, 10)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.stat().st_ino for path in paths}
    RunLog(str(tmp_path)).rewind(10)
    assert {path: path.stat().st_ino for path in paths} == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == paths


@pytest.mark.parametrize("step, kept", [(2, [1, 2]), (3, [1, 2])])
def test_what_a_crash_left_half_written(tmp_path, step, kept):
    """The event of step 3 is lost even where its line is not."""
    reported(tmp_path, 1, 2, 3)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "spl')
    (path,) = (tmp_path / "tensorboard" / "train").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    resumed = RunLog(str(tmp_path))
    resumed.rewind(step)
    resumed.write(4, {"loss": 40})
    resumed.close()
    assert [line["step"] for line in lines(tmp_path)][::2] == [*range(1, step + 1), 4]
    assert shown(tmp_path)["loss"] == [*((step, step) for step in kept), (4, 40)]


def test_writing_after_a_crash_without_rewind_repairs_the_last_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"step": 2, "sp')
    log = RunLog(str(tmp_path))
    log.write(2, {"loss": 2})
    log.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_another_process_adds_to_the_log_of_a_training(tmp_path, monkeypatch):
    """Both append to one file, however they take turns."""
    training, evaluation = RunLog(str(tmp_path)), RunLog(str(tmp_path))
    training.write(1, {"loss": 1})
    read, threads = reports.files.read_bytes, []

    def read_while_training_goes_on(path):
        content = read(path)
        if not threads:
            threads.append(threading.Thread(target=training.write, args=(2, {"loss": 2})))
            threads[0].start()
            threads[0].join(timeout=0.2)  # it waits, as the line is not there yet
        return content

    monkeypatch.setattr(reports.files, "read_bytes", read_while_training_goes_on)
    evaluation.write(1, {"loss": 3}, split="eval")
    evaluation.close()
    threads[0].join()
    training.write(3, {"loss": 4})
    training.close()
    assert sorted(line["loss"] for line in lines(tmp_path)) == [1, 2, 3, 4]


@pytest.mark.parametrize("line", ["not JSON", "[]", '{"loss": 1}', '{"step": "1"}'])
def test_a_foreign_line_is_an_error_and_stays(tmp_path, line):
    text = f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(UserError) as info:
        RunLog(str(tmp_path)).rewind(2)
    assert info.value.where == f"{tmp_path / 'metrics.jsonl'}, line 2"
    assert info.value.received == line
    assert (tmp_path / "metrics.jsonl").read_text() == text
    assert not (tmp_path / "tensorboard").exists()


def test_a_last_line_that_a_kill_cut_is_no_report(tmp_path):
    reported(tmp_path, 1, 2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "split": "tr')
    found = read_reports(str(tmp_path / "metrics.jsonl"))
    assert [(line["step"], line["loss"]) for line in found] == [(1, 1), (1, -1), (2, 2), (2, -2)]
    assert {split: line["step"] for split, line in last_reports(str(tmp_path)).items()} == {
        "train": 2,
        "eval": 2,
    }


@pytest.mark.parametrize("line", ["{}", "[1]", "1", '{"step": "x"}', "no JSON", "[" * 5000])
def test_another_line_that_is_no_report(tmp_path, line):
    reported(tmp_path, 1)
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(UserError) as error:
        read_reports(str(path))
    assert error.value.where == f"{path}, line 1"
    assert last_reports(str(tmp_path))["train"]["step"] == 1


def test_the_last_reports_take_no_more_reading_than_needed(tmp_path, monkeypatch):
    assert last_reports(str(tmp_path)) == {}
    log = RunLog(str(tmp_path))
    log.write(1, {"loss": 9.0})
    log.write(2, {"auc": 0.5}, split="eval")
    for step in range(3, 90):
        log.write(step, {"loss": step})
    log.close()
    monkeypatch.setattr(reports, "_BLOCK_BYTES", 100)
    parsed = []
    monkeypatch.setattr(
        reports.json, "loads", lambda x, loads=json.loads: parsed.append(x) or loads(x)
    )
    found = last_reports(str(tmp_path))
    assert found["train"]["loss"] == 89 and found["eval"]["auc"] == 0.5
    assert len(parsed) == 1 + 88  # the empty end, and all lines down to that of the evaluation
