"The benchmark: parts made once, seeds that are repetitions, and a comparison that favours nobody."
import json
import math
from dataclasses import replace

import pytest
import torch

from semst import benchmark
from semst.baselines import OBJECTIVES
from semst.benchmark import COLUMNS, METHOD_NAMES, PROFILES, Trial, best_within, config_for, downstream, lead, mean_interval, table
from semst.data import InputError, load_image
from semst.metrics import load_labelled


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    t = Trial(tmp_path_factory.mktemp("trial"), "smoke", "sim2photo", 3)
    t.score("semst")
    return t


def test_oracle_has_the_layouts_of_test_a_in_the_target_s_look(trial):
    (x, a), (y, b) = (load_labelled(trial.data()[name]) for name in ("testA", "oracle"))
    assert torch.equal(a, b) and not torch.equal(x, y)


def test_no_scene_serves_two_purposes(trial):
    seen = {}
    for name, folder in trial.data().items():
        if name == "oracle": continue
        for f in (folder / "labels").iterdir(): seen.setdefault(f.read_bytes(), set()).add(name)
    assert all(len(names) == 1 for names in seen.values())


def test_another_seed_is_another_experiment(trial, tmp_path):
    other = Trial(tmp_path, "smoke", "sim2photo", 4)
    assert not torch.equal(load_labelled(other.data()["testA"])[1], load_labelled(trial.data()["testA"])[1])
    assert config_for("semst", PROFILES["smoke"], 4).seed == 4


def test_nothing_is_made_twice(trial, monkeypatch):
    curve, row = trial.score("semst"), trial.references()
    def never(*args, **kwargs): raise AssertionError("made again")
    for name in ("train", "evaluate", "train_segmenter"): monkeypatch.setattr(benchmark, name, never)
    assert trial.score("semst") == curve and trial.references() == row


def test_every_checkpoint_is_scored_and_the_last_one_s_pictures_are_kept(trial):
    assert [p["step"] for p in trial.score("semst")] == [2, 4]
    saved = sorted((trial.folder / "semst/translations").iterdir())
    assert len(saved) == PROFILES["smoke"].test and load_image(saved[0]).size == (32, 32)
    row = trial.rate(trial.translations("semst"))                                  # the pictures on disk give the scores in the file
    assert row["pixel_accuracy"] == trial.score("semst")[-1]["pixel_accuracy"]
    assert row["sfd_oracle"] == pytest.approx(trial.score("semst")[-1]["sfd_oracle"], rel=1e-4)


def test_readers(trial):
    scores = {m: downstream(trial, m) for m in ("source", "semst", "target")}
    assert len({s["pixel_accuracy"] for s in scores.values()}) == 3
    assert json.loads((trial.folder / "target/downstream.json").read_text())["n"] == PROFILES["smoke"].test


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_methods_differ_in_their_objective_alone(method):
    ours, base = config_for(method, PROFILES["cpu"], 0), config_for("semst", PROFILES["cpu"], 0)
    differ = {k for k, v in vars(ours).items() if v != vars(base)[k]}
    assert differ <= set(OBJECTIVES.get(method, {"model": 0})) and ours.gan == base.gan == "bce"
    if method == "semst-two-scales": assert replace(ours.model, scales=1, local_crop=base.model.local_crop) == base.model


def test_comparison_at_equal_distance():
    curve = lambda *points: [dict(pixel_accuracy=a, sfd_oracle=d) for a, d in points]
    a, b = curve((0.9, 5), (0.8, 2)), curve((0.95, 6), (0.7, 2), (0.6, 1))
    assert lead(a, b) == pytest.approx(0.1) and lead(b, a) == pytest.approx(-0.1)        # at 2, which both reached
    assert lead(a, curve((0.99, 20))) == pytest.approx(0.9 - 0.99)                       # b never came near: compared out there
    assert best_within(a, 1) == -math.inf


def test_intervals_over_seeds():
    mean, low, high = mean_interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert mean == pytest.approx(0.3) and high - mean == pytest.approx(2.776 * 0.158114 / 5**0.5, rel=1e-4) and mean - low == pytest.approx(high - mean)
    assert math.isnan(mean_interval([0.5])[1])


def test_table_is_a_mean_over_seeds():
    line = table({"x": [dict.fromkeys(COLUMNS, 1.0), dict.fromkeys(COLUMNS, 2.0)]}).splitlines()[-1]
    assert line == "| x | " + " | ".join(["1.500"] * len(COLUMNS)) + " | 2 |"


def test_unknown_method():
    with pytest.raises(InputError, match="unknown method 'magic': one of gan"): config_for("magic", PROFILES["smoke"], 0)
