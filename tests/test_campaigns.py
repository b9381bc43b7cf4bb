"The short forms of the campaigns; `make campaign` runs the long ones."

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import torch
import campaign as program
from campaigns.alarms import alarm_campaign
from campaigns.common import Campaign, command, drawn, harmed, tiny_training, two_folders
from campaigns.disks import disk_campaign, limit_campaign, picture_campaign
from campaigns.fuzz import READERS, Reader, Target
from campaigns.inputs import KINDS, input_campaigns
from campaigns.kills import kill_campaign, power_campaign, signal_campaign
from campaigns.loads import files_load, training_load, translation_load
from campaigns.memory import (
    SAVED,
    gpu_campaign,
    host_campaign,
    loader_campaign,
    shared_campaign,
)

from conftest import ROOT

from semst.cli import COMMANDS
from semst.files import InputError, read_json
from semst.generator import Generator
from semst.study.page import demo, make
from semst.study.votes import made_up_votes

forks = pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(),
    reason="the children are forked, which a GPU does not allow",
)


def passed(campaign):
    print(campaign.name, dict(campaign.counts), *campaign.notes)
    assert not campaign.failures, "\n".join(campaign.failures)
    return campaign


@forks
def test_killed_twice_and_resumed_is_equal_to_never_stopped(tmp_path):
    assert passed(kill_campaign(tmp_path, 3)).tried == 3


@forks
def test_every_signal_stops_with_a_checkpoint(tmp_path):
    assert passed(signal_campaign(tmp_path)).tried == 5


@forks
def test_a_power_cut_leaves_a_state_that_goes_on(tmp_path):
    assert passed(power_campaign(tmp_path, 4, seed=1)).tried == 4


@forks
@pytest.mark.parametrize("campaign, scale, trials", [
    (gpu_campaign, (3,), 4), (loader_campaign, (3,), 1), (host_campaign, 1, 1),
    (shared_campaign, 1, 1),
])
def test_full_memory_and_a_loader_that_dies(tmp_path, campaign, scale, trials):
    found = passed(campaign(tmp_path / "memory", scale))
    if found.notes:
        pytest.skip(found.notes[0])
    assert found.counts[SAVED] == trials


def test_alarms_end_a_training(tmp_path):
    assert passed(alarm_campaign(tmp_path, 1)).tried == 7


def test_the_page_is_made_of_the_counts_and_a_part_keeps_the_others(tmp_path, monkeypatch, capsys):
    assert program.PAGE.read_text() == program.page(read_json(program.COUNTED, dict))
    for name in ("COUNTED", "PAGE"):
        file = getattr(program, name)
        shutil.copy(file, tmp_path)
        monkeypatch.setattr(program, name, tmp_path / file.name)
    row = Campaign("signals", Counter({"were tried": 3}))
    monkeypatch.setitem(program.PARTS, "signals", ("Faults", lambda root, scale: [row]))
    before = program.PAGE.read_text().splitlines()
    assert program.main(["--parts", "signals", "--write"]) == 0
    after = program.PAGE.read_text().splitlines()
    changed = [line for line in after if line not in before]
    assert changed[0] == "| signals | 3 | 3 were tried | 0 |" and len(after) == len(before)
    assert len(changed) == 2 and changed[1].startswith("| **together**")


@forks
def test_full_and_read_only_disks(tmp_path):
    campaign = passed(disk_campaign(tmp_path, 2))
    if campaign.notes:
        pytest.skip(campaign.notes[0])


@forks
def test_limits_on_files(tmp_path):
    assert passed(limit_campaign(tmp_path, 3)).counts["ended with a message, then equal"] >= 3


@forks
def test_pictures_that_change_during_a_training(tmp_path):
    assert passed(picture_campaign(tmp_path)).tried == 6


def test_malformed_inputs_are_refused_by_name(tmp_path):
    pytest.importorskip("tifffile")
    campaigns = input_campaigns(tmp_path, 60)
    for campaign in campaigns:
        passed(campaign)
    assert len(campaigns) == len(KINDS) and sum(c.tried for c in campaigns) >= 60
    assert sum(c.counts["refused by name"] for c in campaigns) >= 30


def test_every_reader_is_fuzzed(tmp_path):
    pytest.importorskip("tifffile")
    for name, reader in READERS.items():
        place = tmp_path / name
        place.mkdir()
        target, dice = Target(reader(place), place), random.Random(1)
        for seed in target.reader.seeds:
            target(seed)
        assert set(target.counts) == {"read"}, name                     # good contents are good
        for _ in range(40):
            target(harmed(dice.choice(target.reader.seeds), dice))
        assert not target.failures, (name, target.failures)


def test_a_reader_that_fails_is_found(tmp_path):
    def bad(file):
        if file.stat().st_size != 4:
            raise InputError("is damaged")
        return 1 / (file.read_bytes()[0] - 97)
    target = Target(Reader("x.bin", [], bad), tmp_path)
    for data in (b"abcd", b"aaaa", b"bbbb", b"b"):
        target(data)
    assert target.counts == dict(read=1, failed=3) and len(target.failures) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_and_handles_stay_as_they_are(tmp_path):
    data, run = two_folders(tmp_path), tmp_path / "a run"
    tiny_training(data, run)
    passed(training_load(tmp_path / "load", 300, limit=20.0))
    passed(translation_load(tmp_path / "load", run, 60, limit=50.0))


def test_many_files_begin_with_a_bar_and_are_looked_at_once(tmp_path):
    assert passed(files_load(tmp_path, 1500)).tried == 4


ODD = 'it\'s "a" 名前 $(touch no) `no` <b> %s {x}'
OTHERS = ("score", "export", "import", "demo")                     # in tests of their own


def test_a_path_with_spaces_works_for_the_other_commands(tmp_path, monkeypatch):
    root = tmp_path / ODD
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    data, run = two_folders(root), root / "a run"
    tiny_training(data, run)
    torch.save(Generator(4, 6, taps=(0, 4, 8)).state_dict(), root / "latest net.pth")
    study = make(**demo(root / "demo", n=4, size=32), out=root / "a study", sets=4)
    votes = root / "some votes.json"
    votes.write_text(made_up_votes(study, "a" * 32, 0.8, random.Random(0)))
    train = ["train", "--source", data[0], "--target", data[1], "--from", run, "--steps", 1]
    for words in (
        ["score", run, "--source", data[0], "--target", data[1], "--out", root / "the scores"],
        ["import", root / "latest net.pth", root / "theirs.safetensors"],
        ["translate", root / "theirs.safetensors", data[0], root / "by theirs", "--tile", 64],
        ["demo", root / "four scenes.png"],
        [*train, "--preset", "tiny", "--crop", 32, "--workers", 0, "--out", root / "another run"],
        ["study", "collect", root / "a study", votes],
    ):
        code, said = command(*words)
        assert code == 0 and "Traceback" not in said, (words, said)
    assert not (tmp_path / "no").exists()


def test_a_path_with_spaces_works_for_an_export(tmp_path, monkeypatch):
    root = tmp_path / ODD
    monkeypatch.chdir(tmp_path)
    tiny_training(two_folders(root), root / "a run")
    code, said = command("export", root / "a run", root / "a model.pt2")
    assert code == 0 and (root / "a model.pt2").exists(), said


MAKE = ("reproduce", "unlock", "test", "campaign", "notebooks", "docs")
TOOL = """#!/bin/sh
printf '%s\\n' "$(basename "$0")" "$@" >> "$OUT"
case "$1" in -c) exec {python} "$@";; esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="the program `make` is absent")
@pytest.mark.parametrize("target", MAKE)
def test_a_path_with_spaces_works_for_every_make_target(tmp_path, target):
    "The tools are stubs that note their words; the folder of the project and the data are odd."
    root, data = tmp_path / ODD, tmp_path / f"data {ODD}"
    (root / ".venv/bin").mkdir(parents=True)
    (root / "nbs/solutions").mkdir(parents=True)
    data.mkdir()
    for name in ("Makefile", "settings.ini", "setup.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    for name in "python snakemake jupyter nbdev_test nbdev_clean nbdev_export sphinx-build".split():
        (root / ".venv/bin" / name).write_text(TOOL.format(python=shlex.quote(sys.executable)))
        (root / ".venv/bin" / name).chmod(0o755)
    (root / ".venv/ready").touch()
    (root / "nbs/one.ipynb").touch()
    (root / "nbs/solutions/one.ipynb").touch()
    for given in {}, dict(DATA=str(data)):
        out = tmp_path / f"words{len(given)}"
        done = subprocess.run(["make", target], cwd=root, capture_output=True, text=True,
                              env=os.environ | given | dict(OUT=str(out)))
        assert done.returncode == 0, done.stdout + done.stderr
        words = out.read_text().splitlines()
        if given and target in ("reproduce", "unlock"):
            assert f"data={data}" in words and "data_name=stand-in" in words
            assert words[words.index("--directory") + 1] == f"results/{data.name}/quick"
    assert not any(tmp_path.rglob("no"))


def test_a_path_with_spaces_quotes_and_unicode_works_for_every_command(tmp_path, monkeypatch):
    root = tmp_path / ODD
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    source, target = two_folders(root)
    ours, other = drawn(root / "ours", 5, 48, 2), drawn(root / "other", 5, 48, 3)
    train = ["train", "--source", source, "--target", target, "--out", root / "a run"]
    small = ["--preset", "tiny", "--crop", 32, "--ngf", 4, "--blocks", 5, "--workers", 0]
    methods = [f"ours={ours}", f"other={other}"]
    for words in (
        [*train, *small, "--steps", 2],
        ["train", "--out", root / "a run", "--resume", "--steps", 3],
        ["info", root / "a run"],
        ["translate", root / "a run", source, root / "translated"],
        ["translate", root / "a run", source / "00000.png", root / "one.png"],
        ["colour", source, target, root / "colours.safetensors"],
        ["data", "check", source, target, "--crop", 32, "--sheet", root / "sheet.png"],
        ["data", "draw", root / "drawn", "--look", "horse", "--count", 1, "--size", 64],
        [
            "study",
            "make",
            "--methods",
            *methods,
            "--ours",
            "ours",
            "--inputs",
            source,
            "--sets",
            4,
            "--out",
            root / "a study",
        ],
        ["study", "report", root / "a study"],
    ):
        code, said = command(*words)
        assert code == 0 and "Traceback" not in said, (words, said)
    tried = {"train", "translate", "info", "colour", "data", "study"}
    assert set(COMMANDS) == tried | set(OTHERS)
    assert len(list((root / "translated").iterdir())) == 5 and (root / "one.png").exists()
    assert not (tmp_path / "no").exists()
