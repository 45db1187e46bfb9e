"""The training loop: steps, logs, evaluations, checkpoints, and a clean way out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.background_saving import BackgroundSaver
from electra_tf2.training.checkpoints import Checkpoint, CheckpointStore
from electra_tf2.training.distributed_input import distributed_iterator
from electra_tf2.training.loop import Average, StepLoop, Window
from electra_tf2.training.objective import Objective
from electra_tf2.training.progress import Progress
from electra_tf2.training.replica_optimizer import ReplicaOptimizer
from electra_tf2.training.replica_step import ReplicaStep
from electra_tf2.training.run_log import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.settings import LoopSettings
from electra_tf2.training.signals import Interrupted, StopRequest
from electra_tf2.training.workers import Workers

MakeDataset = Callable[[int, tf.distribute.InputContext], tf.data.Dataset]
Watch = Callable[[int, Mapping[str, float]], str | None]


class NonFiniteLoss(UserError):
    """Training met a loss or a gradient that is NaN or infinite."""


class Trainer:
    """Trains an objective from one step to another.

    Args:
        objective: what is trained.
        strategy: where it runs; the objective's variables were made under its scope.
        optimizer: the update.
        schedule: the learning rate.
        settings: lengths and intervals.
        store: where checkpoints go.
        log: where figures go.
        description: of the run, for the progress bar.
        workers: the processes that train together; None for one alone. They take the same steps
            and stop after the same one; the chief saves.
        totals: steps done -> further figures of all of them, which reports and the state of
            checkpoints get.

    Attributes:
        late_signal: a signal that came in the last step. All was done, so that `train` did not
            raise; whoever goes on with something else should stop.
    """

    def __init__(
        self,
        objective: Objective,
        strategy: tf.distribute.Strategy,
        optimizer: ReplicaOptimizer,
        schedule: PolynomialDecay,
        settings: LoopSettings,
        store: CheckpointStore,
        log: RunLog,
        description: str = "training",
        workers: Workers | None = None,
        totals: Callable[[int], Mapping[str, float]] = lambda step: {},
    ):
        self.objective = objective
        self.strategy = strategy
        self.optimizer = optimizer
        self.schedule = schedule
        self.settings = settings
        self.store = store
        self.log = log
        self.workers = workers or Workers()
        self.step = 0
        self.examples_seen = 0
        self.skipped = 0
        self.late_signal: int | None = None
        self._description = description
        self._totals = totals
        self._saver = BackgroundSaver(store)
        replica_step = ReplicaStep(
            objective,
            optimizer,
            schedule,
            seed=settings.seed,
            micro_batches=settings.micro_batches,
            jit_compile=settings.jit_compile,
            loss_scale=optimizer.loss_scale,
        )
        self._loop = StepLoop(
            strategy, replica_step.train, stop_at_nonfinite=settings.on_nonfinite == "stop"
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes weights, slots and position from a checkpoint of this trainer."""
        self.optimizer.variables.assign(checkpoint.weights)
        self.step = checkpoint.step
        self.examples_seen = checkpoint.state["examples_seen"]
        self.skipped = checkpoint.state.get("skipped_updates", 0)
        self.optimizer.restore_slots(checkpoint.optimizer, updates=self.step - self.skipped)

    def save(self) -> str:
        """Writes a checkpoint of the present step; returns its folder once it is on the disk."""
        self._begin_save()
        return self._finish_save()

    def train(
        self,
        make_dataset: MakeDataset,
        *,
        evaluate: Callable[[], object] = lambda: None,
        explain: Callable[[Exception], UserError | None] = lambda error: None,
        locate: Callable[[int], str] = lambda position: "",
        watch: Watch = lambda step, figures: None,
    ) -> None:
        """Trains to `settings.num_train_steps`, saving on the way and at the end.

        Args:
            make_dataset: (position in examples, input context) -> the data from there on.
            evaluate: called every `settings.eval_every` steps to score the present weights.
            explain: turns a TensorFlow error of the input into a `UserError`, or gives None.
            locate: says where the batch at a position comes from, for `NonFiniteLoss`.
            watch: (step, the figures of a report) -> a warning to print, or None.

        Raises:
            NonFiniteLoss: a loss or gradient was not finite and `on_nonfinite` is "stop".
            Interrupted: a signal asked to stop; a checkpoint was saved.
            UserError: a checkpoint could not be saved; raised after the graph call then running.
        """
        settings = self.settings
        if self.step >= settings.num_train_steps:
            return
        position = self.examples_seen
        with _explained(explain):  # finding a position may read the data
            iterator = distributed_iterator(
                self.strategy, lambda context: make_dataset(position, context)
            )
        average = Average(self.objective.summarize)
        with (
            StopRequest() as stop,
            Progress(settings.num_train_steps, self.step, self._description) as progress,
            self._saver,
        ):
            n_steps = 1
            while self.step < settings.num_train_steps:
                window, seconds = self._call(iterator, n_steps, explain)
                seconds_per_step = seconds / n_steps
                self.workers.on_chief(self._saver.check)
                self._account(window, locate)
                average.add(window, seconds)
                if self.step % settings.log_every == 0 or self._is_done():
                    self._report(average, window, progress, watch)
                    average = Average(self.objective.summarize)
                if settings.eval_every and self.step % settings.eval_every == 0:
                    evaluate()
                self._save_if_due(stop)
                n_steps = self._agreed_steps(seconds_per_step)

    def _is_done(self) -> bool:
        return self.step == self.settings.num_train_steps

    def _agreed_steps(self, seconds_per_step: float) -> int:
        """Steps of the next graph call: the chief's, as the workers' clocks differ."""
        return int(self.workers.gather([self._steps_of_call(seconds_per_step)])[0, 0])

    def _agreed_signal(self, stop: StopRequest) -> int | None:
        """The signal that has come to one of the workers, if any."""
        return int(self.workers.gather([stop.signal or 0]).max()) or None

    def _save_if_due(self, stop: StopRequest) -> None:
        """Begins a save if it is time; waits for one that is the last, be it for a signal."""
        last, signal = self._is_done(), self._agreed_signal(stop)
        if self.step % self.settings.save_every and not last and not signal:
            return
        self._begin_save()
        if last or signal:
            path = self._finish_save()
            # One may have come while the save was waited for.
            self.late_signal = self._agreed_signal(stop)
            if not last:
                raise Interrupted(signal, self.step, path)

    def _begin_save(self) -> None:
        self.workers.on_chief(
            lambda: self._saver.begin(
                self.step,
                self.optimizer.variables.snapshot,
                self.optimizer.slots.snapshot,
                self._state(),
            )
        )

    def _finish_save(self) -> str:
        """Waits until the checkpoint is on the disk; returns its folder."""
        self.workers.on_chief(self._saver.wait)
        return self.store.latest()

    def _steps_of_call(self, seconds_per_step: float) -> int:
        """Steps of the next graph call: up to the next event, within the time limit."""
        settings = self.settings
        n_steps = min(settings.next_event(self.step) - self.step, settings.iterations_per_loop)
        return max(1, min(n_steps, int(settings.seconds_per_loop / seconds_per_step)))

    def _call(self, iterator, n_steps: int, explain) -> tuple[Window, float]:
        start = time.perf_counter()
        with _explained(explain):
            window = self._loop(iterator, self.step, n_steps)
            window = tf.nest.map_structure(lambda t: t.numpy(), window)
        return window, time.perf_counter() - start

    def _account(self, window: Window, locate: Callable[[int], str]) -> None:
        """Advances the position, or stops at a result that is not finite."""
        bad = int(window.steps) - int(window.updates)
        if window.last.failed and self.settings.on_nonfinite == "stop":
            before = int(window.steps) - 1  # good steps of this call
            place = locate(self.examples_seen + before * self.settings.global_batch_size)
            self._stop_at(self.step + before + 1, window, place)
        self.skipped += bad
        self.step += int(window.steps)
        self.examples_seen += int(window.steps) * self.settings.global_batch_size

    def _stop_at(self, step: int, window: Window, place: str) -> None:
        newest = self._saver.latest()
        raise NonFiniteLoss(
            "The loss or its gradient is not finite; training stopped before that update.",
            where=f"step {step}, learning rate {float(self.schedule(step)):.3g}"
            + (f", {place}" if place else ""),
            received=f"loss {float(window.last.loss)}, "
            f"gradient norm {float(window.last.gradient_norm)}",
            remedy=(
                f"The last good checkpoint is kept: {newest}. "
                if newest
                else "No checkpoint had been saved yet. "
            )
            + "Lower learning_rate, lengthen the warm-up, or set on_nonfinite to "
            '"skip" to leave out such updates.',
        )

    def _report(self, average: Average, window: Window, progress: Progress, watch: Watch) -> None:
        """Logs and shows the figures since the last report, and what `watch` says of them."""
        figures = self._figures(average, window)
        self.log.write(self.step, figures)
        progress.update(self.step, figures)
        if warning := watch(self.step, figures):
            progress.message(warning)

    def _figures(self, average: Average, window: Window) -> dict[str, float]:
        figures = average.figures()
        examples = average.steps * self.settings.global_batch_size
        figures["learning_rate"] = float(self.schedule(self.step))
        figures["gradient_norm"] = float(window.last.gradient_norm)
        if self.optimizer.loss_scale is not None:
            figures["loss_scale"] = float(window.last.loss_scale)
        figures["tokens_per_second"] = (
            examples * self.settings.tokens_per_example / average.seconds
        )
        if self.skipped:
            figures["skipped_updates"] = self.skipped
        return {**figures, **self._totals(self.step)}

    def _state(self) -> dict[str, Any]:
        return {
            "examples_seen": self.examples_seen,
            "seed": self.settings.seed,
            "global_batch_size": self.settings.global_batch_size,
            "skipped_updates": self.skipped,
            **self._totals(self.step),
        }


@contextlib.contextmanager
def _explained(explain: Callable[[Exception], UserError | None]) -> Iterator[None]:
    """Turns an error of the input into the one that explains it, where there is one."""
    try:
        yield
    # Python may not be able to read a message of TensorFlow's that quotes a record's bytes.
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        explained = explain(error)
        if explained is None:
            raise
        raise explained from error
