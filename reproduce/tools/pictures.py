"""One training in pictures: input, four checkpoints of SemST, oracle; in reproduce/pictures.

    python reproduce/tools/pictures.py cpu --pair parsing2photo
"""
import argparse

from semst.bench.experiment import Trial, chosen_trial, translate_all
from semst.bench.figures import Column, grid, heading_of
from semst.bench.manifest import repository
from semst.bench.protocol import PAIRS, PROFILES
from semst.bench.workflow import open_experiment, results_folder
from semst.checkpoint import on_schedule


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--pair", choices=PAIRS, default="parsing2photo")
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--rows", type=int, default=4)
    args = parser.parse_args()
    results = results_folder(args.results) / args.profile
    experiment = open_experiment(results, args.profile, args.pair)
    trial, files = chosen_trial(args.pair, "semst"), experiment.dataset.files("testA")[:args.rows]
    columns = [Column("input", experiment.translate(Trial("copy"), "testA")[:args.rows])]
    for checkpoint in on_schedule(experiment.run(trial)):
        y = translate_all(checkpoint, files, experiment.profile.size)
        columns.append(Column(f"SemST, step {int(checkpoint.name[5:]):,}", y))
    columns.append(Column("oracle", experiment.translate(Trial("oracle"), "testA")[:args.rows]))
    path = repository() / "reproduce/pictures/progress.png"
    path.parent.mkdir(exist_ok=True)
    grid(columns, heading_of(experiment)).savefig(path)
    print(path)


if __name__ == "__main__":
    main()
