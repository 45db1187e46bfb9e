"""The pages of the documentation, and what stands in them."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README, CONTRIBUTING, CHANGELOG = (
    ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING", "CHANGELOG")
)
PAGES = [README, CONTRIBUTING, CHANGELOG, *sorted(DOCS.glob("*.md"))]
# What the shell makes of each call of python is noted instead of run: words, and a mark after them.
# There is no virtual environment to activate.
_NOTE_CALLS = 'python() { printf "%s\\0" "$@" $\'\\x1e\' >> calls; }\n.() { :; }\n'


def blocks(path: Path, language: str = "") -> list[str]:
    """Returns the fenced blocks of a page in a language ("" for commands)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    return [block for kind, block in found if kind == language]


def block_with(path: Path, part: str) -> str:
    """Returns the one block of commands that contains a text."""
    (block,) = [block for block in blocks(path) if part in block]
    return block


def section(path: Path, heading: str) -> str:
    """Returns the text below a heading of the second level, to the next one."""
    (text,) = re.findall(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", path.read_text("utf-8"), re.M | re.S
    )
    return text


def quoted_messages(text: str) -> list[str]:
    """Returns the messages of the program that the items of a list begin with."""
    return [" ".join(words.split()) for words in re.findall(r'^- "(.*?)"', text, re.M | re.S)]


def run_shell(block: str, folder: Path) -> list[list[str]]:
    """Runs a block's other commands in a folder; returns the arguments of its calls of python."""
    subprocess.run(["bash", "-euc", _NOTE_CALLS + block], cwd=folder, check=True)
    calls, words = [], []
    if (folder / "calls").exists():
        for word in (folder / "calls").read_text().split("\0")[:-1]:
            if word == "\x1e":
                calls.append(words)
                words = []
            else:
                words.append(word)
        (folder / "calls").unlink()
    return calls


def run_python(path: Path, *, without: Sequence[str] = ()) -> dict:
    """Runs the Python blocks of a page one after the other, as a reader would.

    Args:
        path: the page.
        without: words; blocks with one of them are left out.

    Returns:
        The names that they define.
    """
    names = {"__name__": "__main__"}
    for number, block in enumerate(blocks(path, "python"), 1):
        if any(word in block for word in without):
            continue
        exec(compile(block, f"{path.name}, block {number}", "exec"), names)
    return names


def code(*packages: str) -> str:
    """Returns the text of packages, with an ellipsis for each value in a message."""
    files = [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]
    text = "".join(path.read_text("utf-8") for path in files)
    return re.sub(r"\{\w+\}", "…", text)
