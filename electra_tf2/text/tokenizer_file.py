"""The vocabulary in a tokenizer.json of Hugging Face's tokenizers."""

from __future__ import annotations

import json
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.text.wordpiece import CONTINUATION


def is_tokenizer_file(path: str) -> bool:
    """Whether a path is that of a tokenizer.json, not of a vocabulary with a piece a line."""
    return path.endswith(".json")


def vocabulary_text(content: bytes, path: str) -> bytes:
    """Returns the pieces of a WordPiece tokenizer, one a line in the order of their ids.

    Args:
        content: of the file.
        path: for messages.

    Raises:
        UserError: it is no WordPiece tokenizer, or ids are missing between its first and last.
    """
    try:
        stored = json.loads(content)
        model = stored["model"]
        kind = model.get("type", "WordPiece" if "max_input_chars_per_word" in model else None)
        ids = dict(model["vocab"]) if kind == "WordPiece" else {}
        added = {token["content"]: token["id"] for token in stored.get("added_tokens", [])}
        pieces = {i: piece for piece, i in (added | ids).items()}
        prefix = model.get("continuing_subword_prefix", CONTINUATION)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, f"no tokenizer of Hugging Face's: {error}") from error
    if kind != "WordPiece":
        raise _unusable(path, f"a tokenizer of the kind {kind}")
    if prefix != CONTINUATION:
        raise _unusable(path, f"pieces that continue a word start with {prefix!r}")
    if not _are_lines(pieces):
        raise _unusable(path, "ids that are not 0, 1, 2, … or pieces with line breaks")
    return ("\n".join(pieces[i] for i in range(len(pieces))) + "\n").encode()


def _are_lines(pieces: dict[Any, Any]) -> bool:
    whole = set(pieces) == set(range(len(pieces)))
    return whole and all(isinstance(p, str) and "\n" not in p for p in pieces.values())


def _unusable(path: str, received: str) -> UserError:
    return UserError(
        "The tokenizer has no vocabulary that can be used here.",
        where=path,
        received=received,
        remedy="Only WordPiece vocabularies can be used: give a vocab.txt with one piece per line, "
        f"in which pieces that continue a word start with {CONTINUATION}.",
    )
