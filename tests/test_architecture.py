"""The staircase of dependencies: every import leads down, or stays on its own step.

A step is a package or a top-level module. Imports within a step are free, but for circles of files.
"""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]

# From the ground floor up. What stands on one step knows nothing of its neighbours.
STEPS = [
    {"errors", "randomness"},
    {"files", "console"},
    {"outputs", "patterns", "stored_json"},
    {"text", "modeling"},
    {"hparams", "compute"},
    {"cli"},
    {"data", "training"},
    {"plots"},
    {"formats"},
    {"loading"},
    {"inference", "export", "growing", "pretraining"},
    {"sweep", "report"},
    {"configure"},
    {"finetune"},
    {"scripts"},
]
LEVEL = {room: level for level, rooms in enumerate(STEPS) for room in rooms}


def test_every_import_leads_down_the_staircase():
    wrong = []
    for path in product_files():
        for line, target in imports(path):
            here, there = room(path), room(target)
            if here != there and LEVEL[there] >= LEVEL[here]:
                wrong.append(f"{path}:{line}: {here} imports {there}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_file_imports_itself_through_others():
    graph = {path: {target for _, target in imports(path)} for path in product_files()}
    while leaves := {path for path, targets in graph.items() if not targets & graph.keys()}:
        graph = {path: targets for path, targets in graph.items() if path not in leaves}
    assert sorted(map(str, graph)) == [], "these files form circles, or import such a circle"


def product_files() -> list[Path]:
    folders = [p for name in ("electra_tf2", "finetune") for p in (ROOT / name).rglob("*.py")]
    scripts = [path for path in ROOT.glob("*.py") if path.name != "conftest.py"]
    return [path.relative_to(ROOT) for path in [*scripts, *folders] if path.name != "__init__.py"]


def room(path: Path) -> str:
    package, *inside = path.with_suffix("").parts
    if package == "electra_tf2":
        return inside[0]
    if inside:
        return package
    return "configure" if package.startswith("configure_") else "scripts"


@functools.cache
def imports(path: Path) -> list[tuple[int, Path]]:
    """Line and file of each import of a file of ours, late ones included, those of types not."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        files = (Path(name.replace(".", "/") + ".py") for name in names)
        found += [(node.lineno, file) for file in files if (ROOT / file).is_file()]
    return found
