"""Reading files of words and tags, of every layout that people have."""

import dataclasses
import json

import pytest

from electra_tf2.errors import UserError
from finetune.tagging.conll import TagReader, read_sentences
from finetune.tagging.layout import Columns, Layout


def _file(tmp_path, text, columns=None, with_tags=True, trained=None):
    path = tmp_path / "file.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sentences(str(path), columns or Columns(), with_tags=with_tags, trained=trained)


def _read(tmp_path, text, columns=None, with_tags=True):
    return _file(tmp_path, text, columns, with_tags).sentences


def _pairs(sentences):
    return [list(zip(s.words, s.tags, strict=True)) for s in sentences]


def test_first_and_last_column(tmp_path):
    file = _file(tmp_path, "a DT B-NP\nb\t NN  I-NP\r\n\n\n \t\nc X O\n\n")
    sentences = file.sentences
    assert _pairs(sentences) == [[("a", "B-NP"), ("b", "I-NP")], [("c", "O")]]
    assert [s.lines for s in sentences] == [(1, 2), (6,)]
    assert file.num_columns == 3


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
        ("a,O\n,O\n", Columns(separator=","), ["line 2", "separated by ','"]),
        ("a\tO\nb\t\n", Columns(separator="\t"), ["line 2", "'b'"]),
        ("", Columns(), ["empty", "file.txt"]),
        (" \n\n", Columns(), ["empty", "file.txt"]),
        ("-DOCSTART- -X- O\n\n", Columns(), ["no sentence", "file.txt"]),
        ("# a comment\n## another\n", Columns(), ["no sentence", "file.txt"]),
        ("a O\nb,O\n", Columns(), ["line 2", "'b,O'", '"separator": ","']),
        ("a b\tO O\nc d e\tO O\nf g\tO B\n", Columns(), ["line 2", "3 words and 2 tags"]),
        ("a b\tO O\n" * 20 + "c d\n", Columns(), ["line 21", "2 words and 0 tags"]),
        ("a b\tO\n" * 20 + "c d\n", Columns(), ["line 21", "'c d'", "lacks its word or its tag"]),
        ("a/O b/B\n" * 20 + "c/O d\n", Columns(), ["line 21", "'c/O d'"]),
        ('{"tokens": ["a"], "tags": ["O"]}\n', Columns(), ["file.txt", "JSON"]),
        ("1\ta\tO\n2\tb\tO\n3\tc\tO\n\n1\td\tO\n", Columns(), ["line 1", "numbers them"]),
        ("1-2\tab\tO\n1\ta\tO\n2\tb\tO\n3\tc\tO\n3.1\td\tO\n", Columns(), ["numbers them"]),
        ("doc a -\ndoc b (1)\ndoc c -\n\ndoc d -\n", Columns(), ["line 1", "is the same"]),
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


def test_cells_between_tabs_are_kept_as_they_are(tmp_path):
    text = "10\u00a0000\tB-AMT\nS. A. \tO\n \tO\n\u3000\tO \n\tO\n"
    for columns in (Columns(), Columns(separator="\t")):
        file = _file(tmp_path, text, columns)
        assert file.sentences[0].words == ("10\u00a0000", "S. A. ", " ", "\u3000", "")
        assert file.sentences[0].tags == ("B-AMT", "O", "O", "O", "O")
        assert file.layout == Layout("\t")
        assert [w for w in file.warnings if "1 words are empty, the first on line 5" in w]


@pytest.mark.parametrize("space", "\xa0\u2009\u202f\u3000")
def test_only_an_ordinary_space_separates_columns(tmp_path, space):
    (sentence,) = _read(tmp_path, f"5{space}% B-AMT\n{space}\n" + "a O\n" * 2)[:1]
    assert sentence.words == (f"5{space}%",) and sentence.tags == ("B-AMT",)


@pytest.mark.parametrize(
    "text",
    [
        "a\tDT O\nb\tNN B\n",  # tabs and spaces, for the eye
        "a\t\tDT\tO\nb\tNN\tB\n",  # tabs to align
        "a\tDT\tO\nb NN B\n",
    ],
)
def test_tabs_that_are_mere_white_space(tmp_path, text):
    file = _file(tmp_path, text, Columns(tag=2))
    assert _pairs(file.sentences) == [[("a", "O"), ("b", "B")]] and file.layout == Layout()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    text = "\ufeff# id = 1\na\tO\nb\tB\n\nc\tO\n".replace("\n", end)
    assert _pairs(_read(tmp_path, text)) == [[("a", "O"), ("b", "B")], [("c", "O")]]


COMMENTS = {
    "before sentences": ("# id = 1\na DT O\n\n#id=2\nb DT O\n", 2),
    "with tabs and as many columns": (
        "## column 1 : CHAR\tTAG\n## id\t<a:LC> b.\na\tO\n\n## id\t<b>\nb\tO\n",
        3,
    ),
    "a number sign and columns": ("#\thttp://x y\nq\ta\tO\n\n#\tz\nq\tb\tO\n", 2),
    "between words": ("a DT O\n# a gap\n\nb DT O\n", 1),
    "a field with as many columns": ("#text = a .\na DT . O\n\n#text = b O\nb DT . O\n", 2),
    "a field with tabs": ("#text=a\tx\na\tO\n\n#s_B=b_B\nb\tO\n", 2),
    "documents with as many columns": (
        "#begin document\na O\n\n#end document\n#begin document\nb O\n#end document\n",
        4,
    ),
    "documents without empty lines": (
        "#begin document (x); part 000\na\tO\n#end document\n##begin document (y)\nb\tO\n",
        3,
    ),
    "of OntoNotes": ("#begin document (x); part 0\na DT O\n\n#end document\nb DT O\n", 2),
}


@pytest.mark.parametrize("kind", COMMENTS)
def test_comments_are_left_out_and_counted(tmp_path, kind):
    text, number = COMMENTS[kind]
    columns = Columns(word=1) if "#\t" in text else Columns()
    file = _file(tmp_path, text, columns)
    assert _pairs(file.sentences) == [[("a", "O")], [("b", "O")]]
    assert f"{number} lines are comments" in "".join(file.notes)


def test_a_number_sign_may_be_a_word(tmp_path):
    text = "# # B-NP\n500 CD I-NP\n\n#tag NN B-NP\n# # I-NP\n#odd NN B-NX\n"
    first, second = _read(tmp_path, text)
    assert first.words == ("#", "500") and second.words == ("#tag", "#", "#odd")
    words = _read(tmp_path, "#tag\n#\nthe\n# a comment\n", with_tags=False)
    assert words[0].words == ("#tag", "#", "the")
    tweets = "#MeToo HT\nis V\n\n#a=b O\nin O\n#c = O\n"  # a tag that only hashtags have
    found = [each.words for each in _read(tmp_path, tweets, Columns(0, -1))]
    assert found == [("#MeToo", "is"), ("#a=b", "in", "#c")]


@pytest.mark.parametrize(
    "text", ["#text = a b\na/B-X b/O\nc/O d/O\n", "a b\tB-X O\n#end document\nc d\tO O\n"]
)
def test_comments_between_sentences_of_a_line(tmp_path, text):
    words = [sentence.words for sentence in _read(tmp_path, text)]
    assert words == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_the_tag_of_the_number_sign(tmp_path, separator):
    text = "of IN\n# #\n5 CD\n\n# #\n6 CD\n".replace(" ", separator)
    assert _pairs(_read(tmp_path, text)) == [
        [("of", "IN"), ("#", "#"), ("5", "CD")],
        [("#", "#"), ("6", "CD")],
    ]


def test_rows_of_a_sentence_are_no_comments(tmp_path):
    assert _read(tmp_path, "of\tIN\n#\tSYM\n5\tCD\n")[0].words == ("of", "#", "5")


def test_conll_u(tmp_path):
    rows = ["# text = du vin", "1-2\tdu\t_\t_", "1\tde\tADP\t_", "2\tle\tDET\t_"]
    rows += ["2.1\tbu\tVERB\t_", "3\tvin\tNOUN\t_"]
    file = _file(tmp_path, "\n".join(rows), Columns(1, 2))
    assert _pairs(file.sentences) == [[("de", "ADP"), ("le", "DET"), ("vin", "NOUN")]]
    assert "2 ranges and empty nodes" in "".join(file.notes)
    # Words of this form are words where the first column is that of the words.
    assert _read(tmp_path, "1-2 O\n3 O\n")[0].words == ("1-2", "3")


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("a b c\tO B I\nd\tO\ne f\tB O\n", Layout("\t", "sentence")),
        ("a/O b/B c/I\nd/O\n\ne/B f/O\n", Layout(None, "/")),
        ("a_O b_B c_I\nd_O\ne_B f_O\n", Layout(None, "_")),
    ],
)
def test_a_sentence_per_line(tmp_path, text, layout):
    file = _file(tmp_path, text)
    assert file.layout == layout and "each line is a sentence" in "".join(file.notes)
    expected = [[("a", "O"), ("b", "B"), ("c", "I")], [("d", "O")], [("e", "B"), ("f", "O")]]
    assert _pairs(file.sentences) == expected
    assert [s.lines for s in file.sentences][0] == (1, 1, 1)
    # The same words without tags, as they are predicted.
    bare = _file(tmp_path, "a b/c\nd\n", with_tags=False, trained=layout)
    assert [s.words for s in bare.sentences] == [("a", "b/c"), ("d",)]


def test_words_with_spaces_to_predict(tmp_path):
    trained = Layout("\t")
    file = _file(tmp_path, "New York\nBern\n", with_tags=False, trained=trained)
    assert file.sentences[0].words == ("New York", "Bern")
    columns = _file(tmp_path, "York O\nBern O\n", with_tags=False, trained=trained)
    assert columns.sentences[0].words == ("York", "Bern")


def test_columns_that_vary_are_warned_of(tmp_path):
    file = _file(tmp_path, "a O\nNew York B\nb O\nc O\n")
    assert file.num_columns == 2
    assert "1 lines don't have 2 columns" in file.warnings[0] and "line 2" in file.warnings[0]
    assert not _file(tmp_path, "a O\n\nb O\n").warnings
    predicates = "a * O\nb * O\n\nc * * O\nd * * O\n"  # as many as a sentence has
    for with_tags in (True, False):
        assert not _file(tmp_path, predicates, with_tags=with_tags).warnings


def test_a_file_without_an_empty_line_is_warned_of_once(tmp_path, caplog):
    path = tmp_path / "train.txt"
    path.write_text("a O\nb O\n" * 150)
    reader = TagReader()
    for _ in range(2):
        reader.read(str(path), Columns(), with_tags=True)
    assert caplog.text.count("no empty line") == 1 and "all 300 words" in caplog.text
    assert not _file(tmp_path, "a O\nb O\n" * 10).warnings


@pytest.mark.parametrize("end", ["-DOCSTART-\tO", "EOS", "\u200b", "\ufeff", "\u3000", "\t\t"])
def test_lines_that_end_a_sentence(tmp_path, end):
    text = f"a\tO\n{end}\nb\tO\n"
    for columns in (Columns(), Columns(separator="\t")):
        assert _pairs(_read(tmp_path, text, columns)) == [[("a", "O")], [("b", "O")]]


def test_marks_of_joined_files_are_no_part_of_lines(tmp_path):
    text = "# c\na\tO\n\n\ufeff# c\n\ufeffb\tO\n"
    assert _pairs(_read(tmp_path, text)) == [[("a", "O")], [("b", "O")]]


ADDED = {
    "language": ("en:New\tB\nen:York\tI\nzh-min-nan::\tO\n", ("New", "York", ":")),
    "digit": ("科0\tB\n技1\tI\n10\tO\n", ("科", "技", "1")),
}


@pytest.mark.parametrize("added", ADDED)
def test_what_a_data_set_adds_to_every_word_is_left_out(tmp_path, added):
    text, words = ADDED[added]
    file = _file(tmp_path, text)
    assert file.sentences[0].words == words and "left out" in file.notes[0]
    trained = _trained(tmp_path, text)
    assert trained.added == added
    for lines, expected in ((text, words), (text.partition("\t")[0], words[:1])):
        found = _file(tmp_path, lines, with_tags=False, trained=trained)
        assert found.sentences[0].words == expected
    plain = _file(tmp_path, "科\n技\n", with_tags=False, trained=trained)
    assert plain.sentences[0].words == ("科", "技")


@pytest.mark.parametrize("added", ADDED)
def test_additions_are_kept_where_they_were_in_training(tmp_path, added):
    text = ADDED[added][0]
    for with_tags in (True, False):
        (sentence,) = _file(tmp_path, text, with_tags=with_tags, trained=Layout("\t")).sentences
        assert sentence.words == tuple(line.split("\t")[0] for line in text.splitlines())


@pytest.mark.parametrize("text", ["en:New\tB\nYork\tI\n", "https://a\tO\n", "a1\tB\nb0\tO\n"])
def test_what_only_looks_like_an_addition_is_kept(tmp_path, text):
    (sentence,) = _read(tmp_path, text)
    assert sentence.words == tuple(line.split("\t")[0] for line in text.splitlines())


@pytest.mark.parametrize("line", ["['EU', 'x']\t[3, 0]", "['EU' 'x']\t[3 0]", '["EU"]\t["O"]'])
def test_printed_lists_are_no_words(tmp_path, line):
    with pytest.raises(UserError, match="lists, not columns(?s:.*)line 2"):
        _read(tmp_path, f"a b\tO O\n{line}\nc d\tO O\n")
    brackets = "[ a ]\tO B-X O\n"
    assert _read(tmp_path, brackets)[0].words == ("[", "a", "]")


def test_tags_before_their_words(tmp_path):
    text = "O\tshow\nB-ACTOR\tsteve\nI-ACTOR\tmcqueen\n"
    with pytest.raises(UserError, match='holds tags(?s:.*)line 1(?s:.*)"word_column": 1'):
        _read(tmp_path, text)
    (sentence,) = _read(tmp_path, text, Columns(1, 0))
    assert sentence.words == ("show", "steve", "mcqueen")


def test_names_of_columns_are_warned_of(tmp_path):
    file = _file(tmp_path, "Token\tPOS\na\tNN\nb\tDT\n")
    assert "line 1 looks like the names of the columns (Token, POS)" in file.warnings[0]


@pytest.mark.parametrize("text", ["a\t{}\nb\t{}\n", "a b\t{} {}\n", "a/{} b/{}\n"])
def test_tags_that_look_the_same_are_one(tmp_path, text):
    text = text.format("B-caf\u00e9", "\ufeffB-cafe\u0301\u200b")
    (sentence,) = _file(tmp_path, text * 2).sentences[:1]
    assert set(sentence.tags) == {"B-caf\u00e9"}


def test_sentences_are_no_words_to_predict(tmp_path):
    with pytest.raises(UserError, match="(?s)seems to be a sentence.*line 1.*2 to 4 words"):
        _read(tmp_path, "a b c d\na b\na b c\n", with_tags=False)


def _trained(tmp_path, text, columns=None):
    """What is stored of a training file and read again."""
    trained = _file(tmp_path, text, columns).trained
    return Layout(**json.loads(json.dumps(dataclasses.asdict(trained))))


@pytest.mark.parametrize("separator", ["\t", " "])
def test_sentences_of_one_length_are_no_words_to_predict(tmp_path, separator):
    trained = _trained(tmp_path, "Anna X B\nleft X O\n".replace(" ", separator))
    for text in ("a b c d\n", "a b c d\ne f g h\n"):
        with pytest.raises(UserError, match="(?s)seems to be a sentence.*line 1"):
            _file(tmp_path, text, with_tags=False, trained=trained)
    for text in ("a\nb\n", "a X\nb X\n", "a X B\nb X O\n"):
        (sentence,) = _file(tmp_path, text, with_tags=False, trained=trained).sentences
        assert sentence.words == ("a", "b")


def test_columns_may_be_left_out_of_what_is_predicted(tmp_path):
    """Sentences of one length are refused where there are few, as they may have it by chance."""
    trained = _trained(tmp_path, "Anna NNP I-NP B-PER\nleft VBD I-VP O\n")
    (sentence,) = _file(tmp_path, "a X\n" * 20, with_tags=False, trained=trained).sentences
    assert sentence.words == ("a",) * 20
    for text in ("a X\n" * 3, "a X\n" * 20 + "a X Y\n", "a b c d e\n" * 20):
        with pytest.raises(UserError, match="(?s)all columns of the training file"):
            _file(tmp_path, text, with_tags=False, trained=trained)


CHARACTERS = [
    "我 O\n爱 O\n上 B\n海 I\n。 O\n",
    "서\tB\n울\tI\n \tO\n갔\tO\n",
    "我 爱 上 海\tO O B I\n",
]


@pytest.mark.parametrize("train", CHARACTERS)
def test_sentences_are_no_characters_to_predict(tmp_path, train):
    trained = _trained(tmp_path, train)
    for text in ("今天天气好\n我们\n", "오늘은\n날씨가\n좋다\n"):
        with pytest.raises(UserError, match="(?s)single characters.*line 1"):
            _file(tmp_path, text, with_tags=False, trained=trained)
    for text in ("我\n爱\n2026\n", "서\nNASA\nEU\n"):
        assert _file(tmp_path, text, with_tags=False, trained=trained).sentences
    words = _trained(tmp_path, "我 O\n爱 O\n上海 B\n呢 O\n")
    assert _file(tmp_path, "今天天气好\n", with_tags=False, trained=words).sentences


@pytest.mark.parametrize("columns", [Columns(), Columns(separator="\t")])
def test_spaces_and_eos_are_words_to_predict_as_in_training(tmp_path, columns):
    def words(train):
        trained = _trained(tmp_path, train, columns)
        text = "我\n \n爱\n\nEOS\n国\n"
        file = _file(tmp_path, text, columns, with_tags=False, trained=trained)
        return [sentence.words for sentence in file.sentences]

    assert words("我\tO\n \tO\n爱\tB\n") == [("我", " ", "爱"), ("EOS", "国")]
    assert words("我\tO\n爱\tB\n\n") == [("我",), ("爱",), ("EOS", "国")]
    assert words("我\tO\nEOS\n爱\tB\nEOS\n") == [("我",), ("爱",), ("国",)]


@pytest.mark.parametrize("mark", ["\u200b", "\u200d\u2060"])
@pytest.mark.parametrize("columns", [Columns(), Columns(separator="\t")])
def test_words_without_a_width_are_words_to_predict_as_in_training(tmp_path, columns, mark):
    def words(train):
        trained = _trained(tmp_path, train, columns)
        text = f"a\n{mark}\nb\n \nc\n\nd\n"
        file = _file(tmp_path, text, columns, with_tags=False, trained=trained)
        return [sentence.words for sentence in file.sentences]

    assert words("a\tO\n\u200b\tO\nb\tB\n") == [("a", mark, "b"), ("c",), ("d",)]
    assert words("a\tO\nb\tB\n") == [("a",), ("b",), ("c",), ("d",)]


def test_words_alone_may_be_numbers(tmp_path):
    file = _file(tmp_path, "1\n2\n3\n", with_tags=False, trained=_trained(tmp_path, "a O\nb B\n"))
    assert file.sentences[0].words == ("1", "2", "3")
    with pytest.raises(UserError, match="numbers them"):
        _file(tmp_path, "1 a\n2 b\n3 c\n", with_tags=False)


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a B\nb\tO\n", None, (False, False)),
        ("10\xa0000 B\n", None, (True, False)),
        ("# c\na B\n", None, (True, False)),
        ("New York\tB\n", None, (True, False)),
        ("New York\tB\r\n", "\t", (False, False)),
        (" \tB\n", "\t", (True, False)),
        ("北京 B\n", None, (False, True)),
    ],
)
def test_files_that_an_earlier_version_read_otherwise(tmp_path, text, separator, expected):
    (tmp_path / "file.txt").write_text(text)
    paths = [str(tmp_path / name) for name in ("file.txt", "missing.txt")]
    assert TagReader.differences(paths, Columns(separator=separator)) == expected
