"Comparisons that favour nobody, intervals over seeds, and verdicts that a lucky seed cannot have."
import csv
import math
from types import SimpleNamespace

import pytest
import torch

from semst.baselines import BASELINES
from semst.bench.benchmark import CITYSCAPES, Trial
from semst.bench.comparison import COLUMNS, T975, compared, conclude, data_of, flip_lines, flip_rows, lead, lead_table, leads_of, mean_interval, repetitions, score_rows, table, worse_than_none, write_csv
from semst.data import InputError


def test_comparison_at_equal_distance():
    curve = lambda *points: [dict(pixel_accuracy=a, sfd_oracle=d) for a, d in points]
    a, b = curve((0.9, 5), (0.8, 2)), curve((0.95, 6), (0.7, 2), (0.6, 1))
    assert lead(a, b) == pytest.approx(0.1) and lead(b, a) == pytest.approx(-0.1)        # at 2, which both reached
    assert lead(a, curve((0.99, 20))) == pytest.approx(0.9 - 0.99)                       # b never came near: compared out there
    assert [p["pixel_accuracy"] for p in compared(b, curve((0.5, 4)))] == [0.7, 0.5]     # the one nearest to the distance, not the best
    assert worse_than_none(a, b, dict(sfd_oracle=1.9)) and not worse_than_none(a, b, dict(sfd_oracle=2))         # both at 2
    assert not worse_than_none(curve((0.5, 3)), curve((0.5, 1)), dict(sfd_oracle=2))     # one came nearer than the input
    assert lead(curve((0.5, 3)), curve((0.6, 3), (0.9, 2), (0.4, 1))) == pytest.approx(-0.1)


@pytest.mark.parametrize("freedom", range(1, len(T975)))
def test_the_table_is_student_s_t(freedom):
    angle = torch.linspace(0, math.atan(T975[freedom] / freedom**0.5), 10_001, dtype=torch.float64)      # t = sqrt(freedom) tan(angle) has the density cos^(freedom - 1)
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(math.pi) * math.gamma(freedom / 2))
    assert 2 * constant * torch.trapezoid(angle.cos() ** (freedom - 1), angle) == pytest.approx(0.95, abs=5e-5)


def test_intervals_over_seeds():
    mean, low, high, positive, seeds = mean_interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (positive, seeds) == (5, 5) and mean_interval([-0.1, 0.0, 0.1]).positive == 1
    with pytest.raises(InputError, match="21 seeds"): mean_interval([0.1] * 21)
    assert mean == pytest.approx(0.3) and high - mean == pytest.approx(2.776 * 0.158114 / 5**0.5, rel=1e-4) and mean - low == pytest.approx(high - mean)
    assert math.isnan(mean_interval([0.5])[1])


def test_table_is_a_mean_over_seeds():
    line = table({"x": [dict.fromkeys(COLUMNS, 1.0), dict.fromkeys(COLUMNS, 2.0)]}).splitlines()[-1]
    assert line == "| x | " + " | ".join(["1.500"] * len(COLUMNS)) + " | 2 | - |"


UNTOUCHED = {"copy of the input": dict(n=8, sfd_oracle=2.0, pixel_accuracy=0.9, class_accuracy=0.9, miou=0.9)}
TRIAL = SimpleNamespace(judged=True, data_root=None, yardstick="sfd_oracle", profile="cpu")

def curves(ahead=0.1, seeds=5, wobble=0.01):
    "One checkpoint a seed; SemST is ahead of all others by so much, which wobble from seed to seed."
    def curve(accuracy): return [dict(step=1, n=8, sfd_oracle=1.0, pixel_accuracy=accuracy, class_accuracy=accuracy, miou=accuracy)]
    return {"semst": [curve(0.5 + ahead)] * seeds} | {m: [curve(0.5 + wobble * (-1) ** s) for s in range(seeds)] for m in ("gan", *BASELINES)}


def verdict(every, trial=TRIAL):
    n = len(every["semst"])
    return conclude([trial] * n, every, [UNTOUCHED] * n, leads_of(trial, every))


@pytest.mark.parametrize("every, word", [
    (curves(), "trend"), (curves(seeds=3), "trend"), (curves(seeds=2), "smoke"), (curves(seeds=1), "smoke"),
    (curves(ahead=-0.1), "not reproduced"), (curves(ahead=0), "undecided"), (curves(wobble=0.2), "undecided")])      # the last: ahead by 0.1 on average
def test_a_trend_needs_seeds_and_intervals(every, word):
    assert verdict(every)[1] == word
    assert verdict(every, SimpleNamespace(**vars(TRIAL) | dict(profile="smoke")))[1] == "smoke"


def test_one_baseline_that_is_as_good_takes_the_trend_away():
    every = curves()
    for m in BASELINES: assert verdict(every | {m: every["semst"]})[1] == "undecided"
    for m in BASELINES: assert verdict(every | {m: curves(ahead=0.2)["semst"]})[1] == "not reproduced"
    assert verdict(every | dict(gan=every["semst"]))[1] == "trend"                     # the plain GAN is none of the six


def test_leads_from_beyond_the_input_are_counted_and_excuse_nobody():
    def far(curve): return [dict(p, sfd_oracle=3.0) for p in curve]                    # the input lies at 2
    for ahead, word in ((0.1, "trend"), (-0.1, "not reproduced")):
        every = curves(ahead)
        metrics, same = verdict({m: [far(c) for c in every[m]] if m in ("semst", "cut") else every[m] for m in every})
        assert same == word and metrics["lead over cut, seeds beyond the input"] == 5 and "lead over src, seeds beyond the input" not in metrics


def test_leads_of_another_kind_count_too():
    every, leads = curves(), leads_of(TRIAL, curves())
    def with_readers(*values): return conclude([TRIAL] * 5, every, [UNTOUCHED] * 5, leads, further=[mean_interval(list(v)) for v in values])[1]
    assert with_readers((0.1, 0.11, 0.12)) == "trend" and with_readers((0.1, 0.11, 0.12), (-0.1, 0.0, 0.1)) == "undecided"
    assert with_readers((0.1, 0.11, 0.12), (-0.1, -0.11, -0.12)) == "not reproduced"
    def unasked(ahead): return conclude([TRIAL] * 5, curves(ahead), [UNTOUCHED] * 5, leads_of(TRIAL, curves(ahead)), further=None)[1]
    assert unasked(0.1) == "undecided" and unasked(-0.1) == "not reproduced"             # half of the claim could not be asked: it may fail, not hold


def test_the_manifest_s_data_are_those_of_every_seed(tmp_path):
    trials = [Trial(tmp_path / "results", "smoke", "horse2zebra", seed) for seed in (0, 1)]
    folders = data_of(trials)
    assert len(folders) == 12 and folders["seed 1, oracle"] == trials[1].folder / "data/oracle/images" and all(f.is_dir() for f in folders.values())


def test_all_leads_and_bounds_are_in_the_manifest():
    metrics = verdict(curves())[0]
    for m in BASELINES:
        low, mean, high = (metrics[f"lead over {m}, {end}"] for end in ("pixel accuracy, low", "pixel accuracy", "mIoU, high"))
        assert low < mean < high and mean == pytest.approx(0.098) and metrics[f"lead over {m}, mIoU, seeds above 0"] == 5
    assert metrics["seeds"] == 5 and metrics["test scenes"] == 8 and metrics["pixel accuracy of semst"] == pytest.approx(0.6)
    assert not any(", low" in name for name in verdict(curves(seeds=1))[0])


def test_scores_can_be_computed_again_from_the_file(tmp_path):
    every = curves()
    write_csv(tmp_path / "scores.csv", score_rows(every, [dict(oracle=dict(pixel_accuracy=0.9, pixel_accuracy_low=0.85, miou_high=0.75, flips=[[1]]))] * 5))
    with open(tmp_path / "scores.csv", newline="") as f: rows = list(csv.DictReader(f))
    again = [float(a["pixel_accuracy"]) - float(b["pixel_accuracy"]) for a in rows for b in rows if a["method"] == "semst" and b["method"] == "cut" and a["seed"] == b["seed"]]
    assert tuple(mean_interval(again)) == pytest.approx(tuple(leads_of(TRIAL, every)["cut"]["pixel accuracy"]))
    assert len(rows) == 5 + 5 * len(every) and "flips" not in rows[0] and rows[0]["step"] == ""
    assert {r["n"] for r in rows if r["method"] == "semst"} == {"8"} and (rows[0]["pixel_accuracy_low"], rows[0]["miou_high"]) == ("0.85", "0.75")


def test_flips_are_means_over_the_seeds_that_have_the_class():
    seeds = [dict(flips=[[0.6, 0.4, 0], [0, 1, 0], [0, 0, 0]]), dict(flips=[[0.8, 0.196, 0.004], [0.1, 0.9, 0], [0.26, 0.25, 0.49]])]
    flips = flip_rows(dict(cut=seeds, src=seeds[:1]), ("sky", "tree", "car"))
    assert [(f["method"], f["true"], f["read"], f["share"]) for f in flips] == [
        ("cut", "sky", "tree", 0.298), ("cut", "car", "sky", 0.26), ("cut", "car", "tree", 0.25), ("cut", "tree", "sky", 0.05), ("src", "sky", "tree", 0.4)]      # a share of 0.002 is left out
    assert flip_rows(dict(cut=[dict(n=8)]), ("sky", "tree", "car")) == []                          # a folder without labels
    lines = flip_lines(flips, ["cut", "src", "oracle"], ("sky", "tree", "car"), top=2).splitlines()
    assert lines[2:] == ["| cut | 30% | sky → tree 30%, car → sky 26% |", "| src | 40% | sky → tree 40% |", "| oracle | 0% | none |"]
    cityscapes = flip_lines([dict(method="cut", true="sky", read="vegetation", share="0.4")], ["cut"], CITYSCAPES).splitlines()
    assert cityscapes[0] == "| | sky → vegetation | the largest |" and cityscapes[2] == "| cut | 40% | sky → vegetation 40% |"
    assert flip_lines(flips, ["src"], ("horse", "grass")).splitlines()[0] == "| | the largest |"


def test_leads_read_well():
    assert lead_table(leads_of(TRIAL, curves(seeds=1))).splitlines()[2] == "| gan | +0.090 | +0.090 | +0.090 |"
    assert lead_table(leads_of(TRIAL, curves())).splitlines()[2].count("(*)") == 3
    assert "Nothing to compare" in lead_table({})


def test_seeds_that_a_profile_does_not_have(tmp_path):
    trials, shown = repetitions(tmp_path, "cpu", "sim2photo", 4)
    assert len(trials) == 5 and shown.seed == 4
    with pytest.raises(InputError, match="seed 5: the profile cpu has the seeds 0 to 4"): repetitions(tmp_path, "cpu", "sim2photo", 5)
    with pytest.raises(InputError, match="unknown profile"): repetitions(tmp_path, "fast", "sim2photo")
