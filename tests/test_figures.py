"Frames by a rule, grids pixel for pixel, and plots that show what they are given."
import math

import numpy as np
import pytest
import torch

from semst.bench.dataset import Dataset
from semst.bench.evaluation import teach_evaluator
from semst.bench.experiment import Experiment, Trial
from semst.bench.figures import (Column, classes_figure, colours, curves_figure, flip_windows,
                                 forest_figure, framed, front_figure, grid, predictions_figure,
                                 translations_figure)
from semst.bench.protocol import PROFILES
from semst.eval.statistics import Interval


def pixels_of(fig):
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3]


def test_worst_window_first_and_no_overlap():
    wrong = torch.zeros(64, 64, dtype=torch.bool)
    wrong[0:16, 0:16] = True
    wrong[40:56, 40:52] = True
    first, second = flip_windows(wrong)
    assert tuple(first) == (0, 0, 16, 1.0) and second.share == 0.75
    assert abs(second.top - first.top) >= 16
    assert len(flip_windows(torch.ones(64, 64, dtype=torch.bool), most=3)) == 3
    half = torch.zeros(64, 64, dtype=torch.bool)
    half[:8] = True                                            # half of a window at most
    assert flip_windows(half) == [] and flip_windows(half, share=0.4)


def test_a_frame_lies_around_its_window():
    image = framed(torch.zeros(3, 32, 32), 4, [(8, 16, 8, 1.0)])
    assert image.shape == (128, 128, 3)
    red = (image == (230, 20, 20)).all(-1)
    assert red[32, 64:96].all() and red[32:64, 95].all() and not red[40:56, 72:88].any()
    assert not red[:32].any() and not red[:, :64].any()


def test_a_grid_shows_every_pixel_enlarged():
    r = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 32, 32), generator=r) / 127.5 - 1
    fig = grid([Column("a", picture[None]), Column("b", -picture[None], "below")], "heading")
    shown, wanted = pixels_of(fig), framed(picture, 6)
    h, w = wanted.shape[:2]
    places = [(y, x) for y in range(60, 70) for x in range(4, 9)]
    assert any((shown[y:y + h, x:x + w] == wanted).all() for y, x in places)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    profile = PROFILES["smoke"]
    dataset = Dataset(tmp_path_factory.mktemp("figures"), "parsing2photo", profile)
    dataset.prepare()
    return Experiment(dataset, teach_evaluator(dataset, profile), profile)


def texts(fig):
    return [text.get_text() for text in fig.texts]


def test_translations_side_by_side(experiment):
    trials = [Trial("copy"), Trial("matrix"), Trial("cut"), Trial("oracle")]
    fig = translations_figure(experiment, trials, rows=2, titles={trials[2]: "CUT, 4 steps"})
    said = texts(fig)
    assert {"input", "colour matrix", "CUT, 4 steps", "oracle"} <= set(said)
    flips = experiment.score(Trial("cut"))["flips"]
    assert f"{100 * flips:.0f} % flipped" in said
    assert said[-1].startswith("Label map to photograph (drawn scenes, 32 pixels)")


def test_predictions_of_downstream_networks(experiment):
    fig = predictions_figure(experiment, [Trial("copy"), Trial("oracle")], rows=2)
    miou = experiment.downstream(Trial("oracle"))["miou"]
    assert "trained on oracle" in texts(fig) and f"mIoU {miou:.2f}" in texts(fig)
    fig = classes_figure(experiment, [Trial("copy"), Trial("oracle")])
    shown = [t.get_text() for t in fig.axes[0].texts]
    iou = experiment.downstream(Trial("copy"))["iou"]["sky"]
    assert shown[0] == f"{100 * iou:.0f}" and len(shown) == 2 * len(experiment.dataset.classes)


def test_more_classes_than_colours_and_void():
    ids = torch.tensor([[[0, 18, 255]]], dtype=torch.uint8)
    shown = colours(ids, 19)
    assert shown.shape == (1, 3, 1, 3) and (shown[0, :, 0, 2] == -1).all()
    assert not torch.equal(shown[0, :, 0, 0], shown[0, :, 0, 1])


def test_a_forest_s_colours_say_what_is_decided():
    given = dict(a=Interval(0.1, 0.05, 0.15), b=Interval(0.0, -0.1, 0.1),
                 c=Interval(-0.1, -0.2, -0.05), d=Interval(0.1, math.nan, math.nan))
    ax = forest_figure(given, "title").axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [dot.get_color() for dot in dots] == ["tab:blue", "grey", "tab:red", "grey"]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(given)


def test_curves_have_a_line_for_each_training():
    rows = [dict(pair="summer2winter", method="cut", weight=0.3, seed=seed, steps=steps,
                 downstream=0.1, class_accuracy=0.2) for seed in (0.0, 1.0) for steps in (2.0, 4.0)]
    for ax in curves_figure(rows, "title").axes:
        assert [list(line.get_xdata()) for line in ax.lines] == [[2, 4], [2, 4]]
        assert [line.get_label() for line in ax.lines] == [
            f"CUT, weight 0.3, seed {seed}, summer to winter" for seed in (0, 1)]


def test_a_front_has_means_over_seeds():
    rows = [dict(method="cut", weight=w, seed=s, downstream=w + s)
            for w in (1.0, 0.3) for s in (0, 1)]
    ax = front_figure([*rows, dict(method="copy", weight=1.0, downstream=0.1)], "title").axes[0]
    line = next(line for line in ax.lines if line.get_label() == "CUT")
    assert list(line.get_xdata()) == [0.3, 1.0]
    assert list(line.get_ydata()) == pytest.approx([0.8, 1.5])


def test_pictures_of_the_target_have_no_flips(experiment):
    "The reference `target` shows testB: no translations, and other scenes than the oracle's."
    said = texts(translations_figure(experiment, [Trial("matrix"), Trial("target")], rows=2))
    assert "target" in said and sum("flipped" in words for words in said[:-1]) == 1
    assert "low_pass" in experiment.score(Trial("matrix"))
    assert "low_pass" not in experiment.score(Trial("target"))
