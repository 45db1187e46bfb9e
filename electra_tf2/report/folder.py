"""What a model's folder says about its pre-training."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from electra_tf2 import files, patterns
from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface import huggingface_folders
from electra_tf2.loading.folder import WEIGHTS_ONLY, StoredConfig, read_casing, read_config
from electra_tf2.plots import Curve, history
from electra_tf2.pretraining.phases import phase_trained, phases_of
from electra_tf2.pretraining.run.open_run import EvaluatedOn
from electra_tf2.report.commands import Place, place_of
from electra_tf2.text.normalization import Casing
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.reports import RunLog, read_reports

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


@dataclasses.dataclass(frozen=True)
class PretrainedFolder:
    """What a model's folder says about its pre-training.

    Attributes:
        model_dir: the folder.
        stored: hparams and sizes; None where it was not pre-trained here.
        config: the hparams; None if they are not stored, or are not those of this version.
        reports: of metrics.jsonl.
        state: of the newest checkpoint; {} without one.
        step: of the newest checkpoint; without one, of the last report.
        libraries: versions by name, of the newest checkpoint; {} without one.
    """

    model_dir: str
    stored: StoredConfig | None
    config: PretrainingConfig | None
    reports: list[dict[str, Any]]
    state: Mapping[str, Any]
    step: int
    libraries: Mapping[str, Any]

    @property
    def place(self) -> Place:
        """The flags that it was trained with."""
        hparams = self.stored.hparams if self.stored else {}
        return place_of(hparams.get("model_dir", self.model_dir), hparams.get("vocab_file", ""))

    @property
    def is_grown(self) -> bool:
        """Whether it is as grow_model.py wrote it: its hparams are those of the smaller model."""
        return self.state.get(WEIGHTS_ONLY) is True

    def last(self, name: str) -> float | None:
        """Returns the last figure of a name in training."""
        found = self.training_curve(name)
        return found.values[-1] if found else None

    def last_evaluated(self, name: str) -> tuple[float, str] | None:
        """Returns the last figure of a name that was evaluated, and what on, in words."""
        found = [own for own in self.evaluations if isinstance(own.get(name), int | float)]
        return (float(found[-1][name]), found[-1]["evaluated_on"]) if found else None

    def training_curve(self, name: str) -> Curve | None:
        """Returns the history of a figure in training; None if there is none."""
        return history(self.reports, "train", name)

    def evaluated_curves(self, name: str) -> dict[str, Curve]:
        """Returns what was evaluated, in words -> the history of a figure on it."""
        curves = {}
        for where in dict.fromkeys(own["evaluated_on"] for own in self.evaluations):
            reports = [own for own in self.evaluations if own["evaluated_on"] == where]
            if curve := history(reports, "eval", name, label=where):
                curves[where] = curve
        return curves

    @functools.cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """The reports of evaluations, with what they scored. Of older versions the hparams tell."""
        known = get_args(EvaluatedOn)
        return [
            own if own.get("evaluated_on") in known else own | {"evaluated_on": self._scored(own)}
            for own in sorted(self.reports, key=lambda report: report["step"])
            if own["split"] == "eval"
        ]

    def _scored(self, report: Mapping[str, Any]) -> EvaluatedOn:
        config = self.config
        if not config or phase_trained(phases_of(config), report["step"]).config.eval_tfrecords:
            return "held-out text"
        return "text it was trained on"


def open_folder(model_dir: str, make_config: type[PretrainingConfig]) -> PretrainedFolder:
    """Reads what a folder says about pre-training.

    Raises:
        UserError: a file in it can't be read.
    """
    try:
        stored = read_config(model_dir)
    except UserError:
        if not huggingface_folders(model_dir):
            raise
        stored = None  # a config.json of transformers
    log = RunLog(model_dir).path
    config = None
    if stored is not None and "num_train_steps" in stored.hparams:
        known = {n: v for n, v in stored.hparams.items() if n in make_config.types()}
        known["model_dir"] = model_dir  # it may have been moved
        try:
            # All paths are among the hparams: nothing follows from the name and the data folder.
            config = make_config("model", ".", **known)
        except UserError:  # of another version, or edited
            config = None
    reports = read_reports(log) if files.exists(log) else []
    store = CheckpointStore(model_dir)
    steps = store.steps() or [report["step"] for report in reports]
    return PretrainedFolder(
        model_dir,
        stored,
        config,
        reports,
        store.newest_state(),
        max(steps, default=0),
        store.newest_libraries(),
    )


def tokens_by_phase(config: PretrainingConfig, step: int) -> Iterator[tuple[int, int, int]]:
    """Yields the last step, the tokens a step and all tokens of what has begun.

    A phase whose batch has a ramp is divided into parts.
    """
    for phase in phases_of(config):
        for part in phase.parts():
            per_step = part.batch_size * phase.config.max_seq_length
            done = min(step, part.last_step) - part.first_step
            if done > 0:
                yield part.last_step, per_step, done * per_step


def seconds_of(folder: PretrainedFolder) -> float:
    """Returns the seconds that the steps took, without evaluations and times of standing still."""
    if folder.config is None:
        return 0.0
    # Reports may be ahead of the newest checkpoint, in a later phase than that.
    parts = list(tokens_by_phase(folder.config, folder.config.num_train_steps))

    def tokens(step: int) -> int:
        found = begun = 0
        for end, per_step, _ in parts:
            found += max(0, min(step, end) - begun) * per_step
            begun = end
        return found

    timed = [
        own for own in folder.reports if own["split"] == "train" and own.get("tokens_per_second")
    ]
    if not timed:
        return 0.0
    # A log begins later than the run if it was moved away, and where a branch left another run.
    branched = re.search(r"step-(\d+)/?$", folder.config.branch_from or "")
    first = timed[0]["step"] - folder.config.log_every_steps
    seconds, before = 0.0, max(0, first, int(branched[1]) if branched else 0)
    for report in timed:
        new = tokens(report["step"]) - tokens(before)
        seconds, before = seconds + new / report["tokens_per_second"], report["step"]
    return seconds


def casing_of(folder: PretrainedFolder) -> Casing:
    """Returns the casing that is stored, or else that of the hparams, which are known."""
    stored = read_casing(folder.model_dir)
    if stored is None:
        assert folder.config is not None
        return Casing.from_hparams(folder.config)
    return stored


def places_of(folder: PretrainedFolder, pattern: str) -> list[str]:
    """Returns patterns as they are stored, and as they are if the data moved with the model."""
    assert folder.config is not None
    before, now = folder.place.data_dir, place_of(folder.model_dir).data_dir
    begins = rf"(^|,\s*){re.escape(patterns.literal(before))}/"
    moved = re.sub(begins, lambda found: f"{found[1]}{patterns.literal(now)}/", pattern)
    return list(dict.fromkeys([pattern, moved]))
