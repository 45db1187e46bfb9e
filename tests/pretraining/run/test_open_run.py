"""What a run takes over from its data and its vocabulary."""

import pytest

from electra_tf2.errors import UserError
from electra_tf2.pretraining.run.open_run import open_data
from electra_tf2.text.casing_files import ENDING, casing_file_content
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import PIECES
from tests.pretraining import tiny


def opened(folder, **hparams):
    config = tiny.configure(folder, **hparams)
    return open_data(config, config.network(), "float32")


def test_casing_and_size(tmp_path, capsys):
    tiny.write_data(tmp_path, flags=["--no-lower-case"])
    data = opened(tmp_path, vocab_size=len(PIECES) + 7)
    assert not data.casing.lower_case and data.hparams["do_lower_case"] is False
    assert "25 pieces, the model 32 embeddings" in capsys.readouterr().err
    with pytest.raises(UserError, match="another do_lower_case"):
        opened(tmp_path, do_lower_case=True)

    # Of records without metadata only the vocabulary's files can tell.
    (tmp_path / "pretrain_tfrecords" / "metadata.json").unlink()
    assert opened(tmp_path).casing == UNCASED
    vocabulary = load_vocabulary(str(tmp_path / "vocab.txt"))
    stated = casing_file_content(vocabulary, Casing(True, False))
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(stated)
    assert opened(tmp_path).casing == Casing(True, False)
    assert opened(tmp_path, strip_accents=True).casing == UNCASED
    stated = casing_file_content(vocabulary, Casing(True, False, 1000))
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(stated)
    assert opened(tmp_path).hparams["max_word_characters"] == 1000
    assert opened(tmp_path, max_word_characters=300).casing == Casing(True, False, 300)
