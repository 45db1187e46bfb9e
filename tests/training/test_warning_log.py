"""Warnings are kept once each, and only where there is a place for them."""

import io
import logging
import os
import threading

import absl.logging

from electra_tf2.console import Progress, say, show, show_logs
from electra_tf2.training import reports
from electra_tf2.training.reports import kept_warnings, read_warnings


class Terminal(io.StringIO):
    """A stream on which progress is a bar."""

    def isatty(self):
        return True

    def fileno(self):
        return os.openpty()[1]


def texts(path):
    return [warning.text for warning in read_warnings(str(path))]


def test_what_is_printed_as_a_warning_is_kept_in_its_order(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1.0)  # in the same millisecond too
    path = tmp_path / "warnings.jsonl"
    with kept_warnings(str(path)) as log:
        say("Warning: before the start")
        assert not path.exists()
        log.start()
        say("no warning: this is not one", "Warning: in two\nlines")
        show("Warning: é \udc80")
        assert texts(path)[:2] == ["before the start", "in two\nlines"]
    say("Warning: too late")
    assert len(texts(path)) == 3
    assert capsys.readouterr().err.count("Warning: ") == 3


def test_warnings_of_progress_are_kept_with_a_bar_and_without(tmp_path):
    path = tmp_path / "warnings.jsonl"
    with kept_warnings(str(path)) as log:
        log.start()
        for number, stream in enumerate((io.StringIO(), Terminal())):
            Progress(3, stream=stream).message(f"Warning: slow {number}")
    assert texts(path) == ["slow 0", "slow 1"]


def test_a_resumed_run_doubles_none(tmp_path):
    path = tmp_path / "warnings.jsonl"
    for text in ("first", "second", "first"):
        with kept_warnings(str(path)) as log:
            log.start()
            say(f"Warning: {text}")
    assert texts(path) == ["first", "second"]
    with path.open("a") as file:
        file.write('{"wall_time": 1}\n[]\n{"wall_t')
    assert texts(path) == ["first", "second"]


def test_two_runs_keep_each_others_warnings(tmp_path, monkeypatch):
    path, threads = str(tmp_path / "warnings.jsonl"), []
    logs = [reports.WarningLog(path) for _ in range(2)]
    for log in logs:
        log.start()

    def read_while_the_other_writes(path):
        found = read_warnings(path)
        if not threads:
            threads.append(threading.Thread(target=logs[1].add, args=("of an evaluation",)))
            threads[0].start()
            threads[0].join(timeout=0.2)
        return found

    monkeypatch.setattr(reports, "read_warnings", read_while_the_other_writes)
    logs[0].add("of a training")
    threads[0].join()
    assert sorted(texts(path)) == ["of a training", "of an evaluation"]


def test_other_workers_and_places_that_are_not_there(tmp_path):
    missing, made = tmp_path / "none" / "w.jsonl", tmp_path / "made" / "w.jsonl"
    with kept_warnings(str(missing)) as one, kept_warnings(str(made)) as other:
        one.start(), other.start()
        say("Warning: early")
        made.parent.mkdir()
        with kept_warnings(str(tmp_path / "worker.jsonl")):
            say("Warning: later")
    assert texts(made) == ["early", "later"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    (tmp_path / "folder").mkdir()
    with kept_warnings(str(tmp_path / "folder")) as log:
        log.start()
        say("Warning: nowhere to go")


def test_a_run_that_is_refused_adds_nothing(tmp_path):
    path = tmp_path / "warnings.jsonl"
    with kept_warnings(str(path)):
        say("Warning: of hparams")
    assert not path.exists()


def test_logged_warnings_are_said_and_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(absl.logging.get_absl_logger(), "propagate", True)
    path = tmp_path / "warnings.jsonl"
    show_logs()
    try:
        with kept_warnings(str(path)) as log:
            log.start()
            absl.logging.warning("%d rows are skipped.\x1b", 2)
            logging.getLogger("other").warning("a note")
    finally:
        logging.setLogRecordFactory(factory)
    assert texts(path) == [r"2 rows are skipped.\x1b"]
    shown = "Warning: 2 rows are skipped.\\x1b\nWARNING:other:a note\n"
    assert capsys.readouterr().err == shown
