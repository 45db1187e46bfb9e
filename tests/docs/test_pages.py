"""What pages of the documentation have in common: their links and what they name exist."""

import ast
import re
import subprocess
import sys

import pytest

from electra_tf2 import __version__
from electra_tf2.text.casing_files import as_argument
from electra_tf2.text.casing_fit import inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED
from tests.docs.pages import (
    CHANGELOG,
    CONTRIBUTING,
    DOCS,
    PAGES,
    README,
    ROOT,
    blocks,
    code,
    run_shell,
)
from tests.test_architecture import STEPS

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
# Lines that programs print, which other tests compare with the pages.
PRINTED = ("Model: ", "  discriminator ", "| size | width |")
# Below it, the page of presets is printed by a program; above it are rows that name them all.
PRINTED_PRESETS = "# All values and their sources"
FILE = re.compile(
    r"(?<![\w/.<-])((?:electra_tf2|finetune|tests|examples|benchmarks|docs)/\w[\w/.-]*\w|[a-z_]+\.py)"
)
MODULE = re.compile(r"(?<![\w/.-])((?:electra_tf2|finetune|tests)(?:\.[A-Za-z_]\w*)+)")


@every_page
def test_links_lead_somewhere(path):
    text = path.read_text("utf-8")
    for place in re.findall(r"\]\((?!https?:)(.*?)\)", text):
        file, _, anchor = place.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), place
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M) if anchor else ()
        anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in anchors, place


def test_the_readme_links_every_page():
    linked = {ROOT / place for place in re.findall(r"\]\((.*?\.md)\)", README.read_text("utf-8"))}
    assert set(PAGES) - {README} <= linked


@every_page
def test_lines_are_short(path):
    text = path.read_text("utf-8")
    if path.name == "presets.md":
        text = re.sub(r"^\| \[.*$", "", text.split(PRINTED_PRESETS)[0], flags=re.M)
    lines = enumerate(text.splitlines(), 1)
    assert [n for n, line in lines if len(line) > 120 and not line.startswith(PRINTED)] == []


@every_page
def test_files_and_modules_that_are_named_exist(path):
    text = path.read_text("utf-8").split(PRINTED_PRESETS)[0]
    if path == CHANGELOG:
        text = re.sub(r"^\| .*? \|", "", text, flags=re.M)  # former names
    own = set(re.findall(r'^"""(\w+\.py): ', text, re.M))  # files that the reader is to write
    scripts = own | {file.name for file in ROOT.glob("*/*.py")}
    files = set(FILE.findall(text)) - scripts
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    assert [name for name in sorted(set(MODULE.findall(text))) if not names_something(name)] == []


def names_something(dotted: str) -> bool:
    """Whether a dotted name is that of a module, or of something that a module mentions."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length])
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if file.is_file():
            words = set(re.findall(r"\w+", file.read_text("utf-8")))
            return set(parts[length : length + 1]) <= words
    return False


def test_contributing_shows_the_layout_as_it_is():
    """Scripts, rooms and the modules beside them are named once each, in their folders."""
    tree, staircase = blocks(CONTRIBUTING)
    shown, folder = [], ""
    for line in tree.splitlines():
        names = re.match(r"((?:\w+(?:/|\.py)\s+)*)", line.strip() + " ")[0].split()
        if names and not line.startswith(" "):
            folder = ""
        shown += [folder + name for name in names]
        if len(names) == 1 and not folder:
            folder = names[0]
    top = {"electra_tf2/", "finetune/", "tests/", "examples/", "benchmarks/", "docs/"}
    scripts = {path.name for path in ROOT.glob("*.py")} - {"conftest.py"}
    library = {path.name for path in (ROOT / "electra_tf2").glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("*/*/__init__.py")}
    assert sorted(shown) == sorted(top | scripts | packages | {f"electra_tf2/{n}" for n in library})

    steps = [set(line.split()) for line in reversed(staircase.splitlines())]
    assert steps == STEPS


def test_recipes_of_contributing_name_what_exists():
    recipes = CONTRIBUTING.read_text("utf-8").split("## How to add a task")[1]
    tests = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")]
    configs = [path.read_text("utf-8") for path in ROOT.glob("configure_*.py")]
    words = set(re.findall(r"\w+", code("electra_tf2", "finetune") + "".join(tests + configs)))
    assert set(re.findall(r"`([A-Za-z_]+)`", recipes)) <= words


def test_commands_that_take_markup_out_of_a_corpus(tmp_path):
    """What is left is the text, of which the builders have nothing to say."""
    sentences = [f"{n}\tBread number {n}.\n" for n in range(9990, 10010)]
    subtitles = [
        f"{n}\r\n00:00:{n},000 --> 00:00:{n},900\r\nBread.\r\n{n}\r\n\r\n" for n in range(10, 30)
    ]
    files = {"A/wiki_00": '<doc id="1">\nBread\n\nBread.\n</doc>\n<doc id="2">\nButter.\n</doc>\n'}
    files |= {"eng-sentences.txt": "".join(sentences), "film.srt": "".join(subtitles)}
    for name, text in files.items():
        path = tmp_path / "data" / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="")
        assert text_advice(inspect_text([text]), UNCASED, as_argument)
    for block in blocks(DOCS / "pretraining.md"):
        if "sed -i" in block:
            run_shell(block, tmp_path)
    left = {name: (tmp_path / "data" / "corpus" / name).read_bytes().decode() for name in files}
    assert left == {
        "A/wiki_00": "Bread\nBread.\n\nButter.\n\n",
        "eng-sentences.txt": "".join(line.partition("\t")[2] for line in sentences),
        "film.srt": "".join(f"Bread.\r\n{n}\r\n" for n in range(10, 30)),
    }


def test_changelog_begins_with_this_version():
    versions = re.findall(r"^## (\S+) - \d{4}-\d\d-\d\d$", CHANGELOG.read_text("utf-8"), re.M)
    assert versions[0] == __version__ and len(versions) == len(set(versions))


def test_python_in_the_pages_is_formatted_as_the_code_is():
    for path in [README, *DOCS.glob("*.md")]:
        for block in re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S):
            ast.parse(block)
            assert max(map(len, block.splitlines())) <= 100, path.name


def test_python_in_the_pages_can_be_copied_alone(tmp_path):
    """Each block imports what it uses; some pages say that theirs go on from one to the next."""
    for path in PAGES:
        found = blocks(path, "python")
        if "one session" in path.read_text("utf-8"):
            found = ["".join(found)]
        for number, block in enumerate(found, 1):
            (tmp_path / f"{path.stem}_{number}.py").write_text(block, "utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", tmp_path]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
