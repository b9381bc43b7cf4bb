"""How should the local branch go over a whole picture: at once, or in overlapping windows of the size it was trained on?

    python reproduce/sweep.py --results RESULTS --settings semst-two-scales --seeds 100 101 102 103
    python tests/benchmarks/windows.py RESULTS --seeds 100 101 102 103

    python reproduce/sweep.py --results RESULTS --settings semst-two-scales --seeds 100 101 102 103 104 --profile standin --steps 600
    python tests/benchmarks/windows.py RESULTS --seeds 100 101 102 103 104 --profile standin --run semst-two-scales_steps_600

    python reproduce/step.py train standin parsing2photo 0 semst-two-scales --results RESULTS --data-root FOLDER          (and seeds 1 and 2)
    python tests/benchmarks/windows.py RESULTS/standin --seeds 0 1 2 --profile standin --pair parsing2photo --data-root FOLDER

Reads the finished trainings of two scales, translates their test scenes in both ways (the windows overlap by half and are blended by tents, HRDA's
protocol but for the tents), and scores them: pixels read right, mIoU and the distance to the oracle, with the gain of painting at once. M is the scale
map's mean, the share of the local branch in the picture.
"""
import argparse
from pathlib import Path

import torch
from torch import Tensor

from semst.bench.benchmark import Trial, eight_bits
from semst.bench.comparison import mean_interval, write_csv
from semst.model import SemST, fuse, load_model, resize_to
from semst.runs import read_run

SCORES = ("pixel_accuracy", "class_accuracy", "miou", "sfd_oracle", "sfd_target")


def in_windows(paint, x: Tensor, side: int) -> Tensor:
    "A painter applied to windows that overlap by half, blended by tents."
    starts = [[*range(0, n - side, side // 2), n - side] for n in x.shape[-2:]]
    tent = 1 - ((torch.arange(side) + 0.5) * 2 / side - 1).abs()
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for top in starts[0]:
        for left in starts[1]:
            here = (..., slice(top, top + side), slice(left, left + side))
            total[here] += tent[:, None] * tent * paint(x[here])
            weights[here] += tent[:, None] * tent
    return total / weights

@torch.inference_mode()
def both_ways(model: SemST, x: Tensor) -> tuple[dict[str, Tensor], float]:
    "The fused picture with the local branch in windows and at once, and the mean of M."
    config, size = model.config, tuple(x.shape[-2:])
    context, local = model.view("global", resize_to(x, tuple(n // config.shrink for n in size))), model.branches["local"].generator
    y_global, scale_map = resize_to(context.y, size), model.attention(context.feats[-1], size)
    painted = {"in windows": in_windows(local, x, config.local_crop), "at once": local(x)}
    return {how: fuse(y_global, y, scale_map) for how, y in painted.items()}, scale_map.mean().item()

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--pair", default="sim2photo")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--run", default="semst-two-scales", help="name of the training's folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--table", type=Path, help="also write the scores there, as CSV")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in args.seeds:
        trial = Trial(args.results, args.profile, args.pair, seed, args.data_root)
        run = trial.folder / args.run / "run"
        model, x, config = load_model(run), trial.pictures("testA"), read_run(run)["config"]
        parts = [both_ways(model, part) for part in x.split(16)]
        m = sum(m * len(part) for (_, m), part in zip(parts, x.split(16))) / len(x)
        for how in ("in windows", "at once"):
            scores = trial.rate(eight_bits(torch.cat([pictures[how] for pictures, _ in parts])))
            rows.append(dict(profile=args.profile, pair=args.pair, data=args.data_root.name if args.data_root else "embedded", steps=config["steps"], lambda_hdce=config["lambda_hdce"], seed=seed, local=how, scale_map=round(m, 3)) | {k: round(scores[k], 4) for k in SCORES if k in scores})
            print(rows[-1], flush=True)
    if args.table: write_csv(args.table, rows)
    for score in [k for k in SCORES if k in rows[0]]:
        gain = [b[score] - a[score] for a, b in zip(rows[::2], rows[1::2])]
        print(f"{score:15} at once - in windows: {mean_interval(gain)}")


if __name__ == "__main__": main()
