"Subcommands as their users type them: data, study, and what all of them have in common."
import json
import random
from dataclasses import fields

import pytest
import torch
from PIL import Image
from test_cli import mistake
from tyro._docstrings import get_field_docstring

from semst.cli import COMMANDS, Group, main
from semst.data import to_tensor
from semst.study.page import demo, read_study
from semst.study.votes import made_up_votes
from semst.synthetic.scenes import scene


def say(capsys, *words):
    "What a command prints that goes well."
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def all_commands():
    "Name and class of every subcommand."
    for name, command in COMMANDS.items():
        inner = command.commands if isinstance(command, Group) else {"": command}
        yield from ((f"{name} {word}".strip(), kind) for word, kind in inner.items())


@pytest.mark.parametrize("name, command", list(all_commands()))
def test_every_command_and_every_option_explains_itself(name, command, capsys):
    assert command.__doc__ and not command.__doc__.startswith(f"{command.__name__}(")
    for f in fields(command):
        if f.name != "config":
            assert get_field_docstring(command, f.name, ()), f"{name}: {f.name} has no comment"
    assert "usage: semst " + name in say(capsys, *name.split(), "--help")


# ---- data

def test_drawn_folders_are_checked_side_by_side(tmp_path, capsys):
    for look, count in (("horse", 3), ("zebra", 4)):
        said = say(capsys, "data", "draw", tmp_path / look, "--look", look, "--count", count,
                   "--size", 64)
        assert f"{count} pictures: {tmp_path / look / 'images'}" in said
    folders = tmp_path / "horse/images", tmp_path / "zebra/images"
    out = say(capsys, "data", "check", *folders, "--crop", 48, "--sheet", tmp_path / "sheet.png")
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows["images"].split() == ["images", "3", "4"]
    assert "a training with --crop 48 would begin" in out
    for number in (1, 2):
        with Image.open(tmp_path / f"sheet-{number}.png") as sheet:
            assert sheet.width == 6 * 128
    out = say(capsys, "data", "check", *folders, "--crop", 96)
    assert "would refuse them" in out and "smaller than the crop" in out


def test_what_is_wrong_in_a_folder_is_named(tmp_path, capsys):
    say(capsys, "data", "draw", tmp_path, "--look", "horse", "--count", 2, "--size", 64)
    folder = tmp_path / "images"
    (folder / "copy.png").write_bytes((folder / "00000.png").read_bytes())
    (folder / "half.png").write_bytes((folder / "00001.png").read_bytes()[:100])
    (folder / "words.txt").write_text("words")
    Image.new("RGB", (64, 64), "red").save(folder / "flat.png")
    out = say(capsys, "data", "check", folder, "--crop", 64)
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows["unreadable"].split()[-1] == rows["same file twice"].split()[-1] == "1"
    assert "one flat colour" in rows["notes"] and ".txt" in rows["left out"]
    assert "would refuse them" in out and "half.png" in out


def test_a_contact_sheet_never_lies_among_the_pictures(tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    said = mistake(capsys, "data", "check", tmp_path, "--sheet", tmp_path / "a.png")
    assert "name another place for --sheet" in said
    assert (tmp_path / "a.png").read_bytes() == before


def test_transparent_places_are_said(tmp_path, capsys):
    picture = Image.linear_gradient("L").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L"))
    picture.save(tmp_path / "a.png")
    said = say(capsys, "data", "check", tmp_path, "--crop", 64)
    assert "transparent places become white in a training" in said


def test_a_crop_that_no_training_takes(tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    said = mistake(capsys, "data", "check", tmp_path, "--crop", -3)
    assert "--crop -3 must be at least 1" in said
    assert "would refuse them: crop 33 must be a multiple of 4" in say(
        capsys, "data", "check", tmp_path, "--crop", 33)


def test_too_few_pictures_to_draw(tmp_path, capsys):
    said = mistake(capsys, "data", "draw", tmp_path, "--look", "horse", "--count", 0)
    assert "--count 0 must be at least 1" in said


# ---- study

def test_a_study_from_pictures_to_report(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example = demo(tmp_path / "pictures", n=6, size=48)
    methods = [f"{name}={folder}" for name, folder in example["methods"].items()]
    said = say(capsys, "study", "make", "--methods", *methods, "--ours", "recoloured", "--inputs",
               example["inputs"], "--out", tmp_path / "study", "--sets", 6,
               "--target", "a photograph at dusk")
    assert "study.html" in said and "key.json" in said
    study = read_study(tmp_path / "study")
    (tmp_path / "study/votes").mkdir()
    for i in range(3):
        text = made_up_votes(study, f"{i:032x}", 1.0, random.Random(i))
        (tmp_path / f"study/votes/{i}.json").write_text(text)
    assert "3 added" in say(capsys, "study", "collect", tmp_path / "study")
    (tmp_path / "foreign.json").write_text("{}")
    refused = mistake(capsys, "study", "collect", tmp_path / "study", tmp_path / "foreign.json")
    assert "foreign.json" in refused
    report = say(capsys, "study", "report", tmp_path / "study", "--out", tmp_path / "report")
    assert "9 of 9" in report and "100%" in report
    with Image.open(tmp_path / "report/figure1.png") as figure:
        assert figure.width > 300
    assert json.loads((tmp_path / "report/report.json").read_text())


def test_a_layout_can_be_drawn(tmp_path, capsys):
    for layout in ("open", "forest"):
        say(capsys, "data", "draw", tmp_path / layout, "--look", "summer", "--count", 1,
            "--size", 32, "--layout", layout)
        drawn = to_tensor(Image.open(tmp_path / layout / "images/00000.png"))
        assert torch.equal(drawn, to_tensor(scene("summer", 0, 32, layout)[0]))
