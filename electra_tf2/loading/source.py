"""What a model's folder gives its user: sizes, weights, tokenizer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.hparams.shared_checks import HEADS
from electra_tf2.loading.pretrained import (
    Pretrained,
    model_casing,
    model_vocabulary,
    open_pretrained,
    structure_of,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.stored_json import Record, parse_record
from electra_tf2.text.casing_files import Option, as_argument
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import Tokenizer, make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.training.devices import DTYPE_POLICIES, Precision

_OVERRIDES, _HEADS_FLAG = "model_hparam_overrides", "--num-attention-heads"


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

    @property
    def vocabulary(self) -> Vocabulary:
        """The pieces."""
        return self.tokenizer.vocabulary

    @property
    def casing(self) -> Casing:
        """What becomes of capitals and accents."""
        return self.tokenizer.casing

    def trained_with(self, record: type[Record]) -> Record:
        """Returns hparams of training as a record, see `electra_tf2.stored_json`.

        Args:
            record: its fields are hparams, with defaults for a model that does not state them.

        Raises:
            UserError: one has another type; names the file and the hparam.
        """
        path, what = self.pretrained.config_path, "The model's stored configuration"
        return parse_record(record, self.hparams(), path, what, "Restore the file.")

    def hparams(self) -> dict[str, Any]:
        """Returns the hparams of training; {} where this program has not stored them."""
        stored = self.pretrained.stored
        return dict(stored.hparams) if stored else {}


def open_source(
    path: str | os.PathLike[str],
    *,
    vocab_file: str | os.PathLike[str] | None = None,
    vocab_option: str = "vocab_file",
    do_lower_case: bool | None = None,
    strip_accents: bool | None = None,
    casing_option: Option = as_argument,
    model_hparam_overrides: Mapping[str, Any] | None = None,
    sizes_option: str = _OVERRIDES,
) -> Source:
    """Opens a model of any of the formats.

    Args:
        path: anything that `electra_tf2.loading.pretrained.open_pretrained` reads.
        vocab_file: the vocabulary; None: the one beside the model.
        vocab_option: what `vocab_file` is given as, for messages.
        do_lower_case: whether text is lower-cased, for a model that nothing beside it says it of;
            None: as a file of the vocabulary says, or else it is.
        strip_accents: likewise for accents.
        casing_option: how the two are given, for messages.
        model_hparam_overrides: fields of `TransformerConfig` that the model's folder does not
            state, such as `num_attention_heads` for an official checkpoint.
        sizes_option: what the number of heads is given as, for messages.

    Raises:
        UserError: there is no model, it can't be read, vocabulary and network don't go together,
            or casing or sizes are not the model's own.
    """
    pretrained = open_pretrained(path)
    network = _network(pretrained, model_hparam_overrides or {}, sizes_option)
    given = os.fspath(vocab_file) if vocab_file else None
    vocabulary, vocab_path = model_vocabulary(pretrained, network.vocab_size, given, vocab_option)
    flags = {"do_lower_case": do_lower_case, "strip_accents": strip_accents}
    stated = {name: value for name, value in flags.items() if value is not None}
    casing = model_casing(pretrained, stated, vocab_path, vocabulary, casing_option)
    tokenizer = make_tokenizer(vocabulary, casing)
    return Source(pretrained, network, tokenizer, vocab_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What a program's flags say of a model, see `electra_tf2.cli.add_text_flags`.

    Attributes:
        vocab_file: the vocabulary, for a model that has none beside it.
        do_lower_case: casing, for a model that does not say.
        strip_accents: likewise for accents; None: as `do_lower_case`.
        num_attention_heads: of an official checkpoint; None: one for 64 units of the hidden size.
    """

    vocab_file: str | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    num_attention_heads: int | None = None


def open_by_flags(path: str, options: TextOptions | None = None) -> Source:
    """Opens a model as `open_source` does; messages name the flags.

    Args:
        path: anything that `open_pretrained` reads.
        options: what the flags say; None: nothing.

    Raises:
        UserError: as `open_source`.
    """
    options = options or TextOptions()
    heads = options.num_attention_heads
    if heads is not None and heads < 1:
        raise UserError(
            "A network has one attention head or more.",
            where=_HEADS_FLAG,
            received=heads,
            remedy="Leave it out for one head for 64 units of the hidden size.",
        )
    return open_source(
        path,
        vocab_file=options.vocab_file,
        vocab_option="--vocab-file",
        do_lower_case=options.do_lower_case,
        strip_accents=options.strip_accents,
        casing_option=lambda name, value: f"--{name.replace('_', '-')} {str(value).lower()}",
        model_hparam_overrides=None if heads is None else {HEADS: heads},
        sizes_option=_HEADS_FLAG,
    )


def dtype_policy(precision: Precision) -> str:
    """Returns the Keras dtype policy of a `Precision`.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in tuple(DTYPE_POLICIES):
        known = ", ".join(DTYPE_POLICIES)
        raise ValueError(f"precision must be one of {known}. Received: {precision!r}")
    return DTYPE_POLICIES[precision]


def _network(
    pretrained: Pretrained, overrides: Mapping[str, Any], option: str
) -> TransformerConfig:
    """Returns the sizes that are stored or that the arrays show, with overrides."""
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"model_hparam_overrides must give fields their values. Received: {overrides!r:.100}"
        )
    heads = overrides.get(HEADS)
    if heads is not None and (type(heads) is not int or heads < 1):
        raise ValueError(f"{HEADS} must be a whole number above 0. Received: {heads!r:.100}")
    try:
        network = pretrained.encoder_config(heads)
        if network is not None:
            asked = dataclasses.replace(network, **overrides)
            _check_sizes(pretrained, network, asked, option)
            if pretrained.network is None and HEADS not in overrides:
                say(
                    "Nothing beside the checkpoint says how many attention heads it has: "
                    f"{network.num_attention_heads} by the official rule ({option} may say "
                    "otherwise)."
                )
            return asked
    except UserError as error:
        if HEADS in str(error.received):
            raise error.with_(where=option) from error
        raise
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"model_hparam_overrides: {error}") from error
    raise UserError(
        "The checkpoint does not show a network's sizes.",
        where=pretrained.path,
        received=", ".join(sorted(pretrained.arrays)[:3]) + ", …",
        remedy="Give the checkpoint of an ELECTRA model, with its config.json where it had one.",
    )


def _check_sizes(
    pretrained: Pretrained, own: TransformerConfig, asked: TransformerConfig, option: str
) -> None:
    """Refuses other sizes than the model's: some would be taken, and outputs would be others."""
    names = (*structure_of(own), *(["hidden_act"] if pretrained.network else []))
    different = [
        f"{name} {getattr(asked, name)}; the model has {getattr(own, name)}"
        for name in names
        if getattr(asked, name) != getattr(own, name)
    ]
    if different:
        raise UserError(
            f"The model is of another size than {option} says.",
            where=option,
            received=", ".join(different),
            remedy="Leave it out: the model's own is used.",
        )
