"""Casing and vocabulary in Hugging Face's tokenizer files, read and written."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import tokenizers

from electra_tf2 import files
from electra_tf2.errors import UserError
from electra_tf2.files import exists, json_bytes, read_json
from electra_tf2.formats.huggingface_names import COPY_AGAIN
from electra_tf2.stored_json import shown
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL_TOKENS,
    UNK,
    Vocabulary,
    load_vocabulary,
)
from electra_tf2.text.vocabulary_json import (
    SETTINGS,
    normalizer_settings,
    other_cutting,
    other_cutting_of_tokenizer,
    word_limit,
)
from electra_tf2.text.wordpiece import CONTINUATION

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
VOCABULARY = "vocab.txt"

_ROLES = {
    "unk_token": UNK,
    "sep_token": SEP,
    "pad_token": PAD,
    "cls_token": CLS,
    "mask_token": MASK,
}


def read_huggingface_casing(folder: str) -> Casing | None:
    """Reads the casing of a Hugging Face model.

    What tokenizer_config.json says goes before tokenizer.json, as in transformers. Accents follow
    the case where the file that states that one says nothing of them, as in BERT.

    Returns:
        The casing; None where neither file says whether text is lower-cased. (transformers would
        lower-case it, whatever the model was trained on.)

    Raises:
        UserError: a file can't be read, or says to treat text in a way that we don't.
    """
    sources = (
        (TOKENIZER_CONFIG, "The model's tokenizer settings", lambda content, path: content),
        (TOKENIZER, "The model's tokenizer", _of_normalizer),
    )
    _check_cutting(folder)
    settings: dict[str, Any] = {}
    for name, subject, pick in sources:
        path = posixpath.join(folder, name)
        if "do_lower_case" not in settings and exists(path):
            content = pick(_read_settings(path, subject), path)
            stated = {key: content[key] for key in SETTINGS if content.get(key) is not None}
            _check_truth_values(stated, path)
            settings = stated | settings
    if "do_lower_case" not in settings:
        return None
    lower = settings["do_lower_case"]
    strip = settings.get("strip_accents", lower)
    ideographs = settings.get("tokenize_chinese_chars", True)
    if (strip and not lower) or not ideographs:
        raise UserError(
            "The model's tokenizer treats text in a way that this program doesn't.",
            where=folder,
            received=f"do_lower_case {lower}, strip_accents {strip}, tokenize_chinese_chars "
            f"{ideographs}",
            remedy="Accents are only removed from lower-cased text, and ideographs are always "
            "words of their own.",
        )
    path = posixpath.join(folder, TOKENIZER)
    stored = _read_settings(path, "The model's tokenizer") if exists(path) else {}
    return Casing(lower, strip, word_limit(stored))


def _read_settings(path: str, subject: str) -> dict[str, Any]:
    """Reads a JSON object; {} if the file is empty."""
    if files.is_file(path) and not files.read_bytes(path).strip():
        return {}
    return read_json(path, subject, COPY_AGAIN)


def _check_cutting(folder: str) -> None:
    """Refuses a tokenizer whose words and pieces are not BERT's."""
    readers = {TOKENIZER_CONFIG: other_cutting, TOKENIZER: other_cutting_of_tokenizer}
    for name, other in readers.items():
        path = posixpath.join(folder, name)
        found = other(_read_settings(path, "The model's tokenizer")) if exists(path) else []
        if found:
            raise UserError(
                "The model's tokenizer treats text in a way that this program doesn't.",
                where=path,
                received=", ".join(found),
                remedy="Only models whose text is cut as BERT's can be used here: at spaces, "
                "punctuation and ideographs, and then into word pieces.",
            )


def _check_truth_values(settings: Mapping[str, Any], path: str) -> None:
    wrong = [f"{n} {value!r}" for n, value in settings.items() if not isinstance(value, bool)]
    if wrong:
        raise UserError(
            "The model's tokenizer settings have impossible values.",
            where=path,
            received=", ".join(wrong),
            remedy=f"Each is true or false. {COPY_AGAIN}",
        )


def vocabulary_file(folder: str) -> str | None:
    """Returns the path of a model's vocabulary: vocab.txt, or else tokenizer.json."""
    paths = (posixpath.join(folder, name) for name in (VOCABULARY, TOKENIZER))
    return next((path for path in paths if exists(path)), None)


def check_one_vocabulary(folder: str) -> None:
    """Refuses a model whose two files of the vocabulary have other pieces: which one is its own?

    Tokens that were added may be in tokenizer.json alone.

    Raises:
        UserError: they differ, or one can't be read.
    """
    paths = [posixpath.join(folder, name) for name in (VOCABULARY, TOKENIZER)]
    if not all(map(exists, paths)) or not _read_settings(paths[1], "The tokenizer").get("model"):
        return
    lines, stored = (load_vocabulary(path).tokens for path in paths)
    different = [i for i, (a, b) in enumerate(zip(lines, stored, strict=False)) if a != b]
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


def _of_normalizer(content: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns the settings of a BERT normalizer by their names in tokenizer_config.json."""
    normalizer = content.get("normalizer")
    settings = normalizer_settings(normalizer)
    if content and settings is None:
        kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
        raise UserError(
            "The model's tokenizer treats text in a way that this program doesn't.",
            where=path,
            received=f"the normalizer {kind!r}",
            remedy="Only BertNormalizer is known here. Where it comes to the same, say so in "
            f"{TOKENIZER_CONFIG}: do_lower_case and strip_accents.",
        )
    return settings or {}
