"""The casing that a vocabulary's files state, and which settings win."""

import json

import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.casing_files import (
    ENDING,
    as_flag,
    casing_file_content,
    read_stated_casing,
    settle_casing,
)
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import PIECES, write_vocabulary

KEEPING, CASED = Casing(True, False), Casing(False, False)
NORMALIZER = {"type": "BertNormalizer", "lowercase": True, "strip_accents": False}


LONG = Casing(True, False, 1000)


def tokenizer_file(normalizer=NORMALIZER, limit=100):
    ids = {piece: i for i, piece in enumerate(PIECES)}
    model = {"type": "WordPiece", "vocab": ids, "max_input_chars_per_word": limit}
    return {"model": model, "normalizer": normalizer}


@pytest.mark.parametrize(
    ("name", "content", "casing"),
    [
        ("casing.json", {"do_lower_case": False, "strip_accents": True}, Casing(False, True)),
        ("casing.json", LONG.to_dict(), LONG),
        ("tokenizer.json", {"do_lower_case": True, "strip_accents": False}, KEEPING),
        ("tokenizer.json", tokenizer_file(), KEEPING),
        ("tokenizer.json", tokenizer_file(limit=1000), LONG),
        ("tokenizer.json", tokenizer_file(None), None),
        ("tokenizer_config.json", {"do_lower_case": False}, CASED),
        ("tokenizer_config.json", {"do_lower_case": True}, UNCASED),
        ("tokenizer_config.json", {"do_lower_case": "no"}, None),
        ("tokenizer_config.json", {"model_max_length": 512}, None),
        ("tokenizer_config.json", "", None),
    ],
)
def test_files_beside_vocab_txt(tmp_path, name, content, casing):
    path = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(path)
    assert read_stated_casing(path, vocabulary) is None
    (tmp_path / name).write_text(json.dumps(content) if content else "")
    stated = read_stated_casing(path, vocabulary)
    assert (stated and stated.casing) == casing
    # A folder's settings say nothing of another file in it.
    other = tmp_path / "other.txt"
    other.write_bytes((tmp_path / "vocab.txt").read_bytes())
    assert read_stated_casing(str(other), vocabulary) is None


def test_a_tokenizer_file_given_as_the_vocabulary(tmp_path):
    path = tmp_path / "any.txt"
    path.write_text(json.dumps(tokenizer_file()))
    vocabulary = load_vocabulary(str(path))
    assert vocabulary.tokens == tuple(PIECES)
    assert read_stated_casing(str(path), vocabulary).casing == KEEPING

    path.write_text(json.dumps(tokenizer_file(limit=1000)))
    assert read_stated_casing(str(path), vocabulary).casing == LONG

    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_file(None, 1000)))
    assert read_stated_casing(str(path), vocabulary) is None
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_stated_casing(str(path), vocabulary).casing == Casing(False, False, 1000)


def test_the_settings_of_a_vocabulary_that_was_replaced(tmp_path, capsys):
    path = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(path)
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(casing_file_content(vocabulary, CASED))
    assert read_stated_casing(path, vocabulary).casing == CASED
    (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "more"]) + "\n")
    assert read_stated_casing(path, load_vocabulary(path)) is None
    assert "belongs to another vocabulary" in capsys.readouterr().err


@pytest.mark.parametrize("name", [f"tr.txt{ENDING}", "tokenizer_config.json"])
def test_a_link_to_a_vocabulary(tmp_path, monkeypatch, name):
    target = tmp_path / "shared"
    target.mkdir()
    write_vocabulary(target)
    vocab_name = "tr.txt" if name.endswith(ENDING) else "vocab.txt"
    (target / "vocab.txt").rename(target / vocab_name)
    vocabulary = load_vocabulary(str(target / vocab_name))
    (target / name).write_bytes(casing_file_content(vocabulary, CASED))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.txt").symlink_to(f"shared/{vocab_name}")
    assert read_stated_casing("vocab.txt", vocabulary).casing == CASED
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(casing_file_content(vocabulary, KEEPING))
    assert read_stated_casing("vocab.txt", vocabulary).casing == KEEPING


def test_what_wins(tmp_path, capsys):
    path = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(path)
    assert settle_casing({}, path, vocabulary, as_flag) == (UNCASED, True)
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(casing_file_content(vocabulary, KEEPING))
    assert settle_casing({}, path, vocabulary, as_flag) == (KEEPING, False)
    assert "--no-strip-accents" in capsys.readouterr().err
    given = {"strip_accents": True}
    assert settle_casing(given, path, vocabulary, as_flag) == (UNCASED, False)
    said = capsys.readouterr().err
    assert "warning: --do-strip-accents is followed, although" in said and ENDING in said
    settle_casing({"do_lower_case": True}, path, vocabulary, as_flag)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", tokenizer_file({"type": "Sequence"}), 'the normalizer "Sequence"'),
        ("tokenizer.json", tokenizer_file(None), "the normalizer null"),
        (
            "tokenizer.json",
            tokenizer_file({**NORMALIZER, "handle_chinese_chars": False}),
            "tokenize_chinese_chars false",
        ),
        (
            "tokenizer_config.json",
            {"do_lower_case": False, "strip_accents": True},
            "strip_accents true",
        ),
        ("tokenizer_config.json", {"do_lower_case": "no"}, 'do_lower_case "no"'),
    ],
)
def test_what_is_stated_and_not_done_is_said(tmp_path, capsys, name, content, said):
    path = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(path)
    (tmp_path / name).write_text(json.dumps(content))
    vocab_files = [path, str(tmp_path / name)] if name == "tokenizer.json" else [path]
    for vocab_file in vocab_files:
        settle_casing({}, vocab_file, vocabulary, as_flag)
        warning = capsys.readouterr().err
        assert warning.count(f"{tmp_path / name} states {said}, which") == 1
        assert "using --do-lower-case" in warning
        settle_casing({"do_lower_case": True}, vocab_file, vocabulary, as_flag)
        assert f"states {said}, which" in capsys.readouterr().err
    # A file of this program that comes first states all.
    (tmp_path / "casing.json").write_text(json.dumps(CASED.to_dict()))
    settle_casing({}, path, vocabulary, as_flag)
    assert "which this program" not in capsys.readouterr().err


def test_files_of_hugging_face_that_disagree(tmp_path, capsys):
    vocab, path = write_vocabulary(tmp_path), str(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_file(limit=1000)))
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"do_lower_case": false}')
    vocabulary = load_vocabulary(path)
    assert read_stated_casing(path, vocabulary).casing == LONG
    said = capsys.readouterr().err
    assert f"{path} states do_lower_case true" in said and "is followed" in said
    assert f"although {config} states do_lower_case false" in said
    assert read_stated_casing(vocab, vocabulary).casing == Casing(False, False, 1000)
    assert f"although {path} states" in capsys.readouterr().err
    config.write_text('{"do_lower_case": true, "strip_accents": false}')
    assert read_stated_casing(path, vocabulary) and not capsys.readouterr().err


def test_text_that_is_cut_otherwise_is_said_whatever_is_followed(tmp_path, capsys):
    path = write_vocabulary(tmp_path)
    content = tokenizer_file(NORMALIZER) | {"pre_tokenizer": {"type": "Whitespace"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    settings = {"do_lower_case": True, "word_tokenizer_type": "mecab"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    for given in ({}, {"do_lower_case": False, "strip_accents": False}):
        settle_casing(given, path, load_vocabulary(path), as_flag)
        said = capsys.readouterr().err
        assert 'word_tokenizer_type "mecab", which' in said
        assert 'the pre_tokenizer "Whitespace", which' in said


def test_a_vocabulary_in_json_of_which_nothing_states_the_casing(tmp_path, capsys):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(PIECES))
    settle_casing({}, str(path), load_vocabulary(str(path)), as_flag)
    assert f"nothing states the casing of {path}; using --do-lower" in capsys.readouterr().err
    settle_casing({"do_lower_case": False}, str(path), load_vocabulary(str(path)), as_flag)
    assert "nothing states" not in capsys.readouterr().err


def test_which_limit_for_long_words_wins(tmp_path, capsys):
    path = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(path)
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(casing_file_content(vocabulary, LONG))
    assert settle_casing({}, path, vocabulary, as_flag) == (LONG, False)
    said = capsys.readouterr().err
    assert "--no-strip-accents --max-word-characters 1000" in said and "warning" not in said
    given = {"do_lower_case": True, "max_word_characters": 200}
    assert settle_casing(given, path, vocabulary, as_flag) == (KEEPING, False)
    said = capsys.readouterr().err
    assert "warning: --max-word-characters 200 is followed, although" in said
    assert "says --max-word-characters 1000." in said
    # Files that keep to BERT's limit don't speak of it.
    (tmp_path / f"vocab.txt{ENDING}").write_bytes(casing_file_content(vocabulary, KEEPING))
    assert settle_casing({"max_word_characters": 1000}, path, vocabulary, as_flag) == (LONG, False)
    assert "warning" not in capsys.readouterr().err


def test_a_file_that_can_not_be_read(tmp_path):
    path = write_vocabulary(tmp_path)
    settings = tmp_path / f"vocab.txt{ENDING}"
    too_small = json.dumps(KEEPING.settings() | {"max_word_characters": 0})
    for content in ("{", "[]", '{"do_lower_case": 1, "strip_accents": true}', too_small):
        settings.write_text(content)
        with pytest.raises(UserError) as error:
            read_stated_casing(path, load_vocabulary(path))
        assert error.value.where == str(settings)
    settings.write_text('{"do_lower_case": false, "strip_accents": true}')  # as it says to do
    assert read_stated_casing(path, load_vocabulary(path)).casing == Casing(False, True)
