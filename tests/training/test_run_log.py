import json
import math
import time

import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.reports import RunLog


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder, split):
    """(step, tag, value, plugin, data class) of each scalar that TensorBoard would find."""
    found = []
    for path in sorted((folder / "tensorboard" / split).iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                metadata = value.metadata
                found.append(
                    (
                        event.step,
                        value.tag,
                        float(tf.make_ndarray(value.tensor)),
                        metadata.plugin_data.plugin_name,
                        metadata.data_class,
                    )
                )
    return found


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
    assert events(tmp_path / "model", "train") == [
        (10, "loss", 44.5, "scalars", 1),
        (10, "learning_rate", pytest.approx(5e-4), "scalars", 1),
    ]
    assert events(tmp_path / "model", "eval") == [(10, "loss", 43.0, "scalars", 1)]


def test_each_report_can_be_read_at_once(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (1, 2, 3):
        log.write(step, {"loss": step})
        assert [line["step"] for line in lines(tmp_path)] == list(range(1, step + 1))
        assert [event[0] for event in events(tmp_path, "train")] == list(range(1, step + 1))


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
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (line["loss"], line["norm"], line["array"]) == (None, None, 2.0)
    assert math.isnan(events(tmp_path, "train")[0][2])


def test_the_logs_own_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="wall_time"):
        RunLog(str(tmp_path)).write(1, {"wall_time": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_rewind_and_go_on(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (10, 20, 30):
        log.write(step, {"loss": step})
        log.write(step, {"loss": -step}, split="eval")
    log.close()

    resumed = RunLog(str(tmp_path))
    resumed.rewind(20)
    assert [line["step"] for line in lines(tmp_path)] == [10, 10, 20, 20]
    resumed.write(30, {"loss": 300})
    resumed.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (10, 10),
        (10, -10),
        (20, 20),
        (20, -20),
        (30, 300),
    ]
    assert [event[:3] for event in events(tmp_path, "train")] == [
        (10, "loss", 10.0),
        (20, "loss", 20.0),
        (30, "loss", 300.0),
    ]
    assert [event[0] for event in events(tmp_path, "eval")] == [10, 20]


def test_rewind_leaves_files_without_later_reports_as_they_are(tmp_path):
    log = RunLog(str(tmp_path))
    log.write(10, {"loss": 1.0})
    log.close()
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.stat().st_ino for path in paths}
    log.rewind(10)
    assert {path: path.stat().st_ino for path in paths} == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == paths


def break_last_line(folder):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "spl')
    (path,) = (folder / "tensorboard" / "train").iterdir()
    path.write_bytes(path.read_bytes()[:-3])


def test_rewind_repairs_what_a_crash_left_half_written(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (1, 2, 3):
        log.write(step, {"loss": step})
    log.close()
    break_last_line(tmp_path)
    resumed = RunLog(str(tmp_path))
    resumed.rewind(2)
    resumed.write(3, {"loss": 30})
    resumed.close()
    assert [line["loss"] for line in lines(tmp_path)] == [1, 2, 30]
    assert [event[2] for event in events(tmp_path, "train")] == [1, 2, 30]


def test_rewind_to_the_end_still_cuts_a_half_written_event(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (1, 2, 3):
        log.write(step, {"loss": step})
    log.close()
    break_last_line(tmp_path)
    RunLog(str(tmp_path)).rewind(3)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert [event[0] for event in events(tmp_path, "train")] == [1, 2]


def test_writing_after_a_crash_without_rewind_repairs_the_last_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n{"step": 2, "sp')
    log = RunLog(str(tmp_path))
    log.write(2, {"loss": 2})
    log.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize("line", ["not JSON", "[]", '{"loss": 1}', '{"step": "1"}'])
def test_a_foreign_line_is_an_error_and_stays(tmp_path, line):
    text = f'{{"step": 1}}\n{line}\n{{"step": 3}}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(UserError) as info:
        RunLog(str(tmp_path)).rewind(2)
    assert info.value.where == f"{tmp_path / 'metrics.jsonl'}, line 2"
    assert info.value.received == line
    assert (tmp_path / "metrics.jsonl").read_text() == text
