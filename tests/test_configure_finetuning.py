"""The hparams of fine-tuning: official defaults, tasks' own, sizes' own, and paths."""

import pytest

from configure_finetuning import TASK_DEFAULTS, FinetuningConfig
from electra_tf2.errors import UserError


def config(*task_names, **hparams):
    names = {"task_names": list(task_names)} if task_names else {}
    return FinetuningConfig("m", "d", **names, **hparams)


# The official program's, by the names it has them under.
OFFICIAL = {
    "debug": False, "log_examples": False, "num_trials": 1, "do_train": True, "do_eval": True,
    "keep_all_models": True, "model_size": "small", "task_names": ["chunk"],
    "model_hparam_overrides": {}, "embedding_size": 128, "vocab_size": 30522,
    "do_lower_case": True, "learning_rate": 1e-4, "weight_decay_rate": 0.01,
    "layerwise_lr_decay": 0.8, "num_train_epochs": 3.0, "warmup_proportion": 0.1,
    "save_checkpoints_steps": 1000000, "iterations_per_loop": 1000,
    "use_tfrecords_if_existing": True, "write_test_outputs": False, "n_writes_test": 5,
    "max_seq_length": 256, "train_batch_size": 32, "eval_batch_size": 32,
    "predict_batch_size": 32, "double_unordered": True, "max_query_length": 64,
    "doc_stride": 128, "n_best_size": 20, "max_answer_length": 30, "answerable_classifier": True,
    "answerable_uses_start_logits": True, "answerable_weight": 0.5, "joint_prediction": True,
    "beam_size": 20, "qa_na_threshold": -2.75, "use_tpu": False, "num_tpu_cores": 1,
    "tpu_job_name": None, "tpu_name": None, "tpu_zone": None, "gcp_project": None,
    "init_checkpoint": "d/models/m",
    "raw_data_dir": "d/finetuning_data/{:}",
    "model_dir": "d/models/m/finetuning_models/chunk_model",
    "results_txt": "d/models/m/results/chunk_results.txt",
    "results_pkl": "d/models/m/results/chunk_results.pkl",
    "qa_eval_file": "d/models/m/results/chunk_qa/{:}_eval.json",
    "qa_preds_file": "d/models/m/results/chunk_qa/{:}_preds.json",
    "qa_na_file": "d/models/m/results/chunk_qa/{:}_null_odds.json",
    "preprocessed_data_dir": "d/models/m/finetuning_tfrecords/chunk_tfrecords",
    "test_predictions": "d/models/m/test_predictions/{:}_{:}_{:}_predictions.pkl",
}  # fmt: skip


def test_official_defaults():
    values = config().to_dict()
    assert {name: values[name] for name in OFFICIAL} == OFFICIAL


@pytest.mark.parametrize(
    "names, hparams, length, epochs",
    [
        (["cola"], {}, 128, 3.0),
        (["rte"], {}, 128, 10.0),
        (["sts"], {}, 128, 10.0),
        (["squad"], {}, 512, 2.0),
        (["naturalqs"], {}, 512, 2.0),  # which the official program forgets
        (["chunk"], {}, 256, 3.0),
        (["rte", "cola"], {}, 128, 3.0),  # only where a task is alone
        (["squad"], {"max_seq_length": 384, "num_train_epochs": 3}, 384, 3.0),
        (["mine"], {"tasks": {"mine": {"kind": "qa"}}}, 512, 2.0),
        (["mine"], {"tasks": {"mine": {"kind": "tagging"}}}, 128, 3.0),
        (["rte"], {"tasks": {"rte": {"kind": "classification"}}}, 128, 3.0),
    ],
)
def test_a_task_s_own_length_and_epochs(names, hparams, length, epochs):
    settings = config(*names, **hparams)
    assert (settings.max_seq_length, settings.num_train_epochs) == (length, epochs)


def test_every_task_with_defaults_exists():
    from finetune.task_builder import task_names

    assert TASK_DEFAULTS.keys() <= set(task_names())


def test_sizes():
    large = config(model_size="large")
    assert (large.learning_rate, large.layerwise_lr_decay) == (5e-5, 0.9)
    assert large.network().embedding_size == 1024
    assert config(model_size="large", learning_rate=1e-3).learning_rate == 1e-3
    assert config(model_size="base").network().hidden_size == 768
    assert config(embedding_size=64).embedding_size == 64


def test_debug():
    settings = config(debug=True)
    assert settings.init_checkpoint is None and settings.log_examples
    assert settings.network().num_hidden_layers == 3
    assert settings.preprocessed_data_dir.endswith("chunk_tfrecords-debug")


def test_null_is_no_checkpoint():
    assert config(init_checkpoint=None).init_checkpoint is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "a,b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x1b[1m",
        "a\u2028b",
        "\ud800",
        "x" * 181,
    ],
)
def test_task_names_are_folder_names(name):
    with pytest.raises(UserError) as error:
        config(name, tasks={name: {"kind": "tagging"}})
    assert error.value.where in ("hparam task_names", "hparam tasks")
    assert "\x1b" not in str(error.value) and "\0" not in str(error.value)


def test_many_names_are_too_long_for_one_file():
    names = [f"{letter * 60}" for letter in "abcd"]
    paths = {}
    while len(paths) < 10:
        try:
            config(*names, **paths)
            break
        except UserError as error:
            name = str(error.where).removeprefix("hparam ")
            assert name not in paths
            paths[name] = f"out/{name}_{{:}}"
    assert {"model_dir", "results_txt", "qa_na_file"} <= paths.keys() and len(paths) == 7


@pytest.mark.parametrize(
    "hparams, words",
    [
        ({"use_tpu": True, "distribution": "mirrored"}, "devices are given twice"),
        ({"num_trials": 0}, "num_trials"),
        ({"tasks": {"a": {"kind": "qa"}, "ß": {"kind": "qa"}}}, r'"task_names": \["a", "ß"\]'),
        ({"seed": (1 << 32) - 1, "num_trials": 2}, "seed"),
        ({"train_batch_size": 10, "gradient_accumulation_steps": 4}, "multiple"),
        ({"layerwise_lr_decay": 1.5}, "layerwise_lr_decay"),
        ({"vocab_size": 10, "model_hparam_overrides": {"vocab_size": 11}}, "twice"),
        ({"task_names": ["a", "b"], "qa_eval_file": "x.json"}, "qa_eval_file"),
        ({"raw_data_dir": "{x}"}, "raw_data_dir"),
        ({"raw_data_dir": "{0[a]}"}, "raw_data_dir"),
        ({"raw_data_dir": "{:9999999999}"}, "raw_data_dir"),
        ({"raw_data_dir": "{:999999999999999999999}"}, "raw_data_dir"),
        ({"model_dir": ""}, "model_dir"),
        ({"init_checkpoint": ""}, "init_checkpoint = ''"),
        ({"teacher": ""}, "set it to null"),
        ({"patience": 3}, "eval_every_steps"),
        ({"best_metric": "loss"}, "eval_every_steps"),
        ({"distillation_weight": 0.9}, "no teacher"),
        ({"distillation_temperature": 4.0}, "no teacher"),
        ({"distillation_weight": 0.0, "teacher": "t"}, "out of range"),
    ],
)
def test_contradictions(hparams, words):
    with pytest.raises(UserError, match=words):
        config(**hparams)


def test_with_patience_a_resumed_run_scores_the_dev_split_at_the_same_steps():
    changed = FinetuningConfig.changed_on_resume
    old = {"eval_every_steps": 10}
    assert changed(old, {"eval_every_steps": 20}) == []
    old, new = {**old, "patience": 3}, {"eval_every_steps": 20, "patience": 3}
    assert changed(old, new) == [("eval_every_steps", 10, 20)]
    assert changed(old, old) == []


def test_of_the_tasks_what_decides_on_the_weights_is_compared():
    changed = FinetuningConfig.changed_on_resume
    table = {"kind": "classification", "text": "review", "label": "stars"}
    old = {"task_names": ["mine"], "tasks": {"mine": table}}

    def with_tasks(**tasks):
        return {**old, "tasks": tasks}

    same = {**table, "id": "key", "files": {"train": "other.csv"}}
    assert changed(old, with_tasks(mine=same, another=table)) == []
    other = {**table, "label": "mood"}
    assert changed(old, with_tasks(mine=other)) == [("tasks", {"mine": table}, {"mine": other})]
    for edited in ([], 5, None, {"mine": 5}):
        assert [name for name, *_ in changed({**old, "tasks": edited}, old)] == ["tasks"]
    assert [name for name, *_ in changed({**old, "task_names": 5}, old)] == ["task_names"]


def test_a_teacher_may_be_moved_but_not_given_or_taken_later():
    changed = FinetuningConfig.changed_on_resume
    assert changed({"teacher": "a"}, {"teacher": "b"}) == []
    assert changed({"teacher": "a"}, {"teacher": None}) == [("teacher", "a", None)]
    assert changed({}, {"teacher": "b"}) == [("teacher", None, "b")]
    old, new = ({"teacher": "a", "distillation_weight": weight} for weight in (0.5, 0.7))
    assert changed(old, new) == [("distillation_weight", 0.5, 0.7)]
