"Trainings that are killed, asked to stop, or lose their power, and what is left of them."

import os
import random
import shutil
import signal
import time
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

from semst.checkpoint import last_checkpoint
from semst.run_folder import read_log

FILE_CALLS = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir")


def at_file_call(number: int, act: Callable[[], None]) -> None:
    "In this process, `act` just before the file call of this number."
    left = [number]

    def counted(call):
        def before(*args, **more):
            left[0] -= 1
            if left[0] == 0:
                act()
            return call(*args, **more)

        return before

    for name in FILE_CALLS:
        setattr(os, name, counted(getattr(os, name)))


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(data, run: Path, dice: random.Random, seconds: float, calls: int, log: Path) -> str:
    "A child trains and is killed; says how."
    if dice.random() < 0.5:
        number = dice.randint(1, calls)

        def work():
            at_file_call(number, kill_me)
            tiny_training(data, run)

        code = ended(child(work, log))
    else:
        pid = child(lambda: tiny_training(data, run), log)
        time.sleep(dice.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        code = ended(pid)
    return "killed" if code == -signal.SIGKILL else f"ended with {code}"


def kill_campaign(root: Path, trials: int, seed: int = 0) -> Campaign:
    "SIGKILL twice in a row, at a random moment or file call; then the run goes on to its end."
    campaign, data, dice = (
        Campaign("killed twice, then resumed"),
        two_folders(root),
        random.Random(seed),
    )
    start = time.monotonic()
    assert ended(child(lambda: tiny_training(data, root / "whole"), root / "log")) == 0, (
        root / "log"
    ).read_text()
    seconds, right = time.monotonic() - start, result_of(root / "whole")
    for trial in range(trials):
        run, log = root / f"run{trial}", root / f"log{trial}"
        ways = [killed_once(data, run, dice, seconds, 160, log) for _ in range(2)]
        code = ended(child(lambda: tiny_training(data, run), log))
        if any(way.startswith("ended") and way != "ended with 0" for way in ways) or code:
            campaign.fail(f"trial {trial} ({ways}): {log.read_text()[-300:]}")
        elif wrong := difference(result_of(run), right):
            campaign.fail(f"trial {trial} ({ways}): {wrong}")
        else:
            campaign.counts["equal to a run that never stopped"] += 1
        shutil.rmtree(run)
    return campaign


def signal_campaign(root: Path, times: int = 1) -> Campaign:
    "Signals that ask a program to end: exit code 130 at a step's end, with a checkpoint."
    from semst.cli import main

    campaign, data = Campaign("signals"), two_folders(root)
    words = [
        "train",
        "--source",
        data[0],
        "--target",
        data[1],
        "--preset",
        "tiny",
        "--crop",
        "32",
        "--ngf",
        "4",
        "--blocks",
        "5",
        "--workers",
        "0",
        "--steps",
        "100000",
        "--log-every",
        "1",
    ]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1") * times:
        run, log = root / f"{name}{campaign.tried}", root / f"{name}{campaign.tried}.txt"
        pid = child(lambda: main([str(word) for word in [*words, "--out", run]]), log)
        patience = time.monotonic() + 120
        while time.monotonic() < patience and len(read_log(run / "log.jsonl")) < 2:
            time.sleep(0.1)
        os.kill(pid, getattr(signal, name))
        code, steps = ended(pid), [r["step"] for r in read_log(run / "log.jsonl")]
        last = last_checkpoint(run)
        if (
            code == 130
            and last
            and int(last.name[5:]) == steps[-1]
            and f"{last}: go on from it with --resume" in log.read_text()
        ):
            campaign.counts["stopped with code 130 and a checkpoint"] += 1
        else:
            campaign.fail(
                f"{name}: code {code}, steps {steps[-3:]}, checkpoint {last}, "
                f"{log.read_text()[-300:]}"
            )
    return campaign


class Disk:
    """What a disk holds after a power cut, by what was synced.

    It watches a folder at each file call. A file keeps what it held at its last fsync; what came
    later may be there, cut anywhere, or not. A folder keeps the names of its last fsync, or those
    of the moment. Each file and folder decides for itself, as POSIX allows."""

    def __init__(self, root: Path):
        self.root, self.bytes, self.names = root, {}, {}  # inode -> bytes, inode -> {name: inode}
        self.moments: list[tuple[dict, dict, dict, dict]] = []

    def fsync(self, handle: int) -> None:
        "A file or folder has become durable."
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if self.root not in (path, *path.parents):
            return
        inode = os.fstat(handle).st_ino
        if path.is_dir():
            self.names = self.names | {inode: {f.name: f.lstat().st_ino for f in path.iterdir()}}
        else:
            self.bytes = self.bytes | {inode: path.read_bytes()}

    def look(self) -> None:
        "Keep this moment: what is there, and what of it is durable."
        now_bytes, now_names = {}, {}
        for folder, _, files in os.walk(self.root):
            here = Path(folder)
            now_names[here.stat().st_ino] = {f.name: f.lstat().st_ino for f in here.iterdir()}
            for name in files:
                file = here / name
                now_bytes[file.stat().st_ino] = file.read_bytes()
        self.moments.append((self.bytes, self.names, now_bytes, now_names))

    def watch(self) -> None:
        "From here on, every file call of this process is a moment before it happens."
        real = os.fsync
        at = {name: getattr(os, name) for name in FILE_CALLS}

        def watched(call):
            def before(*args, **more):
                self.look()
                result = call(*args, **more)
                if call is real:
                    self.fsync(args[0])
                return result

            return before

        for name, call in at.items():
            setattr(os, name, watched(call))

    def after_power_cut(self, moment: int, dice: random.Random, folder: Path) -> None:
        "Write into `folder` what a disk may hold if the power fails at a moment."
        durable, names, now_bytes, now_names = self.moments[moment]

        def write(inode: int, place: Path) -> None:
            if inode in now_names or inode in names:
                place.mkdir()
                kept, current = names.get(inode, {}), now_names.get(inode, {})
                for name, child_inode in dice.choice([kept, current]).items():
                    write(child_inode, place / name)
                return
            safe, current = durable.get(inode, b""), now_bytes.get(inode, b"")
            if current.startswith(safe):  # written further: the rest may be torn
                torn = current[: dice.randint(len(safe), len(current))]
                place.write_bytes(dice.choice([safe, current, torn]))
            else:
                place.write_bytes(dice.choice([safe, current]))

        write(self.root.stat().st_ino, folder)


def power_campaign(root: Path, trials: int, seed: int = 0) -> Campaign:
    "Power cuts before file calls of a training; then it goes on to its end."
    import pickle

    campaign, data, dice = (
        Campaign("power cuts of a training"),
        two_folders(root),
        random.Random(seed),
    )
    (root / "disk").mkdir()

    def work():
        disk = Disk(root / "disk")
        disk.watch()
        tiny_training(data, root / "disk/run")
        disk.look()
        (root / "moments").write_bytes(pickle.dumps(disk.moments))

    assert ended(child(work, root / "log")) == 0, (root / "log").read_text()
    disk = Disk(root / "disk")
    disk.moments = pickle.loads((root / "moments").read_bytes())  # of our own child
    right = result_of(root / "disk/run")
    campaign.notes.append(
        f"{len(disk.moments)} file calls of a training of {TINY.optimizer.steps} steps"
    )
    for trial in range(trials):
        moment = (
            trial % len(disk.moments)
            if trials >= len(disk.moments)
            else dice.randrange(len(disk.moments))
        )
        place, log = root / f"cut{trial}", root / f"log{trial}"
        disk.after_power_cut(moment, dice, place)
        had = last_checkpoint(place / "run")
        code = ended(child(lambda: tiny_training(data, place / "run"), log))
        if code:
            campaign.fail(f"before file call {moment}: {log.read_text()[-300:]}")
        elif wrong := difference(result_of(place / "run"), right):
            campaign.fail(f"before file call {moment}: {wrong}")
        else:
            campaign.counts[
                "went on from a checkpoint" if had else "began anew, before the first checkpoint"
            ] += 1
        shutil.rmtree(place)
    return campaign
