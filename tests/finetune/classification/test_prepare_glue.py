"""The program that arranges a downloaded GLUE folder."""

import shutil

import pytest

import prepare_glue
from electra_tf2.errors import UserError
from finetune import task_builder
from finetune.classification.glue_tables import GLUE
from tests.finetune.classification.classification_samples import (
    TOKENIZER,
    make_config,
    write,
    write_glue_task,
)


@pytest.fixture
def download(tmp_path):
    """A folder as GLUE's download script leaves it, but tiny."""
    folder = tmp_path / "glue_data"
    for name, table in GLUE.items():
        write_glue_task(folder / table.folder, name)
    (folder / "diagnostic").mkdir()
    shutil.move(folder / "MNLI" / "diagnostic.tsv", folder / "diagnostic" / "diagnostic.tsv")
    write(folder / "MNLI" / "original" / "multinli_1.0_train.txt", "unused")
    write(folder / "SNLI" / "train.tsv", "unused")
    return folder


def run(download, tmp_path, *flags):
    data_dir = tmp_path / "data"
    prepare_glue.main(["--glue-dir", str(download), "--data-dir", str(data_dir), *flags])
    return data_dir / "finetuning_data"


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("flag", ["--copy", "--link"])
def test_every_task_can_be_read_afterwards(download, tmp_path, capsys, flag):
    folder = run(download, tmp_path, flag)
    for name in GLUE:
        task = task_builder.get_task(make_config(folder), name, TOKENIZER)
        for split in ("train", *task.dev_splits, *task.test_splits):
            assert task.get_examples(split)
    assert len(task_builder.get_task(make_config(folder), "mnli", TOKENIZER).dev_splits) == 2
    assert (folder / "cola" / "train.tsv").is_symlink() == (flag == "--link")
    assert len(tree(folder)) == 8 * 3 + 6
    printed = capsys.readouterr().out
    assert "missing" not in printed
    assert "cola  train                  2  published: 8551 rows" in printed
    assert "mnli  diagnostic             3  published: 1104 rows" in printed


def test_the_published_number_of_rows_needs_no_note(download, tmp_path, capsys):
    write_glue_task(download / "WNLI", "wnli", test_rows=146)
    run(download, tmp_path)
    assert "wnli  test                 146\n" in capsys.readouterr().out


def test_missing_tasks_and_files_are_said(download, tmp_path, capsys):
    shutil.rmtree(download / "QQP")
    shutil.move(download / "SST-2", download / "sst2")
    (download / "RTE" / "test.tsv").unlink()
    folder = run(download, tmp_path)
    printed = capsys.readouterr().out
    assert "qqp   train                  -  missing" in printed
    assert "rte   test                   -  missing" in printed
    assert (folder / "sst" / "train.tsv").exists()
    assert not (folder / "qqp").exists()


def test_mrpc_as_microsoft_distributes_it(download, tmp_path, capsys):
    shutil.rmtree(download / "MRPC")
    write(download / "MRPC" / "msr_paraphrase_train.txt", "Quality\t#1 ID")
    run(download, tmp_path)
    printed = capsys.readouterr().out
    assert "mrpc  train                  -  missing" in printed
    assert "msr_paraphrase" in printed and "download_glue_data.py" in printed


def test_twice_is_once(download, tmp_path):
    before = tree(run(download, tmp_path))
    assert tree(run(download, tmp_path)) == before


def test_other_content_is_not_overwritten(download, tmp_path):
    folder = tmp_path / "data" / "finetuning_data"
    write(folder / "sst" / "dev.tsv", "mine")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"another file[\s\S]*sst/dev.tsv"):
        run(download, tmp_path)
    assert tree(tmp_path) == before


def test_an_unusable_file_stops_it_before_anything_is_copied(download, tmp_path, capsys):
    write(download / "RTE" / "dev.tsv", "index\tsentence1", "0\ta")
    with pytest.raises(UserError, match=r"RTE/dev.tsv, line 1[\s\S]*2 columns"):
        run(download, tmp_path)
    assert "rte   dev                    -  unusable" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_skipped_rows_are_counted(download, tmp_path, capsys):
    write(download / "SST-2" / "dev.tsv", "sentence\tlabel", "a\t1", "b", "c\t0")
    run(download, tmp_path)
    assert (
        "sst   dev                    2  bad rows, to be skipped: 1; published"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_tasks_is_an_error(tmp_path, make):
    if make:
        write(tmp_path / "download" / "readme.txt", "nothing here")
    with pytest.raises(UserError, match="no task of GLUE") as error:
        run(tmp_path / "download", tmp_path)
    assert error.value.where == str(tmp_path / "download")
    assert ("readme.txt" if make else "nothing") in error.value.received
    assert not (tmp_path / "data").exists()
