"""Whether weights from elsewhere mean in a run what they meant where they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.text.vocabulary import load_vocabulary

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
