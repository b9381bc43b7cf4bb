"The scripts on the page about launching, run with stand-ins for Slurm's commands."
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from semst.run_folder import read_run
from semst.synthetic.scenes import write_scenes

PAGE = (ROOT / "docs/launching.md").read_text(encoding="utf-8")
TRAIN, REPRODUCE = re.findall(r"```bash\n(#!/bin/bash.*?)```", PAGE, re.DOTALL)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Slurm's scripts are for a shell")
SLURM = {
    # the batch script, with what Slurm's options decide
    "sbatch": """#!/usr/bin/env python3
import os, re, subprocess, sys
options = dict(re.findall(r"(?m)^#SBATCH --([a-z-]+)=(\\S+)", open(sys.argv[1]).read()))
tasks = options.get("ntasks-per-node", options.get("ntasks"))
given = dict(SLURM_JOB_ID="4711", SLURM_NTASKS=tasks, SLURM_CPUS_PER_TASK="1")
sys.exit(subprocess.call(["bash", *sys.argv[1:]], env=os.environ | given))
""",
    # a process for each task; the largest exit code
    "srun": """#!/usr/bin/env python3
import os, subprocess, sys
command = [word for word in sys.argv[1:] if word != "--wait=60"]
tasks = [subprocess.Popen(command, env=os.environ | dict(
    SLURM_PROCID=str(i), SLURM_LOCALID=str(i))) for i in range(int(os.environ["SLURM_NTASKS"]))]
sys.exit(max(task.wait() for task in tasks))
""",
    "scontrol": """#!/bin/sh
echo "scontrol $*"
""",
}


@pytest.fixture
def slurm(tmp_path):
    "Submits a script with words, in an empty folder; returns what came out."
    for name, text in SLURM.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    places = [tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"]]
    given = dict(PATH=os.pathsep.join(map(str, places)), OMP_NUM_THREADS="1",
                 PYTHONPATH=str(ROOT))

    def submit(script, *words, folder=tmp_path):
        (tmp_path / "job.sbatch").write_text(script)
        return subprocess.run(["sbatch", str(tmp_path / "job.sbatch"), *map(str, words)],
                              capture_output=True, text=True, cwd=folder, timeout=300,
                              env=os.environ | given)
    return submit


def test_a_training_of_two_processes_stops_and_goes_on(slurm, tmp_path):
    for look in ("summer", "winter"):
        write_scenes(tmp_path / look, look, n=2, size=36)
    words = ["summer/images", "winter/images", "runs/my run", "--preset", "tiny", "--crop", 32,
             "--ngf", 4, "--ndf", 4, "--blocks", 5, "--patches", 16, "--workers", 0,
             "--batch-size", 2]
    done = slurm(TRAIN, *words, "--steps", 1)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr and done.stdout.count("done: ") == 1
    more = slurm(TRAIN, *words, "--steps", 2)
    assert more.returncode == 0 and "goes on after step 1" in more.stderr, more.stderr
    assert read_run(tmp_path / "runs/my run")["steps"] == 2


def test_a_job_whose_time_ends_is_queued_again(slurm, tmp_path):
    stopped = TRAIN.replace("python -m semst train", 'sh -c "exit 130"')
    done = slurm(stopped, "a", "b", "run")
    assert done.returncode == 130 and "scontrol requeue 4711" in done.stdout
    failed = slurm(stopped.replace("exit 130", "exit 2"), "a", "b", "run")
    assert failed.returncode == 2 and "requeue" not in failed.stdout


def test_the_time_ends_with_a_signal_that_a_training_knows():
    from semst.batches import STOPPING
    name = re.search(r"--signal=(\w+)@", TRAIN)[1]
    assert f"SIG{name}" in {signal.name for signal in STOPPING}


def test_snakemake_plans_all_figures(slurm, tmp_path):
    (tmp_path / "reproduce").symlink_to(ROOT / "reproduce")
    done = slurm(REPRODUCE, "smoke", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "fig1_user_study" in done.stdout + done.stderr
    assert (tmp_path / "results/smoke").is_dir()
