"""Vocabulary files: what is read, and what is refused."""

import hashlib
import json
import re
import subprocess

import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import (
    SPECIAL_TOKENS,
    check_vocabulary_size,
    load_vocabulary,
    read_vocabulary_text,
)

SPECIAL = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"


def write(folder, content: str | bytes) -> str:
    path = folder / "vocab.txt"
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return str(path)


def test_reads_tokens_ids_and_digest(tmp_path):
    vocabulary = load_vocabulary(write(tmp_path, SPECIAL + "the\n##é"))

    assert vocabulary.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##é")
    assert len(vocabulary) == 7
    assert vocabulary.ids["##é"] == 6
    assert [vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id] == [0, 1, 2]
    assert [vocabulary.sep_id, vocabulary.mask_id] == [3, 4]
    assert vocabulary.sha256 == hashlib.sha256("\n".join(vocabulary.tokens).encode()).hexdigest()


def test_lines_are_stripped_and_end_at_newlines_only(tmp_path):
    content = SPECIAL.replace("\n", " \r\n") + "\u00a0a\u2028b\t\n"
    assert load_vocabulary(write(tmp_path, content)).tokens[4:] == ("[MASK]", "a\u2028b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SPECIAL + "a\nb\na\n", "lines 6 and 8"),
        (SPECIAL + "a\n a \n", "lines 6 and 7"),
        (SPECIAL.encode() + b"a\n\xff\n", "line 7"),
        (SPECIAL.replace("[UNK]\n", "").replace("[SEP]\n", ""), "lacks [UNK], [SEP]"),
        ("a\n" + SPECIAL, "[PAD] has id 1"),
        ("\ufeff" + SPECIAL, "byte order mark"),
        ("", "an empty file"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_vocabulary(path)
    assert message in str(caught.value)
    assert path in caught.value.where
    assert caught.value.received is not None and caught.value.remedy


def test_following_the_remedy_for_carriage_returns(tmp_path):
    path = write(tmp_path, "\r".join([*SPECIAL_TOKENS, "bread"]))
    with pytest.raises(UserError, match="carriage returns") as caught:
        load_vocabulary(path)
    subprocess.run(str(caught.value.remedy).partition(": ")[2], shell=True, check=True)
    assert load_vocabulary(path).tokens == (*SPECIAL_TOKENS, "bread")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="There is no vocabulary file"):
        load_vocabulary(str(tmp_path / "none.txt"))


def test_unreadable_file(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        load_vocabulary(str(tmp_path))


def test_each_piece_needs_an_embedding(tmp_path, capsys):
    path = write(tmp_path, SPECIAL)
    vocabulary = load_vocabulary(path)
    check_vocabulary_size(vocabulary, 5, path)
    assert not capsys.readouterr().err
    check_vocabulary_size(vocabulary, 8, path)
    assert "5 pieces, the model 8 embeddings" in capsys.readouterr().err
    with pytest.raises(UserError, match="fewer pieces than the model has embeddings"):
        check_vocabulary_size(vocabulary, 8, path, may_be_more=False)
    for option, remedy in (("vocab_size", "Set vocab_size to 5"), (None, "was trained with")):
        with pytest.raises(UserError, match="5 pieces in the file, ") as error:
            check_vocabulary_size(vocabulary, 4, path, option)
        assert error.value.where == path and remedy in error.value.remedy


BLANKS = ("\u2028", "\u00a0", "\u3000", "\x85", "##\u2028", "", " ")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_white_space_keeps_its_id_and_never_matches(tmp_path, ending):
    pieces = (*SPECIAL.split(), "a", *BLANKS, "##b", "\u2028", "c")
    path = write(tmp_path, "".join(piece + ending for piece in pieces))
    vocabulary = load_vocabulary(path)
    assert vocabulary.tokens == pieces
    for implementation in ("fast", "reference"):
        tokenizer = make_tokenizer(vocabulary, implementation=implementation)
        text = "ab \u2028c\u00a0\u3000 ##\u2028 c\x85"
        assert tokenizer.tokenize(text) == ["a", "##b", "c", "[UNK]", "[UNK]", "c"]


def test_empty_lines_at_the_end_are_no_pieces(tmp_path):
    assert len(load_vocabulary(write(tmp_path, SPECIAL + "a\n\n\r\n"))) == 6


def test_all_repeated_pieces_are_told_and_the_remedy_holds(tmp_path):
    lines = [*SPECIAL.split(), "x", "y", "x", "[unused0]", "z", "x", "[PAD]", "y", "[unused2]"]
    path = write(tmp_path, "\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        load_vocabulary(path)
    assert "'x' on lines 6, 8 and 11, of which line 11 counts" in error.value.received
    assert "'[PAD]' on lines 1 and 12, of which line 1 counts" in error.value.received
    renames = re.findall(r"line (\d+) to (\S+?)[,.]", error.value.remedy)
    assert len(renames) == 4
    for line, name in renames:
        lines[int(line) - 1] = name
    write(tmp_path, "\n".join(lines) + "\n")
    ids = load_vocabulary(path).ids
    # Where the official program, which keeps the last one, has them.
    assert [ids[piece] for piece in ("x", "y", "z", "[PAD]")] == [10, 12, 9, 0]


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json"])
@pytest.mark.parametrize("layout", ["tokenizer", "compact", "marked", "ids", "list"])
def test_json_is_recognized_whatever_its_name(tmp_path, name, layout):
    pieces = [*SPECIAL.split(), "a", "\u2028", "", "##b", "\n", " c", "c"]
    stored = {piece: i for i, piece in enumerate(pieces) if piece}
    if layout == "list":
        stored = pieces
    elif layout != "ids":
        model = {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": stored}
        stored = {"version": "1.0", "model": model, "added_tokens": [{"id": 12, "content": "new"}]}
    text = json.dumps(stored, indent=None if layout == "compact" else 2)
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8-sig" if layout == "marked" else "utf-8"))
    vocabulary = load_vocabulary(str(path))
    added = ("new",) if layout in ("tokenizer", "compact", "marked") else ()
    # What can't stand on a line and never matches becomes an empty piece.
    assert vocabulary.tokens == (*SPECIAL.split(), "a", "\u2028", "", "##b", "", "", "c", *added)
    copy = tmp_path / "copy.txt"
    copy.write_bytes(read_vocabulary_text(str(path)))
    assert load_vocabulary(str(copy)) == vocabulary


def test_the_last_piece_in_json_keeps_its_id(tmp_path):
    path = write(tmp_path, json.dumps([*SPECIAL.split(), "a", "b ", "c "]))
    assert len(load_vocabulary(path)) == len(SPECIAL.split()) + 3


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ("{", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "kind BPE"),
        ('{"model": [1]}', "no tokenizer"),
        ('{"a": "b"}', "'a' with the id 'b'"),
        ('{"a": -1}', "'a' with the id -1"),
        ('{"a": true}', "'a' with the id True"),
        ('{"a": 1000000000}', "the last with the id 1000000000"),
        ("{}", "no pieces"),
        ('["a", 1]', "not one of pieces"),
        ("[]", "not one of pieces"),
        ('{"[PAD]": 0, "a": 1, "b": 1}', "the id 1 for 'a' and for 'b'"),
    ],
)
def test_json_that_is_no_vocabulary(tmp_path, content, received):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        load_vocabulary(str(path))
    assert error.value.where == str(path) and received in error.value.received


def test_a_list_in_json_with_a_piece_twice(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps([*SPECIAL.split(), "a", "b", "a"]))
    with pytest.raises(UserError, match="has a piece twice"):
        load_vocabulary(str(path))


def test_a_file_of_one_long_line_is_not_shown_whole(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"a" * 3_000_000)
    with pytest.raises(UserError, match="lacks") as error:
        load_vocabulary(str(path))
    assert len(str(error.value)) < 1000
