"""How strongly hDCE and TS pull in a finished training: norms of their gradients, weight 1 each.

    python reproduce/tools/gradients.py RUN SOURCES --out reproduce/tables/gradients.csv

RUN is a run of SemST that keeps its checkpoints, SOURCES its folder of source pictures. Means over
24 pictures: with respect to the networks' weights, and to the translation.
"""
import argparse
from pathlib import Path

import torch
from accelerate import Accelerator

from semst.bench.comparison import write_rows
from semst.checkpoint import load_checkpoint
from semst.data import list_images, load_image, to_tensor
from semst.inputs import step_inputs
from semst.methods import method_of
from semst.pretrained import checkpoints
from semst.run_folder import read_config, read_run
from semst.state import TrainState
from semst.trainer import content_terms

COLUMNS = ("step", "term", "weights", "translation")
PICTURES = 24


def norms(state: TrainState, pictures: list[Path]) -> dict[str, tuple[float, float]]:
    "For each term the mean norms of its gradient: of the weights, and of the translation."
    weights, found = list(state.model.parameters()), {}
    for i, file in enumerate(pictures):
        step = min(state.step + i, state.steps - 1)
        out = state.translate(to_tensor(load_image(file))[None])
        terms = content_terms(state, out.views, step_inputs(state.config, state.steps, step))
        for name, term in terms.items():
            *by_weight, by_picture = torch.autograd.grad(
                term.value, [*weights, out.fused], retain_graph=True, allow_unused=True)
            whole = torch.stack([g.norm() for g in by_weight if g is not None]).norm()
            found.setdefault(name, []).append((whole.item(), by_picture.norm().item()))
    return {name: tuple(torch.tensor(pairs).mean(0).tolist()) for name, pairs in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config, files = read_config(args.run), list_images(args.sources)
    steps = read_run(args.run)["steps"]
    pictures, rows = files[::max(1, len(files) // PICTURES)][:PICTURES], []
    for checkpoint in checkpoints(args.run):
        state = TrainState(config, steps, Accelerator(cpu=True), method_of(config))
        load_checkpoint(state, checkpoint)
        rows += [dict(step=state.step, term=name, weights=a, translation=b)
                 for name, (a, b) in norms(state, pictures).items()]
    write_rows(args.out, rows, COLUMNS)


if __name__ == "__main__":
    main()
