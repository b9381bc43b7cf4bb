"The hDCE loss and its relatives; agreement with CUT and SRC is in test_golden.py."
import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from semst.hdce_loss import (
    gamma_at, hdce_loss, negative_logits, off_diagonal, patch_nce, relation_loss,
    semantic_weights, similarity)
from semst.patch_sampling import l2_normalize

WEIGHTINGS = ["logit", "density"]
GAMMAS = [None, 50.0, 1.0, 0.1]


def embeddings(*shape, dtype=torch.float64):
    return l2_normalize(torch.randn(shape, dtype=dtype))


def reference(q, k, gamma, weighting, tau=0.07):
    "One image, written from the formulas, every negative by itself."
    n, losses = len(q), []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        w = torch.ones(n - 1, dtype=q.dtype)
        if gamma is not None:
            relation = torch.stack([k[i] @ k[j] / gamma for j in others]).softmax(0)
            w = relation / relation.max()
        s = torch.stack([q[i] @ k[j] for j in others])
        terms = (w * s / tau).exp() if weighting == "logit" else w / w.mean() * (s / tau).exp()
        losses.append(terms.sum().log() - q[i] @ k[i] / tau)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_equals_the_formula_with_its_gradient(gamma, weighting):
    q, k = embeddings(1, 9, 6).requires_grad_(), embeddings(1, 9, 6)
    ours = hdce_loss(q, k, gamma, weighting=weighting)
    theirs = reference(q[0], k[0], gamma, weighting)
    assert_close(ours, theirs)
    assert_close(*(torch.autograd.grad(loss, q)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_reduces_to_decoupled_infonce(weighting):
    q, k = embeddings(2, 16, 8), embeddings(2, 16, 8)
    sim = q @ k.mT / 0.07
    others = torch.stack([torch.cat([sim[:, i, :i], sim[:, i, i + 1:]], -1) for i in range(16)], 1)
    decoupled = (others.logsumexp(-1) - sim.diagonal(dim1=-2, dim2=-1)).mean()
    assert_close(hdce_loss(q, k, weighting=weighting), decoupled)
    assert_close(hdce_loss(q, k, 1e9, weighting=weighting), decoupled)
    assert abs(hdce_loss(q, k, 0.2, weighting=weighting) - decoupled) > 0.01


def test_positive_is_not_in_the_denominator():
    q, k = embeddings(1, 8, 5).requires_grad_(), embeddings(1, 8, 5)
    v = off_diagonal(similarity(q, k) / 0.07).logsumexp(-1) - (q * k).sum(-1) / 0.07
    coupled, = torch.autograd.grad(patch_nce(q, k), q)
    decoupled, = torch.autograd.grad(hdce_loss(q, k), q)
    assert_close(coupled, torch.sigmoid(v)[..., None] * decoupled)


def test_default_weighting_is_the_released_one():
    q, k = embeddings(1, 12, 4), embeddings(1, 12, 4)
    assert_close(hdce_loss(q, k, 0.3), hdce_loss(q, k, 0.3, weighting="logit"))
    assert abs(hdce_loss(q, k, 0.3) - hdce_loss(q, k, 0.3, weighting="density")) > 0.01


def test_density_weights_have_mean_one():
    sim, w = torch.zeros(2, 7, 7, dtype=torch.float64), torch.rand(2, 7, 7, dtype=torch.float64)
    terms = negative_logits(sim, w, 0.07, "density").exp()
    assert_close(terms.sum(-1), torch.full((2, 7), 6.0, dtype=torch.float64))
    assert (terms.diagonal(dim1=-2, dim2=-1) == 0).all()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_negatives_stay_in_their_image(gamma, weighting):
    q, k = embeddings(2, 10, 6), embeddings(2, 10, 6)
    loss = partial(hdce_loss, gamma=gamma, weighting=weighting)
    assert_close(loss(q, k), (loss(q[:1], k[:1]) + loss(q[1:], k[1:])) / 2)


@pytest.mark.parametrize("loss", [patch_nce, relation_loss])
def test_the_other_losses_keep_images_apart_too(loss):
    q, k = embeddings(2, 10, 6), embeddings(2, 10, 6)
    assert_close(loss(q, k), (loss(q[:1], k[:1]) + loss(q[1:], k[1:])) / 2)


@pytest.mark.parametrize("loss", [
    hdce_loss, partial(hdce_loss, gamma=0.5), partial(hdce_loss, gamma=0.5, weighting="density"),
    patch_nce, relation_loss])
def test_gradient_reaches_the_translation_only(loss):
    q, k = embeddings(1, 8, 6).requires_grad_(), embeddings(1, 8, 6).requires_grad_()
    loss(q, k).backward()
    assert k.grad is None
    assert q.grad.isfinite().all() and q.grad.abs().sum() > 0


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_gradient_check(weighting):
    q, k = embeddings(1, 5, 4).requires_grad_(), embeddings(1, 5, 4)
    assert torch.autograd.gradcheck(lambda q: hdce_loss(q, k, 0.7, weighting=weighting), q)


def test_weights():
    k = embeddings(3, 20, 6).requires_grad_()
    w = semantic_weights(k, 0.4)
    assert not w.requires_grad
    assert w.shape == (3, 20, 20) and (w >= 0).all() and (w.amax(-1) == 1).all()
    assert (w.diagonal(dim1=-2, dim2=-1) == 0).all()
    nearest = (k @ k.mT).masked_fill(torch.eye(20, dtype=torch.bool), -2).argmax(-1)
    assert (w.argmax(-1) == nearest).all()


def test_weights_have_the_floor_of_unit_vectors():
    k = embeddings(1, 200, 2)
    for gamma in (50.0, 10.0, 1.0):
        w = off_diagonal(semantic_weights(k, gamma)).nan_to_num(neginf=1.0)
        assert math.exp(-2 / gamma) - 1e-9 <= w.min() < math.exp(-1.9 / gamma)


def test_two_patches_are_enough_and_one_is_not():
    q, k = embeddings(1, 2, 6), embeddings(1, 2, 6)
    sim = q[0] @ k[0].T / 0.07
    by_hand = (sim[0, 1] - sim[0, 0] + sim[1, 0] - sim[1, 1]) / 2
    for weighting in WEIGHTINGS:
        assert_close(hdce_loss(q, k, 0.1, weighting=weighting), by_hand)   # w is 1
    with pytest.raises(ValueError, match="at least two patches"):
        hdce_loss(q[:, :1], k[:, :1])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_bounds(weighting):
    for gamma in GAMMAS:
        loss = partial(hdce_loss, gamma=gamma, weighting=weighting)
        for _ in range(20):
            q, k = embeddings(1, 32, 3), embeddings(1, 32, 3)
            assert abs(loss(q, k) - math.log(31)) <= 2 / 0.07 + 1e-9
            assert abs(loss(k, k) - math.log(31)) <= 2 / 0.07 + 1e-9


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_an_extreme_gamma_stays_finite(weighting):
    "All weights but one a row underflow to zero."
    q, k = (embeddings(1, 64, 16, dtype=torch.float32) for _ in range(2))
    loss = hdce_loss(q.requires_grad_(), k, 1e-4, weighting=weighting)
    loss.backward()
    assert loss.isfinite() and q.grad.isfinite().all()


def test_extreme_gamma_leaves_the_nearest():
    q, k = embeddings(1, 16, 8), embeddings(1, 16, 8)
    sim, nearest = (q @ k.mT / 0.07)[0], off_diagonal(k @ k.mT)[0].argmax(-1)
    hardest, positive = sim.gather(1, nearest[:, None])[:, 0], sim.diagonal()
    density = (hardest + math.log(15) - positive).mean()
    logit = ((hardest.exp() + 14).log() - positive).mean()       # the others are exp(0)
    assert_close(hdce_loss(q, k, 1e-6, weighting="density"), density)
    assert_close(hdce_loss(q, k, 1e-6, weighting="logit"), logit)


def test_identical_patches():
    k = torch.ones(1, 6, 1)
    for weighting in WEIGHTINGS:
        loss = hdce_loss(k, k, 1.0, weighting=weighting).item()
        assert loss == pytest.approx(math.log(5), abs=1e-5)
    assert_close(patch_nce(k, k), torch.tensor(math.log(6)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype):
    q, k = (e.to(dtype) for e in (embeddings(1, 24, 8), embeddings(1, 24, 8)))
    out = torch.promote_types(dtype, torch.float32)
    for loss in (hdce_loss(q, k, 1.0), hdce_loss(q, k, 1.0, weighting="density"), patch_nce(q, k)):
        assert loss.dtype == out
    assert semantic_weights(k, 1.0).dtype == out
    wide_q, wide_k = q.double(), k.double()
    assert_close(hdce_loss(q, k, 1.0).double(), hdce_loss(wide_q, wide_k, 1.0), atol=1e-4, rtol=0)


def test_autocast_does_not_round_similarities():
    q, k = (embeddings(1, 64, 32, dtype=torch.float32) for _ in range(2))
    losses = [partial(hdce_loss, gamma=0.1), partial(hdce_loss, gamma=0.1, weighting="density"),
              patch_nce, relation_loss]
    outside = [loss(q, k) for loss in losses]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [loss(q, k) for loss in losses]
    for a, b in zip(outside, inside):
        assert_close(a, b, atol=1e-5, rtol=0)


def test_temperature():
    q, k = embeddings(1, 8, 6), embeddings(1, 8, 6)
    assert_close(hdce_loss(q, k, tau=1e6), torch.tensor(math.log(7)).double(), atol=1e-5, rtol=0)
    assert_close(patch_nce(q, k, tau=1e6), torch.tensor(math.log(8)).double(), atol=1e-5, rtol=0)
    assert hdce_loss(k, k, tau=0.05) < hdce_loss(k, k, tau=0.07)


def test_errors():
    q, k = embeddings(1, 6, 4), embeddings(1, 6, 4)
    with pytest.raises(ValueError, match="same shape"):
        hdce_loss(q, k[:, :5])
    with pytest.raises(ValueError, match="same shape"):
        hdce_loss(q.expand(2, 6, 4), k)
    with pytest.raises(ValueError, match="logit or density"):
        hdce_loss(q, k, 1.0, weighting="Density")
    for gamma in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            hdce_loss(q, k, gamma)


# SRC: gamma(epoch) = 50 + (10 - 50) * epoch / 400, epochs from 1; for Cityscapes 1 after 200
@pytest.mark.parametrize("epoch, late, gamma", [
    (1, None, 49.9), (100, None, 40.0), (200, None, 30.0), (201, None, 29.9), (400, None, 10.0),
    (1, 1.0, 49.9), (200, 1.0, 30.0), (201, 1.0, 1.0), (400, 1.0, 1.0)])
def test_gamma_at_is_srcs_schedule(epoch, late, gamma):
    assert gamma_at(epoch / 400, late=late) == pytest.approx(gamma)


@pytest.mark.parametrize("file, tag, epoch, late", [
    ("src_srcloss", "h2z_epoch1", 1, None), ("src_srcloss", "h2z_epoch100", 100, None),
    ("src_srcloss_city", "city_epoch200", 200, 1.0),
    ("src_srcloss_city", "city_epoch201", 201, 1.0)])
def test_gamma_at_gives_srcs_weights(golden, file, tag, epoch, late):
    "The Cityscapes archive holds only weights; they are of the other archive's embeddings."
    k = l2_normalize(golden("src_srcloss")["feat_k"])[None]
    ours = semantic_weights(k, gamma_at(epoch / 400, late=late))
    off = ~torch.eye(64, dtype=torch.bool)
    assert_close(ours[:, off], golden(file)[f"weight_{tag}"][:, off], atol=1e-6, rtol=0)


def test_gamma_at_options():
    assert gamma_at(0.0) == 50 and gamma_at(1.0) == 10
    assert gamma_at(0.25, start=8.0, end=4.0) == 7
    assert gamma_at(0.5, late=1.0) == 30 and gamma_at(0.5001, late=0.2) == 0.2
    for progress in (-0.01, 1.01, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            gamma_at(progress)


def test_relation_loss():
    k = embeddings(2, 12, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    q = embeddings(2, 12, 8)
    zero = torch.zeros((), dtype=torch.float64)
    assert_close(relation_loss(k, k), zero, atol=1e-12, rtol=0)
    assert_close(relation_loss(k @ rotation, k), zero, atol=1e-12, rtol=0)   # turned: the same
    assert_close(relation_loss(3 * q, 0.5 * k), relation_loss(q, k))         # length plays no part
    assert_close(relation_loss(q, k), relation_loss(k, q))                   # symmetric
    assert 0 < relation_loss(q, k) < 12 * math.log(2)


def test_relation_loss_is_a_sum_over_patches():
    q, k = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    p, r = [0.5, 0.5], [math.e / (math.e + 1), 1 / (math.e + 1)]
    row = sum(a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b)) for a, b in zip(p, r))
    assert_close(relation_loss(q, k), torch.tensor(row))             # two rows, each times 1/2
