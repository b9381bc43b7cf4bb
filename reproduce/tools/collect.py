"""Collect the rows of trainings into a table: scores, downstream mIoU, and where they come from.

    python reproduce/tools/collect.py cpu --out reproduce/tables/scores.csv      # the comparison
    python reproduce/tools/collect.py cpu --pilots --out reproduce/tables/pilots.csv
    python reproduce/tools/collect.py standin --data-root FOLDER --pairs parsing2photo \
        --results results/NAME --out FILE

What has no finished training is left out and said. Nothing is trained; missing scores are made.
A row that is in the table stays, also where a repetition with the same settings has other numbers:
that is said. A row of other settings is replaced.
"""
import argparse
import sys
from pathlib import Path

from semst.bench.comparison import read_rows, row_of, write_rows
from semst.bench.experiment import Experiment, Trial
from semst.bench.protocol import (ABLATIONS, COMPARED, CONTENT_WEIGHTS, PAIRS, PILOT_SEED, PROFILES)
from semst.bench.workflow import (open_experiment, pilot_experiment, reference_trials,
                                  results_folder, training_trials)


def done(experiment: Experiment, trial: Trial) -> bool:
    return not trial.trained or trial in experiment.kept or experiment.finished(trial)


def key(row: dict) -> tuple:
    "What a row is about."
    return row["pair"], row["method"], row["weight"], row["seed"]


def pilot_trials() -> list[Trial]:
    references = [Trial(name, seed=PILOT_SEED) for name in ("copy", "matrix", "oracle")]
    weights = sorted({*CONTENT_WEIGHTS, 0.01, 0.03, 10.0, 30.0})       # a range may have grown
    methods = ("gan", *COMPARED, *ABLATIONS)
    return references + [Trial(m, w, PILOT_SEED) for m in methods for w in weights]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--pilots", action="store_true", help="the trainings that choose weights")
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--data-root", type=Path, help="the pictures of one pair: trainA, ...")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.data_root and (args.pilots or len(args.pairs) != 1 or not args.results):
        parser.error("--data-root goes with --results and one of --pairs, and not with --pilots")
    results = results_folder(args.results) / args.profile
    rows = {key(row): row for row in read_rows(args.out)} if args.out.exists() else {}
    for pair in args.pairs:
        if args.pilots:
            experiment, trials = pilot_experiment(results, args.profile, pair), pilot_trials()
        else:
            plan, root = PROFILES[args.profile], args.data_root
            experiment = open_experiment(results, args.profile, pair, root)
            trials = training_trials(pair, plan, root)
            seeds = {trial.seed for trial in trials if done(experiment, trial)}
            trials = [t for t in reference_trials(pair, plan, root) if t.seed in seeds] + trials
        for trial in trials:
            if done(experiment, trial):
                row = row_of(experiment, trial)
                old = rows.get(key(row), {})
                again = bool(old) and old.get("settings", "") == row.get("settings", "")
                rows[key(row)] = row | old if again else row
                print(pair, trial.place, row.get("downstream", ""), flush=True)
                first, second = (f"{r.get('downstream', 0):.3f}" for r in (old or row, row))
                if again and first != second:
                    print(f"{pair} {trial.place}: the table's {first} stays", file=sys.stderr)
            elif not args.pilots:
                print(f"{pair} {trial.place}: not trained", file=sys.stderr)
    write_rows(args.out, sorted(rows.values(), key=lambda row: list(PAIRS).index(row["pair"])))


if __name__ == "__main__":
    main()
