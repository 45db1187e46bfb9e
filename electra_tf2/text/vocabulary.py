"""WordPiece vocabularies: reading and checking."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Container, Iterator, Mapping, Sequence

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of, shell_quoted
from electra_tf2.stored_json import shown
from electra_tf2.text.vocabulary_json import is_json, parse_vocabulary_json
from electra_tf2.text.wordpiece import CONTINUATION

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)
BYTE_ORDER_MARK = "\ufeff"
_MAX_BYTES = 1 << 28  # a longer file is no vocabulary


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Word pieces in order; a piece's id is its place.

    Attributes:
        tokens: the pieces, `tokens[id]`. Of those that match no text, empty ones or white space,
            there may be several; all others occur once.
    """

    tokens: tuple[str, ...]

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each piece."""
        return {token: i for i, token in enumerate(self.tokens)}

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal digest of the pieces joined by newlines: equal for equal vocabularies."""
        return hashlib.sha256("\n".join(self.tokens).encode("utf-8")).hexdigest()

    @property
    def text(self) -> str:
        """Content of a vocabulary file: a piece a line."""
        return "".join(f"{token}\n" for token in self.tokens)

    @functools.cached_property
    def continuation_ids(self) -> tuple[int, ...]:
        """The ids of the pieces that continue a word, which begin with `##`."""
        return tuple(i for i, token in enumerate(self.tokens) if token.startswith(CONTINUATION))

    @property
    def pad_id(self) -> int:
        """Id of [PAD], always 0 in a checked vocabulary."""
        return self.ids[PAD]

    @property
    def unk_id(self) -> int:
        """Id of [UNK], the piece for unknown words."""
        return self.ids[UNK]

    @property
    def cls_id(self) -> int:
        """Id of [CLS], which opens an example."""
        return self.ids[CLS]

    @property
    def sep_id(self) -> int:
        """Id of [SEP], which closes a segment."""
        return self.ids[SEP]

    @property
    def mask_id(self) -> int:
        """Id of [MASK], which stands where a token was masked out."""
        return self.ids[MASK]

    def __len__(self) -> int:
        return len(self.tokens)


def load_vocabulary(path: str) -> Vocabulary:
    """Reads a vocabulary file: UTF-8, one piece a line, the line's number (from 0) its id.

    White space around a piece is stripped, as the official program does. A piece that is white
    space, such as U+2028 in Chinese BERT's vocabulary, or an empty line keeps its id and never
    matches a text; empty lines at the end are not pieces.

    Args:
        path: the file; any path that `tf.io.gfile` can read. It may hold JSON instead of lines,
            see `parse_vocabulary_json`.

    Returns:
        The vocabulary, with all special tokens, [PAD] at 0 and no piece twice.

    Raises:
        UserError: there is no such file, it is not UTF-8, pieces occur twice (the official program
            lets the last one win, which leaves ids that nothing maps to), a special token is
            missing, or [PAD] is not the first piece.
    """
    return parse_vocabulary(read_vocabulary_text(path), path)


def read_vocabulary_text(path: str) -> bytes:
    """Returns a vocabulary as a text of one piece a line; arguments and errors as above."""
    content = _read_bytes(path)
    if not is_json(content, path):
        return content
    pieces = parse_vocabulary_json(content, path).pieces
    # Hugging Face never matches a piece with white space around it or a line break in it either.
    kept = [piece if "\n" not in piece and _piece(piece) == piece else "" for piece in pieces]
    kept[-1] = kept[-1] or " "  # an empty line at the end would not be a piece
    return "".join(f"{piece}\n" for piece in kept).encode("utf-8", "backslashreplace")


def parse_vocabulary(content: bytes, path: str) -> Vocabulary:
    """Checks the content of a vocabulary file; arguments and errors as in `load_vocabulary`."""
    tokens = vocabulary_lines(content, path)
    _check_special_tokens(tokens, path)
    _check_unique(tokens, path)
    return Vocabulary(tuple(tokens))


def vocabulary_lines(content: bytes, path: str) -> list[str]:
    """Returns the pieces in a file of one a line, special or not, with those that occur twice.

    Raises:
        UserError: it is not UTF-8 text, or its lines end as on an old Mac.
    """
    lines = content.split(b"\n")
    if len(lines) == 1 and b"\r" in content.strip():
        file, new = shell_quoted(path), shell_quoted(f"{path}.new")
        raise UserError(
            "The lines of the vocabulary end with carriage returns, as on an old Mac.",
            where=path,
            received="no line feed",
            remedy=rf"Convert it: tr '\r' '\n' < {file} > {new} && mv {new} {file}",
        )
    while lines and not lines[-1].strip(b"\r"):
        lines.pop()
    tokens = []
    for number, line in enumerate(lines, start=1):
        try:
            tokens.append(_piece(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise UserError(
                "The vocabulary is not UTF-8 text.",
                where=f"{path}, line {number}, byte {error.start + 1} of the line",
                received=line[:40],
                remedy="Save the file as UTF-8, one piece per line.",
            ) from error
    return tokens


def _piece(line: str) -> str:
    """A line's piece. The official program makes "" of white space: it matches nothing either."""
    line = line.rstrip("\r")
    return line if line.removeprefix(CONTINUATION).isspace() else line.strip()


def is_blank(piece: str) -> bool:
    """Whether a piece is empty or white space, and so never matches."""
    body = piece.removeprefix(CONTINUATION)
    return not piece or body.isspace()


def check_vocabulary_size(
    vocabulary: Vocabulary,
    vocab_size: int,
    path: str,
    option: str | None = "vocab_size",
    *,
    may_be_more: bool = True,
) -> None:
    """Checks that a model has an embedding for each piece; says so where it has more.

    Tables are padded to a multiple of 8, and tokens that were added are not in vocab.txt.

    Args:
        vocab_size: number of the model's embeddings.
        path: where the vocabulary was read from, for the message.
        option: the hparam that sets the number of embeddings; None for a trained model.
        may_be_more: whether there may be more embeddings; not where nobody asked for so many.

    Raises:
        UserError: there are fewer embeddings than pieces, or more where there may not be.
    """
    pieces = len(vocabulary)
    if pieces > vocab_size or (pieces < vocab_size and not may_be_more):
        which = "more" if pieces > vocab_size else "fewer"
        size = f"{option} = {vocab_size}" if option else f"{vocab_size} embeddings"
        raise UserError(
            f"The vocabulary has {which} pieces than the model has embeddings.",
            where=path,
            received=f"{pieces} pieces in the file, {size}",
            remedy=f"Set {option} to {pieces}, or give the vocabulary that the data was built with."
            if option
            else "Give the vocabulary that the model was trained with.",
        )
    if pieces < vocab_size:
        say(
            f"{path} has {pieces:,} pieces, the model {vocab_size:,} embeddings: no text has the "
            f"ids from {pieces:,} on. (If it should have them, it is not the model's vocabulary.)"
        )


def check_same_vocabulary(
    vocabulary: Vocabulary, path: str, stored: Vocabulary, stored_path: str, option: str
) -> None:
    """Checks that a vocabulary that was given for a model is the one that lies beside it.

    Raises:
        UserError: they differ; names the first line.
    """
    if difference := vocabulary_difference(stored, vocabulary):
        raise UserError(
            "The vocabulary is not the one that the model was trained with.",
            where=path,
            received=f"compared with {stored_path}, {difference}",
            remedy=f"Leave {option} out: the model's vocabulary is then used.",
        )


def vocabulary_difference(stored: Vocabulary, given: Vocabulary) -> str | None:
    """Says where two vocabularies first differ; None if they are the same."""
    if stored.tokens == given.tokens:
        return None
    pairs = enumerate(itertools.zip_longest(stored.tokens, given.tokens), 1)
    number, (before, after) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    there, here = ("no piece" if p is None else shown(p) for p in (before, after))
    return f"line {number} differs: {there} there, {here} here"


def _read_bytes(path: str) -> bytes:
    try:
        return files.read_bytes(path, _MAX_BYTES)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise UserError(
            "There is no vocabulary file." if missing else "The vocabulary can't be read.",
            where=path,
            received="no such file" if missing else files.reason(error),
            remedy="Give a file with one word piece per line; build_vocabulary.py makes one from "
            "your text.",
        ) from error


def _check_unique(tokens: Sequence[str], path: str) -> None:
    places: dict[str, list[int]] = {}
    for number, token in enumerate(tokens, start=1):
        if not is_blank(token):
            places.setdefault(token, []).append(number)
    twice = {token: lines for token, lines in places.items() if len(lines) > 1}
    if not twice:
        return
    free = free_names(places)
    found, renames = [], []
    for token, lines in twice.items():
        # Examples are padded with id 0 in any case.
        counts = lines[0] if token == PAD else lines[-1]
        lines_named = " and ".join(filter(None, [", ".join(map(str, lines[:-1])), str(lines[-1])]))
        found.append(f"{token!r} on lines {lines_named}, of which line {counts} counts")
        renames += [f"line {line} to {next(free)}" for line in lines if line != counts]
    raise UserError(
        "The vocabulary has a piece twice."
        if len(twice) == 1
        else f"The vocabulary has {len(twice)} pieces more than once.",
        where=f"{path}, lines " + " and ".join(map(str, next(iter(twice.values())))),
        received=first_of(found, len(found)),
        remedy=f"No text has the ids of the lines that don't count. Rename them, so that all ids "
        f"stay as they are: {', '.join(renames)}.",
    )


def free_names(taken: Container[str]) -> Iterator[str]:
    """Yields names for pieces that no text has and that are not taken."""
    return (name for i in itertools.count() if (name := f"[unused{i}]") not in taken)


def _check_special_tokens(tokens: list[str], path: str) -> None:
    known = set(tokens)
    missing = [token for token in SPECIAL_TOKENS if token not in known]
    if missing:
        first = tokens[0] if tokens else ""
        marked = first.startswith(BYTE_ORDER_MARK)
        raise UserError(
            f"The vocabulary lacks {', '.join(missing)}.",
            where=path,
            received=f"{len(tokens)} pieces, the first {shown(first)}"
            if tokens
            else "an empty file",
            remedy="Save the file without a byte order mark."
            if marked
            else "Each of [PAD] [UNK] [CLS] [SEP] [MASK] needs a line (for a trained model that of "
            "the token in its role, such as <s> for [CLS], or else one of [unused…], so that no id "
            "changes); is this a WordPiece vocabulary? "
            "build_vocabulary.py makes one from your text.",
        )
    if tokens[0] != PAD:
        raise UserError(
            "[PAD] is not the first piece of the vocabulary.",
            where=f"{path}, line {tokens.index(PAD) + 1}",
            received=f"[PAD] has id {tokens.index(PAD)}; id 0 is {shown(tokens[0])}",
            remedy="Examples are padded with id 0. Exchange the two lines, unless a model was "
            "trained with this file: such a model can't be used here.",
        )
