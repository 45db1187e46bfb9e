"""Networks and objective of a pre-training configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from electra_tf2.errors import UserError
from electra_tf2.hparams.ramps import last
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import Pair, build_pair
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.objective import MaskedLM, PretrainingObjective
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.training.devices import DTYPE_POLICIES, Precision

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


class Pretraining(NamedTuple):
    """What is trained.

    Attributes:
        objective: replaced-token detection, Electric or masked LM.
        pair: its networks.
    """

    objective: PretrainingObjective
    pair: Pair


def build_pretraining(
    config: PretrainingConfig,
    network: TransformerConfig,
    vocabulary: Vocabulary,
    *,
    precision: Precision = "float32",
) -> Pretraining:
    """Builds the networks, with random weights, and the objective over them.

    Args:
        config: gives the objective and the generator's shape.
        network: the resolved sizes of the discriminator.
        vocabulary: gives the ids of the special tokens, and of pieces that continue a word.
        precision: "float32", "bfloat16" or "float16", the compute type; variables are float32.

    Returns:
        Objective and networks.

    Raises:
        UserError: whole words are to be masked, and no piece of the vocabulary continues one.
    """
    detection = config.electra_objective or config.electric_objective
    pair = build_pair(
        network,
        with_discriminator=detection,
        uniform_generator=config.uniform_generator,
        two_tower_generator=config.two_tower_generator,
        untied_generator=config.untied_generator,
        untied_generator_embeddings=config.untied_generator_embeddings,
        generator_embedding_size=config.generator_embedding_size,
        disentangled_embeddings=config.embedding_sharing == "gdes",
        generator_hidden_size=config.generator_hidden_size,
        generator_layers=config.generator_layers,
        recompute=config.recompute,
        dtype=DTYPE_POLICIES[precision],
    )
    return Pretraining(build_objective(config, pair, vocabulary), pair)


def build_objective(
    config: PretrainingConfig, pair: Pair, vocabulary: Vocabulary
) -> PretrainingObjective:
    """Builds the objective over networks that are there, for batches as a configuration has them.

    Args:
        config: the run's hparams, or a phase's; `recompute` is set in the networks. Of a ramp the
            last value counts, by which evaluations are made; the engine gives each step its own.
        pair: the networks.
        vocabulary: gives the ids of the special tokens, and of pieces that continue a word.

    Raises:
        UserError: whole words are to be masked, and no piece of the vocabulary continues one.
    """
    pair.set_recompute(config.recompute)
    masking = Masking(
        mask_id=vocabulary.mask_id,
        never_masked=(vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id),
        mask_prob=last(config.mask_prob),
        max_predictions=config.max_predictions_per_seq,
        with_replacement=config.mask_with_replacement,
        unit=config.masking,
        continuations=() if config.masking == "token" else _continuations(config, vocabulary),
    )
    if pair.discriminator is None:
        return MaskedLM(pair.generator, masking, gen_weight=last(config.gen_weight))
    options = Options(
        gen_weight=last(config.gen_weight),
        disc_weight=last(config.disc_weight),
        temperature=last(config.temperature),
        disallow_correct=config.disallow_correct,
        all_candidates=config.two_tower_generator,
        electric=config.electric_objective,
        train_generator=config.train_generator,
    )
    return ReplacedTokenDetection(pair.generator, pair.discriminator, masking, options)


def _continuations(config: PretrainingConfig, vocabulary: Vocabulary) -> tuple[int, ...]:
    if config.masking == "whole_word" and not vocabulary.continuation_ids:
        raise UserError(
            "No piece of the vocabulary continues a word, so each token is a word.",
            where="hparam masking",
            received=f"whole_word; none of the {len(vocabulary)} pieces begins with ##",
            remedy="Set masking to token, which hides the same, or to span.",
        )
    return vocabulary.continuation_ids
