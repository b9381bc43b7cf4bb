"Disks that are full or read-only, limits on files, and pictures that change during a training."

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from campaigns.common import (
    TINY,
    Campaign,
    child,
    difference,
    ended,
    result_of,
    tiny_training,
    two_folders,
)
from PIL import Image

from semst.cli import explain
from semst.hooks import Hook, default_hooks
from semst.training import train


def told(work: Callable[[], None]) -> int:
    "Exit code of a training as the command line ends it, with its one message."
    try:
        work()
    except (Exception, KeyboardInterrupt) as error:
        code, why = explain(error)
        print(f"semst: {why}")
        return code
    return 0


def hurt(
    campaign: Campaign,
    what: str,
    data,
    run: Path,
    right: dict,
    work: Callable[[], int],
    mend: Callable[[], None] = lambda: None,
) -> None:
    "One training under a fault: a clear end, and equal to an unhurt one after the fault is gone."
    log = run.parent / f"log{campaign.tried}"
    code, said = ended(child(work, log)), log.read_text()
    mend()
    if code not in (0, 1, 2) or "Traceback" in said or code and "semst: " not in said:
        campaign.fail(f"{what}: code {code}, {said[-400:]}")
        return
    again = ended(child(lambda: tiny_training(data, run), log))
    if again or (wrong := difference(result_of(run), right)):
        campaign.fail(f"{what}: after the fault {log.read_text()[-300:] if again else wrong}")
        return
    campaign.counts["ended with a message, then equal" if code else "went through"] += 1


def unhurt(root: Path) -> tuple[tuple[Path, Path], dict]:
    "The data, and the result of a training without a fault."
    data = two_folders(root)
    assert ended(child(lambda: tiny_training(data, root / "whole"), root / "log")) == 0
    return data, result_of(root / "whole")


def mounted(place: Path, kilobytes: int) -> bool:
    "Mount a small disk in memory; only root can."
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    return (
        shutil.which("mount") is not None
        and subprocess.run(words, capture_output=True).returncode == 0
    )


def disk_campaign(root: Path, trials: int) -> Campaign:
    "Full and read-only disks; without the right to mount one, nothing is tried and that is said."
    campaign, place = Campaign("full and read-only disks"), root / "disk"
    if not mounted(place, 64):
        campaign.notes.append("not tried: no right to mount a disk")
        return campaign
    subprocess.run(["umount", place], check=True)
    data, right = unhurt(root)
    for trial in range(trials):
        size = 40 + trial * 1400 // trials
        mounted(place, size)
        try:
            run = place / "run"
            hurt(
                campaign,
                f"a disk of {size} kB",
                data,
                run,
                right,
                lambda: told(lambda: tiny_training(data, run)),
                lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True),
            )
        finally:
            subprocess.run(["umount", place], check=True)
    mounted(place, 65536)
    try:
        run = place / "run"

        class ReadOnly(Hook):
            def step(self, training, record):
                if training.state.step == 3:
                    subprocess.run(["umount", "-l", place / "run/checkpoints"], capture_output=True)
                    subprocess.run(
                        [
                            "mount",
                            "-o",
                            "bind",
                            place / "run/checkpoints",
                            place / "run/checkpoints",
                        ],
                        check=True,
                    )
                    subprocess.run(
                        ["mount", "-o", "remount,ro,bind", place / "run/checkpoints"], check=True
                    )

        hooks = [*default_hooks(progress=False), ReadOnly()]
        hurt(
            campaign,
            "a disk that becomes read-only",
            data,
            run,
            right,
            lambda: told(lambda: train(data, run, TINY, hooks=hooks)),
            lambda: subprocess.run(["umount", place / "run/checkpoints"], check=True),
        )
    finally:
        subprocess.run(["umount", place], check=True)
    return campaign


def limit_campaign(root: Path, trials: int) -> Campaign:
    "Limits on the size of files, and on how many may be open."
    campaign, (data, right) = Campaign("limits of the system"), unhurt(root)
    for trial in range(trials):
        size, handles = 512 + trial * 120_000 // trials, trial * 24 // trials

        def small(run=root / f"size{trial}", size=size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return told(lambda: tiny_training(data, run))

        def few(run=root / f"handles{trial}", handles=handles):
            most = max(map(int, os.listdir("/proc/self/fd"))) + handles
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return told(lambda: tiny_training(data, run))

        hurt(campaign, f"files of at most {size} bytes", data, root / f"size{trial}", right, small)
        hurt(campaign, f"{handles} more handles", data, root / f"handles{trial}", right, few)
    return campaign


def picture_campaign(root: Path) -> Campaign:
    "Pictures that vanish, change or are damaged during a training."
    campaign, (data, right) = Campaign("pictures that change during a training"), unhurt(root)
    kept = root / "kept"
    shutil.copytree(data[0], kept)

    def vanish():
        shutil.rmtree(data[0])

    def delete():
        for file in data[0].iterdir():
            file.unlink()

    def cut():
        for file in data[0].iterdir():
            file.write_bytes(file.read_bytes()[:200])

    def text():
        for file in data[0].iterdir():
            file.write_text("no picture")

    def shrink():
        for file in data[0].iterdir():
            Image.new("RGB", (5, 5)).save(file)

    def folders():
        for file in data[0].iterdir():
            file.unlink()
            file.mkdir()

    def back():
        shutil.rmtree(data[0], ignore_errors=True)
        shutil.copytree(kept, data[0])

    for act in (vanish, delete, cut, text, shrink, folders):
        run = root / act.__name__

        class Change(Hook):
            def step(self, training, record, act=act):
                if training.state.step == 3:
                    act()

        hooks = [*default_hooks(progress=False), Change()]
        hurt(
            campaign,
            f"the pictures: {act.__name__}",
            data,
            run,
            right,
            lambda: told(lambda: train(data, run, TINY, hooks=hooks)),
            back,
        )
    return campaign
