"""Watching a run from outside."""

import re
import time


def last_logged(model_dir):
    """The last step in metrics.jsonl, which a run may be writing to; 0 if there is none."""
    path = model_dir / "metrics.jsonl"
    steps = re.findall(r'"step": (\d+)', path.read_text()) if path.exists() else []
    return int(steps[-1]) if steps else 0


def wait_for_step(process, model_dir, step):
    """Waits until the log has reached a step; the process's stderr is piped."""
    deadline = time.monotonic() + 300
    while last_logged(model_dir) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
