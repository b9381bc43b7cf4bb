"""Content terms that `ts_forms.py` compares: forms of the TS loss and of hDCE's negatives.

Every term takes `Patches`, one source picture and its translation, and returns a scalar.
Lower is better. The gradient reaches the translation's side only.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from semst.hdce_loss import hdce_loss, off_diagonal, relation_loss
from semst.ts_loss import (median_distance, relative_smi, scc_released, squared_distances,
                           ts_loss)

TEXTURE_TAPS = 3      # the first three taps have small receptive fields


class Patches(NamedTuple):
    "Both pictures as the terms see them. Lists have one entry per tap."
    x: Tensor                  # source, (b, 3, h, w)
    y: Tensor                  # translation
    feats_x: list[Tensor]      # encoder features, (b, c, ht, wt), no gradient
    feats_y: list[Tensor]
    where: list[Tensor]        # sampled places on each tap
    raw_k: list[Tensor]        # features at these places, (b, n, c)
    raw_q: list[Tensor]
    k: list[Tensor]            # their embeddings, unit vectors, (b, n, d)
    q: list[Tensor]
    progress: float            # share of the training that is done
    queue: list[tuple]         # (q, k) of the pictures before this one, no gradient


def over_taps(term, q: list[Tensor], k: list[Tensor]) -> Tensor:
    "Mean of a term over the taps."
    return torch.stack([term(a, b) for a, b in zip(q, k, strict=True)]).mean()


def over_groups(values: list[Tensor]) -> Tensor:
    "Minus the mean over texture taps and minus the mean over structure taps, added up."
    values = torch.stack(values)
    return -values[:TEXTURE_TAPS].mean() - values[TEXTURE_TAPS:].mean()


# the TS loss as it is, and the forms of the review

def ts(p: Patches) -> Tensor:
    "rSMI between embedding vectors at the same places: today's TS loss."
    return ts_loss(p.q, p.k).loss


def scalars(q: Tensor, k: Tensor, n: int = 1024) -> tuple[Tensor, Tensor]:
    "The same n random coordinates of both sides, (b, n)."
    chosen = torch.randperm(q[0].numel())[:n]
    return q.flatten(1)[:, chosen], k.flatten(1)[:, chosen]


def coordinate(p: Patches) -> Tensor:
    "rSMI between single coordinates {q_ic} and {k_ic}, as SCC treats pixel values."
    def one(q, k):
        q, k = scalars(q, k)
        return relative_smi(q[..., None], k[..., None], centres=32).mean()
    return over_groups([one(q, k) for q, k in zip(p.q, p.k)])


def scc_embedded(p: Patches) -> Tensor:
    "SCC's released program, sign mended, on the embeddings as if they were images in [-1, 1]."
    def one(q, k):
        scale = 0.5 * q.shape[-1] ** 0.5                    # a coordinate's spread becomes 1/2
        q, k = (scale * v[:, None, :, None] for v in scalars(q, k))
        return -scc_released(k, q, sigma=0.25, mend_sign=True)
    return over_groups([one(q, k) for q, k in zip(p.q, p.k)])


def raw(p: Patches) -> Tensor:
    "rSMI between encoder features, taps 4 to 16, without F."
    values = [relative_smi(q, k).mean() for q, k in zip(p.raw_q[1:], p.raw_k[1:])]
    return -torch.stack(values[:2]).mean() - torch.stack(values[2:]).mean()


def texture_at(feats: Tensor, size: int, where: Tensor) -> Tensor:
    "Local mean and standard deviation of a feature map, on a grid of `size`, at some places."
    side = feats.shape[-1] // size
    mean = F.avg_pool2d(feats, 2 * side, side, side // 2, count_include_pad=False)
    square = F.avg_pool2d(feats.square(), 2 * side, side, side // 2, count_include_pad=False)
    spread = (square - mean.square()).clamp(min=1e-6).sqrt()
    grid = torch.cat([mean, spread], 1)[..., :size, :size]
    return grid.flatten(2)[..., where].mT


def structure_texture(p: Patches) -> Tensor:
    "rSMI between structure (tap 16) of one picture and texture (tap 4) of the other, both ways."
    size = p.feats_x[4].shape[-1]
    t_x, t_y = (texture_at(f[1], size, p.where[4]) for f in (p.feats_x, p.feats_y))
    return -relative_smi(t_y, p.raw_k[4]).mean() - relative_smi(p.raw_q[4], t_x).mean()


def predictability(p: Patches, tau: float = 0.07) -> Tensor:
    "How badly q_i is predicted by the q_j of the places that look alike in the source: H(Y|X)."
    def one(q, k):
        alike = off_diagonal(k @ k.mT / tau).softmax(-1)
        return (q - alike @ q).square().sum(-1).mean()
    return over_taps(one, p.q, p.k)


def pooled(p: Patches) -> Tensor:
    "rSMI of vectors over the last pictures together."
    old_q, old_k = (list(zip(*side)) for side in zip(*p.queue)) if p.queue else ([()] * 5,) * 2
    values = [relative_smi(torch.cat([q, *more_q], 1), torch.cat([k, *more_k], 1)).mean()
              for q, k, more_q, more_k in zip(p.q, p.k, old_q, old_k)]
    return over_groups(values)


# other methods' terms

def relation(p: Patches) -> Tensor:
    "SRC's relation loss."
    return over_taps(relation_loss, p.q, p.k)


def scc(p: Patches) -> Tensor:
    "SCC on pixels, as released."
    return scc_released(p.x, p.y)


# our own forms

def rows(p: Patches) -> Tensor:
    "rSMI between rows of the self-similarity matrices: what a place resembles."
    return over_groups([relative_smi(q @ q.mT, k @ k.mT).mean() for q, k in zip(p.q, p.k)])


def shared_smi(q: Tensor, k: Tensor, centres: int = 64, bandwidth: float = 0.5,
               ridge: float = 1e-3, beta: float = 0.5) -> Tensor:
    """rSMI whose basis functions have the same centre on both sides: K(k, c) K(q, c), c = k_l.

    A pair of places counts as dependent only if both lie near the same point of the shared
    space. An exchange of classes is no dependence here.
    """
    n = q.shape[-2]
    centre = k[..., torch.linspace(0, n - 1, min(centres, n)).round().long(), :]
    sigma = bandwidth * median_distance(squared_distances(k, centre))
    k_q, k_k = (torch.exp(-squared_distances(v, centre) / (2 * sigma**2)) for v in (q, k))
    phi = k_q * k_k
    H = beta / n * phi.mT @ phi + (1 - beta) / n**2 * (k_q.mT @ k_q) * (k_k.mT @ k_k)
    h = phi.mean(-2)[..., None]
    alpha = torch.linalg.solve(H + ridge * torch.eye(H.shape[-1]), h)
    return (2 * alpha.mT @ h - alpha.mT @ H @ alpha - 1)[..., 0, 0]


def shared(p: Patches) -> Tensor:
    "rSMI with centres that both sides share, in place of a centre for each side."
    return over_groups([shared_smi(q, k).mean() for q, k in zip(p.q, p.k)])


def permuted_smi(q: Tensor, k: Tensor, bandwidth: float = 0.5, beta: float = 0.5) -> Tensor:
    """rSMI with one basis function, K(q, k): high where two places agree in the shared space.

    The places of k in another order give the product of the marginals: h^2 / H - 1.
    """
    sigma = bandwidth * median_distance(squared_distances(k, k))
    every = torch.exp(-squared_distances(q, k) / (2 * sigma**2))
    same = every.diagonal(dim1=-2, dim2=-1)
    H = beta * same.square().mean(-1) + (1 - beta) * every.square().mean((-2, -1))
    return same.mean(-1).square() / H - 1


def permuted(p: Patches) -> Tensor:
    "rSMI of agreement, against spatially permuted places."
    return over_groups([permuted_smi(q, k).mean() for q, k in zip(p.q, p.k)])


# hDCE and its negatives

def hdce(p: Patches, gamma: float | None = None, weighting: str = "logit") -> Tensor:
    "hDCE; all negatives weigh the same without a gamma."
    return over_taps(lambda q, k: hdce_loss(q, k, gamma, weighting=weighting), p.q, p.k)


def negatives(weighting: str, gamma: float):
    "hDCE with hard negatives of one strictness."
    def term(p: Patches) -> Tensor:
        return hdce(p, gamma, weighting)
    return term


def falling(p: Patches) -> Tensor:
    "hDCE with gamma from 50 to 10, today's schedule."
    return hdce(p, 50 - 40 * p.progress)


FORMS = dict(ts=ts, coordinate=coordinate, scc_embedded=scc_embedded, raw=raw,
             structure_texture=structure_texture, predictability=predictability, pooled=pooled,
             relation=relation, scc=scc, rows=rows, shared=shared, permuted=permuted)
NEGATIVES = {"50 to 10": falling} | {
    f"{weighting} {gamma:g}": negatives(weighting, gamma)
    for weighting in ("logit", "density") for gamma in (1, 0.5, 0.2, 0.1)}
TERMS = dict(hdce=hdce) | FORMS | NEGATIVES
