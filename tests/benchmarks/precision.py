"""Does bf16 hurt a training? SemST on embedded scenes (simulator to photograph), in float32 and in bf16, over several seeds.

    python tests/benchmarks/precision.py OUT                      # profile cpu, five seeds: about 25 minutes on one core, 5 on a GPU
    python tests/benchmarks/precision.py OUT --compile            # compiled, and on a GPU recorded

Every checkpoint is scored as in figure 5; printed are those of the last, and the mean difference with its interval over seeds.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import torch

from semst.bench.benchmark import PROFILES, Trial
from semst.bench.comparison import T975, mean_interval


class InPrecision(Trial):
    "A trial whose methods are SemST in one precision or another."
    compile = False
    def config(self, method: str): return replace(super().config("semst"), mixed_precision=dict(fp32="no", bf16="bf16")[method], compile=self.compile)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", choices=PROFILES, default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    if args.seeds > len(T975): parser.error(f"--seeds {args.seeds}: at most {len(T975)}")
    torch.set_num_threads(1)
    InPrecision.compile, differences = args.compile, dict(sfd_oracle=[], pixel_accuracy=[])
    print(f"{'seed':>4s} {'precision':>9s} {'distance to oracle':>18s} {'pixel accuracy':>14s}")
    for seed in range(args.seeds):
        trial = InPrecision(args.out / ("compiled" if args.compile else "plain") / args.profile, args.profile, "sim2photo", seed)
        last = {precision: trial.score(precision)[-1] for precision in ("fp32", "bf16")}
        for precision, row in last.items(): print(f"{seed:4d} {precision:>9s} {row['sfd_oracle']:18.2f} {row['pixel_accuracy']:14.3f}", flush=True)
        for name, values in differences.items(): values.append(last["bf16"][name] - last["fp32"][name])
    for name, values in differences.items():
        if len(values) > 1: print(f"bf16 less fp32, {name}: {mean_interval(values)}")


if __name__ == "__main__": main()
