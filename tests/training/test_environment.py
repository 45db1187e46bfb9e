"""What a checkpoint stores of machine and libraries, and what is said where they differ."""

import json

import pytest
import tensorflow as tf

from electra_tf2.training import trainer as trainer_lib
from electra_tf2.training.environment import describe_environment, environment_changes
from tests.training.test_trainer import make_trainer


def describe():
    return describe_environment(tf.distribute.get_strategy(), jit_compile=False)


def test_this_environment(monkeypatch):
    here = describe()
    assert here["TensorFlow"] == tf.__version__ and here["replicas"] == 1
    assert here["cores"] >= 1 and here["intra-op threads"] >= 1
    assert environment_changes(json.loads(json.dumps(here)), here) == []
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "77")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert environment_changes(here, describe()) == [
        f"intra-op threads: {here['intra-op threads']} before, 77 now",
        "ONEDNN_MAX_CPU_ISA: not set before, SSE41 now",
    ]


def test_where_compiled_programs_are_kept_changes_nothing(monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=0")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    here = describe()
    kept = "--tf_xla_persistent_cache_directory=/kept --tf_xla_persistent_cache_prefix=electra"
    monkeypatch.setenv("TF_XLA_FLAGS", f"--tf_xla_auto_jit=0 {kept}")
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_per_fusion_autotune_cache_dir=/kept/autotuning")
    assert environment_changes(here, describe()) == []
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert len(environment_changes(here, describe())) == 1


def test_another_instruction_set():
    changes = environment_changes({"flags": ["avx", "fma"]}, {"flags": ["avx", "avx512f"]})
    assert changes == ["flags: without fma, with avx512f"]


@pytest.mark.parametrize("before", [None, {}, [], "x"])
def test_what_was_not_stored_is_not_compared(before):
    assert environment_changes(before, {"cores": 2}) == []


@pytest.mark.parametrize("cores", [1, 2])
def test_a_resumed_run_says_so_in_one_line(tmp_path, monkeypatch, capsys, cores):
    environment = {"cores": 1}
    monkeypatch.setattr(trainer_lib, "describe_environment", lambda *_, **__: environment)
    first = make_trainer(tmp_path)
    checkpoint = first.run.store.load(first.save())
    environment = {"cores": cores}
    make_trainer(tmp_path).restore(checkpoint)
    shown = capsys.readouterr().err
    assert shown.count("\n") == cores - 1
    assert ("cores: 1 before, 2 now" in shown) == (cores == 2)
