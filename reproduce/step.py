"""One step of the comparison, made or loaded: what the workflow's rules call.

    python reproduce/step.py prepare cpu parsing2photo           pictures, evaluator, references
    python reproduce/step.py trial cpu parsing2photo cut 0.3 0   train, translate, score one trial

A trial is a method, a content weight and a seed. A training that was stopped goes on.
"""
import argparse
import sys
from pathlib import Path

import torch

from semst.bench.experiment import Experiment, Trial
from semst.bench.protocol import PAIRS, PROFILES
from semst.bench.workflow import open_experiment, reference_trials, results_folder
from semst.data import InputError
from semst.eval.distances import INCEPTION, cached_inception, inception_place


def score(experiment: Experiment, trial: Trial):
    "Everything that a row of a table needs; what lies there with other settings goes first."
    experiment.forget(trial)
    if experiment.dataset.has_labels("trainA", "trainB", "testB"):
        experiment.downstream(trial)
    experiment.score(trial)               # last: its file tells the workflow that all is there


def arguments(argv) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "trial"))
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("method", nargs="?")
    parser.add_argument("weight", nargs="?", type=float, default=1.0)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--results", default="", help="a folder that gets one for each profile")
    parser.add_argument("--data-root", type=Path,
                        help="real pictures: trainA, trainB, testA, testB; else scenes are drawn")
    found = parser.parse_args(argv)
    if found.what == "trial" and not found.method:
        parser.error("trial needs a method")
    return found


def main(argv=None) -> int:
    args = arguments(argv)
    torch.set_num_threads(1)              # the workflow runs as many steps as there are cores
    try:
        results = results_folder(args.results, args.data_root or "") / args.profile
        experiment = open_experiment(results, args.profile, args.pair, args.data_root)
        trials = [Trial(args.method, args.weight, args.seed)]
        if args.what == "prepare":
            if args.data_root and cached_inception() is None:
                print(f"step: no FID: fetch {INCEPTION} to {inception_place()}", file=sys.stderr)
            trials = reference_trials(args.pair, PROFILES[args.profile], args.data_root)
        for trial in trials:
            score(experiment, trial)
    except InputError as e:
        print(f"step: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        print(f"step: {str(e) or 'stopped'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
