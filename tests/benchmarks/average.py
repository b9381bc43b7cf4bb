"""What the moving average of the weights does: the last checkpoint's own weights beside their average, over finished runs.

    make reproduce PROFILE=cpu
    python tests/benchmarks/average.py results/cpu

Reads RESULTS/PAIR/seedN/METHOD/run, translates the test scenes of each run with `semst.safetensors` and with `average.safetensors` of its last
checkpoint, and prints, for each pair and method, the mean distance to the oracle and the share of pixels read right of both, and on how many seeds
the average was nearer and was read better.
"""
import argparse
import statistics
from pathlib import Path

import torch

from semst.bench.benchmark import PROFILES, Trial, reported
from semst.runs import last_checkpoint


def scores(results: Path, pair: str, method: str) -> list[tuple[dict, dict]]:
    "For each seed with a finished run: the scores of its last weights, and of their average."
    found = []
    for trained in sorted(results.glob(f"{pair}/seed*/{method}/trained")):
        trial = Trial(results, results.name, pair, int(trained.parents[1].name.removeprefix("seed")))
        last = last_checkpoint(trained.parent / "run")
        if (last / "average.safetensors").exists(): found.append(tuple(trial.rate(trial.translate(last / f"{name}.safetensors", "testA")) for name in ("semst", "average")))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a profile's folder of results on drawn scenes, named like the profile")
    results = parser.parse_args().results
    if results.name not in PROFILES: parser.error(f"{results}: is not named like a profile ({', '.join(PROFILES)})")
    torch.set_num_threads(1)
    print("| pair | method | distance, last weights | average | read right, last weights | average | nearer | read better |\n|---|---|---:|---:|---:|---:|---:|---:|")
    gains = []
    for pair in sorted({p.parents[2].name for p in results.glob("*/seed*/*/trained")}):
        for method in reported(results.name):
            if not (found := scores(results, pair, method)): continue
            columns = {key: [[row[key] for row in side] for side in zip(*found)] for key in ("sfd_oracle", "pixel_accuracy")}
            (d, d_mean), (a, a_mean) = columns.values()
            gains += [v - u for u, v in zip(a, a_mean)]
            means = " | ".join(f"{statistics.fmean(v):.{digits}f}" for v, digits in ((d, 2), (d_mean, 2), (a, 3), (a_mean, 3)))
            print(f"| {pair} | {method} | {means} | {sum(v < u for u, v in zip(d, d_mean))}/{len(d)} | {sum(v > u for u, v in zip(a, a_mean))}/{len(a)} |", flush=True)
    if not gains: parser.error(f"{results}: holds no finished run with an average")
    print(f"\npixels read right, average less last weights: mean over {len(gains)} trainings {statistics.fmean(gains):+.3f}")


if __name__ == "__main__": main()
