"The short forms of the campaigns; `make campaign` runs the long ones."

import shutil
import sys
from collections import Counter

import pytest
import torch
import campaign as program
from campaigns.alarms import alarm_campaign
from campaigns.common import Campaign, command, drawn, tiny_training, two_folders
from campaigns.disks import disk_campaign, limit_campaign, picture_campaign
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

from semst.files import read_json

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


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_and_handles_stay_as_they_are(tmp_path):
    data, run = two_folders(tmp_path), tmp_path / "a run"
    tiny_training(data, run)
    passed(training_load(tmp_path / "load", 300, limit=20.0))
    passed(translation_load(tmp_path / "load", run, 60, limit=50.0))


def test_many_files_begin_with_a_bar_and_are_looked_at_once(tmp_path):
    assert passed(files_load(tmp_path, 1500)).tried == 4


def test_a_path_with_spaces_quotes_and_unicode_works_for_every_command(tmp_path, monkeypatch):
    root = tmp_path / 'it\'s "a" 名前 $(touch no) `no` <b> %s {x}'
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
    assert len(list((root / "translated").iterdir())) == 5 and (root / "one.png").exists()
    assert not (tmp_path / "no").exists()
