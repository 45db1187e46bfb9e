"""The checkpoint that all workers of a run go on from."""

from __future__ import annotations

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.workers import Workers


def newest_checkpoint(store: CheckpointStore, workers: Workers) -> str | None:
    """Finds the newest complete checkpoint; called by all workers.

    Args:
        store: of a folder that they share.
        workers: of the run.

    Returns:
        The checkpoint's folder, or None if there is none.

    Raises:
        UserError: the workers don't see the same one.
    """
    workers.on_chief(store.latest)  # it alone tidies up after a save that was cut off
    newest = store.latest()
    workers.check_same_view(f"newest checkpoint in {store.folder}", newest or "none")
    return newest
