"Labels, segmentation networks, scores, distances and statistics."
import json
import math
import sys
import types
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from semst.data import InputError
from semst.eval.distances import (edge_cosine, fid_kid, frechet_distance, kernel_distance,
                                  low_pass_distance, mmd_unbiased)
from semst.eval.evaluator import (Segmenter, load_segmenter, pooled_features, save_segmenter,
                                  segment, train_segmenter)
from semst.eval.labels import VOID, load_labelled, spread
from semst.eval.scores import flip_table, flipped, semantic_scores
from semst.eval.statistics import (binomial_p, bootstrap, difference_interval, mean_interval,
                                   wilson_interval)


def write(folder, n=2, size=(8, 6), label=None):
    "n green pictures with label maps: picture i has the id i everywhere, or all have `label`."
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (0, 255, 0)).save(folder / f"images/{i}.png")
        ids = np.full(size[::-1], i, np.uint8) if label is None else label
        Image.fromarray(ids).save(folder / f"labels/{i}.png")
    return folder


def stripes(n=16, size=32):
    "Class 0 is dark, class 1 is bright: a task that a network learns in seconds."
    r = torch.Generator().manual_seed(0)
    labels = (torch.rand(n, 1, size, generator=r) < 0.4).repeat(1, size, 1).to(torch.uint8)
    return labels[:, None].repeat(1, 3, 1, 1) * 1.2 - 0.6, labels


@pytest.fixture(scope="module")
def evaluator():
    return train_segmenter(*stripes(), classes=2, steps=40)


# --- labels

def test_pictures_and_labels_are_read_in_order_of_their_names(tmp_path):
    images, labels = load_labelled(write(tmp_path, n=3), n=2)
    assert images.shape == (2, 3, 6, 8) and images[0, :, 0, 0].tolist() == [-1, 1, -1]
    assert labels.dtype == torch.uint8 and labels.flatten(1).unique(dim=1).tolist() == [[0], [1]]


def test_labels_may_lie_beside_the_folder(tmp_path):
    inside = load_labelled(write(tmp_path / "made", n=3))
    (tmp_path / "made/images").rename(tmp_path / "trainB")
    (tmp_path / "made/labels").rename(tmp_path / "trainB_labels")
    beside = load_labelled(tmp_path / "trainB")
    assert all(torch.equal(a, b) for a, b in zip(beside, inside))


def test_shrunken_labels_hold_no_class_in_between(tmp_path):
    write(tmp_path, n=2)
    Image.new("RGB", (31, 17)).save(tmp_path / "images/1.png")
    ids = (np.arange(31) % 2 * 7).astype(np.uint8)[None].repeat(17, 0)
    Image.fromarray(ids).save(tmp_path / "labels/1.png")
    images, labels = load_labelled(tmp_path, size=8)
    assert images.shape == (2, 3, 8, 8) and set(labels[1].unique().tolist()) <= {0, 7}


def test_a_part_of_a_set_is_spread_over_it(tmp_path):
    files = [tmp_path / str(i) for i in range(10)]
    assert spread(files, 4) == [files[i] for i in (0, 2, 5, 7)]
    assert spread(files, 10) == spread(files, 99) == spread(files, None) == files


def test_palette_labels_are_ids_not_colours(tmp_path):
    write(tmp_path, n=1)
    image = Image.fromarray(np.full((6, 8), 7, np.uint8), mode="P")
    image.putpalette([v for i in range(256) for v in (255 - i, i, 0)])
    image.save(tmp_path / "labels/0.png")
    assert load_labelled(tmp_path)[1].unique().tolist() == [7]


def other_size(folder):
    for mode, sub in (("RGB", "images"), ("L", "labels")):
        Image.new(mode, (9, 6)).save(folder / sub / "1.png")


@pytest.mark.parametrize("change, message", [
    (lambda f: (f / "labels/1.png").unlink(), "labels/1.png: no such file"),
    (lambda f: Image.new("L", (6, 8)).save(f / "labels/1.png"),
     r"labels/1.png: \(8, 6\) pixels, its picture has \(6, 8\)"),
    (lambda f: Image.new("RGB", (8, 6)).save(f / "labels/1.png"), "labels/1.png: mode RGB"),
    (lambda f: Image.new("L", (8, 6), 11).save(f / "labels/1.png"),
     "holds the id 11; ids run from 0 to 10"),
    (lambda f: (f / "labels/1.png").write_bytes(b"no image"), "labels/1.png: cannot be read"),
    (other_size, "images/1.png: .* the first has"),
])
def test_what_does_not_fit_is_named(tmp_path, change, message):
    change(write(tmp_path))
    with pytest.raises(InputError, match=message):
        load_labelled(tmp_path, classes=11)


def test_void_is_no_bad_id(tmp_path):
    write(tmp_path, label=np.full((6, 8), VOID, np.uint8))
    assert load_labelled(tmp_path, classes=3)[1].unique().tolist() == [VOID]


# --- the segmentation network

def test_it_learns_and_repeats_itself(evaluator):
    images, labels = stripes()
    assert (segment(evaluator, images) == labels).float().mean() > 0.97
    state = torch.get_rng_state()
    a, b, c = (train_segmenter(*stripes(), 2, steps=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
    assert torch.equal(a(images), b(images)) and not torch.equal(a(images), c(images))


def test_void_pixels_teach_nothing():
    images, labels = stripes(4)
    void, other = labels.clone(), labels.clone()
    void[:, :16] = VOID
    net = train_segmenter(images, void, classes=2, steps=2)
    assert all(p.isfinite().all() for p in net.parameters())
    with pytest.raises(InputError, match="the labels hold the id 2"):
        train_segmenter(images, other + 1, classes=2, steps=1)
    with pytest.raises(InputError, match="every pixel of the labels is void"):
        train_segmenter(images, torch.full_like(labels, VOID), classes=2, steps=1)


def test_predictions_do_not_depend_on_the_batch(evaluator):
    images, _ = stripes(40)
    assert torch.equal(segment(evaluator, images)[35:], segment(evaluator, images[35:]))
    features = pooled_features(evaluator, images)
    assert features.shape == (40, 64) and not features.requires_grad


def test_features_see_colour_and_texture(evaluator):
    flat = torch.zeros(4, 3, 32, 32)
    striped = flat + 0.5 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8)
    base = pooled_features(evaluator, flat)
    assert (pooled_features(evaluator, flat + 0.3) - base).norm() > 0.1
    apart = pooled_features(evaluator, striped) - base
    assert apart[:, 32:].norm() > 0.5 * apart[:, :32].norm() > 0       # the spreads tell textures


def test_a_saved_network_reads_the_same(evaluator, tmp_path):
    save_segmenter(evaluator, tmp_path / "e.safetensors")
    again = load_segmenter(tmp_path / "e.safetensors")
    assert torch.equal(again(stripes()[0]), evaluator(stripes()[0])) and not again.training


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    save_file({"w": torch.zeros(1)}, tmp_path / "other")
    config = dict(classes=2, width=4)
    save_file({"w": torch.zeros(1)}, tmp_path / "wrong", dict(segmenter_config=json.dumps(config)))
    save_file({"w": torch.zeros(1)}, tmp_path / "bad", dict(segmenter_config="{"))
    for name, message in (("text", "safetensors"), ("missing", "no such file"), ("bad", "damaged"),
                          ("other", "no segmenter_config"), ("wrong", "other weights")):
        with pytest.raises(InputError, match=message):
            load_segmenter(tmp_path / name)


def test_it_takes_any_size():
    assert Segmenter(5, width=4)(torch.zeros(1, 3, 17, 33)).shape == (1, 5, 17, 33)


# --- scores

def test_scores_by_hand():
    truth = torch.tensor([[[0, 0, 1, VOID]], [[1, 1, 1, 0]]], dtype=torch.uint8)
    read = torch.tensor([[[0, 1, 1, 0]], [[1, 1, 1, 1]]], dtype=torch.uint8)
    s = semantic_scores(read, truth, 4)
    assert s.pixel_accuracy == pytest.approx(5 / 7)
    assert s.class_accuracy == pytest.approx((1 / 3 + 1) / 2)
    assert s.miou == pytest.approx((1 / 3 + 4 / 6) / 2) and math.isnan(s.iou[2])
    assert s.confusion[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0, 0])
    assert s.confusion[2].sum() == 0


def test_scores_against_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    r = torch.Generator().manual_seed(0)
    read, truth = (torch.randint(0, 4, (3, 9, 7), generator=r) for _ in "ab")
    truth[0, 0] = VOID
    s = semantic_scores(read, truth, 4)
    how = dict(num_classes=4, ignore_index=VOID)
    assert s.pixel_accuracy == pytest.approx(
        metrics.multiclass_accuracy(read, truth, average="micro", **how).item())
    assert s.miou == pytest.approx(metrics.multiclass_jaccard_index(read, truth, **how).item())


def test_a_class_that_the_truth_has_not_counts_in_no_mean():
    s = semantic_scores(torch.tensor([[[0, 3, 1, 1]]]), torch.tensor([[[0, 0, 1, 1]]]), 4)
    assert s.miou == pytest.approx((1 / 2 + 1) / 2) and s.class_accuracy == pytest.approx(3 / 4)


@pytest.mark.parametrize("read, truth, message", [
    (torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), "shape"),
    (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 5), "the labels hold the id 5"),
    (torch.full((1, 2, 2), 7), torch.zeros(1, 2, 2), "the prediction holds the id 7"),
    (torch.zeros(1, 2, 2), torch.full((1, 2, 2), VOID), "every pixel of the truth is void")])
def test_scores_refuse_what_cannot_be_scored(read, truth, message):
    with pytest.raises(InputError, match=message):
        semantic_scores(read.int(), truth.int(), 3)


def test_a_flip_is_what_the_oracle_shows_and_the_translation_does_not():
    truth = torch.tensor([[[0, 0, 1, 1, VOID]]])
    oracle = torch.tensor([[[0, 0, 1, 0, 0]]])                # wrong about the last labelled pixel
    read = torch.tensor([[[0, 1, 1, 0, 1]]])
    assert flipped(read, truth, oracle) == pytest.approx(1 / 3)
    assert flipped(read, truth) == pytest.approx(2 / 4)


def test_flip_table_leaves_out_the_right_and_the_zero():
    assert flip_table(torch.eye(3), ("a", "b", "c")) == []
    table = flip_table(torch.tensor([[.5, .5], [.25, .75]]), ("a", "b"), top=9)
    assert table == [("a", "b", .5), ("b", "a", .25)]


# --- statistics

def test_a_mean_s_interval_is_student_s():
    values = [0.1, 0.2, 0.4, 0.3]
    mean, low, high = mean_interval(values)
    half = 3.182446305 * np.std(values, ddof=1) / 2            # t, 3 degrees of freedom
    assert (mean, high - mean, mean - low) == pytest.approx((0.25, half, half))
    assert math.isnan(mean_interval([1.0]).low) and mean_interval([1, 1]) == (1, 1, 1)


def test_a_difference_s_interval_is_welch_s():
    a, b = [0.1, 0.2, 0.4, 0.3], [0.0, 0.05, 0.02]
    va, vb = np.var(a, ddof=1) / 4, np.var(b, ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    found = difference_interval(a, b)
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    t = (found.high - found.mean) / math.sqrt(va + vb)
    assert 3 < freedom < 4 and 2.776 < t < 3.182               # Student's t at 4 and at 3
    assert math.isnan(difference_interval([1.0], b).low)
    assert difference_interval([2, 2], [1, 1]) == (1, 1, 1)


def test_wilson_against_the_formula():
    z, p, n = 1.959963984540054, 0.3, 20
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(6, 20) == pytest.approx((centre - half, centre + half))
    for n in range(1, 50):
        assert wilson_interval(0, n)[0] == 0 and wilson_interval(n, n)[1] == 1
    for k, n in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError):
            wilson_interval(k, n)


def test_binomial_by_counting():
    for n in range(1, 7):
        chances = [math.comb(n, i) * 0.3**i * 0.7**(n - i) for i in range(n + 1)]
        for k in range(n + 1):
            expected = sum(c for c in chances if c <= chances[k] * (1 + 1e-9))
            assert binomial_p(k, n, 0.3) == pytest.approx(expected)
    with pytest.raises(InputError):
        binomial_p(1, 2, p=1)


def test_bootstrap_repeats_itself_and_covers_the_mean():
    inside = 0
    for i in range(40):
        drawn = np.random.default_rng(i).random(40)
        def mean(chosen, drawn=drawn):
            return drawn[chosen].mean()
        low, high = bootstrap(mean, 40, rounds=200, seed=i)
        inside += low <= 0.5 <= high
    assert 33 <= inside <= 40


# --- distances

def test_frechet_of_gaussians_that_share_no_axes():
    a = torch.randn(500, 6, dtype=torch.float64)
    b = torch.randn(400, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 1
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(cov_a @ cov_b).real.sqrt().sum()          # the textbook's form
    means = (a.mean(0) - b.mean(0)).square().sum()
    expected = means + cov_a.trace() + cov_b.trace() - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-8)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_frechet_with_fewer_pictures_than_features():
    a = torch.randn(5, 32)
    assert abs(frechet_distance(a, a)) < 1e-5
    assert frechet_distance(a, a + 1) == pytest.approx(32, rel=1e-4)
    with pytest.raises(InputError, match="two images a side"):
        frechet_distance(a[:1], a)


def test_kernel_distance_by_loops():
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)

    def mean(xs, ys, same):
        found = [(float(x @ y) / 3 + 1) ** 3 for i, x in enumerate(xs) for j, y in enumerate(ys)
                 if not (same and i == j)]
        return sum(found) / len(found)
    expected = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert mmd_unbiased(a, b) == pytest.approx(expected)


def test_the_error_of_the_kernel_distance_is_honest():
    z = []
    for i in range(40):
        x = torch.randn(2, 160, 4, generator=torch.Generator().manual_seed(i))
        mean, error = kernel_distance(*x, subset=10)
        z.append(mean / error)
    assert abs(np.mean(z)) < 0.5 and 0.7 < np.std(z) < 1.5


def test_one_layout_in_two_looks_never_meets_itself():
    clouds = [torch.randn(40, 4, generator=torch.Generator().manual_seed(i)) for i in range(60)]
    found = [kernel_distance(cloud, cloud, subset=10)[0] for cloud in clouds]
    assert abs(np.mean(found)) < 3 * np.std(found) / 60**0.5


def test_distances_to_the_oracle():
    oracle = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    checks = torch.ones(32, 32)
    checks[::2, ::2] = checks[1::2, 1::2] = -1
    assert low_pass_distance(oracle + 0.1 * checks, oracle) < 1e-6         # gone after blurring
    assert low_pass_distance(oracle + 0.1, oracle) == pytest.approx(0.1, abs=1e-6)
    assert edge_cosine(0.5 * oracle + 0.1, oracle) == pytest.approx(1)     # contrast is no edge
    assert edge_cosine(oracle.roll(7, 2), oracle) < 0.9


# --- FID and KID: a stand-in records what it was asked, then the package itself, untrained

@pytest.fixture
def fidelity(monkeypatch):
    fake = types.ModuleType("torch_fidelity")
    fake.__version__, fake.asked, fake.error = "0.4.0", {}, None

    def calculate_metrics(**arguments):
        fake.asked = arguments
        if fake.error:
            raise fake.error
        return dict(frechet_inception_distance=1.5, kernel_inception_distance_mean=0.25,
                    kernel_inception_distance_std=0.125)
    fake.calculate_metrics = calculate_metrics
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    return fake


def test_fid_kid_names_mode_n_and_network(fidelity, tmp_path):
    a, b = write(tmp_path / "a", n=6) / "images", write(tmp_path / "b", n=5) / "images"
    weights = tmp_path / "inception.pth"
    weights.touch()
    assert fid_kid(a, b, weights) == dict(
        fid=1.5, kid=0.25, kid_std=0.125, kid_subset_size=2, n_a=6, n_b=5,
        mode="torch-fidelity 0.4.0", feature_extractor="inception-v3-compat")
    asked = fidelity.asked
    assert asked["feature_extractor_weights_path"] == str(weights) and asked["kid_subset_size"] == 2
    assert len(asked["input1"]) == 6 and asked["input2"][0].shape == (3, 6, 8)
    fid_kid(a, b, size=5)
    assert fidelity.asked["feature_extractor_weights_path"] is None
    assert fidelity.asked["input1"][0].shape == fidelity.asked["input2"][4].shape == (3, 5, 5)


def test_fid_kid_says_what_is_missing(fidelity, tmp_path, monkeypatch):
    a, broken = write(tmp_path / "a", n=4) / "images", tmp_path / "broken.pth"
    broken.write_text("no weights")
    fidelity.error = URLError("no network")
    with pytest.raises(InputError, match="neither be found nor downloaded .*give its path"):
        fid_kid(a, a)
    fidelity.error = RuntimeError("Error(s) in loading state_dict")
    with pytest.raises(InputError, match="broken.pth: torch-fidelity cannot use these weights"):
        fid_kid(a, a, broken)
    with pytest.raises(InputError, match="nowhere.pth: no such file"):
        fid_kid(a, a, tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="too few"):
        fid_kid(write(tmp_path / "c", n=2) / "images", a)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError, match="pip install torch-fidelity"):
        fid_kid(a, a)


def test_fid_kid_with_the_package_itself(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    weights = tmp_path / "inception.pth"
    weights.touch()
    with monkeypatch.context() as m:                     # a network like theirs, without weights
        m.setattr(torch, "load", lambda *args, **options: {})
        m.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"],
                                              feature_extractor_weights_path=str(weights))
    for p in network.parameters():
        if p.dim() > 1:
            r = torch.Generator().manual_seed(p.numel())
            torch.nn.init.kaiming_normal_(p, generator=r)
    torch.save(network.state_dict(), weights)
    a, b = write(tmp_path / "a", n=4) / "images", write(tmp_path / "b", n=4) / "images"
    for f in b.iterdir():
        Image.eval(Image.open(f), lambda v: 255 - v).save(f)
    same, other = fid_kid(a, a, weights), fid_kid(a, b, weights)
    assert abs(same["fid"]) < 1e-3 * other["fid"] and other["kid"] > same["kid"]
    assert (same["n_a"], same["n_b"]) == (4, 4)
