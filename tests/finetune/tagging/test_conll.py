"""Reading files of words and tags, and from words to pieces."""

import importlib.util

import pytest

from electra_tf2.errors import UserError
from finetune.tagging.conll import Columns, read_sentences, word_ids
from tests.finetune.tagging.tagging_samples import ids, tokenizer


def _read(tmp_path, text, columns=None, with_tags=True):
    path = tmp_path / "file.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sentences(str(path), columns or Columns(), with_tags=with_tags)


def _pairs(sentences):
    return [list(zip(s.words, s.tags, strict=True)) for s in sentences]


def test_first_and_last_column(tmp_path):
    sentences = _read(tmp_path, "a DT B-NP\nb\t NN  I-NP\r\n\n\n \t\nc X O\n\n")
    assert _pairs(sentences) == [[("a", "B-NP"), ("b", "I-NP")], [("c", "O")]]
    assert [s.lines for s in sentences] == [(1, 2), (6,)]
    assert sentences[0].num_columns == 3


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n"])
def test_the_last_sentence_is_kept(tmp_path, end):
    assert len(_read(tmp_path, f"a O\n\nb O\nc O{end}")) == 2


def test_document_starts_are_skipped(tmp_path):
    text = "-DOCSTART- -X- -X- O\n\na NN NP O\n\n-DOCSTART- -X- -X- O\n\nb NN NP O\n"
    assert _pairs(_read(tmp_path, text)) == [[("a", "O")], [("b", "O")]]
    tabs = Columns(tag=1, separator="\t")
    assert _pairs(_read(tmp_path, "-DOCSTART- -X-\n\nNew York\tB\n", tabs)) == [[("New York", "B")]]


def test_only_a_newline_ends_a_line(tmp_path):
    # U+2028 and U+0085 end lines for str.splitlines, and separate columns for str.split.
    assert _pairs(_read(tmp_path, "a\u2028x O\nb\x85y B\n")) == [[("a", "O"), ("b", "B")]]


def test_other_columns(tmp_path):
    text = "1,the dog,x,O\n2,barks,y,B-V\n"
    assert _pairs(_read(tmp_path, text, Columns(1, 3, ","))) == [
        [("the dog", "O"), ("barks", "B-V")]
    ]
    assert _pairs(_read(tmp_path, text, Columns(-2, 0, ","))) == [[("x", "1"), ("y", "2")]]


def test_tags_may_be_absent_where_they_are_not_read(tmp_path):
    (sentence,) = _read(tmp_path, "a\nb\n", with_tags=False)
    assert sentence.words == ("a", "b") and sentence.tags == ()


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    assert _read(tmp_path, b"\xef\xbb\xbfa O\n")[0].words == ("a",)


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("a O\n\nb\n", Columns(), ["file.txt, line 3", "'b'", "lacks its word or its tag"]),
        ("a O\nb B\n", Columns(tag=2), ["line 1", "'a O'", "tag in column 2"]),
        ("a O\n", Columns(tag=-3), ["line 1", "column -3"]),
        ("a b\nO\n", Columns(1, -1), ["line 1", "'a b'"]),  # the same column
        ("a\tO\n\tO\n", Columns(separator="\t"), ["line 2", "separated by '\\t'"]),
        ("a\tO\nb\t\n", Columns(separator="\t"), ["line 2", "'b'"]),
        ("", Columns(), ["empty", "file.txt"]),
        (" \n\n", Columns(), ["empty", "file.txt"]),
        ("-DOCSTART- -X- O\n\n", Columns(), ["no sentence", "file.txt"]),
        ("a O\né O\n".encode("latin-1"), Columns(), ["not UTF-8", "file.txt, line 2", "0xe9"]),
    ],
)
def test_bad_files(tmp_path, text, columns, expected):
    with pytest.raises(UserError) as error:
        _read(tmp_path, text, columns)
    for part in expected:
        assert part in str(error.value)


def test_a_missing_file(tmp_path):
    (tmp_path / "other.txt").write_text("a O\n")
    with pytest.raises(UserError, match="(?s)train.txt.*folder holds other.txt"):
        read_sentences(str(tmp_path / "train.txt"), Columns(), with_tags=True)


WORDS = [
    ("barks", ["bark", "##s"]),
    ("BARKS", ["bark", "##s"]),
    ("u.", ["u", "."]),
    ("u.-u,", ["u", ".", "-", "u", ","]),
    ("é", ["e"]),
    ("cat", ["[UNK]"]),
    ("cat,", ["[UNK]", ","]),
    ("a" * 201, ["[UNK]"]),
    # Ordinary text, not special tokens.
    ("[CLS]", ["[", "cls", "]"]),
    ("[SEP]", ["[", "sep", "]"]),
    # Ideographs don't stand alone: a piece that continues the word matches.
    ("中文", ["中", "##文"]),
    ("文中", ["[UNK]"]),
    ("E\u0301中文.", ["[UNK]", "."]),
    # Words of which cleaning leaves nothing.
    ("\u200b", ["[UNK]"]),
    ("\ufffd", ["[UNK]"]),
    ("\u0301", ["[UNK]"]),
    # Characters within words that cleaning drops.
    ("an\u200bna", ["anna"]),
    ("中\ufffd文", ["中", "##文"]),
    # Words with spaces come from files with another separator.
    ("new york", ["new", "york"]),
    ("中文 york", ["中", "##文", "york"]),
]
IMPLEMENTATIONS = ["reference"] + ["fast"] * bool(importlib.util.find_spec("tensorflow_text"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pieces(implementation):
    found = word_ids(tokenizer(implementation=implementation), [word for word, _ in WORDS])
    assert found == {word: ids(*pieces) for word, pieces in WORDS}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_case_is_kept_where_the_tokenizer_keeps_it(implementation):
    cased = tokenizer(lower_case=False, implementation=implementation)
    assert word_ids(cased, ["Anna", "anna", "ANNA", "é", "[CLS]", "U中"]) == {
        "Anna": ids("Anna"),
        "anna": ids("anna"),
        "ANNA": ids("[UNK]"),
        "é": ids("[UNK]"),
        "[CLS]": ids("[", "[UNK]", "]"),
        "U中": ids("[UNK]"),
    }


def test_each_distinct_word_is_tokenized_once(monkeypatch):
    reference = tokenizer()
    calls = []
    encode = reference.encode_lines
    monkeypatch.setattr(
        reference, "encode_lines", lambda lines: calls.append(lines) or encode(lines)
    )
    assert word_ids(reference, ["the", "dog", "the"]) == {"the": ids("the"), "dog": ids("dog")}
    assert calls == [["the", "dog"]]
    assert word_ids(reference, []) == {}
