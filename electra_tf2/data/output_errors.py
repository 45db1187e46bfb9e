"""What goes wrong while a data set is written, as errors that the user can mend."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from electra_tf2.errors import UserError, disk_full


@contextlib.contextmanager
def output_errors_explained(output_dir: str) -> Iterator[None]:
    """A context that turns what the system says about writing into a `UserError`.

    Args:
        output_dir: The output folder as the user knows it.

    Raises:
        UserError: The disk is full, or the system refused a write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(output_dir, error) from error
        raise UserError(
            "The output can't be written.",
            where=error.filename or output_dir,
            received=error.strerror or str(error),
            remedy="Check the disk and its limits, or choose another output folder.",
        ) from error
