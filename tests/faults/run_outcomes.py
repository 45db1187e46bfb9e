"""What two runs of the same command left behind, held against each other."""

import json

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.throughput import MEASURED
from tests.tensorboard_scalars import scalars

# In metrics.jsonl: what the clock says.
TIMES = ("wall_time", *MEASURED)


def log_lines(model_dir):
    """The lines of metrics.jsonl without times."""
    lines = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
    return [{name: line[name] for name in line if name not in TIMES} for line in lines]


def readable_checkpoints(model_dir):
    """{step: checkpoint} of all there are; raises `UserError` if one of them is damaged."""
    store = CheckpointStore(str(model_dir))
    return {step: store.load(f"{store.folder}/step-{step:08d}") for step in store.steps()}


def differences(ours, theirs):
    """Names what two model folders differ in, down to the bit; [] if in nothing.

    Args:
        ours: of the run that was disturbed.
        theirs: of the run that was not.
    """
    found = _different_arrays(readable_checkpoints(ours), readable_checkpoints(theirs))
    these, those = log_lines(ours), log_lines(theirs)
    if these != those:
        pairs = enumerate(zip(these, those, strict=False))
        first = next((i for i, (one, other) in pairs if one != other), "the last")
        found.append(f"metrics.jsonl: {len(these)} and {len(those)} lines, from line {first} on")
    if (one := _files(ours)) != (other := _files(theirs)):
        found.append(f"files: {sorted(one ^ other)}")
    if (one := _shown_steps(ours)) != (other := _shown_steps(theirs)):
        found.append(f"TensorBoard: {len(one)} and {len(other)} values")
    return found


def _different_arrays(ours, theirs):
    if ours.keys() != theirs.keys():
        return [f"checkpoints of the steps {list(ours)} and {list(theirs)}"]
    found = []
    for step, checkpoint in theirs.items():
        if ours[step].state != checkpoint.state:
            found.append(f"step {step}: {ours[step].state} and {checkpoint.state}")
        for kind in ("weights", "optimizer"):
            these, those = getattr(ours[step], kind), getattr(checkpoint, kind)
            found += [
                f"step {step}: {kind} {name}"
                for name in these.keys() | those.keys()
                if name not in these
                or name not in those
                or these[name].tobytes() != those[name].tobytes()
            ]
    return found


def _files(model_dir):
    """Relative paths, without those of event files, which bear the time."""
    paths = (path.relative_to(model_dir) for path in model_dir.rglob("*"))
    return {str(path) for path in paths if "events." not in path.name}


def _shown_steps(model_dir):
    """(split, tag, step) of all values that TensorBoard shows."""
    return [
        (folder.name, tag, step)
        for folder in sorted(model_dir.glob("tensorboard/*"))
        for tag, values in sorted(scalars(folder).items())
        for step, _ in values
    ]
