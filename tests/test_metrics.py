"Scores, distances, intervals and alarms."
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
from semst.eval.metrics import (VOID, Segmenter, binomial_p, bootstrap, distances, evaluate, fid_kid, flip_table, frechet_distance, kernel_distance,
                           load_labelled, load_segmenter, mmd_unbiased, pooled_features, save_segmenter, segment,
                           semantic_scores, spread, train_segmenter, wilson_interval)


def write(folder, n=2, size=(8, 6), label=None, mode="L"):
    for sub in ("images", "labels"): (folder / sub).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (0, 255, 0)).save(folder / f"images/{i}.png")
        Image.fromarray(np.full(size[::-1], i, np.uint8) if label is None else label).convert(mode).save(folder / f"labels/{i}.png")
    return folder


def stripes(n=16, size=32):
    "Class 0 is dark, class 1 is bright: a task a reader learns in seconds."
    labels = (torch.rand(n, 1, size, generator=torch.Generator().manual_seed(0)) < 0.4).repeat(1, size, 1).to(torch.uint8)
    return (labels[:, None].repeat(1, 3, 1, 1) * 1.2 - 0.6), labels


@pytest.fixture(scope="module")
def reader():
    return train_segmenter(*stripes(), classes=2, steps=40)


# --- labelled pictures

def test_pictures_and_labels_are_read_in_order_of_their_names(tmp_path):
    images, labels = load_labelled(write(tmp_path, n=3), n=2)
    assert images.shape == (2, 3, 6, 8) and images.dtype == torch.float32 and images[0, :, 0, 0].tolist() == [-1, 1, -1]
    assert labels.dtype == torch.uint8 and labels.flatten(1).unique(dim=1).tolist() == [[0], [1]]


def test_labels_may_lie_beside_the_folder(tmp_path):
    write(tmp_path / "made", n=3)
    inside = load_labelled(tmp_path / "made")
    (tmp_path / "made/images").rename(tmp_path / "trainB")
    (tmp_path / "made/labels").rename(tmp_path / "trainB_labels")
    assert all(torch.equal(a, b) for a, b in zip(load_labelled(tmp_path / "trainB"), inside))
    (tmp_path / "trainB_labels/2.png").unlink()
    with pytest.raises(InputError, match="trainB_labels/2.png: no such file"): load_labelled(tmp_path / "trainB")


def test_pictures_of_any_size_are_brought_to_one(tmp_path):
    write(tmp_path, n=2)
    Image.new("RGB", (31, 17)).save(tmp_path / "images/1.png")
    Image.fromarray((np.arange(31) % 2 * 7).astype(np.uint8)[None].repeat(17, 0)).save(tmp_path / "labels/1.png")
    images, labels = load_labelled(tmp_path, size=8)
    assert images.shape == (2, 3, 8, 8) and labels.shape == (2, 8, 8) and set(labels[1].unique().tolist()) <= {0, 7}       # nearest: no class in between


def test_a_part_of_a_set_is_spread_over_it(tmp_path):
    files = [tmp_path / str(i) for i in range(10)]
    assert spread(files, 4) == [files[i] for i in (0, 2, 5, 7)] and spread(files, 10) == spread(files, 99) == spread(files, None) == files


def test_palette_labels_are_ids_not_colours(tmp_path):
    write(tmp_path, n=1)
    image = Image.fromarray(np.full((6, 8), 7, np.uint8), mode="P")
    image.putpalette([v for i in range(256) for v in (255 - i, i, 0)])
    image.save(tmp_path / "labels/0.png")
    assert load_labelled(tmp_path)[1].unique().tolist() == [7]


@pytest.mark.parametrize("change, message", [
    (lambda f: (f / "labels/1.png").unlink(), "labels/1.png: no such file"),
    (lambda f: Image.new("L", (6, 8)).save(f / "labels/1.png"), r"labels/1.png: \(8, 6\) pixels, its picture has \(6, 8\)"),
    (lambda f: Image.new("RGB", (8, 6)).save(f / "labels/1.png"), "labels/1.png: mode RGB"),
    (lambda f: Image.new("L", (8, 6), 11).save(f / "labels/1.png"), "holds the id 11; ids run from 0 to 10"),
    (lambda f: (f / "labels/1.png").write_bytes(b"no image"), "labels/1.png: cannot be read"),
    (lambda f: [Image.new(m, (9, 6)).save(f / s) for m, s in (("RGB", "images/1.png"), ("L", "labels/1.png"))], "images/1.png: .* the first has"),
])
def test_what_does_not_fit_is_named(tmp_path, change, message):
    change(write(tmp_path))
    with pytest.raises(InputError, match=message): load_labelled(tmp_path, classes=11)


def test_void_is_no_bad_id(tmp_path):
    write(tmp_path, label=np.full((6, 8), VOID, np.uint8))
    assert load_labelled(tmp_path, classes=3)[1].unique().tolist() == [VOID]


# --- the reader

def test_the_reader_learns_and_repeats_itself(reader):
    images, labels = stripes()
    assert (segment(reader, images) == labels).float().mean() > 0.97
    again = train_segmenter(*stripes(), classes=2, steps=3)
    state = torch.get_rng_state()
    same, other = train_segmenter(*stripes(), classes=2, steps=3), train_segmenter(*stripes(), classes=2, steps=3, seed=1)
    assert torch.equal(torch.get_rng_state(), state), "training must not touch the global generator"
    assert torch.equal(again(images), same(images)) and not torch.equal(again(images), other(images))


def test_void_pixels_teach_nothing():
    images, labels = stripes(4)
    void = labels.clone()
    void[:, :16] = VOID
    changed = images.clone()
    net = train_segmenter(changed, void, classes=2, steps=2)
    assert all(p.isfinite().all() for p in net.parameters())
    with pytest.raises(InputError, match="the labels hold the id 2"): train_segmenter(images, labels + 1, classes=2, steps=1)


def test_readings_do_not_depend_on_the_batch_and_carry_no_gradient(reader):
    images, _ = stripes(40)
    assert torch.equal(segment(reader, images)[35:], segment(reader, images[35:]))
    features = pooled_features(reader, images)
    assert features.shape == (40, 64) and not features.requires_grad
    assert segment(reader, images).dtype == torch.uint8


def test_features_see_colour(reader):
    images, _ = stripes(4)
    assert (pooled_features(reader, images) - pooled_features(reader, images + 0.3)).norm() > 0.1


def test_a_saved_reader_reads_the_same(reader, tmp_path):
    save_segmenter(reader, tmp_path / "reader.safetensors")
    again = load_segmenter(tmp_path / "reader.safetensors")
    assert torch.equal(again(stripes()[0]), reader(stripes()[0])) and not again.training


def test_other_files_are_no_readers(tmp_path):
    (tmp_path / "text").write_text("hello")
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "wrong.safetensors", metadata={"segmenter_config": json.dumps(dict(classes=2, width=4))})
    for name, message in (("text", "no safetensors file"), ("missing", "no safetensors file"), ("other.safetensors", "no segmenter_config"),
                          ("wrong.safetensors", "other weights")):
        with pytest.raises(InputError, match=message): load_segmenter(tmp_path / name)


# --- scores

def test_scores_by_hand():
    truth = torch.tensor([[[0, 0, 1, VOID]], [[1, 1, 1, 0]]], dtype=torch.uint8)
    read = torch.tensor([[[0, 1, 1, 0]], [[1, 1, 1, 1]]], dtype=torch.uint8)
    s = semantic_scores(read, truth, 4)
    assert s.confusion.tolist()[0] == [[1, 1, 0, 0], [0, 1, 0, 0], [0] * 4, [0] * 4] and s.confusion.sum() == 7
    assert s.pixel_accuracy == pytest.approx(5 / 7) and s.class_accuracy == pytest.approx((1 / 3 + 1) / 2)
    assert s.miou == pytest.approx((1 / 3 + 4 / 6) / 2) and math.isnan(s.iou[2])
    assert s.per_image.tolist() == pytest.approx([2 / 3, 3 / 4])
    assert s.flips[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0, 0]) and s.flips[2].sum() == 0


def test_a_class_that_is_only_read_counts_in_iou_and_not_in_class_accuracy():
    s = semantic_scores(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]]), 3)
    assert s.miou == pytest.approx(1 / 4) and s.class_accuracy == pytest.approx(1 / 2)


@pytest.mark.parametrize("read, truth, message", [
    (torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), "shape"), (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 5), "the labels hold the id 5"),
    (torch.full((1, 2, 2), 7), torch.zeros(1, 2, 2), "the reading holds the id 7"), (torch.zeros(1, 2, 2), torch.full((1, 2, 2), VOID), "every pixel of the truth is void")])
def test_scores_refuse_what_cannot_be_scored(read, truth, message):
    with pytest.raises(InputError, match=message): semantic_scores(read.int(), truth.int(), 3)


def test_flip_table_leaves_out_the_right_and_the_zero():
    assert flip_table(torch.eye(3), ("a", "b", "c")) == []
    assert flip_table(torch.tensor([[.5, .5], [.25, .75]]), ("a", "b"), top=9) == [("a", "b", .5), ("b", "a", .25)]


# --- intervals

def test_bootstrap_repeats_itself_and_covers_the_mean():
    inside = 0
    for i in range(60):
        values = torch.rand(40, generator=torch.Generator().manual_seed(i))
        low, high = bootstrap(values, 40, rounds=200, seed=i)
        inside += low <= 0.5 <= high
    assert 51 <= inside <= 60
    assert bootstrap(values, 40, seed=1) == bootstrap(values, 40, seed=1) != bootstrap(values, 40, seed=2)


def test_wilson_against_the_formula():
    z, p, n = 1.959963984540054, 0.3, 20
    centre, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(6, 20) == pytest.approx((centre - half, centre + half))
    assert all(wilson_interval(0, n)[0] == 0 and wilson_interval(n, n)[1] == 1 for n in range(1, 100))         # exactly: an error bar of length -1e-16 is an error
    for k, n in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError): wilson_interval(k, n)


def test_binomial_by_counting():
    for n in range(1, 9):
        chances = [math.comb(n, i) * 0.3**i * 0.7**(n - i) for i in range(n + 1)]
        for k in range(n + 1): assert binomial_p(k, n, 0.3) == pytest.approx(sum(c for c in chances if c <= chances[k] * (1 + 1e-9)))
    assert binomial_p(5, 10) == pytest.approx(1) and binomial_p(2, 9) == pytest.approx(binomial_p(7, 9)) and 0 < binomial_p(900, 1000) < 1e-100
    with pytest.raises(InputError): binomial_p(1, 2, p=1)


def test_features_see_texture(reader):
    flat = torch.zeros(4, 3, 32, 32)
    striped = flat + 0.5 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8)          # the same colour on average
    apart = pooled_features(reader, striped) - pooled_features(reader, flat)
    assert apart[:, 32:].norm() > 0.5 * apart[:, :32].norm() > 0                   # the spreads tell at least half as much as the means


# --- distances

def test_frechet_of_gaussians_that_share_no_axes():
    a, b = torch.randn(500, 6, dtype=torch.float64), torch.randn(400, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 1
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(cov_a @ cov_b).real.sqrt().sum()                                # the textbook's form, without symmetry
    expected = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-8)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_frechet_with_fewer_pictures_than_features():
    a = torch.randn(5, 32)
    assert abs(frechet_distance(a, a)) < 1e-5 and frechet_distance(a, a + 1) == pytest.approx(32, rel=1e-4)
    with pytest.raises(InputError, match="two images a side"): frechet_distance(a[:1], a)


def test_kernel_distance_by_loops():
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    k = lambda x, y: (float(x @ y) / 3 + 1) ** 3
    mean = lambda pairs: sum(pairs) / len(pairs)
    expected = (mean([k(a[i], a[j]) for i in range(5) for j in range(5) if i != j]) + mean([k(b[i], b[j]) for i in range(4) for j in range(4) if i != j])
                - 2 * mean([k(x, y) for x in a for y in b]))
    assert mmd_unbiased(a, b) == pytest.approx(expected)


def test_the_error_of_the_kernel_distance_is_honest():
    z = []
    for i in range(40):
        x = torch.randn(2, 160, 4, generator=torch.Generator().manual_seed(i))
        mean, error = kernel_distance(*x, subset=10)
        z.append(mean / error)
    assert abs(np.mean(z)) < 0.5 and 0.7 < np.std(z) < 1.5
    assert kernel_distance(*x, seed=1) == kernel_distance(*x, seed=1) != kernel_distance(*x, seed=2)
    with pytest.raises(InputError, match="subsets of 100 images"): kernel_distance(*x, subset=100)


def test_one_layout_in_two_looks_never_meets_itself():
    found = [kernel_distance(*[torch.randn(40, 4, generator=torch.Generator().manual_seed(i))] * 2, subset=10)[0] for i in range(60)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 60**0.5, "a set and itself are paired, which must not pull the distance below 0"


# --- FID and KID by torch-fidelity: a stand-in records what it was asked, then the package itself, with weights that nobody trained

@pytest.fixture
def fidelity(monkeypatch):
    fake = types.ModuleType("torch_fidelity")
    fake.__version__, fake.asked = "0.4.0", {}

    def calculate_metrics(**arguments):
        fake.asked = arguments
        if fake.error: raise fake.error
        return dict(frechet_inception_distance=1.5, kernel_inception_distance_mean=0.25, kernel_inception_distance_std=0.125)
    fake.calculate_metrics, fake.error = calculate_metrics, None
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    return fake


def test_fid_kid_names_mode_n_and_network(fidelity, tmp_path):
    a, b, weights = write(tmp_path / "a", n=6) / "images", write(tmp_path / "b", n=5) / "images", tmp_path / "inception.pth"
    weights.touch()
    assert fid_kid(a, b, weights) == dict(fid=1.5, kid=0.25, kid_std=0.125, kid_subset_size=2, n_a=6, n_b=5, mode="torch-fidelity 0.4.0",
                                          feature_extractor="inception-v3-compat")
    asked = fidelity.asked
    assert asked["feature_extractor_weights_path"] == str(weights) and asked["fid"] and asked["kid"] and asked["kid_subset_size"] == 2
    assert len(asked["input1"]) == 6 and asked["input2"][0].dtype == torch.uint8 and asked["input2"][0].shape == (3, 6, 8)
    fid_kid(a, b)
    assert fidelity.asked["feature_extractor_weights_path"] is None
    fid_kid(a, b, size=5)
    assert fidelity.asked["input1"][0].shape == fidelity.asked["input2"][4].shape == (3, 5, 5)


def test_fid_kid_says_what_is_missing(fidelity, tmp_path, monkeypatch):
    a, broken = write(tmp_path / "a", n=4) / "images", tmp_path / "broken.pth"
    broken.write_text("no weights")
    fidelity.error = URLError("no network")
    with pytest.raises(InputError, match="neither be found nor downloaded .*no network.* give its path as `weights`"): fid_kid(a, a)
    fidelity.error = RuntimeError("Error(s) in loading state_dict")
    with pytest.raises(InputError, match="broken.pth: torch-fidelity cannot use it"): fid_kid(a, a, broken)
    with pytest.raises(InputError, match="nowhere.pth: no such file"): fid_kid(a, a, tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="no such folder"): fid_kid(tmp_path / "b", a)
    with pytest.raises(InputError, match="too few"): fid_kid(write(tmp_path / "c", n=2) / "images", a)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(InputError, match="pip install torch-fidelity"): fid_kid(a, a)


def test_fid_kid_with_the_package_itself(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    weights = tmp_path / "inception.pth"
    weights.touch()
    with monkeypatch.context() as m:                                             # a network like theirs, before it gets any weights
        m.setattr(torch, "load", lambda *args, **options: {})
        m.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    for p in network.parameters():
        if p.dim() > 1: torch.nn.init.kaiming_normal_(p, generator=torch.Generator().manual_seed(p.numel()))       # the initial ones give next to nothing
    torch.save(network.state_dict(), weights)
    a, b = write(tmp_path / "a", n=4) / "images", write(tmp_path / "b", n=4) / "images"
    for f in b.iterdir(): Image.eval(Image.open(f), lambda v: 255 - v).save(f)
    same, other = fid_kid(a, a, weights), fid_kid(a, b, weights)
    assert abs(same["fid"]) < 1e-3 * other["fid"] and other["kid"] > same["kid"] and same["mode"].startswith("torch-fidelity 0.") and (same["n_a"], same["n_b"]) == (4, 4)


# --- the whole row

def test_evaluate_is_plain_numbers(reader):
    images, labels = stripes(20)
    row = evaluate(images, images, labels, images, images.flip(-1), reader, ("dark", "bright"))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert set(row) == {"n", "flips", "inversion"} | {f"{m}{e}" for m in ("pixel_accuracy", "class_accuracy", "miou") for e in ("", "_low", "_high")} | {
        f"{m}_{s}" for m in ("sfd", "skd") for s in ("oracle", "target")} | {"skd_oracle_error", "skd_target_error"}
    assert row["n"] == 20 and row["pixel_accuracy_low"] <= row["pixel_accuracy"] <= row["pixel_accuracy_high"]
    assert row["sfd_oracle"] == pytest.approx(0, abs=1e-6) and row["inversion"] == pytest.approx(1)
    features, others = pooled_features(reader, images), pooled_features(reader, 0.5 * images)
    far = distances(images, reader, target=0.5 * images, nothing=None)
    assert far == distances(images, reader, target=others) and set(far) == {"sfd_target", "skd_target", "skd_target_error"}
    assert far["sfd_target"] == pytest.approx(frechet_distance(features, others)) and far["sfd_target"] > 1e-3
    assert (far["skd_target"], far["skd_target_error"]) == pytest.approx(kernel_distance(features, others))
    assert "sfd_oracle" not in evaluate(images, images, labels, None, images, reader, ("dark", "bright"))


def test_evaluate_wants_one_label_map_an_image(reader):
    images, labels = stripes(20)
    with pytest.raises(InputError, match="shape"): evaluate(images[:4], images[:4], labels, None, images, reader, ("dark", "bright"))


def test_segmenter_takes_any_size():
    assert Segmenter(5, width=4)(torch.zeros(1, 3, 17, 33)).shape == (1, 5, 17, 33)
