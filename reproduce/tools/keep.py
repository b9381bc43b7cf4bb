"""Keep trained translators in the repository: half precision, with their origin and digest.

    python reproduce/tools/keep.py cpu                    # of each method and pair the first seed's
    python reproduce/tools/keep.py cpu --evaluators       # the evaluators of the looks, too
    python reproduce/tools/keep.py cpu --ablations --pairs summer2winter    # for chapter 09
    python reproduce/tools/keep.py --demo parsing2photo WEIGHTS     # the model inside the package

WEIGHTS is a run, a checkpoint or a file of weights that translates this pair.
"""
import argparse
from pathlib import Path

from semst.bench.protocol import ABLATIONS, PAIRS, PROFILES
from semst.bench.weights import half, keep, keep_evaluator
from semst.bench.workflow import kept_folder, open_experiment, results_folder, training_trials
from semst.files import digest, write_json
from semst.hub import DEMO
from semst.pretrained import find_weights


def keep_demo(pair: str, run: Path):
    "Replace the model inside the package, and note what it translates and where it comes from."
    weights, looks = find_weights(run), PAIRS[pair]
    half(weights, DEMO)
    write_json(DEMO.with_suffix(".json"), dict(
        pair=pair, source=looks.source, target=looks.target, layout=looks.source_layout,
        original_sha256=digest(weights), sha256=digest(DEMO)))
    print(DEMO, f"{DEMO.stat().st_size / 1e6:.2f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES, nargs="?")
    parser.add_argument("--demo", nargs=2, metavar=("PAIR", "WEIGHTS"))
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--evaluators", action="store_true")
    parser.add_argument("--ablations", action="store_true", help="SemST with a part changed only")
    args = parser.parse_args()
    if args.demo:
        keep_demo(args.demo[0], Path(args.demo[1]))
        return
    if args.profile is None:
        parser.error("name a profile, or give --demo PAIR WEIGHTS")
    results, plan = results_folder(args.results) / args.profile, PROFILES[args.profile]
    for pair in args.pairs:
        experiment, seen = open_experiment(results, args.profile, pair), set()
        folder = kept_folder("course" if args.ablations else pair)
        for trial in training_trials(pair, plan):
            wanted = (trial.method in ABLATIONS) == args.ablations and trial.method not in seen
            if wanted and experiment.finished(trial):
                seen.add(trial.method)
                path = keep(experiment, trial, folder)
                print(path, f"{path.stat().st_size / 1e6:.2f} MB", flush=True)
        if args.evaluators:
            keep_evaluator(results / "evaluators" / PAIRS[pair].target,
                           kept_folder("evaluators") / PAIRS[pair].target, plan)


if __name__ == "__main__":
    main()
