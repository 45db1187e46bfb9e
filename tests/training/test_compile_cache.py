"""Compiled programs are kept, checked and bounded; a resumed run finds those of the first one."""

import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training import compile_cache, devices
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.compile_cache import CompileCache, without_cache_flags
from tests.pretraining import tiny

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"TensorFlow": "2.21", "device": "NVIDIA H100"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("XLA_FLAGS", "TF_XLA_FLAGS"):
        monkeypatch.setenv(name, "--xla_cpu_enable_fast_math=false" if name == "XLA_FLAGS" else "")


@pytest.fixture
def cache(tmp_path):
    found = CompileCache(str(tmp_path / "cache"), ENVIRONMENT)
    found.open()
    return found


def write(cache, name, content=b"program"):
    path = cache.folder / f"electra__{name}.pb"
    path.write_bytes(content)
    return path


def names(cache):
    return sorted(path.name for path in cache.folder.glob("*.pb*"))


def test_what_was_sealed_stays(cache):
    write(cache, "a")
    cache.seal()
    before = names(cache)
    assert before == ["electra__a.pb", "electra__a.pb.crc32"]
    cache.open()
    assert names(cache) == before


def test_damage_is_removed_and_said(cache, capsys):
    for name in "abc":
        write(cache, name)
    cache.seal()
    write(cache, "a", b"other")
    write(cache, "b", b"")
    cache.open()
    assert names(cache) == ["electra__c.pb", "electra__c.pb.crc32"]
    assert "2 compiled programs" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed_unsaid(cache, capsys):
    write(cache, "a")
    cache.open()
    assert names(cache) == []
    assert capsys.readouterr().err == ""


def test_a_checksum_follows_its_program(cache, capsys):
    """Two processes may compile the same: the second one's program replaces the first one's."""
    path = write(cache, "a")
    cache.seal()
    write(cache, "a", b"of the second process")
    later = path.stat().st_mtime + 1
    os.utime(path, (later, later))
    cache.seal()
    path.with_name("electra__gone.pb.crc32").write_text("0")
    cache.open()
    assert names(cache) == ["electra__a.pb", "electra__a.pb.crc32"]
    assert capsys.readouterr().err == ""


def test_the_oldest_go_first(cache, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 25)
    for age, name in enumerate("abc"):
        os.utime(write(cache, name, b"x" * 10), (1000 - age, 1000 - age))
    cache.seal()
    cache.open()
    assert names(cache)[::2] == ["electra__a.pb", "electra__b.pb"]


def test_machines_share_nothing(tmp_path, cache):
    other = CompileCache(str(tmp_path / "cache"), {**ENVIRONMENT, "device": "NVIDIA A100"})
    assert other.folder != cache.folder
    assert CompileCache(str(tmp_path / "cache"), ENVIRONMENT).folder == cache.folder


def test_the_users_flags_stay(cache):
    assert os.environ["XLA_FLAGS"].startswith(
        "--xla_cpu_enable_fast_math=false --xla_gpu_per_fusion_autotune"
    )
    assert str(cache.folder) in os.environ["TF_XLA_FLAGS"]
    assert without_cache_flags(os.environ["XLA_FLAGS"]) == "--xla_cpu_enable_fast_math=false"
    assert without_cache_flags(os.environ["TF_XLA_FLAGS"]) == ""


@pytest.mark.parametrize("name", ["file", "with a blank"])
def test_a_folder_that_can_not_be_used(tmp_path, capsys, name):
    (tmp_path / "file").write_text("")
    CompileCache(str(tmp_path / name), ENVIRONMENT).open()
    assert "compiled programs are not kept" in capsys.readouterr().err
    assert os.environ["TF_XLA_FLAGS"] == ""


def test_a_folder_that_the_user_chose_stays(tmp_path, monkeypatch):
    chosen = "--tf_xla_persistent_cache_directory=/elsewhere"
    monkeypatch.setenv("TF_XLA_FLAGS", chosen)
    compile_cache.open_compile_cache(str(tmp_path), ENVIRONMENT)
    assert os.environ["TF_XLA_FLAGS"] == chosen
    assert not any(tmp_path.iterdir())


class _IsOpened(Exception):
    pass


@pytest.mark.parametrize(
    "program, flags",
    [
        ("run_pretraining.py", ()),
        ("run_finetuning.py", ("--hparams", 'task_names=["cola"]')),
        ("sweep_generator_size.py", ("--finetune", 'task_names=["cola"]')),
        ("examples/compare_objectives.py", ("--tasks", "cola")),
        ("examples/quickstart.py", None),
    ],
)
def test_it_is_opened_before_devices_are_looked_for(program, flags, tmp_path, monkeypatch):
    """When TensorFlow looks for devices, XLA reads once and for all where its cache is."""
    looked = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *kind: looked.append(kind) or [])

    def opened(*_):
        assert not looked
        raise _IsOpened

    monkeypatch.setattr(devices, "open_compile_cache", opened)
    monkeypatch.syspath_prepend(str((ROOT / program).parent))
    names = ("--data-dir", str(tmp_path), "--model-name", "model")
    own = ("--output-dir", str(tmp_path)) if flags is None else (*names, *flags)
    monkeypatch.setattr(sys, "argv", [program, *own])
    with pytest.raises(_IsOpened):
        runpy.run_path(str(ROOT / program))["main"]()


@pytest.mark.slow
def test_a_resumed_run_compiles_nothing(tiny_data):
    """A run that was stopped and resumed has the weights of one that wasn't, warm or damaged.

    One of another seed, rate and length runs the same programs.
    """
    folder = tiny_data / "compiled"
    hparams = tiny.UNIFORM | {"num_train_steps": 6, "save_checkpoints_steps": 3, "xla": True}

    def run(name, **other):
        options = hparams | other
        code, shown = tiny.run(tiny_data, name, compile_cache=str(folder), **options)
        assert code == 0, shown
        return shown

    def programs():
        return {path: path.stat().st_mtime_ns for path in folder.glob("*/*.pb")}

    def weights(name):
        store = CheckpointStore(str(tiny_data / "models" / name))
        return store.load(store.latest()).weights

    def stop_after_step_3(name):
        shutil.rmtree(tiny_data / "models" / name / "checkpoints" / "step-00000006")

    assert "Compiling" in run("whole")
    first = programs()
    assert len(first) >= 1
    shutil.copytree(tiny_data / "models" / "whole", tiny_data / "models" / "resumed")
    stop_after_step_3("resumed")
    run("resumed")
    assert programs() == first
    run("other", seed=5, learning_rate=1e-3, num_train_steps=9, num_warmup_steps=4)
    assert programs() == first
    stop_after_step_3("resumed")
    for path in first:
        path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in run("resumed")
    assert programs().keys() == first.keys()
    assert all(path.stat().st_size > 1000 for path in first)
    for name, array in weights("whole").items():
        np.testing.assert_array_equal(weights("resumed")[name], array, err_msg=name)
