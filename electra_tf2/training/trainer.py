"""The trainer: drives a run's steps, reports, evaluations and checkpoints, and ends it cleanly."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.console import Progress, duration, is_verbose, say
from electra_tf2.errors import UserError, first_of
from electra_tf2.training.background_saving import BackgroundSaver
from electra_tf2.training.checkpoints import Checkpoint, CheckpointStore
from electra_tf2.training.compile_cache import seal_programs
from electra_tf2.training.environment import describe_environment, environment_changes
from electra_tf2.training.loop import (
    Average,
    LoopSettings,
    StepLoop,
    StepSums,
    distributed_iterator,
)
from electra_tf2.training.objective import Objective
from electra_tf2.training.optimizers import ReplicaOptimizer
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import Schedule
from electra_tf2.training.step import ReplicaStep
from electra_tf2.training.throughput import Throughput
from electra_tf2.training.workers import Workers

MakeDataset = Callable[[int, tf.distribute.InputContext], tf.data.Dataset]


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a trainer trains, where it runs, and where its results go.

    Attributes:
        objective: what is trained.
        strategy: where it runs; the objective's variables were made under its scope.
        optimizer: the update.
        schedule: the learning rate.
        settings: lengths and intervals.
        store: where checkpoints go.
        log: where figures go.
        description: of the run, for the progress bar.
        workers: the processes that train together; a single one by default. They take the same
            steps and stop after the same one; the chief saves.
        totals: steps done -> further figures of all of them, which go into reports and into the
            state of checkpoints.
        shown: names of the figures that a progress line shows.
        ramps: name -> (steps done -> value) of the objective's settings that change from step to
            step; with any, it has to be a `RampedObjective`. Reports have the last step's values.
        identity: what is trained on what, JSON values by name for the state of checkpoints. Whoever
            resumes the run compares them.
    """

    objective: Objective
    strategy: tf.distribute.Strategy
    optimizer: ReplicaOptimizer
    schedule: Schedule
    settings: LoopSettings
    store: CheckpointStore
    log: RunLog
    description: str = "training"
    workers: Workers = dataclasses.field(default_factory=Workers)
    totals: Callable[[int], Mapping[str, float]] | None = None
    shown: Collection[str] = ("loss",)
    ramps: Mapping[str, Schedule] = dataclasses.field(default_factory=dict)
    identity: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What is called while a trainer trains; each of them is optional.

    Attributes:
        evaluate: called every `eval_every` steps to score the present weights; if it returns True,
            training ends there.
        explain: turns an error that the input raised in TensorFlow into a `UserError`; returns None
            if it can't.
        locate: position in examples -> where the batch there comes from, for `NonFiniteLoss`.
        watch: (step, figures of a report) -> a warning to print, or None.
        close: ends the data that are open, before others are opened for another batch size.
    """

    evaluate: Callable[[], object] | None = None
    explain: Callable[[Exception], UserError | None] | None = None
    locate: Callable[[int], str] | None = None
    watch: Callable[[int, Mapping[str, float]], str | None] | None = None
    close: Callable[[], None] | None = None


_NO_HOOKS = Hooks()


class Interrupted(UserError):
    """A signal stopped the run; a checkpoint was saved, and the same command resumes the run.

    Args:
        number: the signal.
        step: the step that was saved.
        path: the checkpoint's folder.
    """

    # Like a shell's 128 + n for a killed process, but the state is saved: "run me again".
    exit_code = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, number: int, step: int, path: str | None):
        super().__init__(
            f"The run was stopped after step {step}; nothing is lost.",
            where=path,
            received=signal.Signals(number).name,
            remedy="Run the same command again: it resumes from this checkpoint.",
        )


class StopRequest:
    """A context that turns SIGTERM and SIGINT into a flag.

    A second signal acts as usual, so that an impatient Ctrl-C still works. Outside the main
    thread, where Python delivers no signals, it does nothing.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __init__(self):
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

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


class NonFiniteLoss(UserError):
    """Training met a loss or a gradient that is NaN or infinite."""


class _Position(NamedTuple):
    """What a checkpoint says of a position beside its step."""

    examples_seen: int
    skipped_updates: int = 0


class Trainer:
    """Trains an objective from one step to another.

    Args:
        run: what is trained, and where.
        earlier: a trainer of the same objective and optimizer, or None: its programs are used
            again, unless its schedule was another.

    Attributes:
        run: as given.
        step: steps done.
        examples_seen: examples that these steps took, which is the position in the data.
        skipped: steps without an update, as their loss or gradient was not finite.
        notes: further fields of the checkpoints' state, which a caller hands on to them.
        late_signal: a signal that came in the last step. Training was complete, so `train` did not
            raise; a program that has more to do should stop.
    """

    def __init__(self, run: TrainingRun, earlier: Trainer | None = None):
        self.run = run
        self.step = 0
        self.examples_seen = 0
        self.skipped = 0
        self.notes: dict[str, Any] = {}
        self.late_signal: int | None = None
        self._ends_early = False
        self._examples_reported = 0
        self._saver = BackgroundSaver(run.store)
        settings = run.settings
        self._environment = describe_environment(run.strategy, jit_compile=settings.jit_compile)
        same = earlier and earlier.run.schedule == run.schedule and earlier.run.ramps == run.ramps
        if earlier is not None and same:
            self._loop, self._is_compiled = earlier._loop, earlier._is_compiled
        else:
            self._loop, self._is_compiled = _make_loop(run), False
        self._throughput = Throughput(
            replicas=run.strategy.num_replicas_in_sync,
            tokens_per_example=settings.tokens_per_example,
            flops_per_example=settings.flops_per_example,
            precision=settings.precision,
        )

    def continue_from(self, previous: Trainer) -> None:
        """Takes over the position of a trainer of the same weights, such as the last phase's."""
        self.step = previous.step
        self.examples_seen = previous.examples_seen
        self.skipped = previous.skipped
        self.notes = previous.notes

    def _check_weights(self, checkpoint: Checkpoint) -> None:
        """Refuses a checkpoint that lacks a variable, or has it in another shape."""
        there = {name: array.shape for name, array in checkpoint.weights.items()}
        problems = [
            f"{name} {f'has shape {there[name]}, not {shape}' if name in there else 'is missing'}"
            for name, shape in self.run.optimizer.variables.shapes().items()
            if there.get(name) != shape
        ]
        if problems:
            raise UserError(
                "The checkpoint is not of this network.",
                where=checkpoint.path,
                received=first_of(problems),
                remedy="Build the network as it was. Keras numbers layers without a name on: name "
                "them, or call keras.utils.clear_session() before it is built again.",
            )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes weights, slots and position from a checkpoint; warns of another environment.

        Raises:
            UserError: it is of another network, or its state is damaged.
        """
        position = checkpoint.part(_Position)
        for name, count in position._asdict().items():
            if count < 0:
                raise checkpoint.bad_field(name, f"{count}, which is negative")
        self._check_weights(checkpoint)
        self.run.optimizer.variables.assign(checkpoint.weights)
        self.step = checkpoint.step
        self.examples_seen, self.skipped = position
        self.run.optimizer.restore_slots(checkpoint.optimizer, updates=self.step - self.skipped)
        changes = environment_changes(checkpoint.state.get("environment"), self._environment)
        if changes and self.run.workers.is_chief:
            say(
                "Warning: other devices, threads or libraries than before round differently, so "
                "training resumes exactly where it stopped, but not to the same last bits as "
                f"without the stop ({'; '.join(changes)})."
            )

    def speed(self) -> dict[str, float]:
        """The figures of `Throughput.overall`; none if this trainer has made few steps or none."""
        return self._throughput.overall()

    @property
    def batch_size(self) -> int:
        """Examples of the next step, over all replicas."""
        return self.run.settings.batch_size(self.step)

    def save(self) -> str | None:
        """Writes a checkpoint of the present step; returns its folder once it is on the disk."""
        self._begin_save()
        return self._finish_save()

    def train(self, make_dataset: MakeDataset, hooks: Hooks = _NO_HOOKS) -> None:
        """Trains to `settings.num_train_steps`, saving on the way and at the end.

        It ends earlier if the hook `evaluate` asks for it, on all workers alike.

        Args:
            make_dataset: (position in examples, input context) -> the data from there on, in
                batches of `batch_size`.
            hooks: what is called on the way.

        Raises:
            NonFiniteLoss: a loss or gradient was not finite and `on_nonfinite` is "stop".
            Interrupted: a signal asked to stop; a checkpoint was saved.
            UserError: a checkpoint could not be saved; raised after the graph call then running.
        """
        settings, summarize = self.run.settings, self.run.objective.summarize
        if self._is_done():
            return
        iterator, batch_size = self._open_data(make_dataset, hooks), self.batch_size
        self._examples_reported = self.examples_seen
        average = Average(summarize)
        with (
            StopRequest() as stop,
            Progress(settings.num_train_steps, self.step, self.run.description) as progress,
            self._saver,
        ):
            n_steps = 1
            while not self._is_done():
                if self.batch_size != batch_size:
                    iterator, batch_size = self._open_data(make_dataset, hooks), self.batch_size
                    self._is_compiled, n_steps = False, 1  # for batches of this size
                sums, seconds = self._call(iterator, n_steps, hooks, progress)
                seconds_per_step = seconds / n_steps
                self.run.workers.on_chief(self._saver.check)
                self._account(sums, hooks)
                average.add(sums, seconds)
                if self.step % settings.log_every == 0 or self._is_done():
                    self._report(average, sums, progress, hooks)
                    average = Average(summarize)
                if hooks.evaluate and settings.eval_every and self.step % settings.eval_every == 0:
                    self._ends_early = hooks.evaluate() is True
                if self._ends_early or stop.signal:
                    progress.update(self.step)  # there may be no report of the last steps
                self._save_if_due(stop)
                # The chief's number of steps for all: the workers' clocks differ.
                steps = self._steps_of_call(seconds_per_step)
                n_steps = int(self.run.workers.gather([steps])[0, 0])

    def _open_data(self, make_dataset: MakeDataset, hooks: Hooks) -> Iterator:
        """Opens the data at the present position, in place of those that are open."""
        position = self.examples_seen
        if hooks.close:
            hooks.close()
        with _explained(hooks):  # finding a position may read the data
            return distributed_iterator(
                self.run.strategy, lambda context: make_dataset(position, context)
            )

    def _is_done(self) -> bool:
        return self._ends_early or self.step >= self.run.settings.num_train_steps

    def _agreed_signal(self, stop: StopRequest) -> int | None:
        """The signal that has come to one of the workers, if any."""
        return int(self.run.workers.gather([stop.signal or 0]).max()) or None

    def _save_if_due(self, stop: StopRequest) -> None:
        """Begins a save if it is time; waits for the last one of the run."""
        last, signal = self._is_done(), self._agreed_signal(stop)
        if self.step % self.run.settings.save_every and not last and not signal:
            return
        self._begin_save()
        if last or signal:
            path = self._finish_save()
            # One may have come during the wait for the save.
            self.late_signal = self._agreed_signal(stop)
            if signal and not last:
                raise Interrupted(signal, self.step, path)

    def _begin_save(self) -> None:
        seal_programs()  # batches of other lengths than the first have theirs
        optimizer = self.run.optimizer
        self.run.workers.on_chief(
            lambda: self._saver.begin(
                self.step, optimizer.variables.snapshot, optimizer.slots.snapshot, self._state()
            )
        )

    def _finish_save(self) -> str | None:
        """Waits until the checkpoint is on the disk; returns its folder."""
        self.run.workers.on_chief(self._saver.wait)
        return self.run.store.latest()

    def _steps_of_call(self, seconds_per_step: float) -> int:
        """Steps of the next graph call: up to the next event, within the time limit."""
        settings = self.run.settings
        n_steps = min(settings.next_event(self.step) - self.step, settings.iterations_per_loop)
        return max(1, min(n_steps, int(settings.seconds_per_loop / seconds_per_step)))

    def _call(
        self, iterator: Iterator, n_steps: int, hooks: Hooks, progress: Progress
    ) -> tuple[StepSums, float]:
        """Runs a graph call; returns its sums and its duration in seconds."""
        compiles = self.run.settings.jit_compile and not self._is_compiled
        if compiles:
            progress.message("Compiling the training step …")
        start = time.perf_counter()
        with _explained(hooks):
            sums = self._loop(iterator, self.step, n_steps, seed=self.run.settings.seed)
            sums = tf.nest.map_structure(lambda t: t.numpy(), sums)
        seconds = time.perf_counter() - start
        if compiles:
            seal_programs()
            progress.message(f"The first step is done after {duration(seconds)}.")
        self._is_compiled = True
        return sums, seconds

    def _account(self, sums: StepSums, hooks: Hooks) -> None:
        """Advances the position, or stops at a result that is not finite."""
        steps, batch_size = int(sums.steps), self.batch_size
        if sums.last.failed and self.run.settings.on_nonfinite == "stop":
            position = self.examples_seen + (steps - 1) * batch_size
            place = f", {hooks.locate(position)}" if hooks.locate else ""
            self._stop_at(self.step + steps, sums, place)
        self.skipped += steps - int(sums.updates)
        self.step += steps
        self.examples_seen += steps * batch_size

    def _stop_at(self, step: int, sums: StepSums, place: str) -> None:
        newest = self._saver.latest()
        kept = (
            f"The last good checkpoint is kept: {newest}."
            if newest
            else "No checkpoint was saved yet."
        )
        raise NonFiniteLoss(
            "The loss or its gradient is not finite; training stopped before that update.",
            where=f"step {step}, learning rate {float(self.run.schedule(step)):.3g}{place}",
            received=f"loss {float(sums.last.loss)}, "
            f"gradient norm {float(sums.last.gradient_norm)}",
            remedy=f"{kept} Lower learning_rate, lengthen the warm-up, or set on_nonfinite to "
            '"skip" to leave out such updates.',
        )

    def _report(self, average: Average, sums: StepSums, progress: Progress, hooks: Hooks) -> None:
        """Logs and shows the figures since the last report, and what `watch` says of them."""
        figures = self._figures(average, sums)
        self.run.log.write(self.step, figures)
        shown = (
            figures if is_verbose() else {n: v for n, v in figures.items() if n in self.run.shown}
        )
        progress.update(self.step, shown)
        watched = hooks.watch(self.step, figures) if hooks.watch else None
        for warning in filter(None, (watched, self._throughput.warning())):
            progress.message(warning)

    def _figures(self, average: Average, sums: StepSums) -> dict[str, float]:
        figures = average.figures()
        figures["learning_rate"] = float(self.run.schedule(self.step))
        figures |= {name: float(ramp(self.step - 1)) for name, ramp in self.run.ramps.items()}
        if self.run.settings.batch_sizes:
            figures["train_batch_size"] = self.run.settings.batch_size(self.step - 1)
        figures["gradient_norm"] = float(sums.last.gradient_norm)
        if self.run.optimizer.loss_scale is not None:
            figures["loss_scale"] = float(sums.last.loss_scale)
        examples = self.examples_seen - self._examples_reported
        self._examples_reported = self.examples_seen
        figures |= self._throughput.figures(examples, average.seconds, average.waited)
        if self.skipped:
            figures["skipped_updates"] = self.skipped
        return {**figures, **self._totals()}

    def _state(self) -> dict[str, Any]:
        return {
            "examples_seen": self.examples_seen,
            "seed": self.run.settings.seed,
            "global_batch_size": self.run.settings.batch_size(self.step - 1),
            "skipped_updates": self.skipped,
            **self._totals(),
            "environment": self._environment,
            **self.run.identity,
            **self.notes,
        }

    def _totals(self) -> Mapping[str, float]:
        return self.run.totals(self.step) if self.run.totals else {}


def _make_loop(run: TrainingRun) -> StepLoop:
    settings = run.settings
    step = ReplicaStep(
        run.objective,
        run.optimizer,
        micro_batches=settings.micro_batches,
        jit_compile=settings.jit_compile,
        loss_scale=run.optimizer.loss_scale,
    )
    return StepLoop(
        run.strategy,
        step.train,
        run.schedule,
        run.ramps,
        stop_at_nonfinite=settings.on_nonfinite == "stop",
        jit_compile=settings.jit_compile,
    )


@contextlib.contextmanager
def _explained(hooks: Hooks) -> Iterator[None]:
    """Replaces an error of the input by one that explains it, if there is one."""
    try:
        yield
    # Python may fail to decode a message of TensorFlow's that quotes a record's bytes.
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        explained = hooks.explain(error) if hooks.explain else None
        if explained is None:
            raise
        raise explained from error
