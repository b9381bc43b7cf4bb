"""All campaigns in their long form, and the page that holds their counts.

python tests/campaign.py                          # an hour of a core; writes docs/reliability.md
python tests/campaign.py --scale 0.1              # a tenth of it, printed only
python tests/campaign.py --parts training         # one part anew; the others as they were counted
"""

import argparse
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from campaigns.alarms import WITHIN, alarm_campaign
from campaigns.common import Campaign, tiny_training, two_folders
from campaigns.disks import disk_campaign, limit_campaign, picture_campaign
from campaigns.fuzz import fuzz_campaign
from campaigns.inputs import input_campaigns
from campaigns.jobs import job_campaign
from campaigns.kills import kill_campaign, power_campaign, signal_campaign
from campaigns.loads import files_load, training_load, translation_load
from campaigns.memory import gpu_campaign, host_campaign, loader_campaign, shared_campaign

from semst.cli import CODES
from semst.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reliability.md"


def many(trials: int, scale: float) -> int:
    "A share of the trials, at least two."
    return max(2, round(trials * scale))


def memory(root: Path, scale: float) -> list[Campaign]:
    "Memory that is full, of every kind."
    return [
        host_campaign(root / "host", many(24, scale)),
        gpu_campaign(root / "gpu", (1, 2, 3, 4, 5) if scale >= 1 else (3,)),
        shared_campaign(root / "shared", many(4, scale)),
        loader_campaign(root / "loader", (1, 2, 3, 4, 5) if scale >= 1 else (3,)),
    ]


def training(root: Path, scale: float) -> list[Campaign]:
    "A long training."
    return [training_load(root / "training", max(200, round(20_000 * scale)), 0.5)]


def translation(root: Path, scale: float) -> list[Campaign]:
    "Many pictures in one call."
    data, run = two_folders(root / "data"), root / "run"
    tiny_training(data, run)
    return [translation_load(root / "translation", run, max(50, round(10_000 * scale)), 2.0)]


Part = Callable[[Path, float], list[Campaign]]
PARTS: dict[str, tuple[str, Part]] = {  # name -> heading on the page, what counts it
    "kills": ("Faults", lambda root, scale: [kill_campaign(root, many(50, scale))]),
    "signals": ("Faults", lambda root, scale: [signal_campaign(root, 2)]),
    "power": ("Faults", lambda root, scale: [power_campaign(root, many(164, scale))]),
    "disks": ("Faults", lambda root, scale: [disk_campaign(root, many(16, scale))]),
    "limits": ("Faults", lambda root, scale: [limit_campaign(root, many(12, scale))]),
    "pictures": ("Faults", lambda root, scale: [picture_campaign(root)]),
    "memory": ("Faults", memory),
    "alarms": ("Faults", lambda root, scale: [alarm_campaign(root, many(5, scale))]),
    "inputs": ("Bad input", lambda root, scale: input_campaigns(root, max(30, many(800, scale)))),
    "fuzz": ("Fuzzing", lambda root, scale: fuzz_campaign(root, many(20_000, scale), 600)),
    "training": ("Load", training),
    "translation": ("Load", translation),
    "jobs": ("Load", lambda root, scale: [job_campaign(root)]),
    "files": ("Load", lambda root, scale: [files_load(root, max(1500, round(100_000 * scale)))]),
}
COUNTED = ROOT / "docs/reliability.json"  # what the page is made of: part -> its last campaigns


def count(name: str, scale: float) -> dict:
    "One part: its campaigns, and what they ran on."
    with tempfile.TemporaryDirectory() as folder:
        campaigns = PARTS[name][1](Path(folder), scale)
    about = [
        dict(name=c.name, counts=dict(c.counts), failures=c.failures, notes=c.notes)
        for c in campaigns
    ]
    machine = (
        f"Python {platform.python_version()}, PyTorch {torch.__version__.split('+')[0]}, "
        f"{platform.system()}, CPU"
    )
    return dict(machine=machine, campaigns=about)


ABOUT = f"""# Reliability

This page is written by `make campaign`, which tries what goes wrong in practice. The trainings are
tiny, the faults are real: processes are killed, disks are full, files are damaged. Short forms of
all campaigns are a part of `make test`.

- A **kill** is SIGKILL, at a random moment or just before one of the run's own file calls, twice in
  a row. The resumed run must have the same weights, moments, log and samples as a run that never
  stopped.
- A **power cut** is simulated at the file calls of a training. A file keeps what its last `fsync`
  wrote; what came later may be there, torn, or not. A folder keeps the names of its last `fsync` or
  those of the moment. Each file and folder decides for itself. The training must go on from what is
  left, to the same end.
- A **bad input** must end with exit code 2 and a message that names what is at fault, without a
  traceback, a hang of more than a minute, or a result. Some damage leaves a readable file: turned
  bits of uncompressed pixels, for example. Then it is read. PNG and zipped TIFF have checksums, and
  there a wrong picture counts as a failure.
- **Fuzzing** calls the readers themselves, thousands of times, with changes that follow the code
  that they reach. A content is read or refused by name; anything else is a failure.
- A log with damaged lines is read without them, with a warning.
- A **full memory** is a limit on what the process may take, PyTorch's error of a full GPU raised at
  each part of a step, a small /dev/shm that is filled, or a loader process that is killed. The
  training must end with code 1, one line that says what to change, and a checkpoint. Before the
  weights move in a step, that is the step before; after that, the last one that was written.
- An **alarm** rings while every number is still finite. `semst train --stop-on-alarm NAME` ends
  the training then, with a checkpoint and exit code 1. Without the option the training goes on
  and says so.

| alarm | what happens | rings at the latest |
|---|---|---|
| `diverged` | a learning rate of 10 or more | at step {WITHIN} of a tiny training |
| `diverged` | losses of the game 100 times as large as at rest | after 10 steps |
| `d_won` | the discriminator's loss is 0 | after 299 steps |
| `inverted` | grey values of source and translation correlate with -1, or -0.5 | after 92 or 161 |
| `collapsed` | all translations are alike | after 300 steps |
"""

ENDS = "\n## Exit codes\n\n| code | meaning |\n|---|---|\n" + "".join(
    f"| {code} | {words} |\n" for code, words in CODES.items()
)


def table(campaigns: list[Campaign]) -> str:
    "Rows of the page: what was tried, what came out, and what failed."
    lines = ["| campaign | tried | outcome | failed |", "|---|---:|---|---:|"]
    for campaign in campaigns:
        outcome = "; ".join(f"{count} {words}" for words, count in sorted(campaign.counts.items()))
        lines.append(
            f"| {campaign.name} | {campaign.tried} | {outcome} | {len(campaign.failures)} |"
        )
    total, failed = sum(c.tried for c in campaigns), sum(len(c.failures) for c in campaigns)
    lines.append(f"| **together** | {total} | | {failed} |")
    notes = [f"- {campaign.name}: {note}" for campaign in campaigns for note in campaign.notes]
    return "\n".join([*lines, "", *notes, ""])


def page(found: dict[str, dict]) -> str:
    "The page as Markdown, from what `count` gave for each part."
    sections: dict[str, list[Campaign]] = {}
    for name, part in ((name, found[name]) for name in PARTS if name in found):
        campaigns = [Campaign(**c | dict(counts=Counter(c["counts"]))) for c in part["campaigns"]]
        sections.setdefault(PARTS[name][0], []).extend(campaigns)
    machines = "; ".join(sorted({part["machine"] for part in found.values()}))
    missing = [name for name in PARTS if name not in found]
    if missing:
        machines += f". Not counted in the long form yet: {', '.join(missing)}"
    parts = [f"## {title}\n\n{table(campaigns)}" for title, campaigns in sections.items()]
    return "\n".join([ABOUT, f"{machines}.", "", *parts]).rstrip() + "\n" + ENDS


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="campaigns of faults, in their long form")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials")
    parser.add_argument("--write", action="store_true", help="write the page of the docs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    kept = read_json(COUNTED, dict) if COUNTED.exists() else {}
    found = {}
    for name in args.parts:
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        found[name] = count(name, args.scale)
        if args.write:  # at once: a later part may be stopped
            kept[name] = found[name]
            write_json(COUNTED, kept)
            PAGE.write_text(page(kept), encoding="utf-8")
    failed = any(c["failures"] for part in found.values() for c in part["campaigns"])
    print(page(found))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
