"""An output folder that appears whole or not at all.

Everything is written into a temporary folder beside the output folder, which takes its place by a
rename at the end. Where the output folder can't be renamed (it is the root of a mounted disk or not
on a local disk), the temporary folder lies in it, and the files move up one by one, metadata.json
last.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import uuid

import filelock

from electra_tf2 import files, outputs
from electra_tf2.data.shards import METADATA
from electra_tf2.errors import UserError, first_of

_LOCK = ".lock"
_OURS = re.compile(r"pretrain_data\.tfrecord-\d+-of-\d+|" + re.escape(METADATA))


class StagedFolder:
    """A context in which the files of an output folder are prepared.

    Leaving it without `publish` removes all that was written, down to parent folders that it made.
    A process that is killed can't do so: its temporary folder is removed by the next build into the
    same output folder.

    Args:
        output_dir: the output folder.
        overwrite: replace an existing data set. By default a folder that isn't empty is an error;
            one that holds files that don't belong to a data set always is.

    Attributes:
        path: the temporary folder, inside the context.

    Raises:
        UserError: on entry, the output folder can't be used.
        OSError: the disk is full, or the like.
    """

    def __init__(self, output_dir: str, *, overwrite: bool = False):
        if files.is_local(output_dir):
            output_dir = os.path.realpath(output_dir)
        self._output_dir = output_dir.rstrip("/") or "/"
        self._overwrite = overwrite
        self._made: list[str] = []
        self._locked = contextlib.ExitStack()
        self.path = ""

    def check(self) -> None:
        """Raises a `UserError` if the output folder can't be used; changes nothing."""
        path = self._output_dir
        if not files.exists(path):
            self._check_place()
            return
        if not files.is_dir(path):
            raise UserError(
                "The output folder is a file.",
                where="--output-dir",
                received=path,
                remedy="Give the path of a folder; it is made if it doesn't exist.",
            )
        try:
            names = [name for name in files.list_dir(path) if not self._is_leftover(name)]
        except OSError as error:
            raise self._unusable(path, files.reason(error)) from error
        foreign = [name for name in names if not _OURS.fullmatch(name)]
        if names and not foreign and not self._overwrite:
            raise UserError(
                "The output folder is not empty.",
                where=path,
                received=first_of(names, 3, ", "),
                remedy="Choose another output folder, or replace the data set in this one with "
                "--overwrite.",
            )
        if foreign:
            raise UserError(
                "The output folder is not empty: it holds files that don't belong to a data set.",
                where=path,
                received=first_of(foreign, 3, ", "),
                remedy="Move them elsewhere, or choose another output folder.",
            )
        self._check_place()

    def _check_place(self) -> None:
        """Whether the temporary folder can be made, see the module's docstring."""
        path = self._output_dir
        home = path if os.path.ismount(path) else os.path.dirname(path)
        if problem := outputs.folder_problem(home):
            raise self._unusable(path, problem)

    @staticmethod
    def _unusable(path: str, received: str) -> UserError:
        return UserError(
            "The output folder can't be written to.",
            where=path,
            received=received,
            remedy="Choose another output folder, or make this one writable.",
        )

    def __enter__(self) -> StagedFolder:
        self._restore_replaced()
        self.check()
        parent, name = os.path.split(self._output_dir)
        self._inside = not files.is_local(parent) or os.path.ismount(self._output_dir)
        home = self._output_dir if self._inside else parent
        self._prefix = f".{name}.partial-"
        try:
            self._make_folders(home)
            if not files.is_local(home):
                self.path = f"{home}/{self._prefix}{uuid.uuid4().hex}"
                files.make_dirs(self.path)
                return self
            self._remove_leftovers(home)
            self.path = tempfile.mkdtemp(prefix=self._prefix, dir=home)
            os.chmod(self.path, 0o777 & ~_umask())
            self._locked.enter_context(_lock(self.path))
        except OSError as error:
            self.__exit__()
            raise self._unusable(home, files.reason(error)) from error
        return self

    def publish(self) -> None:
        """Puts the prepared files in place; everything in them must have been synced.

        Raises:
            UserError: meanwhile, somebody put something else there. The prepared files stay.
        """
        if files.is_local(self.path):
            os.remove(os.path.join(self.path, _LOCK))
            files.sync(self.path)
        try:
            self.check()
        except UserError as error:
            kept, self.path, self._made = self.path, "", []
            remedy = f"The new data set is complete, in {kept}: move that folder to a free place."
            raise error.with_(remedy=remedy) from error
        if self._inside:
            self._move_files()
        else:
            self._swap_folders()
        self.path = ""
        self._made = []

    def __exit__(self, *_: object) -> None:
        if self.path:
            files.remove_tree(self.path, ignore_errors=True)
        self._locked.close()
        with contextlib.suppress(OSError):  # another program put something there
            for folder in reversed(self._made):
                os.rmdir(folder)

    def _swap_folders(self) -> None:
        parent = os.path.dirname(self._output_dir)
        replaced = self._replaced_folder()
        exists = os.path.isdir(self._output_dir)
        if exists:
            os.rename(self._output_dir, replaced)
        try:
            os.rename(self.path, self._output_dir)
        except OSError:
            if exists:
                os.rename(replaced, self._output_dir)
            raise
        files.sync(parent)
        files.remove_tree(replaced, ignore_errors=True)

    def _replaced_folder(self) -> str:
        """Where the folder that is being replaced lies between two renames."""
        parent, name = os.path.split(self._output_dir)
        return os.path.join(parent, f".{name}.replaced")

    def _restore_replaced(self) -> None:
        """Undoes or completes what a build was doing when it was killed between two renames."""
        replaced = self._replaced_folder()
        if not files.is_local(replaced) or not os.path.isdir(replaced):
            return
        if os.path.isdir(self._output_dir):
            files.remove_tree(replaced, ignore_errors=True)
        else:
            os.rename(replaced, self._output_dir)

    def _move_files(self) -> None:
        names = [name for name in files.list_dir(self.path) if name != METADATA]
        old = {name for name in files.list_dir(self._output_dir) if _OURS.fullmatch(name)}
        if METADATA in old:  # so that a mixture is not taken for a data set
            files.remove(os.path.join(self._output_dir, METADATA))
        for name in old - {*names, METADATA}:
            files.remove(os.path.join(self._output_dir, name))
        for name in [*names, METADATA]:
            files.rename(os.path.join(self.path, name), os.path.join(self._output_dir, name))
        files.remove_tree(self.path, ignore_errors=True)
        files.sync(self._output_dir)

    def _make_folders(self, path: str) -> None:
        """Makes a folder, remembering which of the folders above it are new."""
        missing = []
        while files.is_local(path) and not os.path.exists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(folder)
            self._made.append(folder)

    def _is_leftover(self, name: str) -> bool:
        """Whether a name in the output folder is a temporary folder of a build."""
        return name.startswith(f".{os.path.basename(self._output_dir)}.partial-")

    def _remove_leftovers(self, home: str) -> None:
        """Removes temporary folders whose build was killed: no process holds their lock."""
        for name in os.listdir(home):
            if not name.startswith(self._prefix):
                continue
            folder = os.path.join(home, name)
            if os.path.exists(os.path.join(folder, _LOCK)):  # or it isn't a build's
                with contextlib.suppress(OSError), _lock(folder):  # or the build is still running
                    files.remove_tree(folder, ignore_errors=True)


def _lock(folder: str) -> filelock.BaseFileLock:
    """The lock of a temporary folder; the system frees it when the build ends, however it ends."""
    return filelock.FileLock(os.path.join(folder, _LOCK), timeout=0)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
