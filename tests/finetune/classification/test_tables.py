"""Rows of tables: columns by name, JSON lines and lists, fields within fields."""

import json
import unicodedata

import pytest

from electra_tf2.errors import UserError
from finetune.classification.tables import read_table
from tests.finetune.classification.classification_samples import write

COLUMNS = ("text", "label")


def cells(path, required=COLUMNS, **options):
    return [(row.line, *row.cells.values()) for row in read_table(path, required, **options)]


def problems(path, required=COLUMNS):
    return [(row.line, row.problem) for row in read_table(path, required) if row.problem]


def refusal(path, required=COLUMNS):
    with pytest.raises(UserError) as error:
        read_table(path, required)
    return error.value


ROWS = [{"text": "a", "label": 1}, {"text": "b, c", "label": "x"}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_objects_is_rows(tmp_path, name, indent):
    path = write(tmp_path / name, *json.dumps(ROWS, indent=indent).split("\n"))
    assert cells(path) == [
        (1 if indent is None else 2, "a", 1),
        (1 if indent is None else 6, "b, c", "x"),
    ]


def test_a_list_without_objects_is_empty(tmp_path):
    error = refusal(write(tmp_path / "x.json", "[]"))
    assert "is empty" in error.what and error.received == "a list without objects"


def test_a_list_with_a_mistake_names_its_line(tmp_path):
    path = write(
        tmp_path / "x.json", "[", '{"text": "a", "label": 1},', '{"text": "b" "label": 1}]'
    )
    assert refusal(path).where == f"{path}, line 3"


def test_lists_on_lines_are_not_rows(tmp_path):
    path = write(tmp_path / "x.jsonl", '["a", 1]', '["b", 0]')
    assert [line for line, _ in problems(path)] == [1, 2]


def test_fields_within_fields(tmp_path):
    rows = [
        {"a": {"b": "x", "c": {"d": 1}}},
        {"a": {"b": None, "c": {}}},
        {"a.b": "y", "a": {"c.d": 2}},
    ]
    path = write(tmp_path / "x.jsonl", *map(json.dumps, rows))
    assert cells(path, ("a.b", "a.c.d")) == [(1, "x", 1), (2,), (3, "y", 2)]


def test_a_missing_field_names_those_within_fields(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"text": "a", "gold": {"label": 1}}')
    error = refusal(path, ("text", "gold.lable"))
    assert error.where == f"{path}, line 1"
    assert "Did you mean 'gold.label'?" in error.remedy


@pytest.mark.parametrize("value", ["null", "NaN"])
def test_null_and_nan_are_no_value(tmp_path, value):
    line = f'{{"text": {value}, "label": 1}}'
    path = write(tmp_path / "x.jsonl", '{"text": "a", "label": 1}', line)
    ((number, problem),) = problems(path)
    assert number == 2 and "no value of 'text'" in problem


@pytest.mark.parametrize(
    "content",
    [
        '{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}}',  # pandas' to_json()
        '{"columns": ["text", "label"], "data": [["a", 1], ["b", 0]]}',  # orient="split"
        '{"text": ["a", "b"], "label": [1, 0]}',
        '{"data": [{"text": "a", "label": 1}]}',
        json.dumps({"version": 1, "data": ROWS}, indent=1),
        json.dumps(ROWS[0], indent=1),
    ],
)
def test_one_object_is_not_rows(tmp_path, content):
    path = write(tmp_path / "x.json", content)
    error = refusal(path)
    assert error.where == f"{path}, line 1"
    assert "one object" in error.what and "lines=True" in error.remedy


def test_one_row_may_hold_lists_besides(tmp_path):
    row = {"text": "a", "label": 1, "spans": [{"start": 0}], "meta": {}}
    assert cells(write(tmp_path / "x.jsonl", json.dumps(row))) == [(1, "a", 1)]


def test_bad_lines_of_json(tmp_path):
    lines = [
        '{"text": "a", "label": 1, "label": 0}',
        "[" * 100_000,
        "{}",
        '{"text": "a", "label": 1}',
    ]
    path = write(tmp_path / "x.jsonl", *lines)
    (first, deep, empty) = problems(path)
    assert first == (1, "it has the field 'label' twice")
    assert deep[0] == 2 and "not JSON" in deep[1]
    assert empty[0] == 3


def test_a_header_with_marks_spaces_and_other_capitals(tmp_path):
    path = write(tmp_path / "x.csv", "\ufeff\ufeff text , Label", "a,1")
    remedy = refusal(path).remedy
    assert "Did you mean 'Label'?" in remedy and "others have 'label', rename" in remedy
    assert cells(path, ("text", "Label")) == [(2, "a", "1")]


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("separator", [",", ";"])
def test_names_may_be_composed_or_decomposed(tmp_path, form, other, separator):
    names = ("문장", "caf\u00e9")
    header = separator.join(unicodedata.normalize(form, name) for name in ("a", *names))
    columns = tuple(unicodedata.normalize(other, name) for name in names)
    path = write(tmp_path / "x.csv", header, f"0{separator}x{separator}1")
    assert cells(path, columns) == [(2, "x", "1")]
    row = {"text": {name: 1 for name in header.split(separator)}}
    path = write(tmp_path / "x.jsonl", json.dumps(row))
    assert cells(path, [f"text.{column}" for column in columns]) == [(1, 1, 1)]


def test_a_file_without_a_header_is_told_from_a_wrong_name(tmp_path):
    path = write(tmp_path / "x.csv", "it was fun,1", "it was dull,0")
    error = refusal(path)
    assert error.where == f"{path}, line 1" and '"header": false' in error.remedy
    assert cells(path, (0, 1), header=False) == [(1, "it was fun", "1"), (2, "it was dull", "0")]


def test_a_column_that_occurs_twice_can_be_chosen_by_number(tmp_path):
    path = write(tmp_path / "x.csv", "text,label,text", "a,1,b")
    error = refusal(path)
    assert "several columns 'text'" in error.what and "number, from 0" in error.remedy
    assert cells(path, (2, "label")) == [(2, "b", "1")]


def test_rows_that_lack_columns_or_have_more(tmp_path, caplog):
    rows = ["a,1,x", "b,0", "c", "d,1,x,y", "e,1,x,", "text,label,note"]
    path = write(tmp_path / "x.csv", "text,label,note", *rows)
    assert [line for line, _ in problems(path)] == [4, 5, 7]
    assert "header again" in problems(path)[-1][1]
    assert "fewer columns than the header's 3: 1, the first on line 3" in caplog.text


@pytest.mark.parametrize(("first", "second"), [("a,1", "b, c,0"), ("b, c,0", "a,1")])
def test_rows_that_have_more_columns_than_most_without_a_header(tmp_path, first, second):
    path = write(tmp_path / "x.csv", first, second, "d,1")
    usable = [row for row in cells(path, (0, 1), header=False) if row[1:]]
    assert [row[1:] for row in usable] == [("a", "1"), ("d", "1")]
    assert usable[0][0] == 1 + (first != "a,1")
    bad = next(row for row in read_table(path, (0, 1), header=False) if row.problem)
    assert "3 columns where most rows have 2" in bad.problem


def test_a_row_that_is_taken_for_names_is_warned_of(tmp_path, caplog):
    path = write(tmp_path / "x.csv", "1,a", "0,b", "1,c")
    assert len(cells(path, (0, 1))) == 2
    assert '"header": false' in caplog.text and "'1' stands in other rows" in caplog.text
    caplog.clear()
    path = write(tmp_path / "x.csv", "label,text", "0,b", "label,text", "1,c")
    assert cells(path, (0, 1)) and not caplog.text


def test_an_unknown_separator_is_named(tmp_path):
    path = write(tmp_path / "x.tsv", "headline;verdict", "a;1")
    assert '"separator"' in refusal(path).remedy
