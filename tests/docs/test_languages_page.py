"""What docs/languages.md says of languages is counted, and its messages are the program's."""

import gzip
import json
import re
import unicodedata
from pathlib import Path

import pytest

import build_pretraining_dataset
import build_vocabulary
from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.data.building import flags
from electra_tf2.text.casing_files import as_flag
from electra_tf2.text.casing_fit import casing_advice, inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED, Casing, normalize
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.data.sources.corpora import json_bytes, parquet_bytes
from tests.docs.pages import DOCS, blocks, run_shell, section

TEXTS = json.loads(Path(__file__).with_name("sample_texts.json").read_text("utf-8"))
PAGE = DOCS / "languages.md"
ROWS = dict(re.findall(r"^\| (\w+) \|.*\| (\d+) % \|$", PAGE.read_text("utf-8"), re.M))


@pytest.mark.parametrize("language", TEXTS)
def test_shares_of_words_that_the_default_changes(language):
    losses = inspect_text([TEXTS[language]]).losses
    changed, words = (sum(getattr(x, name) for x in losses) for name in ("changed", "words"))
    assert f"{changed / words:.0%}" == f"{ROWS[language]}%"


@pytest.mark.parametrize("language", ["Hindi", "Thai", "Khmer", "Vietnamese"])
def test_shares_of_characters_that_the_default_takes(language):
    kept = "".join(normalize(TEXTS[language], Casing(True, False)))
    left = "".join(normalize(TEXTS[language], UNCASED))
    share = 1 - len(left) / len(unicodedata.normalize("NFD", kept))
    text = " ".join(section(PAGE, "Which flags").split())
    found = re.search(rf"(\d+) % (?:of the characters )?from the {language}", text)
    assert f"{share:.0%}" == f"{found[1]}%"


def test_messages():
    shown = [" ".join(quote.replace("\n>", "").split()) for quote in quotes()]
    (marks,) = text_advice(inspect_text([TEXTS["Hindi"]]), UNCASED, as_flag)
    assert shown[0] == f"warning: > {marks}".replace("> ", "")
    pieces = Vocabulary((*SPECIAL_TOKENS, *(chr(0xAC00 + n) for n in range(95)), "서울", "A", "b"))
    pieces = casing_advice(pieces, UNCASED, as_flag)
    numbers = r"[\d,]+ of [\d,]+ pieces"
    assert re.sub(numbers, "", shown[1]) == re.sub(
        numbers, "", "warning: " + re.sub(r"'.*'", "'서울'", pieces)
    )


def quotes() -> list[str]:
    return re.findall(r"^> (warning: .*?)\n\n", PAGE.read_text("utf-8"), re.M | re.S)


def test_commands(tmp_path):
    """The commands for text do what the page says, and the programs take the others' flags."""
    corpus = tmp_path / "data" / "corpus"
    corpus.mkdir(parents=True)
    (corpus / "km.txt").write_text("ខ្ញុំ\u200bទៅ\u200bផ្សារ\n", encoding="utf-8")
    (tmp_path / "genome.txt").write_text("ACGTACGTACGTAC\n")
    (tmp_path / "nfd.txt").write_text("cafe\u0301\n", encoding="utf-8")
    calls = [call for block in blocks(PAGE) if "from_pretrained" not in block
             and "german" not in block for call in run_shell(block, tmp_path)]  # fmt: skip
    assert (corpus / "genome.txt").read_text() == "ACGTAC GTACGT AC\n"
    assert (corpus / "km.txt").read_text(encoding="utf-8") == "ខ្ញុំ ទៅ ផ្សារ\n"
    assert (corpus / "nfc.txt").read_text(encoding="utf-8") == "café\n"
    assert [script for script, *_ in calls] == [
        "build_vocabulary.py",
        "build_pretraining_dataset.py",
    ]
    parser = cli.make_parser("")
    flags.add_vocabulary_flags(parser)
    assert parser.parse_args(calls[0][1:]).strip_accents is False
    parser = cli.make_parser("")
    parser.add_argument("--corpus-dir")
    parser.add_argument("--vocab-file")
    parser.add_argument("--output-dir")
    flags.add_build_flags(parser)
    assert parser.parse_args(calls[1][1:]).strip_accents is None


def test_several_languages(tmp_path, monkeypatch, capsys):
    """The job's commands up to training: the builders run, and its hparams are those of a run."""
    monkeypatch.chdir(tmp_path)
    english = parquet_bytes(["an old ship crossed the river\n" * 300] * 9)
    german = gzip.compress(json_bytes(["Er hört dort schöne Musik dafür\n" * 20] * 9))
    for part in ("train", "heldout"):
        for name, data in (("english/books.parquet", english), ("german/pages.jsonl.gz", german)):
            path = Path("corpus", part, name)
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
    (block,) = [block for block in blocks(PAGE) if "german" in block]
    calls = run_shell(block.replace(" 8000", " 70").replace(" --no-strip-accents", ""), tmp_path)
    assert [script for script, *_ in calls] == [
        "build_vocabulary.py",
        *["build_pretraining_dataset.py"] * 4,
        "run_pretraining.py",
        "export_model.py",
    ]
    build_vocabulary.main(calls[0][1:])
    assert "in a part of the text" in "".join(capsys.readouterr())  # as the flag is taken away
    for _, *arguments in calls[1:5]:
        build_pretraining_dataset.main(arguments)
    flags, _ = cli.parse_run_flags("", calls[5][1:])
    config = PretrainingConfig(flags.model_name, flags.data_dir, **flags.hparams)
    assert len(list(tmp_path.glob(config.eval_tfrecords))) > 1
    for pattern in config.pretrain_tfrecords:
        assert any(tmp_path.glob(pattern))
    assert calls[6][-3:] == ["huggingface", "--output", "exported"]
