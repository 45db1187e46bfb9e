"""The exported tokenizer gives our ids on the conformance texts, but for a list of exceptions."""

import json
from pathlib import Path

import pytest
import tokenizers

from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface_tokenizer import (
    check_one_vocabulary,
    read_huggingface_casing,
    tokenizer_files,
)
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from tests.conformance.cases import case_ids, find_cases

CARRIED = Path(__file__).parents[1] / "conformance" / "cases"
MODES = {
    "lower_strip": Casing(lower_case=True, strip_accents=True),
    "lower_keep_accents": Casing(lower_case=True, strip_accents=False),
    "cased": Casing(lower_case=False, strip_accents=False),
}
CASES = find_cases([CARRIED], "tokenization")
EXCEPTIONS = json.loads(
    Path(__file__).with_name("huggingface_tokenizer_exceptions.json").read_text("utf-8")
)


def exported(case):
    files = tokenizer_files(load_vocabulary(str(case.vocab)), MODES[case.name], max_length=512)
    return tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())


@pytest.mark.parametrize("case", CASES, ids=case_ids(CASES))
def test_ids_of_the_conformance_texts(case):
    tokenizer = exported(case)
    texts = case.spec["texts"]
    found = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    different = [
        t for t, ids, ours in zip(texts, found, case.spec["ids"], strict=True) if ids != ours
    ]
    listed = {text for reason in EXCEPTIONS.values() for text in reason[case.name]}
    assert set(different) == listed
    assert len(listed) < 0.12 * len(texts)


def test_special_tokens_pairs_and_long_words(tmp_path):
    case = CASES[0]
    tokenizer = exported(case)
    vocabulary = load_vocabulary(str(case.vocab))
    single = tokenizer.encode("the [MASK] the")
    assert single.ids[0] == vocabulary.cls_id and single.ids[-1] == vocabulary.sep_id
    assert vocabulary.mask_id in single.ids
    pair = tokenizer.encode("the", "the")
    assert pair.type_ids == [0] * 3 + [1] * 2
    assert tokenizer.encode("e" * 200).ids != tokenizer.encode("e" * 201).ids
    assert tokenizer.encode("e" * 201).ids == [
        vocabulary.cls_id, vocabulary.unk_id, vocabulary.sep_id,
    ]  # fmt: skip


def test_settings_for_transformers():
    vocabulary = load_vocabulary(str(CASES[0].vocab))
    files = tokenizer_files(vocabulary, MODES["cased"], max_length=128)
    config = json.loads(files["tokenizer_config.json"])
    assert config["model_max_length"] == 128
    assert config["do_lower_case"] is False and config["strip_accents"] is False
    assert config["mask_token"] == "[MASK]"
    assert files["vocab.txt"].decode().split() == list(vocabulary.tokens)


@pytest.mark.parametrize(
    ("name", "stated", "said"),
    [
        ("tokenizer_config.json", {"word_tokenizer_type": "mecab"}, "mecab"),
        ("tokenizer_config.json", {"subword_tokenizer_type": "character"}, "character"),
        ("tokenizer_config.json", {"do_basic_tokenize": False}, "do_basic_tokenize"),
        ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "Japanese"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "WhitespaceSplit"}}, "WhitespaceSplit"),
        ("tokenizer.json", {"pre_tokenizer": None}, "pre_tokenizer null"),
        ("tokenizer.json", {"normalizer": {"clean_text": False}}, "clean_text"),
    ],
)
def test_a_tokenizer_that_cuts_text_otherwise_is_refused(tmp_path, name, stated, said):
    files = tokenizer_files(load_vocabulary(str(CASES[0].vocab)), MODES["cased"], max_length=64)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    assert read_huggingface_casing(str(tmp_path)) == MODES["cased"]
    (tmp_path / name).write_text(json.dumps(json.loads(files[name]) | stated))
    with pytest.raises(UserError) as error:
        read_huggingface_casing(str(tmp_path))
    assert error.value.where == str(tmp_path / name) and said in error.value.received


def test_two_vocabularies_that_differ(tmp_path):
    files = tokenizer_files(load_vocabulary(str(CASES[0].vocab)), MODES["cased"], max_length=64)
    pieces = files["vocab.txt"].decode().splitlines()
    (tmp_path / "tokenizer.json").write_bytes(files["tokenizer.json"])
    for lines in (pieces, pieces[:-2]):
        (tmp_path / "vocab.txt").write_text("\n".join(lines))
        check_one_vocabulary(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces[:-1], "other"]))
    with pytest.raises(UserError) as error:
        check_one_vocabulary(str(tmp_path))
    assert error.value.where == f"{tmp_path / 'vocab.txt'}, line {len(pieces)}"
    assert "'other'" in error.value.received and repr(pieces[-1]) in error.value.received


@pytest.mark.parametrize(("limit", "taken"), [(100, 200), (200, 200), (1000, 1000), ("x", 200)])
def test_a_higher_limit_for_long_words_goes_out_and_comes_back(tmp_path, limit, taken):
    vocabulary = load_vocabulary(str(CASES[0].vocab))
    casing = Casing(max_word_characters=1000)
    files = tokenizer_files(vocabulary, casing, max_length=2000)
    tokenizer = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    for text in ("e" * 1000, "e" * 1001):
        ours = make_tokenizer(vocabulary, casing).encode(text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == ours
    stored = json.loads(files["tokenizer.json"])
    stored["model"]["max_input_chars_per_word"] = limit  # 100 is what transformers writes itself
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    assert read_huggingface_casing(str(tmp_path)) == Casing(max_word_characters=taken)
