"""Fine-tuning on downstream tasks.

Importing this package imports nothing else; `FineTuned`, a fine-tuned model for Python, is loaded
when first asked for.
"""

import importlib
from typing import Any

_LOADED_LATER = {"FineTuned": "finetune.fine_tuned"}


def __getattr__(name: str) -> Any:
    if name in _LOADED_LATER:
        console = importlib.import_module("electra_tf2.console")
        return getattr(console.load_quietly(_LOADED_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LOADED_LATER])
