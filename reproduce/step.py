"""One step of the benchmark, made or loaded: what the workflow's rules call.

    python reproduce/step.py train  quick sim2photo 0 cut          train one method (goes on where it was stopped)
    python reproduce/step.py score  quick sim2photo 0 cut          translate the test scenes and score every checkpoint
    python reproduce/step.py judge  quick sim2photo 0              data, judge and reference rows
    python reproduce/step.py reader quick sim2photo 0 cut          figure 5: a segmenter trained on translations
"""
import argparse
import shutil
import sys
from pathlib import Path

import torch

from semst.bench.benchmark import PAIRS, PROFILES, Trial, downstream
from semst.data import InputError
from semst.runs import claimed
from semst.trainer import start_engine

HERE = Path(__file__).resolve().parent


def forget_if_stale(trial: Trial, method: str):
    "Remove what was made with other settings than today's: a run is not to go on under another objective."
    if not trial.stale(method): return
    with claimed(trial.folder / method / "run", start_engine("no")): shutil.rmtree(trial.folder / method)        # not while another process trains there


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("judge", "train", "score", "reader"))
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("seed", type=int)
    parser.add_argument("method", nargs="?")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results", help="folder that holds a folder for each profile")
    parser.add_argument("--data-root", type=Path, help="real data: a folder that holds trainA, trainB, testA, testB; otherwise scenes are drawn")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)                    # the workflow runs as many steps as there are cores
    try:
        trial = Trial(args.results / args.profile, args.profile, args.pair, args.seed, args.data_root)
        if args.what == "judge": trial.references()
        elif not args.method: parser.error(f"{args.what} needs a method")
        elif args.what == "train":
            forget_if_stale(trial, args.method)
            trial.train(args.method)
        elif args.what == "score": trial.score(args.method)
        else: downstream(trial, args.method)
    except InputError as e:
        print(f"step: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as e:
        print(f"step: {str(e) or 'stopped'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
