"""What TS adds to hDCE: the gradients of SemST's terms on the translated picture, and the mutual information, with and without TS, over finished runs.

    make reproduce PROFILE=cpu
    python tests/benchmarks/terms.py results/cpu

Reads RESULTS/sim2photo/seedN/{semst,semst-without-ts}/run. At each checkpoint the terms of SemST are taken on source pictures of the training, unweighted,
with the networks as they were then (their own weights, not the average), one picture at a time as in the training. It prints, as means over seeds: the
norm of each term's gradient with respect to the translation; the cosine between those of hDCE and TS; and rSMI in the two groups of taps, which TS
maximises. If rSMI is as high without TS, hDCE had raised it already.
"""
import argparse
import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from semst.baselines import OBJECTIVES
from semst.benchmark import Trial
from semst.data import list_images, load_image, to_tensor
from semst.discriminator import generator_loss
from semst.hdce_loss import gamma_at
from semst.metrics import spread
from semst.runs import read_run
from semst.trainer import TrainConfig, Training, content_losses, start_engine

METHODS, TERMS = ("semst", "semst-without-ts"), ("gan", "hdce", "ts")


def gradients(training: Training, x: torch.Tensor, gamma: float) -> dict[str, float]:
    "Of one picture: norms of the terms' gradients with respect to its translation, their cosines, and rSMI."
    c, view = training.config, training.model(x, None).views["global"]
    y = view.y.detach().requires_grad_(True)
    losses = content_losses(training, "global", view._replace(y=y), (), gamma, {"hdce", "ts"}) | dict(gan=generator_loss(training.critic(y), c.gan))
    grads = {term: torch.autograd.grad(losses[term], y, retain_graph=True)[0].flatten() for term in TERMS}
    return ({term: g.norm().item() for term, g in grads.items()} | {f"{a}, {b}": F.cosine_similarity(grads[a], grads[b], dim=0).item() for a, b in combinations(TERMS, 2)}
            | {name: losses[name].item() for name in ("texture", "structure")})


def measure(trial: Trial, method: str, pictures: int) -> dict[int, dict[str, float]]:
    "Means over the pictures, for each checkpoint of a run."
    run, found = trial.folder / method / "run", {}
    config = replace(TrainConfig.from_dict(read_run(run)["config"]), ema=0.0)
    training = Training(config, config.steps, start_engine("no"))
    files = spread(list_images(trial.folder / "data/trainA/images"), pictures)
    for checkpoint in sorted((run / "checkpoints").glob("step_*")):
        training.step = int(checkpoint.name[5:])
        training.model.load_state_dict(load_file(checkpoint / "semst.safetensors"))
        training.critic.load_state_dict(load_file(checkpoint / "discriminator.safetensors"))
        gamma = gamma_at(training.step / config.steps, config.gamma_start, config.gamma_end, config.gamma_late)
        rows = [gradients(training, to_tensor(load_image(f))[None], gamma) for f in files]
        found[training.step] = {name: statistics.fmean(r[name] for r in rows) for name in rows[0]}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a profile's folder of results on drawn scenes, named like the profile")
    parser.add_argument("--pictures", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    assert not OBJECTIVES["semst-without-ts"]["lambda_ts"]
    print("| method | step | seeds | gradient of GAN | of hDCE | of TS | cosine GAN, hDCE | GAN, TS | hDCE, TS | rSMI texture | structure |\n|---|---:|---:|" + "---:|" * 8)
    for method in METHODS:
        every = [measure(Trial(args.results, args.results.name, "sim2photo", int(p.parents[1].name.removeprefix("seed"))), method, args.pictures)
                 for p in sorted(args.results.glob(f"sim2photo/seed*/{method}/run"))]
        if not every: parser.error(f"{args.results}: holds no run of {method}")
        for step in every[0]:
            means = " | ".join(f"{statistics.fmean(seed[step][name] for seed in every):.3f}" for name in every[0][step])
            print(f"| {method} | {step} | {len(every)} | {means} |", flush=True)


if __name__ == "__main__": main()
