"""Choose the methods' settings on seeds that no reported number uses.

    python reproduce/sweep.py --seeds 100 101                                       (two calls with one seed each run side by side)
    python reproduce/sweep.py --pair horse2zebra --hold cut src --table horses.csv  (search the hold of two methods on a pair)
    python reproduce/sweep.py --read reproduce/ts.csv                               (trains nothing: what a table says)

Each setting is trained in the benchmark's way and scored at its checkpoints; the table gets a row for each checkpoint. Then every setting is compared
with the first one: its lead at equal distance to the oracle, and where the trainings ended, as means over the seeds with 95 % intervals.
A setting is a name of SETTINGS (SemST by its weights) or of changes.py (SemST with one thing of its objective changed), a method as the benchmark trains
it, or a method with its hold on the source made stronger or weaker: "cut x3" has three times the weights of CUT's code base.

The search of --hold: a method is trained with its hold weighed 0.1 to 30 times, on the first seed; the three factors that end nearest to the oracle are
trained on the other seeds, too, and the nearest of them in the mean is the method's. If it is the smallest or the largest of all, the one beyond is tried.
(This went down to 0.03 at first; 0.01 was tried later, with the GAN alone, which nothing holds.) So the tables reproduce/hold/PAIR.csv were made, a call for some methods and then the tables one below the other; that of sim2photo came before this rule,
with every factor on seeds 100 to 103.
"""
import argparse
import json
import statistics
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from changes import CHANGES, FORMS

from semst.baselines import BASELINES
from semst.bench.benchmark import METHOD_NAMES, PAIRS, Profile, Trial, config_for, hold_of, load_pictures, made_otherwise, translate_all, write_json
from semst.bench.comparison import MEANING, lead, mean_interval, read_curves, write_csv
from semst.model import load_model
from semst.runs import on_schedule, train
from semst.trainer import TrainConfig

HERE = Path(__file__).resolve().parent
def hold(hdce, identity, ts=1.0): return dict(lambda_hdce=hdce, lambda_identity=identity, lambda_ts=ts)

SETTINGS = {   # weights of hDCE, identity and TS: (0.1, 0, 1) was the first choice
    "hdce 0.1": hold(0.1, 0), "hdce 0.03": hold(0.03, 0), "hdce 0.3": hold(0.3, 0), "hdce 0.1 ts 0": hold(0.1, 0, 0), "hdce 0.1 ts 3": hold(0.1, 0, 3),
    "hdce 0.3 identity 0.3": hold(0.3, 0.3), "hdce 1 identity 1": hold(1, 1), "hdce 0.1 identity 0.1": hold(0.1, 0.1), "hdce 1": hold(1, 0),
    "hdce 3": hold(3, 0), "hdce 3 identity 3": hold(3, 3),
    **{f"hdce 1 identity 1 ts {ts:g}": hold(1, 1, ts) for ts in (0, 0.3, 3)},
    "hdce 1 identity 1 ts frozen": hold(1, 1) | dict(ts_embedder="frozen"), "hdce 1 identity 1 ts momentum": hold(1, 1) | dict(ts_embedder="momentum"),
}
FACTORS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)      # the search begins with those from 0.1 to 30
SCORES = ("pixel_accuracy", "class_accuracy", "miou", "sfd_oracle", "sfd_target", "inversion")


def known(name: str) -> bool:
    method, _, factor = name.partition(" x")
    return name in {**SETTINGS, **CHANGES, **FORMS} or name in METHOD_NAMES or method in METHOD_NAMES and factor.replace(".", "", 1).isdigit()

def config_of(name: str, profile: Profile, seed: int, pair: str) -> TrainConfig:
    "What a setting is trained with."
    if name in SETTINGS: return replace(config_for("semst", profile, seed), **SETTINGS[name])
    if name in {**CHANGES, **FORMS}: return replace(config_of(name.split()[0], profile, seed, pair), **CHANGES.get(name, {}))
    method, _, factor = name.partition(" x")
    return config_for(method, profile, seed, float(factor) if factor else hold_of(method, profile, pair))

def place(trial: Trial, name: str, steps: int) -> Path:
    "Where a setting's run lies; trainings of another length are other runs."
    return trial.folder / (name.replace(" ", "_") + (f"_steps_{steps}" if steps else ""))

def score(trial: Trial, name: str, steps: int = 0) -> list[dict]:
    "The curve of one setting, made or loaded."
    folder, profile = place(trial, name, steps), trial.size._replace(steps=steps or trial.size.steps)
    config = config_of(name, profile, trial.seed, trial.pair)
    if made_otherwise(folder / "run", config):
        raise SystemExit(f"{folder}: was trained with other settings than {name!r} has today; remove it, or give another --results")
    if not (folder / "scores.json").exists():
        data = trial.data()
        if not (folder / f"run/checkpoints/step_{config.steps:08d}").exists():
            with ExitStack() as changed:
                for where, what, instead in FORMS.get(name, ()): changed.enter_context(patch.object(where, what, instead))
                train(data["trainA"] / "images", data["trainB"] / "images", folder / "run", config, resume=(folder / "run/config.json").exists(), quiet=True)
        x = load_pictures(data["testA"] / "images")
        write_json(folder / "scores.json", [dict(step=int(c.name[5:])) | trial.rate(translate_all(load_model(c), x))
                                            for c in on_schedule(folder / "run")])
    curve = json.loads((folder / "scores.json").read_text())
    print(trial.pair, trial.seed, name, {k: round(curve[-1][k], 3) for k in SCORES}, flush=True)
    return curve

def search(trials: list[Trial], method: str) -> dict[float, list[list[dict]]]:
    "The curves that choose a method's hold: factor -> seed by seed, of those that fall behind on the first seed that one alone."
    curves = {}
    def train_on(some: list[Trial], factors):
        for f in factors: curves.setdefault(f, []).extend(score(trial, f"{method} x{f:g}") for trial in some)
    train_on(trials[:1], FACTORS[3:9])
    train_on(trials[1:], sorted(curves, key=lambda f: end_distance(curves[f]))[:3])
    while (best := nearest_factor(curves)) in (min(curves), max(curves)) and best not in (FACTORS[0], FACTORS[-1]):
        train_on(trials, [FACTORS[FACTORS.index(best) + (1 if best == max(curves) else -1)]])
    return curves

def end_distance(curves: list[list[dict]]) -> float:
    "The mean distance to the oracle at which trainings ended."
    return statistics.fmean(curve[-1]["sfd_oracle"] for curve in curves)

def nearest_factor(curves: dict[float, list[list[dict]]]) -> float:
    "The factor of a search that ended nearest, of those that were trained on every seed."
    seeds = max(map(len, curves.values()))
    return min((f for f in curves if len(curves[f]) == seeds), key=lambda f: end_distance(curves[f]))


def read_search(table: Path) -> dict[str, dict[float, dict[int, list[dict]]]]:
    "A search that is kept: method -> factor -> seed -> curve. (The GAN alone, which nothing holds, stands in the table without a factor.)"
    found = {}
    for name, curves in read_curves(table, "setting").items():
        method, _, factor = name.partition(" x")
        if not factor: continue
        found.setdefault(method, {})[float(factor)] = curves
    return found


def compare(table: Path, names: list[str] = ()) -> str:
    "Markdown: each setting's lead over the first one (of `names`, if given), and how much nearer to the oracle and how much better read it ended."
    curves = read_curves(table, "setting")
    if unknown := [n for n in names if n not in curves]: raise SystemExit(f"{table}: holds no setting {', '.join(unknown)}; it has {', '.join(curves)}")
    first, *others = names or curves
    gaps = {f"lead, {name}": lambda a, b, score=score: lead(a, b, score) for score, name in MEANING.items()}
    gaps |= {"end, nearer by": lambda a, b: b[-1]["sfd_oracle"] - a[-1]["sfd_oracle"], "end, mIoU": lambda a, b: a[-1]["miou"] - b[-1]["miou"]}
    lines = [f"| against {first!r} | {' | '.join(gaps)} |", f"|{'---|' * (len(gaps) + 1)}"]
    for name in others:
        seeds = sorted(set(curves[name]) & set(curves[first]))
        if not seeds: raise SystemExit(f"{table}: {name} and {first} have no seed in common")
        lines.append(f"| {name} | {' | '.join(str(mean_interval([gap(curves[name][s], curves[first][s]) for s in seeds])) for gap in gaps.values())} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", help="default 100 101, with --hold 100 101 102")
    parser.add_argument("--pair", choices=PAIRS, default="sim2photo")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--steps", type=int, default=0, help="instead of the profile's")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results/sweep")
    parser.add_argument("--hold", nargs="+", metavar="METHOD", choices=(*BASELINES, "semst"), help="search the hold of these methods")
    parser.add_argument("--settings", nargs="*", help="only these; the first is what the others are compared with")
    parser.add_argument("--table", type=Path, help="where the scores go, default RESULTS/PAIR/sweep.csv")
    parser.add_argument("--read", type=Path, help="only compare the settings of this table")
    args = parser.parse_args()
    if args.read: return print(compare(args.read, args.settings or ()))
    torch.set_num_threads(1)
    names = args.settings or list(SETTINGS)
    if args.hold and (args.settings or args.steps): parser.error("--hold has settings of its own and the profile's steps")
    if unknown := [n for n in names if not known(n)]: parser.error(f"no such setting: {', '.join(unknown)}")
    trials = [Trial(args.results, args.profile, args.pair, seed) for seed in args.seeds or ((100, 101, 102) if args.hold else (100, 101))]
    found = {method: search(trials, method) for method in args.hold or ()}
    if found: curves = {f"{method} x{f:g}": every[f] for method, every in found.items() for f in sorted(every)}
    else: curves = {name: [score(trial, name, args.steps) for trial in trials] for name in names}
    rows = [dict(setting=name, seed=trial.seed, step=p["step"]) | {k: f"{p[k]:.4f}" for k in SCORES}
            for name, every in curves.items() for trial, curve in zip(trials, every) for p in curve]
    table = args.table or args.results / args.pair / "sweep.csv"
    write_csv(table, rows)
    print("\n".join(f"{method}: x{nearest_factor(every):g}" for method, every in found.items()) or compare(table))


if __name__ == "__main__": main()
