"""Building the shards of a data set with Apache Beam, on any of its runners."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from electra_tf2.data.beam_folder import NOT_SHARED, JobFolder
from electra_tf2.data.corpus import TextCorpus
from electra_tf2.data.metadata import Shard
from electra_tf2.data.openwebtext import TarCorpus
from electra_tf2.data.record_builder import Counts
from electra_tf2.data.workers import PartMaker
from electra_tf2.errors import UserError

STRETCH_BYTES = 64 << 20

class BeamJob:
    """A Beam runner with its options, checked.

    Args:
        runner: A runner's name as Beam knows it, or the full name of a class.
        options: Beam's pipeline options, as on a command line.

    Raises:
        UserError: Beam isn't installed, or doesn't know the runner or an option's value.
    """

    def __init__(self, runner: str, options: Sequence[str]):
        self.runner = runner
        self._pipeline = _make_pipeline(runner, options)

    def build_shards(
        self,
        corpus: TextCorpus | TarCorpus,
        make_maker: Callable[[], PartMaker],
        num_shards: int,
        folder: JobFolder,
    ) -> tuple[Counts, tuple[Shard, ...]]:
        """Builds the shards; they are those of the plain builder, byte for byte.

        Args:
            corpus: The corpus.
            make_maker: Loads the tokenizer and returns what makes the parts of a task. Must be
                picklable.
            num_shards: Number of shards.
            folder: The job's folder; it is made, and removed at the end. The shards are written
                beside it.

        Returns:
            The figures, and the shards in order.

        Raises:
            UserError: A part of the corpus can't be used, the output can't be written, or the
                runner gave up.
            RuntimeError: A step has a bug; the message holds the worker's traceback.
            OSError: The folder can't be written to.
        """
        from electra_tf2.data.beam_steps import connect

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

    def _run(self, folder: JobFolder) -> str:
        """Runs the pipeline to its end; returns the state that it ended in."""
        try:
            result = self._pipeline.run()
            try:
                return result.wait_until_finish()
            except BaseException:
                # Ctrl-C, for one: without us the workers would write into a folder that is gone.
                with contextlib.suppress(Exception):
                    result.cancel()
                raise
        except Exception as error:
            folder.raise_reported()
            if NOT_SHARED in str(error):
                raise folder.not_shared() from error
            # Not an error of a step, which would have been reported: a lost worker, a runner that
            # is not there, a worker without this package.
            last_line = str(error).strip().rpartition("\n")[2]
            raise UserError(
                "The Beam job failed.",
                where=f"--runner {self.runner}",
                received=f"{type(error).__name__}: {last_line}",
                remedy="See the runner's own log; docs/large_corpora.md says what runners need.",
            ) from error


def _make_pipeline(runner: str, options: Sequence[str]) -> Any:
    try:
        import apache_beam as beam
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise UserError(
            "Apache Beam is not installed.",
            where=f"--runner {runner}",
            received=str(error),
            remedy="pip install 'electra-tf2[beam]'",
        ) from error
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


def _parse_options(options: Sequence[str]) -> Any:
    from apache_beam.options.pipeline_options import (
        PipelineOptions,
        TypeOptions,
        WorkerOptions,
    )

    parsed = PipelineOptions(list(options))
    parsed.get_all_options()  # parses all of them, which Beam otherwise does where it needs one
    # This pipeline has no triggers; with the option, Beam's DirectRunner runs it itself. Without,
    # it would download and use another runner, Prism, which knows no --direct_num_workers.
    parsed.view_as(TypeOptions).allow_unsafe_triggers = True
    worker_options = parsed.view_as(WorkerOptions)
    if worker_options.default_sdk_harness_log_level is None:
        worker_options.default_sdk_harness_log_level = "WARNING"  # INFO is many lines per worker
    return parsed


@contextlib.contextmanager
def _argument_errors_explained() -> Iterator[None]:
    """Beam parses its options with argparse, which prints a long text and leaves the program."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as error:
        if not error.code:
            raise  # --help
        raise ValueError(said.getvalue().strip().rpartition("error: ")[2]) from error
