"""What XLA compiled, kept for later runs of the same model on a machine of the same kind.

<folder>/<kind of machine>/
    electra__….pb         a compiled program, written by TensorFlow
    electra__….pb.crc32   its checksum, in hexadecimal
    autotuning/           which variant of a kernel is the fastest, written by XLA on GPUs

TensorFlow takes a program from there without a check of its content, and fails if it is damaged. So
a program counts only once it has a checksum; others are removed before TensorFlow looks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.outputs import folder_problem

# Above this the oldest programs are removed. Those of ELECTRA-small take some 10 MB.
MAX_BYTES = 2 << 30

_DIRECTORY_FLAG = "--tf_xla_persistent_cache_directory"
_PREFIX_FLAG = "--tf_xla_persistent_cache_prefix"
_AUTOTUNING_FLAG = "--xla_gpu_per_fusion_autotune_cache_dir"
_PREFIX = "electra"
_CHOOSING = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")  # of a machine's GPUs
_PROC = Path("/proc/driver/nvidia")
_CHECKSUM = ".crc32"

# This process's, as XLA has one.
_cache: CompileCache | None = None


def open_compile_cache(folder: str | None, machine: Mapping[str, Any]) -> None:
    """Lets this process keep what XLA compiles.

    It has to come before TensorFlow lists its devices, when XLA reads its settings; so GPUs are
    looked for where Linux has them.

    Args:
        folder: the hparam `compile_cache`: where, or "auto" for the user's folder of caches on a
            machine with a GPU, and nowhere elsewhere; None keeps nothing.
        machine: its description, see `environment.describe_machine`.
    """
    global _cache
    gpus = _nvidia_gpus()
    if folder == "auto":
        folder = _user_folder() if gpus else None
    # Whoever has set the flag has chosen a folder already.
    if folder is not None and _DIRECTORY_FLAG not in os.environ.get("TF_XLA_FLAGS", ""):
        chosen = {name: os.environ.get(name) for name in _CHOOSING}
        path = os.path.abspath(os.path.expanduser(folder))
        _cache = CompileCache(path, {**machine, **chosen, "GPUs": gpus})
        _cache.open()


def seal_programs() -> None:
    """Says that what was compiled so far is complete; without a cache it does nothing."""
    if _cache is not None:
        _cache.seal()


def without_cache_flags(flags: str) -> str:
    """Returns XLA's flags, as in the environment, without those that say where the cache is."""
    ours = (_DIRECTORY_FLAG, _PREFIX_FLAG, _AUTOTUNING_FLAG)
    return " ".join(flag for flag in flags.split() if not flag.startswith(ours))


def _nvidia_gpus() -> list[str]:
    """The models of this machine's GPUs and their driver; only the devices, if nothing else is."""
    described = [*_PROC.glob("gpus/*/information"), _PROC / "version"]
    lines: set[str] = set()
    for path in described:
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace").splitlines()
            lines.update(line for line in text if line.startswith(("Model", "NVRM")))
    return sorted(lines) or sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))


def _user_folder() -> str:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(caches, "electra-tf2", "xla")


class CompileCache:
    """The folder for machines of this kind. Several processes may use it at the same time.

    Args:
        folder: of the programs for all machines.
        machine: its description, see `environment.describe_machine`.
    """

    def __init__(self, folder: str, machine: Mapping[str, Any]):
        name = json.dumps(machine, sort_keys=True).encode()
        self.folder = Path(folder) / hashlib.sha256(name).hexdigest()[:16]

    def open(self) -> None:
        """Removes what can't be used, and makes this process's XLA read and write the folder.

        Without a folder that can be written, a line says so and nothing is kept.
        """
        damaged, problem = 0, folder_problem(str(self.folder))
        if re.search(r"[\s'\"]", str(self.folder)):
            problem = "XLA takes no path with blanks or quotes"
        try:
            if not problem:
                (self.folder / "autotuning").mkdir(parents=True, exist_ok=True)
                damaged = self._remove_unusable()
                self._remove_oldest()
        except OSError as error:
            problem = files.reason(error)
        if problem:
            say(f"Warning: compiled programs are not kept: {self.folder}: {problem}")
            return
        if damaged:
            say(
                f"Warning: {damaged} compiled program{'s' * (damaged > 1)} in {self.folder} "
                f"{'were' if damaged > 1 else 'was'} damaged, and will be compiled again."
            )
        _add("TF_XLA_FLAGS", f"{_DIRECTORY_FLAG}={self.folder}", f"{_PREFIX_FLAG}={_PREFIX}")
        _add("XLA_FLAGS", f"{_AUTOTUNING_FLAG}={self.folder / 'autotuning'}")

    def seal(self) -> None:
        """Writes the checksums of new programs; what can't be written is left to the next run."""
        for program in self._programs():
            checksum = program.with_name(program.name + _CHECKSUM)
            with contextlib.suppress(OSError):
                if not checksum.exists() or checksum.stat().st_mtime < program.stat().st_mtime:
                    files.replace_file(str(checksum), _crc32(program).encode())

    def _programs(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}__*.pb"))

    def _remove_unusable(self) -> int:
        """Returns how many were damaged; a killed run leaves some without checksums besides."""
        damaged = 0
        for checksum in self.folder.glob(f"*{_CHECKSUM}"):
            if not checksum.with_suffix("").exists():
                checksum.unlink(missing_ok=True)
        for program in self._programs():
            checksum = program.with_name(program.name + _CHECKSUM)
            with contextlib.suppress(FileNotFoundError):  # another process may remove it first
                stored = checksum.read_text() if checksum.exists() else None
                if stored != _crc32(program):
                    damaged += stored is not None
                    _remove(program)
        return damaged

    def _remove_oldest(self) -> None:
        """Keeps all machines' programs together below `MAX_BYTES`."""
        found = []
        for program in self.folder.parent.glob(f"*/{_PREFIX}__*.pb"):
            with contextlib.suppress(FileNotFoundError):
                status = program.stat()
                found.append((status.st_mtime, status.st_size, program))
        total = sum(size for _, size, _ in found)
        for _, size, program in sorted(found):
            if total <= MAX_BYTES:
                break
            _remove(program)
            total -= size


def _add(variable: str, *flags: str) -> None:
    os.environ[variable] = " ".join(filter(None, (os.environ.get(variable), *flags)))


def _remove(program: Path) -> None:
    program.unlink(missing_ok=True)
    program.with_name(program.name + _CHECKSUM).unlink(missing_ok=True)


def _crc32(program: Path) -> str:
    return f"{zlib.crc32(program.read_bytes()):08x}"


def number_functions_afresh() -> None:
    """Lets TensorFlow count on from the next million.

    It numbers the functions of a process, and a compiled program is found again by the numbers of
    the functions in it. A resumed run has made others before; from a round number on they agree.
    """
    from tensorflow.python.framework import ops  # has no public name

    while ops.uid() % 1_000_000:
        pass
