"""What SemST's objective can be changed in: settings for sweep.py, at the weights that were chosen for the pair.

    python reproduce/sweep.py --seeds 100 101 102 103 104 --settings semst "semst gamma 1" "semst ts joint"

A change becomes SemST's default in three rounds, each against SemST as it is (with two scales, if it is about them), by a rule that was written before the
first training. One: seeds 100 to 104 of simulator to photograph; it goes on if in the mean it ends nearer to the oracle and leads in pixels. Two: seeds 105
to 114, which have chosen no method's weights; it goes on if the interval of one of the two lies above zero and the mean of the other does, too. Three: seeds
100 to 104 of the other pairs; it is taken unless an interval of one of the two lies below zero on one of them.
"""
import math

import torch
from torch import Tensor

from semst import trainer
from semst.data import rng
from semst.model import View, resize_to
from semst.patch_sampling import sample_locations
from semst.trainer import Training
from semst.ts_loss import TSLoss, ts_loss

CHANGES = {    # name -> fields of the objective
    **{f"semst bandwidth {v:g}": dict(bandwidth=v) for v in (0.25, 1.0)}, **{f"semst ridge {v:g}": dict(ridge=v) for v in (1e-4, 1e-2)},
    **{f"semst warm-up {v:g}": dict(ts_warmup=v) for v in (0.0, 0.5)}, **{f"semst ts times {v:g}": dict(texture_weight=v, structure_weight=v) for v in (0.3, 3.0)},
    "semst texture alone": dict(structure_weight=0.0), "semst structure alone": dict(texture_weight=0.0),
    "semst ts frozen": dict(ts_embedder="frozen"), "semst ts momentum": dict(ts_embedder="momentum"),
    **{f"semst gamma {g:g}": dict(gamma_start=g, gamma_end=g) for g in (1.0, 0.1)}, "semst density": dict(weighting="density"),
    **{f"semst density gamma {g:g}": dict(gamma_start=g, gamma_end=g, weighting="density") for g in (1.0, 0.1)},
}

def of_rows(embeds_q: list[Tensor], embeds_k: list[Tensor], **how) -> TSLoss:
    "TS whose structure taps compare rows of the self-similarity matrix: not what a place looks like, but what it resembles (our idea)."
    rows = lambda taps: [e if i < 3 else e @ e.mT for i, e in enumerate(taps)]
    return ts_loss(rows(embeds_q), rows(embeds_k), **how)

def joint(embeds_q: list[Tensor], embeds_k: list[Tensor], **how) -> TSLoss:
    "TS of two groups and not of five taps: the embeddings of a group's taps stand one after the other in one vector (our idea)."
    groups = lambda taps: [torch.cat(taps[:3], -1), torch.cat(taps[3:], -1)]
    return ts_loss(groups(embeds_q), groups(embeds_k), texture_taps=1, **how)

def same_places(training: Training, view: View, *purpose: str) -> list[Tensor]:
    "The same random places on every tap, those of the coarsest: what belongs together in `joint`."
    c, sizes = training.config, [f.shape[-2:] for f in view.feats]
    h, w = sizes[-1]
    places = training.per_step(lambda step: sample_locations(h, w, c.patches, rng(c.seed, step, *purpose)))
    border = (sizes[0][0] - view.x.shape[-2]) // 2                          # of the first tap, the padded picture
    def on(size, pad=0): return ((2 * (places // w) + 1) * (size[0] - 2 * pad) // (2 * h) + pad) * size[1] + (2 * (places % w) + 1) * (size[1] - 2 * pad) // (2 * w) + pad
    return [on(size, border if tap == 0 else 0) for tap, size in enumerate(sizes)]

plain_scores = Training.scores

def coarse_outside(training: Training, *pictures: Tensor, critic: str = "discriminator") -> list[Tensor]:
    "In the critic's turn the real pictures, too, are coarse where only the global branch paints, so that resolution gives no fake away (our idea)."
    # pictures of several sizes come here once together, and then one by one
    if len(pictures) == 1 or any(p.requires_grad for p in pictures): return plain_scores(training, *pictures, critic=critic)
    real, *fake = pictures
    size, box = tuple(real.shape[-2:]), training.box()
    coarse = resize_to(resize_to(real, tuple(n // training.config.model.shrink for n in size)), size)
    coarse[box.pixels] = real[box.pixels]
    return plain_scores(training, coarse, *fake, critic=critic)

def local_reals(training: Training, *pictures: Tensor, critic: str = "discriminator") -> list[Tensor]:
    "In the critic's turn the real pictures come as whole crops for the fused picture's sake, and cut to the box for the local branch's: half and half, as the two fakes do."
    scores = plain_scores(training, *pictures, critic=critic)
    if len(pictures) == 1 or any(p.requires_grad for p in pictures): return scores
    whole, cut = (z.flatten() for z in (scores[0], *plain_scores(training, training.box().cut(pictures[0]), critic=critic)))
    times = math.lcm(len(whole), len(cut))
    return [torch.cat((whole.repeat(times // len(whole)), cut.repeat(times // len(cut)))), *scores[1:]]        # as many scores of either kind, since a loss is their mean

FORMS = {       # SemST with another program in the place of one of the trainer's: the object, the name there, what stands in
    "semst ts of rows": ((trainer, "ts_loss", of_rows),), "semst same places": ((Training, "locations", same_places),),
    "semst-two-scales coarse outside": ((Training, "scores", coarse_outside),), "semst-two-scales local reals": ((Training, "scores", local_reals),),
    "semst ts joint": ((trainer, "ts_loss", joint), (Training, "locations", same_places)),
}
