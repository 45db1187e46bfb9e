"""The files of a corpus: a folder's, those that match a pattern, or those of a data set by name.

A data set by name is one of the Hugging Face Hub or its cache. The library `datasets` downloads it
once and keeps it as Arrow files, which are read like any other.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from electra_tf2 import files, patterns
from electra_tf2.errors import UserError, shell_quoted

_HUB = "hf:"
"""How the name of a data set begins."""
_FORM = "hf:NAME, hf:NAME,CONFIG, hf:NAME:SPLIT or hf:NAME,CONFIG:SPLIT"
_NAME = re.compile(r"hf:(?P<name>[^,:]+)(?:,(?P<config>[^,:]+))?(?::(?P<split>[\w.+-]+))?")


class CorpusFile(NamedTuple):
    """A file: its `name` relative to the corpus folder, its `path` and its `size` in bytes."""

    name: str
    path: str
    size: int


def find_files(corpus: str, flag: str) -> tuple[list[CorpusFile], int]:
    """Finds the files of a corpus.

    Files and folders in a folder whose name begins with a dot are left out.

    Args:
        corpus: a folder, whose folders are searched too; a file; patterns of either (see
            `electra_tf2.patterns`); or a data set by its name (see `_hub_files`).
        flag: the flag that named it, for messages.

    Returns:
        The files, and how many entries were left out. A file's name is relative to the folder, or
        to the innermost folder that all files lie in; they are sorted by it. A local file that
        several paths lead to is there once.

    Raises:
        UserError: there is nothing of this name or of one of the patterns, it holds no file, an
            entry can't be read, a saved data set has lost a file, or a link in a folder leads back
            to a folder that it lies in.
    """
    found: list[CorpusFile] = []
    hidden = 0
    if corpus.startswith(_HUB):
        found += (
            CorpusFile(os.path.basename(path), path, files.size(path))
            for path in _hub_files(corpus, flag)
        )
    elif files.is_dir(corpus):
        inside: list[CorpusFile] = []
        hidden = _collect(corpus, "", inside)
        found += _by_real_path(inside).values()
    else:
        hidden = _collect_matches(corpus, flag, found)
    if not found:
        raise UserError(
            "The corpus folder holds no files.",
            where=corpus,
            received=f"no file ({hidden} hidden)" if hidden else "an empty folder",
            remedy=f"Put the corpus there, or give another folder with {flag}.",
        )
    return sorted(found), hidden


def _collect_matches(corpus: str, flag: str, found: list[CorpusFile]) -> int:
    """Adds the files that patterns stand for, each once; returns how many entries were left out."""
    hidden = 0
    once: dict[str, CorpusFile] = {}
    parts = patterns.split(corpus)
    for part in parts:
        inside: list[CorpusFile] = []
        hidden_here = 0
        for path in _matches(part):
            if files.is_dir(path):
                hidden_here += _collect(path, "", inside)
            else:
                _add_file(path, path, inside)
        if not inside and not hidden_here:
            raise _nothing_matches(part, flag, alone=len(parts) == 1)
        hidden += hidden_here
        once = _by_real_path(inside) | once
    paths = [file.path for file in once.values()]
    if paths:
        above = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
        found += (file._replace(name=os.path.relpath(file.path, above)) for file in once.values())
    return hidden


def _by_real_path(found: list[CorpusFile]) -> dict[str, CorpusFile]:
    """Returns files once, by their paths without links; the shortest of several paths names one."""
    longest_first = sorted(found, key=lambda f: (f.path.count("/"), f.path), reverse=True)
    return {real_path(file.path): file for file in longest_first}


def _matches(pattern: str) -> Iterator[str]:
    """Yields the paths that match a pattern, but for files a saved data set has no use for."""
    try:
        matched = patterns.matches(pattern, deep=True)
        saved: dict[str, set[str] | None] = {}
        for path in matched:
            folder, name = os.path.split(path)
            if path != pattern and name:
                if folder not in saved:
                    saved[folder] = _saved_files(folder, files.list_dir(folder or "."))
                listed = saved[folder]
                if listed is not None and name not in listed:
                    continue
            yield path
    except OSError as error:
        raise unreadable(pattern, error) from error


def _nothing_matches(part: str, flag: str, *, alone: bool) -> UserError:
    """The error for a corpus, or for one of its joined parts, of which there is no file."""
    if part.startswith(_HUB):
        return UserError(
            "A data set by name can't be joined with other parts of a corpus.",
            where=flag,
            received=part,
            remedy="Give it alone; or save it with datasets.load_dataset(NAME, split='train')"
            ".save_to_disk(FOLDER), and give FOLDER in its place.",
        )
    if alone:
        return UserError(
            "The corpus folder does not exist.",
            where=flag,
            received=part,
            remedy="Give the path of the folder that holds the corpus files, or a pattern of "
            "such paths in quotes.",
        )
    return UserError(
        "A part of the corpus does not exist, or holds no file.",
        where=flag,
        received=part,
        remedy="Correct this path or pattern, or leave it out. A comma that belongs to a name is "
        "written [,].",
    )


def real_path(path: str) -> str:
    """Returns the path without links of a local file; of a remote one, the path."""
    return os.path.realpath(path) if files.is_local(path) else path


def _collect(
    directory: str, prefix: str, found: list[CorpusFile], links: tuple[str, ...] = ()
) -> int:
    """Adds the files of a folder, and returns how many entries were left out.

    `links` are the real folders of the links on the way to it.
    """
    hidden = 0
    path = directory
    try:
        names = files.list_dir(directory)
        saved = _saved_files(directory, names)
        for name in names:
            if saved is not None and name not in saved:
                continue
            if name.startswith("."):
                hidden += 1
                continue
            path = os.path.join(directory, name)
            if files.is_dir(path):
                way = _way_through(path, links) if os.path.islink(path) else links
                hidden += _collect(path, f"{prefix}{name}/", found, way)
            else:
                _add_file(prefix + name, path, found)
    except OSError as error:
        raise unreadable(path, error) from error
    return hidden


def _add_file(name: str, path: str, found: list[CorpusFile]) -> None:
    try:
        if files.exists(path) and not files.is_file(path):
            raise UserError(
                "The corpus holds something that is neither a file nor a folder.",
                where=path,
                received="a pipe, a socket or a device",
                remedy="Take it out of the corpus folder.",
            )
        found.append(CorpusFile(name, path, files.size(path)))
    except OSError as error:
        raise unreadable(path, error) from error


def _saved_files(directory: str, names: list[str]) -> set[str] | None:
    """Returns what belongs to the text of a folder that the `datasets` library saved; else None.

    The library keeps files of other versions there, too.
    """
    if "dataset_dict.json" in names:
        return {name for name in names if name != "dataset_dict.json"}
    if not {"state.json", "dataset_info.json"} <= set(names):
        return None
    path = os.path.join(directory, "state.json")
    remedy = "Save the data set again, or take the file out of the corpus folder."
    state = files.read_json(path, "The state of a saved data set", remedy)
    listed = state.get("_data_files")
    if not isinstance(listed, list):
        return None  # of something else
    saved = {str(item.get("filename")) for item in listed if isinstance(item, dict)}
    if missing := sorted(saved - set(names)):
        raise UserError(
            "A saved data set lacks files that its state.json lists.",
            where=path,
            received=", ".join(missing[:5]) + (", …" if len(missing) > 5 else ""),
            remedy="Copy these files into its folder, or save the data set again.",
        )
    return saved


def _way_through(link: str, links: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the real folders of links with that of another one, which must not lead back."""
    way = (*links, os.path.realpath(os.path.dirname(link)))
    target = os.path.realpath(link)
    if any(os.path.commonpath([target, folder]) == target for folder in way):
        raise UserError(
            "A link in the corpus leads back to a folder that it lies in.",
            where=link,
            received=f"a link to {os.readlink(link)}",
            remedy=f"Take the link out of the corpus folder: rm {shell_quoted(link)}",
        )
    return way


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Opens a corpus file for reading; if the system refuses, raises a `UserError`."""
    try:
        with files.reported_as_os_errors(path), files.open_binary(path) as reader:
            yield reader
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> UserError:
    """The error for a file or folder that the system refuses to read."""
    received, remedy = files.reason(error), "Make it readable, or take it out of the corpus folder."
    if os.path.islink(path):
        received = f"a link to {os.readlink(path)}: {received}"
        remedy = (
            "Make the link lead to a file or folder that can be read, or take it out of the corpus "
            "folder."
        )
    elif isinstance(error, FileNotFoundError):  # it was there when the folder was listed
        remedy = "Leave the corpus as it is while the program runs, and start again."
    return UserError(
        "A part of the corpus can't be read.",
        where=path,
        received=received,
        remedy=remedy,
    )


def _hub_files(corpus: str, flag: str) -> list[str]:
    """Downloads `hf:NAME[,CONFIG][:SPLIT]` where need be; returns its Arrow files.

    The name is that of a data set on the Hub, or of a folder that `datasets.load_dataset` takes.
    """
    match = _NAME.fullmatch(corpus)
    if match is None:
        raise UserError(
            "The name of the data set is malformed.",
            where=flag,
            received=corpus,
            remedy=f"Give {_FORM}, such as hf:wikimedia/wikipedia,20231101.en:train.",
        )
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise UserError(
            "A data set by name needs the package datasets, which is not installed.",
            where=f"{flag} {corpus}",
            received=str(error),
            remedy="pip install datasets 'electra-tf2[corpora]'",
        ) from error
    try:
        loaded = datasets.load_dataset(
            match["name"], match["config"], split=match["split"] or "train"
        )
    except Exception as error:  # whatever a network, a cache or a malformed data set brings about
        raise UserError(
            "The data set can't be loaded.",
            where=f"{flag} {corpus}",
            received=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            remedy=f"Check its name, configuration and split ({_FORM}), and the network.",
        ) from error
    return [file["filename"] for file in loaded.cache_files]
