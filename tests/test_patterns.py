"""Patterns of records: what is a folder's name is not a pattern."""

import glob
import os

import pytest

from electra_tf2.patterns import covers, literal, matches, plain, short_names, split

FOLDERS = [
    "[v2]", "a,b", "q?x", "*", "back\\slash", "\\[x\\]", "~", " a b ", "[!a]", "[", "é", "\udcff",
    "{a,b}", "a, b",
]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    for name in (*FOLDERS, "v", "2", "a", "b", "qax", "plain"):
        os.makedirs(tmp_path / name, exist_ok=True)
        for file in ("r-0", "r-1", ".r"):
            (tmp_path / name / file).write_text("")
    return tmp_path


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_not_a_pattern(root, name, monkeypatch):
    folder = str(root / name)
    expected = [f"{folder}/r-0", f"{folder}/r-1"]
    for pattern in (f"{literal(folder)}/r-*", f"{folder}/r-*"):
        assert split(pattern) == [pattern]
        assert sorted(matches(pattern)) == expected
    assert plain(literal(folder)) == folder
    both = f"{literal(folder)}/r-0,{folder}/r-1 , {root}/plain/r-*"
    assert [sorted(matches(p)) for p in split(both)] == [
        expected[:1], expected[1:], [f"{root}/plain/r-0", f"{root}/plain/r-1"],
    ]  # fmt: skip
    os.makedirs(root / name / "more", exist_ok=True)
    (root / name / "more" / "r-2").write_text("")
    assert split(f"{folder}/*/r-*") == [f"{folder}/*/r-*"]
    assert matches(f"{folder}/*/r-*") == [f"{folder}/more/r-2"]
    monkeypatch.chdir(root)
    assert sorted(matches(f"{literal(name)}/r-*")) == [f"{name}/r-0", f"{name}/r-1"]


@pytest.mark.parametrize("name", ["q?y", "[pv]", "*y", "a,c"])
def test_a_folder_that_is_not_there_has_no_neighbours(root, name):
    assert matches(f"{literal(str(root / name))}/r-*") == []
    assert split(f"{literal(str(root / name))}/r-*") == [f"{literal(str(root / name))}/r-*"]


def test_patterns_of_folders_stay_patterns(root):
    assert sorted(matches(f"{root}/[v2]x/r-0")) == []
    assert sorted(matches(f"{root}/pl?in/r-[^1]")) == [f"{root}/plain/r-0"]
    assert sorted(matches(f"{root}/p*/*")) == [f"{root}/plain/{n}" for n in (".r", "r-0", "r-1")]
    assert matches(f"{root}/\\[v2\\]/r-0") == [f"{root}/[v2]/r-0"]
    assert split("a/x*, b/y*,,c/z*") == ["a/x*", "b/y*", "c/z*"]
    assert plain("a/*") is None and plain("a/b") == "a/b"


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "**/",
        "**/*",
        "**/r-0",
        "**/**/r-*",
        "a/**",
        "a/**/",
        "*/**/r-1",
        "a/**/in/**/r*",
        "r**",
    ],
)
def test_folders_in_folders_are_those_of_glob(tmp_path, pattern, monkeypatch):
    for folder in ("a/in/more/in", "b", ".hidden", "a/.hidden", "[x]"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("r-0", "r-1", ".r"):
            (tmp_path / folder / name).write_text("")
    monkeypatch.chdir(tmp_path)
    for own in (pattern, f"{tmp_path}/{pattern}"):
        assert sorted(matches(own, deep=True)) == sorted({*glob.glob(own, recursive=True)})


def test_links_in_circles_are_followed_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "r").write_text("")
    for place in ("a/b/loop", "a/b/again", "a/up"):
        (tmp_path / place).symlink_to(tmp_path / "a")
    (tmp_path / "z").symlink_to("a/b")
    assert matches(f"{tmp_path}/**/r", deep=True) == [f"{tmp_path}/z/r"]
    assert matches(f"{tmp_path}/a/**/r", deep=True) == [f"{tmp_path}/a/b/r"]
    assert matches(f"{tmp_path}/**/loop/**/r", deep=True) == [f"{tmp_path}/z/loop/b/r"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("plain", True),
        ("plain/*", True),
        ("pl*", True),
        ("**/new*", True),
        ("**", True),
        ("a/*,plain/n[!x]w.t?t", True),
        ("plain/**/new.txt", True),
        ("./a/../plain/new.txt", True),
        ("*", True),
        ("*.txt", False),
        ("plain/*.json", False),
        ("plain/*/*", False),
        ("plain/r-0", False),
        ("a,b", False),
    ],
)
def test_what_a_pattern_would_match_need_not_be_there(tmp_path, pattern, expected, monkeypatch):
    for name in ("plain", "a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("plain")
    monkeypatch.chdir(tmp_path)
    for path in ("plain/new.txt", tmp_path / "plain" / "new.txt", "link/new.txt"):
        assert covers(pattern, str(path)) is expected


@pytest.mark.parametrize(
    "patterns, names",
    [
        (["d/wiki/*.tfrecord*", "d/code/*.tfrecord*"], ["wiki", "code"]),
        (["gs://b/wiki_v2/en/x.tfrecord*", "/c/en/x.tfrecord*"], ["gs_b_wiki_v2", "c"]),
        (["d/wiki-*.tfrecord*", "d/code-[0-4].tfrecord-*"], ["wiki", "code-0-4"]),
        (["d/*.tfrecord*", "d/more/*.tfrecord*"], ["d", "d_more"]),
        (["d/?", "d/*"], ["corpus_1", "corpus_2"]),
        (["d/corpus_2", "d/*"], ["corpus_1", "corpus_2"]),
        (["data/law/*"], ["law"]),
        (["d/web/*.tfrecord*", "d/wiki/*.tfrecord*, d/books/*"], ["web", "wiki_books"]),
        (["d/a/x-*.tfrecord*,d/a/y-*.tfrecord*", "d/b/*"], ["a_x_a_y", "b"]),
        (["*"], ["corpus_1"]),
    ],
)
def test_short_names_tell_patterns_apart(patterns, names):
    assert short_names(patterns) == names
