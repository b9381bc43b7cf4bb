"""Choose SemST's weights on seeds that no reported number uses: one setting changed at a time, simulator to photograph.

    python reproduce/sweep.py --seeds 100 101                 (two calls with one seed each run side by side)

Each setting is trained in the benchmark's way and scored at its checkpoints; reproduce/sweep.csv gets a row for each.
"""
import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

import torch

from semst.benchmark import Trial, config_for, load_pictures, translate_all, write_json
from semst.multiscale import load_model
from semst.runs import train

HERE = Path(__file__).resolve().parent
def hold(hdce, identity, ts=1.0): return dict(lambda_hdce=hdce, lambda_identity=identity, lambda_ts=ts)

SETTINGS = {   # weights of hDCE, identity and TS: (0.1, 0, 1) was the first choice
    "hdce 0.1": hold(0.1, 0), "hdce 0.03": hold(0.03, 0), "hdce 0.3": hold(0.3, 0), "hdce 0.1 ts 0": hold(0.1, 0, 0), "hdce 0.1 ts 3": hold(0.1, 0, 3),
    "hdce 0.3 identity 0.3": hold(0.3, 0.3), "hdce 1 identity 1": hold(1, 1), "hdce 0.1 identity 0.1": hold(0.1, 0.1), "hdce 1": hold(1, 0),
    "hdce 3": hold(3, 0), "hdce 3 identity 3": hold(3, 3),
    **{f"hdce 1 identity 1 ts {ts:g}": hold(1, 1, ts) for ts in (0, 0.3, 3)},
    "hdce 1 identity 1 ts frozen": hold(1, 1) | dict(ts_embedder="frozen"), "hdce 1 identity 1 ts momentum": hold(1, 1) | dict(ts_embedder="momentum"),
}
SCORES = ("pixel_accuracy", "class_accuracy", "miou", "sfd_oracle", "sfd_target", "inversion")


def score(trial: Trial, name: str, changes: dict) -> list[dict]:
    "The curve of one setting, made or loaded."
    folder = trial.folder / name.replace(" ", "_")
    if not (folder / "scores.json").exists():
        config, data = replace(config_for("semst", trial.size, trial.seed), **changes), trial.data()
        if not (folder / f"run/checkpoints/step_{config.steps:08d}").exists():
            train(data["trainA"] / "images", data["trainB"] / "images", folder / "run", config, resume=(folder / "run/config.json").exists(), quiet=True)
        x = load_pictures(data["testA"] / "images")
        write_json(folder / "scores.json", [dict(step=int(c.name[5:])) | trial.rate(translate_all(load_model(c), x))
                                            for c in sorted((folder / "run/checkpoints").glob("step_*"))])
    return json.loads((folder / "scores.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results/sweep")
    parser.add_argument("--settings", nargs="*", help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        trial = Trial(args.results, args.profile, "sim2photo", seed)
        for name, row in trial.references().items(): print(seed, name, {k: round(row[k], 3) for k in SCORES}, flush=True)
        for name in args.settings or SETTINGS:
            for p in score(trial, name, SETTINGS[name]): print(seed, name, p["step"], {k: round(p[k], 3) for k in SCORES}, flush=True)
    rows = [dict(setting=path.parent.name.replace("_", " "), seed=path.parts[-3][4:], step=p["step"]) | {k: f"{p[k]:.4f}" for k in SCORES}
            for path in sorted(args.results.glob("sim2photo/seed*/*/scores.json")) for p in json.loads(path.read_text())]
    with open(HERE / "sweep.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0])); writer.writeheader(); writer.writerows(rows)


if __name__ == "__main__": main()
