"`semst score` over a run's checkpoints, and `semst train --from`."
import hashlib
import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import TINY, finished, horses, main, mistake, zebras  # noqa: F401

from semst import SemST
from semst.eval.evaluator import Segmenter, save_segmenter
from semst.files import digest
from semst.synthetic.scenes import write_scenes


def test_checkpoints_are_scored_beside_the_source(finished, horses, zebras, tmp_path, capsys,
                                                  monkeypatch):
    monkeypatch.setattr("semst.commands.score.cached_inception", lambda: None)
    words = ["score", finished, "--source", horses, "--target", zebras, "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    about = json.loads((tmp_path / "out/scores.json").read_text())
    assert [row["step"] for row in about["scores"]] == ["source", 2, 4]
    assert all(row["thumbnails"] > 0 for row in about["scores"]) and about["size"] == 32
    assert "thumbnails" in said and "source" in said
    if find_spec("matplotlib"):
        with Image.open(tmp_path / "out/scores.png") as plot:
            assert plot.width > 300


@pytest.mark.parametrize("name, best", [("thumbnails", 2), ("miou", 4)])
def test_the_best_checkpoint_is_kept_and_translates(finished, horses, zebras, tmp_path, capsys,
                                                    monkeypatch, name, best):
    values = iter([dict(thumbnails=v, miou=w) for v, w in ((1.0, 0.9), (2.0, 0.1), (3.0, 0.4))])
    monkeypatch.setattr("semst.commands.score.Scorer.scores", lambda self, y: next(values))
    run = shutil.copytree(finished, tmp_path / "run")
    words = ["score", run, "--source", horses, "--target", zebras, "--out", tmp_path / "out",
             "--keep-best", name]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert f"best by {name}: step {best}" in said and "the source as it is scores no worse" in said
    weights = run / f"checkpoints/step_{best:08d}/average.safetensors"
    assert (run / "best.safetensors").read_bytes() == weights.read_bytes()
    assert main(["translate", str(run / "best.safetensors"), str(horses), str(tmp_path / "y")]) == 0
    go = ["train", "--out", str(run), "--resume", "--steps", "6"]
    assert main(go) == 0 and (run / "best.safetensors").exists()


def test_a_best_by_an_unknown_score(finished, horses, zebras, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("semst.commands.score.cached_inception", lambda: None)
    said = mistake(capsys, "score", finished, "--source", horses, "--target", zebras, "--out",
                   tmp_path / "out", "--keep-best", "fid")
    assert "the scores here are thumbnails" in said and not (tmp_path / "out").exists()


def test_scores_lie_in_the_run_and_mistakes_come_first(finished, horses, zebras, tmp_path, capsys,
                                                       monkeypatch):
    monkeypatch.setattr("semst.commands.score.cached_inception", lambda: None)
    words = ["score", finished, "--source", horses, "--target", zebras]
    assert main([*map(str, words)]) == 0 and (finished / "scores/scores.json").exists()
    assert "--size -3 must be at least 1" in mistake(capsys, *words, "--size", "-3")
    (tmp_path / "file").touch()
    assert "file is a file" in mistake(capsys, *words, "--out", tmp_path / "file")


def test_the_target_itself_has_no_distance(finished, horses, tmp_path, monkeypatch):
    monkeypatch.setattr("semst.commands.score.cached_inception", lambda: None)
    words = ["score", finished, "--source", horses, "--target", horses, "--out", tmp_path]
    assert main([str(word) for word in words]) == 0
    rows = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert rows[0]["thumbnails"] < 1e-3 < rows[1]["thumbnails"]


def test_labels_are_read_by_an_evaluator(finished, tmp_path, capsys):
    scenes = write_scenes(tmp_path / "horses", "horse", 4, 48, 0)
    torch.manual_seed(0)
    net = Segmenter(classes=8, width=4)
    save_segmenter(net, tmp_path / "evaluator.safetensors")
    words = ["score", finished, "--source", scenes / "images", "--target", scenes / "images",
             "--labels", scenes / "labels", "--out", tmp_path / "out", "--size", 48]
    assert "belong together" in mistake(capsys, *words)
    words += ["--evaluator", tmp_path / "evaluator.safetensors"]
    assert main([str(word) for word in words]) == 0
    row = json.loads((tmp_path / "out/scores.json").read_text())["scores"][0]
    assert 0 <= row["miou"] <= row["pixel_accuracy"] <= 1
    truth = np.stack([np.asarray(Image.open(file)) for file in sorted(
        (scenes / "labels").iterdir())])
    x = np.stack([np.asarray(Image.open(file)) for file in sorted((scenes / "images").iterdir())])
    with torch.no_grad():
        read = net.eval()(torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1).argmax(1).numpy()
    assert row["pixel_accuracy"] == pytest.approx(np.mean(read == truth), abs=1e-3)


def test_a_folder_without_checkpoints(horses, tmp_path, capsys):
    said = mistake(capsys, "score", tmp_path, "--source", horses, "--target", horses)
    assert "no checkpoint" in said


# ---- train --from

def train_words(source, target, out, *more):
    words = ["train", "--source", source, "--target", target, "--out", out, "--preset", "tiny",
             "--steps", 1, "--workers", 0, "--ndf", 4, "--patches", 32, *more]
    return [str(word) for word in words]


def test_a_training_begins_with_another_s_weights(finished, horses, zebras, tmp_path):
    go = train_words(zebras, horses, tmp_path / "new", "--from", finished, "--lr", "1e-12")
    assert main(go) == 0
    before = SemST.from_pretrained(finished).state_dict()
    after = SemST.from_pretrained(tmp_path / "new")
    assert after.config.ngf == 4 and after.config.crop == 32
    for name, value in after.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-6), name


def test_weights_and_a_longer_training(finished, horses, zebras, tmp_path):
    weights = next(finished.rglob("average.safetensors"))
    assert main(train_words(zebras, horses, tmp_path / "new", "--from", weights)) == 0
    assert main(["train", "--out", str(tmp_path / "new"), "--resume", "--steps", "2"]) == 0
    about = json.loads((tmp_path / "new/config.json").read_text())
    assert about["steps"] == 2 and about["begun_from"] == str(weights)     # a resume keeps the note
    assert about["begun_from_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    SemST.from_pretrained(tmp_path / "new").save_pretrained(tmp_path / "card", tmp_path / "new")
    card = (tmp_path / "card/README.md").read_text()
    assert f"Begun from: `{weights.name}`" in card and about["begun_from_sha256"] in card


@pytest.mark.parametrize("more, says", [
    (["--ngf", 8], "built otherwise (ngf 4 instead of 8)"),
    (["--resume"], "is not a run of semst"),
])
def test_what_does_not_fit(finished, horses, zebras, tmp_path, capsys, more, says):
    words = train_words(zebras, horses, tmp_path / "new", "--from", finished, *more)
    assert says in mistake(capsys, *words)
    assert not (tmp_path / "new").exists()


def test_epochs_alone_decide_the_length(horses, zebras, tmp_path, capsys):
    words = train_words(horses, zebras, tmp_path / "r", "--epochs", "1", "--crop", "32",
                        "--ngf", "4")
    at = words.index("--steps")
    assert main(words[:at] + words[at + 2:]) == 0
    assert json.loads((tmp_path / "r/config.json").read_text())["steps"] == 4      # pictures


def test_the_crop_of_another_s_networks_is_said(horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, "--out", tmp_path / "r", "--from",
             "demo", "--dry-run", "--preset", "single-scale", "--small", "enlarge"]
    assert main([*map(str, words)]) == 0
    assert "begins from demo, with --crop 64" in capsys.readouterr().out


def test_a_resume_takes_the_start_that_the_run_had(finished, horses, zebras, tmp_path, capsys):
    "A script that calls the same line again, with --resume, goes on."
    words = train_words(zebras, horses, tmp_path / "new", "--from", finished)
    assert main(words) == 0
    at = words.index("--steps")
    more = [*words[:at], "--resume", "--steps", "2", *words[at + 2:]]
    assert main(more) == 0
    shutil.rmtree(tmp_path / "new/checkpoints")              # as if it were killed before the first
    assert main([*more, "--lr", "0.0004"]) == 0
    before, after = (SemST.from_pretrained(run).state_dict()
                     for run in (finished, tmp_path / "new"))
    assert all((after[name] - before[name]).abs().max() < 0.01 for name in before)
    shutil.rmtree(tmp_path / "new/checkpoints")
    weights = next(finished.rglob("average.safetensors"))
    (tmp_path / "new/config.json").write_text(
        (tmp_path / "new/config.json").read_text().replace(digest(weights), "0" * 64))
    assert "is no longer the file" in mistake(capsys, *more)
    assert "began from untrained networks" in mistake(
        capsys, "train", "--out", finished, "--resume", "--from", finished)


def test_a_start_that_is_not_there(horses, zebras, tmp_path, capsys):
    words = train_words(horses, zebras, tmp_path / "new", "--from", tmp_path / "none")
    assert "no such run" in mistake(capsys, *words)


# ---- train --dry-run

def test_a_dry_run_says_time_memory_and_disk_and_leaves_nothing(horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, "--out", tmp_path / "run", *TINY,
             "--steps", 1000, "--dry-run"]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert "time: 1000 steps of" in said and "memory: " in said and "a checkpoint" in said
    assert not (tmp_path / "run").exists()
    seconds = float(said.split("steps of ")[1].split()[0])
    hours, minutes, rest = (int(n) for n in said.split("s): ")[1].split("\n")[0].split(":"))
    assert hours * 3600 + minutes * 60 + rest == pytest.approx(1000 * seconds, rel=0.2, abs=3)


def test_a_dry_run_of_a_short_training_and_its_disk(finished, horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, "--out", tmp_path / "run", *TINY]
    assert main([str(word) for word in words] + ["--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "time: 4 steps" in said
    disk = float(said.split("disk: ")[1].split(" MB")[0]) * 1e6
    folder = next(finished.glob("checkpoints/*4"))
    real = sum(file.stat().st_size for file in folder.iterdir())
    assert disk == pytest.approx(real, rel=0.15)


def test_a_dry_run_names_mistakes(finished, horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, *TINY, "--dry-run", "--out"]
    assert "already holds a run" in mistake(capsys, *words, finished)
    assert "lies inside" in mistake(capsys, *words, horses / "run")
