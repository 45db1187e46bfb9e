import json
import pathlib

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.training.schedule import pretraining_schedule

SHARED_CASES = pathlib.Path(__file__).parents[1].parent / "shared" / "conformance"
OWN_CASES = pathlib.Path(__file__).parent / "conformance" / "cases"


def config(**overrides):
    return PretrainingConfig("tiny", "/data", **overrides)


# Names and defaults of the official configure_pretraining.py.
OFFICIAL = {
    "debug": False,
    "do_train": True,
    "do_eval": False,
    "electra_objective": True,
    "electric_objective": False,
    "gen_weight": 1.0,
    "disc_weight": 50.0,
    "mask_prob": 0.15,
    "learning_rate": 5e-4,
    "lr_decay_power": 1.0,
    "weight_decay_rate": 0.01,
    "num_warmup_steps": 10000,
    "iterations_per_loop": 200,
    "save_checkpoints_steps": 1000,
    "num_train_steps": 1000000,
    "num_eval_steps": 100,
    "keep_checkpoint_max": 5,
    "model_size": "small",
    "model_hparam_overrides": {},
    "embedding_size": 128,  # None, then set by the size
    "vocab_size": 30522,
    "do_lower_case": True,
    "uniform_generator": False,
    "two_tower_generator": False,
    "untied_generator_embeddings": False,
    "untied_generator": True,
    "generator_layers": 1.0,
    "generator_hidden_size": 0.25,
    "disallow_correct": False,
    "temperature": 1.0,
    "max_seq_length": 128,
    "train_batch_size": 128,
    "eval_batch_size": 128,
    "use_tpu": False,
    "num_tpu_cores": 1,
    "tpu_job_name": None,
    "tpu_name": None,
    "tpu_zone": None,
    "gcp_project": None,
    "pretrain_tfrecords": "/data/pretrain_tfrecords/pretrain_data.tfrecord*",
    "vocab_file": "/data/vocab.txt",
    "model_dir": "/data/models/tiny",
    "results_txt": "/data/models/tiny/results/unsup_results.txt",
    "results_pkl": "/data/models/tiny/results/unsup_results.pkl",
}

OURS = {
    "seed": 0,
    "distribution": "auto",
    "precision": "auto",
    "xla": "auto",
    "report": False,
    "compile_cache": "auto",
    "deterministic": False,
    "gradient_accumulation_steps": 1,
    "optimizer": "adamw",
    "adam_beta_1": 0.9,
    "adam_beta_2": 0.999,
    "adam_epsilon": 1e-6,
    "adam_bias_correction": False,
    "max_grad_norm": 1.0,
    "end_learning_rate": 0.0,
    "lr_schedule": "polynomial",
    "lr_decay_steps": None,
    "lr_decay_shape": "1-sqrt",
    "branch_from": None,
    "recompute": False,
    "on_nonfinite": "stop",
    "require_gpu": False,
    "log_every_steps": 10,
    "eval_every_steps": 0,
    "strip_accents": True,
    "max_word_characters": 200,
    "allow_unknown": False,
    "encoder": "bert",
    "init_checkpoint": None,
    "allow_other_data": False,
    "eval_tfrecords": None,
    "mask_with_replacement": False,
    "masking": "token",
    "embedding_sharing": "shared",
    "generator_embedding_size": None,
    "init_generator": None,
    "train_generator": True,
    "segmentation": "static",
    "shuffle_buffer_size": 10000,
    "phases": None,
    "copy_positions": None,
    "worker_timeout": 300,
    "preset": None,
}


def test_defaults():
    values = config().to_dict()
    assert values == OFFICIAL | OURS
    assert config().max_predictions_per_seq == 19
    assert config().warnings == []


def test_every_hparam_has_a_comment_and_a_heading():
    for field in PretrainingConfig.fields():
        assert field.comment and field.group, field.name


def test_the_official_values_are_given_back_unchanged():
    assert config(**OFFICIAL).to_dict() == OFFICIAL | OURS


def test_dict_survives_json():
    values = config(model_hparam_overrides={"hidden_size": 128}, mask_prob=0.25).to_dict()
    assert config(**json.loads(json.dumps(values))).to_dict() == values


def test_debug_sets_defaults_that_the_user_can_beat():
    tiny = config(debug=True, num_train_steps=7)
    assert tiny.train_batch_size == 8
    assert tiny.eval_batch_size == 4
    assert tiny.num_eval_steps == 2
    assert tiny.iterations_per_loop == 1
    assert tiny.num_train_steps == 7


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lr_decay_steps": 1000},
        {"phases": [{"num_train_steps": 5}]},
        {"preset": "electra_base"},
    ],
)
def test_debug_goes_with_a_decay_longer_than_its_steps(given):
    tiny = config(debug=True, lr_schedule="wsd", **given)
    rates = [float(pretraining_schedule(tiny)(step)) for step in (1, tiny.num_train_steps)]
    assert 0 < rates[0] < tiny.learning_rate and rates[1] == 0


@pytest.mark.parametrize(
    "overrides, embedding_size",
    [
        ({}, 128),
        ({"embedding_size": 64}, 64),
        ({"embedding_size": None}, None),
        ({"model_hparam_overrides": {"hidden_size": 64}}, 128),
        ({"model_size": "base"}, None),
        ({"model_size": "base", "embedding_size": 32}, 32),
        ({"model_size": "large"}, None),
    ],
)
def test_embedding_size(overrides, embedding_size):
    assert config(**overrides).embedding_size == embedding_size


@pytest.mark.parametrize(
    "mask_prob, length, slots", [(0.15, 128, 19), (0.15, 512, 79), (0.25, 512, 130), (0.15, 32, 4)]
)
def test_max_predictions_per_seq(mask_prob, length, slots):
    assert config(mask_prob=mask_prob, max_seq_length=length).max_predictions_per_seq == slots


def test_electric_brings_the_two_tower_generator():
    assert config(electric_objective=True).two_tower_generator
    assert config(electric_objective=True, electra_objective=False).two_tower_generator


def test_another_model_dir_leaves_the_results_where_they_were():
    moved = config(model_dir="/elsewhere")
    assert moved.model_dir == "/elsewhere"
    assert moved.results_txt == OFFICIAL["results_txt"]


def test_vocab_size_may_come_with_the_overrides():
    assert config(model_hparam_overrides={"vocab_size": 99}).vocab_size == 99
    assert config(model_hparam_overrides={"vocab_size": 99}, vocab_size=99).vocab_size == 99


REFUSED = {
    "a mixture of nothing": ({"pretrain_tfrecords": {}}, "pretrain_tfrecords = {}"),
    "a weight of 0": (
        {"pretrain_tfrecords": {"a/*": 1, "b/*": 0}},
        "hparam pretrain_tfrecords: b/*",
    ),
    "a weight that is not a number": (
        {"pretrain_tfrecords": {"a/*": float("inf")}},
        "inf (not a finite number)",
    ),
    "a weight that is never drawn": ({"pretrain_tfrecords": {"a/*": 1, "b/*": 1e-10}}, "of b/*"),
    "a width of embeddings beside gdes": (
        {"generator_embedding_size": 4, "embedding_sharing": "gdes"},
        "out: with gdes",
    ),
    "a weight that is never drawn beside many": (
        {"pretrain_tfrecords": {**{f"{n}/*": 1 for n in range(40)}, "b/*": 2e-9}},
        "of b/*",
    ),
    "a mixture to evaluate on": (
        {"pretrain_tfrecords": {"a/*": 1}, "eval_every_steps": 5},
        "Set eval_tfrecords",
    ),
    "an empty mixture in a phase": (
        {"phases": [{"num_train_steps": 5}, {"num_train_steps": 5, "pretrain_tfrecords": {}}]},
        "phase 2 of 2",
    ),
    "another schedule's hparam": (
        {"lr_schedule": "cosine", "lr_decay_power": 2.0},
        "lr_decay_power belongs to the schedule polynomial",
    ),
    "a rate that rises": ({"end_learning_rate": 1e-3}, "end_learning_rate = 0.001"),
    "a rate that rises in a phase": (
        {
            "end_learning_rate": 1e-4,
            "phases": [{"num_train_steps": 9}, {"num_train_steps": 9, "learning_rate": 1e-5}],
        },
        "phase 2 of 2",
    ),
    "decay without wsd": ({"lr_decay_steps": 5}, "set lr_schedule to wsd"),
    "decay in the warm-up": (
        {"lr_schedule": "wsd", "num_train_steps": 50, "num_warmup_steps": 30, "lr_decay_steps": 21},
        "lr_decay_steps = 21",
    ),
    "two starts": ({"branch_from": "a/step-1", "init_checkpoint": "b"}, "init_checkpoint = 'b'"),
    "a branch from itself": (
        {"branch_from": "/data/models/tiny/checkpoints/step-00000001"},
        "model folder of its own",
    ),
    "unknown": ({"lerning_rate": 1e-3}, "Did you mean 'learning_rate'?"),
    "wrong type": ({"num_train_steps": "4"}, "an integer at least 1"),
    "range": ({"mask_prob": 1.5}, "more than 0 and less than 1"),
    "optimizer": ({"optimizer": "adam"}, 'Give "adamw" or "lamb"'),
    "precision": ({"precision": "half"}, '"float32" or "tf32" or "bfloat16" or "float16"'),
    "strategy": ({"distribution": "horovod"}, '"mirrored" or "multi_worker" or "tpu"'),
    "encoder": ({"encoder": "roberta"}, 'Give "bert" or "albert" or "modern"'),
    "segmentation": ({"segmentation": "random"}, 'Give "static" or "dynamic"'),
    "size": ({"model_size": "huge"}, '"small" or "base" or "large"'),
    "preset": ({"preset": "electra_bse"}, "Did you mean 'electra_base'?"),
    "tpu": ({"use_tpu": True, "distribution": "mirrored"}, "devices are given twice"),
    "nothing to do": ({"do_train": False, "do_eval": False}, "nothing to do"),
    "micro-batches": (
        {"gradient_accumulation_steps": 3},
        "multiple of gradient_accumulation_steps",
    ),
    "electric, another share in a phase": (
        {"electric_objective": True, "phases": [{"num_train_steps": 9, "mask_prob": 0.25}]},
        "mask_prob of the phases",
    ),
    "electric, two shares": (
        {
            "electric_objective": True,
            "phases": [{"num_train_steps": 9}, {"num_train_steps": 9, "mask_prob": 0.3}],
        },
        "mask_prob of the phases",
    ),
    "a branch of nothing": ({"branch_from": ""}, "branch_from = ''"),
    "a start from nothing": ({"init_checkpoint": ""}, "set it to null"),
    "no results": ({"results_txt": ""}, "Say what results_txt is, or leave it out"),
    "records of nothing": (
        {"phases": [{"num_train_steps": 9, "eval_tfrecords": ""}]},
        "eval_tfrecords = ''",
    ),
    "losses that end": (
        {"gen_weight": 0, "disc_weight": [[0, 50], [100, 0]]},
        "disc_weight",
    ),
    "electric, one tower": (
        {"electric_objective": True, "two_tower_generator": False},
        "Electric needs the two-tower generator",
    ),
    "electric, uniform": (
        {"electric_objective": True, "uniform_generator": True},
        "uniform_generator = True",
    ),
    "two towers, tied": (
        {"two_tower_generator": True, "untied_generator": False},
        "untied_generator = False",
    ),
    "two towers, masked LM": (
        {"two_tower_generator": True, "electra_objective": False},
        "no two-tower one",
    ),
    "uniform masked LM": (
        {"uniform_generator": True, "electra_objective": False},
        "nothing is trained",
    ),
    "words, drawn twice": (
        {"masking": "whole_word", "mask_with_replacement": True},
        "mask_with_replacement = True",
    ),
    "spans, Electric": (
        {"masking": "span", "electric_objective": True},
        "independently of each other",
    ),
    "gdes, masked LM": (
        {"embedding_sharing": "gdes", "electra_objective": False},
        "electra_objective = False",
    ),
    "gdes, Electric": (
        {"embedding_sharing": "gdes", "electric_objective": True},
        "two_tower_generator = True, electric_objective = True",
    ),
    "gdes, uniform": (
        {"embedding_sharing": "gdes", "uniform_generator": True},
        "uniform_generator = True",
    ),
    "gdes, one network": (
        {"embedding_sharing": "gdes", "untied_generator": False},
        "untied_generator = False",
    ),
    "gdes, LAMB": ({"embedding_sharing": "gdes", "optimizer": "lamb"}, "optimizer = 'lamb'"),
    "gdes, nothing shared": (
        {"embedding_sharing": "gdes", "untied_generator_embeddings": True},
        "untied_generator_embeddings = True",
    ),
    "a width of shared embeddings": (
        {"generator_embedding_size": 64},
        "untied_generator_embeddings to true",
    ),
    "a generator for a masked LM": (
        {"init_generator": "x", "electra_objective": False},
        "electra_objective = False",
    ),
    "a constant generator, Electric": (
        {"train_generator": False, "electric_objective": True},
        "two_tower_generator = True, electric_objective = True",
    ),
    "a constant generator, uniform": (
        {"train_generator": False, "uniform_generator": True},
        "uniform_generator = True",
    ),
    "a constant generator, one network": (
        {"init_generator": "x", "untied_generator": False},
        "untied_generator = False",
    ),
    "a constant generator, random": (
        {"train_generator": False},
        "Set init_generator to the folder of a masked LM",
    ),
    "a constant generator, shared embeddings": (
        {"train_generator": False, "init_generator": "x", "untied_generator_embeddings": False},
        "Leave untied_generator_embeddings out",
    ),
    "a constant generator, its loss": (
        {"train_generator": False, "init_generator": "x", "gen_weight": [[0, 1.0], [9, 0.5]]},
        "Leave gen_weight out",
    ),
    "a constant generator, no other loss": (
        {"train_generator": False, "init_generator": "x", "disc_weight": 0},
        "disc_weight = 0",
    ),
    "two models' embeddings": (
        {"init_generator": "x", "init_checkpoint": "y"},
        "set untied_generator_embeddings to true",
    ),
    "a branch and a generator": (
        {"branch_from": "a/step-1", "init_generator": "b"},
        "Leave init_generator out",
    ),
    "too long": ({"max_seq_length": 513}, "max_position_embeddings = 512"),
    "too long for the override": (
        {"model_hparam_overrides": {"max_position_embeddings": 64}},
        "max_position_embeddings = 64",
    ),
    "nothing beyond the positions to copy": (
        {"copy_positions": 512, "init_checkpoint": "x"},
        "copy_positions = 512, max_position_embeddings = 512",
    ),
    "random positions to copy": ({"copy_positions": 128}, "init_checkpoint = None"),
    "random positions to copy, in the first phase": (
        {"copy_positions": 128, "phases": [{"num_train_steps": 1}]},
        "Set copy_positions in a later phase",
    ),
    "too short for documents": (
        {"segmentation": "dynamic", "max_seq_length": 4, "mask_prob": 0.5},
        "max_seq_length = 4",
    ),
    "nothing masked": ({"max_seq_length": 6}, "mask_prob = 0.15, max_seq_length = 6"),
    "too much masked": ({"mask_prob": 0.999, "max_seq_length": 512}, "at most max_seq_length"),
    "heads": (
        {"model_hparam_overrides": {"num_attention_heads": 3}},
        "hidden_size 256, num_attention_heads 3",
    ),
    "generator's heads": (
        {"model_size": "base", "generator_hidden_size": 0.3},
        "hidden size = 230, layers = 12, attention heads = 3",
    ),
    "no generator layers": ({"generator_layers": 0.01}, "layers = 0"),
    "no debug generator layers": ({"debug": True, "generator_layers": 0.1}, "layers = 0"),
    "two vocabulary sizes": (
        {"vocab_size": 9, "model_hparam_overrides": {"vocab_size": 8}},
        "vocab_size = 9",
    ),
    "unknown override": (
        {"model_hparam_overrides": {"hiden_size": 8}},
        "Did you mean 'hidden_size'?",
    ),
    "embedding size among the overrides": (
        {"model_hparam_overrides": {"embedding_size": 8}},
        "Unknown key 'embedding_size'",
    ),
    "override's type": (
        {"model_hparam_overrides": {"hidden_size": "256"}},
        "Give an integer at least 1. Write 256, without quotes.",
    ),
    "override's range": (
        {"model_hparam_overrides": {"hidden_dropout_prob": 1.0}},
        "Give a number that is at least 0 and at most 0.99.",
    ),
    "override null": ({"model_hparam_overrides": {"hidden_size": None}}, "Leave the key out"),
    "override's activation": (
        {"model_hparam_overrides": {"hidden_act": "swish"}},
        '"gelu" or "relu"',
    ),
}


@pytest.mark.parametrize("overrides, message", REFUSED.values(), ids=REFUSED)
def test_refused(overrides, message):
    with pytest.raises(UserError) as info:
        config(**overrides)
    assert message in str(info.value)
    assert info.value.where and info.value.received is not None and info.value.remedy


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a\nb", "\x1b[1m", "é" * 128])
def test_model_name_is_a_folder_name(name):
    with pytest.raises(UserError) as error:
        PretrainingConfig(name, "/data")
    assert error.value.where == "--model-name" and str(error.value).isprintable() is False
    assert "\x1b" not in str(error.value) and "\0" not in str(error.value)


def test_a_bigger_model_warns_of_small_settings():
    (warning,) = config(model_size="base").warnings
    assert "Set preset to electra_base" in warning
    for name in ("learning_rate 0.0005", "max_seq_length 128", "generator_hidden_size 0.25"):
        assert name in warning
    assert "mask_prob" not in warning
    (warning,) = config(model_size="large").warnings
    assert "mask_prob 0.15 (paper: 0.25)" in warning
    assert "generator_hidden_size" not in warning


def test_no_warning_for_what_was_stated():
    stated = {"learning_rate": 2e-4, "max_seq_length": 128, "generator_hidden_size": 0.25}
    assert config(model_size="base", **stated).warnings == []


def test_resume_may_change_only_what_the_weights_do_not_depend_on():
    old = config().to_dict()
    free = {
        "num_train_steps": 5,
        "save_checkpoints_steps": 5,
        "iterations_per_loop": 5,
        "log_every_steps": 5,
        "eval_every_steps": 5,
        "keep_checkpoint_max": None,
        "distribution": "one_device",
        "xla": False,
        "do_eval": True,
        "eval_tfrecords": "x",
        "pretrain_tfrecords": "x",
        "vocab_file": "x",
        "model_dir": "x",
        "results_txt": "x",
        "results_pkl": "x",
    }
    assert PretrainingConfig.changed_on_resume(old, config(**free).to_dict()) == []
    kept = {"learning_rate": 1e-3, "seed": 1, "train_batch_size": 64, "precision": "float32"}
    changed = PretrainingConfig.changed_on_resume(old, config(**kept, **free).to_dict())
    assert sorted(changed) == [
        ("learning_rate", 5e-4, 1e-3),
        ("precision", "auto", "float32"),
        ("seed", 0, 1),
        ("train_batch_size", 128, 64),
    ]


def _pretrain_cases():
    for folder in (OWN_CASES, SHARED_CASES):  # the second lies beside some checkouts only
        for path in sorted(folder.glob("*/case.json")):
            case = json.loads(path.read_text())
            if case["kind"] == "pretrain":
                yield pytest.param(case, id=f"{path.parents[1].name}-{path.parent.name}")


@pytest.mark.parametrize("case", list(_pretrain_cases()))
def test_hparams_of_the_conformance_cases_are_accepted(case):
    accepted = config(**case["hparams"])
    for name, value in case["hparams"].items():
        assert getattr(accepted, name) == value
    assert accepted.vocab_size == case["bert_config"]["vocab_size"]


def test_a_branch_goes_on_where_positions_were_copied():
    branch = config(branch_from="a/checkpoints/step-00000001", copy_positions=12)
    assert branch.copy_positions == 12


def test_a_branch_of_the_model_itself_by_another_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "data" / "models" / "own" / "checkpoints" / "step-00000001")
    with pytest.raises(UserError, match="folder of its own"):
        PretrainingConfig("own", "data", branch_from=path)


def test_ramps_that_end_after_the_training():
    ramp = [[0, 0.3], [2000, 0.15]]
    steps = {"num_train_steps": 1000, "num_warmup_steps": 10}
    (warning,) = config(mask_prob=ramp, **steps).warnings
    assert "mask_prob ends at step 2,000, and training at 1,000" in warning
    phases = [{"num_train_steps": 1500}, {"num_train_steps": 1500, "mask_prob": ramp}]
    (warning,) = config(temperature=ramp, phases=phases, num_warmup_steps=10).warnings
    assert "mask_prob ends at step 3,500, and training at 3,000" in warning
    assert config(mask_prob=ramp, num_train_steps=2000, num_warmup_steps=10).warnings == []


def test_a_generator_that_stays_has_embeddings_of_its_own():
    given = {"train_generator": False, "init_generator": "x"}
    kept = config(**given)
    assert kept.untied_generator_embeddings
    assert kept.generator_network().embedding_size == kept.generator_network().hidden_size == 64
    assert config(**given, generator_embedding_size=32).generator_network().embedding_size == 32
    summed = config(**given, embedding_sharing="gdes")
    assert not summed.untied_generator_embeddings
    assert summed.generator_network().embedding_size == 128
    assert config(**kept.to_dict()).to_dict() == kept.to_dict()
    # To evaluate it, or to go on from it, nothing has to be named.
    config(train_generator=False, do_train=False, do_eval=True)
    config(train_generator=False, init_checkpoint="y")
    assert config(**given, init_checkpoint="y").untied_generator_embeddings
