"""Vocabulary files: what is read, and what is refused."""

import hashlib

import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.vocabulary import check_vocabulary_size, load_vocabulary

SPECIAL = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"


def write(folder, content: str | bytes) -> str:
    path = folder / "vocab.txt"
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return str(path)


def test_reads_tokens_ids_and_digest(tmp_path):
    vocabulary = load_vocabulary(write(tmp_path, SPECIAL + "the\n##é"))

    assert vocabulary.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##é")
    assert len(vocabulary) == 7
    assert vocabulary.ids["##é"] == 6
    assert [vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id] == [0, 1, 2]
    assert [vocabulary.sep_id, vocabulary.mask_id] == [3, 4]
    assert vocabulary.sha256 == hashlib.sha256("\n".join(vocabulary.tokens).encode()).hexdigest()


def test_lines_are_stripped_and_end_at_newlines_only(tmp_path):
    content = SPECIAL.replace("\n", " \r\n") + "\u00a0a\u2028b\t\n"
    assert load_vocabulary(write(tmp_path, content)).tokens[4:] == ("[MASK]", "a\u2028b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SPECIAL + "a\nb\na\n", "lines 6 and 8"),
        (SPECIAL + "a\n a \n", "lines 6 and 7"),
        (SPECIAL + "a\n\nb\n", "line 7"),
        (SPECIAL + "a\n\n", "line 7"),
        (SPECIAL.encode() + b"a\n\xff\n", "line 7"),
        (SPECIAL.replace("[UNK]\n", "").replace("[SEP]\n", ""), "lacks [UNK], [SEP]"),
        ("a\n" + SPECIAL, "[PAD] has id 1"),
        ("\ufeff" + SPECIAL, "byte order mark"),
        ("", "an empty file"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_vocabulary(path)
    assert message in str(caught.value)
    assert path in caught.value.where
    assert caught.value.received is not None and caught.value.remedy


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="There is no vocabulary file"):
        load_vocabulary(str(tmp_path / "none.txt"))


def test_unreadable_file(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        load_vocabulary(str(tmp_path))


def test_size_must_be_the_models(tmp_path):
    path = write(tmp_path, SPECIAL)
    vocabulary = load_vocabulary(path)
    check_vocabulary_size(vocabulary, 5, path)
    with pytest.raises(UserError, match="5 pieces in the file, vocab_size = 30522"):
        check_vocabulary_size(vocabulary, 30522, path)
