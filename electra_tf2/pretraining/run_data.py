"""The inputs of a pre-training run, checked before anything is built or written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from electra_tf2.data.readers import READERS
from electra_tf2.data.records import RecordFiles
from electra_tf2.model_folder import (
    check_no_other_model,
    check_same_model,
    check_same_tokens,
    read_config,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phase_checks import changed_on_resume
from electra_tf2.pretraining.phases import Phase, phase_to_train, phase_trained, phases_of
from electra_tf2.pretraining.restore import saved_step
from electra_tf2.results_files import check_results_paths
from electra_tf2.text.vocabulary import Vocabulary, check_vocabulary_size, load_vocabulary


class PhaseData(NamedTuple):
    """The records of a phase.

    Attributes:
        train: None if the run only evaluates and has held-out records.
        evaluation: what to evaluate on.
    """

    train: RecordFiles | None
    evaluation: RecordFiles


class Data(NamedTuple):
    """The checked inputs of a run.

    Attributes:
        vocabulary: of the records.
        phases: those that there is something left to do in, in their order.
        records: of these phases.
        strip_accents: as the records' metadata says, or the hparam.
        hparams: all hparams, with what the data and the devices decided filled in.
    """

    vocabulary: Vocabulary
    phases: list[Phase]
    records: list[PhaseData]
    strip_accents: bool
    hparams: dict[str, Any]

    def fingerprint(self) -> str:
        """Returns the number of records and a hash of all that they are read from."""
        files = [own for phase in self.records for own in phase if own is not None]
        content = [(own.paths, own.counts, own.metadata) for own in files]
        text = repr((self.vocabulary.sha256, self.strip_accents, content))
        records = ", ".join(dict.fromkeys(own.described for own in files))
        return f"{records} ({hashlib.sha256(text.encode()).hexdigest()[:16]})"


def open_data(config: Any, network: TransformerConfig, compute_type: str) -> Data:
    """Checks the data, and the model's folder if it holds a model, against the configuration.

    Args:
        config: a `PretrainingConfig`.
        network: the resolved sizes of the discriminator.
        compute_type: the resolved precision.

    Raises:
        UserError: something does not fit; the error names the phase, if there are several.
    """
    if config.do_eval:
        check_results_paths(config.results_txt, config.results_pkl)
    stored = read_config(config.model_dir)
    step = saved_step(config.model_dir)
    if step is None and stored is None:
        check_no_other_model(config.model_dir)
    if step is not None and stored is not None:
        check_same_model(
            config.model_dir,
            stored,
            {**config.to_dict(), "precision": compute_type},
            network.to_dict(),
            lambda old, new: changed_on_resume(type(config), old, new, step),
        )
    data = _read_data(config, _phases_left(config, step or 0), compute_type)
    if step is not None:
        check_same_tokens(
            config.model_dir,
            data.vocabulary,
            do_lower_case=config.do_lower_case,
            strip_accents=data.strip_accents,
        )
    return data


def _phases_left(config: Any, step: int) -> list[Phase]:
    """The phases to train, or the one whose weights are to be evaluated."""
    phases = phases_of(config)
    if not config.do_train:
        return [phase_trained(phases, step)]
    return phases[phase_to_train(phases, step).number - 1 :]


def _read_data(config: Any, phases: Sequence[Phase], compute_type: str) -> Data:
    vocabulary = load_vocabulary(config.vocab_file)
    check_vocabulary_size(vocabulary, config.vocab_size, config.vocab_file)
    strip_accents = config.strip_accents if "strip_accents" in config.given else None
    records = []
    for phase in phases:
        evaluates = config.eval_every_steps or (config.do_eval and phase is phases[-1])
        with phase.named_in_errors():
            opened = _open_phase(phase.config, vocabulary, strip_accents, bool(evaluates))
        records.append(opened)
        for files in opened:
            if strip_accents is None and files is not None and files.metadata is not None:
                strip_accents = files.metadata.strip_accents
    if strip_accents is None:
        strip_accents = config.strip_accents
    hparams = {**config.to_dict(), "strip_accents": strip_accents, "precision": compute_type}
    return Data(vocabulary, list(phases), records, strip_accents, hparams)


def _open_phase(
    config: Any, vocabulary: Vocabulary, strip_accents: bool | None, evaluates: bool
) -> PhaseData:
    held_out = config.eval_tfrecords
    patterns = [] if not config.do_train and held_out else [config.pretrain_tfrecords]
    if evaluates and held_out:
        patterns.append(held_out)
    opened = []
    for pattern in patterns:
        files = READERS[config.segmentation].open(
            pattern,
            max_seq_length=config.max_seq_length,
            vocabulary=vocabulary,
            do_lower_case=config.do_lower_case,
            strip_accents=strip_accents,
        )
        if strip_accents is None and files.metadata is not None:
            strip_accents = files.metadata.strip_accents
        opened.append(files)
    train = opened[0] if patterns[0] == config.pretrain_tfrecords else None
    return PhaseData(train, opened[-1])
