"""Opens a pre-training run: everything is checked before anything is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import keras

from electra_tf2.console import say
from electra_tf2.data.input import Corpus, Mixture, TrainingFiles, open_training_files
from electra_tf2.data.open_records import verify_file
from electra_tf2.data.order import corpus_draws
from electra_tf2.data.position import changed_files, data_changes, data_identity
from electra_tf2.errors import UserError
from electra_tf2.hparams.ramps import largest, values_of
from electra_tf2.hparams.shared_checks import check_network_fits
from electra_tf2.loading.folder import (
    CONFIG,
    check_model_folder,
    check_no_other_model,
    check_results_paths,
    check_same_model,
    check_same_tokens,
    config_in_checkpoint,
    read_config,
    stored_config,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import describe_parameters
from electra_tf2.patterns import short_names, weighted
from electra_tf2.pretraining.phases import (
    Phase,
    continued_corpora,
    phase_to_train,
    phase_trained,
    phases_of,
)
from electra_tf2.pretraining.resume_rules import changed_on_resume, decay_warning
from electra_tf2.pretraining.run.build_pretraining import Pretraining, build_pretraining
from electra_tf2.pretraining.run.data_report import check_text
from electra_tf2.pretraining.run.restore import Start, open_branch, saved_step
from electra_tf2.text.casing_files import read_stated_casing
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import Vocabulary, check_vocabulary_size, load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore, newest_checkpoint
from electra_tf2.training.devices import (
    Devices,
    Precision,
    check_batch_size,
    continued_precision,
    describe,
    resolve_precision,
)

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


EvaluatedOn = Literal["held-out text", "text it was trained on", "other text"]
"""What an evaluation scores, in words for logs and pages."""


class PhaseData(NamedTuple):
    """The records of a phase.

    Attributes:
        train: None if the run only evaluates and has held-out records.
        evaluation: what to evaluate on; None if the run only trains, on a mixture.
        identity: tells the records to train on from others, see `data_identity`; None without them.
        evaluated_on: what `evaluation` is.
    """

    train: TrainingFiles | Mixture | None
    evaluation: TrainingFiles | None
    identity: Mapping[str, Any] | None
    evaluated_on: EvaluatedOn


class Data(NamedTuple):
    """The checked inputs of a run.

    Attributes:
        vocabulary: of the records.
        phases: those still to be trained, in their order.
        records: of these phases.
        casing: of the records, as their metadata says, or the hparams.
        hparams: all hparams, with what the data and the devices decided filled in.
        generator_began: whether the generator began as another model's (hparam `init_generator`),
            in this run or in the one whose checkpoint it goes on from.
    """

    vocabulary: Vocabulary
    phases: list[Phase]
    records: list[PhaseData]
    casing: Casing
    hparams: dict[str, Any]
    generator_began: bool = False

    def fingerprint(self) -> str:
        """Returns the number of records and a hash of all that they are read from."""
        files = [own for phase in self.records for own in phase[:2] if own is not None]
        content = [(own.paths, own.counts, own.metadata) for own in files]
        content += [phase.identity for phase in self.records]
        text = repr((self.vocabulary.sha256, self.casing, content))
        records = ", ".join(dict.fromkeys(own.described for own in files))
        return f"{records} ({hashlib.sha256(text.encode()).hexdigest()[:16]})"

    def training_identity(self, network: TransformerConfig, phase: Phase) -> dict[str, Any]:
        """Returns what the state of checkpoints says of a phase's training.

        Returns:
            `config` (the hparams that may not change on resume, and the sizes), `vocab_sha256`,
            `casing`, and `data`: the phase's number, and the identity of its records. And
            `init_generator`, where the generator began so: a resumed run need not name it again.
        """
        names = [*phase.config.names_kept_on_resume(), "num_train_steps", "phases"]
        hparams = {name: self.hparams[name] for name in names}
        own = self.records[self.phases.index(phase)].identity
        return {
            "config": stored_config(hparams, network),
            "vocab_sha256": self.vocabulary.sha256,
            "casing": self.casing.to_dict(),
            "data": {"phase": phase.number, **(own or {})},
            **({"init_generator": True} if self.generator_began else {}),
        }


@dataclasses.dataclass(frozen=True)
class Run:
    """A pre-training run with everything checked and the networks built.

    Attributes:
        config: the run's hparams.
        devices: the strategy, and the other workers.
        network: sizes of the discriminator.
        data: vocabulary, records, and the phases that are left.
        pretraining: the networks, with random weights, and the first phase's objective.
    """

    config: PretrainingConfig
    devices: Devices
    network: TransformerConfig
    data: Data
    pretraining: Pretraining


def open_run(config: PretrainingConfig, devices: Devices) -> Run:
    """Checks hparams, devices, the data and the model's folder against each other.

    Raises:
        UserError: something does not fit.
    """
    strategy, workers = devices
    network = config.network()
    check_network_fits(network)
    newest_checkpoint(CheckpointStore(config.model_dir), workers)  # the same for all, or an error
    config = as_it_began(config)
    compute_type = resolve_precision(config.precision)
    data = workers.together(lambda: open_data(config, network, compute_type))
    workers.check_same_view("the data", data.fingerprint())
    for phase in data.phases:
        with phase.named_in_errors():
            check_batches(phase.config, strategy.num_replicas_in_sync)
    first = data.phases[0].config
    say(describe(strategy, largest(first.train_batch_size), workers))

    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        pretraining = build_pretraining(first, network, data.vocabulary, precision=compute_type)
    parameters = describe_parameters(pretraining.pair, config.train_generator)
    say(f"Model: {parameters}; computing in {compute_type}")
    return Run(config, devices, network, data, pretraining)


def as_it_began(config: PretrainingConfig) -> PretrainingConfig:
    """Returns the hparams, with the precision of the model to train on where they leave it open."""
    if config.precision != "auto" or not config.do_train:
        return config
    start = None
    with contextlib.suppress(UserError):  # `open_data` meets it too, among the other checks
        start = _find_start(config)
    stored = start.configs[0].hparams if start and start.configs else {}
    return continued_precision(config, stored.get("precision"))


def check_batches(config: PretrainingConfig, replicas: int) -> None:
    """Refuses batches that can't be divided over the replicas, those of a ramp among them.

    Raises:
        UserError: one of the sizes can't be divided; names it.
    """
    if config.do_train:
        for size in values_of(config.train_batch_size):
            check_batch_size("train_batch_size", size, replicas, config.gradient_accumulation_steps)
    if config.do_eval or config.eval_every_steps:
        check_batch_size("eval_batch_size", config.eval_batch_size, replicas)


def open_data(
    config: PretrainingConfig, network: TransformerConfig, compute_type: Precision
) -> Data:
    """Checks the data, and the checkpoint to go on from if there is one, against the configuration.

    Args:
        config: gives the paths, the phases, and what the data must fit.
        network: the resolved sizes of the discriminator.
        compute_type: the resolved precision.

    Raises:
        UserError: something does not fit; the error names the phase, if there are several.
    """
    _check_places(config)
    start = _find_start(config)
    if start is not None:
        hparams = {**config.to_dict(), "precision": compute_type}
        with _remedied(start, config):
            _check_start(start, config, hparams, network)
    data = _read_data(config, _phases_left(config, start.step if start else 0), compute_type)
    began = start.generator_began if start else bool(config.init_generator)
    data = data._replace(generator_began=began)
    if start is not None:
        if start.model_dir == config.model_dir:
            data = data._replace(hparams=data.hparams | start.origin)
        with _remedied(start, config):
            check_same_tokens(start.model_dir, data.vocabulary, data.casing, start.state)
            if not config.do_train:
                data = _with_other_text_named(data, start.state.get("data"))
            elif start.step < config.num_train_steps:
                check_same_data(data, start.state.get("data"))
    return data


@contextlib.contextmanager
def _remedied(start: Start, config: PretrainingConfig) -> Iterator[None]:
    """Replaces advice on how to resume, where a run branches from another one."""
    try:
        yield
    except UserError as error:
        if start.model_dir == config.model_dir:
            raise
        remedy = (
            "Give what the run has that you branch from. Or start a new run with its weights: "
            "leave branch_from out and set init_checkpoint."
        )
        raise error.with_(remedy=remedy) from error


def _find_start(config: PretrainingConfig) -> Start | None:
    """Finds the checkpoint to go on from: the model folder's own, or the one to branch from."""
    stored = read_config(config.model_dir)
    step = saved_step(config.model_dir)
    state = CheckpointStore(config.model_dir).newest_state()
    if step is None and stored is None:
        check_no_other_model(config.model_dir)
    if state and stored is None:
        raise _unknown_configuration(config.model_dir)
    if step is None:
        return open_branch(config) if config.branch_from and config.do_train else None
    # A lost or foreign config.json must not let other hparams pass.
    configs = (stored, config_in_checkpoint(config.model_dir))
    return Start(config.model_dir, step, state, [own for own in configs if own is not None])


def _check_start(
    start: Start,
    config: PretrainingConfig,
    hparams: Mapping[str, Any],
    network: TransformerConfig,
) -> None:
    """Refuses a checkpoint of another configuration; warns of a learning rate that rises again."""
    for own in start.configs:
        now = dict(hparams)
        if not config.do_train:  # weights of any precision are evaluated in any other
            now["precision"] = own.hparams.get("precision", type(config).precision)
        rules = (type(config), own.hparams, now, start.step)
        check_same_model(own, now, network, lambda *_, rules=rules: changed_on_resume(*rules))
    if config.do_train and start.configs:
        warning = decay_warning(type(config), start.configs[0].hparams, hparams, start.step)
        if warning:
            say(f"Warning: {warning}")
        warning = start.unread_weights_warning(hparams)
        if warning and start.model_dir == config.model_dir:
            say(f"Warning: {warning}")


def _check_places(config: PretrainingConfig) -> None:
    """Refuses places that can't be written to; a model in such a place may still be evaluated."""
    if config.do_train:
        check_model_folder(config.model_dir)
    if config.do_eval and not are_results_optional(config):
        check_results_paths(config.results_txt, config.results_pkl)


def are_results_optional(config: PretrainingConfig) -> bool:
    """Whether a run may go without files of results: where it trains nothing and none were named.

    A model that is only read may lie in a folder that can't be written to, and so do they then.
    """
    return not config.do_train and not {"results_txt", "results_pkl"} & config.given


def _unknown_configuration(model_dir: str) -> UserError:
    """The error for a folder of an older version that has lost its configuration."""
    return UserError(
        "The model's configuration is lost, so this run can't be compared with it.",
        where=posixpath.join(model_dir, CONFIG),
        received="checkpoints, but no config.json",
        remedy="Restore the file from a copy. Or start a new model from these weights: set "
        f"another --model-name, and init_checkpoint to {model_dir}",
    )


def check_same_data(data: Data, stored: object) -> None:
    """Refuses to resume in the middle of other records; says so if `allow_other_data` allows it.

    Args:
        data: of a run that trains.
        stored: what the checkpoint says of its phase's records; older versions say nothing.

    Raises:
        UserError: the phase would resume on records that differ; or one of the first files that
            differ is damaged, which is not looked for in large data.
    """
    phase, records = data.phases[0], data.records[0]
    if not isinstance(stored, dict) or stored.get("phase") != phase.number:
        return
    assert records.train is not None and records.identity is not None  # do_train
    changes = data_changes(stored, records.identity, records.train.paths)
    if not changes:
        return
    counts = dict(zip(records.train.paths, records.train.counts, strict=True))
    for path in changed_files(stored, records.identity, records.train.paths)[:3]:
        verify_file(path, counts[path])
    if phase.config.allow_other_data:
        say(f"Warning: training resumes on other data (allow_other_data): {'; '.join(changes)}")
        return
    patterns = weighted(phase.config.pretrain_tfrecords)
    with phase.named_in_errors():
        raise UserError(
            "The training data are not those that this model was trained on so far.",
            where=f"hparam pretrain_tfrecords, {', '.join(patterns)}",
            received="; ".join(changes),
            remedy="Give the former records"
            + (" and weights, in the former order," if stored.get("corpora") else "")
            + " to resume the run. To resume on these at the same "
            "number of examples (or after a damaged shard was replaced), set allow_other_data to "
            "true. For a new model, choose another --model-name.",
        )


def _with_other_text_named(data: Data, stored: object) -> Data:
    """Names what an evaluation without eval_tfrecords reads where it isn't what was trained on.

    Args:
        data: of a run that only evaluates. Its pretrain_tfrecords may be any, as officially.
        stored: what the checkpoint says of its phase's records; older versions say nothing.
    """
    phase, records = data.phases[0], data.records[0]
    if not isinstance(stored, dict) or stored.get("phase") != phase.number:
        return data
    if records.train is None or records.identity is None:  # it has eval_tfrecords
        return data
    if not data_changes(stored, records.identity, records.train.paths):
        return data
    return data._replace(records=[records._replace(evaluated_on="other text")])


def _phases_left(config: PretrainingConfig, step: int) -> list[Phase]:
    """The phases to train, or the one whose weights are evaluated."""
    phases = phases_of(config)
    if not config.do_train:
        return [phase_trained(phases, step)]
    return phases[phase_to_train(phases, step).number - 1 :]


def _read_data(config: PretrainingConfig, phases: Sequence[Phase], compute_type: Precision) -> Data:
    vocabulary = load_vocabulary(config.vocab_file)
    is_given = "vocab_size" in config.given
    check_vocabulary_size(vocabulary, config.vocab_size, config.vocab_file, may_be_more=is_given)
    opener = _Opener(vocabulary, Casing.from_hparams(config), config.given)
    records = []
    for phase in phases:
        own = phase.config
        evaluates = config.eval_every_steps or (config.do_eval and phase is phases[-1])
        train = evaluation = None
        with phase.named_in_errors():
            if config.do_train or not own.eval_tfrecords:
                train = opener.open_to_train(config, phase)
                evaluation = None if isinstance(train, Mixture) else train
            if own.eval_tfrecords and evaluates:
                evaluation = opener.open(own.eval_tfrecords, own)
        records.append(
            PhaseData(
                train,
                evaluation,
                None if train is None else _identity(train),
                "held-out text" if own.eval_tfrecords else "text it was trained on",
            )
        )
    if opener.unsettled and (found := read_stated_casing(config.vocab_file, vocabulary)):
        opener.settle(found.casing)
    casing = opener.casing
    hparams = {**config.to_dict(), **casing.settings(), "precision": compute_type}
    return Data(vocabulary, list(phases), records, casing, hparams)


class _Opener:
    """Opens the data sets of a run, which have to agree in their casing.

    The first metadata settles what hparams leave open of it, or for records without any the
    vocabulary's files.
    """

    def __init__(self, vocabulary: Vocabulary, casing: Casing, given: Collection[str]):
        self.casing, self.unsettled = casing, set(casing.settings()) - set(given)
        self._vocabulary = vocabulary

    def settle(self, stated: Casing) -> None:
        """Takes over the open settings of a stated casing."""
        taken = {name: own for name, own in stated.settings().items() if name in self.unsettled}
        self.casing, self.unsettled = Casing.from_settings(self.casing.settings() | taken), set()

    def open(self, patterns: str, config: PretrainingConfig) -> TrainingFiles:
        """Opens a data set for a phase's configuration."""
        files = open_training_files(
            patterns,
            segmentation=config.segmentation,
            max_seq_length=config.max_seq_length,
            vocabulary=self._vocabulary,
            casing=self.casing,
            taken=self.unsettled,
        )
        if self.unsettled and files.metadata is not None:
            self.settle(Casing.from_hparams(files.metadata))
        return files

    def open_to_train(self, config: PretrainingConfig, phase: Phase) -> TrainingFiles | Mixture:
        """Opens what a phase of a run trains on."""
        given, own = phase.config.pretrain_tfrecords, phase.config
        weights, opened = weighted(given), []
        for patterns in weights:
            opened.append(self.open(patterns, own))
            if config.do_train:
                check_text(opened[-1], self._vocabulary, own)
        if isinstance(given, str):
            return opened[0]
        before = _examples_before(config, phase)
        corpora = zip(short_names(weights), opened, weights.values(), before, strict=True)
        return Mixture.of([Corpus(*corpus) for corpus in corpora])


def _examples_before(config: PretrainingConfig, phase: Phase) -> list[int]:
    """Examples of a mixture's corpora that the phases before have trained on."""
    found = dict.fromkeys(weighted(phase.config.pretrain_tfrecords), 0)
    for earlier in phases_of(config)[: phase.number - 1]:
        continued = continued_corpora(earlier.config, phase.config)
        if not continued:
            continue
        weights = weighted(earlier.config.pretrain_tfrecords)
        draws = corpus_draws(config.seed, tuple(weights.values()))
        for patterns, count in zip(weights, draws.counts(earlier.examples()).tolist(), strict=True):
            if patterns in continued:
                found[patterns] += count
    return list(found.values())


def _identity(train: TrainingFiles | Mixture) -> dict[str, Any]:
    """What tells the records of a phase from others, and how they are mixed."""
    found = data_identity(train)
    if isinstance(train, Mixture):
        found["corpora"] = [
            {
                "share": share,
                "shards": len(own.files.paths),
                "passed": own.passed,
                "split_long_lines": bool(
                    own.files.metadata and own.files.metadata.split_long_lines
                ),
            }
            for own, share in zip(train.corpora, train.shares, strict=True)
        ]
    return found
