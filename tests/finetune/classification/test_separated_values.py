"""TSV and CSV as Excel, pandas and databases write them."""

import pytest

from electra_tf2.errors import UserError
from finetune.classification.separated_values import Dialect, split_cells

COLUMNS = ("text", "label")
# What pandas writes with to_csv(sep="\t"), and what Excel does: see the quotes.
QUOTED = (
    'label\ttext\r\nbon\t"Très bon, ""super"" !"\r\nbon\t"Ligne 1\nLigne 2"\r\nmauvais\tdéçu\r\n'
)


def split(text, usual=",", dialect=None, columns=COLUMNS, header=True):
    rows = split_cells(text, "x", dialect or Dialect(), usual=usual, columns=columns, header=header)
    return [cells for _, cells in rows]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("usual", [",", "\t"])
def test_separators_are_recognized_by_the_header(separator, usual):
    text = f"id{separator}text{separator}label\n7{separator}a, b; c{separator}1\n"
    if separator in ",;":
        text = text.replace("a, b; c", '"a, b; c"')
    assert split(text, usual) == [["id", "text", "label"], ["7", "a, b; c", "1"]]


def test_a_header_in_other_capitals_tells_the_separator():
    assert split("Text ;LABEL\na,b;1\n")[0] == ["Text ", "LABEL"]


def test_separators_are_recognized_by_lines_without_a_header():
    rows = ["a, b;1", "c;0"]
    assert split("\n".join(rows), columns=(0, 1), header=False) == [["a, b", "1"], ["c", "0"]]


def test_a_single_column_is_not_split():
    assert split("text\na;b\nc|d\n") == [["text"], ["a;b"], ["c|d"]]


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=^\n", "sep=\t\n"])
def test_the_line_that_names_the_separator_for_excel(first):
    separator = first.strip("\r\n").strip('"')[-1]
    text = f'{first}text{separator}label\n"a\nb"{separator}1\nc{separator}0\n'
    rows = split_cells(text, "x", Dialect(), usual=",", columns=COLUMNS, header=True)
    assert [tuple(row) for row in rows] == [
        (2, ["text", "label"]),
        (3, ["a\nb", "1"]),
        (5, ["c", "0"]),
    ]


def test_a_given_separator_stands():
    text = "text,label;x\na,b;1\n"
    assert split(text, dialect=Dialect(";")) == [["text,label", "x"], ["a,b", "1"]]


def test_quotes_that_pandas_puts_around_cells_of_tsv_are_marks(caplog):
    assert split(QUOTED, "\t") == [
        ["label", "text"],
        ["bon", 'Très bon, "super" !'],
        ["bon", "Ligne 1\nLigne 2"],
        ["mauvais", "déçu"],
    ]
    assert "taken for marks" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        'text\tlabel\n"Ligne 1\nLigne 2"\t1\n',
        'text\tlabel\n"a ""b"""\t1\n',
        '"text"\t"label"\n"a"\t"1"\n',
        'text\tlabel\n"a, b"\t1\nc\t0\n"d, e"\t1\n',  # as Excel writes "Unicode text"
    ],
)
def test_signs_of_quotes_as_marks(text):
    assert '"' not in split(text, "\t")[1][0].replace('a "b"', "")


@pytest.mark.parametrize(
    "rows",
    [
        ['"Hello\t1', 'bye"\t0'],  # would swallow a line
        ['He said "hi"\t1', '"a ""b"""\t0'],  # a quote that belongs to no cell
        ['"a\t1', '"b ""c"""\t2'],
        ['"Go!"\t1', "a\t0", "b\t0"],
        ['5" x 7"\t1', "a\t0"],
        ['"a, b"\t1', "c, d\t0", '"e, f"\t0'],
        ['"a, b"\t1', "c\t0", '"Go!"\t0'],
        ['"a" and "b"\t1', "", "c\t0"],
    ],
)
def test_quotes_of_tsv_are_text_elsewhere(rows):
    text = "\n".join(["text\tlabel", *rows]) + "\n"
    assert split(text, "\t")[1:] == [row.split("\t") for row in rows]


@pytest.mark.parametrize("label", ['"x"', "1", "-0.5"])
def test_quotes_around_all_cells_but_numbers_are_marks(label):
    text = f'"Go!"\t{label}\r\n"He said"\t{label}\r\n'
    rows = split(text, "\t", columns=(0, 1), header=False)
    assert rows == [["Go!", label.strip('"')], ["He said", label.strip('"')]]


def test_cells_in_quotes_that_may_be_marks_are_warned_of(caplog):
    text = 'text\tlabel\n"a"\t1\n"b"\t0\n'
    assert split(text, "\t")[1] == ['"a"', "1"]
    assert '"quotes": true' in caplog.text
    assert split(text, "\t", Dialect(quotes=True))[1] == ["a", "1"]


@pytest.mark.parametrize("quotes", [None, False])
def test_a_literal_quote_does_not_hide_the_tabs(quotes):
    rows = ["good film\t1", '"Bad he said\t0', "great\t1"]
    found = split("\n".join(rows), "\t", Dialect(quotes=quotes), columns=(0, 1), header=False)
    assert found == [row.split("\t") for row in rows]


def test_the_advice_on_a_literal_quote_in_csv_works():
    text = 'good film,1\n"Bad he said,0\ngreat,1\n'
    with pytest.raises(UserError) as error:
        split(text, columns=(0, 1), header=False)
    assert '"quotes": false' in error.value.remedy
    found = split(text, dialect=Dialect(quotes=False), columns=(0, 1), header=False)
    assert found == [["good film", "1"], ['"Bad he said', "0"], ["great", "1"]]


@pytest.mark.parametrize("lines", [18, 19, 20])
def test_a_cell_may_span_the_last_line_that_is_compared(lines):
    text = "a,1\n" * lines + '"b\nc; ""d""\ne",0\n'
    found = split(text, columns=(0, 1), header=False)
    assert found == [["a", "1"]] * lines + [['b\nc; "d"\ne', "0"]]


@pytest.mark.parametrize(
    "text",
    [
        'text, label\n"a, b", "x"\n"c", "y"\n',
        'label, text\nx, "a, b"\ny, c\n',
        ' "text", "label"\n "a, ""b""", 1\n',
        '"text"; "label"\n"a; b"; "x"\n',
    ],
)
def test_quotes_behind_a_blank_are_marks(text, caplog):
    header, *rows = split(text)
    assert set(map(len, rows)) == {2} and {name.strip() for name in header} == {*COLUMNS}
    assert {"a, b", 'a, "b"', "a; b"} & set(rows[0]) and '"x' not in rows[0]
    assert "taken for a mark" in caplog.text


@pytest.mark.parametrize("row", ['1, "a" and b', '1, "a\n2, b"', '"1","a, ""b"", c"'])
def test_quotes_behind_a_blank_are_text_elsewhere(row, caplog):
    plain = [line.split(",") for line in row.split("\n")]
    quoted = [["1", 'a, "b", c']]
    is_quoted = row.startswith('"')
    assert split(f"label,text\n{row}\n")[1:] == (quoted if is_quoted else plain)
    assert ("taken for text" in caplog.text) is not is_quoted


def test_quotes_of_csv_can_be_text():
    assert split('text,label\n"a,1\n', dialect=Dialect(quotes=False))[1] == ['"a', "1"]


def test_lines_are_numbered_where_a_quote_is_not_closed():
    with pytest.raises(UserError) as error:
        split('sep=,\ntext,label\n"a\nb",1\n"c,1\nd,0\n')
    assert error.value.where == "x, line 5"
    assert '"quotes": false' in error.value.remedy


MEGABYTES = "c d e f " * 2_200_000  # more than a cell may have


def test_a_quote_that_is_not_closed_for_megabytes():
    with pytest.raises(UserError) as error:
        split(f'text,label\n"a, ""b""",1\n"{MEGABYTES}')
    assert error.value.where == "x, line 3" and '"quotes": false' in error.value.remedy


def test_quotes_of_tsv_around_megabytes_are_text():
    assert len(split(f'text\tlabel\n"a ""{MEGABYTES}"\t1\n', "\t")) == 2


def test_rows_of_blank_cells_at_the_end_are_not_rows():
    assert split("text,label,\na,1,\n,,\n , ,\n") == [["text", "label", ""], ["a", "1", ""]]


@pytest.mark.parametrize("text", [",,\n,,\n", "sep=;\n", " , \n"])
def test_a_file_without_rows_is_refused(text):
    with pytest.raises(UserError, match="is empty") as error:
        split(text)
    assert error.value.where == "x"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("usual", [",", "\t"])
def test_line_ends(end, usual):
    rows = [f"text{usual}label", f"a{usual}1", f"b{usual}0"]
    assert split(end.join(rows) + end, usual)[1:] == [["a", "1"], ["b", "0"]]


def test_a_cell_may_be_a_document():
    assert split("text,label\n" + "a" * 300_000 + ",1\n")[1][1] == "1"
