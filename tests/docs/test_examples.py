"""The Python examples of the documentation run as they stand."""

import json
import re
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[2]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def test_own_pair_of_the_protocol_page_learns(tmp_path, monkeypatch):
    """The blocks of the page, one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = python_blocks(ROOT / "docs" / "protocol.md")
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/protocol.md, block {number}", "exec"), names)
    assert len(blocks) == 5

    assert all(gradient is not None for gradient in names["gradients"])
    history = names["history"].history
    assert history["val_disc_auc"][-1] > 0.8
    assert names["suspicion"].shape == (2, names["LENGTH"])
    saved = keras.models.load_model(tmp_path / "discriminator.keras")
    np.testing.assert_allclose(saved(names["rows"][:2])[..., 0], names["suspicion"], rtol=1e-4)
    assert names["result"].loss < 16  # 38 before the first step

    lines = (tmp_path / "my_pair" / "metrics.jsonl").read_text().splitlines()
    first, *_, last = map(json.loads, lines)
    assert last["step"] == 300
    assert last["generator_loss"] < first["generator_loss"] - 0.5
    assert last["disc_auc"] > 0.9
    assert list((tmp_path / "my_pair" / "checkpoints").iterdir())
