"""What a model's folder gives its user: sizes, weights, tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.loading.folder import read_config
from electra_tf2.loading.pretrained import Pretrained, model_vocabulary, open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer, make_tokenizer
from electra_tf2.training.devices import DTYPE_POLICIES


class Source(NamedTuple):
    """An opened model.

    Attributes:
        pretrained: the weights and where they were read from.
        network: the sizes of the model's main network: the discriminator's, where there is one.
        tokenizer: text -> ids, as in training.
        vocab_file: path of its vocabulary.
    """

    pretrained: Pretrained
    network: TransformerConfig
    tokenizer: Tokenizer
    vocab_file: str

    def hparams(self) -> dict[str, Any]:
        """Returns the hparams of pre-training; {} where this program has not stored them."""
        try:
            stored = read_config(self.pretrained.folder)
        except UserError:  # another program's config.json
            return {}
        return dict(stored["hparams"]) if stored else {}


def open_source(
    path: str | os.PathLike[str],
    *,
    vocab_file: str | os.PathLike[str] | None = None,
    model_hparam_overrides: Mapping[str, Any] | None = None,
) -> Source:
    """Opens a model of any of the formats.

    Args:
        path: anything that `electra_tf2.loading.pretrained.open_pretrained` reads.
        vocab_file: the vocabulary; None: the one beside the model.
        model_hparam_overrides: fields of `TransformerConfig` that the model's folder does not
            state, such as `num_attention_heads` for an official checkpoint.

    Raises:
        UserError: there is no model, it can't be read, or vocabulary and network don't go together.
    """
    pretrained = open_pretrained(_path("path", path))
    network = _network(pretrained, model_hparam_overrides or {})
    given = _path("vocab_file", vocab_file) if vocab_file else None
    vocabulary, path = model_vocabulary(pretrained, network.vocab_size, given, "vocab_file")
    tokenizer = make_tokenizer(
        vocabulary,
        lower_case=pretrained.tokenizer.get("do_lower_case", True),
        strip_accents=pretrained.tokenizer.get("strip_accents", True),
    )
    return Source(pretrained, network, tokenizer, path)


def dtype_policy(precision: str) -> str:
    """Returns the Keras dtype policy of a `Precision`.

    Raises:
        UserError: there is no such precision.
    """
    if not isinstance(precision, str) or precision not in DTYPE_POLICIES:
        raise UserError(
            "There is no such precision.",
            where="precision",
            received=repr(precision),
            remedy=nearest_name_hint(str(precision), DTYPE_POLICIES),
        )
    return DTYPE_POLICIES[precision]


def _path(name: str, path: str | os.PathLike[str]) -> str:
    if not isinstance(path, str | os.PathLike):
        raise UserError(
            "What is to be opened is no path.",
            where=name,
            received=repr(path)[:80],
            remedy="Give the path as a string or a pathlib.Path.",
        )
    return os.fspath(path)


def _network(pretrained: Pretrained, overrides: Mapping[str, Any]) -> TransformerConfig:
    if not pretrained.network:
        raise UserError(
            "The checkpoint does not show a network's sizes.",
            where=pretrained.path,
            received=", ".join(sorted(pretrained.arrays)[:3]) + ", …",
            remedy="Give the checkpoint of an ELECTRA model, with its config.json where it had "
            "one.",
        )
    try:
        return TransformerConfig(**{**pretrained.network, **overrides})
    except (TypeError, ZeroDivisionError) as error:
        raise UserError(
            "The network's sizes can't be understood.",
            where=pretrained.path,
            received=str(error).partition(" ")[2],
            remedy="Give fields of TransformerConfig, such as num_attention_heads.",
        ) from error
