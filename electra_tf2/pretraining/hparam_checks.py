"""Which hparams of pre-training go together. Each check raises a UserError that names them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from electra_tf2.data.segments import MIN_SEQ_LENGTH
from electra_tf2.files import is_local
from electra_tf2.hparams.ramps import last
from electra_tf2.hparams.recipes import PRESETS
from electra_tf2.hparams.record import contradiction
from electra_tf2.hparams.shared_checks import (
    LARGEST_SIZES,
    check_end_learning_rate,
    check_fields_of_encoder,
    check_one_vocab_size,
)
from electra_tf2.modeling.config import TransformerConfig, default_attention_heads
from electra_tf2.pretraining.phases import begins_with_positions, continued_corpora, phases_of

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Hparams that only one schedule reads.
_OF_A_SCHEDULE = {
    "lr_decay_power": "polynomial",
    "lr_decay_steps": "wsd",
    "lr_decay_shape": "wsd",
}


def check_across_phases(config: PretrainingConfig) -> None:
    """Refuses what Electric or a mixture can't change, and copies of random positions."""
    phases = [phase.config for phase in phases_of(config)]
    if config.do_train:
        _check_continued_corpora(phases)
    shares = {str(phase.mask_prob): phase.mask_prob for phase in (config, *phases)}
    if config.electric_objective and len(shares) > 1:
        raise contradiction(
            "Electric scores text by the one share of tokens that it was trained on.",
            {"electric_objective": True, "mask_prob of the phases": list(shares.values())},
            "Set mask_prob beside phases, and not in them.",
        )
    first = phases[0]
    if first.copy_positions is not None and not begins_with_positions(first):
        raise contradiction(
            "The positions to copy are not trained: the weights are random.",
            _values(first, "copy_positions", "init_checkpoint"),
            "Set copy_positions in a later phase, or set init_checkpoint (or init_generator, where "
            "the networks share their embeddings).",
        )


def _check_continued_corpora(phases: Sequence[PretrainingConfig]) -> None:
    """Refuses to go on in a corpus whose order changes: some examples would come again at once."""
    name = "shuffle_buffer_size"
    for number, later in enumerate(phases, 1):
        for earlier in phases[: number - 1]:
            continued = continued_corpora(earlier, later)
            sizes = [getattr(phase, name) for phase in (earlier, later)]
            if continued and len(set(sizes)) > 1:
                raise contradiction(
                    f"Phase {number} can't go on in {min(continued)} where a phase before left it: "
                    "the order of the examples depends on shuffle_buffer_size.",
                    {"shuffle_buffer_size of the phases": sizes},
                    "Set shuffle_buffer_size beside phases, and not in them.",
                )


def check_branch(config: PretrainingConfig, path: str) -> None:
    """Refuses a branch from nothing, from two starts, or from the model itself."""
    others = [name for name in ("init_checkpoint", "init_generator") if getattr(config, name)]
    if others:
        raise contradiction(
            "A run starts from one checkpoint.",
            _values(config, "branch_from", *others),
            f"Leave {' and '.join(others)} out to go on from a step of another run, or branch_from "
            "to begin at step 0 with its weights.",
        )
    own, other = map(_absolute, (config.model_dir, path))
    if other.startswith(f"{own}/"):
        raise contradiction(
            "A branch needs a model folder of its own.",
            _values(config, "branch_from", "model_dir"),
            "Choose another --model-name (or model_dir) for the branch.",
        )


def check_schedule(config: PretrainingConfig) -> None:
    """Refuses hparams of another schedule, a rate that rises, and a decay in the warm-up."""
    check_end_learning_rate(config)
    published = PRESETS[config.preset].values if config.preset else {}
    for name, schedule in _OF_A_SCHEDULE.items():
        usual = {getattr(type(config), name)}
        usual |= {published[name].value} if name in published else set()
        is_own = name in config.given and getattr(config, name) not in usual
        if is_own and config.lr_schedule != schedule:
            raise contradiction(
                f"The hparam {name} belongs to the schedule {schedule}.",
                _values(config, name, "lr_schedule"),
                f"Leave {name} out, or set lr_schedule to {schedule}.",
            )
    # The steps of debug mode are fewer than most warm-ups.
    if config.lr_schedule != "wsd" or not config.do_train or config.debug:
        return
    decay = config.decay_length
    if decay and config.num_warmup_steps + decay > config.num_train_steps:
        raise contradiction(
            "The learning rate would decay before its warm-up ends.",
            {**_values(config, "num_train_steps", "num_warmup_steps"), "lr_decay_steps": decay},
            "Lower num_warmup_steps or lr_decay_steps, or raise num_train_steps: the two "
            "together may have at most num_train_steps.",
        )


def check_objective(config: PretrainingConfig) -> None:
    """Refuses objectives and generators that don't go together."""
    detection = config.electra_objective or config.electric_objective
    if not last(config.gen_weight) and not (detection and last(config.disc_weight)):
        raise contradiction(
            "No loss has a weight: nothing would be learned.",
            _values(config, "gen_weight", "disc_weight"),
            "Give at least one of them a weight over 0.",
        )
    if config.electric_objective and isinstance(config.mask_prob, list):
        raise contradiction(
            "Electric scores text by the one share of tokens that it was trained on.",
            _values(config, "electric_objective", "mask_prob"),
            "Give mask_prob as a number.",
        )
    if config.electric_objective and not config.two_tower_generator:
        raise contradiction(
            "Electric needs the two-tower generator.",
            _values(config, "electric_objective", "two_tower_generator"),
            "Leave two_tower_generator out.",
        )
    if config.uniform_generator and not detection:
        raise contradiction(
            "A masked LM is the generator itself: with a uniform one nothing is trained.",
            _values(config, "uniform_generator", "electra_objective"),
            "Set electra_objective to true or uniform_generator to false.",
        )
    needed = {"uniform_generator": False, "untied_generator": True}
    wrong = {n: getattr(config, n) for n, v in needed.items() if getattr(config, n) != v}
    if config.two_tower_generator and wrong:
        raise contradiction(
            "The two-tower generator is a network of its own.",
            {**_values(config, "two_tower_generator", "electric_objective"), **wrong},
            "Leave uniform_generator and untied_generator at their defaults.",
        )
    if config.two_tower_generator and not detection:
        raise contradiction(
            "A masked LM has no generator beside it, so no two-tower one.",
            _values(config, "two_tower_generator", "electra_objective", "electric_objective"),
            "Set electra_objective or electric_objective to true.",
        )


def check_masking(config: PretrainingConfig) -> None:
    """Refuses words and spans where the objective needs single tokens."""
    if config.masking == "token":
        return
    if config.mask_with_replacement:
        raise contradiction(
            "Words can't be drawn twice; mask_with_replacement draws single tokens.",
            _values(config, "masking", "mask_with_replacement"),
            "Leave mask_with_replacement out, or set masking to token.",
        )
    if config.electric_objective:
        raise contradiction(
            "Electric's scores rest on tokens that are hidden independently of each other.",
            _values(config, "masking", "electric_objective"),
            "Set masking to token or electric_objective to false.",
        )


# A draw has 32 bits: below a few times 2^-32, shares are no longer what the weights say.
_SMALLEST_SHARE = 1e-9


def check_mixture(config: PretrainingConfig) -> None:
    """Refuses mixtures without corpora, with shares too small to be drawn, or to evaluate on."""
    weights = config.pretrain_tfrecords
    if isinstance(weights, str):
        return
    if not weights:
        raise contradiction(
            "The mixture has no corpus.",
            _values(config, "pretrain_tfrecords"),
            'Give globs and weights, {"data/wiki/*.tfrecord*": 0.7, "data/code/*.tfrecord*": 0.3}, '
            "or a string of globs.",
        )
    smallest = min(weights, key=weights.__getitem__)
    if weights[smallest] / sum(weights.values()) < _SMALLEST_SHARE:
        raise contradiction(
            f"The weight of {smallest} is too small beside the others: it would hardly be drawn.",
            _values(config, "pretrain_tfrecords"),
            "Leave it out, or give it a larger weight.",
        )
    if (config.do_eval or config.eval_every_steps) and not config.eval_tfrecords:
        raise contradiction(
            "A mixture can't be evaluated on: it has no end.",
            _values(config, "pretrain_tfrecords", "eval_tfrecords", "do_eval", "eval_every_steps"),
            "Set eval_tfrecords to held-out records, globs joined by commas.",
        )


def check_embedding_sharing(config: PretrainingConfig) -> None:
    """Refuses to disentangle embeddings that no two networks would share."""
    if config.embedding_sharing == "shared":
        return
    # LAMB's step is as small as the norm, which is 0 at first.
    needed = {"untied_generator_embeddings": False, "optimizer": "adamw"}
    if wrong := _unlike_a_pair(config, needed):
        raise contradiction(
            "gdes needs a discriminator, a generator of one tower that would share its "
            "embeddings, and adamw: lamb hardly moves a table that begins at 0.",
            {**_values(config, "embedding_sharing"), **wrong},
            "Leave embedding_sharing out, or these at their defaults.",
        )


def _unlike_a_pair(config: PretrainingConfig, needed: Mapping[str, Any]) -> dict[str, Any]:
    """The hparams that keep a run from a discriminator and a one-tower generator, `needed` too."""
    needed = {
        "untied_generator": True,
        "uniform_generator": False,
        "two_tower_generator": False,
        **needed,
    }
    wrong = {n: getattr(config, n) for n, v in needed.items() if getattr(config, n) != v}
    if config.electric_objective:
        wrong["electric_objective"] = True
    elif not config.electra_objective:
        wrong["electra_objective"] = False
    return wrong


def check_generator_start(config: PretrainingConfig) -> None:
    """Refuses weights for a generator that there is not, and one that can't stay as it is."""
    if config.generator_embedding_size is not None and not config.untied_generator_embeddings:
        raise contradiction(
            "Only embeddings of the generator's own have a width of their own.",
            _values(
                config,
                "generator_embedding_size",
                "untied_generator_embeddings",
                "embedding_sharing",
            ),
            "Leave generator_embedding_size out"
            + (
                ", or set untied_generator_embeddings to true."
                if config.embedding_sharing == "shared"
                else ": with gdes they are as wide as the discriminator's."
            ),
        )
    if not config.init_generator and config.train_generator:
        return
    if wrong := _unlike_a_pair(config, {}):
        raise contradiction(
            "init_generator and train_generator are about a generator of one tower beside a "
            "discriminator.",
            {**_values(config, "init_generator", "train_generator"), **wrong},
            "Leave init_generator and train_generator out, or the others at their defaults. (A "
            "masked LM alone starts from init_checkpoint.)",
        )
    own = config.has_generator_embeddings
    if config.init_generator and config.init_checkpoint and not own:
        raise contradiction(
            "Both models would give the embeddings that the two networks share.",
            _values(config, "init_checkpoint", "init_generator", "untied_generator_embeddings"),
            "Leave one of the two models out, or set untied_generator_embeddings to true.",
        )
    if not config.train_generator:
        _check_constant_generator(config, own)


def _check_constant_generator(config: PretrainingConfig, has_embeddings: bool) -> None:
    if not has_embeddings:
        raise contradiction(
            "A generator that stays as it is can't share embeddings with a discriminator that "
            "trains them.",
            _values(config, "train_generator", "untied_generator_embeddings"),
            "Leave untied_generator_embeddings out, or set train_generator to true.",
        )
    starts = ("init_generator", "init_checkpoint", "branch_from")
    if config.do_train and not any(getattr(config, name) for name in starts):
        raise contradiction(
            "A generator that is not trained needs weights that are.",
            _values(config, "train_generator", "init_generator"),
            "Set init_generator to the folder of a masked LM, or train_generator to true.",
        )
    if config.gen_weight != type(config).gen_weight:
        raise contradiction(
            "The loss of a generator that is not trained has no weight.",
            _values(config, "train_generator", "gen_weight"),
            "Leave gen_weight out, or set train_generator to true.",
        )
    if not last(config.disc_weight):
        raise contradiction(
            "No loss has a weight: nothing would be learned.",
            _values(config, "train_generator", "disc_weight"),
            "Give disc_weight a weight over 0, or set train_generator to true.",
        )


def check_sizes(config: PretrainingConfig) -> None:
    """Refuses lengths and shares that the networks can't have."""
    check_one_vocab_size(config)
    network = config.network()
    _check_encoder(config)
    if config.max_seq_length > network.max_position_embeddings:
        raise contradiction(
            "The sequences are longer than the position embeddings reach.",
            {
                **_values(config, "max_seq_length"),
                "max_position_embeddings": network.max_position_embeddings,
            },
            "Lower max_seq_length or set model_hparam_overrides.max_position_embeddings.",
        )
    if (config.copy_positions or 0) >= network.max_position_embeddings:
        raise contradiction(
            "There are no positions beyond those to copy.",
            {
                **_values(config, "copy_positions"),
                "max_position_embeddings": network.max_position_embeddings,
            },
            "Set copy_positions to the length of the examples that were trained on so far, or "
            "leave it out if they were as long as the table.",
        )
    if config.segmentation == "dynamic" and config.max_seq_length < MIN_SEQ_LENGTH:
        raise contradiction(
            "Documents can't be cut into examples this short.",
            _values(config, "max_seq_length", "segmentation"),
            f"Set max_seq_length to {MIN_SEQ_LENGTH} or more.",
        )
    if not 1 <= config.max_predictions_per_seq <= config.max_seq_length:
        raise contradiction(
            "An example can't hold int((mask_prob + 0.005) * max_seq_length) masked tokens.",
            _values(config, "mask_prob", "max_seq_length", "max_predictions_per_seq"),
            "Choose values that give at least 1 and at most max_seq_length.",
        )
    if config.untied_generator and not config.uniform_generator:
        _check_generator(config, network)


def _check_encoder(config: PretrainingConfig) -> None:
    """Refuses what one kind of encoder has and another lacks."""
    check_fields_of_encoder(config.model_hparam_overrides, config.encoder)
    if config.encoder == "modern" and config.copy_positions is not None:
        raise contradiction(
            "The encoder modern has no table of positions to copy: its positions are rotary.",
            _values(config, "encoder", "copy_positions"),
            "Leave copy_positions out: longer examples need no new weights.",
        )


# Of each of two towers, as `LARGEST_SIZES` has it for other networks.
_MOST_TOWER_LAYERS = 170


def _check_generator(config: PretrainingConfig, network: TransformerConfig) -> None:
    hidden_size = int(round(network.hidden_size * config.generator_hidden_size))
    layers = int(round(network.num_hidden_layers * config.generator_layers))
    heads = default_attention_heads(hidden_size)
    for name, size in (
        ("hidden_size", hidden_size),
        ("num_hidden_layers", layers),
        ("embedding_size", config.generator_embedding_size or 1),
    ):
        share = f"generator_{name.removeprefix('num_hidden_')}"
        is_tower = config.two_tower_generator and name == "num_hidden_layers"
        most = _MOST_TOWER_LAYERS if is_tower else LARGEST_SIZES[name]
        if size > most:
            raise contradiction(
                "The generator is too large.",
                {share: getattr(config, share), name: size},
                f"Choose one that gives at most {most}.",
            )
    is_odd = network.is_modern and hidden_size // heads % 2 == 1
    if layers < 1 or hidden_size < 1 or hidden_size % heads or is_odd:
        raise contradiction(
            "The generator's shape is impossible.",
            {
                **_values(config, "generator_hidden_size", "generator_layers"),
                "hidden size": hidden_size,
                "layers": layers,
                "attention heads": heads,
            },
            "Choose shares that give at least one layer and a hidden size that its heads, "
            "max(1, hidden size // 64), divide"
            + (" into even parts." if network.is_modern else "."),
        )


def _absolute(path: str) -> str:
    """A local path from the root, so that two can be compared; others as they are."""
    return os.path.abspath(path) if is_local(path) else posixpath.normpath(path)


def _values(config: PretrainingConfig, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}
