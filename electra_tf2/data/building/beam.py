"""Building the shards of a data set with Apache Beam, on any of its runners.

Beam sends the steps to its workers, where this package must be installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions, WorkerOptions
from apache_beam.pvalue import AsSideInput, AsSingleton, PCollection

from electra_tf2.data.building.beam_files import (
    NOT_SHARED,
    PIECE_BYTES,
    JobFolder,
    Layout,
    Stretch,
    WrittenPiece,
    lay_out,
    write_pieces,
    write_shard,
)
from electra_tf2.data.building.builders import Counts
from electra_tf2.data.building.corpus import Corpus
from electra_tf2.data.building.worker_pool import PartMaker
from electra_tf2.data.shards import Shard, shard_name
from electra_tf2.errors import UserError

STRETCH_BYTES = 64 << 20
SLICE_TASKS = 64  # half a megabyte of text each, or an archive


class BeamJob:
    """A Beam runner with its options, checked.

    Args:
        runner: a runner's name as Beam knows it, or the full name of a class.
        options: Beam's pipeline options, as on a command line.

    Raises:
        UserError: Beam doesn't know the runner or an option's value.
    """

    def __init__(self, runner: str, options: Sequence[str]):
        self.runner = runner
        self._pipeline = _make_pipeline(runner, options)

    def build_shards(
        self,
        corpus: Corpus,
        make_maker: Callable[[], PartMaker],
        num_shards: int,
        folder: JobFolder,
    ) -> tuple[Counts, tuple[Shard, ...]]:
        """Builds the shards; they are those of the plain builder, byte for byte.

        Args:
            make_maker: loads the tokenizer and returns what makes the parts of a task. Must be
                picklable.
            num_shards: number of shards.
            folder: the job's folder; it is made, and removed at the end. The shards are written
                beside it.

        Returns:
            The figures, and the shards in order.

        Raises:
            UserError: a part of the corpus can't be used, the output can't be written, or the
                runner gave up.
            RuntimeError: a step has a bug; the message holds the worker's traceback.
            OSError: the folder can't be written to.
        """
        connect(
            self._pipeline,
            folder=folder,
            stretches=folder.make(corpus.in_order(), STRETCH_BYTES),
            corpus=dataclasses.replace(corpus, files=()),
            make_maker=make_maker,
            num_shards=num_shards,
        )
        state = self._run(folder)
        folder.raise_reported()
        result = folder.read_result()
        if result is None:
            raise UserError(
                "The Beam job ended without a result.",
                where=f"--runner {self.runner}",
                received=f"state {state}",
                remedy="See the runner's own log, and check that all workers see the output "
                "folder.",
            )
        folder.remove()
        return result

    def _run(self, folder: JobFolder) -> str | None:
        """Runs the pipeline to its end; returns the state that it ended in."""
        try:
            result = self._pipeline.run()
            try:
                return result.wait_until_finish()
            except BaseException:
                # For example Ctrl-C: without us the workers would write into a deleted folder.
                with contextlib.suppress(Exception):
                    result.cancel()
                raise
        except Exception as error:
            folder.raise_reported()
            if NOT_SHARED in str(error):
                raise folder.not_shared() from error
            # Not an error of a step, which would have been reported: a lost worker, a missing
            # runner, a worker without this package.
            last_line = str(error).strip().rpartition("\n")[2]
            raise UserError(
                "The Beam job failed.",
                where=f"--runner {self.runner}",
                received=f"{type(error).__name__}: {last_line}",
                remedy="See the runner's own log; docs/large_corpora.md says what runners need.",
            ) from error


def _make_pipeline(runner: str, options: Sequence[str]) -> beam.Pipeline:
    try:
        with _argument_errors_explained():
            return beam.Pipeline(runner=runner, options=_parse_options(options))
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(
            "Beam can't use this runner with these options.",
            where=f"--runner {runner}" + (f" -- {' '.join(options)}" if options else ""),
            received=str(error),
            remedy="See https://beam.apache.org/documentation/ for the runner's name, its options "
            "and what to install for it.",
        ) from error


def _parse_options(options: Sequence[str]) -> PipelineOptions:
    parsed = PipelineOptions(list(options))
    parsed.get_all_options()  # parses all of them, which Beam otherwise does where it needs one
    # This pipeline has no triggers; with the option, Beam's DirectRunner runs it itself. Without,
    # it would download and use another runner, Prism, which doesn't know --direct_num_workers.
    parsed.view_as(TypeOptions).allow_unsafe_triggers = True
    worker_options = parsed.view_as(WorkerOptions)
    if worker_options.default_sdk_harness_log_level is None:
        worker_options.default_sdk_harness_log_level = "WARNING"  # INFO is many lines per worker
    return parsed


@contextlib.contextmanager
def _argument_errors_explained() -> Iterator[None]:
    """Beam parses its options with argparse, which prints a long text and exits."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as error:
        if not error.code:
            raise  # --help
        raise ValueError(said.getvalue().strip().rpartition("error: ")[2]) from error


class Slice(NamedTuple):
    """Consecutive tasks of a corpus: what one worker builds at a time.

    Attributes:
        place: the numbers of its stretch and, in the stretch, of itself.
        tasks: the tasks.
    """

    place: tuple[int, int]
    tasks: tuple[Any, ...]


class CheckAndCut(beam.DoFn):
    """Stretches -> slices, once the stretch's files have been checked."""

    def __init__(self, folder: JobFolder, corpus: Corpus, slice_tasks: int):
        self._folder = folder
        self._corpus = corpus
        self._slice_tasks = slice_tasks

    def process(self, stretch: Stretch) -> Iterator[Slice]:
        """Yields the slices of a stretch."""
        self._folder.check()
        with self._folder.errors_reported((stretch.number,)):
            ordered = self._folder.files_of(stretch)
            corpus = dataclasses.replace(self._corpus, files=ordered)
            corpus.check()
            tasks = corpus.tasks_of(ordered)
            number = 0
            while chosen := tuple(itertools.islice(tasks, self._slice_tasks)):
                yield Slice((stretch.number, number), chosen)
                number += 1


class BuildPieces(beam.DoFn):
    """Slices -> pieces.

    Args:
        make_maker: loads the tokenizer and returns what makes the parts of a task.
        num_shards: number of shards.
        piece_bytes: see `write_pieces`.
    """

    def __init__(
        self,
        folder: JobFolder,
        make_maker: Callable[[], PartMaker],
        num_shards: int,
        piece_bytes: int,
    ):
        self._folder = folder
        self._make_maker = make_maker
        self._num_shards = num_shards
        self._piece_bytes = piece_bytes
        self._make_parts: PartMaker | None = None  # made on the worker, once for many slices

    def process(self, slice_: Slice) -> Iterator[WrittenPiece]:
        """Yields the pieces of a slice; none once a worker has failed."""
        self._folder.check()
        if self._folder.has_failed():
            return
        with self._folder.errors_reported(slice_.place):
            make_parts = self._make_parts = self._make_parts or self._make_maker()
            parts = (part for task in slice_.tasks for part in make_parts(task))
            yield from write_pieces(
                parts, self._folder.pieces, slice_.place, self._num_shards, self._piece_bytes
            )


class WriteShard(beam.DoFn):
    """Numbers of shards -> shards."""

    def __init__(self, folder: JobFolder, num_shards: int):
        self._folder = folder
        self._num_shards = num_shards

    def process(self, index: int, layout: Layout) -> Iterator[Shard]:
        """Yields the shard; nothing once a worker has failed."""
        folder = self._folder
        folder.check()
        if folder.has_failed():
            return
        with folder.errors_reported((index,)):
            yield write_shard(layout, index, self._num_shards, folder.directory, folder.pieces)


def finish(shards: Iterable[Shard], layout: Layout, folder: JobFolder, num_shards: int) -> None:
    """Writes the result, if all shards are there."""
    folder.check()
    by_name = {shard.name: shard for shard in shards}
    if len(by_name) == num_shards:
        names = (shard_name(index, num_shards) for index in range(num_shards))
        folder.write_result(layout.counts, [by_name[name] for name in names])


def connect(
    pipeline: beam.Pipeline,
    *,
    folder: JobFolder,
    stretches: Sequence[Stretch],
    corpus: Corpus,
    make_maker: Callable[[], PartMaker],
    num_shards: int,
) -> None:
    """Adds the steps of a build to a pipeline.

    Args:
        pipeline: an empty pipeline.
        folder: the job's folder, made.
        stretches: the stretches of its list of files.
        corpus: the corpus, without its files.
        make_maker: loads the tokenizer and returns what makes the parts of a task.
        num_shards: number of shards.
    """
    # Reshuffle redistributes the elements: what comes from one worker goes to all. A runner that
    # completes it before the next step finds all text that is not UTF-8 before it builds anything.
    layout = AsSingleton(
        pipeline
        | "Stretches" >> _spread(stretches)
        | "CheckAndCut" >> _step(CheckAndCut(folder, corpus, SLICE_TASKS))
        | "SpreadSlices" >> beam.Reshuffle()
        | "BuildPieces" >> _step(BuildPieces(folder, make_maker, num_shards, PIECE_BYTES))
        | "AllPieces" >> beam.combiners.ToList()
        | "LayOut" >> beam.Map(lay_out).with_output_types(Any)
    )
    _ = (
        pipeline
        | "Shards" >> _spread(range(num_shards))
        | "WriteShard" >> _step(WriteShard(folder, num_shards), layout)
        | "AllShards" >> beam.combiners.ToList()
        | "Finish" >> beam.Map(finish, layout, folder, num_shards).with_output_types(Any)
    )


@beam.ptransform_fn
def _spread(pipeline: beam.Pipeline, elements: Iterable[Any]) -> PCollection:
    created = pipeline | beam.Create(list(elements)).with_output_types(Any)
    return created | beam.Reshuffle()  # pyright: ignore[reportReturnType] # Beam doesn't type |


def _step(step: beam.DoFn, *side_inputs: AsSideInput) -> beam.PTransform:
    # Without the type, Beam would look for a schema of the tuples that go from step to step.
    return beam.ParDo(step, *side_inputs).with_output_types(Any)
