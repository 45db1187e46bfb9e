"""The training loop: steps, logs, evaluations, checkpoints, and a clean way out."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import tensorflow as tf

from electra_tf2.console import Progress
from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import BackgroundSaver, Checkpoint, CheckpointStore
from electra_tf2.training.loop import Average, StepLoop, Window, distributed_iterator
from electra_tf2.training.objective import Objective
from electra_tf2.training.optimizers import ReplicaOptimizer
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from electra_tf2.training.workers import Workers

# How a run is driven, apart from what it trains.


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """Lengths and intervals, in steps.

    Attributes:
        num_train_steps: the step at which training ends.
        global_batch_size: examples a step, over all replicas and micro-batches.
        tokens_per_example: for the tokens/s in the log, padding included; a mean where they differ.
        save_every: steps between checkpoints.
        log_every: steps between lines in the log.
        eval_every: steps between evaluations; 0 for none.
        iterations_per_loop: most steps of one graph call.
        seconds_per_loop: most seconds of one graph call, so that signals, logs and saves come in
            time.
        micro_batches: gradient accumulation.
        on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" that update.
        seed: the run's seed.
        jit_compile: whether XLA compiles forward and backward.
    """

    num_train_steps: int
    global_batch_size: int
    tokens_per_example: float
    save_every: int = 1000
    log_every: int = 10
    eval_every: int = 0
    iterations_per_loop: int = 200
    seconds_per_loop: float = 5.0
    micro_batches: int = 1
    on_nonfinite: Literal["stop", "skip"] = "stop"
    seed: int = 0
    jit_compile: bool = False

    @classmethod
    def from_hparams(
        cls,
        config: Any,
        *,
        num_train_steps: int,
        tokens_per_example: float,
        seed: int,
        jit_compile: bool,
    ) -> LoopSettings:
        """Takes batch size and intervals from a configuration; the rest as the attributes say."""
        return cls(
            num_train_steps=num_train_steps,
            global_batch_size=config.train_batch_size,
            tokens_per_example=tokens_per_example,
            save_every=config.save_checkpoints_steps,
            log_every=config.log_every_steps,
            eval_every=config.eval_every_steps,
            iterations_per_loop=config.iterations_per_loop,
            micro_batches=config.gradient_accumulation_steps,
            on_nonfinite=config.on_nonfinite,
            seed=seed,
            jit_compile=jit_compile,
        )

    def next_event(self, step: int) -> int:
        """Returns the first step after `step` at which something is logged, saved or ended."""
        intervals = [self.log_every, self.save_every]
        if self.eval_every:
            intervals.append(self.eval_every)
        due = [(step // interval + 1) * interval for interval in intervals]
        return min(*due, self.num_train_steps)


# Leaving a run cleanly when a signal asks for it.


class Interrupted(UserError):
    """A signal ended the run early; a checkpoint was saved, and the same command goes on.

    Args:
        number: the signal.
        step: the step that was saved.
        path: the checkpoint's folder.
    """

    # Like a shell's 128 + n for a killed process, but the state is saved: "run me again".
    exit_code = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, number: int, step: int, path: str):
        super().__init__(
            f"The run was stopped after step {step}; nothing is lost.",
            where=path,
            received=signal.Signals(number).name,
            remedy="Run the same command again: it goes on from this checkpoint.",
        )


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag while it is entered.

    A second signal acts as usual, so that an impatient Ctrl-C still works. Outside the main
    thread, where Python delivers no signals, it does nothing.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __init__(self):
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        self.signal = number
        signal.signal(number, self._previous[number])


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
        figures["tokens_per_second"] = examples * self.settings.tokens_per_example / average.seconds
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
