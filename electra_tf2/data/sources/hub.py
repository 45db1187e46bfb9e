"""Data sets by name, from the Hugging Face Hub or its cache, with the `datasets` library.

The library downloads a data set once and keeps it in its cache as Arrow files, which are read like
any other.
"""

from __future__ import annotations

import re

from electra_tf2.errors import UserError

HUB = "hf:"
"""How the name of such a data set begins."""
_FORM = "hf:NAME, hf:NAME,CONFIG, hf:NAME:SPLIT or hf:NAME,CONFIG:SPLIT"
_NAME = re.compile(r"hf:(?P<name>[^,:]+)(?:,(?P<config>[^,:]+))?(?::(?P<split>[\w.+-]+))?")


def hub_files(corpus: str, flag: str) -> list[str]:
    """Downloads a data set where need be; returns its Arrow files.

    Args:
        corpus: hf:NAME[,CONFIG][:SPLIT]. The name is that of a data set on the Hub, or of a folder
            that `datasets.load_dataset` takes; the split is "train" unless it is given.
        flag: the flag that named it, for messages.

    Raises:
        UserError: the name is malformed, `datasets` is not installed, or it can't load that.
    """
    match = _NAME.fullmatch(corpus)
    if match is None:
        raise UserError(
            "The name of the data set is malformed.",
            where=flag,
            received=corpus,
            remedy=f"Give {_FORM}, such as hf:wikimedia/wikipedia,20231101.en:train.",
        )
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise UserError(
            "A data set by name needs the package datasets, which is not installed.",
            where=f"{flag} {corpus}",
            received=str(error),
            remedy="pip install datasets 'electra-tf2[corpora]'",
        ) from error
    try:
        loaded = datasets.load_dataset(
            match["name"], match["config"], split=match["split"] or "train"
        )
    except Exception as error:  # whatever a network, a cache or a malformed data set brings about
        raise UserError(
            "The data set can't be loaded.",
            where=f"{flag} {corpus}",
            received=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            remedy=f"Check its name, configuration and split ({_FORM}), and the network.",
        ) from error
    return [file["filename"] for file in loaded.cache_files]
