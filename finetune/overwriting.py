"""Training again in place of earlier trials, which are kept until that has succeeded.

    <model_dir>_<trial>.replaced     an earlier trial
    <model_dir>.overwriting          says which run is at it: the same one goes on after a halt
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file
from finetune.origin import Origin
from finetune.setup import Setup, trial_folder, trial_numbers

_REPLACED = ".replaced"


def run_mark(setup: Setup, origin: Origin) -> str:
    """Returns a hash of the hparams and data that make a run the one it is."""
    hparams = setup.hparams()
    kept = {n: v for n, v in hparams.items() if n not in type(setup.config).free_on_resume}
    text = json.dumps([kept, setup.network.to_dict(), dict(origin)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Overwriting:
    """An overwriting run.

    Args:
        config: a `FinetuningConfig`.
        mark: from `run_mark`.
    """

    def __init__(self, config: Any, mark: str):
        self._config = config
        self._mark = mark
        self._path = f"{config.model_dir}.overwriting"

    def begin(self) -> None:
        """Sets the earlier trials aside, unless this run has done so before it was halted."""
        if self._stored() == self._mark:
            say("Going on with an overwriting run that was halted.")
            return
        for trial in trial_numbers(self._config):
            folder = trial_folder(self._config, trial)
            if tf.io.gfile.exists(folder + _REPLACED):
                say(f"Removing what another halted run has trained in {folder}")
                tf.io.gfile.rmtree(folder)
            else:
                tf.io.gfile.rename(folder, folder + _REPLACED)
        replace_file(self._path, self._mark.encode())

    def end(self) -> None:
        """Removes the earlier trials."""
        for trial in trial_numbers(self._config, _REPLACED):
            tf.io.gfile.rmtree(trial_folder(self._config, trial) + _REPLACED)
        tf.io.gfile.remove(self._path)

    def _stored(self) -> str | None:
        if not tf.io.gfile.exists(self._path):
            return None
        with tf.io.gfile.GFile(self._path, "rb") as file:
            return file.read().decode("utf-8", "replace")


def check_not_overwriting_itself(setup: Setup) -> None:
    """Refuses to train from a model that the run would set aside.

    Raises:
        UserError: `init_checkpoint` is one of the trials to be overwritten.
    """
    if setup.start is None:
        return
    for trial in trial_numbers(setup.config):
        folder = trial_folder(setup.config, trial)
        if setup.start.path.startswith(f"{folder}/") or setup.vocab_file.startswith(f"{folder}/"):
            raise UserError(
                "The model to start from is one of those to be overwritten.",
                where="hparam init_checkpoint",
                received=setup.start.path,
                remedy="Set model_dir, results_txt and results_pkl to other paths.",
            )
