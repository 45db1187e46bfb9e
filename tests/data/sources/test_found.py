"""Which files a corpus is: folders, patterns, saved data sets, data sets by name."""

import json
import sys
import types

import pytest

from electra_tf2.data.sources.found import find_files
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.errors import UserError
from tests.data.sources.corpora import json_bytes, stream_bytes, write_saved


def names_of(corpus):
    found, _ = find_files(str(corpus), "--corpus-dir")
    assert all(file.size for file in found)
    return [file.name for file in found]


@pytest.fixture
def folder(tmp_path):
    for name in ("a/x.jsonl", "a/deep/y.jsonl", "a/.hidden/z.jsonl", "b/x.txt", "b/m, n.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    return tmp_path


def test_a_file_is_a_corpus(folder):
    assert names_of(folder / "b" / "x.txt") == ["x.txt"]
    assert names_of(folder / "b" / "m, n.txt") == ["m, n.txt"]


def test_patterns(folder, monkeypatch):
    assert names_of(folder / "a" / "*.jsonl") == ["x.jsonl"]
    assert names_of(folder / "**" / "*.jsonl") == ["deep/y.jsonl", "x.jsonl"]
    assert names_of(folder / "*") == ["a/deep/y.jsonl", "a/x.jsonl", "b/m, n.txt", "b/x.txt"]
    joined = f"{folder}/a/*.jsonl,{folder}/b/x.txt,{folder}/b"
    assert names_of(joined) == ["a/x.jsonl", "b/m, n.txt", "b/x.txt"]
    monkeypatch.chdir(folder / "b")
    assert names_of("x*") == names_of("../b/x*") == ["x.txt"]
    assert names_of(f"x*,{folder}/a/*.jsonl") == ["a/x.jsonl", "b/x.txt"]
    assert names_of(f"file://{folder}/a/*.jsonl") == ["x.jsonl"]


@pytest.mark.parametrize("corpus", ["*.parquet", "nowhere", "b/x.txt/more"])
def test_what_is_not_there(folder, corpus):
    with pytest.raises(UserError, match="does not exist") as caught:
        find_files(f"{folder}/{corpus}", "--corpus-dir")
    assert caught.value.where == "--corpus-dir" and "pattern" in caught.value.remedy


@pytest.mark.parametrize("part", ["boooks", "b/*.parquet", "empty", "hf:imdb"])
def test_every_part_of_a_joined_corpus_has_to_be_there(folder, part, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    for corpus in (f"a/*.jsonl,{part}", f"b,{part},a"):
        with pytest.raises(UserError, match="joined" if ":" in part else "part") as caught:
            find_files(corpus, "--corpus-dir")
        assert caught.value.where == "--corpus-dir" and caught.value.received == part
    assert names_of("a/*.jsonl,b/m[,] n.txt") == ["a/x.jsonl", "b/m, n.txt"]


def test_a_part_of_hidden_files_is_there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "c").mkdir()
    (folder / "c" / ".x.txt").write_text("text\n")
    found, hidden = find_files("b/x.txt,c", "--corpus-dir")
    assert len(found) == 1 and hidden == 1


def test_a_file_that_several_paths_lead_to_is_read_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "a" / "back").symlink_to(folder / "a")
    assert names_of("a/**/*.jsonl") == ["deep/y.jsonl", "x.jsonl"]
    assert names_of(f"b,./b,{folder}/b/*,b/x.txt") == ["m, n.txt", "x.txt"]


def test_a_folder_that_a_link_leads_to_as_well_is_read_once(folder):
    (folder / "a" / "latest").symlink_to("deep")
    (folder / "a" / "deep" / "w.jsonl").symlink_to("y.jsonl")
    (folder / "shortest.jsonl").symlink_to("b/x.txt")
    assert names_of(folder) == ["a/deep/w.jsonl", "a/x.jsonl", "b/m, n.txt", "shortest.jsonl"]
    (folder / "a" / "deep").rename(folder / "a" / ".deep")
    (folder / "a" / "latest").unlink()
    (folder / "a" / "latest").symlink_to(".deep")
    assert "a/latest/w.jsonl" in names_of(folder)


def test_a_saved_data_set_is_the_files_of_its_state(tmp_path):
    write_saved(tmp_path / "one", ["a", "b", "c"])
    assert names_of(tmp_path / "one") == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    write_saved(tmp_path / "several" / "train", ["d"], shards=1)
    (tmp_path / "several" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert names_of(tmp_path / "several") == ["train/data-00000-of-00001.arrow"]
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(UserError, match="can't be read") as caught:
        find_files(str(tmp_path), "--corpus-dir")
    assert caught.value.where == str(tmp_path / "one" / "state.json")


def test_patterns_leave_out_what_a_saved_data_set_has_no_use_for(tmp_path):
    write_saved(tmp_path / "train", ["a", "b", "c"])
    shards = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for pattern in ("**/*.arrow", "train/*", "*/*.arrow", "**"):
        assert names_of(tmp_path / pattern) == shards
    assert names_of(tmp_path / "train" / "cache-1f2e.arrow") == ["cache-1f2e.arrow"]


@pytest.mark.parametrize("corpus", ["train", "*", "train/*.arrow"])
def test_a_saved_data_set_that_has_lost_a_file(tmp_path, corpus):
    write_saved(tmp_path / "train", ["a", "b", "c"])
    (tmp_path / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(UserError, match="lacks files") as caught:
        find_files(f"{tmp_path}/{corpus}", "--corpus-dir")
    assert caught.value.where == str(tmp_path / "train" / "state.json")
    assert caught.value.received == "data-00001-of-00002.arrow"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A module in place of `datasets`; yields what was asked of it."""
    path = tmp_path / "wikipedia-train.arrow"
    path.write_bytes(stream_bytes(["a"]))
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        if name == "nobody/nothing":
            raise FileNotFoundError("no such data set\nand more")
        return types.SimpleNamespace(cache_files=[{"filename": str(path)}])

    module = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def test_data_sets_by_name(hub):
    assert names_of("hf:wikimedia/wikipedia,20231101.en:validation") == ["wikipedia-train.arrow"]
    for corpus in ("hf:c4", "hf:c4,en", "hf:c4:train+test"):
        names_of(corpus)
    assert hub == [
        ("wikimedia/wikipedia", "20231101.en", "validation"),
        ("c4", None, "train"),
        ("c4", "en", "train"),
        ("c4", None, "train+test"),
    ]


@pytest.mark.parametrize("corpus", ["hf:", "hf:a:b:c", "hf:a,b,c", "hf:a:train[:10]"])
def test_malformed_names(hub, corpus):
    with pytest.raises(UserError, match="malformed") as caught:
        find_files(corpus, "--corpus-dir")
    assert caught.value.where == "--corpus-dir" and not hub


def test_a_data_set_that_can_not_be_loaded(hub, monkeypatch):
    with pytest.raises(UserError, match="can't be loaded") as caught:
        find_files("hf:nobody/nothing", "--corpus-dir")
    assert caught.value.received == "FileNotFoundError: no such data set"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="not installed") as caught:
        find_files("hf:c4", "--corpus-dir")
    assert "pip install datasets" in caught.value.remedy


@pytest.mark.interop
def test_the_library_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install datasets")
    texts = [f"text {n}" for n in range(50)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_bytes(json_bytes(texts))
    loaded = datasets.load_dataset(str(tmp_path / "mine"), split="train")
    loaded.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    datasets.load_from_disk(str(tmp_path / "saved")).map(lambda row: {"text": row["text"] * 2})

    reader = CorpusReader()
    for corpus, count in ((f"hf:{tmp_path}/mine:train", 1), (str(tmp_path / "saved"), 3)):
        found, _ = find_files(corpus, "--corpus-dir")
        batches = [
            b for file in found for chunk in reader.plan(file) for b in reader.batches(chunk)
        ]
        assert len(found) == count and sum((batch.texts for batch in batches), []) == texts
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    assert [item["filename"] for item in state["_data_files"]] == [file.name for file in found]
