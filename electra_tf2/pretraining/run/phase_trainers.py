"""The trainers of a run's phases, and its evaluations on held-out records."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import tensorflow as tf

from electra_tf2.data.input import TrainingFiles
from electra_tf2.data.open_records import explain_data_loss, is_data_loss
from electra_tf2.outputs import folder_problem
from electra_tf2.pretraining.objective import EVALUATION_SEED_OFFSET, PretrainingObjective
from electra_tf2.pretraining.phases import Phase, PhaseSchedule, RunCompute
from electra_tf2.pretraining.run.build_pretraining import build_objective
from electra_tf2.pretraining.run.data_report import CorpusEpochs
from electra_tf2.pretraining.run.open_run import PhaseData, Run
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.loop import Evaluator, LoopSettings
from electra_tf2.training.optimizers import make_optimizer
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import LinearRamp, pretraining_schedule
from electra_tf2.training.trainer import Trainer, TrainingRun

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig


class HeldOutScores:
    """Scores a trainer's present weights and reports the figures to its log.

    Calling it again at the same step gives the same figures without computing or reporting again.

    Args:
        config: gives the batches, of which at most `num_eval_steps` are scored, and the seed.
        trainer: has the weights.
        records: has what is scored, which it need not if this is never called.
    """

    def __init__(self, config: PretrainingConfig, trainer: Trainer, records: PhaseData):
        self._config = config
        self._trainer = trainer
        self._files, self._evaluated_on = records.evaluation, records.evaluated_on
        # One for all evaluations of a run, so that its graph is built once.
        self._evaluator = Evaluator(
            trainer.run.objective, trainer.run.strategy, seed=config.seed + EVALUATION_SEED_OFFSET
        )
        self._step: int | None = None
        self._figures: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        """Returns the figures by name, see `Evaluator.evaluate`.

        Raises:
            UserError: the records are no longer what they were when they were opened.
        """
        files = self._files
        assert files is not None  # there are some wherever a run evaluates
        if self._step != self._trainer.step:
            try:
                figures = self._compute(files)
            except tf.errors.OpError as error:
                if not is_data_loss(files, error):
                    raise
                raise explain_data_loss(files, error) from error
            self._step, self._figures = self._trainer.step, figures
            self._trainer.run.log.write(
                self._step, self._figures, split="eval", evaluated_on=self._evaluated_on
            )
        return dict(self._figures)

    def _compute(self, files: TrainingFiles) -> dict[str, float]:
        config = self._config
        wanted = config.num_eval_steps * config.eval_batch_size
        n_examples = files.evaluation_size(config.max_seq_length, wanted)
        n_batches = math.ceil(n_examples / config.eval_batch_size)
        return self._evaluator.evaluate(
            lambda context: files.evaluation_dataset(
                max_seq_length=config.max_seq_length,
                global_batch_size=config.eval_batch_size,
                max_batches=n_batches,
                input_context=context,
            ),
            n_batches,
        )


class PhaseTrainers:
    """Holds the trainer of one phase at a time.

    Phases differ in the shape of a batch, so each has a trainer, and with it graphs, of its own.

    Args:
        run: what is trained, on what and where.

    Attributes:
        phase: the one to train.
        records: its data.
        trainer: its trainer.
        compute: counts the operations of the run's steps.
        evaluate: scores the present weights on its records.
        epochs: of the corpora of the phase's mixture, for its reports; None until they are known.
    """

    def __init__(self, run: Run):
        config, devices, pretraining = run.config, run.devices, run.pretraining
        self._devices, self._pair, self._data = devices, pretraining.pair, run.data
        self._network = run.network
        self._optimizer = make_optimizer(
            config,
            devices.strategy,
            pretraining.objective.named_variables(),
            constants=pretraining.objective.named_constants(),
        )
        self._store = CheckpointStore(config.model_dir, config.keep_checkpoint_max)
        # A model that is only evaluated may lie where nothing can be written.
        logs = devices.workers.is_chief and (
            config.do_train or not folder_problem(config.model_dir)
        )
        self._log = RunLog(config.model_dir, writes=logs)
        self._index = 0
        self.epochs: CorpusEpochs | None = None
        self.compute = RunCompute(config, pretraining.pair.encoder.config)
        self.trainer = self._make_trainer(pretraining.objective)
        self.evaluate = HeldOutScores(self.phase.config, self.trainer, self.records)

    @property
    def phase(self) -> Phase:
        return self._data.phases[self._index]

    @property
    def records(self) -> PhaseData:
        return self._data.records[self._index]

    def next(self) -> bool:
        """Moves on to the next phase, with the step and counts of this one's trainer.

        Returns:
            Whether there is one.
        """
        if self._index + 1 == len(self._data.phases):
            return False
        self._index += 1
        self.epochs = None
        objective = build_objective(self.phase.config, self._pair, self._data.vocabulary)
        previous, self.trainer = self.trainer, self._make_trainer(objective)
        self.trainer.continue_from(previous)
        self.evaluate = HeldOutScores(self.phase.config, self.trainer, self.records)
        return True

    def _make_trainer(self, objective: PretrainingObjective) -> Trainer:
        phase = self.phase
        config = phase.config
        schedule = pretraining_schedule(config)
        sizes = phase.points("train_batch_size")
        settings = LoopSettings.from_hparams(
            config,
            num_train_steps=phase.last_step,
            tokens_per_example=config.max_seq_length,
            flops_per_example=self.compute.example(phase.number - 1).training_products,
            seed=config.seed,
            batch_sizes=tuple(sizes) if len(sizes) > 1 else (),
        )
        run = TrainingRun(
            objective=objective,
            strategy=self._devices.strategy,
            optimizer=self._optimizer,
            schedule=PhaseSchedule(schedule, phase.first_step) if phase.first_step else schedule,
            settings=settings,
            store=self._store,
            log=self._log,
            description=", ".join(filter(None, [f"pre-training {config.model_name}", phase.title])),
            workers=self._devices.workers,
            totals=self._totals,
            ramps={name: LinearRamp(tuple(phase.points(name))) for name in phase.ramps},
            shown=("loss", "masked_lm_accuracy", "disc_auc"),
            identity=self._data.training_identity(self._network, phase),
        )
        return Trainer(run)

    def _totals(self, step: int) -> dict[str, float]:
        epochs = self.epochs.figures(step) if self.epochs else {}
        return {**self.compute.figures(step), **epochs}
