"""Real text that is already on this machine: the docstrings of the installed Python packages.

The packages are parsed, never imported. Every docstring becomes a document, each of its lines a
line of the corpus; the same docstring is taken once, wherever it stands. Some modules are held out
as a whole, for evaluation.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import multiprocessing
import os
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

STANDARD_LIBRARY = "python"
PACKAGES = (STANDARD_LIBRARY, "numpy", "scipy", "tensorflow", "keras", "sklearn")
# Modules whose docstrings are for evaluation only: a few from each package.
HELD_OUT = (
    "python/argparse.py",
    "python/email",
    "python/json",
    "python/statistics.py",
    "numpy/polynomial",
    "scipy/interpolate",
    "scipy/ndimage",
    "tensorflow/python/ops/signal",
    "tensorflow/python/ops/ragged",
    "keras/src/optimizers",
    "keras/src/random",
    "sklearn/cluster",
    "sklearn/neighbors",
)
_TESTS = {"test", "tests", "testing", "idlelib", "lib2to3", "site-packages", "dist-packages"}
_MIN_CHARACTERS = 60  # "Returns the name." teaches little and is everywhere.


class CorpusSize(NamedTuple):
    """What was collected: documents and characters for training and for evaluation."""

    train_documents: int
    train_characters: int
    held_out_documents: int
    held_out_characters: int


def collect(
    train_dir: Path,
    held_out_dir: Path,
    *,
    packages: Sequence[str] = PACKAGES,
    processes: int = 2,
) -> CorpusSize:
    """Writes the docstrings to text files, one per package, in the corpus format.

    Args:
        train_dir: folder for the text to train on; made if missing.
        held_out_dir: folder for the text to evaluate on.
        packages: whose docstrings; those that are not installed give none.
        processes: processes that parse; the result doesn't depend on it.

    Returns:
        How much there is.
    """
    sources = [(package, *source) for package in packages for source in package_sources(package)]
    seen: set[bytes] = set()
    texts: dict[tuple[str, bool], list[str]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        # In the order of the sources, whichever process was first.
        found = pool.map(docstrings_of_file, [path for _, _, path in sources], chunksize=50)
        for (package, module, _), documents in zip(sources, found, strict=True):
            for document in documents:
                digest = hashlib.sha256(document.encode("utf-8")).digest()
                if digest not in seen:
                    seen.add(digest)
                    texts.setdefault((package, is_held_out(module)), []).append(document)
    return CorpusSize(*_write(train_dir, texts, False), *_write(held_out_dir, texts, True))


def is_held_out(module: str) -> bool:
    """Whether a module path, such as "scipy/ndimage/_filters.py", is for evaluation."""
    return any(module == name or module.startswith(name + "/") for name in HELD_OUT)


def package_sources(package: str) -> Iterator[tuple[str, Path]]:
    """Finds the files of a package, without its tests.

    Args:
        package: a top-level package, or `STANDARD_LIBRARY`.

    Yields:
        The module path (such as "numpy/linalg/linalg.py") and the file, sorted.
    """
    if package == STANDARD_LIBRARY:
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return
        root = Path(spec.submodule_search_locations[0])
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in _TESTS)
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("test_"):
                path = Path(folder, name)
                yield f"{package}/{path.relative_to(root).as_posix()}", path


def docstrings_of_file(path: Path) -> list[str]:
    """The docstrings of a module, its classes and functions, in order, as corpus documents.

    A file that can't be parsed (templates, other versions of Python) has none.
    """
    documents = (as_document(docstring) for docstring in raw_docstrings_of_file(path))
    return [document for document in documents if len(document) >= _MIN_CHARACTERS]


def raw_docstrings_of_file(path: Path, *, containing: str = "") -> list[str]:
    """The docstrings of a file as they are, but for the indentation that their lines share.

    Args:
        path: a file; one that can't be parsed has none.
        containing: only look into files with this text, which spares the time to parse others.
    """
    try:
        source = path.read_text("utf-8")
        if '"""' not in source and "'''" not in source or containing not in source:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(tree) if isinstance(node, kinds))
    return [inspect.cleandoc(ast.get_docstring(node, clean=False) or "") for node in nodes]


def as_document(docstring: str) -> str:
    """A docstring's lines without indentation, blank lines and underlines of headings."""
    lines = (line.strip() for line in docstring.splitlines())
    return "\n".join(line for line in lines if line.strip("-=~^*+#. "))


def _write(folder: Path, texts: dict[tuple[str, bool], list[str]], held_out: bool) -> list[int]:
    """Writes a file per package; returns the number of documents and characters."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = characters = 0
    for (package, is_for_evaluation), chosen in texts.items():
        if is_for_evaluation == held_out:
            content = "\n\n".join(chosen) + "\n"
            (folder / f"{package}.txt").write_text(content, "utf-8", errors="replace")
            documents += len(chosen)
            characters += len(content)
    return [documents, characters]
