"""How the scores of finished trainings grow with their steps.

    python reproduce/tools/curves.py cpu summer2winter:semst-searched:0 --out FILE.csv

A trial is named PAIR:METHOD:SEED. Rows of trials that FILE.csv has already are replaced.
"""
import argparse
import csv
from pathlib import Path

from semst.bench.experiment import chosen_trial
from semst.bench.protocol import PROFILES
from semst.bench.workflow import open_experiment, results_folder
from semst.files import atomic

COLUMNS = ("pair", "method", "weight", "seed", "steps", "downstream", "class_accuracy", "flips")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("trials", nargs="+", metavar="PAIR:METHOD:SEED")
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results = results_folder(args.results) / args.profile
    rows = []
    if args.out.exists():
        with args.out.open(newline="") as file:
            rows = list(csv.DictReader(file))
    for name in args.trials:
        pair, method, seed = name.split(":")
        experiment = open_experiment(results, args.profile, pair)
        trial = chosen_trial(pair, method, int(seed))
        if not experiment.finished(trial):
            parser.error(f"{name}: has no finished training in {results}")
        about = dict(pair=pair, method=method, weight=f"{trial.weight:g}", seed=seed)
        rows = [row for row in rows if any(row[key] != value for key, value in about.items())]
        for found in experiment.curve(trial):
            numbers = {key: f"{found[key]:.6g}" for key in COLUMNS[5:]}
            rows.append(about | dict(steps=found["step"]) | numbers)
    with atomic(args.out) as draft, draft.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
