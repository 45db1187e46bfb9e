"""A generator that begins as an existing masked LM: the hparam `init_generator`.

Source: Fast-ELECTRA (Dong et al. 2023, arXiv:2310.07347), whose generator then is not trained.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.loading.networks import has_generator, is_two_tower
from electra_tf2.loading.positions import trained_positions
from electra_tf2.loading.pretrained import (
    Pretrained,
    check_finite,
    embeddings_scope,
    generator_network,
    generator_scope,
    has_checkpoint,
    no_model_advice,
    open_pretrained,
    structure_of,
)
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.config import (
    MODERN_FIELDS,
    TransformerConfig,
    default_attention_heads,
    default_intermediate_size,
)
from electra_tf2.pretraining.phases import phases_of
from electra_tf2.pretraining.run.restore import text_differences
from electra_tf2.text.normalization import Casing

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


_HEAD = "generator_predictions/"
_TOWER = "generator/"
_EMBEDDINGS = "embeddings/"
_OVERRIDDEN = ("max_position_embeddings", "type_vocab_size", "hidden_act", *MODERN_FIELDS)


class MaskedLMWeights(NamedTuple):
    """A masked language model, under the names of a generator.

    Attributes:
        network: its sizes.
        arrays: its weights by the names of a generator with embeddings of its own, below
            "generator/" and "generator_predictions/".
    """

    network: TransformerConfig
    arrays: dict[str, np.ndarray]


def load_generator(
    config: PretrainingConfig, casing: Casing, names: Collection[str]
) -> dict[str, np.ndarray]:
    """Reads the generator's weights from the model that the hparam `init_generator` names.

    Args:
        config: gives the path, the generator's sizes and the vocabulary.
        casing: of the run's data.
        names: of the run's variables. Where the two networks share their embeddings, those are the
            generator's too.

    Returns:
        Name -> array of the run's variables that the model gives; {} without the hparam.

    Raises:
        UserError: there is no model, it can't be read, holds no masked LM, or its sizes, casing or
            vocabulary are not the run's.
    """
    path = config.init_generator
    if not path:
        return {}
    if not has_checkpoint(path):
        raise UserError(
            "There is no masked LM to take the generator from.",
            where="hparam init_generator",
            received=path,
            remedy=no_model_advice(path),
        )
    pretrained = open_pretrained(path)
    found = masked_lm_of(pretrained)
    if different := text_differences(pretrained, config, casing):
        raise UserError(
            "The masked LM reads other text than this run trains on.",
            where=f"hparam init_generator, {pretrained.path}",
            received="; ".join(different),
            remedy="Choose a masked LM with this vocabulary and casing, or build the data with "
            "those of the masked LM and set vocab_file to its vocabulary.",
        )
    _check_sizes(pretrained, found.network, config)
    own = shared = _TOWER + _EMBEDDINGS
    if not any(name.startswith(own) for name in names):
        shared = "electra/" + _EMBEDDINGS
    arrays = {name.replace(own, shared, 1): array for name, array in found.arrays.items()}
    missing = [n for n in names if n.startswith((_TOWER, _HEAD, shared)) and n not in arrays]
    if missing:
        raise UserError(
            "The masked LM lacks parts of the generator.",
            where=f"hparam init_generator, {pretrained.path}",
            received=f"no {first_of(missing, separator=', ')}",
            remedy="Check that all of the model's files are there.",
        )
    say(f"The generator begins as the masked LM in {pretrained.path}")
    if warning := _positions_warning(pretrained, found, config):
        say(f"Warning: {warning}")
    return arrays


def masked_lm_of(pretrained: Pretrained) -> MaskedLMWeights:
    """Takes a checkpoint's generator, or the network itself where it is a masked LM.

    Raises:
        UserError: it holds no masked LM of one tower, parts of it are missing, or weights are not
            finite.
    """
    main = pretrained.encoder_config()
    if main is None or not has_generator(pretrained) or is_two_tower(pretrained):
        scopes = sorted({name.partition("/")[0] for name in pretrained.arrays})
        raise UserError(
            "The model holds no masked LM that can be a generator.",
            where=pretrained.path,
            received="weights of " + first_of(scopes, separator=", "),
            remedy="Give one that was trained as a masked LM (electra_objective false), or with a "
            "generator of one tower.",
        )
    scope = generator_scope(pretrained) + "/"
    network = generator_network(pretrained, main)
    owner = embeddings_scope(pretrained, generator_scope(pretrained)) + "/"
    sources = {}
    for name in pretrained.arrays:
        if name.startswith(_HEAD):
            sources[name] = name
        elif name.startswith(owner + _EMBEDDINGS):
            sources[_TOWER + name.removeprefix(owner)] = name
        elif name.startswith(scope) and not name.startswith(scope + _EMBEDDINGS):
            sources[_TOWER + name.removeprefix(scope)] = name
    check_finite(pretrained, sources.values())
    arrays = {ours: pretrained.arrays[theirs] for ours, theirs in sources.items()}
    return MaskedLMWeights(network, arrays)


def _positions_warning(
    pretrained: Pretrained, found: MaskedLMWeights, config: PretrainingConfig
) -> str | None:
    """Warns of positions that are random, and stay or aren't copied: its examples were shorter."""
    phases = [phase.config for phase in phases_of(config)]
    stays = not config.train_generator
    copies = config.has_generator_embeddings and any(phase.copy_positions for phase in phases)
    if not stays and not copies:
        return None
    table = found.arrays.get(f"{_TOWER}{_EMBEDDINGS}position_embeddings")
    if table is None or pretrained.format != "electra_tf2":  # nothing says it of other models
        return None
    path = str(config.init_generator)
    trained, _, is_known = trained_positions(open_source(path, vocab_file=config.vocab_file))
    longest = max(phase.max_seq_length for phase in phases)
    if not is_known or longest <= trained or np.array_equal(table[trained], table[0]):  # a copy
        return None
    grow = f"python grow_model.py --model-dir {path} --max-positions {len(table)} --output …"
    return (
        f"the masked LM was trained on examples of {trained} tokens, and this run has {longest}: "
        f"the generator's other positions are random{' and stay so' * stays}"
        f"{', and copy_positions leaves them as they are' * copies}. Copy the trained ones over "
        f"them ({grow}) and set init_generator to the result."
    )


def _check_sizes(
    pretrained: Pretrained, there: TransformerConfig, config: PretrainingConfig
) -> None:
    """Refuses a masked LM of other sizes; names the hparams that would give the generator these."""
    here = config.generator_network()
    names = list(structure_of(there))
    if pretrained.network is not None:  # where nothing is stored, the activation is unknown
        names.append("hidden_act")
    different = [name for name in names if getattr(there, name) != getattr(here, name)]
    if not different:
        return
    hidden = there.hidden_size
    usual = {
        "intermediate_size": default_intermediate_size(hidden, there.encoder),
        "num_attention_heads": default_attention_heads(hidden),
    }
    unusual = [f"{name} {size}" for name, size in usual.items() if getattr(there, name) != size]
    if unusual:
        remedy = (
            "Choose another masked LM: a generator of this width has "
            + " and ".join(unusual)
            + ", whatever the hparams."
        )
    else:
        remedy = f"Set {', '.join(_settings(there, config, different))}."
    raise UserError(
        "The masked LM has other sizes than the generator of this run.",
        where=f"hparam init_generator, {pretrained.path}",
        received="; ".join(
            f"{name}: {getattr(there, name)} there, {getattr(here, name)} here"
            for name in different
        ),
        remedy=remedy,
    )


def _settings(
    there: TransformerConfig, config: PretrainingConfig, different: Collection[str]
) -> list[str]:
    """The hparams, with their values, that give a generator the sizes of a masked LM."""
    network, hidden, width = config.network(), there.hidden_size, there.embedding_size
    found = []
    if "hidden_size" in different:
        found.append(f"generator_hidden_size to {_share(hidden, network.hidden_size)}")
    if "num_hidden_layers" in different:
        share = _share(there.num_hidden_layers, network.num_hidden_layers)
        found.append(f"generator_layers to {share}")
    if config.untied_generator_embeddings:
        if width != (config.generator_embedding_size or hidden):
            found.append(f"generator_embedding_size to {width}")
    elif width != network.embedding_size or "encoder" in different:  # which decides its default
        found.append(f"embedding_size to {width}")
    for name in ("encoder", "vocab_size", *_OVERRIDDEN):
        if name in different:
            prefix = "model_hparam_overrides." * (name in _OVERRIDDEN)
            found.append(f"{prefix}{name} to {getattr(there, name)}")
    return found


def _share(size: int, of: int) -> str:
    """The shortest decimal fraction that makes one size of another."""
    texts = (f"{size / of:.{digits}g}" for digits in range(1, 17))
    return next(text for text in texts if int(round(of * float(text))) == size)
