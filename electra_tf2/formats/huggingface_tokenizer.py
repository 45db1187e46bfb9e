"""Casing and vocabulary in Hugging Face's tokenizer files, read and written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

import tokenizers

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists, json_bytes, read_json
from electra_tf2.formats.huggingface_config import CONFIG
from electra_tf2.formats.huggingface_names import COPY_AGAIN
from electra_tf2.stored_json import shown
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL_TOKENS,
    UNK,
    Vocabulary,
    free_names,
    is_blank,
    load_vocabulary,
    read_vocabulary_text,
    vocabulary_lines,
)
from electra_tf2.text.vocabulary_json import (
    AS_IT_IS,
    SETTINGS,
    normalizer_settings,
    other_cutting,
    other_cutting_of_tokenizer,
    stated_settings,
    word_limit,
)
from electra_tf2.text.wordpiece import CONTINUATION

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
VOCABULARY = "vocab.txt"
_ADDED_TOKENS = "added_tokens.json"
# Vocabularies of SentencePiece and of byte-pair encoding.
_OTHER_VOCABULARIES = (
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)

# A piece that stands for an id that no text has.
_UNUSED = re.compile(r"\[unused\d+\]")
_OTHERWISE = "The model's tokenizer treats text in a way that this program doesn't."
_ROLES = {
    "unk_token": UNK,
    "sep_token": SEP,
    "pad_token": PAD,
    "cls_token": CLS,
    "mask_token": MASK,
}


def read_tokenizer(folder: str) -> Casing | None:
    """Makes sure that a model's tokenizer is BERT's, and returns its casing.

    Returns:
        See `read_huggingface_casing`.

    Raises:
        UserError: a file can't be read, or text would be treated otherwise here.
    """
    _check_kind_of_vocabulary(folder)
    _check_special_tokens(folder)
    check_one_vocabulary(folder)
    casing = read_huggingface_casing(folder)
    _warn_of_added_tokens(folder, casing)
    return casing


def read_huggingface_casing(folder: str) -> Casing | None:
    """Reads the casing of a Hugging Face model.

    Which of its two files counts, see `stated_settings`. Accents follow the case where nothing is
    said of them, as in BERT.

    Returns:
        The casing; None where neither file says whether text is lower-cased. (transformers would
        lower-case it, whatever the model was trained on.)

    Raises:
        UserError: a file can't be read, or says to treat text in a way that we don't.
    """
    path = posixpath.join(folder, TOKENIZER)
    config, tokenizer = _read_tokenizer_config(folder), _read_settings(path)
    _check_cutting(folder, config, tokenizer)
    _check_truth_values(config, posixpath.join(folder, TOKENIZER_CONFIG))
    _check_truth_values(normalizer_settings(tokenizer.get("normalizer")) or {}, path)
    settings = stated_settings(config, tokenizer)
    if "do_lower_case" not in settings or config.get("tokenizer_class") in AS_IT_IS:
        _check_normalizer(tokenizer, path)
    lower = settings.get("do_lower_case")
    strip = settings.get("strip_accents", lower)
    ideographs = settings.get("tokenize_chinese_chars", True)
    if (strip and lower is False) or not ideographs:
        raise UserError(
            _OTHERWISE,
            where=folder,
            received=f"do_lower_case {lower}, strip_accents {strip}, tokenize_chinese_chars "
            f"{ideographs}",
            remedy="Accents are only removed from lower-cased text, and ideographs are always "
            "words of their own.",
        )
    return None if lower is None else Casing(lower, bool(strip), word_limit(tokenizer))


def _read_settings(path: str) -> dict[str, Any]:
    """Reads a JSON object; {} if the file is empty or there is none."""
    if not exists(path) or (files.is_file(path) and not files.read_bytes(path).strip()):
        return {}
    return read_json(path, "The model's tokenizer", COPY_AGAIN)


def _read_tokenizer_config(folder: str) -> dict[str, Any]:
    """Reads tokenizer_config.json, with the class that config.json may state in its place."""
    stored = _read_settings(posixpath.join(folder, TOKENIZER_CONFIG))
    if stored.get("tokenizer_class") is None:
        stated = _read_settings(posixpath.join(folder, CONFIG)).get("tokenizer_class")
        return {**stored, "tokenizer_class": stated}
    return stored


def _check_cutting(folder: str, config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> None:
    """Refuses a tokenizer whose words, pieces or special tokens are not BERT's."""
    found = {
        TOKENIZER_CONFIG: other_cutting(config),
        TOKENIZER: other_cutting_of_tokenizer(tokenizer),
    }
    as_it_is = tokenizer and config.get("tokenizer_class") in AS_IT_IS
    if as_it_is and tokenizer.get("post_processor") is None:
        found[TOKENIZER].append("no post_processor, which would put [CLS] and [SEP] around texts")
    for name, other in found.items():
        if other:
            raise UserError(
                _OTHERWISE,
                where=posixpath.join(folder, name),
                received=", ".join(other),
                remedy="Only models whose text is cut as BERT's can be used here: at spaces, "
                "punctuation and ideographs, then into word pieces, with [CLS] before them and "
                "[SEP] after each text. (A class of another name that does the same: state "
                f'"tokenizer_class": "BertTokenizer" in {TOKENIZER_CONFIG}.)',
            )


def _check_truth_values(settings: Mapping[str, Any], path: str) -> None:
    stated = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
    wrong = [f"{n} {value!r}" for n, value in stated.items() if not isinstance(value, bool)]
    if wrong:
        raise UserError(
            "The model's tokenizer settings have impossible values.",
            where=path,
            received=", ".join(wrong),
            remedy=f"Each is true or false. {COPY_AGAIN}",
        )


def _check_kind_of_vocabulary(folder: str) -> None:
    """Refuses a model whose only vocabulary is not of WordPiece.

    Raises:
        UserError: names its file.
    """
    paths = [posixpath.join(folder, name) for name in _OTHER_VOCABULARIES]
    other = next((path for path in paths if exists(path)), None)
    if other and vocabulary_file(folder) is None:
        raise UserError(
            _OTHERWISE,
            where=other,
            received=f"SentencePiece or byte-pair encoding, and no {VOCABULARY}",
            remedy="Only models with a vocabulary of WordPiece can be used here.",
        )


def _check_special_tokens(folder: str) -> None:
    """Refuses a model whose special tokens have other names than BERT's: ids would be others.

    Raises:
        UserError: names the pieces to rename, so that all ids stay as they are.
    """
    path = vocabulary_file(folder)
    stated = _read_settings(posixpath.join(folder, SPECIAL_TOKENS_MAP)) | {
        role: name
        for role, name in _read_settings(posixpath.join(folder, TOKENIZER_CONFIG)).items()
        if name is not None
    }
    names = {role: _content(stated.get(role)) for role in _ROLES}
    other = {role: name for role, name in names.items() if name not in (None, _ROLES[role])}
    if path is None or not other:
        return
    pieces = vocabulary_lines(read_vocabulary_text(path), path)
    found = {role: name for role, name in other.items() if name in pieces}
    if PAD in pieces:
        found.pop("pad_token", None)  # whatever stands there is masked
    if not found:
        return
    free = free_names(pieces)
    taken = [_ROLES[role] for role in found if _ROLES[role] in pieces]
    renames = [f"{name} to {next(free)}" for name in taken]
    renames += [f"{name} to {_ROLES[role]}" for role, name in found.items()]
    raise UserError(
        "The model's special tokens have other names than BERT's.",
        where=path,
        received=", ".join(f"{role} {shown(name)}" for role, name in found.items()),
        remedy=f"Rename these pieces, each in its place, so that all ids stay as they are: "
        f"{', '.join(renames)}. Where there is a {TOKENIZER}, wherever they stand in it, too.",
    )


def _content(token: Any) -> str | None:
    """The text of a special token, which may be stated with settings of its own."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _warn_of_added_tokens(folder: str, casing: Casing | None) -> None:
    """Says which tokens Hugging Face's tokenizer finds in a text, beside its pieces, and ours not.

    Special tokens don't count: here every text is ordinary text.

    Args:
        casing: of the model's text; None if unknown.
    """
    path, ids = vocabulary_file(folder), _added_tokens(folder)
    if path is None or not ids:
        return
    vocabulary = load_vocabulary(path)
    tokenizer = make_tokenizer(vocabulary, casing or Casing())
    lost = {name: i for name, i in ids.items() if list(tokenizer.encode(name)) != [i]}
    lines = [f"{shown(n)} on line {i + 1}" for n, i in lost.items() if n not in vocabulary.ids]
    if lost:
        remedy = f" Whole words keep their ids as pieces of {VOCABULARY}: {first_of(lines)}."
        say(
            f"warning: the tokenizer in {folder} finds added tokens in a text, which this program "
            f"cuts like other words: {first_of([*map(shown, lost)], separator=', ')}."
            + (remedy if lines else "")
        )


def _added_tokens(folder: str) -> dict[str, int]:
    """Returns text -> id of the tokens that were added to a vocabulary and are not special."""
    stored = _read_settings(posixpath.join(folder, TOKENIZER)).get("added_tokens")
    decoder = _read_tokenizer_config(folder).get("added_tokens_decoder")
    records: list[Any] = [*stored] if isinstance(stored, list) else []
    if isinstance(decoder, dict):
        records += [{"id": i, **r} for i, r in decoder.items() if isinstance(r, dict)]
    records = [r for r in records if isinstance(r, dict) and isinstance(r.get("content"), str)]
    ids: dict[str, Any] = {r["content"]: r.get("id") for r in records if not r.get("special")}
    ids |= _read_settings(posixpath.join(folder, _ADDED_TOKENS))
    special = {record["content"] for record in records if record.get("special")}
    return {n: int(i) for n, i in ids.items() if str(i).isdecimal() and n not in special}


def vocabulary_file(folder: str) -> str | None:
    """Returns the path of a model's vocabulary: vocab.txt, or else tokenizer.json."""
    paths = (posixpath.join(folder, name) for name in (VOCABULARY, TOKENIZER))
    return next((path for path in paths if exists(path)), None)


def check_one_vocabulary(folder: str) -> None:
    """Refuses a model whose two files of the vocabulary have other pieces: which one is its own?

    Tokens that were added may be in tokenizer.json alone, and pieces that no text has in vocab.txt
    alone: of a piece on two lines the other file has one id.

    Raises:
        UserError: they differ, or one can't be read.
    """
    paths = [posixpath.join(folder, name) for name in (VOCABULARY, TOKENIZER)]
    if not all(map(exists, paths)) or not _read_settings(paths[1]).get("model"):
        return
    lines, stored = (load_vocabulary(path).tokens for path in paths)
    different = [
        i
        for i, (a, b) in enumerate(zip(lines, stored, strict=False))
        if a != b and not (is_blank(b) and _UNUSED.fullmatch(a))
    ]
    if different:
        i = different[0]
        raise UserError(
            "The model has two vocabularies, which differ.",
            where=f"{paths[0]}, line {i + 1}",
            received=f"{shown(lines[i])}; {TOKENIZER} has {shown(stored[i])} with the id {i}",
            remedy="Move the file away that is not the model's own. (transformers uses "
            f"{TOKENIZER}, this program {VOCABULARY}.)",
        )


def tokenizer_files(
    vocabulary: Vocabulary, casing: Casing, max_length: int, has_segments: bool = True
) -> dict[str, bytes]:
    """Returns the files of a tokenizer for transformers.

    The special tokens are registered, so that "[MASK]" in a text is the mask; in this program every
    text is ordinary text.

    Args:
        max_length: tokens that the model takes.

    Returns:
        File name -> content.
    """
    config = {
        # With this class transformers takes tokenizer.json as it is. Its BERT class would build a
        # tokenizer of its own, to which words of over 100 characters (here: 200) are unknown.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": [
            "input_ids",
            *(["token_type_ids"] if has_segments else []),
            "attention_mask",
        ],
        "model_max_length": max_length,
        "do_lower_case": casing.lower_case,
        "strip_accents": casing.removes_accents,
        "tokenize_chinese_chars": True,
        "clean_up_tokenization_spaces": False,
        **_ROLES,
    }
    return {
        VOCABULARY: vocabulary.text.encode(),
        TOKENIZER: (_tokenizer(vocabulary, casing).to_str(pretty=True) + "\n").encode(),
        TOKENIZER_CONFIG: json_bytes(config, indent=2),
        SPECIAL_TOKENS_MAP: json_bytes(_ROLES, indent=2),
    }


def _tokenizer(vocabulary: Vocabulary, casing: Casing) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            dict(vocabulary.ids),
            unk_token=UNK,
            continuing_subword_prefix=CONTINUATION,
            max_input_chars_per_word=casing.max_word_characters,
        )
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=casing.removes_accents,
        lowercase=casing.lower_case,
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(CLS, vocabulary.cls_id), (SEP, vocabulary.sep_id)],
    )
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix=CONTINUATION)
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS]
    )
    return tokenizer


def _check_normalizer(content: Mapping[str, Any], path: str) -> None:
    """Refuses a tokenizer.json that alone could say the casing, and has another normalizer."""
    normalizer = content.get("normalizer")
    if content and normalizer_settings(normalizer) is None:
        kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
        raise UserError(
            _OTHERWISE,
            where=path,
            received=f"the normalizer {kind!r}",
            remedy="Only BertNormalizer is known here. Where it comes to the same, say so in "
            f'{TOKENIZER_CONFIG}: "tokenizer_class": "BertTokenizer", do_lower_case and '
            "strip_accents.",
        )
