"The TS loss and its estimator: edges, precision, invariances, gradients, degenerate inputs."
import math
from functools import partial

import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

import semst.ts_loss as module
from semst.ts_loss import (
    gaussian_kernel, median_distance, relative_smi, rsmi_per_tap, scc_released, squared_distances,
    ts_loss)


def gaussian_pairs(rho, seed, n=1000):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def true_rsmi(rho, beta=0.5):
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    x, y = grid[:, None], grid[None]
    joint = torch.exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2)))
    joint = joint / (2 * math.pi * math.sqrt(1 - rho**2))
    product = torch.exp(-(x**2 + y**2) / 2) / (2 * math.pi)
    mixture = beta * joint + (1 - beta) * product
    return (mixture * (joint / mixture.clamp(min=1e-300) - 1) ** 2).sum().item() * (16 / 800) ** 2


def units(*shape):
    return normalize(torch.randn(*shape), dim=-1)


def value_and_gradient(x, y, **kwargs):
    y = y.clone().requires_grad_()
    value = relative_smi(x, y, **kwargs)
    value.sum().backward()
    return value.detach(), y.grad


def mean_estimate(rho, **settings):
    found = [relative_smi(*gaussian_pairs(rho, seed), **settings) for seed in range(4)]
    return torch.stack(found).mean().item()


# the estimate

@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_against_quadrature(rho):
    first = relative_smi(*gaussian_pairs(rho, 0), centres=200).item()
    assert abs(mean_estimate(rho, centres=200) - true_rsmi(rho)) < 0.015
    assert abs(first - true_rsmi(rho)) < 0.03


@pytest.mark.parametrize("beta", [0.2, 0.5, 0.8])
def test_other_mixtures_against_quadrature(beta):
    found = mean_estimate(0.6, centres=200, beta=beta)
    assert abs(found - true_rsmi(0.6, beta)) < 0.05 * (1 / beta - 1) + 0.005


def test_by_definition():
    "Explicit sums over all pairs, strangers included, and a direct solve."
    n, b, beta, ridge = 14, 6, 0.3, 1e-2
    x, y = torch.randn(n, 3, dtype=torch.float64), torch.randn(n, 2, dtype=torch.float64)
    chosen = torch.linspace(0, n - 1, b).round().long()
    k_x, k_y = gaussian_kernel(x, x[chosen], 0.6), gaussian_kernel(y, y[chosen], 0.6)
    H, h = torch.zeros(b, b, dtype=torch.float64), torch.zeros(b, dtype=torch.float64)
    for i in range(n):
        phi = k_x[i] * k_y[i]
        H += beta / n * torch.outer(phi, phi)
        h += phi / n
        for j in range(n):
            phi = k_x[i] * k_y[j]
            H += (1 - beta) / n**2 * torch.outer(phi, phi)
    alpha = torch.linalg.solve(H + ridge * torch.eye(b, dtype=torch.float64), h)
    by_hand = 2 * alpha @ h - alpha @ H @ alpha - 1
    ours = relative_smi(x, y, centres=b, bandwidth=0.6, ridge=ridge, beta=beta)
    assert_close(ours, by_hand, atol=1e-10, rtol=0)


@pytest.mark.parametrize("k", [2, 3, 6, 10])
def test_clean_classes_have_a_closed_form(k):
    label = torch.arange(300) % k
    x = torch.eye(k)[label]
    found = relative_smi(x, x, centres=300, bandwidth=0.2, ridge=1e-4)
    assert_close(found.item(), (k - 1) / (k + 1), atol=2e-3, rtol=0)


def test_bounds_hold_on_every_sample():
    for bandwidth in (0.02, 0.5, 5.0):
        for beta in (0.0, 0.25, 0.5, 0.9, 1.0):
            x, y = torch.randn(10, 60, 3), torch.randn(10, 60, 2)
            value = relative_smi(x, y, bandwidth=bandwidth, beta=beta)
            assert value.min() >= -1 - 1e-5
            if beta > 0:
                assert value.max() <= 1 / beta - 1 + 1e-5


def test_symmetric_and_invariant():
    x, y = gaussian_pairs(0.6, 0, n=300)
    value = relative_smi(x, y)
    assert_close(relative_smi(y, x), value, atol=1e-10, rtol=0)
    assert_close(relative_smi(3 - 7 * x, 100 + 0.01 * y), value, atol=1e-8, rtol=0)
    single = relative_smi((3 - 7 * x).float(), (1 + 0.1 * y).float())
    assert_close(single, value.float(), atol=1e-4, rtol=0)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    z = torch.cat([y, torch.randn(300, 4, dtype=torch.float64)], 1)
    assert_close(relative_smi(x, z @ rotation), relative_smi(x, z), atol=1e-8, rtol=0)


def test_pairing_counts():
    x, y = gaussian_pairs(0.9, 0)
    assert relative_smi(x, y) > relative_smi(x, y.roll(1, 0)) + 0.2
    order = torch.randperm(1000)
    reordered = relative_smi(x[order], y[order], centres=1000)
    assert_close(reordered, relative_smi(x, y, centres=1000), atol=1e-8, rtol=0)


def test_exchanging_two_classes_changes_nothing():
    label = torch.randint(3, (200,))
    x = torch.randn(3, 8)[label] + 0.3 * torch.randn(200, 8)
    corners = torch.eye(3)
    right, exchanged = (relative_smi(x, c[label]) for c in (corners, corners[[1, 0, 2]]))
    assert_close(right, exchanged, atol=1e-5, rtol=0)


def test_half_the_median_sees_clusters_where_the_median_is_blind():
    directions, label = units(8, 64), torch.randint(8, (128,))
    labels = label, label[torch.randperm(128)]
    x, y = (normalize(directions[i] + 0.6 * units(128, 64), dim=-1) for i in labels)
    assert relative_smi(x, x) > relative_smi(x, y) + 0.2
    assert relative_smi(x, x, bandwidth=1.0) < 0.06


# shapes

def test_leading_axes_are_separate_problems():
    x, y = torch.randn(2, 3, 50, 4), torch.randn(2, 3, 50, 5)
    together = relative_smi(x, y)
    assert together.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert_close(relative_smi(x[i, j], y[i, j]), together[i, j], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65])
def test_few_samples(n):
    value, gradient = value_and_gradient(torch.randn(n, 4), torch.randn(n, 4))
    assert value.isfinite() and gradient.isfinite().all()
    if n == 1:
        assert abs(value) < 1e-4 and gradient.abs().max() == 0


def test_more_centres_than_samples_means_all():
    x, y = torch.randn(30, 4), torch.randn(30, 4)
    assert_close(relative_smi(x, y, centres=500), relative_smi(x, y, centres=30))


@pytest.mark.parametrize("x, y", [((20, 3), (19, 3)), ((1, 3), (20, 3)), ((20, 3), (2, 20, 3))])
def test_unpaired_sides_are_an_error(x, y):
    with pytest.raises(ValueError, match="must be paired"):
        relative_smi(torch.randn(x), torch.randn(y))


@pytest.mark.parametrize("bad", [
    dict(centres=0), dict(bandwidth=0), dict(bandwidth=math.nan), dict(ridge=0), dict(ridge=-1),
    dict(beta=1.1), dict(beta=-0.1)])
def test_impossible_settings_are_an_error(bad):
    with pytest.raises(ValueError, match="need centres"):
        relative_smi(torch.randn(9, 2), torch.randn(9, 2), **bad)


# bricks

def test_squared_distances_never_negative():
    x = torch.randn(50, 3) * 1e3
    d2 = squared_distances(x, x)
    assert d2.min() >= 0
    double = x.double()
    expected = torch.cdist(double, double[:7]) ** 2
    assert_close(squared_distances(double, double[:7]), expected, atol=1e-6, rtol=1e-8)


def test_median_ignores_points_that_coincide():
    d2 = torch.tensor([[0., 0., 0., 4.], [0., 0., 9., 16.]])
    assert_close(median_distance(d2), torch.tensor([[3.]]))
    assert_close(median_distance(torch.zeros(2, 3, 3)), torch.ones(2, 1, 1))
    assert not median_distance(d2.requires_grad_()).requires_grad


def test_kernel_width():
    x = torch.tensor([[0.], [2.]])
    assert_close(gaussian_kernel(x, x, 0.5), torch.tensor([[1., math.exp(-2)], [math.exp(-2), 1.]]))
    wide = torch.tensor([[1., math.exp(-0.5)], [math.exp(-0.5), 1.]])
    assert_close(gaussian_kernel(x, x, 1.0), wide)


# precision

@pytest.mark.parametrize("dtype, atol", [(torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_gives_float32(dtype, atol):
    x = units(2, 100, 16)
    y = normalize(x + 0.1 * units(2, 100, 16), dim=-1)
    for other in (y, y.to(dtype)):
        value = relative_smi(x.to(dtype), other)
        assert value.dtype == torch.float32
        assert_close(value, relative_smi(x, y), atol=atol, rtol=0)
    value, gradient = value_and_gradient(x.to(dtype), y.to(dtype))
    assert gradient.dtype == dtype and gradient.isfinite().all()


def test_autocast_changes_neither_value_nor_gradient():
    "`backward` stands outside the block, as PyTorch advises: inside, its products are bfloat16."
    x, y = units(100, 16), units(100, 16)
    outside, g_outside = value_and_gradient(x, y)
    leaf = y.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = relative_smi(x, leaf)
    inside.backward()
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)
    assert torch.equal(leaf.grad, g_outside)


def test_float64_is_kept_and_float32_agrees():
    x, y = units(256, 64), units(256, 64)
    assert relative_smi(x.double(), y.double()).dtype == torch.float64
    double = relative_smi(x.double(), y.double())
    assert_close(relative_smi(x, y).double(), double, atol=1e-5, rtol=0)


def nasty_inputs(n, d, g):
    v = torch.randn(n, d, generator=g)
    few = torch.randint(min(3, n), (n,), generator=g)
    return dict(
        plain=v, huge=v * 1e6, tiny=v * 1e-6, offset=v + 1e4, heavy_tailed=v.sign() * v.abs() ** 8,
        flat_up_to_rounding=v[:1] + 1e-7 * v, walk=v.cumsum(0) * 1e-3, zero=torch.zeros_like(v),
        repeated=v[few], nearly_zero=v * 1e-25)


def integer(low, high, g):
    return int(torch.randint(low, high, (), generator=g))


def test_cholesky_never_fails_in_float32():
    "200 nasty inputs, narrow and very wide bumps, up to 200 of them."
    g = torch.Generator().manual_seed(0)
    for trial in range(200):
        n, d = integer(2, 300, g), integer(1, 9, g)
        x = list(nasty_inputs(n, d, g).values())[trial % 10]
        y = list(nasty_inputs(n, d, g).values())[integer(0, 10, g)]
        bandwidth = (0.05, 0.5, 5.0, 50.0)[trial % 4]
        value, gradient = value_and_gradient(x, y, centres=200, bandwidth=bandwidth)
        assert value.isfinite() and gradient.isfinite().all(), trial
        assert -1 <= value <= 1 + 1e-4, trial


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_numbers_become_nan_for_their_own_image_only(bad):
    x = torch.randn(3, 50, 4)
    y = x.clone()
    y[1, 7, 2] = bad
    value, gradient = value_and_gradient(x, y)
    assert value.isnan().tolist() == [False, True, False]
    assert gradient[[0, 2]].isfinite().all()


def test_a_system_that_cannot_be_solved_becomes_nan():
    "Bumps this wide leave H singular, and this ridge does not mend it."
    x = torch.randn(400, 3)
    assert relative_smi(x, x, centres=200, bandwidth=10.0, ridge=1e-12).isnan()


# flat pictures

@pytest.mark.parametrize("spread", [0.0, 1e-8, 1e-7, 1e-6])
def test_flat_up_to_rounding(spread):
    "Without the guard the gradient is about 1e-4 / spread: 10,000 at 1e-8."
    one = units(1, 64).expand(256, 64)
    x, y = (one + spread * torch.randn(256, 64) for _ in range(2))
    value, gradient = value_and_gradient(x, y)
    assert abs(value) < 1e-4 and gradient.abs().max() < 1e-3


@pytest.mark.parametrize("differ", [1, 2, 8])
def test_most_samples_identical(differ):
    y = units(1, 64).repeat(256, 1)
    y[:differ] = units(differ, 64)
    for x in (y, units(256, 64)):
        value, gradient = value_and_gradient(x, y)
        assert abs(value) < 0.02 and gradient.abs().max() < 2e-3


# gradients

def test_gradient_with_the_median_held_fixed(monkeypatch):
    def fixed(d2):
        return d2.new_full((*d2.shape[:-2], 1, 1), 1.7)

    monkeypatch.setattr(module, "median_distance", fixed)
    x, y = (torch.randn(2, 9, d, dtype=torch.float64, requires_grad=True) for d in (3, 2))
    for settings in (dict(centres=5), dict(centres=9, beta=0.2, bandwidth=0.8)):
        assert torch.autograd.gradcheck(partial(relative_smi, **settings), (x, y))


def test_gradient_of_scc():
    images = [torch.rand(2, 3, 4, 4, dtype=torch.float64) * 2 - 1 for _ in range(2)]
    images = [image.requires_grad_() for image in images]
    for mend_sign in (False, True):
        assert torch.autograd.gradcheck(partial(scc_released, mend_sign=mend_sign), images)


# ts_loss

def embeddings(b=2, n=(40, 40, 40, 40, 40), d=16):
    return [units(b, m, d) for m in n]


def by_taps(q, k, **settings):
    "The rSMI of each tap, one after the other."
    return torch.stack([relative_smi(a, b, **settings).mean() for a, b in zip(q, k)])


def test_groups_and_weights():
    q, k = embeddings(), embeddings()
    each = by_taps(q, k)
    assert_close(rsmi_per_tap(q, k), each)
    for texture_taps in (1, 3, 4):
        out = ts_loss(q, k, texture_taps=texture_taps, texture_weight=0.3, structure_weight=2.0)
        assert_close(out.texture, each[:texture_taps].mean())
        assert_close(out.structure, each[texture_taps:].mean())
        assert_close(out.loss, -0.3 * each[:texture_taps].mean() - 2 * each[texture_taps:].mean())


def test_defaults():
    q, k = embeddings(), embeddings()
    each = by_taps(q, k, centres=64, bandwidth=0.5, ridge=1e-3, beta=0.5)
    out = ts_loss(q, k)
    assert_close(out.loss, -each[:3].mean() - each[3:].mean())


def test_estimator_settings_reach_the_estimator():
    q, k = embeddings(), embeddings()
    settings = dict(bandwidth=0.8, centres=10)
    assert_close(ts_loss(q, k, **settings).texture, by_taps(q[:3], k[:3], **settings).mean())
    with pytest.raises(TypeError, match="bandwith"):
        ts_loss(q, k, bandwith=0.8)


def test_taps_may_differ_in_n_and_d():
    n = (64, 50, 33, 7, 2)
    q = [units(1, m, d) for m, d in zip(n, (3, 8, 16, 16, 4))]
    k = [units(1, m, 16) for m in n]
    each = by_taps(q, k)
    assert_close(ts_loss(q, k).loss, -each[:3].mean() - each[3:].mean())


def test_a_batch_of_two_is_the_mean_of_two_batches():
    q, k = embeddings(), embeddings()
    halves = [ts_loss([e[i:i + 1] for e in q], [e[i:i + 1] for e in k]).loss for i in range(2)]
    assert_close(ts_loss(q, k).loss, sum(halves) / 2)


@pytest.mark.parametrize("detach_source", [True, False])
def test_who_gets_the_gradient(detach_source):
    q, k = ([e.requires_grad_() for e in embeddings()] for _ in range(2))
    ts_loss(q, k, detach_source=detach_source).loss.backward()
    assert all(e.grad.abs().max() > 0 for e in q)
    assert all((e.grad is None) == detach_source for e in k)


def test_descending_the_loss_raises_both_values():
    clusters = [units(4, 16)[torch.randint(4, (80,))] for _ in range(5)]
    k = [normalize(c + 0.3 * units(80, 16), dim=-1)[None] for c in clusters]
    q = [e.requires_grad_() for e in embeddings(b=1, n=(80,) * 5)]
    optimizer = torch.optim.Adam(q, lr=0.02)
    first = ts_loss(q, k)
    for _ in range(20):
        out = ts_loss(q, k)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.texture > first.texture + 0.1 and out.structure > first.structure + 0.1


@pytest.mark.parametrize("texture_taps", [0, 5, 6])
def test_an_empty_group_is_an_error(texture_taps):
    with pytest.raises(ValueError, match="leaves a group empty"):
        ts_loss(embeddings(), embeddings(), texture_taps=texture_taps)


def test_missing_tap_is_an_error():
    with pytest.raises(ValueError, match="the source has 4 taps, the translation has 5"):
        ts_loss(embeddings(), embeddings()[:4])


# SCC as released

def test_scc_is_a_blunt_estimate_on_values_in_one_range():
    "The three differences are harmless on [-1, 1], except for strong dependence."
    def released(rho):
        values = []
        for seed in range(4):
            squeezed = (torch.erf(v / math.sqrt(2)) for v in gaussian_pairs(rho, seed))
            values.append(-scc_released(*(v.mT[None, None] for v in squeezed)).item())
        return sum(values) / 4

    for rho in (0.0, 0.3, 0.6):
        assert abs(released(rho) - true_rsmi(rho)) < 0.015
    assert released(0.9) < true_rsmi(0.9) - 0.1


def test_scc_keeps_images_apart():
    a, b = torch.rand(2, 2, 3, 8, 8) * 2 - 1
    apart = [scc_released(a[i:i + 1], b[i:i + 1]) for i in range(2)]
    assert_close(scc_released(a, b), sum(apart) / 2, atol=1e-5, rtol=0)
