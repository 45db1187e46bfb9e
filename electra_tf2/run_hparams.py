"""Checks of the hparams that pre-training and fine-tuning have in common."""

from __future__ import annotations

from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.hparams import contradiction


def check_model_name(model_name: str, elsewhere: str) -> None:
    """Refuses a model's name that is no folder name.

    Args:
        model_name: the flag `--model-name`.
        elsewhere: the hparam that names a model in another place.

    Raises:
        UserError: the name is empty, has a slash, or is "." or "..".
    """
    if model_name in ("", ".", "..") or "/" in model_name:
        raise UserError(
            "The model's name is no folder name.",
            where="--model-name",
            received=repr(model_name),
            remedy=f"Give a plain name; set the hparam {elsewhere} for a folder elsewhere.",
        )


def check_devices_and_batches(config: Any) -> None:
    """Refuses two kinds of devices, and a training batch that can't be cut into micro-batches.

    Args:
        config: has `use_tpu`, `distribution`, `train_batch_size` and
            `gradient_accumulation_steps`.

    Raises:
        UserError: one of the two.
    """
    if config.use_tpu and config.distribution not in ("auto", "tpu"):
        raise contradiction(
            "The devices are given twice, and differently.",
            {"use_tpu": True, "distribution": config.distribution},
            "Leave use_tpu out, or set distribution to tpu.",
        )
    names = ("train_batch_size", "gradient_accumulation_steps")
    batch_size, parts = (getattr(config, name) for name in names)
    if batch_size % parts:
        raise contradiction(
            "The training batch can't be split evenly into micro-batches.",
            dict(zip(names, (batch_size, parts), strict=True)),
            "Choose a train_batch_size that is a multiple of gradient_accumulation_steps.",
        )


def check_one_vocab_size(config: Any) -> None:
    """Refuses two sizes of the vocabulary.

    Args:
        config: has `vocab_size` and `model_hparam_overrides`.

    Raises:
        UserError: both give one, and they differ.
    """
    overrides = config.model_hparam_overrides
    if config.vocab_size != overrides.get("vocab_size", config.vocab_size):
        raise contradiction(
            "The vocabulary's size is given twice, and differently.",
            {"vocab_size": config.vocab_size, "model_hparam_overrides": overrides},
            "Give it once, as the hparam vocab_size.",
        )
