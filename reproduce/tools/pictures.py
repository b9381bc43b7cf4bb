"""The pictures of the README and of the results, in reproduce/pictures.

    python reproduce/tools/pictures.py first quick                 SemST on three pairs
    python reproduce/tools/pictures.py methods quick               all methods on the leading pairs
    python reproduce/tools/pictures.py horses quick                all methods on horses
    python reproduce/tools/pictures.py games quick                 all methods on games
    python reproduce/tools/pictures.py searched quick              searched content weights
    python reproduce/tools/pictures.py scales quick                the kept model with two scales
"""
import argparse
from pathlib import Path

import torch

from semst import SemST
from semst.bench.experiment import chosen_trial
from semst.bench.figures import Column, grid
from semst.bench.manifest import repository
from semst.bench.protocol import COMPARED, PAIRS, PROFILES, SEARCHED, searched_methods, title_of
from semst.bench.weights import check_kept
from semst.bench.workflow import kept_folder, open_experiment, results_folder
from semst.data import to_tensor
from semst.model import translate_whole
from semst.synthetic.scenes import scene

ALL = ("copy", "matrix", "gan", *COMPARED[1:], "semst", "oracle")
SHOWN = {                                # picture -> its columns, and the pairs of its rows
    "methods": (ALL, tuple(pair for pair, about in PAIRS.items() if about.leading)),
    "horses": ((*ALL[:-1], "semst-searched", "oracle"), ("horse2zebra",)),
    "games": (ALL, ("game2photo",)),
    "searched": (("copy", "matrix", "cut", "cut-searched", "semst", "semst-searched", "oracle"),
                 tuple(SEARCHED)),
}


def methods(results: Path, profile: str, rows: int, shown: tuple[str, ...], pairs: tuple[str, ...]):
    "The first test scenes of some pairs, as each method translates them."
    pictures = {method: [] for method in shown}
    for pair in pairs:
        experiment = open_experiment(results, profile, pair)
        for method in shown:
            y = experiment.translate(chosen_trial(pair, method), "testA")
            pictures[method].append(y[:rows])
    columns = [Column(title_of(method), torch.cat(found)) for method, found in pictures.items()]
    titles = ", then ".join(PAIRS[pair].title for pair in pairs)
    heading = f"First {rows} drawn scenes of each test set, 64 pixels: {titles}"
    return grid(columns, heading, width=128)


def first(results: Path, profile: str, rows: int):
    "Input, SemST with the weights found for the pair, and oracle, for three pairs side by side."
    columns = []
    for pair in ("parsing2photo", "summer2winter", "horse2zebra"):
        experiment = open_experiment(results, profile, pair)
        ours = "semst-searched" if "semst-searched" in searched_methods(pair) else "semst"
        titles = {"copy": PAIRS[pair].title.split(" to ")[0], ours: "SemST", "oracle": "oracle"}
        columns += [Column(title, experiment.translate(chosen_trial(pair, method), "testA")[:rows])
                    for method, title in titles.items()]
    heading = (f"The first {rows} drawn scenes of three test sets, 64 pixels: source, "
               "translation, and the same scene drawn in the target's look")
    return grid(columns, heading, width=128)


def scales(rows: int):
    "Scenes of 256 pixels that no training saw, both branches, the scale map and the fused picture."
    file = max(kept_folder("two_scales").glob("step_*.safetensors"))
    check_kept(file)
    x, oracle = (torch.stack([to_tensor(scene(look, 300_000 + i, 256, "wooded")[0])
                              for i in range(rows)]) for look in ("summer", "winter"))
    with torch.no_grad():
        out = translate_whole(SemST.from_pretrained(file), x)
    scale_map = (2 * out.scale_map - 1).expand_as(x)
    columns = [Column("source", x), Column("global branch", out.y_global),
               Column("local branch", out.y_local), Column("M: white is local", scale_map),
               Column("fused", out.fused), Column("oracle", oracle)]
    return grid(columns, "The first scenes of 256 pixels, summer to winter, two scales")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("first", "scales", *SHOWN))
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--results", default="", help="default: results in the project")
    parser.add_argument("--rows", type=int, default=2, help="scenes of each pair")
    args = parser.parse_args()
    given = (results_folder(args.results) / args.profile, args.profile, args.rows)
    if args.what == "scales":
        figure = scales(args.rows)
    elif args.what == "first":
        figure = first(*given)
    else:
        figure = methods(*given, *SHOWN[args.what])
    kind = "jpg" if args.what == "scales" else "png"       # large pictures with grain
    path = repository() / f"reproduce/pictures/{args.what}.{kind}"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    print(path)


if __name__ == "__main__":
    main()
