"""The exported tokenizer gives our ids on the conformance texts, but for a list of exceptions."""

import json
from pathlib import Path

import pytest
import tokenizers

from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface_tokenizer import (
    check_one_vocabulary,
    read_huggingface_casing,
    read_tokenizer,
    tokenizer_files,
)
from electra_tf2.text.casing_files import read_stated_casing
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
        ("tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizerFast"}, "XLMRoberta"),
        ("tokenizer_config.json", {"tokenizer_class": ["BertTokenizer"]}, "tokenizer_class"),
        ("tokenizer.json", {"post_processor": {"type": "RobertaProcessing"}}, "Roberta"),
        (
            "tokenizer.json",
            {"post_processor": {"type": "TemplateProcessing", "single": [1]}},
            "sin",
        ),
        (
            "tokenizer.json",
            {"post_processor": {"type": "BertProcessing", "cls": ["<s>", 2], "sep": ["[SEP]", 3]}},
            "<s>",
        ),
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


def write_tokenizer(folder, casing=MODES["cased"], **config):
    """Writes a tokenizer with another tokenizer_config.json; returns its vocabulary."""
    vocabulary = load_vocabulary(str(CASES[0].vocab))
    for file, content in tokenizer_files(vocabulary, casing, max_length=64).items():
        (folder / file).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return vocabulary


def test_a_class_that_config_json_states(tmp_path):
    write_tokenizer(tmp_path)
    config = tmp_path / "config.json"
    config.write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(UserError) as error:
        read_tokenizer(str(tmp_path))
    assert "BertJapaneseTokenizer" in error.value.received
    write_tokenizer(tmp_path, tokenizer_class="ElectraTokenizerFast")
    assert read_tokenizer(str(tmp_path)) == MODES["cased"]


@pytest.mark.parametrize(
    ("kind", "followed"),
    [
        (None, "lower_keep_accents"),
        ("ElectraTokenizer", "lower_keep_accents"),
        ("PreTrainedTokenizerFast", "cased"),
        ("TokenizersBackend", "cased"),
    ],
)
def test_which_file_counts_follows_from_the_class(tmp_path, kind, followed):
    stated = {"do_lower_case": True, "strip_accents": False}
    vocabulary = write_tokenizer(tmp_path, tokenizer_class=kind, **stated)
    assert read_tokenizer(str(tmp_path)) == MODES[followed]
    vocab_file = str(tmp_path / "vocab.txt")
    assert read_stated_casing(vocab_file, vocabulary).casing == MODES[followed]


@pytest.mark.parametrize(
    ("kind", "stated", "said"),
    [
        ("PreTrainedTokenizerFast", {"post_processor": None}, "no post_processor"),
        ("ElectraTokenizerFast", {"post_processor": None}, None),
        ("PreTrainedTokenizerFast", {"normalizer": None}, "normalizer"),
        ("TokenizersBackend", {"normalizer": {"type": "Sequence", "normalizers": []}}, "Sequence"),
        ("BertTokenizer", {"normalizer": None}, None),
    ],
)
def test_a_class_that_takes_the_file_as_it_is(tmp_path, kind, stated, said):
    """Of the others transformers makes the normalizer and the post_processor itself."""
    write_tokenizer(tmp_path, tokenizer_class=kind, do_lower_case=True)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    if said is None:
        assert read_tokenizer(str(tmp_path)) == MODES["lower_strip"]
        return
    with pytest.raises(UserError) as error:
        read_tokenizer(str(tmp_path))
    assert said in error.value.received and '"BertTokenizer"' in error.value.remedy


def test_settings_that_count_without_a_word_on_the_case(tmp_path):
    write_tokenizer(tmp_path, MODES["lower_strip"], strip_accents=False)
    assert read_tokenizer(str(tmp_path)) == MODES["lower_keep_accents"]
    (tmp_path / "tokenizer.json").unlink()
    assert read_tokenizer(str(tmp_path)) is None
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    with pytest.raises(UserError) as error:
        read_tokenizer(str(tmp_path))
    assert "tokenize_chinese_chars False" in error.value.received


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "merges.txt"])
def test_a_vocabulary_of_another_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError) as error:
        read_tokenizer(str(tmp_path))
    assert error.value.where == str(tmp_path / name)
    write_tokenizer(tmp_path)
    assert read_tokenizer(str(tmp_path)) == MODES["cased"]


def test_special_tokens_of_other_names(tmp_path):
    write_tokenizer(tmp_path, sep_token={"content": "[SEP]"}, cls_token="<s>", pad_token="<pad>")
    read_tokenizer(str(tmp_path))  # pieces of these names there are none
    (tmp_path / "tokenizer.json").unlink()
    path = tmp_path / "vocab.txt"
    pieces = path.read_text("utf-8").splitlines()

    def refused(*lines):
        path.write_text("\n".join(lines), "utf-8")
        with pytest.raises(UserError) as error:
            read_tokenizer(str(tmp_path))
        assert error.value.where == str(path)
        assert error.value.received.startswith("cls_token '<s>'")
        return error.value.remedy

    assert "stay as they are: <s> to [CLS]." in refused(
        *(p.replace("[CLS]", "<s>") for p in pieces)
    )
    assert "[CLS] to [unused3], <s> to [CLS]." in refused(*pieces, "<s>")
    # As it says to do.
    path.write_text("\n".join([*(p.replace("[CLS]", "[unused3]") for p in pieces), "[CLS]"]))
    read_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "special_tokens_map.json").write_text('{"cls_token": "<s>"}')
    refused(*pieces, "<s>")


def test_added_tokens_are_named(tmp_path, capsys):
    vocabulary = write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.add_tokens(["covid19", "two words"])
    tokenizer.add_special_tokens(["[NAME]"])
    tokenizer.save(str(path))
    read_tokenizer(str(tmp_path))
    size, said = len(vocabulary), capsys.readouterr().err
    assert "cuts like other words: 'covid19', 'two words'." in said
    assert f"'covid19' on line {size + 1}; 'two words' on line {size + 2}" in said
    with (tmp_path / "vocab.txt").open("a") as file:  # as it says to do
        file.write("covid19\ntwo words\n")
    read_tokenizer(str(tmp_path))
    assert "cuts like other words: 'two words'.\n" in capsys.readouterr().err

    path.unlink()
    added = {"added_tokens_decoder": {str(size + 2): {"content": "new", "special": False}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(added | {"do_lower_case": False}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"covid19": size, "newer": size + 3}))
    read_tokenizer(str(tmp_path))
    assert "other words: 'new', 'newer'." in capsys.readouterr().err


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


def test_a_piece_on_two_lines_that_was_renamed_as_the_error_says(tmp_path):
    pieces = load_vocabulary(str(CASES[0].vocab)).tokens
    stored = json.loads(exported(CASES[0]).to_str())
    stored["model"]["vocab"][pieces[9]] = len(pieces)  # the line that counts is the last
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    path = tmp_path / "vocab.txt"
    for line, is_one in (("[unused9999]", True), ("other", False)):
        path.write_text("\n".join([*pieces[:9], line, *pieces[10:], pieces[9]]), "utf-8")
        if is_one:
            check_one_vocabulary(str(tmp_path))
        else:
            with pytest.raises(UserError, match="two vocabularies, which differ"):
                check_one_vocabulary(str(tmp_path))


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
