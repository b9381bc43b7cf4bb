"Rows, differences, answers and verdicts."
import csv
import math
import sys

import numpy as np
import pytest
from conftest import ROOT

from semst.bench.comparison import (COLUMNS, RIVALS, conclude, decide, differences, markdown,
                                    read_rows, row_of, table, values, write_rows)
from semst.bench.dataset import Dataset
from semst.bench.evaluation import teach_evaluator
from semst.bench.experiment import Experiment, Trial, settings_digest
from semst.bench.protocol import PAIRS, PROFILES
from semst.data import InputError
from semst.eval.statistics import Interval, difference_interval

sys.path.insert(0, str(ROOT / "reproduce/tools"))
import collect  # noqa: E402

AHEAD, BEHIND = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.15, -0.05)
ALIKE, OPEN = Interval(0.01, -0.01, 0.029), Interval(0.03, -0.01, 0.07)


def rows_of(**centres):
    "Four trainings of each method around a centre."
    return [dict(pair="parsing2photo", method=m, weight=1.0, seed=s, steps=1, downstream=c + d)
            for m, c in centres.items() for s, d in enumerate((-0.01, 0.0, 0.005, 0.01))]


@pytest.mark.parametrize("interval, answer", [
    (AHEAD, "ahead"), (BEHIND, "behind"), (ALIKE, "alike"), (OPEN, "open"),
    (Interval(0.028, 0.001, 0.055), "open"),                 # above zero, but too small to be ahead
    (Interval(0.03, 0.001, 0.059), "ahead"), (Interval(0.02, 0.011, 0.029), "alike"),
    (Interval(1.0, math.nan, math.nan), "open")])
def test_answers(interval, answer):
    assert decide(interval) == answer


def test_a_trend_needs_every_rival():
    everywhere = dict.fromkeys(RIVALS, AHEAD)
    assert len(RIVALS) == 8 and conclude(everywhere)[0] == "trend"
    for rival in RIVALS:
        for interval, verdict in ((ALIKE, "undecided"), (OPEN, "undecided"),
                                  (BEHIND, "not reproduced")):
            assert conclude(everywhere | {rival: interval})[0] == verdict
        lacking = {m: i for m, i in everywhere.items() if m != rival}
        assert conclude(lacking)[0] == "smoke"
        single = everywhere | {rival: Interval(0.1, math.nan, math.nan)}
        assert conclude(single)[0] == "smoke"
        assert conclude({rival: BEHIND})[0] == "not reproduced"      # whatever the others will say
    assert conclude({"cut": Interval(0.1, math.nan, math.nan)}) == (
        "smoke", "Too few trainings to conclude anything.")
    assert conclude({}) == (
        "undecided", "Without label maps there is no downstream network, and no verdict.")


@pytest.mark.parametrize("interval", [AHEAD, BEHIND, OPEN])
def test_no_verdict_rests_on_a_pair_that_is_not_admitted(interval):
    verdict, words = conclude(dict.fromkeys(RIVALS, interval), admitted=False)
    assert verdict == "undecided"
    assert words.endswith("The pair is not admitted, so it is only shown.")


def test_pairs_are_admitted_as_the_table_says():
    with open(ROOT / "reproduce/tables/admission.csv", newline="") as file:
        rows = {(row["pair"], row["row"]): row for row in csv.DictReader(file)}
    for name, pair in PAIRS.items():
        oracle = rows[name, "oracle"]
        gaps = [float(oracle[measure]) - float(rows[name, row][measure])
                for row in ("copy", "matrix") for measure in ("miou", "pixel_accuracy")]
        assert pair.admitted == (float(oracle["miou"]) >= 0.75 and min(gaps) >= 0.15), name


def test_verdicts_in_words():
    found = dict.fromkeys(RIVALS, AHEAD) | dict(cut=BEHIND, src=OPEN, scc=OPEN, gcgan=ALIKE)
    assert conclude(found)[1] == (
        "SemST is ahead of input, colour matrix, CycleGAN and FastCUT; it is as good as GcGAN; "
        "it is behind CUT; it has no decided difference to SRC and SCC.")


def test_differences_are_unpaired():
    rows = rows_of(semst=0.3, cut=0.2, copy=0.1)
    found = differences(rows, ("cut", "copy", "src"))
    assert set(found) == {"cut", "copy"}
    expected = difference_interval(values(rows, "semst"), values(rows, "cut"))
    assert found["cut"] == expected and found["cut"].mean == pytest.approx(0.1)
    shuffled = sorted(rows, key=lambda row: (row["method"], -row["seed"]))
    assert differences(shuffled, ["cut"])["cut"] == pytest.approx(expected)
    assert differences(rows, ["cut"], of="copy")["cut"].mean == pytest.approx(-0.1)


def test_rows_come_back_from_their_file(tmp_path):
    rows = rows_of(semst=0.3)
    rows[0] |= dict(settings="0123", revision="007", flips=0.25)
    write_rows(tmp_path / "rows.csv", rows)
    again = read_rows(tmp_path / "rows.csv")
    for a, b in zip(again, rows, strict=True):
        assert set(a) == set(b) and all(a[name] == pytest.approx(b[name]) for name in b)
    assert again[0]["settings"] == "0123" and "flips" not in again[1]
    (tmp_path / "rows.csv").write_text("pair,method\na,b\n")
    with pytest.raises(InputError, match="lacks the columns downstream, seed, steps, weight"):
        read_rows(tmp_path / "rows.csv")
    (tmp_path / "bad.csv").write_text(",".join(COLUMNS[:6]) + "\na,b,1,0,6,high\n")
    with pytest.raises(InputError, match="bad.csv, line 2: .*high"):
        read_rows(tmp_path / "bad.csv")


def test_a_table_s_numbers():
    lines = table(rows_of(semst=0.3, copy=0.1), ("copy", "semst", "scc"))
    assert lines[0] == ["", "downstream mIoU", "trainings"]
    mean = np.mean(values(rows_of(semst=0.3), "semst"))
    assert lines[2][0] == "SemST" and lines[2][1].startswith(f"{mean:.3f} [")
    assert [line[-1] for line in lines[1:]] == ["none", "4", "0"] and lines[3][1] == ""
    assert markdown(lines).splitlines()[1] == "|---|---:|---:|"


def test_two_trainings_have_their_values_and_no_interval():
    lines = table(rows_of(cut=0.2)[:2], ("cut",))
    assert lines[1] == ["CUT", "0.190, 0.200", "2"]


def test_a_trial_s_row(tmp_path):
    profile = PROFILES["smoke"]
    dataset = Dataset(tmp_path, "parsing2photo", profile)
    dataset.prepare()
    experiment = Experiment(dataset, teach_evaluator(dataset, profile), profile)
    trial = Trial("cut", 0.3, 1)
    row = row_of(experiment, trial)
    assert set(row) == set(COLUMNS) - {"fid", "kid", "kid_std", "animals"}
    assert row["downstream"] == experiment.downstream(trial)["miou"]
    assert row["flips"] == experiment.score(trial)["flips"] and row["steps"] == 4
    assert row["settings"] == settings_digest(experiment.config(trial))
    copy = row_of(experiment, Trial("copy"))
    assert (copy["steps"], copy["settings"], copy["method"]) == (0, "", "copy")


def test_a_row_of_horses_says_how_many_animals_are_read_as_such(tmp_path):
    profile = PROFILES["smoke"]
    dataset = Dataset(tmp_path, "horse2zebra", profile)
    dataset.prepare()
    evaluator = teach_evaluator(dataset, profile)
    row = row_of(Experiment(dataset, evaluator, profile), Trial("copy"))
    y, labels = dataset.labelled("testA")
    animal = labels == dataset.classes.index("animal")
    read = evaluator.read(y)[animal] == dataset.classes.index("animal")
    assert row["animals"] == pytest.approx(read.float().mean().item(), abs=1e-4)


def test_collecting_adds_rows_and_renews_those_of_other_settings_alone(tmp_path, monkeypatch,
                                                                       capsys):
    file = tmp_path / "scores.csv"
    was = dict(weight=1.0, seed=0, steps=6, settings="new")
    old = [dict(pair="summer2winter", method="cut", downstream=0.6, **was),
           dict(pair="parsing2photo", method="cut", downstream=0.2, **was | dict(settings="old")),
           dict(pair="parsing2photo", method="src", downstream=0.5, **was),
           dict(pair="parsing2photo", method="gan", downstream=0.1, **was)]
    write_rows(file, old)
    finished = {Trial("cut", 1.0, 0): 0.3, Trial("semst", 1.0, 1): 0.4, Trial("src", 1.0, 0): 0.9}
    monkeypatch.setattr(collect, "open_experiment", lambda *_: None)
    monkeypatch.setattr(collect, "training_trials", lambda *_: list(finished))
    monkeypatch.setattr(collect, "reference_trials", lambda *_: [])
    monkeypatch.setattr(collect, "done", lambda _, trial: trial in finished)
    monkeypatch.setattr(collect, "row_of", lambda _, trial: dict(
        pair="parsing2photo", method=trial.method, weight=trial.weight, seed=trial.seed, steps=6,
        downstream=finished[trial], settings="new"))
    monkeypatch.setattr(sys, "argv", ["collect.py", "cpu", "--pairs", "parsing2photo",
                                      "--out", str(file)])
    collect.main()
    found = {(r["pair"], r["method"], r["seed"]): r["downstream"] for r in read_rows(file)}
    assert "src/x1/seed0: the table's 0.500 stays" in capsys.readouterr().err
    assert found == {("parsing2photo", "cut", 0): 0.3, ("parsing2photo", "gan", 0): 0.1,
                     ("parsing2photo", "src", 0): 0.5,
                     ("parsing2photo", "semst", 1): 0.4, ("summer2winter", "cut", 0): 0.6}
