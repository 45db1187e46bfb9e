import errno
import io
import os
import pty
import re
import termios
import threading

import pytest

from electra_tf2.console import Progress, duration, load_quietly


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_plain_lines():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, 200, "train", stream=stream, clock=clock, min_seconds=0)
    clock.now += 60  # the first step compiles: not part of the speed
    progress.update(210, {"loss": 44.98, "lr": 5e-4})
    clock.now += 5
    progress.update(260, {"loss": 30.123456})
    progress.close()
    first, second = stream.getvalue().splitlines()
    assert first.startswith("train: step 210/1000 (21.0 %), ")
    assert first.endswith("loss 44.98, lr 0.0005")
    assert second == (
        "train: step 260/1000 (26.0 %), 10 steps/s, elapsed 1:05, ETA 1:14, loss 30.12"
    )


def test_plain_lines_of_bytes():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(
        5_000_000, description="Building", unit="byte", stream=stream, clock=clock, min_seconds=60
    )
    clock.now += 10
    progress.update(1_000_000, note="1,234 examples")
    progress.update(2_000_000, note="2,345 examples")
    for count in ("6,789", "7,000"):  # more to show of the last bytes
        progress.update(5_000_000, note=f"{count} examples")
    first, last = stream.getvalue().splitlines()
    assert first == (
        "Building: 1.0/5.0 MB (20.0 %), 0.1 MB/s, elapsed 0:10, ETA unknown, 1,234 examples"
    )
    assert last.startswith("Building: 5.0/5.0 MB (100.0 %), ") and last.endswith("6,789 examples")


def test_plain_lines_are_spaced_but_the_first_and_last_show():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(100, stream=stream, clock=clock, min_seconds=5)
    for step in range(1, 101):
        clock.now += 0.1
        progress.update(step)
    steps = [int(step) for step in re.findall(r"step (\d+)/100", stream.getvalue())]
    assert steps[0] == 1 and steps[-1] == 100
    assert len(steps) == 3 and steps[1] in (51, 52)


def test_no_speed_yet():
    stream = io.StringIO()
    Progress(10, stream=stream, clock=Clock()).update(1)
    assert stream.getvalue() == "step 1/10 (10.0 %), 0 steps/s, elapsed 0:00, ETA unknown\n"


def test_messages_are_plain_lines_too():
    stream = io.StringIO()
    with Progress(10, stream=stream, clock=Clock()) as progress:
        progress.message("saved")
    assert stream.getvalue() == "saved\n"


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def _run_on(descriptor):
    with os.fdopen(descriptor, "w") as stream:
        with Progress(1000, 200, "train", stream=stream, min_seconds=0) as progress:
            progress.update(210, {"loss": 44.98})
            progress.message("a checkpoint was saved")
            progress.update(1000, {"loss": 1.5})


def _output(make_pair, run=_run_on):
    """All that a run writes to one end of a pair of descriptors, read at the other."""
    reader, writer = make_pair()
    chunks = []

    def drain():
        try:
            while chunk := os.read(reader, 4096):
                chunks.append(chunk)
        except OSError:  # how the reading end of a pseudo-terminal ends
            pass

    thread = threading.Thread(target=drain)
    thread.start()
    run(writer)
    thread.join(timeout=10)
    os.close(reader)
    return b"".join(chunks).decode()


def _terminal(columns):
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, columns))
    return reader, writer


@pytest.mark.parametrize("columns", [0, 100])  # 0: what some containers' terminals say
def test_bar_on_a_terminal(columns):
    output = _output(lambda: _terminal(columns))
    assert "\r" in output
    assert "train:" in output
    assert re.search(r"20%.*200/1000", output)
    assert re.search(r"100%.*1000/1000 \[\d\d:\d\d<00:00", output)
    assert "loss 1.5" in output
    assert "steps/s" not in output.replace("step/s", "")
    assert "a checkpoint was saved\r\n" in output


def test_a_bar_on_a_narrow_terminal_shows_how_far_it_is():
    def run(descriptor):
        with os.fdopen(descriptor, "w") as stream:
            with Progress(1000, 200, "pre-training small", stream=stream) as progress:
                progress.update(210, {"loss": 44.98})

    for columns, shown in ((20, "\r 20%|"), (80, "\rpre-training small:  20%|")):
        output = _output(lambda columns=columns: _terminal(columns), run)
        assert shown in output
        assert max(map(len, re.split(r"[\r\n]", output))) <= columns


def test_the_bar_s_speed_leaves_out_what_compiling_took():
    clock = Clock()

    def run(descriptor):
        with os.fdopen(descriptor, "w") as stream:
            with Progress(1000, description="train", stream=stream, clock=clock) as progress:
                bar = progress._bar
                clock.now += 60
                progress.update(10, {"loss": 44.98})
                bar.refresh()
                clock.now += 5
                progress.update(60)  # without figures, the last ones stay
                bar.refresh()

    output = _output(lambda: _terminal(200), run)
    assert "10/1000 [00:00<?, ?step/s, loss 44.98]" in output
    assert "60/1000 [00:00<01:34, 10.00step/s, loss 44.98]" in output


def test_lines_in_a_pipe():
    output = _output(os.pipe)
    assert "\r" not in output and "\x1b" not in output
    lines = output.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("train: step 210/1000 (21.0 %)")
    assert lines[1] == "a checkpoint was saved"
    assert re.search(r"step 1000/1000 \(100.0 %\), .* steps/s, elapsed .*, ETA 0:00", lines[2])


@pytest.mark.parametrize("make_pair", [os.pipe, lambda: _terminal(80)], ids=["pipe", "terminal"])
def test_a_run_goes_on_when_nobody_reads_its_output_any_more(make_pair):
    reader, writer = make_pair()
    with os.fdopen(writer, "w") as stream:
        with Progress(3, description="train", stream=stream, min_seconds=0) as progress:
            progress.update(1, {"loss": 44.98})
            os.close(reader)
            for step in (2, 3):
                progress.update(step, {"loss": 44.98})
                progress.message("a checkpoint was saved")
        assert os.path.samestat(os.fstat(writer), os.stat(os.devnull))  # also for native code


def test_a_full_disk_stays_an_error():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        Progress(3, stream=Full()).update(1)


NOTES = [
    "I0000 00:00:1795.01   25 port.cc:153] oneDNN is on.",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:17.1  2 cuda.cc:5] failed call to cuInit: UNKNOWN ERROR (303)",
]
OWN = [
    "E0000 00:00:17.1  2 cuda.cc:5] another error",
    "W0000 00:00:17.1  2 gpu_device.cc:5] Cannot dlopen some GPU libraries.",
    "I1129 1:02 25 own.py:7] mine",
]
NOISY = f"""
import os
os.write(2, {os.linesep.join([*NOTES, *OWN, ""]).encode()!r})
LEVEL = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
1 / len(LEVEL or "")
"""


def test_tensorflow_s_notes_are_left_out_of_a_user_s_program_and_nothing_else(
    capfd, monkeypatch, tmp_path
):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("noisy_1", "noisy_2", "noisy_3"):
        (tmp_path / f"{name}.py").write_text(NOISY)
    assert load_quietly("noisy_1").LEVEL == "1"
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    assert capfd.readouterr().err.splitlines() == OWN
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "")
    with pytest.raises(ZeroDivisionError):
        load_quietly("noisy_2")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == ""
    assert capfd.readouterr().err.splitlines() == OWN
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert load_quietly("noisy_3").LEVEL == "0"
    assert capfd.readouterr().err.splitlines() == [*NOTES, *OWN]
