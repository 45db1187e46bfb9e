"""What docs/languages.md says of languages is counted, and its messages are the program's."""

import json
import re
import unicodedata
from pathlib import Path

import pytest

from electra_tf2 import cli
from electra_tf2.data import flags
from electra_tf2.text.casing_files import as_flag
from electra_tf2.text.casing_fit import casing_advice, inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED, Casing, normalize
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
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
             for call in run_shell(block, tmp_path)]  # fmt: skip
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
