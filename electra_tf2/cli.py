"""What all command-line programs share: exit codes, flags and help texts.

Exit codes:
    0    done.
    2    the user's input or machine is at fault (`UserError`, an unknown flag, a full disk, a
         device without enough memory). The message on stderr says "error:"; no traceback.
    75   training was stopped by SIGTERM or Ctrl-C and saved first, or another worker of the run is
         gone: run the same command again.
    130  stopped with Ctrl-C before there was anything to save.
    1    a bug in the program: Python's traceback is printed, for the report.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from electra_tf2.console import (
    open_missing_streams,
    set_verbose,
    show_any_text,
    show_logs,
    unread_output_dropped,
)
from electra_tf2.errors import UserError, as_user_error, printable
from electra_tf2.hparams import record as hparams_lib

INTERRUPTED = 130


def run(main: Callable[[list[str] | None], None]) -> None:
    """Runs a program's `main` and ends the process with the right exit code.

    Args:
        main: takes the arguments (None: those of the command line) and returns nothing.

    Raises:
        SystemExit: with the exit codes of the module's docstring.
        Exception: whatever `main` raised that the user can't fix.
    """
    open_missing_streams()
    show_any_text()
    show_logs()
    try:
        main(None)
    except KeyboardInterrupt:
        _print_error("\nerror: stopped by Ctrl-C.")
        sys.exit(INTERRUPTED)
    except Exception as error:
        user_error = as_user_error(error)
        if user_error is None:
            raise
        _print_error(f"error: {user_error}")
        if user_error.leave_at_once:
            for stream in (sys.stdout, sys.stderr):
                with unread_output_dropped(stream):
                    stream.flush()
            os._exit(user_error.exit_code)
        sys.exit(user_error.exit_code)
    sys.exit(0)


def _print_error(text: str) -> None:
    with unread_output_dropped(sys.stderr):
        print(text, file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """A parser with --verbose; it shows a bad argument, such as a file's name, without controls.

    Arguments may begin with "~/", which shells leave as it is after "=" and within quotes.
    """

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        flags, rest = super().parse_known_args(args, namespace)
        # Taken out, as some programs make a configuration of all their flags.
        if "verbose" in flags:
            set_verbose(vars(flags).pop("verbose"))
        for name, value in vars(flags).items():
            setattr(flags, name, _with_home(value))
        return flags, rest


def _with_home(value: Any) -> Any:
    """Replaces the "~/" that a path begins with, alone or after a comma, in all that is given.

    Where a folder has that name, it stays.
    """
    if isinstance(value, list):
        return [*map(_with_home, value)]
    if isinstance(value, dict):
        return {_with_home(name): _with_home(own) for name, own in value.items()}
    if not isinstance(value, str) or os.path.lexists("~"):
        return value
    return re.sub(r"(^|,\s*)~/", lambda found: found[1] + os.path.expanduser("~/"), value)


def make_parser(description: str | None, *, epilog: str | None = None) -> argparse.ArgumentParser:
    """An argument parser whose help keeps the line breaks of the texts.

    Args:
        description: what the program does; usually the script's docstring, which is None under
            `python -OO`.
        epilog: shown after the flags.

    Returns:
        A parser whose only flag is --verbose, see `console.set_verbose`. Flags must be written out
        in full: abbreviations would change their meaning as flags are added.
    """
    parser = _Parser(
        description=(description or "").strip(),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show all figures while a model is trained, and the messages of TensorFlow",
    )
    return parser


class RunFlags(NamedTuple):
    """The flags that `run_pretraining.py` and `run_finetuning.py` have in common.

    Attributes:
        data_dir: folder with the data, the vocabulary and the models.
        model_name: name of the model; its folder is `<data_dir>/models/<model_name>`.
        hparams: hparams by name, as the user gave them (not yet checked against a config).
    """

    data_dir: str
    model_name: str
    hparams: dict[str, Any]


def parse_run_flags(
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    hparams_help: str | None = None,
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> tuple[RunFlags, argparse.Namespace]:
    """Parses `--data-dir --model-name --hparams`, and flags of the program's own.

    Args:
        description: what the program does, for `--help`; see `make_parser`.
        argv: the arguments; None for those of the command line.
        hparams_help: a list of the hparams to print at the end of `--help`.
        add_flags: adds the program's own flags to the parser.

    Returns:
        The flags, with `--hparams` parsed (see `hparams.parse_hparams`), and all flags as given.

    Raises:
        UserError: `--hparams` can't be parsed.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    parser = make_parser(description, epilog=hparams_help)
    parser.add_argument(
        "--data-dir",
        required=True,
        help="folder with the data and vocabulary; the model's folder is made in it",
    )
    parser.add_argument(
        "--model-name", required=True, help="name of the model: <data-dir>/models/<model-name>"
    )
    parser.add_argument(
        "--hparams",
        default="{}",
        help='JSON text (\'{"model_size": "base"}\'), a path ending in .json, @file, or '
        "key=value pairs separated by spaces or commas",
    )
    add_flags(parser)
    flags = parser.parse_args(argv)
    hparams = _with_home(hparams_lib.parse_hparams(flags.hparams))
    return RunFlags(flags.data_dir, flags.model_name, hparams), flags


def add_model_flags(parser: argparse._ActionsContainer, model_dir_help: str) -> None:
    """Adds `--data-dir`, `--model-name` and `--model-dir`, for `named_model`."""
    parser.add_argument("--data-dir", help="with --model-name: <data-dir>/models/<model-name>")
    parser.add_argument("--model-name", help="name of a model below --data-dir")
    parser.add_argument("--model-dir", help=model_dir_help)


TRUTH = {"true": True, "false": False}
"""The values of flags that are true or false, in `add_text_flags`."""


def add_text_flags(parser: argparse._ActionsContainer) -> None:
    """Adds the flags of `TextOptions`, of a model that is opened."""
    parser.add_argument("--vocab-file", help="the vocabulary, where none lies beside the model")
    for name, meaning in (
        ("--do-lower-case", "whether text is lower-cased"),
        ("--strip-accents", "whether accents are removed"),
    ):
        parser.add_argument(
            name,
            choices=tuple(TRUTH),
            help=f"{meaning}, where nothing beside the model says it; default: true",
        )
    parser.add_argument(
        "--num-attention-heads",
        type=int,
        help="of an official checkpoint; default: one for 64 units of the hidden size",
    )


def named_model(flags: argparse.Namespace, purpose: str) -> str:
    """Returns the path of the model that flags name, see `add_model_flags`.

    Args:
        flags: as parsed.
        purpose: what the model is for, to end "It is not clear which model".

    Raises:
        UserError: they name none, or two.
    """
    by_name = [flags.data_dir, flags.model_name]
    if flags.model_dir and by_name == [None, None]:
        return flags.model_dir
    if flags.model_dir is None and all(by_name):
        return posixpath.join(flags.data_dir, "models", flags.model_name)
    raise UserError(
        f"It is not clear which model {purpose}.",
        where="--data-dir, --model-name, --model-dir",
        received=f"{flags.data_dir}, {flags.model_name}, {flags.model_dir}",
        remedy="Give --data-dir and --model-name, or --model-dir alone.",
    )
