"""Checks of what is asked of a dataset builder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from electra_tf2.data.segments import MIN_SEQ_LENGTH
from electra_tf2.errors import UserError

if TYPE_CHECKING:
    from electra_tf2.data.build import BuildConfig


def check_flags(config: BuildConfig) -> None:
    """Checks the settings of a build, before any file is looked at.

    Raises:
        UserError: A number is too small, or two settings don't go together.
    """
    smallest = {"max_seq_length": MIN_SEQ_LENGTH, "num_processes": 1, "num_out_files": 1}
    for name, least in smallest.items():
        if getattr(config, name) < least:
            raise UserError(
                f"{name} is too small.",
                where=f"--{name.replace('_', '-')}",
                received=getattr(config, name),
                remedy=f"Give a number of at least {least}.",
            )
    if config.sampling not in ("chunked", "official"):
        raise UserError(
            "There is no such way of sampling.",
            where="--sampling",
            received=config.sampling,
            remedy='Give "chunked" or "official".',
        )
    _check_segmentation(config)
    if config.sampling == "official" and config.num_processes > 1:
        raise _needs_one_process(
            "--num-processes", config.num_processes, "Leave --num-processes at 1"
        )
    if config.sampling == "official" and config.runner is not None:
        raise _needs_one_process("--runner", config.runner, "Leave --runner out")
    _check_beam_flags(config)


def _check_segmentation(config: BuildConfig) -> None:
    if config.segmentation not in ("static", "dynamic"):
        raise UserError(
            "There is no such segmentation.",
            where="--segmentation",
            received=config.segmentation,
            remedy='Give "static" or "dynamic".',
        )
    if config.segmentation == "dynamic" and config.sampling == "official":
        raise UserError(
            "The official random stream cuts examples, and documents are cut in training.",
            where="--sampling",
            received="official, with --segmentation dynamic",
            remedy="Leave one of the two out.",
        )


def _check_beam_flags(config: BuildConfig) -> None:
    if config.runner is None and config.beam_options:
        raise UserError(
            "Options after -- are for Apache Beam, which runs only with --runner.",
            where="--",
            received=" ".join(config.beam_options),
            remedy="Give --runner before --, or leave both out.",
        )
    if config.runner is not None and config.num_processes > 1:
        raise UserError(
            "The workers of Apache Beam are set by its own options.",
            where="--num-processes",
            received=config.num_processes,
            remedy="Leave --num-processes out. On one machine: --runner DirectRunner -- "
            f"--direct_num_workers={config.num_processes} "
            "--direct_running_mode=multi_processing",
        )


def _needs_one_process(flag: str, received: object, remedy: str) -> UserError:
    return UserError(
        "The official random stream runs through the whole corpus: it needs one process.",
        where=flag,
        received=received,
        remedy=f"{remedy}, or use --sampling chunked.",
    )
