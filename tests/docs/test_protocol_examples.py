"""The Python examples of docs/protocol.md run as they stand."""

import json

import keras
import numpy as np
import pytest

from tests.docs.pages import DOCS, blocks, run_python


@pytest.mark.slow
def test_own_pair_of_the_protocol_page_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = DOCS / "protocol.md"
    assert len(blocks(page, "python")) == 5
    names = run_python(page)

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
