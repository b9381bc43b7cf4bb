"Many jobs of the workflow of the figures, some of which fail."

import shutil
import subprocess
import sys
from pathlib import Path

from campaigns.common import Campaign
from conftest import ROOT

from semst.bench.protocol import PROFILES
from semst.bench.workflow import FIGURES, training_trials

FAILING = ("horse2zebra", "semst", "1", "1")  # pair, method, weight and seed of one that fails
STEP = """
import sys
from pathlib import Path
action, profile, pair, *trial = sys.argv[1:sys.argv.index("--results")]
root = Path(sys.argv[sys.argv.index("--results") + 1], profile, pair)
if action == "trial":
    method, weight, seed = trial
    if (pair, *trial) == FAILING or (pair, method) == ("parsing2photo", "cut"):
        sys.exit(f"stub: {pair} {method} {weight} {seed} fails")
    place = root / method / f"x{weight}" / f"seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "scores.json").write_text("{}")
"""
RUN = """
import sys
from pathlib import Path
root = Path(sys.argv[sys.argv.index("--results") + 1], sys.argv[sys.argv.index("--profile") + 1])
made = sorted(str(file.parent.name) for file in root.glob("fig*/manifest.json"))
if "--index" in sys.argv:
    (root / "index.html").write_text(" ".join(made))
else:
    place = root / sys.argv[1]
    place.mkdir(parents=True, exist_ok=True)
    (place / "manifest.json").write_text("{}")
"""


def job_campaign(root: Path) -> Campaign:
    "The workflow with stubs for its two programs: 129 jobs of the profile cpu, in 4 processes."
    campaign = Campaign("jobs of the workflow, some of which fail")
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "reproduce/Snakefile", root / "Snakefile")
    (root / "step.py").write_text(f"FAILING = {FAILING}\n{STEP}")
    (root / "run.py").write_text(RUN)
    words = "--cores 4 --keep-going --config profile=cpu".split()
    snakemake = Path(sys.executable).parent / "snakemake"
    done = subprocess.run([snakemake, "--snakefile", root / "Snakefile", "--directory", root,
                           *words, f"results={root}"], capture_output=True, text=True)
    results = root / "cpu"
    lost = {}                                        # place of a trial -> what to look for
    for pair in sorted({pair for pairs in FIGURES.values() for pair in pairs}):
        for trial in training_trials(pair, PROFILES["cpu"], None):
            named = f"{pair} {trial.method} {trial.weight:g} {trial.seed}"
            failing = named == " ".join(FAILING) or named.startswith("parsing2photo cut ")
            made = (results / pair / trial.place / "scores.json").exists()
            if failing:
                lost[pair] = True
            if made == failing:
                campaign.fail(f"{named}: made is {made}")
            elif failing and f"stub: {named} fails" not in done.stderr:
                campaign.fail(f"{named}: is not named")
            else:
                campaign.counts["failed and were named" if failing else "were made"] += 1
    whole = sorted(name for name, pairs in FIGURES.items() if not set(pairs) & set(lost))
    if done.returncode == 0 or (results / "index.html").read_text().split() != whole:
        campaign.fail(f"code {done.returncode}, {done.stderr[-500:]}")
    campaign.notes.append(f"the page at the end shows {len(whole)} of {len(FIGURES)} figures")
    return campaign
