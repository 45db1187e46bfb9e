"""Reading files of questions, what is said where they are wrong, and answers as words."""

import gzip
import json
import logging as python_logging

import pytest

from electra_tf2.errors import UserError
from tests.finetune.qa.qa_samples import make_task, mrqa_lines, question, squad, write_squad

CONTEXT = "The cat sat on Steve's mat."
GOOD = question("q1", answers=[("cat", 4), ("The cat", 0)], is_impossible=False)
IMPOSSIBLE = question("q2", is_impossible=True)


@pytest.fixture
def warnings(caplog):
    """What is logged as a warning."""
    python_logging.getLogger("absl").propagate = True
    return caplog


def test_squad_for_training(tmp_path):
    write_squad(tmp_path, "train", (CONTEXT, [GOOD, IMPOSSIBLE]), ("in Paris", [IMPOSSIBLE]))
    first, second, third = make_task(tmp_path, "squad").get_examples("train")
    assert (first.eid, first.id, first.question, first.passage) == (0, "q1", "who sat?", CONTEXT)
    assert (first.answer, first.first_word, first.last_word) == ("cat", 1, 1)
    assert (first.is_impossible, first.gold) == (False, ())
    assert (second.eid, second.answer, second.is_impossible) == (1, None, True)
    assert (third.eid, third.passage) == (2, "in Paris")


def test_squad_to_score(tmp_path):
    write_squad(tmp_path, "dev", (CONTEXT, [GOOD, IMPOSSIBLE]))
    first, second = make_task(tmp_path, "squad").get_examples("dev")
    assert (first.gold, first.answer, first.is_impossible) == (("cat", "The cat"), None, False)
    # Only training is told that there is no answer.
    assert (second.gold, second.is_impossible) == ((), False)


def test_plausible_answers_are_wrong(tmp_path):
    plausible = question("q2", answers=[("mat", 23)], is_impossible=True)  # as in KLUE-MRC
    for split in ("train", "dev"):
        write_squad(tmp_path, split, (CONTEXT, [GOOD, plausible]))
    task = make_task(tmp_path, "squad")
    assert [e.is_impossible for e in task.get_examples("train")] == [False, True]
    assert [e.gold for e in task.get_examples("dev")] == [("cat", "The cat"), ()]


def test_is_impossible_as_tables_have_it(tmp_path):
    answered = [{**GOOD, "id": f"q{value}", "is_impossible": value} for value in (1, 0, None)]
    unknown = question("no", is_impossible=None)
    write_squad(tmp_path, "train", (CONTEXT, [*answered, unknown]))
    examples = make_task(tmp_path, "squad").get_examples("train")
    assert [e.is_impossible for e in examples] == [True, False, False, True]


def test_squad_to_predict(tmp_path):
    questions = [{"id": "q1", "question": "who?"}, {"id": 2, "question": "where?"}]
    path = write_squad(tmp_path, "mine", (CONTEXT, questions))
    for kind in ("squad", "squadv1", "custom"):
        for split in ("predict", "test"):
            examples = make_task(tmp_path, kind).read_examples(path, split)
            assert [e.id for e in examples] == ["q1", "2"]
            assert [(e.gold, e.answer) for e in examples] == [((), None)] * 2


def without(record, name):
    return {key: value for key, value in record.items() if key != name}


FLAT = {"id": "q1", "title": "t", "context": CONTEXT, "question": "who sat?"}
COLUMNS = {"text": ["cat", "The cat"], "answer_start": [4, 0]}
ROWS = [{"text": "cat", "answer_start": 4}, {"text": "The cat", "answer_start": 0}]
IN_A_PARAGRAPH = {"context": CONTEXT, "qas": [{**GOOD, "answers": ROWS}]}
MRQA_QUESTION = {
    "qid": "q1",
    "question": "who sat?",
    "answers": ["cat", "The cat"],
    "detected_answers": [{"text": "cat", "char_spans": [[4, 6]]}],
}
# What people have as SQuAD's format: JSON values, one a line.
VARIANTS = {
    "Hugging Face's columns, listed": [[{**FLAT, "answers": COLUMNS}]],
    "Hugging Face's columns under data": [{"data": [{**FLAT, "answers": COLUMNS}]}],
    "Hugging Face's columns, a line each": [{**FLAT, "answers": COLUMNS}],
    "the same and an unanswerable one": [
        {**FLAT, "answers": COLUMNS},
        {**FLAT, "id": "q2", "answers": {"text": [], "answer_start": []}},
    ],
    "flat questions with rows of answers": [[{**FLAT, "answers": ROWS}]],
    "paragraphs in the place of articles": [{"data": [IN_A_PARAGRAPH]}],
    "articles, listed": [[{"paragraphs": [IN_A_PARAGRAPH]}]],
    "a single article": [{"title": "t", "paragraphs": [IN_A_PARAGRAPH]}],
    "a paragraph a line": [IN_A_PARAGRAPH, {"context": "in Paris", "qas": []}],
    "MRQA's lines": [{"header": {}}, {"context": CONTEXT, "qas": [MRQA_QUESTION]}],
    "MRQA's lines, which name the question's source": [
        {"context": CONTEXT, "qas": [{"id": "5733", **MRQA_QUESTION}]}
    ],
    "SQuAD 2.0 without is_impossible": [
        squad((CONTEXT, [without(GOOD, "is_impossible"), without(IMPOSSIBLE, "is_impossible")]))
    ],
    "KLUE's names": [[{**without(FLAT, "id"), "guid": "q1", "answers": ROWS}]],
    "positions from a table": [
        [{**FLAT, "answers": {"text": ["cat", "The cat"], "answer_start": [4.0, "0"]}}]
    ],
    "numbers for is_impossible": [[{**FLAT, "answers": COLUMNS, "is_impossible": "0.0"}]],
    "a text for is_impossible": [[{**FLAT, "answers": COLUMNS, "is_impossible": "False"}]],
    "a single answer in columns": [
        [{**FLAT, "answers": {"text": "cat", "answer_start": 4}}],
    ],
    "null for no answer": [
        squad((CONTEXT, [GOOD, {"id": "q2", "question": "who?", "answers": None}])),
    ],
    "nothing for no answer": [squad((CONTEXT, [GOOD, {"id": "q2", "question": "who?"}]))],
    "null in columns for no answer": [
        {**FLAT, "answers": COLUMNS},
        {**FLAT, "id": "q2", "answers": {"text": None, "answer_start": None}},
    ],
    "empty texts for no answer": [
        squad((CONTEXT, [GOOD, question("q2", answers=[("", -1)])])),
    ],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_squad_s_format(tmp_path, name):
    text = "\n".join(map(json.dumps, VARIANTS[name]))
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.json").write_text(text, encoding="utf-8-sig")
    task = make_task(tmp_path, "squad")
    first, *others = task.get_examples("train")
    assert (first.id, first.question, first.passage) == ("q1", "who sat?", CONTEXT)
    assert (first.answer, first.span, first.is_impossible) == ("cat", (4, 7), False)
    assert [(e.id, e.is_impossible) for e in others] == [("q2", True)][: len(others)]
    first, *others = task.get_examples("dev")
    assert first.gold == ("cat", "The cat")[: 1 + ("single answer" not in name)]
    assert [e.gold for e in others] == [()] * len(others)
    assert task.get_examples("test")[0].gold == ()


def test_lines_may_be_packed(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(MRQA.encode()))
    examples = make_task(tmp_path, "custom").read_examples(str(tmp_path / "x.jsonl.gz"), "dev")
    assert [e.id for e in examples] == ["m1", "m2"]


def test_names_may_be_numbers(tmp_path):
    names = [7, 8.0, "9", 1.5]
    write_squad(tmp_path, "dev", (CONTEXT, [{**GOOD, "id": name} for name in names]))
    examples = make_task(tmp_path).get_examples("dev")
    assert [e.id for e in examples] == ["7", "8", "9", "1.5"]


def test_a_file_without_unanswerable_questions_is_told(tmp_path, warnings):
    write_squad(tmp_path, "train", (CONTEXT, [GOOD]))
    make_task(tmp_path).get_examples("train")
    assert warnings.text == ""
    make_task(tmp_path, "squad").get_examples("train")
    assert "squadv1" in warnings.text and "no question has" not in warnings.text


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_file_without_answers_is_told(tmp_path, warnings, split):
    write_squad(tmp_path, split, (CONTEXT, [{"id": "q1", "question": "who?", "answer": "cat"}]))
    assert len(make_task(tmp_path, "squad").get_examples(split)) == 1
    assert "no question has an answer" in warnings.text


def test_positions_that_were_understood_otherwise_are_told(tmp_path, warnings):
    passage = "👨‍👩 live in Bern. " + CONTEXT
    questions = [
        question("units", answers=[("cat", passage.index("cat") + 2)]),
        question("near", answers=[("cat", passage.index("cat") + 1)]),
        question("right", answers=[("cat", passage.index("cat"))]),
    ]
    write_squad(tmp_path, "train", (passage, questions))
    examples = make_task(tmp_path).get_examples("train")
    assert {example.span for example in examples} == {(22, 25)}
    assert "1 of 3 answers counts UTF-16 units" in warnings.text
    assert "1 of 3 answers is not where the answer stands" in warnings.text


def test_of_several_answers_the_first_that_is_found_is_learned(tmp_path, warnings):
    questions = [
        question("q1", answers=[("dog", 0), ("mat", 23), ("cat", 4)]),
        question("q2", answers=[("dog", 0), ("rat", 0)]),
    ]
    spans = [{"text": "dog", "char_spans": [[0, 2]]}, {"text": "cat", "char_spans": [[9], [4.0]]}]
    other = {**MRQA_QUESTION, "detected_answers": spans}
    write_squad(tmp_path, "train", (CONTEXT, [*questions, other]))
    examples = make_task(tmp_path).get_examples("train")
    assert [(e.answer, e.span) for e in examples] == [("mat", (23, 26)), ("cat", (4, 7))]
    assert "1 of 3 questions are skipped" in warnings.text and "q2: 'dog'" in warnings.text
    write_squad(tmp_path, "train", (CONTEXT, [questions[0], GOOD]))
    (example,) = make_task(tmp_path, qa_spans="official").get_examples("train")
    assert example.id == "q1" and example.answer == "cat"


def test_official_labels_are_an_hparam(tmp_path):
    write_squad(tmp_path, "train", ("cat-cat", [question("q", answers=[("cat", 4)])]))
    for spans, span, start in (("characters", (4, 7), 7), ("official", None, 5)):
        task = make_task(tmp_path, qa_spans=spans)
        (example,) = task.get_examples("train")
        (row,) = task.featurize([example], is_training=True)
        assert (example.span, row["start_positions"]) == (span, start)


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(squad((CONTEXT, [GOOD]))), encoding="utf-8-sig")
    assert len(make_task(tmp_path).get_examples("train")) == 1
    (tmp_path / "dev.jsonl").write_text(MRQA, encoding="utf-8-sig")
    assert len(make_task(tmp_path, "mrqa").get_examples("dev")) == 2
    lines = [json.dumps({**FLAT, "id": name, "answers": COLUMNS}) for name in "abc"]
    path.write_text("\n\ufeff".join(lines), encoding="utf-8-sig")
    assert [e.id for e in make_task(tmp_path).get_examples("train")] == ["a", "b", "c"]


def test_debug_reads_the_first_questions(tmp_path):
    questions = [question(f"q{i}", answers=[("cat", 4)]) for i in range(300)]
    write_squad(tmp_path, "train", (CONTEXT, questions))
    assert len(make_task(tmp_path, debug=True).get_examples("train")) == 100
    assert len(make_task(tmp_path).get_examples("train")) == 300


MRQA = mrqa_lines((CONTEXT, [("m1", "who?", "cat", 4)]), ("in Paris", [("m2", "o?", "Paris", 3)]))


ONE_LINE = json.dumps(
    {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [GOOD]}]}]}
)
FORMS = {
    "one line": ONE_LINE,
    "indented": json.dumps(json.loads(ONE_LINE), indent=1),
    "lines": MRQA,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["x.json.gz", "x.json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_each_form_may_be_packed_and_in_utf_16(tmp_path, form, name, encoding):
    (tmp_path / name).write_bytes(gzip.compress(FORMS[form].encode(encoding)))
    examples = make_task(tmp_path, "custom").read_examples(str(tmp_path / name), "dev")
    assert [e.id for e in examples] == (["m1", "m2"] if form == "lines" else [GOOD["id"]])


@pytest.mark.parametrize("zipped", [False, True])
def test_mrqa(tmp_path, zipped):
    for split in ("train", "dev", "test"):
        if zipped:
            (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress(MRQA.encode()))
        else:
            (tmp_path / f"{split}.jsonl").write_text(MRQA)
    task = make_task(tmp_path, "mrqa")
    assert task.data_file("dev").endswith(".jsonl.gz" if zipped else ".jsonl")
    trained, scored = task.get_examples("train"), task.get_examples("dev")
    assert [(e.eid, e.id, e.answer, e.first_word) for e in trained] == [
        (0, "m1", "cat", 1),
        (1, "m2", "Paris", 1),
    ]
    assert [e.gold for e in scored] == [("cat", "CAT"), ("Paris", "PARIS")]
    assert [e.gold for e in task.get_examples("test")] == [(), ()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_mrqa_is_read_packed_and_in_utf_16_whatever_the_name(tmp_path, encoding, pack):
    (tmp_path / "dev.jsonl").write_bytes(pack(MRQA.encode(encoding)))
    assert [e.id for e in make_task(tmp_path, "mrqa").get_examples("dev")] == ["m1", "m2"]


def test_mrqa_reads_the_plain_file_if_both_are_there(tmp_path):
    (tmp_path / "dev.jsonl.gz").write_bytes(b"")
    (tmp_path / "dev.jsonl").write_text(MRQA)
    assert len(make_task(tmp_path, "mrqa").get_examples("dev")) == 2


def test_mrqa_names_questions_by_qid_and_skips_headers_and_empty_lines(tmp_path):
    record = json.loads(MRQA.splitlines()[1])
    record["qas"][0]["id"] = "other"
    (tmp_path / "dev.jsonl").write_text(f"\n{json.dumps(record)}\n\n{MRQA.splitlines()[0]}\n")
    assert [e.id for e in make_task(tmp_path, "mrqa").get_examples("dev")] == ["m1"]


def test_answers_that_are_not_in_the_passage_are_skipped_and_named(tmp_path, warnings):
    questions = [
        question("gone", answers=[("dog", 4)]),
        question("beyond", answers=[("cat", 400)]),
        question("bare"),
        GOOD,
    ]
    write_squad(tmp_path, "train", (CONTEXT, questions))
    with warnings.at_level("WARNING"):
        (left,) = make_task(tmp_path).get_examples("train")
    assert (left.id, left.eid) == ("q1", 0)
    for part in ("3 of 4", "gone: 'dog'", "beyond:", "bare: it has no answer"):
        assert part in warnings.text


@pytest.mark.parametrize("bad, good, refused", [(20, 1, False), (21, 1, True), (21, 2200, False)])
def test_many_answers_that_are_not_in_the_passage_are_an_error(tmp_path, bad, good, refused):
    questions = [question(f"bad{i}", answers=[("dog", 4)]) for i in range(bad)]
    questions += [question(f"good{i}", answers=[("cat", 4)]) for i in range(good)]
    write_squad(tmp_path, "train", (CONTEXT, questions))
    task = make_task(tmp_path)
    if not refused:
        assert len(task.get_examples("train")) == good
        return
    with pytest.raises(UserError, match="21 of 22: bad0") as error:
        task.get_examples("train")
    assert "bad0: 'dog'" in error.value.received
    assert "bad4" in error.value.received and "bad5" not in error.value.received


def test_doubled_names(tmp_path, warnings):
    for split in ("train", "dev"):
        write_squad(tmp_path, split, (CONTEXT, [GOOD, GOOD]))
    task = make_task(tmp_path)
    with warnings.at_level("WARNING"):
        assert len(task.get_examples("train")) == 2
    assert "with the name of another question: q1" in warnings.text
    with pytest.raises(UserError, match="name of another") as error:
        task.get_examples("dev")
    assert error.value.received == "q1"


def paragraph(**fields):
    return {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [GOOD], **fields}]}]}


def with_question(**fields):
    return paragraph(qas=[{**GOOD, **fields}])


NAMED = "question 'q1'"
PLACE = "data[0].paragraphs[0]"
# kind, split, the file's content, and parts of the message: where, and what.
BAD_SQUAD = {
    "no list of articles": ("squad", "train", {"version": "x"}, "train.json", "'data' is missing"),
    "a list": ("squad", "train", [1], "[0]", "the field 'paragraphs'"),
    "data is an object": ("squad", "train", {"data": {}}, "field 'data'", "not a list"),
    "no paragraphs": ("squad", "dev", {"data": [{}]}, "data[0]", "'paragraphs' is missing"),
    "paragraph is text": ("squad", "dev", {"data": [{"paragraphs": ["x"]}]}, PLACE, "an object"),
    "no context": (
        "squad", "dev", {"data": [{"paragraphs": [{"qas": [GOOD]}]}]}, PLACE,
        "'context' is missing",
    ),
    "context is a list": ("squad", "dev", paragraph(context=["x"]), PLACE, "not text"),
    "no questions": (
        "squad", "dev", {"data": [{"paragraphs": [{"context": "x"}]}]}, PLACE, "'qas' is missing",
    ),
    "no id": (
        "squad", "dev", paragraph(qas=[GOOD, without(GOOD, "id")]), PLACE + ".qas[1]",
        "'id' is missing",
    ),
    "id is null": ("squad", "dev", with_question(id=None), PLACE + ".qas[0]", "neither text nor"),
    "no question": (
        "squad", "dev", paragraph(qas=[without(GOOD, "question")]), NAMED, "'question' is missing",
    ),
    "question is a number": ("squad", "predict", with_question(question=3), NAMED, "not text"),
    "no answers": (
        "squadv1", "dev", paragraph(qas=[without(GOOD, "answers")]), NAMED, "has no answer",
    ),
    "answer without text": (
        "squad", "dev", with_question(answers=[{}]), NAMED, "'text' is missing",
    ),
    "neither is_impossible nor answers": (
        "squadv1", "train", paragraph(qas=[{"id": "q1", "question": "who?"}]), "train.json",
        "q1: it has no answer",
    ),
    "columns of unequal length": (
        "squad", "dev", with_question(answers={"text": ["cat"], "answer_start": []}), NAMED,
        "1 in text, 0 in answer_start",
    ),
    "columns without texts": (
        "squad", "dev", with_question(answers={"answer_start": [4]}), NAMED, "don't fit",
    ),
    "texts without positions": (
        "squadv1", "train", with_question(answers=["cat"]), NAMED, "'answer_start'",
    ),
    "a question without a passage": (
        "squad", "dev", {"data": [GOOD]}, "data[0]", "'context' is missing",
    ),
    "is_impossible is text": (
        "squad", "train", with_question(is_impossible="no"), NAMED, "not true or false",
    ),
    "no answer_start": (
        "squadv1", "train", with_question(answers=[{"text": "cat"}]), NAMED,
        "'answer_start' is missing",
    ),
    "answer_start is text": (
        "squadv1", "train", with_question(answers=[{"text": "cat", "answer_start": "4.5"}]),
        NAMED, "not a whole number",
    ),
    "unanswerable in SQuAD 1.1": ("squadv1", "dev", paragraph(qas=[IMPOSSIBLE]), "'q2'", "squad"),
    "only unanswerable in SQuAD 1.1": (
        "squadv1", "train", paragraph(qas=[IMPOSSIBLE]), "train.json", '"unanswerable": true',
    ),
    "all answers beyond the passage": (
        "squadv1", "train", with_question(answers=[{"text": "cat", "answer_start": 99}]),
        "train.json", "outside the passage of 27 characters",
    ),
    "an empty passage": (
        "squadv1", "train", paragraph(context=""), "train.json", "passage of 0 characters",
    ),
    "no question at all": ("squad", "dev", paragraph(qas=[]), "dev.json", "has no question"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SQUAD)
def test_bad_squad_files(tmp_path, case):
    kind, split, content, where, message = BAD_SQUAD[case]
    path = tmp_path / f"{split}.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        make_task(tmp_path, kind).read_examples(str(path), split)
    assert where in error.value.where
    assert message in str(error.value)


BAD_BYTES = {
    "no JSON": (b'{"data": [\n{"paragraphs": [}', "train.json, line 2", "not JSON"),
    "lists in lists in lists": (b"[" * 100000, "train.json", "not JSON"),
    "a number of too many digits": (b"[" + b"1" * 5000 + b"]", "train.json", "not JSON"),
    "empty": (b" \n", "train.json", "empty"),
    "not UTF-8": (b'{"data":\n ["caf\xe9"]}', "train.json, line 2", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
def test_files_that_are_not_squad_s(tmp_path, case):
    content, where, message = BAD_BYTES[case]
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        make_task(tmp_path).get_examples("train")
    assert where in error.value.where


def mrqa_line(**fields):
    return json.dumps({**json.loads(MRQA.splitlines()[1]), **fields}).encode()


def mrqa_question(**fields):
    record = json.loads(MRQA.splitlines()[1])
    return mrqa_line(qas=[{**record["qas"][0], **fields}])


HEADER = MRQA.splitlines()[0].encode()
BAD_MRQA = {
    "no JSON": (HEADER + b"\n" + mrqa_line() + b"\n{", ".jsonl", "line 3", "not JSON"),
    "a number": (HEADER + b"\n3", ".jsonl", "line 2", "Expected an object"),
    "empty": (b"\n \n", ".jsonl", "train.jsonl", "empty"),
    "only a header": (HEADER + b"\n", ".jsonl", "train.jsonl", "has no question"),
    "not UTF-8": (HEADER + b'\n"caf\xe9"', ".jsonl", "line 2", "iconv -f WINDOWS-1252"),
    "no context": (b'{"qas": []}', ".jsonl", "line 1", "'context' is missing"),
    "no qid": (mrqa_line(qas=[{"id": "x"}]), ".jsonl", "line 1.qas[0]", "'qid' is missing"),
    "no span": (
        mrqa_question(detected_answers=[{"text": "cat", "char_spans": []}]), ".jsonl",
        "question 'm1', detected_answers[0], char_spans[0]", "not a list",
    ),
    "no detected answers": (mrqa_question(detected_answers=3), ".jsonl", "'m1'", "not a list"),
    "nothing detected": (mrqa_question(detected_answers=[]), ".jsonl", "train", "has no answer"),
    "gzip cut off": (gzip.compress(MRQA.encode())[:-9], ".jsonl.gz", "jsonl.gz", "be unpacked"),
    "no gzip": (MRQA.encode(), ".jsonl.gz", "jsonl.gz", "be unpacked"),
    "empty gzip": (b"", ".jsonl.gz", "jsonl.gz", "empty"),
    "damaged gzip": (
        gzip.compress(MRQA.encode())[:12] + b"\xff" * 60, ".jsonl.gz", "jsonl.gz", "be unpacked",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MRQA)
def test_bad_mrqa_files(tmp_path, case):
    content, suffix, where, message = BAD_MRQA[case]
    (tmp_path / f"train{suffix}").write_bytes(content)
    with pytest.raises(UserError) as error:
        make_task(tmp_path, "mrqa").get_examples("train")
    assert where in error.value.where
    assert message in str(error.value)


@pytest.mark.parametrize("kind, name", [("squad", "train.json"), ("mrqa", "train.jsonl")])
def test_missing_files(tmp_path, kind, name):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="can't be read") as error:
        make_task(tmp_path, kind).get_examples("train")
    assert error.value.where.endswith(name)
    assert "other.json" in error.value.received
