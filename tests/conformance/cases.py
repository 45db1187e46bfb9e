"""Finds conformance cases: inputs and what the official program computed from them.

A case is a folder with a `case.json`, or one of the modes of a `tokenization.json`. Its vocabulary
is the `vocab.txt` in the folder that holds the case folders (beside `tokenization.json`).
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# The kinds that occur in case.json, and what test ids call them.
LABELS = {
    "tokenization": "tokenization",
    "build_pretraining_dataset": "dataset",
    "pretrain": "pretrain",
    "finetune": "finetune",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        kind: a key of `LABELS`.
        name: the folder's name, or the tokenization mode.
        folder: where the case's files lie.
        file: its JSON file.
        vocab: path of its vocabulary.
    """

    kind: str
    name: str
    folder: Path
    file: Path
    vocab: Path

    @property
    def id(self) -> str:
        """What the test's id says: kind and name."""
        return f"{LABELS[self.kind]}-{self.name}"

    @functools.cached_property
    def spec(self) -> dict:
        """The content of `case.json`; for tokenization `texts` and the mode's `ids`."""
        content = json.loads(self.file.read_text(encoding="utf-8"))
        if self.kind == "tokenization":
            content["ids"] = content["ids"][self.name]
        return content

    @functools.cached_property
    def digest(self) -> str:
        """Equal for copies of one case: a hash of its JSON file and its vocabulary."""
        return hashlib.sha256(self.file.read_bytes() + self.vocab.read_bytes()).hexdigest()


def find_cases(directories: Iterable[Path], kind: str) -> list[Case]:
    """Finds all cases of a kind; a case that is there several times is returned once.

    Args:
        directories: folders, searched to any depth.
        kind: a key of `LABELS`.

    Returns:
        The cases in order of directory and path.

    Raises:
        ValueError: a directory holds no case of any kind, a case is of an unknown kind, or it has
            no vocabulary.
    """
    found = {}
    for directory in directories:
        cases = _all_cases(Path(directory).resolve())
        if not cases:
            raise ValueError(f"No tokenization.json and no case.json under {directory}")
        for case in cases:
            if case.kind == kind:
                found.setdefault((case.name, case.digest), case)
    return list(found.values())


def case_ids(cases: list[Case]) -> list[str]:
    """Returns test ids, told apart by the folder's name where two different cases share one."""
    ids = [case.id for case in cases]
    return [
        case.id if ids.count(case.id) == 1 else f"{case.id}@{case.vocab.parent.name}-{number}"
        for number, case in enumerate(cases)
    ]


@functools.cache
def _all_cases(directory: Path) -> tuple[Case, ...]:
    cases = []
    for file in sorted(directory.rglob("tokenization.json")):
        modes = json.loads(file.read_text(encoding="utf-8"))["ids"]
        cases += [_case("tokenization", mode, file, file.parent) for mode in modes]
    for file in sorted(directory.rglob("case.json")):
        kind = json.loads(file.read_text(encoding="utf-8"))["kind"]
        cases.append(_case(kind, file.parent.name, file, file.parent.parent))
    return tuple(cases)


def _case(kind: str, name: str, file: Path, vocab_folder: Path) -> Case:
    if kind not in LABELS:
        raise ValueError(f"{file}: unknown kind. Received: {kind!r}")
    vocab = vocab_folder / "vocab.txt"
    if not vocab.is_file():
        raise ValueError(f"{file}: there is no vocabulary at {vocab}")
    return Case(kind=kind, name=name, folder=file.parent, file=file, vocab=vocab)


def assert_close(actual, expected, relative, absolute=1e-30):
    """Largest difference within `relative` of the largest expected value, or within `absolute`."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    limit = max(relative * np.abs(expected).max(initial=0.0), absolute)
    assert np.abs(actual - expected).max(initial=0.0) <= limit
