import os
import subprocess
import sys

import pytest

from electra_tf2.data.building.staging import StagedFolder
from electra_tf2.errors import UserError

SHARD = "pretrain_data.tfrecord-0-of-1"


def put(folder, content, names=(SHARD, "metadata.json")):
    for name in names:
        with open(os.path.join(folder, name), "w") as file:
            file.write(content)


def tree(path):
    return {
        str(p.relative_to(path)): p.read_text() if p.is_file() else None for p in path.rglob("*")
    }


def test_appears_at_the_end(tmp_path):
    output = tmp_path / "new" / "folders" / "out"

    with StagedFolder(str(output)) as staged:
        put(staged.path, "x")
        assert not output.exists()
        staged.publish()

    assert tree(output) == {SHARD: "x", "metadata.json": "x"}
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert output.stat().st_mode & 0o777 == output.parent.stat().st_mode & 0o777


@pytest.mark.parametrize("existing", [None, "empty", "full"])
def test_failure_leaves_everything_as_it_was(tmp_path, existing):
    output = tmp_path / "new" / "out"
    if existing:
        output.mkdir(parents=True)
    if existing == "full":
        put(output, "old")
    before = tree(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        with StagedFolder(str(output), overwrite=True) as staged:
            put(staged.path, "x")
            raise KeyboardInterrupt

    assert tree(tmp_path) == before


def test_overwrite_replaces_all_of_a_data_set(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    put(output, "old", (SHARD, "pretrain_data.tfrecord-1-of-2", "metadata.json"))

    with StagedFolder(str(output), overwrite=True) as staged:
        put(staged.path, "new")
        staged.publish()

    assert tree(tmp_path) == {"out": None, f"out/{SHARD}": "new", "out/metadata.json": "new"}


def test_overwrite_does_not_take_other_files(tmp_path):
    put(tmp_path, "thesis", ("thesis.doc", SHARD))

    with pytest.raises(UserError, match="not empty") as caught:
        StagedFolder(str(tmp_path), overwrite=True).check()

    assert caught.value.received == "thesis.doc"


def test_output_folder_that_can_not_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("electra_tf2.files.list_dir", refuse)
    with pytest.raises(UserError, match="can't be written to") as error:
        StagedFolder(str(tmp_path)).check()
    assert error.value.where == str(tmp_path)


def test_output_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with StagedFolder(str(tmp_path / "link")) as staged:
        put(staged.path, "x")
        staged.publish()

    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {SHARD: "x", "metadata.json": "x"}


def test_output_folder_that_is_a_mounted_disk(tmp_path, monkeypatch):
    put(tmp_path, "old", (SHARD, "pretrain_data.tfrecord-1-of-2", "metadata.json"))
    inode = tmp_path.stat().st_ino
    monkeypatch.setattr(os.path, "ismount", lambda path: path == os.path.realpath(tmp_path))

    with StagedFolder(str(tmp_path), overwrite=True) as staged:
        put(staged.path, "new")
        assert (tmp_path / SHARD).read_text() == "old"
        staged.publish()

    assert tree(tmp_path) == {SHARD: "new", "metadata.json": "new"}
    assert tmp_path.stat().st_ino == inode


def test_leftovers_of_a_killed_build_are_removed_by_the_next(tmp_path):
    output = tmp_path / "out"
    code = (
        "import os, sys; from electra_tf2.data.building.staging import StagedFolder\n"
        "with StagedFolder(sys.argv[1]) as staged:\n"
        "    open(staged.path + '/part', 'w').close(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(output)], cwd=os.getcwd(), check=False)
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".out.partial-")

    with StagedFolder(str(output)) as running, StagedFolder(str(output)) as staged:
        # The folder of a build that is under way stays.
        assert set(os.listdir(tmp_path)) == {
            os.path.basename(running.path),
            os.path.basename(staged.path),
        }
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", [SHARD, "notes.txt"])
def test_what_came_into_the_output_folder_meanwhile_stays(tmp_path, name):
    """Such as the data set of another build, which was begun before this one ended."""
    output = tmp_path / "out"
    with pytest.raises(UserError, match="not empty") as error:
        with StagedFolder(str(output), overwrite=name != SHARD) as staged:
            put(staged.path, "new")
            output.mkdir()
            put(output, "theirs", (name,))
            staged.publish()
    (kept,) = tmp_path.glob(".out.partial-*")
    assert tree(output) == {name: "theirs"} and str(kept) in error.value.remedy
    assert tree(kept) == {SHARD: "new", "metadata.json": "new"}
    with StagedFolder(str(tmp_path / "out2")):
        assert kept.exists()


@pytest.mark.parametrize("renamed_again", [False, True])
def test_a_kill_between_the_two_renames_of_overwrite(tmp_path, renamed_again):
    output, replaced = tmp_path / "out", tmp_path / ".out.replaced"
    replaced.mkdir()
    put(replaced, "old")
    if renamed_again:
        output.mkdir()
        put(output, "new")

    with StagedFolder(str(output), overwrite=True):
        pass

    content = "new" if renamed_again else "old"
    assert tree(tmp_path) == {"out": None, f"out/{SHARD}": content, "out/metadata.json": content}
