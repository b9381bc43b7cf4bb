"Long trainings and large folders: memory, handles and files stay as they are."

import contextlib
import ctypes
import gc
import io
import os
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from campaigns.common import TINY, Campaign, command, drawn, two_folders

from semst.cli import main
from semst.hooks import Hook, default_hooks
from semst.training import train


LIGHT = dict(  # the least that has every term but the contrast of the identity
    crop=16,
    blocks=1,
    taps=(0, 1, 2, 3),
    embed_dim=8,
    d_strides=(2,),
    patches=8,
    centres=4,
    lambda_identity=0.0,
)


def resident() -> float:
    "Memory of this process, MB."
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Mallinfo(ctypes.Structure):
    "What glibc's mallinfo2 returns."

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks "
        "keepcost".split()
    ]


def in_use() -> float:
    "Memory that was asked for and not given back, MB; 0 without glibc."
    call = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if call is None:
        return 0.0
    call.restype = Mallinfo
    found = call()
    return (found.uordblks + found.hblkhd) / 1e6


def handles() -> int:
    "Open files of this process."
    return len(os.listdir("/proc/self/fd"))


class Meter(Hook):
    "Memory, Python objects and handles, every so many steps."

    def __init__(self, every: int):
        self.every, self.steps, self.memory, self.open = every, [], [], []
        self.used, self.objects = [], []

    def step(self, training, record):
        if training.state.step % self.every == 0:
            gc.collect()
            self.steps.append(training.state.step)
            self.memory.append(resident())
            self.used.append(in_use())
            self.objects.append(sys.getallocatedblocks())
            self.open.append(handles())


def slope(steps: list[int], memory: list[float]) -> float:
    "MB a 1,000 steps over the second half, by least squares."
    half = len(steps) // 2
    return float(np.polyfit(steps[half:], memory[half:], 1)[0] * 1000)


def training_load(root: Path, steps: int, limit: float) -> Campaign:
    """A training at tiny size; `limit` is the steepest slope allowed, MB a 1,000 steps.

    The allocator keeps free memory in pieces, so the resident memory may rise for a while and
    then not. A leak would raise what is in use."""
    campaign = Campaign(f"a training of {steps:,} steps")
    data, meter = two_folders(root), Meter(max(1, steps // 100))
    config = TINY.replace(
        **LIGHT,
        steps=steps,
        checkpoint_every=max(50, steps // 20),
        sample_every=max(50, steps // 20),
        log_every=max(1, steps // 200),
    )
    train(data, root / "run", config, hooks=[*default_hooks(progress=False), meter])
    found, used = slope(meter.steps, meter.memory), slope(meter.steps, meter.used)
    objects = slope(meter.steps, meter.objects)
    kept = len(list((root / "run/checkpoints").iterdir()))
    log = (root / "run/log.jsonl").stat().st_size
    half = meter.open[len(meter.open) // 2 :]
    campaign.notes.append(
        f"in the second half {found:+.2f} MB a 1,000 steps, of which {used:+.2f} MB in use, and "
        f"{objects:+.0f} Python objects; {meter.memory[-1]:.0f} MB at the end"
    )
    campaign.notes.append(
        f"{half[0]} open handles then {half[-1]}, {kept} checkpoints, {log / 1000:.0f} kB of log"
    )
    if max(found, used) > limit or half[-1] > half[0] or kept > config.run.keep + 1:
        campaign.fail("; ".join(campaign.notes))
    else:
        campaign.counts["memory and handles constant"] += 1
    return campaign


def translation_load(root: Path, run: Path, pictures: int, limit: float) -> Campaign:
    "One call for many pictures, one of them damaged; `limit` is MB a 1,000 pictures."
    campaign, source = (
        Campaign(f"{pictures:,} pictures in one call"),
        drawn(root / "in", pictures, 16, 0),
    )
    (source / f"{pictures // 2:05}.png").write_bytes(b"no picture")
    import semst.commands.translate as translate

    memory, opened, one = [], [], translate.Job.batch

    def metered(*words, **more):
        memory.append(resident())
        opened.append(handles())
        return one(*words, **more)

    translate.Job.batch = metered
    began = time.process_time()
    try:
        code, said = command("translate", run, source, root / "out")
    finally:
        translate.Job.batch = one
    spent = (time.process_time() - began) / pictures * 1000
    found = slope(list(range(len(memory))), memory)
    results = len(list((root / "out").iterdir()))
    campaign.notes.append(
        f"{found:+.2f} MB a 1,000 pictures, {opened[len(opened) // 2]} open handles then "
        f"{opened[-1]}, {spent:.0f} ms of a core a picture"
    )
    name = f"{pictures // 2:05}.png"
    if (
        code != 2
        or name not in said
        or results != pictures - 1
        or found > limit
        or opened[-1] > opened[1]
    ):
        campaign.fail(f"code {code}, {results} results, {campaign.notes[-1]}, {said[-200:]!r}")
    else:
        campaign.counts["all translated, the damaged one named"] += 1
    return campaign


def linked(folder: Path, files: int) -> Path:
    "A folder of many files, hard links to few."
    few = sorted(drawn(folder.with_name(f"{folder.name} few"), 8, 20, 3).iterdir())
    folder.mkdir()
    for i in range(files):
        os.link(few[i % len(few)], folder / f"{i:06}.png")
    return folder


class Terminal(io.StringIO):
    "A stream on which a progress bar moves."

    def isatty(self) -> bool:
        return True


def timed(*words: object) -> tuple[int, str, float]:
    "A command at a terminal: exit code, what it said, and the seconds of a core that it took."
    said, begun = Terminal(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return code, said.getvalue(), time.process_time() - begun


def files_load(root: Path, files: int) -> Campaign:
    "Folders of many files: a bar at the first look, and a look that is remembered at the second."
    campaign = Campaign(f"folders of {files:,} files")
    source, target = linked(root / "source", files), drawn(root / "target", 5, 20, 1)
    train = "train --preset tiny --crop 16 --load-size 18 --ngf 4 --ndf 4 --d-strides 2 --steps 1"
    train = [*train.split(), "--workers", 0, "--source", source, "--target", target, "--out"]
    commands = {
        "`semst data check`": ["data", "check", source, target, "--crop", 16],
        "`semst train`": train,
    }
    for name, words in commands.items():
        cache, seconds = dict(XDG_CACHE_HOME=str(root / f"cache of {words[0]}")), []
        for time_of in ("first", "second"):
            out = [root / f"run {time_of}"] if words[0] == "train" else []
            with mock.patch.dict(os.environ, cache):
                code, said, spent = timed(*words, *out)
            seconds.append(spent)
            if code or "Traceback" in said:
                campaign.fail(f"{name}, {time_of} time: code {code}, {said[-300:]}")
            elif ("check images" in said) != (time_of == "first"):
                campaign.fail(f"{name}, {time_of} time: {said[:300]}")
            else:
                campaign.counts["began"] += 1
        campaign.notes.append(
            f"{name} takes {seconds[0]:.0f} s of a core the first time, {seconds[1]:.0f} s the "
            "second"
        )
    return campaign
