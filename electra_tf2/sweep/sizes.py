"""The configurations of a sweep over the generator's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from electra_tf2.cli import RunFlags
from electra_tf2.errors import UserError
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import default_attention_heads

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Figure 3 of the ELECTRA paper has widths from an eighth to the whole of the discriminator's.
SIZES = (0.125, 0.25, 0.5, 0.75, 1.0)
_LARGEST = 4  # beyond it, a decimal point was forgotten

# What the sweep sets itself, for each size.
_OWN = ("generator_hidden_size", "do_train", "do_eval", "model_dir", "results_txt", "results_pkl")
# Gives a configuration that no generator size can make impossible.
_NO_GENERATOR = {
    "uniform_generator": True,
    "untied_generator": True,
    "two_tower_generator": False,
    "electric_objective": False,
    "electra_objective": True,
    "generator_layers": 1.0,
}


def model_name(name: str, size: float) -> str:
    """Returns the name of the model of a size, such as "small_generator_0.25"."""
    return f"{name}_generator_{size:g}"


def sweep_configs(
    make_config: type[PretrainingConfig], flags: RunFlags, sizes: Sequence[float]
) -> dict[float, PretrainingConfig]:
    """Makes the configuration of each size: all the same except for `generator_hidden_size`.

    Args:
        make_config: builds a configuration.
        flags: those of `run_pretraining.py`; the models are named after its `model_name`.
        sizes: the generator's width as a share of the discriminator's, each above 0.

    Returns:
        Size -> configuration, in rising order.

    Raises:
        UserError: a size is not a share or gives an impossible generator, two give the same one, or
            the hparams leave no generator to size or no figures to compare.
    """
    _check_hparams(flags.hparams)
    base = make_config(flags.model_name, flags.data_dir, **{**flags.hparams, **_NO_GENERATOR})
    _check_one_process(base)
    _check_sizes(sizes, base.network().hidden_size)
    return {
        size: make_config(
            model_name(flags.model_name, size),
            flags.data_dir,
            **flags.hparams,
            generator_hidden_size=size,
            do_eval=True,
        )
        for size in sorted(sizes)
    }


def _check_hparams(hparams: Mapping[str, Any]) -> None:
    given = {name: hparams[name] for name in _OWN if name in hparams}
    if given:
        raise contradiction(
            "The sweep sets this itself, for each size.",
            given,
            "Leave it out; give the sizes with --sizes.",
        )
    unfit = {
        name: hparams[name]
        for name, fits in (
            ("uniform_generator", lambda value: not value),
            ("untied_generator", bool),
            ("electra_objective", lambda value: value or hparams.get("electric_objective")),
            ("disc_weight", bool),
            ("init_generator", lambda value: not value),
            ("train_generator", bool),
        )
        if name in hparams and not fits(hparams[name])
    }
    if unfit:
        raise contradiction(
            "There is no generator beside a discriminator whose size could be varied.",
            unfit,
            "Leave it at its default.",
        )


def _check_one_process(config: PretrainingConfig) -> None:
    if config.distribution == "multi_worker":
        raise contradiction(
            "A sweep runs in one process.",
            {"distribution": config.distribution},
            f"Train the models {model_name(config.model_name, 0.25)} and so on with "
            "run_pretraining.py on the workers; the sweep then only evaluates and compares them.",
        )


def _check_sizes(sizes: Sequence[float], hidden_size: int) -> None:
    for size in sizes:
        if not 0 < size <= _LARGEST:
            raise _bad_size("A generator's size is not a share of the discriminator's.", size)
        if not _fits(_width(size, hidden_size)):
            raise UserError(
                "A generator of this size is impossible.",
                where="--sizes",
                received=f"{size:g}: hidden size {_width(size, hidden_size)} of {hidden_size}, "
                f"{default_attention_heads(_width(size, hidden_size))} attention heads",
                remedy="Its heads, max(1, hidden size // 64), have to divide the hidden size. "
                f"Sizes near by that do: {_nearest(size, hidden_size)}.",
            )
    widths: dict[int, float] = {}
    for size in sizes:
        width = _width(size, hidden_size)
        if width in widths:
            raise _bad_size("Two sizes give the same generator.", f"{widths[width]:g}, {size:g}")
        widths[width] = size


def _bad_size(what: str, received: object) -> UserError:
    return UserError(
        what,
        where="--sizes",
        received=str(received),
        remedy=f"Give different numbers above 0, at most {_LARGEST}, such as "
        + " ".join(map(str, SIZES))
        + ".",
    )


def _width(size: float, hidden_size: int) -> int:
    return int(round(hidden_size * size))


def _fits(width: int) -> bool:
    return width >= 1 and width % default_attention_heads(width) == 0


def _nearest(size: float, hidden_size: int) -> str:
    """The nearest sizes that fit, below and above."""
    width = _width(size, hidden_size)
    below = next((w for w in range(width - 1, 0, -1) if _fits(w)), None)
    above = next(w for w in range(width + 1, 2 * width + 65) if _fits(w))
    shares = [f"{w / hidden_size:.6g}" for w in (below, above) if w is not None]
    return " and ".join(shares)
