"""The casing that a vocabulary was made for: where files say it, and which settings win.

<vocab-file>.casing.json   written by build_vocabulary.py
tokenizer.json             given as the vocabulary itself, or beside vocab.txt
tokenizer_config.json      of Hugging Face, beside vocab.txt
casing.json                of a model folder, beside vocab.txt
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.text.casing_fit import Option, casing_advice
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.text.vocabulary_json import (
    casing_of_settings,
    casing_of_tokenizer,
    is_json,
    other_cutting,
    other_cutting_of_tokenizer,
    parse_vocabulary_json,
    stated_settings,
    untaken_of_tokenizer,
    untaken_settings,
    word_limit,
)
from electra_tf2.text.wordpiece import LARGEST_WORD_LIMIT

ENDING = ".casing.json"
_DIGEST = "vocab_sha256"
# Hugging Face's, or what version 0.1.0 called casing.json.
_MODELS, _TOKENIZER = "casing.json", "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_BESIDE = (_MODELS, _TOKENIZER_CONFIG, _TOKENIZER)
_NAMED_BY_FOLDERS = ("vocab.txt", _TOKENIZER)
_WHAT = "The settings of the vocabulary"
_REMEDY = 'Restore the file, or move it away: {"do_lower_case": …, "strip_accents": …}.'


class StatedCasing(NamedTuple):
    """A casing that a file states.

    Attributes:
        casing: the casing.
        path: of the file.
    """

    casing: Casing
    path: str


class SettledCasing(NamedTuple):
    """A casing, and whether anything stated it.

    Attributes:
        casing: the casing.
        is_open: whether it is the default because nothing states it.
    """

    casing: Casing
    is_open: bool


def casing_file_content(vocabulary: Vocabulary, casing: Casing) -> bytes:
    """Returns the content of <vocab-file>.casing.json.

    Args:
        vocabulary: whose digest tells whether the file still belongs to the vocabulary beside it.
        casing: of the text that it was made from.
    """
    content = {**casing.to_dict(), _DIGEST: vocabulary.sha256}
    return files.json_bytes(content, indent=2, sort_keys=True)


def read_stated_casing(vocab_file: str, vocabulary: Vocabulary) -> StatedCasing | None:
    """Returns the casing that a vocabulary's file, or a file beside it, states.

    Says so where the files of Hugging Face's disagree.

    Args:
        vocab_file: path of the vocabulary; of a link, the files beside it count before those beside
            what it leads to. What describes a whole folder counts for its vocab.txt and
            tokenizer.json.
        vocabulary: what it holds.

    Returns:
        None if no file says it.

    Raises:
        UserError: a file beside the vocabulary can't be read.
    """
    found = _stated(vocab_file, vocabulary)
    first = next(found, None)
    if first is not None and not _is_own(first.path):
        for other in found:
            limit = first.casing.max_word_characters
            if not same_casing(
                first.casing, dataclasses.replace(other.casing, max_word_characters=limit)
            ):
                say(
                    f"warning: {first.path} states {_as_json(first.casing)}, and is followed, "
                    f"although {other.path} states {_as_json(other.casing)}."
                )
    return first


def _stated(vocab_file: str, vocabulary: Vocabulary) -> Iterator[StatedCasing]:
    """Yields what the files state, the one that counts first."""
    content = files.read_bytes(vocab_file)
    holds_casing = is_json(content, vocab_file)
    if holds_casing and (casing := parse_vocabulary_json(content, vocab_file).casing):
        yield StatedCasing(casing, vocab_file)
    for place in _places(vocab_file):
        if not holds_casing and (stated := _read_own(place + ENDING, vocabulary)):
            yield stated
        folder, name = os.path.split(place)
        for beside in _BESIDE if name in _NAMED_BY_FOLDERS else ():
            path = os.path.join(folder, beside)
            if path != place and (casing := _casing_beside(folder, beside)):
                yield StatedCasing(casing, path)


def _places(vocab_file: str) -> list[str]:
    """Returns where a vocabulary lies: its path and, of a link, what it leads to."""
    if not os.path.islink(vocab_file):
        return [vocab_file]
    return [vocab_file, os.path.realpath(vocab_file)]


def _is_own(path: str) -> bool:
    """Whether a file with a casing is of this program, which leaves nothing of it out."""
    return path.endswith(ENDING) or os.path.basename(path) == _MODELS


def _as_json(casing: Casing) -> str:
    stated = {"do_lower_case": casing.lower_case, "strip_accents": casing.removes_accents}
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in stated.items())


def _read_own(path: str, vocabulary: Vocabulary) -> StatedCasing | None:
    if not files.is_file(path):
        return None
    stored = _read_settings(path)
    if stored.get(_DIGEST, vocabulary.sha256) != vocabulary.sha256:
        say(f"{path} is left aside: it belongs to another vocabulary than the one beside it.")
        return None
    casing = casing_of_record(stored)
    if casing is None:
        shown = {name: stored.get(name) for name in UNCASED.to_dict() | stored if name != _DIGEST}
        raise UserError(f"{_WHAT} can't be read.", where=path, received=shown, remedy=_REMEDY)
    return StatedCasing(casing, path)


def _read_settings(path: str) -> dict[str, Any]:
    """Reads a JSON object with settings; {} if the file is empty."""
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise UserError(
            f"{_WHAT} can't be read.", where=path, received=files.reason(error), remedy=_REMEDY
        ) from error
    return files.parse_json(content, path, _WHAT, _REMEDY) if content.strip() else {}


def casing_of_record(stored: Mapping[str, Any]) -> Casing | None:
    """Returns the casing that a file of this program states.

    Args:
        stored: the file's content; it states case and accents, and the limit for long words if it
            isn't BERT's.

    Returns:
        None if a setting is missing or has an impossible value.
    """
    settings = UNCASED.settings() | {"do_lower_case": None, "strip_accents": None} | dict(stored)
    casing = Casing.from_settings(settings)
    are_flags = isinstance(casing.lower_case, bool) and isinstance(casing.strip_accents, bool)
    limit = casing.max_word_characters
    return casing if are_flags and type(limit) is int and 1 <= limit <= LARGEST_WORD_LIMIT else None


def _casing_beside(folder: str, name: str) -> Casing | None:
    path = os.path.join(folder, name)
    stored = _read_settings(path) if files.is_file(path) else {}
    if name == _MODELS or (name == _TOKENIZER and "model" not in stored):
        return casing_of_record(stored)
    if name == _TOKENIZER:
        return casing_of_tokenizer(stored)
    tokenizer_file = os.path.join(folder, _TOKENIZER)
    tokenizer = _read_settings(tokenizer_file) if files.is_file(tokenizer_file) else {}
    settings = stated_settings(stored, tokenizer)
    if settings == stated_settings({}, tokenizer):
        return None  # tokenizer.json, which comes next, says all of it
    casing = casing_of_settings(settings)
    return casing and dataclasses.replace(casing, max_word_characters=word_limit(tokenizer))


def settle_casing(
    given: Mapping[str, Any],
    vocab_file: str,
    vocabulary: Vocabulary,
    option: Option,
) -> SettledCasing:
    """Returns the casing of text that is to be tokenized with a vocabulary that no model has yet.

    Settings that are given go before what the vocabulary's files state, and these before the
    default, lower-cased without accents. Says which files were followed or overruled, and warns
    where the vocabulary shows that the settings are not its own.

    Args:
        given: those of `Casing.settings` that are given.
        vocab_file: path of the vocabulary.
        vocabulary: what it holds.
        option: setting and value -> how a user gives it, such as "--no-lower-case".

    Raises:
        UserError: a file beside the vocabulary can't be read.
    """
    stated = read_stated_casing(vocab_file, vocabulary)
    start = stated.casing if stated else _start(vocab_file, given, option)
    casing = Casing.from_settings(start.settings() | dict(given))
    is_open = stated is None and "do_lower_case" not in given
    if stated:
        # A limit for long words that is BERT's goes without saying, and so does another one then.
        settings = start.to_dict()
        own = {name: value for name, value in given.items() if settings.get(name, value) != value}
        if own and not same_casing(casing, start):
            theirs = _shown({name: settings[name] for name in own}, option)
            say(
                f"warning: {_shown(own, option)} is followed, although {stated.path} says {theirs}."
            )
        else:
            say(f"Casing as in {stated.path}: {_shown(settings, option)}")
    if not (stated and _is_own(stated.path)):
        _warn_of_untaken(stated.path if stated else None, is_open, vocab_file, casing, option)
    if advice := casing_advice(vocabulary, casing, option):
        say(f"warning: {advice}")
    return SettledCasing(casing, is_open)


def _start(vocab_file: str, given: Mapping[str, Any], option: Option) -> Casing:
    """The default where nothing states the case; a word on accents counts even so."""
    folder, name = os.path.split(vocab_file)
    path = os.path.join(folder, _TOKENIZER_CONFIG)
    stored = _read_settings(path) if name in _NAMED_BY_FOLDERS and files.is_file(path) else {}
    if stored.get("strip_accents") is not False or "strip_accents" in given:
        return UNCASED
    say(f"Accents as in {path}: {option('strip_accents', False)}")
    return Casing(True, False)


def _warn_of_untaken(
    followed: str | None, is_open: bool, vocab_file: str, casing: Casing, option: Option
) -> None:
    """Says what Hugging Face's files state that this program doesn't do, or that they don't say.

    `followed` is the file that states the casing; `is_open`: neither one nor the user does.
    """
    folder, name = os.path.split(vocab_file)
    beside = (_TOKENIZER_CONFIG, _TOKENIZER) if name in _NAMED_BY_FOLDERS else ()
    paths = [vocab_file, *(os.path.join(folder, other) for other in beside), followed or vocab_file]
    # Where another file is followed, what these say of the casing is left aside.
    found = {
        path: _untaken(path, with_casing=followed in (None, path)) for path in dict.fromkeys(paths)
    }
    using = f"using {_shown(casing.to_dict(), option)}, and ideographs are words."
    for path, untaken in found.items():
        if untaken:
            what = f"{path} states {', '.join(untaken)}, which this program doesn't do"
            say(f"warning: {what}; {using}")
    if is_open and vocab_file.endswith(".json") and not any(found.values()):
        say(f"warning: nothing states the casing of {vocab_file}; {using}")


def _untaken(path: str, with_casing: bool) -> list[str]:
    content = files.read_bytes(path) if files.is_file(path) else b""
    if os.path.basename(path) == _TOKENIZER_CONFIG:
        settings = _read_settings(path) if content else {}
        return untaken_settings(settings) * with_casing + other_cutting(settings)
    is_object = content.lstrip().startswith(b"{")
    stored = _read_settings(path) if is_object and is_json(content, path) else {}
    is_tokenizer = isinstance(stored.get("model"), dict)  # and no list of pieces
    if not is_tokenizer:
        return []
    return untaken_of_tokenizer(stored) * with_casing + other_cutting_of_tokenizer(stored)


def _shown(settings: Mapping[str, Any], option: Option) -> str:
    return " ".join(option(name, value) for name, value in settings.items())


def as_flag(setting: str, value: Any) -> str:
    """Returns the flag of the builders for a setting, such as "--no-lower-case"."""
    if not isinstance(value, bool):
        return f"--{setting.replace('_', '-')} {value}"
    return f"--{'do' if value else 'no'}-{setting.removeprefix('do_').replace('_', '-')}"


def as_hparam(setting: str, value: Any) -> str:
    """Returns the hparam for a setting, such as "do_lower_case": false."""
    return f'"{setting}": {json.dumps(value)}'


def as_argument(setting: str, value: Any) -> str:
    """Returns the argument in Python for a setting, such as do_lower_case=False."""
    return f"{setting}={value}"


def same_casing(first: Casing, second: Casing) -> bool:
    """Whether two casings treat every text alike: accents of cased text are kept in any case."""
    ours, theirs = (
        dataclasses.replace(casing, strip_accents=casing.removes_accents)
        for casing in (first, second)
    )
    return ours == theirs
