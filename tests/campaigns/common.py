"What the campaigns share: a tiny training, children that may be killed, and the count of trials."

import contextlib
import io
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from semst.checkpoint import last_checkpoint
from semst.config import TrainConfig
from semst.files import read_weights
from semst.hooks import default_hooks
from semst.run_folder import read_log
from semst.training import train

TINY = TrainConfig().replace(
    scales=1,
    crop=32,
    ngf=4,
    blocks=5,
    embed_dim=16,
    ndf=4,
    d_strides=(2, 1),
    patches=32,
    centres=16,
    steps=8,
    workers=0,
    log_every=1,
    checkpoint_every=2,
    sample_every=3,
)


@dataclass
class Campaign:
    "What was tried, and what came out."

    name: str
    counts: Counter = field(default_factory=Counter)  # outcome in words -> trials
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.counts.total() + len(self.failures)

    def fail(self, words: str) -> None:
        self.failures.append(words)
        print(f"  FAILED {self.name}: {words}", flush=True)


def drawn(folder: Path, count: int, side: int, seed: int) -> Path:
    "A folder of small pictures."
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(seed)
    for i in range(count):
        small = Image.fromarray(dice.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:05}.png")
    return folder


def two_folders(root: Path) -> tuple[Path, Path]:
    "Source and target of a tiny training."
    return drawn(root / "source", 5, 48, 0), drawn(root / "target", 5, 48, 1)


def tiny_training(data, run: Path, config: TrainConfig = TINY) -> None:
    "Begin a training, or go on with it, as a person would after a fault."
    resume = (run / "config.json").exists()
    train(data, run, config, hooks=default_hooks(progress=False), resume=resume)


def result_of(run: Path) -> dict[str, object]:
    "All that a finished run must share with one that never stopped."
    folder = last_checkpoint(run)
    assert folder is not None, "no checkpoint"
    found: dict[str, object] = {"checkpoint": folder.name}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in read_weights(file)[1].items():
            found[f"{file.name}/{name}"] = value
    log = read_log(run / "log.jsonl")
    found["log"] = [{k: v for k, v in r.items() if k != "images_per_second"} for r in log]
    for file in sorted((run / "samples").glob("*.png")):
        found[f"samples/{file.name}"] = torch.from_numpy(np.array(Image.open(file)))
    return found


def difference(ours: dict, theirs: dict) -> str:
    "The first thing in which two results differ; empty if they are equal."
    if ours.keys() != theirs.keys():
        return f"{sorted(ours.keys() ^ theirs.keys())[:3]} are not in both"
    for name, value in ours.items():
        same = (
            torch.equal(value, theirs[name])
            if isinstance(value, torch.Tensor)
            else value == theirs[name]
        )
        if not same:
            return f"{name} differs"
    return ""


def child(work: Callable[[], int | None], errors: Path | None = None) -> int:
    "Start `work` in a child process; returns its id. Nothing of it reaches this process's memory."
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        if errors:
            handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout = sys.stderr = open(1, "w", closefd=False)      # a test may have its own
        torch.set_num_threads(1)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int:
    "How a child ended: its exit code, or minus the signal that killed it."
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def command(*words: object) -> tuple[int, str]:
    "The `semst` command in this process: exit code, and all that it printed."
    from semst.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return code, said.getvalue()


def judged(
    campaign: Campaign,
    what: str,
    call: Callable[[], tuple[int, str]],
    names: tuple[str, ...],
    output: Path | None = None,
) -> tuple[int, str]:
    """One bad input. Exit code 2 needs one of `names` in the message and nothing at `output`; 0 is
    a result; anything else, a traceback above all, is a failure."""
    try:
        code, said = call()
    except BaseException as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        campaign.fail(f"{what}: {type(e).__name__} {str(e)[:150]} in {last.filename}:{last.lineno}")
        return 70, ""
    if code == 0:
        campaign.counts["read after all"] += 1
    elif code != 2 or "Traceback" in said:
        campaign.fail(f"{what}: exit code {code}, {said[-200:]!r}")
    elif not any(name in said for name in names):
        campaign.fail(f"{what}: the message does not name it: {said[-200:]!r}")
    elif output is not None and output.exists():
        campaign.fail(f"{what}: something lies at its output")
    else:
        campaign.counts["refused by name"] += 1
    return code, said


def harmed(data: bytes, dice) -> bytes:
    "Bytes cut off, zeroed, exchanged, doubled, or with some bits turned."
    way, out = dice.randrange(5), bytearray(data)
    start = dice.randrange(len(data))
    length = min(dice.choice([1, 8, 64, 512]), len(data) - start)
    if way == 0:
        del out[start:]
    elif way == 1:
        out[start : start + length] = bytes(length)
    elif way == 2:
        out[start : start + length] = dice.randbytes(length)
    elif way == 3:
        out[start:start] = out[start : start + length]
    else:
        for _ in range(dice.randint(1, 3)):
            out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
    return bytes(out)


def json_value(dice, depth: int = 0) -> object:
    "Any JSON value, odd ones above all."
    plain = [
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        10**20,
        -(10**20),
        1e308,
        0.5,
        "",
        "x",
        "none",
        "\u0000",
        "<script>",
        "1",
        [],
        {},
        [[]],
        "a" * 5000,
    ]
    if depth > 2 or dice.random() < 0.8:
        return dice.choice(plain)
    if dice.random() < 0.5:
        return [json_value(dice, depth + 1) for _ in range(dice.randint(0, 3))]
    return {f"k{i}": json_value(dice, depth + 1) for i in range(dice.randint(0, 3))}


def changed_json(value: object, dice) -> object:
    "A JSON value with one entry, at any depth, left out, renamed, or given another value."
    value = json.loads(json.dumps(value))
    places: list[tuple[dict, str]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for key, inner in node.items():
                places.append((node, key))
                walk(inner)

    walk(value)
    node, key = dice.choice(places)
    way = dice.randrange(4)
    if way == 0:
        del node[key]
    elif way == 1:
        node[f"{key}x"] = node.pop(key)
    else:
        node[key] = json_value(dice)
    return value
