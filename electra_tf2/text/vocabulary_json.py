"""Vocabularies in JSON: a tokenizer.json of Hugging Face's, or pieces with their ids."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import Casing
from electra_tf2.text.wordpiece import CONTINUATION, LARGEST_WORD_LIMIT, MAX_WORD_CHARACTERS

# A vocabulary with a piece a line begins with [PAD], so none begins like this.
_BEGINNING = re.compile(rb'(\xef\xbb\xbf)?\s*(\{|\[\s*("|\]))')
# More ids than pieces and this many: the file is damaged, and a list of all ids would be huge.
_MOST_GAPS = 1000
SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
"""The settings of normalization, by the names that tokenizer_config.json has for them."""
# Settings of how text is cut -> their values for BERT's way.
_CUTTING = {
    "word_tokenizer_type": (None, "basic"),
    "subword_tokenizer_type": (None, "wordpiece"),
    "do_basic_tokenize": (None, True),
    "do_word_tokenize": (None, True),
    "do_subword_tokenize": (None, True),
}
_PRE_TOKENIZER = "BertPreTokenizer"
# Classes of transformers that take tokenizer.json as it is, whatever tokenizer_config.json says.
AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Those that cut text as BERT does, each with and without "Fast" at its end. BertJapaneseTokenizer
# is none of them: its words of "basic" don't end at ideographs.
_BERT_CLASSES = (
    "BertTokenizer",
    "ElectraTokenizer",
    "DistilBertTokenizer",
    "ConvBertTokenizer",
    "MobileBertTokenizer",
)
_CLS, _SEP = "[CLS]", "[SEP]"
# What a post_processor of the kind TemplateProcessing makes of a text and of a pair.
_TEMPLATES = {
    "single": [(_CLS, 0), ("A", 0), (_SEP, 0)],
    "pair": [(_CLS, 0), ("A", 0), (_SEP, 0), ("B", 1), (_SEP, 1)],
}


class VocabularyInJson(NamedTuple):
    """What a JSON file says of a vocabulary.

    Attributes:
        pieces: `pieces[id]`; "" where the file has no piece of this id.
        casing: what the tokenizer in the file does to capitals and accents; None if the file does
            not say, or the tokenizer treats text in a way that this program doesn't.
    """

    pieces: list[str]
    casing: Casing | None


def is_json(content: bytes, path: str) -> bool:
    """Whether a vocabulary file holds JSON, by its name or by how it begins."""
    return path.endswith(".json") or _BEGINNING.match(content) is not None


def parse_vocabulary_json(content: bytes, path: str) -> VocabularyInJson:
    """Reads a tokenizer.json with WordPiece, {"piece": id, …} or ["piece", …].

    Raises:
        UserError: it is something else, such as another kind of tokenizer, or its ids are not
            those of a vocabulary.
    """
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unusable(path, f"JSON that can't be read: {error}") from error
    if isinstance(stored, list):
        if not stored or not _are_texts(stored):
            raise _unusable(path, "a list that is not one of pieces")
        return VocabularyInJson(stored, None)
    if not isinstance(stored, dict):
        raise _unusable(path, f"JSON of the type {type(stored).__name__}")
    if "model" not in stored or isinstance(stored["model"], int):
        return VocabularyInJson(_by_id(stored, path), None)
    return VocabularyInJson(
        _by_id(_ids_of_tokenizer(stored, path), path), casing_of_tokenizer(stored)
    )


def normalizer_settings(normalizer: Any) -> dict[str, Any] | None:
    """Returns the settings of a BERT normalizer by their names in tokenizer_config.json.

    Returns:
        None for another kind of normalizer, or none.
    """
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return None
    return {
        "do_lower_case": normalizer.get("lowercase"),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars"),
    }


def stated_settings(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a model's two files state of case, accents and ideographs, by `SETTINGS`.

    As in transformers: a class of BERT's goes by tokenizer_config.json, others take tokenizer.json
    as it is. Where the first says nothing of the case, the second does.

    Args:
        config: content of tokenizer_config.json.
        tokenizer: content of tokenizer.json.
    """
    own = {name: config[name] for name in SETTINGS if config.get(name) is not None}
    normalizer = normalizer_settings(tokenizer.get("normalizer")) or {}
    theirs = {name: value for name, value in normalizer.items() if value is not None}
    if theirs and config.get("tokenizer_class") in AS_IT_IS:
        return theirs
    return own if "do_lower_case" in own else theirs | own


def casing_of_settings(settings: Mapping[str, Any]) -> Casing | None:
    """Returns the casing that a tokenizer's settings state.

    Without a word on accents they go where text is lower-cased, as in BERT. What the settings say
    of ideographs is not looked at.

    Returns:
        None if they don't say whether text is lower-cased, have values that are not truth values,
        or strip accents of cased text, which this program doesn't.
    """
    lower = settings.get("do_lower_case")
    strip = settings.get("strip_accents")
    strip = lower if strip is None else strip
    if not isinstance(lower, bool) or not isinstance(strip, bool) or (strip and not lower):
        return None
    return Casing(lower, strip)


def casing_of_tokenizer(stored: Mapping[str, Any]) -> Casing | None:
    """Returns the casing that a tokenizer.json states, or None; see `casing_of_settings`."""
    casing = casing_of_settings(normalizer_settings(stored.get("normalizer")) or {})
    return casing and dataclasses.replace(casing, max_word_characters=word_limit(stored))


def other_cutting(settings: Mapping[str, Any]) -> list[str]:
    """Returns what a tokenizer_config.json states of cutting text otherwise than BERT.

    Returns:
        Each as text.
    """
    found = {name: settings.get(name) for name in _CUTTING}
    other = {name: value for name, value in found.items() if value not in _CUTTING[name]}
    kind = settings.get("tokenizer_class")
    if kind is not None and str(kind).removesuffix("Fast") not in _BERT_CLASSES:
        other |= {"tokenizer_class": kind} if kind not in AS_IT_IS else {}
    return [f"{name} {json.dumps(value)}" for name, value in other.items()]


def other_cutting_of_tokenizer(stored: Mapping[str, Any]) -> list[str]:
    """Returns what a tokenizer.json states of cleaning and cutting text otherwise than BERT.

    Returns:
        Each as text.
    """
    other = []
    normalizer = stored.get("normalizer")
    if isinstance(normalizer, dict) and normalizer.get("clean_text") is False:
        other.append("clean_text false")
    pre_tokenizer = stored.get("pre_tokenizer")
    kind = pre_tokenizer.get("type") if isinstance(pre_tokenizer, dict) else pre_tokenizer
    if "pre_tokenizer" in stored and kind != _PRE_TOKENIZER:
        other.append(f"the pre_tokenizer {json.dumps(kind)}")
    return other + _other_specials(stored.get("post_processor"))


def _other_specials(processor: Any) -> list[str]:
    """Returns what a post_processor puts around texts other than BERT's special tokens, as text."""
    if processor is None:
        return []
    kind = processor.get("type") if isinstance(processor, dict) else processor
    if kind == "BertProcessing":
        ends = [processor.get(name) for name in ("cls", "sep")]
        are_bert_s = [end[0] for end in ends if isinstance(end, list) and end] == [_CLS, _SEP]
        return [] if are_bert_s else [f"the post_processor's {json.dumps(ends)}"]
    if kind != "TemplateProcessing":
        return [f"the post_processor {json.dumps(kind)}"]
    return [
        f"the post_processor's {name} {' '.join(f'{piece}:{segment}' for piece, segment in found)}"
        for name, needed in _TEMPLATES.items()
        if (found := _template(processor.get(name))) != needed
    ]


def _template(parts: Any) -> list[tuple[Any, Any]]:
    """Returns what a template consists of, each part with its segment."""
    wholes = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    values = [value for part in wholes for value in part.values() if isinstance(value, dict)]
    return [(value.get("id"), value.get("type_id")) for value in values]


def untaken_settings(settings: Mapping[str, Any]) -> list[str]:
    """Returns what settings state of text that this program doesn't do, each as text."""
    stated = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
    lower, strip, ideographs = map(stated.get, SETTINGS)
    untaken = {name for name, value in stated.items() if not isinstance(value, bool)}
    if strip is True and lower is False:
        untaken.add("strip_accents")
    if ideographs is False:
        untaken.add("tokenize_chinese_chars")
    return [f"{name} {json.dumps(stated[name])}" for name in SETTINGS if name in untaken]


def untaken_of_tokenizer(stored: Mapping[str, Any]) -> list[str]:
    """Returns what a tokenizer.json states of text that this program doesn't do, each as text."""
    normalizer = stored.get("normalizer")
    settings = normalizer_settings(normalizer)
    if settings is None:
        kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
        return [f"the normalizer {json.dumps(kind)}"]
    return untaken_settings(settings)


def word_limit(stored: Mapping[str, Any]) -> int:
    """Returns the limit for long words in a tokenizer.json where it is above BERT's, else BERT's.

    Lower ones are not taken: what stands there mostly is the 100 that transformers writes for every
    model of BERT's kind, while the models were trained with 200.
    """
    model = stored.get("model")
    limit = model.get("max_input_chars_per_word") if isinstance(model, dict) else None
    if type(limit) is int and MAX_WORD_CHARACTERS < limit <= LARGEST_WORD_LIMIT:
        return limit
    return MAX_WORD_CHARACTERS


def _ids_of_tokenizer(stored: Mapping[str, Any], path: str) -> dict[Any, Any]:
    try:
        model = stored["model"]
        kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else None)
        ids = dict(model["vocab"]) if kind == "WordPiece" else {}
        added = {token["content"]: token["id"] for token in stored.get("added_tokens") or []}
        prefix = model.get("continuing_subword_prefix", CONTINUATION)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(path, f"no tokenizer of Hugging Face's: {error!r}") from error
    if kind != "WordPiece":
        raise _unusable(path, f"a tokenizer of the kind {kind}")
    if prefix != CONTINUATION:
        raise _unusable(path, f"pieces that continue a word start with {prefix!r}")
    return added | ids


def _by_id(ids: Mapping[Any, Any], path: str) -> list[str]:
    wrong = [name for name, i in ids.items() if type(i) is not int or i < 0]
    if not ids or wrong or not _are_texts(list(ids)):
        received = f"{wrong[0]!r} with the id {ids[wrong[0]]!r}" if wrong else "no pieces in it"
        raise _unusable(path, f"no tokenizer of Hugging Face's and no list of pieces: {received}")
    size = max(ids.values()) + 1
    if size > 2 * len(ids) + _MOST_GAPS:
        raise _unusable(path, f"{len(ids)} pieces, the last with the id {size - 1}")
    pieces = [""] * size
    for piece, i in ids.items():
        if pieces[i]:
            received = f"the id {i} for {pieces[i]!r} and for {piece!r}"
            raise _unusable(path, received).with_(remedy="Give each piece an id of its own.")
        pieces[i] = piece
    return pieces


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _unusable(path: str, received: str) -> UserError:
    return UserError(
        "The file has no vocabulary that can be used here.",
        where=path,
        received=received,
        remedy="Only WordPiece vocabularies can be used: give a tokenizer.json of that kind, or a "
        "vocab.txt with one piece per line, in which pieces that continue a word start with "
        f"{CONTINUATION}.",
    )
