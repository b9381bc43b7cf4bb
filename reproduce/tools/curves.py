"""How the scores of finished trainings grow with their steps.

    python reproduce/tools/curves.py cpu summer2winter:semst-searched:0 --out FILE.csv

A trial is named PAIR:METHOD:SEED. Rows of trials that FILE.csv has already are replaced.
"""
import argparse
from pathlib import Path

from semst.bench.comparison import read_rows, write_rows
from semst.bench.experiment import chosen_trial
from semst.bench.protocol import PROFILES
from semst.bench.workflow import open_experiment, results_folder

COLUMNS = ("pair", "method", "weight", "seed", "steps", "downstream", "class_accuracy", "flips")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("trials", nargs="+", metavar="PAIR:METHOD:SEED")
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    results = results_folder(args.results) / args.profile
    rows = read_rows(args.out) if args.out.exists() else []
    for name in args.trials:
        pair, method, seed = name.split(":")
        experiment = open_experiment(results, args.profile, pair)
        trial = chosen_trial(pair, method, int(seed))
        if not experiment.finished(trial):
            parser.error(f"{name}: has no finished training in {results}")
        about = dict(pair=pair, method=method, weight=trial.weight, seed=trial.seed)
        rows = [row for row in rows if any(row[key] != value for key, value in about.items())]
        for found in experiment.curve(trial):
            numbers = {key: found[key] for key in COLUMNS[5:]}
            rows.append(about | dict(steps=found["step"]) | numbers)
    write_rows(args.out, rows, COLUMNS)


if __name__ == "__main__":
    main()
