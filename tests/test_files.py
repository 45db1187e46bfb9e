"""The ground floor of reading and writing."""

import json

from electra_tf2.files import write_json, write_json_lines

RECORDS = [{"id": "\ud83d", "label": "ä\u2028"}, {"id": "😀"}]


def test_what_is_not_finite_is_null(tmp_path):
    records = [{"a": [float("nan"), 1.5], "b": {"c": -float("inf")}}]
    written = [{"a": [None, 1.5], "b": {"c": None}}]
    write_json_lines(str(tmp_path / "a.jsonl"), records)
    write_json(str(tmp_path / "a.json"), records)
    assert json.loads((tmp_path / "a.json").read_text()) == written
    assert [json.loads((tmp_path / "a.jsonl").read_text())] == written


def test_half_a_surrogate_pair_is_kept(tmp_path):
    path = tmp_path / "out" / "a.jsonl"
    write_json_lines(str(path), RECORDS)
    content = path.read_bytes()
    assert content == '{"id": "\\ud83d", "label": "ä\u2028"}\n{"id": "😀"}\n'.encode()
    assert [json.loads(line) for line in content.decode().split("\n")[:-1]] == RECORDS
    write_json(str(tmp_path / "new" / "a.json"), RECORDS)
    assert json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8")) == RECORDS
