"""The decisive test of TS forms and of hard negatives; the protocol is ts_forms.md.

    python ts_forms.py evaluator --pair parsing2photo        teach the evaluator, print its ceiling
    python ts_forms.py starts --pair parsing2photo            train the GANs that fail
    python ts_forms.py run --pair parsing2photo --minutes 18  do what is missing, then stop
    python ts_forms.py table                                  write the two tables
    python ts_forms.py verdict                                print effects with intervals
    python ts_forms.py picture --pair parsing2photo           draw a contact sheet

Work lies under results/ts_forms. A run that stops is taken up again by the same command.
"""
import argparse
import csv
import json
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path

import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.utils import save_image
from ts_terms import FORMS, NEGATIVES, TERMS, Patches, over_taps

from semst.config import ModelConfig
from semst.data import UnpairedCrops, rng, to_tensor
from semst.discriminator import PatchGAN, discriminator_loss, generator_loss
from semst.eval.distances import frechet_distance
from semst.eval.evaluator import (Segmenter, load_segmenter, pooled_features, save_segmenter,
                                  segment, train_segmenter)
from semst.eval.scores import count_pairs, flip_table, semantic_scores
from semst.hdce_loss import hdce_loss
from semst.model import SemST
from semst.patch_sampling import gather_patches, sample_locations
from semst.speed import CachedCrops
from semst.synthetic.scenes import classes_of, scene, write_scenes

MODEL = ModelConfig(scales=1, crop=64, ngf=16, blocks=6, embed_dim=64, upsample="blur")
NDF, STRIDES = 32, (2, 1)


def new_networks() -> tuple[nn.Module, nn.Module, nn.Module]:
    "Generator, patch embedder, discriminator."
    branch = SemST(MODEL).branches["global"]
    return branch.generator, branch.embedder, PatchGAN(NDF, STRIDES)


def new_crops(source: Path, target: Path, seed: int):
    "Sample number -> an unpaired crop of each domain."
    return CachedCrops(UnpairedCrops(source, target, 64, resize="none", seed=seed), "cpu")
# ... and here.


# source look and layout, target look and layout: the target has many more trees
PAIRS = dict(parsing2photo=("parsing", "open", "photo", "wooded"),
             summer2winter=("summer", "open", "winter", "forest"))
RESULTS = Path("results/ts_forms")
TABLES = Path(__file__).resolve().parents[1] / "tables"
SEEDS = (11, 12, 13)
START, WARM, STEPS = 3000, 200, 160    # steps of the failing GAN, of F alone, of a fine-tuning
LONG = 1500                            # steps of a training from an untrained G
LR, DECAY, PLACES = 4e-4, 0.99, 128
LAMBDA = 0.3                           # of hDCE; every other weight follows from it
N_TRAIN, N_TEST, N_TEACH = 1000, 96, 1200


# the evaluator

def draw(look: str, layout: str, first: int, n: int) -> tuple[Tensor, Tensor]:
    "Scenes of 64 pixels and their classes."
    images, labels = zip(*(scene(look, first + i, 64, layout) for i in range(n)))
    return torch.stack([to_tensor(image) for image in images]), torch.stack(labels)


def degrade(x: Tensor) -> Tensor:
    "Blurred and noisy copies: translations are less crisp than scenes."
    small = nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = nn.functional.interpolate(small, size=x.shape[-2:], mode="bilinear")
    return (blurred + 0.05 * torch.randn_like(x)).clamp(-1, 1)


def evaluator_of(pair: str) -> Segmenter:
    "The pair's evaluator, taught once on scenes of the target look, few trees and many."
    path = RESULTS / pair / "evaluator.safetensors"
    if path.exists():
        return load_segmenter(path)
    _, _, look, _ = PAIRS[pair]
    torch.manual_seed(0)
    images, labels = (torch.cat(both) for both in zip(
        draw(look, "open", 50_000_000, N_TEACH), draw(look, "wooded", 60_000_000, N_TEACH)))
    images, labels = torch.cat([images, degrade(images)]), torch.cat([labels, labels])
    net = train_segmenter(images, labels, len(classes_of(look)), steps=3000)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_segmenter(net, path)
    return net


class Test:
    "Test scenes, their classes, and the scores of translations."
    def __init__(self, pair: str):
        source, layout, target, _ = PAIRS[pair]
        self.names, self.evaluator = classes_of(target), evaluator_of(pair)
        self.x, self.labels = draw(source, layout, 70_000_000, N_TEST)
        self.oracle, _ = draw(target, layout, 70_000_000, N_TEST)
        self.features = pooled_features(self.evaluator, self.oracle)

    def scores(self, y: Tensor) -> dict:
        "Class accuracy, flips of every class, distance to the oracle."
        read = segment(self.evaluator, y)
        s = semantic_scores(read, self.labels, len(self.names))
        counts = count_pairs(read, self.labels, len(self.names)).sum(0).double()
        tree = self.names.index("tree")
        others = [i for i in range(len(self.names)) if i != tree]
        false_tree = counts[others, tree].sum() / counts[others].sum()
        flips = {f"{a} to {b}": share for a, b, share in flip_table(s.confusion, self.names)}
        distance = frechet_distance(pooled_features(self.evaluator, y), self.features)
        return dict(false_tree=false_tree.item(), sky_tree=s.confusion[0, tree].item(),
                    class_accuracy=s.class_accuracy, pixel_accuracy=s.pixel_accuracy,
                    miou=s.miou, distance=distance, flips=flips)


# a training

class Training:
    "A generator G with its average, F, D, their optimisers, and the last pictures' embeddings."
    def __init__(self, pair: str, seed: int):
        source, layout, target, other = PAIRS[pair]
        folder = RESULTS / pair
        x = write_scenes(folder / "source", source, N_TRAIN, 72, 10_000_000, layout)
        y = write_scenes(folder / "target", target, N_TRAIN, 72, 20_000_000, other)
        self.crops = new_crops(x / "images", y / "images", seed)
        torch.manual_seed(seed)
        self.G, self.F, self.D = new_networks()
        self.average = deepcopy(self.G).requires_grad_(False)
        self.adam = {name: torch.optim.Adam(getattr(self, name).parameters(), LR, (0.5, 0.999),
                                            fused=True) for name in "GFD"}
        self.seed, self.sample, self.queue = seed, 0, []

    def state(self) -> dict:
        "Everything that a copy needs to go on."
        nets = {name: getattr(self, name).state_dict() for name in ("G", "F", "D", "average")}
        adam = {name: a.state_dict() for name, a in self.adam.items()}
        return deepcopy(dict(nets=nets, adam=adam, sample=self.sample))

    def load(self, state: dict):
        "Back to a state."
        for name, weights in state["nets"].items():
            getattr(self, name).load_state_dict(weights)
        for name, values in deepcopy(state["adam"]).items():
            self.adam[name].load_state_dict(values)
        self.sample, self.queue = state["sample"], []
        torch.manual_seed(self.seed)

    def pictures(self) -> tuple[Tensor, Tensor]:
        "The next source and target crop."
        batch = self.crops[self.sample]
        self.sample += 1
        return batch["x_src"][None], batch["y_tgt"][None]

    def embed(self, patches: list[Tensor], fixed: bool = True) -> list[Tensor]:
        "F of sampled features; with `fixed`, F gets no gradient."
        maps = [patch.mT[..., None] for patch in patches]
        every = [torch.arange(patch.shape[1]) for patch in patches]
        if not fixed:
            return self.F(maps, every)
        weights = {name: w.detach() for name, w in self.F.named_parameters()}
        return functional_call(self.F, weights, (maps, every))

    def patches(self, x: Tensor, y: Tensor, feats_x: list[Tensor], progress: float) -> Patches:
        "What the terms see."
        feats_y = self.G.encode(y)
        where = [sample_locations(*f.shape[-2:], PLACES, rng(self.seed, self.sample, tap))
                 for tap, f in enumerate(feats_x)]
        feats_x = [f.detach() for f in feats_x]
        raw_k, raw_q = ([gather_patches(f, at) for f, at in zip(feats, where)]
                        for feats in (feats_x, feats_y))
        k = [e.detach() for e in self.embed(raw_k)]
        return Patches(x, y, feats_x, feats_y, where, raw_k, raw_q, k, self.embed(raw_q),
                       progress, self.queue)

    def teach_F(self, p: Patches):
        "One step of F on the InfoNCE of hDCE; G gets nothing of it."
        q, k = (self.embed([r.detach() for r in raw], fixed=False) for raw in (p.raw_q, p.raw_k))
        self.adam["F"].zero_grad()
        over_taps(hdce_loss, q, k).backward()
        self.adam["F"].step()

    def step(self, weights: dict[str, float], progress: float):
        "D step, G step on the GAN loss and the weighted terms, F step, average."
        x, real = self.pictures()
        feats = self.G.encode(x)
        y = self.G.decode(feats[-1])
        self.D.requires_grad_(True)
        self.adam["D"].zero_grad()
        discriminator_loss(self.D(real), self.D(y.detach())).backward()
        self.adam["D"].step()
        self.D.requires_grad_(False)
        loss = generator_loss(self.D(y))
        p = self.patches(x, y, feats, progress) if weights else None
        for name, weight in weights.items():
            loss = loss + weight * TERMS[name](p)
        self.adam["G"].zero_grad()
        loss.backward()
        self.adam["G"].step()
        if p:
            self.teach_F(p)
            self.queue = [*self.queue, ([q.detach() for q in p.q], p.k)][-3:]
        for slow, fast in zip(self.average.parameters(), self.G.parameters()):
            slow.lerp_(fast.detach(), 1 - DECAY)

    def steps(self, n: int, weights: dict[str, float], first: int = 0, last: int | None = None):
        "Steps `first` to `last` of a training of n."
        for i in range(first, n if last is None else last):
            self.step(weights, i / n)

    def warm_F(self, n: int):
        "F alone learns to match the translations of a fixed G to their sources."
        for _ in range(n):
            x, _ = self.pictures()
            with torch.no_grad():
                feats = self.G.encode(x)
                p = self.patches(x, self.G.decode(feats[-1]), feats, 0)
            self.teach_F(p)

    def norms(self, n: int = 16) -> dict[str, float]:
        "Mean norm of each term's gradient with respect to the translation."
        found = {name: [] for name in TERMS}
        for _ in range(n):
            x, _ = self.pictures()
            with torch.no_grad():
                feats = self.G.encode(x)
                y = self.G.decode(feats[-1])
            p = self.patches(x, y.requires_grad_(), feats, 0.5)
            for name, term in TERMS.items():
                grad, = torch.autograd.grad(term(p), y, retain_graph=True)
                found[name].append(grad.norm().item())
            self.queue = [*self.queue, ([q.detach() for q in p.q], p.k)][-3:]
        return {name: sum(values) / n for name, values in found.items()}

    @torch.inference_mode()
    def translate(self, x: Tensor) -> Tensor:
        "Translations of the average."
        return torch.cat([self.average(part) for part in x.split(16)])


# the runs

def start_file(pair: str, seed: int) -> Path:
    "Where a failed GAN lies."
    return RESULTS / pair / f"start{seed}.pt"


def start_of(pair: str, seed: int, test: Test) -> tuple[Training, dict]:
    "The GAN that failed, with F warmed, the terms' norms and its own scores; made once."
    path = start_file(pair, seed)
    training = Training(pair, seed)
    if path.exists():
        return training, torch.load(path, weights_only=False)
    training.steps(START, {})
    training.G.load_state_dict(training.average.state_dict())
    scores = test.scores(training.translate(test.x))
    training.warm_F(WARM)
    start = training.state() | dict(norms=training.norms(), scores=scores)
    torch.save(start, path)
    return training, start


def weights_of(arm: str, norms: dict[str, float]) -> dict[str, float]:
    "`a + b`: each term's gradient is as long as hDCE's at LAMBDA; `none` has no term."
    weights = {}
    for name in arm.split(" + ") if arm != "none" else ():
        weights[name] = weights.get(name, 0) + LAMBDA * norms["hdce"] / norms[name]
    return weights


def train_arm(training: Training, test: Test, steps: int, weights: dict[str, float]) -> list[dict]:
    "The scores of one arm after each quarter but the first."
    rows = []
    for first, last in ((0, steps // 2), (steps // 2, 3 * steps // 4), (3 * steps // 4, steps)):
        training.steps(steps, weights, first, last)
        rows.append(dict(step=last) | test.scores(training.translate(test.x)))
    return rows


def one_run(kind: str, pair: str, seed: int, arm: str, test: Test) -> dict:
    "`finetune`: from the failed GAN. `long`: from an untrained G, with the same weights."
    training, start = start_of(pair, seed, test)
    weights = weights_of(arm, start["norms"])
    if kind == "finetune":
        training.load(start)
        rows = train_arm(training, test, STEPS, weights)
    else:
        rows = train_arm(training, test, LONG, weights)
    torch.save(training.average.state_dict(), arm_file(kind, pair, seed, arm).with_suffix(".pt"))
    return dict(begin=start["scores"], weights=weights, rows=rows)


def arm_file(kind: str, pair: str, seed: int, arm: str) -> Path:
    "Where an arm's scores lie."
    return RESULTS / pair / kind / f"{arm.replace(' ', '_')}-{seed}.json"


def run(args):
    "Whatever is missing, until the time is up; exit code 75 if something is left."
    limit, test = time.time() + 60 * args.minutes, Test(args.pair)
    for seed, arm in product(args.seeds, args.arms or ARMS[args.part]):
        path = arm_file(args.kind, args.pair, seed, arm)
        if path.exists():
            continue
        if time.time() > limit:
            raise SystemExit(75)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = one_run(args.kind, args.pair, seed, arm, test)
        path.write_text(json.dumps(dict(pair=args.pair, seed=seed, arm=arm) | found))
        report(f"{args.pair} {seed} {arm}", found["rows"][-1])


def starts(args):
    "Train the GANs that fail."
    limit, test = time.time() + 60 * args.minutes, Test(args.pair)
    for seed in args.seeds:
        if not start_file(args.pair, seed).exists() and time.time() > limit:
            raise SystemExit(75)
        report(f"{args.pair} {seed} start", start_of(args.pair, seed, test)[1]["scores"])


def report(title: str, scores: dict):
    "One line of scores."
    print(title, " ".join(f"{name} {scores[name]:.3f}" for name in SCORES), flush=True)


def evaluator(args):
    "Teach the evaluator; print what it reads on the oracle and on the untranslated source."
    test = Test(args.pair)
    report(f"{args.pair} oracle", test.scores(test.oracle))
    report(f"{args.pair} copy", test.scores(test.x))


# tables and verdicts

def rows_of(kind: str, names: tuple[str, ...]) -> Iterator[dict]:
    "One row for every run and scored step."
    for path in sorted(RESULTS.glob(f"*/{kind}/*.json")):
        found = json.loads(path.read_text())
        if found["arm"] not in names:
            continue
        about = dict(kind=kind, pair=found["pair"], arm=found["arm"], seed=found["seed"])
        scored = [dict(step=0) | found["begin"], *found["rows"]]
        for row in scored if kind == "finetune" else scored[1:]:
            yield about | dict(step=row["step"]) | {name: round(row[name], 5) for name in SCORES}


def table(args):
    "Write the two tables of raw rows."
    TABLES.mkdir(exist_ok=True)
    for file, parts in TABLE_PARTS.items():
        names = sum((ARMS[part] for part in parts), ())
        rows = [row for kind in ("finetune", "long") for row in rows_of(kind, names)]
        with (TABLES / file).open("w", newline="") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def changes(kind: str, pair: str, arm: str, score: str) -> list[float]:
    "A score over the last two of a run's three evaluations; of a fine-tuning, less the start's."
    found = []
    for path in sorted(arm_file(kind, pair, 0, arm).parent.glob("*.json")):
        run = json.loads(path.read_text())
        if run["arm"] == arm:
            before = run["begin"][score] if kind == "finetune" else 0
            found.append((run["rows"][-2][score] + run["rows"][-1][score]) / 2 - before)
    return found


def effect(kind: str, pair: str, arm: str, other: str, score: str) -> tuple[float, float, float]:
    "Mean difference of two arms with its 95 % interval (Welch, seeds unpaired)."
    a, b = (changes(kind, pair, name, score) for name in (arm, other))
    if min(len(a), len(b)) < 2 or arm == other:
        return (float("nan"),) * 3
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    return sum(a) / len(a) - sum(b) / len(b), interval.low, interval.high


def verdict(args):
    "Print every arm's effect against its control."
    for kind, (part, control), pair in product(("finetune", "long"), CONTROLS.items(), PAIRS):
        for arm, score in product(ARMS[part], SHOWN):
            d, low, high = effect(kind, pair, arm, control, score)
            if d == d:
                print(f"{kind:9} {pair:14} {arm:24} - {control:5} {score:15} "
                      f"{d:+.3f} [{low:+.3f}, {high:+.3f}]")


def picture(args):
    "Source, arms and oracle of a few test scenes, a row each."
    test, (net, _, _) = Test(args.pair), new_networks()
    chosen = slice(0, 8)
    rows = [test.x[chosen]]
    for arm in args.arms:
        path = arm_file(args.kind, args.pair, args.seeds[0], arm).with_suffix(".pt")
        net.load_state_dict(torch.load(path, weights_only=True))
        with torch.no_grad():
            rows.append(net(test.x[chosen]))
    save_image(torch.cat([*rows, test.oracle[chosen]]) / 2 + 0.5, args.out, nrow=8)


SCORES = ("false_tree", "sky_tree", "class_accuracy", "pixel_accuracy", "miou", "distance")
SHOWN = ("sky_tree", "false_tree", "class_accuracy", "distance")
ARMS = dict(alone=("none", "hdce", *FORMS),
            beside=("hdce + hdce", *(f"hdce + {form}" for form in FORMS)),
            negatives=("hdce", *NEGATIVES))
CONTROLS = dict(alone="none", beside="hdce", negatives="hdce")
TABLE_PARTS = {"ts_forms.csv": ("alone", "beside"), "hard_negatives.csv": ("negatives",)}
COMMANDS = dict(evaluator=evaluator, starts=starts, run=run, table=table, verdict=verdict,
                picture=picture)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--pair", choices=PAIRS)
    parser.add_argument("--part", choices=ARMS, default="alone", help="which arms to run")
    parser.add_argument("--arms", nargs="*", help="these arms and no others")
    parser.add_argument("--kind", choices=("finetune", "long"), default="finetune")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=18, help="begin no run after this time")
    parser.add_argument("--out", default="ts_forms.png", help="of `picture`")
    args = parser.parse_args()
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
