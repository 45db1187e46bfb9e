"""The inputs of a pre-training run, checked before anything is built or written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.data.dataset import RecordFiles
from electra_tf2.data.input import READERS
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import (
    check_no_other_model,
    check_results_paths,
    check_same_model,
    check_same_tokens,
    read_config,
)
from electra_tf2.loading.pretrained import Pretrained
from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.modeling.electra import Pair, build_pair
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.objective import MaskedLM, PretrainingObjective
from electra_tf2.pretraining.phases import (
    Phase,
    changed_on_resume,
    phase_to_train,
    phase_trained,
    phases_of,
)
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.pretraining.restore import saved_step
from electra_tf2.text.vocabulary import Vocabulary, check_vocabulary_size, load_vocabulary
from electra_tf2.training.devices import DTYPE_POLICIES


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


# Whether weights from elsewhere mean in a run what they meant where they were trained.


# What the shapes of the weights don't show.
_UNSEEN = ("num_attention_heads", "num_hidden_layers", "hidden_act")


def check_start(pretrained: Pretrained, config: Any, *, strip_accents: bool) -> None:
    """Refuses weights of a network, a vocabulary or a casing that is not the run's.

    Args:
        pretrained: the weights; what nothing beside them says is not compared.
        config: a `PretrainingConfig`.
        strip_accents: whether the run's data have no accents.

    Raises:
        UserError: lists every difference.
    """
    network = config.network()
    different = _network_differences("", pretrained.network, network)
    if _has_small_generator(config):
        small = generator_config(
            network,
            hidden_fraction=config.generator_hidden_size,
            layers_fraction=config.generator_layers,
        )
        different += _network_differences("the generator's ", pretrained.generator, small)
    here = _text_settings(config.do_lower_case, strip_accents)
    there = _text_settings(**pretrained.tokenizer) if pretrained.tokenizer else here
    different += [
        f"{name}: {there[name]} there, {value} here"
        for name, value in here.items()
        if there[name] != value
    ]
    if pretrained.vocab_file:
        theirs, ours = load_vocabulary(pretrained.vocab_file), load_vocabulary(config.vocab_file)
        if theirs.sha256 != ours.sha256:
            different.append(f"the vocabulary: {pretrained.vocab_file} is another one")
    if different:
        raise UserError(
            "The weights to start from belong to another model than this run trains.",
            where=f"hparam init_checkpoint, {pretrained.path}",
            received="; ".join(different),
            remedy="Use the hparams, the vocabulary and data of the kind that the weights were "
            "trained with.",
        )


def _has_small_generator(config: Any) -> bool:
    detection = config.electra_objective or config.electric_objective
    return detection and config.untied_generator and not config.uniform_generator


def _text_settings(do_lower_case: bool, strip_accents: bool) -> dict[str, bool]:
    """What becomes of a text: accents are only removed where it is lower-cased."""
    return {"do_lower_case": do_lower_case, "strip_accents": strip_accents and do_lower_case}


def _network_differences(
    whose: str, stored: Mapping[str, Any], network: TransformerConfig
) -> list[str]:
    return [
        f"{whose}{name}: {stored[name]} there, {getattr(network, name)} here"
        for name in _UNSEEN
        if stored.get(name, getattr(network, name)) != getattr(network, name)
    ]


# Networks and objective of a pre-training configuration.


class Pretraining(NamedTuple):
    """What is trained.

    Attributes:
        objective: replaced-token detection, Electric or masked LM.
        pair: its networks.
    """

    objective: PretrainingObjective
    pair: Pair


def build_pretraining(
    config: Any, network: TransformerConfig, vocabulary: Vocabulary, *, precision: str = "float32"
) -> Pretraining:
    """Builds the networks, with random weights, and the objective over them.

    Args:
        config: a `PretrainingConfig`.
        network: the resolved sizes of the discriminator.
        vocabulary: gives the ids of the special tokens.
        precision: "float32", "bfloat16" or "float16", the compute type; variables are float32.

    Returns:
        Objective and networks.
    """
    detection = config.electra_objective or config.electric_objective
    pair = build_pair(
        network,
        with_discriminator=detection,
        uniform_generator=config.uniform_generator,
        two_tower_generator=config.two_tower_generator,
        untied_generator=config.untied_generator,
        untied_generator_embeddings=config.untied_generator_embeddings,
        generator_hidden_size=config.generator_hidden_size,
        generator_layers=config.generator_layers,
        recompute=config.recompute,
        dtype=DTYPE_POLICIES[precision],
    )
    return Pretraining(build_objective(config, pair, vocabulary), pair)


def build_objective(config: Any, pair: Pair, vocabulary: Vocabulary) -> PretrainingObjective:
    """Builds the objective over networks that are there, for batches as a configuration has them.

    Args:
        config: a `PretrainingConfig`, or that of a phase; `recompute` is set in the networks.
        pair: the networks.
        vocabulary: gives the ids of the special tokens.
    """
    for network in filter(None, (pair.generator, pair.discriminator)):
        for layer in network._flatten_layers():
            if isinstance(layer, Encoder):
                layer.recompute = config.recompute
    masking = Masking(
        mask_id=vocabulary.mask_id,
        never_masked=(vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id),
        mask_prob=config.mask_prob,
        max_predictions=config.max_predictions_per_seq,
        with_replacement=config.mask_with_replacement,
    )
    if pair.discriminator is None:
        return MaskedLM(pair.generator, masking, gen_weight=config.gen_weight)
    options = Options(
        gen_weight=config.gen_weight,
        disc_weight=config.disc_weight,
        temperature=config.temperature,
        disallow_correct=config.disallow_correct,
        all_candidates=config.two_tower_generator,
        electric=config.electric_objective,
    )
    return ReplacedTokenDetection(pair.generator, pair.discriminator, masking, options)
