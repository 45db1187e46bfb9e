"""The hparam `phases`: what it means, what is refused, and what may change on resume."""

import json
import pathlib
import re

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.hparams.record import parse_hparams
from electra_tf2.pretraining.phases import (
    PHASE_HPARAMS,
    PhaseSchedule,
    examples_at,
    phase_to_train,
    phase_trained,
    phases_of,
)
from electra_tf2.pretraining.resume_rules import changed_on_resume

DOCS = pathlib.Path(__file__).parents[2] / "docs"
RECIPE = DOCS / "recipes" / "two_phase.json"
SHORT = {"num_train_steps": 90, "max_seq_length": 128, "num_warmup_steps": 9}
LONG = {
    "num_train_steps": 10,
    "max_seq_length": 512,
    "num_warmup_steps": 2,
    "train_batch_size": 32,
    "learning_rate": 1e-4,
}

MIXED = {**SHORT, "pretrain_tfrecords": {"b": 1, "d": 2}}


def configure(*phases, **hparams):
    given = {"phases": [dict(phase) for phase in phases]} if phases else {}
    return PretrainingConfig("tiny", "/data", **given, **hparams)


def test_without_phases_the_configuration_is_its_own_only_phase():
    config = configure(num_train_steps=7)
    (phase,) = phases_of(config)
    assert phase.config is config
    assert (phase.first_step, phase.last_step, phase.first_example) == (0, 7, 0)
    assert phase.title == ""


def test_phases_take_what_they_do_not_give_from_the_configuration():
    config = configure(SHORT, LONG, learning_rate=2e-4, seed=3)
    first, second = phases_of(config)
    assert config.num_train_steps == 100
    assert (first.first_step, first.last_step, first.first_example) == (0, 90, 0)
    assert (second.first_step, second.last_step) == (90, 100)
    assert second.first_example == 90 * 128
    assert (first.config.learning_rate, second.config.learning_rate) == (2e-4, 1e-4)
    assert (first.config.train_batch_size, second.config.train_batch_size) == (128, 32)
    assert first.config.seed == second.config.seed == 3
    assert second.config.num_train_steps == 10
    assert (first.config.max_predictions_per_seq, second.config.max_predictions_per_seq) == (19, 79)
    assert (first.title, second.title) == ("phase 1 of 2", "phase 2 of 2")
    assert config.max_seq_length == 128  # what phases don't give


@pytest.mark.parametrize(
    "step, next_one, last_one, examples",
    [(0, 1, 1, 0), (89, 1, 1, 89 * 128), (90, 2, 1, 90 * 128), (91, 2, 2, 90 * 128 + 32)]
    + [(100, 2, 2, 90 * 128 + 320), (120, 2, 2, 90 * 128 + 30 * 32)],
)
def test_where_a_step_lies(step, next_one, last_one, examples):
    phases = phases_of(configure(SHORT, LONG))
    assert phase_to_train(phases, step).number == next_one
    assert phase_trained(phases, step).number == last_one
    assert examples_at(phases, step) == examples


def test_the_schedule_counts_from_the_start_of_the_phase():
    assert PhaseSchedule(lambda step: 10 * step, first_step=90)(93) == 30


def test_stored_hparams_give_the_same_configuration():
    values = configure(SHORT, LONG).to_dict()
    assert configure(**json.loads(json.dumps(values))).to_dict() == values


def test_hparams_given_as_pairs():
    text = 'phases=[{"num_train_steps": 3}, {"num_train_steps": 4, "mask_prob": 0.2}] seed=1'
    config = configure(**parse_hparams(text))
    assert config.num_train_steps == 7
    assert [phase.config.mask_prob for phase in phases_of(config)] == [0.15, 0.2]


def test_the_recipe_of_the_documentation():
    config = configure(**parse_hparams(str(RECIPE)))
    first, second = phases_of(config)
    assert config.warnings == []
    assert (first.config.max_seq_length, second.config.max_seq_length) == (128, 512)
    assert second.config.recompute and not first.config.recompute
    # A tenth of the steps is long, as in BERT.
    assert second.config.num_train_steps / config.num_train_steps == pytest.approx(0.1, rel=0.02)
    assert first.config.pretrain_tfrecords != second.config.pretrain_tfrecords


def test_the_documentation_shows_the_recipe_and_names_all_hparams_of_a_phase():
    section = (DOCS / "pretraining.md").read_text().split("## Two phases")[1].split("\n## ")[0]
    (shown,) = re.findall(r"^```json\n(.*?)^```", section, re.M | re.S)
    recipe = json.loads(RECIPE.read_text())
    for ours, theirs in zip(json.loads(shown)["phases"], recipe["phases"], strict=True):
        assert ours.items() <= theirs.items()
    reference = (DOCS / "pretraining_reference.md").read_text()
    listed = reference.split("## Phases")[1].split("All other hparams")[0]
    assert [name for name in PHASE_HPARAMS if f"`{name}`" not in listed] == []


REFUSED = {
    "empty": ({"phases": []}, ["list of phases is empty", "hparams", "[]", "Leave phases out"]),
    "no list": ({"phases": {"num_train_steps": 3}}, ["wrong type", "phases", "a list"]),
    "no objects": ({"phases": [3]}, ["wrong type", "phases", "each an object"]),
    "misspelled": (
        {"phases": [SHORT, {**LONG, "lerning_rate": 1.0}]},
        ["Unknown hparam 'lerning_rate'", "phases, phase 2", "1.0", "'learning_rate'"],
    ),
    "not of a phase": (
        {"phases": [{**SHORT, "seed": 3}]},
        ["'seed' has to be the same in all phases", "phase 1", "seed = 3", "Set seed beside"],
    ),
    "phases in a phase": (
        {"phases": [{**SHORT, "phases": []}]}, ["'phases' has to be the same", "phase 1"],
    ),
    "type": (
        {"phases": [SHORT, {**LONG, "learning_rate": "fast"}]},
        ["learning_rate", "phases, phase 2", "'fast'", "Give a number"],
    ),
    "range": (
        {"phases": [{**SHORT, "max_seq_length": 0}]},
        ["out of range", "phase 1: max_seq_length", "0", "at least 1"],
    ),
    "no steps": (
        {"phases": [SHORT, {"max_seq_length": 512}]},
        ["lacks its number of steps", "phase 2", "512", "Give num_train_steps"],
    ),
    "another total": (
        {"phases": [SHORT, LONG], "num_train_steps": 90},
        ["number of steps is given twice", "num_train_steps = 90", "= 100", "Leave num_train"],
    ),
    "positions": (
        {"phases": [SHORT, LONG],
         "model_hparam_overrides": {"max_position_embeddings": 128}},
        ["longer than the position", "phase 2 of 2", "max_seq_length = 512", "= 128", "set model_"],
    ),
    "micro-batches": (
        {"phases": [{**SHORT, "gradient_accumulation_steps": 3}, LONG]},
        ["micro-batches", "phase 1 of 2", "= 128", "multiple"],
    ),
    "random positions copied": (
        {"phases": [SHORT, {**LONG, "copy_positions": 256}]},
        ["are random", "phase 2 of 2", "copy_positions = 256", "= 128", "set it there to 128"],
    ),
    "positions that only the generator has": (
        {"phases": [SHORT, {**LONG, "copy_positions": 256}], "init_generator": "x",
         "untied_generator_embeddings": True},
        ["are random", "phase 2 of 2", "copy_positions = 256"],
    ),
    "trained positions copied over": (
        {"phases": [{**LONG, "max_seq_length": 256}, SHORT, {**LONG, "copy_positions": 128}]},
        ["replace positions", "phase 3 of 3", "= 128", "= 256", "set it there to 256"],
    ),
    "all positions are trained": (
        {"phases": [LONG, {**LONG, "copy_positions": 64}]},
        ["replace positions", "phase 2 of 2", "= 64", "Leave copy_positions out of phase 2: all"],
    ),
    "fewer copied than trained since the start": (
        {"phases": [SHORT, {**LONG, "copy_positions": 64}], "init_checkpoint": "x"},
        ["replace positions", "phase 2 of 2", "copy_positions = 64", "set it there to 128"],
    ),
    "another order of a corpus": (
        {
            "phases": [MIXED, LONG, {**MIXED, "shuffle_buffer_size": 9}],
            "pretrain_tfrecords": "c",
        },
        ["Phase 3 can't go on in b", "[10000, 9]", "Set shuffle_buffer_size beside phases"],
    ),
    "nothing masked": (
        {"phases": [SHORT, {**LONG, "mask_prob": 0.0001, "max_seq_length": 64}]},
        ["masked tokens", "phase 2 of 2", "mask_prob = 0.0001", "at least 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("hparams, expected", REFUSED.values(), ids=REFUSED)
def test_refused(hparams, expected):
    with pytest.raises(UserError) as info:
        configure(**hparams)
    for part in expected:
        assert part in str(info.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"pretrain_tfrecords": "b"},
        {"pretrain_tfrecords": {"e": 1}},
        {"max_seq_length": 64},
    ],
)
def test_an_order_of_its_own_for_a_phase_that_begins_anew(changed):
    own = {**MIXED, "shuffle_buffer_size": 9, **changed}
    assert phases_of(configure(MIXED, own))[1].config.shuffle_buffer_size == 9


def test_the_order_of_a_corpus_is_no_matter_where_nothing_is_trained():
    evaluated = {"do_train": False, "do_eval": True, "eval_tfrecords": "held_out"}
    configure(MIXED, {**MIXED, "shuffle_buffer_size": 9}, **evaluated)


def test_copied_positions_beside_the_phases_are_those_of_the_first():
    stated = {**LONG, "copy_positions": 256}
    middle = {**LONG, "max_seq_length": 256}
    config = configure(SHORT, middle, stated, copy_positions=128, init_checkpoint="x")
    assert [phase.config.copy_positions for phase in phases_of(config)] == [128, None, 256]


@pytest.mark.parametrize(
    "copied, given",
    [
        (128, {}),
        (256, {"init_checkpoint": "x"}),
        (256, {"init_generator": "x"}),
        (256, {"init_generator": "x", "embedding_sharing": "gdes"}),
    ],
)
def test_positions_that_a_later_phase_may_copy(copied, given):
    config = configure(SHORT, {**LONG, "copy_positions": copied}, **given)
    assert phases_of(config)[1].config.copy_positions == copied


def test_the_total_may_be_given_too():
    assert configure(SHORT, LONG, num_train_steps=100).num_train_steps == 100


def test_debug_mode_leaves_the_phases_their_steps():
    assert configure({"num_train_steps": 3}, debug=True).num_train_steps == 3


def test_a_warning_names_its_phase_unless_all_have_it():
    long_warmup = {**LONG, "num_warmup_steps": 10}
    (warning,) = configure(SHORT, long_warmup).warnings
    assert warning.startswith("in phase 2 of 2: num_warmup_steps 10 is not less than")
    (warning,) = configure(SHORT, LONG, do_eval=True).warnings
    assert warning.startswith("eval_tfrecords is not set")


# Stored configuration, step reached, that of the next run, and the differences that are named.
FULL = [SHORT, LONG]
RESUMES = {
    "the same": (FULL, 95, FULL, {}),
    "an appended phase": ([SHORT], 90, FULL, {}),
    "an appended phase, halfway": ([SHORT], 40, FULL, {}),
    "more steps of the last phase": (FULL, 100, [SHORT, {**LONG, "num_train_steps": 15}], {}),
    "fewer steps than were done": (FULL, 100, [SHORT, {**LONG, "num_train_steps": 5}], {}),
    "more steps of the first, then another": (
        [SHORT], 90, [{**SHORT, "num_train_steps": 95}, LONG], {},
    ),
    "a phase that has not begun": (FULL, 90, [SHORT, {**LONG, "learning_rate": 3.0}], {}),
    "one that has not begun left out": (FULL, 50, [SHORT], {}),
    "paths": (FULL, 95, [{**SHORT, "pretrain_tfrecords": "x"}, {**LONG, "eval_batch_size": 3}], {}),
    "a finished phase's rate": (
        FULL, 95, [{**SHORT, "learning_rate": 3.0}, LONG],
        {"phase 1: learning_rate": (5e-4, 3.0)},
    ),
    "a finished phase's steps": (
        FULL, 95, [{**SHORT, "num_train_steps": 80}, LONG],
        {"phase 1: num_train_steps": (90, 80)},
    ),
    "a finished phase's steps, at its end": (
        FULL, 90, [{**SHORT, "num_train_steps": 95}, LONG],
        {"phase 1: num_train_steps": (90, 95)},
    ),
    "the running phase's length": (
        FULL, 91, [SHORT, {**LONG, "max_seq_length": 256}],
        {"phase 2: max_seq_length": (512, 256)},
    ),
    "the running phase ends before": (
        FULL, 96, [SHORT, {**LONG, "num_train_steps": 5}, LONG],
        {"phase 2: num_train_steps": (10, 5)},
    ),
    "a phase that has begun left out": (FULL, 95, [SHORT], {"phase 2": (LONG, None)}),
}  # fmt: skip


@pytest.mark.parametrize("old, step, new, differences", RESUMES.values(), ids=RESUMES)
def test_what_may_change_on_resume(old, step, new, differences):
    old, new = (configure(*phases).to_dict() for phases in (old, new))
    found = changed_on_resume(PretrainingConfig, old, new, step)
    assert {name: values for name, *values in found} == {
        name: list(values) for name, values in differences.items()
    }


def test_a_folder_of_an_older_version_has_one_phase():
    old = configure(num_train_steps=90, num_warmup_steps=9).to_dict()
    del old["phases"]
    same = lambda new, step: changed_on_resume(PretrainingConfig, old, new, step)  # noqa: E731
    assert same(configure(num_warmup_steps=9).to_dict(), 50) == []
    assert same(configure(SHORT, LONG).to_dict(), 90) == []
    assert same(configure(num_warmup_steps=9, seed=1).to_dict(), 50) == [("seed", 0, 1)]
    changed = configure(LONG, LONG).to_dict()
    assert ("phase 1: learning_rate", 5e-4, 1e-4) in same(changed, 50)


def test_what_all_phases_share_is_named_once():
    old, new = configure(SHORT, LONG).to_dict(), configure(SHORT, LONG, seed=1).to_dict()
    assert changed_on_resume(PretrainingConfig, old, new, 95) == [("seed", 0, 1)]


@pytest.mark.parametrize("damaged", ["x", [3], [{"num_train_steps": "x"}]], ids=str)
def test_stored_phases_that_someone_damaged(damaged):
    new = configure(SHORT, LONG).to_dict()
    found = changed_on_resume(PretrainingConfig, {**new, "phases": damaged}, new, 95)
    assert found == [("phases", damaged, new["phases"])]
