"""The steps of a Beam job. Beam sends them to its workers, where this package must be installed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam

from electra_tf2.data.beam_folder import JobFolder, Stretch
from electra_tf2.data.beam_pieces import (
    PIECE_BYTES,
    Layout,
    Piece,
    lay_out,
    write_pieces,
    write_shard,
)
from electra_tf2.data.corpus import TextCorpus
from electra_tf2.data.metadata import Shard
from electra_tf2.data.openwebtext import TarCorpus
from electra_tf2.data.shards import shard_name
from electra_tf2.data.workers import PartMaker

SLICE_TASKS = 64  # half a megabyte of text each, or an archive


class Slice(NamedTuple):
    """Consecutive tasks of a corpus: what one worker builds at a time.

    Attributes:
        place: The numbers of its stretch and, in the stretch, of itself.
        tasks: The tasks.
    """

    place: tuple[int, int]
    tasks: tuple[Any, ...]


class CheckAndCut(beam.DoFn):
    """Stretches -> slices, once the stretch's files have been checked.

    Args:
        folder: The job's folder.
        corpus: The corpus, without its files.
        slice_tasks: Tasks of a slice.
    """

    def __init__(self, folder: JobFolder, corpus: TextCorpus | TarCorpus, slice_tasks: int):
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
        folder: The job's folder.
        make_maker: Loads the tokenizer and returns what makes the parts of a task.
        num_shards: Number of shards.
        piece_bytes: See `write_pieces`.
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

    def process(self, slice_: Slice) -> Iterator[Piece]:
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
    """Numbers of shards -> shards.

    Args:
        folder: The job's folder.
        num_shards: Number of shards.
    """

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
    """Writes the result, if there is one."""
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
    corpus: TextCorpus | TarCorpus,
    make_maker: Callable[[], PartMaker],
    num_shards: int,
) -> None:
    """Adds the steps of a build to a pipeline.

    Args:
        pipeline: An empty pipeline.
        folder: The job's folder, made.
        stretches: What it was made of.
        corpus: The corpus, without its files.
        make_maker: Loads the tokenizer and returns what makes the parts of a task.
        num_shards: Number of shards.
    """
    # Reshuffle hands the elements out anew: what comes from one worker goes to all. A runner that
    # completes it before it goes on finds all text that is not UTF-8 before it builds anything.
    layout = beam.pvalue.AsSingleton(
        pipeline
        | "Stretches" >> _spread(stretches)
        | "CheckAndCut" >> _step(CheckAndCut(folder, corpus, SLICE_TASKS))
        | "SpreadSlices" >> beam.Reshuffle()
        | "BuildPieces" >> _step(BuildPieces(folder, make_maker, num_shards, PIECE_BYTES))
        | "AllPieces" >> beam.combiners.ToList()
        | "LayOut" >> beam.Map(lay_out).with_output_types(Any)
    )
    (
        pipeline
        | "Shards" >> _spread(range(num_shards))
        | "WriteShard" >> _step(WriteShard(folder, num_shards), layout)
        | "AllShards" >> beam.combiners.ToList()
        | "Finish" >> beam.Map(finish, layout, folder, num_shards).with_output_types(Any)
    )


@beam.ptransform_fn
def _spread(pipeline: beam.Pipeline, elements: Iterable[Any]) -> beam.PCollection:
    return pipeline | beam.Create(list(elements)).with_output_types(Any) | beam.Reshuffle()


def _step(step: beam.DoFn, *side_inputs: beam.pvalue.AsSideInput) -> beam.PTransform:
    # Without the type, Beam would look for a schema of the tuples that go from step to step.
    return beam.ParDo(step, *side_inputs).with_output_types(Any)
