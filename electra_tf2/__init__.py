"""ELECTRA on TensorFlow 2: pre-training, fine-tuning and use of replaced-token detectors.

Importing this package imports nothing else; take what you need from its subpackages. `Encoder`,
`Discriminator` and `Generator` (see `electra_tf2.inference`) are loaded when first asked for.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_LOADED_LATER = {
    "Encoder": "electra_tf2.inference.encoder",
    "Discriminator": "electra_tf2.inference.discriminator",
    "Generator": "electra_tf2.inference.generator",
}


def __getattr__(name: str) -> Any:
    if name in _LOADED_LATER:
        console = importlib.import_module("electra_tf2.console")
        return getattr(console.load_quietly(_LOADED_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LOADED_LATER])
