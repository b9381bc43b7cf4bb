"Trainings whose memory is full: the machine's, a GPU's, /dev/shm, and loader processes killed."

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from campaigns.common import TINY, Campaign, child, difference, ended, result_of, tiny_training
from campaigns.disks import told, unhurt

from semst.checkpoint import last_checkpoint
from semst.hooks import Hook, default_hooks
from semst.state import TrainState
from semst.training import train

WORKERS = TINY.replace(workers=1)
SAVED = "ended with code 1, a line of advice and its checkpoint, then equal"


def tried(campaign: Campaign, what: str, data, run: Path, right: dict, work, least: int = 0):
    """One training whose memory runs out, in a child.

    It must end with exit code 1 and one line that says what to change, with a checkpoint of step
    `least` or later, and go on from there to the same end."""
    log = run.with_suffix(".log")
    code, said = ended(child(work, log)), log.read_text()
    newest = last_checkpoint(run) if run.exists() else None
    step = int(newest.name.removeprefix("step_")) if newest else 0
    lines = [line for line in said.splitlines() if line.startswith("semst: ")]
    advice = len(lines) == 1 and ("try a smaller" in lines[0] or "--workers 0" in lines[0])
    if code == 0:
        campaign.counts["went through"] += 1
    elif code != 1 or "Traceback" in said or not advice:
        campaign.fail(f"{what}: code {code}, {said[-600:]}")
    elif step < least or newest and f"{newest}: go on" not in lines[0]:
        campaign.fail(f"{what}: the newest checkpoint is {newest}, {lines}")
    elif ended(child(lambda: tiny_training(data, run), log)):
        campaign.fail(f"{what}: resumed, {log.read_text()[-300:]}")
    elif wrong := difference(result_of(run), right):
        campaign.fail(f"{what}: after the fault {wrong}")
    else:
        campaign.counts[SAVED] += 1


def raising_at(call: str, number: int) -> Callable[[], None]:
    "In this process, the given call of a part of the step finds the GPU's memory full."
    owner = torch.Tensor if call == "backward" else TrainState
    right, left = getattr(owner, call), [number]

    def patched(*args, **more):
        left[0] -= 1
        if left[0] == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return right(*args, **more)

    return lambda: setattr(owner, call, patched)


def gpu_campaign(root: Path, steps: tuple[int, ...]) -> Campaign:
    "A GPU's memory is full, as PyTorch says it, at every part of a step."
    campaign, (data, right) = Campaign("a GPU's memory is full (simulated)"), unhurt(root)
    places = {"translate": (2, 1, 0), "backward": (3, 1, 0), "optimizer_step": (2, 1, 0)}
    for step in steps:
        for call, (calls, first, _) in places.items():
            number, run = calls * (step - 1) + first, root / f"{call}{step}"

            def work(call=call, number=number, run=run):
                raising_at(call, number)()
                return told(lambda: tiny_training(data, run))

            # nothing of the step was done, so the step before it is kept
            tried(campaign, f"{call} of step {step}", data, run, right, work, step - 1)

        def late(run=root / f"late{step}", number=2 * step):
            raising_at("optimizer_step", number)()
            return told(lambda: tiny_training(data, run))

        kept = (step - 1) // TINY.run.checkpoint_every * TINY.run.checkpoint_every
        run = root / f"late{step}"
        tried(campaign, f"the generator's part of step {step}", data, run, right, late, kept)
    return campaign


class Limit(Hook):
    "From the end of a step on (0: from the start), this process may take so many more bytes."

    def __init__(self, at: int, more: int):
        self.at, self.more = at, more

    def start(self, training):
        if self.at == 0:
            self.limit()

    def step(self, training, record):
        if training.state.step == self.at:
            self.limit()

    def limit(self):
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize() + self.more
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def in_a_program(name: str, *args, before: Sequence[str] = ()) -> int:
    """Call a function of this module with words, in a Python that has done nothing else.

    Memory that this process has freed would otherwise serve a training beyond its limit."""
    code = f"import sys; from campaigns.memory import {name} as go; sys.exit(go(*sys.argv[1:]))"
    words = [*before, sys.executable, "-c", code, *map(str, args)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(words, env=env, stdout=1, stderr=2).returncode


def limited_training(run: str, source: str, target: str, at: str, more: str) -> int:
    "A training that may take `more` bytes after step `at`."
    torch.set_num_threads(1)
    hooks = [Limit(int(at), int(more)), *default_hooks(progress=False)]
    return told(lambda: train((Path(source), Path(target)), Path(run), TINY, hooks=hooks))


def host_campaign(root: Path, trials: int) -> Campaign:
    "Limits on the memory that a training may take after it began."
    campaign, (data, right) = Campaign("the machine's memory is full"), unhurt(root)
    for trial in range(trials):
        at, more, run = trial % 2, trial * 12_000_000 // trials, root / f"run{trial}"

        def work(at=at, more=more, run=run):
            return in_a_program("limited_training", run, *data, at, more)

        tried(campaign, f"{more} more bytes after step {at}", data, run, right, work)
    return campaign


class KillLoader(Hook):
    "At a step, a loader process is killed, as a system without memory does it."

    def __init__(self, at: int):
        self.at = at

    def step(self, training, record):
        if training.state.step == self.at:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)


def loader_campaign(root: Path, steps: tuple[int, ...]) -> Campaign:
    "A loader process is killed."
    campaign, (data, right) = Campaign("a loader process is killed"), unhurt(root)
    config = WORKERS.replace(steps=TINY.optimizer.steps)
    for step in steps:
        run = root / f"run{step}"

        def work(step=step, run=run):
            hooks = [KillLoader(step), *default_hooks(progress=False)]
            return told(lambda: train(data, run, config, hooks=hooks))

        tried(campaign, f"at step {step}", data, run, right, work, step)
    return campaign


class Hold(Hook):
    "No batch is given back, so a small /dev/shm becomes full."

    def start(self, training):
        right, self.held = training.step, []

        def step(batch):
            self.held.append(batch)
            return right(batch)

        training.step = step


def shared_training(run: str, source: str, target: str) -> int:
    "A training in a program whose /dev/shm is a small disk: it becomes full."
    torch.set_num_threads(1)
    hooks = [Hold(), *default_hooks(progress=False)]
    return told(lambda: train((Path(source), Path(target)), Path(run), WORKERS, hooks=hooks))


def shared_campaign(root: Path, trials: int) -> Campaign:
    "A full /dev/shm; without the right to mount one, nothing is tried and that is said."
    campaign, small = Campaign("/dev/shm is full"), "mount -t tmpfs -o size={}k tmpfs /dev/shm && "
    words = ["unshare", "-m", "sh", "-c", small.format(64) + "true"]
    if shutil.which("unshare") is None or subprocess.run(words, capture_output=True).returncode:
        campaign.notes.append("not tried: no right to mount a disk")
        return campaign
    data, right = unhurt(root)
    for trial in range(trials):
        run = root / f"run{trial}"              # a batch takes 24 kB

        def work(run=run, size=96 + 24 * trial):
            before = ["unshare", "-m", "sh", "-c", small.format(size) + 'exec "$@"', "sh"]
            return in_a_program("shared_training", run, *data, before=before)

        tried(campaign, f"trial {trial}", data, run, right, work, 1)
    return campaign
