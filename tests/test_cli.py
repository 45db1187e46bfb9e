import errno
import importlib
import io
import logging
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from electra_tf2 import cli, console
from electra_tf2.errors import UserError
from tests.programs import ROOT, run_python


def _exit_of(capsys, error):
    def main(argv):
        assert argv is None
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as exit_info:
        cli.run(main)
    return exit_info.value.code, capsys.readouterr().err


def test_success_is_zero_and_silent(capsys):
    assert _exit_of(capsys, None) == (0, "")


def test_user_error(capsys):
    code, stderr = _exit_of(capsys, UserError("No such file.", where="x", remedy="Make it."))
    assert code == 2
    assert stderr == "error: No such file.\n  where: x\n  what to do: Make it.\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/models/w"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/models/w"),
        tf.errors.ResourceExhaustedError(None, None, "/models/w; No space left on device"),
    ],
)
def test_full_disk(capsys, error):
    code, stderr = _exit_of(capsys, error)
    assert code == 2
    assert stderr.startswith("error: The disk is full.\n")
    assert "/models/w" in stderr
    assert "what to do: Free some space" in stderr


def test_out_of_device_memory(capsys):
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\n[[trace]]")
    code, stderr = _exit_of(capsys, error)
    assert code == 2
    assert "not enough memory" in stderr and "gradient_accumulation_steps" in stderr
    assert "trace" not in stderr


def test_interrupt(capsys):
    code, stderr = _exit_of(capsys, KeyboardInterrupt())
    assert code == 130
    assert "Ctrl-C" in stderr


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "I/O error")])
def test_a_bug_keeps_its_traceback(error):
    def main(argv):
        raise error

    with pytest.raises(type(error)) as info:
        cli.run(main)
    assert info.value is error


def test_run_flags():
    argv = ["--data-dir", "d", "--model-name", "m", "--hparams", '{"debug": true}']
    assert cli.parse_run_flags("Does.", argv)[0] == ("d", "m", {"debug": True})
    assert cli.parse_run_flags("Does.", argv[:4])[0] == ("d", "m", {})


def test_a_home_folder_that_the_shell_did_not_know(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    argv = ["--data-dir=~/d", "--model-name", "~m", "--hparams", "vocab_file=~/v seed=1"]
    expected = ("/home/me/d", "~m", {"vocab_file": "/home/me/v", "seed": 1})
    assert cli.parse_run_flags("Does.", argv)[0] == expected
    hparams = '{"pretrain_tfrecords": {"~/a/*, ~/b/*": 1}, "phases": [{"eval_tfrecords": "~/c"}]}'
    assert cli.parse_run_flags("Does.", [*argv[:4], hparams])[0].hparams == {
        "pretrain_tfrecords": {"/home/me/a/*, /home/me/b/*": 1},
        "phases": [{"eval_tfrecords": "/home/me/c"}],
    }
    (tmp_path / "~").mkdir()  # a folder of that very name
    assert cli.parse_run_flags("Does.", argv)[0].data_dir == "~/d"


def test_run_flags_refuse_what_has_a_flag():
    argv = ["--data-dir", "d", "--model-name", "m", "--hparams", "model_name=x"]
    with pytest.raises(UserError, match="--model-name"):
        cli.parse_run_flags("Does.", argv)


@pytest.mark.parametrize(
    "argv", [[], ["--data-dir", "d"], ["--data", "d", "--model-name", "m"], ["--verbose"]]
)
def test_run_flags_missing_abbreviated_or_unknown(argv, capsys):
    with pytest.raises(SystemExit) as info:
        cli.parse_run_flags("Does.", argv)
    assert info.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_verbose(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    run = ["--data-dir", "d", "--model-name", "m"]
    for flags, level, shown in ((["--verbose"], None, "note\n"), ([], "2", "")):
        cli.parse_run_flags("Does.", [*run, *flags])
        with console.quiet_libraries():
            os.write(2, b"note\n")
        assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == level
        assert capfd.readouterr().err == shown


def test_what_is_loaded_is_no_garbage_to_look_for():
    code = """
import gc
from electra_tf2.console import quiet_libraries
with quiet_libraries():
    assert not gc.isenabled()
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 1000
import sys; sys.modules["tensorflow"] = sys  # it is there by now
with quiet_libraries():
    assert gc.isenabled()
assert gc.get_freeze_count() == frozen
"""
    run_python("-c", code)


def test_brief(capsys):
    with console.brief():
        console.say("Model: a", "Warning: b", "warning: c")
        console.say("Devices: d")
        console.say()
    assert capsys.readouterr().err == "Warning: b\nwarning: c\n"


def test_help_keeps_line_breaks(capsys):
    with pytest.raises(SystemExit) as info:
        cli.parse_run_flags("First.\n\n  indented line", ["--help"], hparams_help="hparams:\n    a")
    assert info.value.code == 0
    out = capsys.readouterr().out
    assert "First.\n\n  indented line\n" in out
    assert out.endswith("hparams:\n    a\n")


@pytest.mark.parametrize(
    "script", ["run_pretraining", "run_finetuning", "export_model", "grow_model"]
)
def test_help_does_not_wait_for_tensorflow(script):
    code = (
        f"import sys, {script}\nassert 'tensorflow' not in sys.modules\n{script}.main(['--help'])"
    )
    assert "--data-dir" in run_python("-c", code).stdout


@pytest.mark.parametrize("error", ["", "raise UserError('No.')", "raise KeyboardInterrupt"])
def test_a_reader_that_is_gone_is_no_error(error):
    code = f"""
import sys
from electra_tf2 import cli, console
from electra_tf2.errors import UserError
def main(argv):
    console.say("a note")
    console.show("a result")
    {error}
cli.run(main)
"""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code]
    with os.fdopen(writer, "w") as gone:
        outputs = {"stdout": gone, "stderr": subprocess.PIPE}
        shown = subprocess.run(command, cwd=ROOT, text=True, **outputs)
        assert "Traceback" not in shown.stderr and "BrokenPipe" not in shown.stderr
        both = subprocess.run(command, cwd=ROOT, stdout=gone, stderr=gone)
    expected = {"": 0, "raise KeyboardInterrupt": 130}.get(error, 2)
    assert (shown.returncode, both.returncode) == (expected, expected)


def test_streams_that_are_closed_are_not_taken_by_files(tmp_path):
    code = f"""
import os
from electra_tf2 import cli, console
def main(argv):
    with open({str(tmp_path / "data")!r}, "w") as file, console.silent_stderr():
        os.write(2, b"a note of native code")
        console.say("a line")
        file.write("data")
cli.run(main)
"""
    closing = 'exec "$0" -c "$1" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", closing, sys.executable, code], check=True, cwd=ROOT)
    assert (tmp_path / "data").read_text() == "data"


@pytest.mark.parametrize("module", ["electra_tf2.plots", "electra_tf2.sweep.table"])
def test_modules_that_run_do_not_load_tensorflow_aloud(module):
    code = f"import sys, {module}\nassert 'tensorflow' not in sys.modules"
    run_python("-c", code)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-2", "gb18030"])
@pytest.mark.parametrize(
    "script", ["grow_model", "run_finetuning", "run_pretraining", "sweep_generator_size"]
)
def test_help_in_any_encoding(script, encoding, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as exit_info:
        importlib.import_module(script).script_main()
    stdout.flush()
    shown = stdout.buffer.getvalue().decode(encoding)
    assert exit_info.value.code == 0 and "--verbose" in shown and "\\u" not in shown


def test_results_in_any_encoding(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit):
        cli.run(lambda argv: console.show("Schön … 中\U0001f600"))
    assert stdout.buffer.getvalue() == rb"Sch\xf6n ... \u4e2d\U0001f600" + b"\n"


@pytest.mark.parametrize("script", ["build_vocabulary", "build_pretraining_dataset"])
def test_help_without_docstrings(script):
    assert "--corpus-dir" in run_python("-OO", f"{script}.py", "--help").stdout


TRICKS = "\x1b]0;title\x07\rerror: all is well\n\u202e"


def test_nothing_of_the_user_s_reaches_the_terminal_raw(capsys):
    def main(argv):
        console.say(f"Reading {TRICKS}", "next")
        console.show(TRICKS)
        with console.Progress(1, description=TRICKS, min_seconds=0) as progress:
            progress.update(1, note=TRICKS)
            progress.message(TRICKS)
        logging.warning("%s: bad row", TRICKS)
        raise UserError("Bad.", where=TRICKS, received=TRICKS)

    with pytest.raises(SystemExit):
        cli.run(main)
    with pytest.raises(SystemExit):
        cli.make_parser("").parse_args([TRICKS])
    shown = capsys.readouterr()
    record = logging.getLogger().makeRecord("absl", 30, "f", 1, "%s", (TRICKS,), None)
    for text in (shown.out, shown.err, record.getMessage() + "\n"):
        assert not set("\x1b\x07\r\u202e") & set(text)
        assert "\nerror: all is well" not in text and r"\x0derror: all is well\x0a" in text


def test_other_libraries_keep_their_lines():
    console.show_logs()
    record = logging.getLogger().makeRecord("other", 30, "f", 1, "a\n%s", ("\x1b",), None)
    assert record.getMessage() == "a\n\\x1b"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.ENAMETOOLONG])
def test_a_path_that_the_system_refuses(capsys, number):
    code, stderr = _exit_of(capsys, OSError(number, os.strerror(number), "/models/\x1b"))
    assert code == 2 and r"where: /models/\x1b" in stderr and os.strerror(number) in stderr
