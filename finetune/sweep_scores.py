"""Fine-tuning the models of a sweep, to compare them by their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import errors_named_in
from electra_tf2.hparams.record import contradiction
from electra_tf2.loading.folder import json_path
from electra_tf2.sweep.size_results import SizeScore
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from finetune.run.finetune import finetune
from finetune.run.results import read_results
from finetune.task_builder import get_tasks

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Hparams that the sweep sets itself, so that scores are of its models and not mixed.
_OWN = (
    "debug",
    "do_train",
    "do_eval",
    "init_checkpoint",
    "model_dir",
    "results_txt",
    "results_pkl",
)


class SweepScores:
    """Fine-tunes models by name; called with one, it gives task -> score.

    Args:
        data_dir: where models and tasks are.
        hparams: of fine-tuning, the same for all models.
    """

    def __init__(self, data_dir: str, hparams: Mapping[str, Any]):
        self._data_dir = data_dir
        self._hparams = dict(hparams)

    def check(self, pretraining: PretrainingConfig) -> None:
        """Refuses hparams and task files that don't fit, before anything is trained.

        Raises:
            UserError: they don't.
        """
        with errors_named_in("--finetune", ": "):
            config = self._config(pretraining.model_name)
            vocabulary = load_vocabulary(pretraining.vocab_file)
            tokenizer = make_tokenizer(vocabulary, Casing(pretraining.do_lower_case))
            for task in get_tasks(config, tokenizer):
                for split in ("train", *task.dev_splits):
                    task.get_examples(split)

    def __call__(self, model_name: str) -> dict[str, SizeScore]:
        """Fine-tunes a model, or resumes it; finished trials stand.

        Raises:
            UserError: see `finetune.run.finetune.finetune`.
        """
        with errors_named_in("--finetune", ": "):
            config = self._config(model_name)
            finetune(config)
        results = read_results(json_path(config.results_pkl))
        assert results is not None  # `finetune` wrote them
        trials = [own for own in results.trials if own.trial <= config.num_trials]
        return {
            task: SizeScore(metric, [own.scores[task][metric] for own in trials])
            for task, metric in results.main_metrics.items()
        }

    def _config(self, model_name: str) -> FinetuningConfig:
        given = {name: self._hparams[name] for name in _OWN if name in self._hparams}
        if given:
            raise contradiction("The sweep sets this itself.", given, "Leave it out.")
        config = FinetuningConfig(model_name, self._data_dir, **self._hparams)
        if config.num_trials < 0 or config.distribution == "multi_worker":
            raise contradiction(
                "A sweep fine-tunes each model a number of times, in one process.",
                {"num_trials": config.num_trials, "distribution": config.distribution},
                "Set num_trials to 1 or more, and distribution to auto.",
            )
        return config
