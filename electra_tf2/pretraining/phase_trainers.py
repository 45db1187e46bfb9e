"""The trainers of a run's phases, over the same networks, optimizer, checkpoints and logs."""

from __future__ import annotations

from typing import Any

from electra_tf2.pretraining.build import Pretraining, build_objective
from electra_tf2.pretraining.evaluation import Evaluation
from electra_tf2.pretraining.objective import PretrainingObjective
from electra_tf2.pretraining.phases import Phase, PhaseSchedule
from electra_tf2.pretraining.run_compute import RunCompute
from electra_tf2.pretraining.run_data import Data, PhaseData
from electra_tf2.training.precision import resolve_xla
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.devices import Devices
from electra_tf2.training.make_optimizer import make_optimizer
from electra_tf2.training.run_log import RunLog, SilentLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.settings import LoopSettings
from electra_tf2.training.trainer import Trainer


class PhaseTrainers:
    """Holds the trainer of one phase at a time.

    Phases differ in the shape of a batch, so each has a trainer, and with it graphs, of its own.

    Args:
        config: a `PretrainingConfig`.
        devices: where it runs.
        pretraining: networks, and the objective of the first phase.
        data: gives the phases and their records.

    Attributes:
        phase: the one to train.
        records: its data.
        trainer: its trainer.
        compute: counts the operations of the run's steps.
        evaluate: scores the present weights on its records.
    """

    def __init__(self, config: Any, devices: Devices, pretraining: Pretraining, data: Data):
        self._devices, self._pair, self._data = devices, pretraining.pair, data
        self._optimizer = make_optimizer(
            config, devices.strategy, pretraining.objective.named_variables()
        )
        self._store = CheckpointStore(config.model_dir, config.keep_checkpoint_max)
        self._log = RunLog(config.model_dir) if devices.workers.is_chief else SilentLog()
        self._index = 0
        self.compute = RunCompute(config, pretraining.pair.encoder.config)
        self.trainer = self._make_trainer(pretraining.objective)
        self.evaluate = Evaluation(self.phase.config, self.trainer, self.records.evaluation)

    @property
    def phase(self) -> Phase:
        return self._data.phases[self._index]

    @property
    def records(self) -> PhaseData:
        return self._data.records[self._index]

    def next(self) -> bool:
        """Goes on to the next phase, with the step and counts of this one's trainer.

        Returns:
            Whether there is one.
        """
        if self._index + 1 == len(self._data.phases):
            return False
        self._index += 1
        objective = build_objective(self.phase.config, self._pair, self._data.vocabulary)
        before, self.trainer = self.trainer, self._make_trainer(objective)
        self.trainer.step = before.step
        self.trainer.examples_seen = before.examples_seen
        self.trainer.skipped = before.skipped
        self.evaluate = Evaluation(self.phase.config, self.trainer, self.records.evaluation)
        return True

    def _make_trainer(self, objective: PretrainingObjective) -> Trainer:
        phase = self.phase
        config = phase.config
        schedule = PolynomialDecay(
            config.learning_rate,
            config.num_train_steps,
            config.num_warmup_steps,
            config.lr_decay_power,
            config.end_learning_rate,
        )
        settings = LoopSettings.from_hparams(
            config,
            num_train_steps=phase.last_step,
            tokens_per_example=config.max_seq_length,
            seed=config.seed,
            jit_compile=resolve_xla(config.xla),
        )
        return Trainer(
            objective,
            self._devices.strategy,
            self._optimizer,
            PhaseSchedule(schedule, phase.first_step) if phase.first_step else schedule,
            settings,
            self._store,
            self._log,
            ", ".join(filter(None, [f"pre-training {config.model_name}", phase.title])),
            self._devices.workers,
            self.compute.figures,
        )
