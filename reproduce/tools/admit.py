"""Which pairs need a translation: scores of copy, matrix and oracle (PROTOCOL.md, line 1).

    python reproduce/tools/admit.py cpu --out reproduce/tables/admission.csv

Measured on the pilots' scenes, before any training.
"""
import argparse
from pathlib import Path

from semst.bench.comparison import write_rows
from semst.bench.experiment import Trial
from semst.bench.protocol import PAIRS, PILOT_SEED, PROFILES
from semst.bench.workflow import pilot_experiment, results_folder

READABLE, MARGIN = 0.75, 0.15
COLUMNS = ("pair", "row", "pixel_accuracy", "class_accuracy", "miou")


def admitted(rows: dict[str, dict]) -> bool:
    "Whether the oracle can be read, and copy and matrix both fail in mIoU and in pixels."
    oracle = rows["oracle"]
    fails = [oracle[m] - rows[name][m] >= MARGIN for name in ("copy", "matrix")
             for m in ("miou", "pixel_accuracy")]
    return oracle["miou"] >= READABLE and all(fails)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    lines, results = [], results_folder(args.results) / args.profile
    for pair in args.pairs:
        experiment = pilot_experiment(results, args.profile, pair)
        rows = {name: experiment.score(Trial(name, seed=PILOT_SEED))
                for name in ("copy", "matrix", "oracle")}
        print(pair, "admitted" if admitted(rows) else "refused", flush=True)
        lines += [dict(pair=pair, row=name) | {m: f"{row[m]:.4f}" for m in COLUMNS[2:]}
                  for name, row in rows.items()]
    write_rows(args.out, lines, COLUMNS)


if __name__ == "__main__":
    main()
