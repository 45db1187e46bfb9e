"""Fine-tuning against the official program: features, outputs, scores, losses and final weights."""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.formats.official import official_name, read_tf1_checkpoint
from electra_tf2.loading.pretrained import STRUCTURE, open_pretrained
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.devices import make_strategy
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from finetune.feature_tables import TaskData
from finetune.features import Preprocessor
from finetune.model import FinetuningModel, FinetuningObjective, learning_rate_factors
from finetune.run.pretrained_model import initialize, resolve_network
from finetune.task import Task
from finetune.task_builder import get_tasks
from tests.conformance.cases import Case, assert_close
from tests.conformance.replay import RacySchedule, replay

pytestmark = pytest.mark.conformance("finetune")

# A candidate's place among the likeliest is compared where its neighbours are further away.
TIE = 1e-5


class Setting(NamedTuple):
    """A case, its task and network with the official initial weights, and the arrays by name."""

    case: Case
    config: FinetuningConfig
    task: Task
    model: FinetuningModel
    arrays: dict

    def data(self, split) -> TaskData:
        examples = self.task.get_examples(split)
        table = Preprocessor(self.config).make(self.task, examples, split)
        return TaskData([self.task.name], [table], [self.task.get_feature_specs()])

    def expected(self, prefix) -> dict:
        return {
            name.removeprefix(f"{prefix}/"): array
            for name, array in self.arrays.items()
            if name.startswith(f"{prefix}/")
        }

    @property
    def dev_split(self) -> str:
        return next(iter(self.task.dev_splits))


def make_config(case: Case, **more) -> FinetuningConfig:
    spec = case.spec
    return FinetuningConfig(
        "case",
        "unused",
        **spec["hparams"],
        task_names=[spec["task"]],
        vocab_size=spec["vocab_size"],
        raw_data_dir=str(case.folder / "raw"),
        head_dropout_prob=0.0,
        **more,
    )


@functools.lru_cache(maxsize=1)
def open_case(case: Case) -> Setting:
    config = make_config(case)
    tokenizer = make_tokenizer(load_vocabulary(str(case.vocab)))
    (task,) = get_tasks(config, tokenizer)
    with make_strategy("one_device").scope():
        model = FinetuningModel([task], config.network())
        model.build()
    pretrained = open_pretrained(str(case.folder / "init"))
    weights = initialize(model, pretrained, need_heads=True, allow_partial=False)
    for name, variable in model.named_variables().items():
        variable.assign(weights[name])
    return Setting(case, config, task, model, dict(np.load(case.folder / "arrays.npz")))


@pytest.fixture
def setting(case):
    return open_case(case)


def outputs_of(setting, split) -> dict:
    """The head's outputs for all rows, at full length, in batches of a size of their own."""
    data = setting.data(split)
    forward = tf.function(lambda batch: setting.model(batch)[setting.task.name].outputs)
    parts = [
        forward(data.batch(rows, setting.config.max_seq_length))
        for rows in np.array_split(np.arange(data.num_rows), -(-data.num_rows // 16))
    ]
    outputs = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return {**outputs, "eid": data.tables[0].scalars["eid"]}


@functools.lru_cache(maxsize=1)
def dev_outputs(case) -> dict:
    setting = open_case(case)
    return outputs_of(setting, setting.dev_split)


def test_network_has_the_official_sizes(setting):
    network = setting.config.network().to_dict()
    for name, value in setting.case.spec["bert_config"].items():
        assert network[name] == value, name


def test_the_checkpoint_tells_its_sizes(setting):
    heads = setting.config.network().num_attention_heads
    bare = FinetuningConfig("case", "unused", model_hparam_overrides={"num_attention_heads": heads})
    pretrained = open_pretrained(str(setting.case.folder / "init"))
    assert pretrained.network is None
    shown = pretrained.encoder_config()
    structure = {n: getattr(shown, n) for n in STRUCTURE if n != "num_attention_heads"}
    assert {n: getattr(setting.config.network(), n) for n in structure} == structure
    del bare.model_hparam_overrides["num_attention_heads"]
    assert resolve_network(bare, pretrained).hidden_size == structure["hidden_size"]


def test_variables_are_the_official_ones(setting):
    named = setting.model.named_variables()
    heads = setting.model.official_head_names()
    shapes = {official_name(n) or heads[n]: list(v.shape) for n, v in named.items()}
    assert shapes == setting.case.spec["trainable_variables"]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_features(setting, split):
    expected = setting.expected(split)
    data = setting.data("train" if split == "train" else setting.dev_split)
    batch = data.batch(np.arange(data.num_rows), setting.config.max_seq_length)
    batch[f"{setting.task.name}/eid"] = data.tables[0].scalars["eid"]
    for name, array in expected.items():
        own = name.replace(f"{setting.task.name}_", f"{setting.task.name}/", 1)
        np.testing.assert_array_equal(batch[own], array, err_msg=name)
    if "label_mapping" in setting.case.spec:
        mapping = setting.case.spec["label_mapping"]
        assert setting.task.get_state()["labels"] == sorted(mapping, key=mapping.get)


def test_dev_outputs(setting):
    expected, actual = setting.expected("dev_out"), dev_outputs(setting.case)
    assert expected
    for name, array in expected.items():
        if name.endswith("_logits"):
            # Masked positions are at -1000: they must not set the scale of the others.
            for part in (array > -500, array <= -500):
                assert_close(actual[name][part], array[part], 1e-5)
        elif name.endswith("_index"):
            compare_indices(actual[name], array, expected[name.replace("index", "log_probs")])
        elif name.endswith("_log_probs"):
            for part in (array > -500, array <= -500):
                assert_close(clear_rows(actual, expected, name)[part], array[part], 1e-5)
        elif np.issubdtype(array.dtype, np.integer):
            np.testing.assert_array_equal(actual[name], array, err_msg=name)
        else:
            assert_close(actual[name], array, 1e-5)


def clear_rows(actual, expected, name):
    """The values to compare: where a tie changes which start a row of ends belongs to, theirs."""
    if name != "end_top_log_probs":
        return actual[name]
    same = actual["start_top_index"] == expected["start_top_index"]
    return np.where(same[..., None], actual[name], expected[name])


def compare_indices(actual, expected, log_probs):
    gaps = np.abs(np.diff(log_probs, axis=-1)) <= TIE
    edge = np.zeros((*gaps.shape[:-1], 1), bool)
    # The last candidate may be tied with one that is not in the list.
    tied = np.concatenate([gaps, edge | True], -1) | np.concatenate([edge, gaps], -1)
    tied |= log_probs < -500
    if actual.ndim == 3:
        tied |= tied.any(axis=-1, keepdims=True) & (actual != expected)
    assert (~tied).any()
    np.testing.assert_array_equal(actual[~tied], expected[~tied])


def test_dev_scores(setting):
    spec, outputs = setting.case.spec, dev_outputs(setting.case)
    scorer = setting.task.get_scorer(setting.dev_split)
    for i in np.random.default_rng(0).permutation(len(outputs["eid"])):
        scorer.update({name: values[i] for name, values in outputs.items()})
    results = {**dict(scorer.get_results()), "loss": scorer.get_loss()}
    expected = dict(spec["dev_results"])
    if "label_mapping" in spec:  # the official tagging scorer counts each loss twice
        expected["loss"] /= 2
    for name, value in expected.items():
        # A correlation magnifies the outputs' rounding where they hardly vary: 1e-5 of its range.
        limit = 1e-3 if name in ("pearson", "spearman") else 1e-5
        assert results[name] == pytest.approx(value, rel=1e-5, abs=limit), name
    if "dev_preds" in spec:
        assert scorer.answers() == spec["dev_preds"]
    if "dev_null_odds" in spec:
        ours, theirs = scorer.null_odds(), spec["dev_null_odds"]
        assert ours.keys() == theirs.keys()
        assert_close([ours[key] for key in theirs], list(theirs.values()), 1e-5)


def test_scorer_on_the_official_outputs(setting):
    """The scorer by itself: no rounding of the network in between."""
    expected = setting.expected("dev_out")
    scorer = setting.task.get_scorer(setting.dev_split)
    for i in range(len(expected["eid"])):
        scorer.update({name: values[i] for name, values in expected.items()})
    results = dict(scorer.get_results())
    for name, value in setting.case.spec["dev_results"].items():
        if name in results and not (name == "loss" and "label_mapping" in setting.case.spec):
            assert results[name] == pytest.approx(value, rel=1e-5, abs=1e-9), name


def test_outputs_do_not_depend_on_the_padded_length(setting):
    """The shortest examples, padded to their own length and to the longest."""
    data = setting.data(setting.dev_split)
    rows = np.argsort(data.lengths, kind="stable")[:4]
    name = setting.task.name
    short, long = (
        setting.model(data.batch(rows, length), training=False)[name]
        for length in (int(data.lengths[rows].max()), setting.config.max_seq_length)
    )
    np.testing.assert_allclose(short.losses, long.losses, rtol=1e-5, atol=1e-6)


def test_training(setting, jit_compile, record_property):
    """Losses, weights and moments of the first steps."""
    spec, steps = setting.case.spec, setting.case.spec["steps"]
    config, data = setting.config, setting.data("train")
    strategy = make_strategy("one_device")
    with strategy.scope():
        model = FinetuningModel([setting.task], config.network())
        model.build()
    for name, variable in model.named_variables().items():
        variable.assign(setting.model.named_variables()[name])
    variables = model.named_variables()
    factors = learning_rate_factors(
        variables,
        num_hidden_layers=config.network().num_hidden_layers,
        decay=config.layerwise_lr_decay,
    )
    settings = OptimizerSettings(weight_decay_rate=config.weight_decay_rate)
    optimizer = AdamW(strategy, variables, settings, factors)
    n = spec["num_train_steps"]
    schedule = PolynomialDecay(config.learning_rate, n, n * config.warmup_proportion)
    step = ReplicaStep(FinetuningObjective(model), optimizer, jit_compile=jit_compile)
    size = spec["batch_size"]
    batches = [
        data.batch(np.arange(k * size, (k + 1) * size), config.max_seq_length) for k in range(steps)
    ]

    def check(losses, offsets):
        np.testing.assert_allclose(losses, spec["train_losses"], rtol=1e-4)
        compare_final(setting, optimizer, steps)
        record_property("learning_rates_of", str(offsets))

    replay(strategy, step, RacySchedule(schedule, steps), batches, check)


def compare_final(setting, optimizer, steps):
    final = read_tf1_checkpoint(str(setting.case.folder / "final"))
    assert final.global_step == steps
    names = {n: official_name(n) for n in optimizer.variables.names}
    names |= setting.model.official_head_names()
    weights, slots = optimizer.variables.to_numpy(), optimizer.slots.to_numpy()
    differences = []
    for ours, theirs in names.items():
        differences.append(np.abs(weights[ours] - final.variables[theirs]).ravel())
        if is_noise(setting, theirs):
            continue
        for slot in ("adam_m", "adam_v"):
            assert_close(slots[f"{ours}/{slot}"], final.slots[theirs][slot], 1e-3)
    differences = np.concatenate(differences)
    assert differences.max() <= 2e-4
    assert differences.mean() <= 2e-6


def is_noise(setting, official: str) -> bool:
    """Gradients that are zero in theory: key biases, and QA's start and end output biases."""
    if official.endswith("key/bias"):
        return True
    answers = "dev_preds" in setting.case.spec
    return answers and official.endswith(("/dense/bias", "/dense_1/bias"))
