"""What the paper's figures cost on GPUs: floating-point operations of one training step, counted, times the steps, over a rate that you give.

    python tests/benchmarks/cost.py --tflops 100        # what your card sustains in step.py (GFLOP / seconds), in TFLOP/s

Counting runs one step of each method at full size: about four minutes and 6 GiB on two CPU cores.
"""
import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from semst.baselines import BASELINES
from semst.bench.benchmark import PROFILES, config_for, reported
from semst.data import rng
from semst.trainer import METHODS, start_engine

FIGURES = {   # the paper's data: source images, each seen once an epoch (horse2zebra, summer2winter_yosemite, Cityscapes, GTA5)
    "fig. 2, labels to photographs": 2975, "fig. 3, summer to winter": 1231, "fig. 4, horse to zebra": 1067, "fig. 5, GTA5 to Cityscapes": 24_466}
GTA5 = "fig. 5, GTA5 to Cityscapes"
EPOCHS = PROFILES["paper"].epochs


def count(method: str) -> int:
    "Floating-point operations of one step of a method at the paper's size, past the warm-up of TS."
    config = config_for(method, PROFILES["paper"]._replace(steps=100), 0)
    game = METHODS[config.method]
    training = game.training(config, config.steps, start_engine("no"))
    training.step = config.steps // 2
    x, y = (torch.rand(1, 3, config.model.crop, config.model.crop, generator=rng(0, d)) * 2 - 1 for d in "xy")
    with FlopCounterMode(display=False) as counter: game.step(training, x, y)
    return counter.get_total_flops()


def main():
    parser = argparse.ArgumentParser(description="GPU-hours of the paper's figures, from operations counted and a rate given")
    parser.add_argument("--tflops", type=float, required=True, help="rate that a card sustains, TFLOP/s")
    args = parser.parse_args()
    steps = {figure: EPOCHS * images for figure, images in FIGURES.items()}
    print(f"| method | TFLOP a step | {' | '.join(f'{f}: hours' for f in FIGURES)} |\n|---{'|---:' * (1 + len(FIGURES))}|")
    total, further = dict.fromkeys(FIGURES, 0.0), 0.0
    for method in (*BASELINES, "semst", *(m for m in reported("paper") if m not in (*BASELINES, "semst"))):
        work = count(method)
        hours = {figure: work * n / args.tflops / 1e12 / 3600 for figure, n in steps.items()}
        if method in (*BASELINES, "semst"):
            for figure in FIGURES: total[figure] += hours[figure]
        else:                                                       # trained for figure 5 alone
            hours = dict.fromkeys(FIGURES, None) | {GTA5: hours[GTA5]}
            further += hours[GTA5]
        print(f"| {method} | {work / 1e12:.2f} | {' | '.join('' if h is None else f'{h:,.0f}' for h in hours.values())} |", flush=True)
    print(f"| six baselines and SemST | | {' | '.join(f'{h:,.0f}' for h in total.values())} |")
    p, shared = PROFILES["paper"], sum(h for figure, h in total.items() if figure != GTA5)
    print(f"\n{EPOCHS} epochs, one image a step, at {args.tflops:g} TFLOP/s. One seed of the seven: {shared + total[GTA5]:,.0f} hours. "
          f"PROFILE=paper ({p.seeds} seeds of figures 2 to 4, {p.seeds_5} of figure 5 with further methods): {p.seeds * shared + p.seeds_5 * (total[GTA5] + further):,.0f} hours.")


if __name__ == "__main__": main()
