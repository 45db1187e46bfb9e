"""What TensorBoard shows of a folder of event files."""

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator


def scalars(folder):
    """Tag -> [(step, value)] in the order of the reports, as TensorBoard reads them.

    It drops what a resumed run reports again, and skips an event that a crash left half-written.

    Args:
        folder: of one split.
    """
    shown = EventAccumulator(str(folder), size_guidance={SCALARS: 0}, purge_orphaned_data=True)
    shown.Reload()
    tags = shown.Tags()[SCALARS]
    return {tag: [(event.step, event.value) for event in shown.Scalars(tag)] for tag in tags}
