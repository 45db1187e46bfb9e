"""The quickstart's fine-tuning data: which words of a docstring are names, types and defaults."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))  # scripts beside each other, not a package

import docstring_corpus  # noqa: E402
import parameter_lists  # noqa: E402
from parameter_lists import TaggedText  # noqa: E402

MODULE = '''
def sort(a, axis=-1, *, kind="quick"):
    """Sort an array.

    Parameters
    ----------
    a : `array_like` of float
        Array to be sorted. It stays as it is.
    axis : int or None, default=-1
        Axis along which to sort.

        If None, everything.
    kind : {'quick', 'heap'}, optional
        The *algorithm*; defaults to ``'quick'``.

    Returns
    -------
    sorted_array : ndarray
        Not a parameter.
    """


def other(a):
    """
    Parameters
    ----------
    a : `array_like` of float
        Array to be sorted. Described as above.
    """
'''
A = "a/B-NAME array_like/B-TYPE of/I-TYPE float/I-TYPE Array to be sorted"
AXIS = "axis/B-NAME int/B-TYPE or/I-TYPE None/I-TYPE default -1/B-DEFAULT Axis along which to sort"
KIND = "kind/B-NAME quick/B-TYPE heap/I-TYPE optional The algorithm defaults to quick/B-DEFAULT"


def tagged(text):
    """Makes a text of words with their tags behind a slash."""
    words, _, tags = zip(*(word.partition("/") for word in text.split()), strict=True)
    return TaggedText(words, tuple(label or "O" for label in tags))


def test_texts_of_a_file(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    assert list(parameter_lists.texts_of(path, set())) == [tagged(f"{A} {AXIS} {KIND}")]


def test_parameters_that_were_seen_are_left_out(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    seen = {tagged(A), tagged(KIND)}
    assert list(parameter_lists.texts_of(path, seen)) == [tagged(AXIS)]
    assert seen == {tagged(A), tagged(AXIS), tagged(KIND)}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("x, y", "float", "Both."), "x/B-NAME y/B-NAME float/B-TYPE Both"),
        (("*args", "tuple", "More."), "args/B-NAME tuple/B-TYPE More"),
        (("n", "optional", "Count."), "n/B-NAME optional Count"),
        (("s", "str (default: 'a b')", ""), "s/B-NAME str/B-TYPE default a/B-DEFAULT b/I-DEFAULT"),
        (("n", "int", "Default is 1e-3."), "n/B-NAME int/B-TYPE Default is 1e-3/B-DEFAULT"),
        (("n", "int", "Default is none of these"), "n/B-NAME int/B-TYPE Default is none of these"),
        (("f", "np.dtype", "default: None"), "f/B-NAME np.dtype/B-TYPE default None/B-DEFAULT"),
    ],
)
def test_tags(parts, expected):
    assert parameter_lists.tag(*parts) == tagged(expected)


def test_files_without_such_lists_give_nothing(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Args:\n    x: What is added."""\n')
    assert list(parameter_lists.texts_of(path, set())) == []


def test_a_text_is_no_longer_than_its_limits():
    parameter = tagged("x/B-NAME float/B-TYPE " + "word " * 12)  # 14 words
    assert [len(text.words) for text in parameter_lists._join([parameter] * 5)] == [28, 28, 14]
    short = tagged("x/B-NAME float/B-TYPE word")
    assert [len(text.words) for text in parameter_lists._join([short] * 4)] == [9, 3]


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two installed packages, with a module of each held out."""
    lines = '"""F.\n\nParameters\n----------\n{} : int\n    {}\n"""\n'
    for package in ("first", "second"):
        for module in ("seen", "held"):
            folder = tmp_path / package / module
            folder.mkdir(parents=True)
            (tmp_path / package / "__init__.py").write_text("")
            own = lines.format(f"of_{package}", f"Of {module}.")
            common = lines.format("x", "Everywhere alike.")
            (folder / "code.py").write_text(f"{own}def f():\n    {common!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(docstring_corpus, "HELD_OUT", ("first/held", "second/held"))
    return ["first", "second"]


def test_whole_modules_are_held_out(packages):
    train, dev = parameter_lists.collect(packages)
    assert train == [
        tagged("of_first/B-NAME int/B-TYPE Of seen"),
        tagged("x/B-NAME int/B-TYPE Everywhere alike"),
        tagged("of_second/B-NAME int/B-TYPE Of seen"),
    ]
    assert dev == [
        tagged("of_first/B-NAME int/B-TYPE Of held"),
        tagged("of_second/B-NAME int/B-TYPE Of held"),
    ]
    assert parameter_lists.collect(packages) == (train, dev)


def test_files_are_built_once(packages, tmp_path):
    folder = tmp_path / "data"
    assert parameter_lists.build(folder, packages) == (3, 2)
    content = (folder / "dev.txt").read_text()
    assert content.startswith("of_first B-NAME\nint B-TYPE\nOf O\nheld O\n\n")
    assert sorted(path.name for path in folder.iterdir()) == ["dev.txt", "train.txt"]
    assert parameter_lists.build(folder, ["no_such_package"]) == (3, 2)
    texts = [*parameter_lists.collect(packages)]
    assert [parameter_lists.read_columns(folder / f"{s}.txt") for s in ("train", "dev")] == texts


def test_no_lists_at_all(tmp_path):
    assert parameter_lists.build(tmp_path, ["no_such_package_anywhere"]) == (0, 0)
