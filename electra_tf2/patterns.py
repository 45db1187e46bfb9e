"""Patterns of file names, such as `data/*.tfrecord*,more/*.tfrecord*`: globs joined by commas.

A folder that is there by its very name is that folder, whatever characters the name has: only what
isn't such a folder is a pattern. `literal` makes a pattern of a folder that need not be there.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from electra_tf2 import files

_SPECIAL = re.compile(r"[*?\[\\,]|^\s")
_LITERAL = re.compile(r"\[([*?\[\\,\s])\]")
# A special character after a backslash, which TensorFlow's globs take for itself.
_ESCAPED = re.compile(r"(\[\\\])|\\([*?\[\]\\,])")
_NOT_IN_A_NAME = re.compile(r"\.tfrecord.*|[^\w.-]")
_COMMA = re.compile(r"(?<!\[),|,(?!\])")


def literal(path: str) -> str:
    """Returns the pattern that matches a path alone, to which a pattern may be added."""
    return _SPECIAL.sub(lambda match: f"[{match[0]}]", path)


def plain(pattern: str) -> str | None:
    """The inverse of `literal`: the path that a pattern stands for, or None if it is for several.

    Args:
        pattern: without commas, see `split`.
    """
    path = _LITERAL.sub(lambda match: match[1], pattern)
    return path if literal(path) == pattern or not glob.has_magic(pattern) else None


def split(patterns: str) -> list[str]:
    """Cuts patterns at their commas, but for those in the names of folders and files there are."""
    parts = _COMMA.split(patterns)
    found = []
    while parts:
        joined = {n: ",".join(parts[:n]).strip() for n in range(len(parts), 0, -1)}
        count = next(n for n, part in joined.items() if n == 1 or _is_there(part))
        found.append(joined[count])
        parts = parts[count:]
    return [part for part in found if part]


def weighted(patterns: str | Mapping[str, float]) -> dict[str, float]:
    """Returns the weight of each corpus by its patterns; of a single corpus it is 1.

    Args:
        patterns: those of one corpus, or the weights of a mixture by theirs.
    """
    return {patterns: 1.0} if isinstance(patterns, str) else dict(patterns)


def short_names(patterns: Iterable[str]) -> list[str]:
    """Returns a short name for each of several patterns: the parts of it that tell it from others.

    Args:
        patterns: all different, such as `data/wiki/*.tfrecord*` and `data/code/*.tfrecord*`.

    Returns:
        Names of letters, digits, ".", "-" and "_", all different, such as "wiki" and "code".
    """
    globs = [split(pattern) for pattern in patterns]
    single = [one for own in globs for one in own]
    parts = [[own for own in one.split("/") if own] or [one] for one in single]
    files_are_alike = len({own[-1] for own in parts}) == 1 and all(len(own) > 1 for own in parts)
    names = [own[:-1] if files_are_alike else own for own in parts]
    while len(names) > 1 and len({own[0] for own in names}) == 1 and min(map(len, names)) > 1:
        names = [own[1:] for own in names]
    while len(names) > 1 and len({own[-1] for own in names}) == 1 and min(map(len, names)) > 1:
        names = [own[:-1] for own in names]
    names = [own[-1:] for own in names] if len(names) == 1 else names
    cleaned = (_NOT_IN_A_NAME.sub("", "_".join(own)).strip(".-_") for own in names)
    name_of = dict(zip(single, cleaned, strict=True))
    found = ["_".join(filter(None, dict.fromkeys(map(name_of.get, own)))) for own in globs]
    if all(found) and len(set(found)) == len(found):
        return found
    return [f"corpus_{number}" for number in range(1, len(found) + 1)]


def _is_there(path: str) -> bool:
    """Whether all of a path's commas are in names of folders there are, or it is there itself."""
    return path.rfind(",") < len(_folder_there(path)) or files.exists(path)


def _folder_there(pattern: str) -> str:
    """Returns the longest beginning of a pattern that is a folder by its very name; "" if none."""
    folder = posixpath.dirname(pattern)
    while folder and not files.is_dir(folder):
        folder = posixpath.dirname(folder) if folder != posixpath.dirname(folder) else ""
    return folder


def matches(pattern: str, *, deep: bool = False) -> list[str]:
    """Returns the paths that match a pattern.

    Args:
        pattern: one of those that `split` gives.
        deep: whether `**` stands for folders in folders, and names that begin with a dot are left
            out. A folder that links lead to is searched once, by its shortest path. On a remote
            file system, its own rules hold.

    Raises:
        OSError: a remote file system does not answer.
    """
    if files.exists(pattern):
        return [pattern]
    if not files.is_local(pattern):
        return files.remote_matches(pattern)
    folder, rest = _folder_and_glob(pattern)
    if deep:
        return list(dict.fromkeys(_deep_matches(folder, rest)))
    return glob.glob(glob.escape(folder) + rest, include_hidden=True)


def _deep_matches(folder: str, globs: str) -> Iterator[str]:
    """Yields what matches a folder's path with globs behind it, some of it perhaps twice."""
    parts = globs.split("/")
    if "**" not in parts:
        yield from glob.glob(glob.escape(folder) + globs)
        return
    place = parts.index("**")
    above, below = "".join(f"{part}/" for part in parts[:place]), parts[place + 1 :]
    while below[:1] == ["**"]:
        below.pop(0)
    start = glob.escape(folder) + above
    for base in glob.glob(start) if start else [""]:
        if base and not below:
            yield base
        for inner in _folders(base):
            yield from _deep_matches(inner, "/".join(below) if below else "*")


def _folders(base: str) -> Iterator[str]:
    """Yields a folder ("" or a path with a slash) and those in it, once each: links may circle."""
    seen: set[str] = set()
    level = [base]
    while level:
        inner = []
        for folder in sorted(level):
            real = os.path.realpath(folder)
            if real not in seen:
                seen.add(real)
                yield folder
                inner += glob.glob(f"{glob.escape(folder)}*/")
        level = inner


def covers(patterns: str, path: str) -> bool:
    """Whether patterns match a local path, there or not yet, or a folder that it lies in."""
    target = os.path.realpath(path)
    for pattern in filter(files.is_local, split(patterns)):
        folder, rest = (pattern, "") if files.exists(pattern) else _folder_and_glob(pattern)
        folder = os.path.realpath(folder)
        if os.path.commonpath([folder, target]) == folder:
            names = os.path.relpath(target, folder).split("/")
            if _covers(rest.strip("/").split("/") if rest else [], names):
                return True
    return False


def _covers(globs: list[str], names: list[str]) -> bool:
    if not globs or not names:
        return not globs
    if globs[0] == "**":
        return any(_covers(globs[1:], names[n:]) for n in range(len(names) + 1))
    return fnmatch.fnmatchcase(names[0], globs[0]) and _covers(globs[1:], names[1:])


def _folder_and_glob(pattern: str) -> tuple[str, str]:
    """Divides a pattern into the folder there by its very name and what `glob` takes after it."""
    folder = _folder_there(pattern)
    rest = pattern[len(folder) :].replace("[^", "[!")
    return folder, _ESCAPED.sub(lambda match: match[1] or f"[{match[2]}]", rest)
