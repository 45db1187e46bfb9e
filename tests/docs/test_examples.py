"""The Python examples of the documentation run as they stand."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def test_own_pair_of_the_protocol_page_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(ROOT / "docs" / "protocol.md")
    exec(compile(block, "docs/protocol.md", "exec"), {"__name__": "__main__"})

    lines = (tmp_path / "my_pair" / "metrics.jsonl").read_text().splitlines()
    first, *_, last = map(json.loads, lines)
    assert last["step"] == 300
    assert last["generator_loss"] < first["generator_loss"] - 0.5
    assert last["disc_auc"] > 0.9
    assert list((tmp_path / "my_pair" / "checkpoints").iterdir())
