"Long trainings and large folders: memory, handles and files stay as they are."

import gc
import os
import time
from pathlib import Path

import numpy as np
from campaigns.common import TINY, Campaign, command, drawn, two_folders

from semst.hooks import Hook, default_hooks
from semst.training import train


def resident() -> float:
    "Memory of this process, MB."
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    "Open files of this process."
    return len(os.listdir("/proc/self/fd"))


class Meter(Hook):
    "Memory and handles, every so many steps."

    def __init__(self, every: int):
        self.every, self.steps, self.memory, self.open = every, [], [], []

    def step(self, training, record):
        if training.state.step % self.every == 0:
            gc.collect()
            self.steps.append(training.state.step)
            self.memory.append(resident())
            self.open.append(handles())


def slope(steps: list[int], memory: list[float]) -> float:
    "MB a 1,000 steps over the second half, by least squares."
    half = len(steps) // 2
    return float(np.polyfit(steps[half:], memory[half:], 1)[0] * 1000)


def training_load(root: Path, steps: int, limit: float) -> Campaign:
    "A training at tiny size; `limit` is the steepest slope allowed, MB a 1,000 steps."
    campaign = Campaign(f"a training of {steps} steps")
    data, meter = two_folders(root), Meter(max(1, steps // 100))
    config = TINY.replace(
        steps=steps,
        checkpoint_every=max(50, steps // 20),
        sample_every=max(50, steps // 20),
        log_every=max(1, steps // 200),
    )
    train(data, root / "run", config, hooks=[*default_hooks(progress=False), meter])
    found = slope(meter.steps, meter.memory)
    kept = len(list((root / "run/checkpoints").iterdir()))
    log = (root / "run/log.jsonl").stat().st_size
    half = meter.open[len(meter.open) // 2 :]
    campaign.notes.append(
        f"{found:+.2f} MB a 1,000 steps, {meter.memory[-1]:.0f} MB at the end, {half[0]} open "
        f"handles then {half[-1]}, {kept} checkpoints, {log / 1000:.0f} kB of log"
    )
    if found > limit or half[-1] > half[0] or kept > config.run.keep + 1:
        campaign.fail(campaign.notes[-1])
    else:
        campaign.counts["memory and handles constant"] += 1
    return campaign


def translation_load(root: Path, run: Path, pictures: int, limit: float) -> Campaign:
    "One call for many pictures, one of them damaged; `limit` is MB a 1,000 pictures."
    campaign, source = (
        Campaign(f"{pictures} pictures in one call"),
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
    began = time.monotonic()
    try:
        code, said = command("translate", run, source, root / "out")
    finally:
        translate.Job.batch = one
    found = slope(list(range(len(memory))), memory)
    results = len(list((root / "out").iterdir()))
    campaign.notes.append(
        f"{found:+.2f} MB a 1,000 pictures, {opened[len(opened) // 2]} open handles then "
        f"{opened[-1]}, {(time.monotonic() - began) / pictures * 1000:.0f} ms a picture"
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
