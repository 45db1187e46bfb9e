"""Kills a run of pre-training again and again, and compares its end with an undisturbed one's.

    python tests/faults/kill_campaign.py [--kills 20] [--in-writes 5] [--seed N]
        [--hparams '{"distribution": "mirrored"}' --devices 2]

The run is tiny, with dropout. Steps to kill it at are drawn uniformly; some of the kills fall while
the checkpoint of a step is being written: the process is watched from outside, and killed when the
folder's temporary name, or one of the files in it, appears. Such a kill counts if the folder is
still unfinished afterwards. Each time the same command is run again. In the end weights, slots,
metrics.jsonl and the names of all files have to be those of a run that was left alone, bit for bit.

Exit code 0 if they are, every kill left only readable checkpoints and every resume began at the
newest; else 1, and the folders are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.faults.run_outcomes import differences, readable_checkpoints  # noqa: E402
from tests.faults.watched_runs import last_logged  # noqa: E402
from tests.pretraining import tiny  # noqa: E402

SAVE_EVERY = 10
TIME_LIMIT = 300.0  # seconds of one process
# What appears in a checkpoint's temporary folder, in this order; "" is the folder.
PHASES = ("", "weights.safetensors", "optimizer.safetensors", "state.json")
HPARAMS = {
    "untied_generator": False,  # one network for both roles: half the time of compilation
    "save_checkpoints_steps": SAVE_EVERY,
    "keep_checkpoint_max": 2,
    "log_every_steps": 1,
}


class Target(NamedTuple):
    """When to kill: at a step, or (phase not None) in the write of that step's checkpoint."""

    step: int
    phase: str | None = None

    def __lt__(self, other: Target) -> bool:
        return self.step < other.step

    def __str__(self) -> str:
        if self.phase is None:
            return f"step {self.step}"
        return f"write of step {self.step}: {self.phase or 'folder'}"


class Kill(NamedTuple):
    """A kill that was done.

    Attributes:
        target: what was meant.
        begun: step the process began at.
        logged: last step in the log.
        newest: step of the newest complete checkpoint; 0 if there is none.
        unfinished: what lies in the folder of a checkpoint that was being written, or None.
    """

    target: Target
    begun: int
    logged: int
    newest: int
    unfinished: list[str] | None


class Campaign:
    """One run, killed on its way.

    Args:
        data_dir: with the data; the run's files go there too.
        command: options of `tiny.start`.
        stream: of random numbers.
    """

    def __init__(self, data_dir: pathlib.Path, command: dict, stream: random.Random):
        self.data_dir = data_dir
        self.command = command
        self.model_dir = data_dir / "models" / "killed"
        self.kills: list[Kill] = []
        self.problems: list[str] = []
        self._stream = stream
        self._newest = 0
        self._processes = contextlib.ExitStack()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()  # kills what an error left running

    def kill_at(self, target: Target) -> None:
        """Runs the command until the target is reached, and kills it."""
        process, output = self._start()
        self._wait(process, output, lambda: "Training from step" in output.read_text())
        begun = self._check_beginning(output)
        if target.phase is None:
            self._wait(process, output, lambda: last_logged(self.model_dir) >= target.step)
        else:
            self._wait_for_write(process, output, target)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            self.problems.append(f"{target}: the process ended before. {output.read_text()[-500:]}")
        self._look(target, begun)

    def run_to_the_end(self) -> None:
        """Runs the command until it ends by itself."""
        process, output = self._start()
        code = process.wait(TIME_LIMIT)
        if code:
            self.problems.append(f"the last run ended with {code}: {output.read_text()[-500:]}")
        else:
            self._check_beginning(output)

    def _start(self) -> tuple[subprocess.Popen, pathlib.Path]:
        output = self.data_dir / f"stderr-{len(self.kills)}"
        process = start(self.data_dir, "killed", output, self.command)
        self._processes.enter_context(process)
        self._processes.callback(process.kill)
        return process, output

    def _wait(self, process, output, reached, pause=0.002) -> None:
        """Waits until `reached()`, or until the process has ended."""
        deadline = time.monotonic() + TIME_LIMIT
        while process.poll() is None and not reached():
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(output.read_text())
            time.sleep(pause)

    def _wait_for_write(self, process, output, target: Target) -> None:
        folder = self.model_dir / "checkpoints" / f"step-{target.step:08d}"
        waited_for = os.path.join(f"{folder}.tmp", target.phase)
        self._wait(process, output, lambda: last_logged(self.model_dir) >= target.step - 2)
        exists = os.path.exists  # without a pause: a write takes milliseconds
        self._wait(process, output, lambda: exists(waited_for) or exists(folder), pause=0)

    def _check_beginning(self, output: pathlib.Path) -> int:
        found = re.search(r"Resuming at step (\d+)", output.read_text())
        begun = int(found[1]) if found else 0
        if begun != self._newest:
            self.problems.append(f"resumed at step {begun} instead of {self._newest}")
        return begun

    def _look(self, target: Target, begun: int) -> None:
        """Records what a kill left; nothing is changed."""
        complete = readable_checkpoints(self.model_dir)
        newest = max(complete, default=0)
        logged = last_logged(self.model_dir)
        # While a save is under way in the background, the one before is the newest; the save after
        # it is not begun before it has ended.
        if newest < self._newest or logged - newest > 2 * SAVE_EVERY:
            self.problems.append(f"{target}: at step {logged} the newest checkpoint is {newest}")
        # One of a step that is not newer was on its way out.
        written = (
            sorted(os.listdir(folder))
            for folder in (self.model_dir / "checkpoints").glob("*.tmp")
            if int(re.search(r"\d+", folder.name)[0]) > newest
        )
        self.kills.append(Kill(target, begun, logged, newest, next(written, None)))
        self._newest = newest

    def once_more(self, steps: int) -> list[Target]:
        """Another target if the last one was a write that had ended before the kill."""
        last = self.kills[-1]
        saves = range(last.logged // SAVE_EVERY * SAVE_EVERY + SAVE_EVERY, steps, SAVE_EVERY)
        if last.target.phase is None or last.unfinished is not None or not saves:
            return []
        return [last.target._replace(step=self._stream.choice(saves))]

    def in_writes(self) -> int:
        """How many kills were inside a checkpoint's write."""
        return sum(kill.unfinished is not None for kill in self.kills)


def draw_targets(stream: random.Random, kills: int, in_writes: int, steps: int) -> list[Target]:
    """Draws when to kill, in rising order; the phases of the writes take turns."""
    saves = stream.sample(range(SAVE_EVERY, steps, SAVE_EVERY), in_writes)
    writes = [Target(step, PHASES[i % len(PHASES)]) for i, step in enumerate(saves)]
    others = [Target(stream.randint(1, steps - 1)) for _ in range(kills - in_writes)]
    return sorted([*writes, *others])


def start(data_dir: pathlib.Path, name: str, output: pathlib.Path, command: dict):
    """Starts a run whose stderr goes to a file."""
    with open(output, "w") as file:
        return tiny.start(data_dir, name, stderr=file, **command)


def run_campaign(data_dir: pathlib.Path, flags: argparse.Namespace) -> Campaign:
    """Runs the undisturbed run and the other one, and compares them."""
    command = HPARAMS | {"num_train_steps": flags.steps} | json.loads(flags.hparams)
    if flags.devices > 1:
        command["script"] = ROOT / "tests" / "on_devices.py"
        command["env"] = {"VIRTUAL_DEVICES": str(flags.devices)}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        tiny.write_data(data_dir)
    output = data_dir / "stderr-undisturbed"
    stream = random.Random(flags.seed)
    with (
        start(data_dir, "undisturbed", output, command) as undisturbed,
        Campaign(data_dir, command, stream) as campaign,
    ):
        targets = draw_targets(stream, flags.kills, flags.in_writes, flags.steps)
        while targets:
            campaign.kill_at(targets.pop(0))
            print(describe(len(campaign.kills), campaign.kills[-1]), flush=True)
            targets = sorted([*targets, *campaign.once_more(flags.steps)])
        campaign.run_to_the_end()
        code = undisturbed.wait(TIME_LIMIT)
    if code:
        campaign.problems.append(f"undisturbed run: {output.read_text()[-500:]}")
    else:
        print(re.search("Devices: .*", output.read_text())[0])
        campaign.problems += differences(campaign.model_dir, data_dir / "models" / "undisturbed")
    if campaign.in_writes() < flags.in_writes:
        campaign.problems.append(f"only {campaign.in_writes()} kills inside a write")
    return campaign


def describe(number: int, kill: Kill) -> str:
    """A line of the table."""
    inside = "-" if kill.unfinished is None else " ".join(kill.unfinished) or "empty folder"
    return (
        f"{number:>4}  {str(kill.target):42} {kill.begun:>6} {kill.logged:>6} {kill.newest:>6} "
        f"{kill.logged - kill.newest:>4}  {inside}"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="(default 20)")
    parser.add_argument("--in-writes", type=int, help="of them at least (default a quarter)")
    parser.add_argument("--seed", type=int, help="of the steps (default: drawn)")
    parser.add_argument("--steps", type=int, default=400, help="of training (default 400)")
    parser.add_argument("--hparams", default="{}", help="JSON, over those of the tiny run")
    parser.add_argument("--devices", type=int, default=1, help="virtual CPU devices (default 1)")
    flags = parser.parse_args(argv)
    flags.in_writes = max(1, flags.kills // 4) if flags.in_writes is None else flags.in_writes
    flags.seed = random.SystemRandom().randrange(1 << 32) if flags.seed is None else flags.seed
    data_dir = pathlib.Path(tempfile.mkdtemp(prefix="kill_campaign_"))
    print(f"seed {flags.seed}; {flags.steps} steps, a checkpoint every {SAVE_EVERY}", flush=True)
    print(f"{'':4}  {'target':42} {'begun':>6} {'killed':>6} {'newest':>6} {'lost':>4}  unfinished")
    campaign = run_campaign(data_dir, flags)
    for problem in campaign.problems:
        print(f"problem: {problem}")
    print(
        f"{len(campaign.kills)} kills, {campaign.in_writes()} of them inside a checkpoint write; "
        f"{len(campaign.problems)} problems; "
        + (f"see {data_dir}" if campaign.problems else "bit for bit like an undisturbed run")
    )
    if not campaign.problems:
        shutil.rmtree(data_dir)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
