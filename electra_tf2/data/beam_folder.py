"""The folder through which a Beam job and the program that started it talk.

It lies in the temporary output folder, which all workers must see. The program writes the list of
the corpus files into it; workers write pieces, an error file for what goes wrong, and in the end
the result. Errors go this way, not through Beam: a runner would try a step that fails again a few
times, and then say so in a traceback of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import traceback
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from electra_tf2.data import files
from electra_tf2.data.corpus import CorpusFile
from electra_tf2.data.metadata import Shard
from electra_tf2.data.output_errors import output_errors_explained
from electra_tf2.data.record_builder import Counts
from electra_tf2.errors import UserError

NOT_SHARED = "A Beam worker doesn't see the output folder."
STRETCH_FILES = 4096  # so that a corpus of small files is planned by more than one worker
_LIST = "files.jsonl"
_CRASH = "crash"
_ERRORS = "errors"
_RESULT = "result.json"
_PARTIAL = ".partial"


class Stretch(NamedTuple):
    """Consecutive files of the corpus, in the order of their examples.

    Attributes:
        number: Its place among the stretches, from 0.
        start: The byte at which it begins in the list of files.
        size: Its bytes in that list.
    """

    number: int
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class JobFolder:
    """A Beam job's folder.

    Attributes:
        directory: The folder that the shards go to, in which this one lies.
        output_dir: The output folder as the user knows it, for messages.
    """

    directory: str
    output_dir: str

    @property
    def path(self) -> str:
        """The folder."""
        return os.path.join(self.directory, ".beam")

    @property
    def pieces(self) -> str:
        """The folder in it for pieces and unfinished shards."""
        return os.path.join(self.path, "pieces")

    def make(self, ordered: Iterable[CorpusFile], stretch_bytes: int) -> list[Stretch]:
        """Makes the folder and writes the list of files.

        Args:
            ordered: The corpus files, in the order of their examples.
            stretch_bytes: A stretch is ended when its files have this many bytes.

        Returns:
            The stretches.
        """
        for folder in (self.pieces, os.path.join(self.path, _ERRORS)):
            files.make_dirs(folder)
        stretches = []
        start = end = total = count = 0
        path = os.path.join(self.path, _LIST)
        with files.reported_as_os_errors(path), files.open_binary(path, "wb") as listing:
            for file in ordered:
                end += _write_line(listing, file)
                total, count = total + file.size, count + 1
                if total >= stretch_bytes or count == STRETCH_FILES:
                    stretches.append(Stretch(len(stretches), start, end - start))
                    start, total, count = end, 0, 0
        if end > start:
            stretches.append(Stretch(len(stretches), start, end - start))
        return stretches

    def check(self) -> None:
        """Raises a `UserError` where this folder is not to be seen."""
        if not files.exists(os.path.join(self.path, _LIST)):
            raise self.not_shared()

    def not_shared(self) -> UserError:
        """The error for a worker that doesn't see this folder."""
        return UserError(
            NOT_SHARED,
            where="--output-dir",
            received=self.output_dir,
            remedy="Give a folder of a network file system or of an object store that all workers "
            "reach under the same path, and the corpus likewise.",
        )

    def files_of(self, stretch: Stretch) -> list[CorpusFile]:
        """Reads a stretch's part of the list of files."""
        path = os.path.join(self.path, _LIST)
        with files.reported_as_os_errors(path), files.open_binary(path) as listing:
            listing.seek(stretch.start)
            lines = listing.read(stretch.size).splitlines()
        return [CorpusFile(*json.loads(line)) for line in lines]

    @contextlib.contextmanager
    def errors_reported(self, place: tuple[int, ...]) -> Iterator[None]:
        """A context in which an error ends up in an error file, and the step without a result.

        Args:
            place: Where in the corpus; of several errors the first one in the corpus is shown.
        """
        name = os.path.join(_ERRORS, "-".join(f"{number:012}" for number in place))
        try:
            with output_errors_explained(self.output_dir):
                yield
        except UserError as error:
            received = error.received
            if received is not None and not isinstance(received, str):
                received = repr(received)
            fields = {"where": error.where, "received": received, "remedy": error.remedy}
            self._write_json(name, {"what": error.what, **fields})
        except Exception:
            self._write_json(name, {_CRASH: traceback.format_exc()})

    def has_failed(self) -> bool:
        """Whether a worker has reported an error."""
        return bool(self._reported())

    def raise_reported(self) -> None:
        """Raises the first error that a worker has reported, if any.

        Raises:
            UserError: A worker raised it.
            RuntimeError: A worker raised anything else; the message holds its traceback.
        """
        for name in self._reported():
            content = self._read_json(os.path.join(_ERRORS, name))
            if _CRASH in content:
                raise RuntimeError(f"A Beam worker failed:\n{content[_CRASH]}")
            raise UserError(**content)

    def write_result(self, counts: Counts, shards: Iterable[Shard]) -> None:
        """Writes what was built."""
        content = {
            "counts": dataclasses.asdict(counts),
            "shards": [dataclasses.asdict(shard) for shard in shards],
        }
        self._write_json(_RESULT, content)

    def read_result(self) -> tuple[Counts, tuple[Shard, ...]] | None:
        """Returns the figures and the shards, in order; None where there is no result."""
        if not files.exists(os.path.join(self.path, _RESULT)):
            return None
        content = self._read_json(_RESULT)
        return Counts(**content["counts"]), tuple(Shard(**shard) for shard in content["shards"])

    def remove(self) -> None:
        """Removes the folder."""
        files.remove_tree(self.path)

    def _reported(self) -> list[str]:
        names = files.list_dir(os.path.join(self.path, _ERRORS))
        return [name for name in names if not name.endswith(_PARTIAL)]

    def _write_json(self, name: str, content: Any) -> None:
        path = os.path.join(self.path, name)
        temporary = f"{path}.{uuid.uuid4().hex}{_PARTIAL}"
        with files.reported_as_os_errors(path):
            with files.open_binary(temporary, "wb") as file:
                file.write(json.dumps(content).encode("ascii"))
        files.rename(temporary, path)

    def _read_json(self, name: str) -> Any:
        return json.loads(files.read_bytes(os.path.join(self.path, name)))


def _write_line(listing: BinaryIO, file: CorpusFile) -> int:
    """Writes a file's line; returns its size. Workers don't share the working directory."""
    path = os.path.abspath(file.path) if files.is_local(file.path) else file.path
    # ASCII with escapes: a name that is not UTF-8 comes back as it was.
    line = json.dumps([file.name, path, file.size]).encode("ascii") + b"\n"
    listing.write(line)
    return len(line)
