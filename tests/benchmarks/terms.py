"""What TS adds to hDCE: the gradients of SemST's terms on the translated picture, and the mutual information, with and without TS, over finished runs.

    make reproduce PROFILE=cpu
    python tests/benchmarks/terms.py results/cpu

Reads RESULTS/sim2photo/seedN/{semst,semst-without-ts,gan}/run. At each checkpoint the terms of SemST are taken on test scenes, unweighted, with the
networks as they were then (their own weights, not the average), one picture at a time as in the training. It prints, as means over seeds: the norm of each
term's gradient with respect to the translation; the cosine between its descent and the way to the oracle (the same scene as the target's renderer draws it);
the cosine between the gradients of hDCE and TS; and rSMI in the two groups of taps, less its value for places paired at random. The GAN alone is the control:
it has neither hDCE nor TS, and its F is as it was drawn.
"""
import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from semst.bench.benchmark import Trial
from semst.discriminator import generator_loss
from semst.hdce_loss import gamma_at
from semst.runs import read_run
from semst.trainer import TrainConfig, Training, content_losses, start_engine
from semst.ts_loss import ts_loss

METHODS, TERMS = ("semst", "semst-without-ts", "gan"), ("gan", "hdce", "ts")


def gradients(training: Training, x: torch.Tensor, oracle: torch.Tensor, gamma: float) -> dict[str, float]:
    "Of one picture: norms of the terms' gradients with respect to its translation, cosines, and rSMI."
    c, view = training.config, training.model(x, None).views["global"]
    y = view.y.detach().requires_grad_(True)
    losses = content_losses(training, "global", view._replace(y=y), (), gamma, {"hdce", "ts"}) | dict(gan=generator_loss(training.critic(y), c.gan))
    grads = {term: torch.autograd.grad(losses[term], y, retain_graph=True)[0] for term in TERMS}
    net, where = training.model.branches["global"], training.locations(view, "global")
    embeds_q, embeds_k = net.embedder(net.generator.encode(y), where), net.embedder(view.feats, where)
    chance = ts_loss([q.roll(1, dims=1) for q in embeds_q], embeds_k, centres=c.centres, bandwidth=c.bandwidth, ridge=c.ridge)       # every place with another one
    def cosine(a, b): return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()
    return ({f"gradient of {term}": g.norm().item() for term, g in grads.items()} | {f"{term} towards the oracle": cosine(-g, oracle - y.detach()) for term, g in grads.items()}
            | {"cosine of hdce and ts": cosine(grads["hdce"], grads["ts"])} | {f"rSMI, {name}": (losses[name] - getattr(chance, name)).item() for name in ("texture", "structure")})


def measure(trial: Trial, method: str, pictures: int) -> dict[int, dict[str, float]]:
    "Means over the pictures, for each checkpoint of a run."
    run, found = trial.folder / method / "run", {}
    config = replace(TrainConfig.from_dict(read_run(run)["config"]), ema=0.0)
    training = Training(config, config.steps, start_engine("no"))
    scenes = [list(trial.pictures(name)[:pictures].split(1)) for name in ("testA", "oracle")]
    for checkpoint in sorted((run / "checkpoints").glob("step_*")):
        training.step = int(checkpoint.name[5:])
        training.model.load_state_dict(load_file(checkpoint / "semst.safetensors"))
        training.critic.load_state_dict(load_file(checkpoint / "discriminator.safetensors"))
        gamma = gamma_at(training.step / config.steps, config.gamma_start, config.gamma_end, config.gamma_late)
        rows = [gradients(training, x, oracle, gamma) for x, oracle in zip(*scenes)]
        found[training.step] = {name: statistics.fmean(r[name] for r in rows) for name in rows[0]}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a profile's folder of results on drawn scenes, named like the profile")
    parser.add_argument("--pictures", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    heading = None
    for method in METHODS:
        runs = [trained.with_name("run") for trained in sorted(args.results.glob(f"sim2photo/seed*/{method}/trained"))]
        if not runs: parser.error(f"{args.results}: holds no finished run of {method}")
        every = [measure(Trial(args.results, args.results.name, "sim2photo", int(run.parents[1].name.removeprefix("seed"))), method, args.pictures) for run in runs]
        for step in every[0]:
            row = {name: statistics.fmean(seed[step][name] for seed in every) for name in every[0][step]}
            if not heading: print(heading := f"| method | step | {' | '.join(row)} |\n|---|---:|{'---:|' * len(row)}")
            print(f"| {method} | {step} | {' | '.join(f'{v:.3f}' for v in row.values())} |", flush=True)


if __name__ == "__main__": main()
