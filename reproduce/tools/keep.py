"""Keep trained translators in the repository: half precision, with their origin and digest.

    python reproduce/tools/keep.py cpu                    # of each method and pair the first seed's
    python reproduce/tools/keep.py cpu --evaluators       # the evaluators of the looks, too
"""
import argparse

from semst.bench.protocol import ABLATIONS, PAIRS, PROFILES
from semst.bench.weights import keep, keep_evaluator
from semst.bench.workflow import kept_folder, open_experiment, results_folder, training_trials


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--evaluators", action="store_true")
    args = parser.parse_args()
    results, plan = results_folder(args.results) / args.profile, PROFILES[args.profile]
    for pair in args.pairs:
        experiment, seen = open_experiment(results, args.profile, pair), set(ABLATIONS)
        for trial in training_trials(pair, plan):
            if trial.method not in seen and experiment.finished(trial):
                seen.add(trial.method)
                path = keep(experiment, trial, kept_folder(pair))
                print(path, f"{path.stat().st_size / 1e6:.2f} MB", flush=True)
        if args.evaluators:
            keep_evaluator(results / "evaluators" / PAIRS[pair].target,
                           kept_folder("evaluators") / PAIRS[pair].target)


if __name__ == "__main__":
    main()
