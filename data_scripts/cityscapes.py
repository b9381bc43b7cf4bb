"""Cityscapes (Cordts et al., CVPR 2016): parsings (A) and photographs (B), from your archives.

    python data_scripts/cityscapes.py CITYSCAPES OUT                256x256, as published tables
    python data_scripts/cityscapes.py CITYSCAPES OUT --mode full    2048x1024
    semst train --source OUT/trainA --target OUT/trainB --out runs/cityscapes

CITYSCAPES is a folder with leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from
https://www.cityscapes-dataset.com (registration needed), or with the folders leftImg8bit and
gtFine that come out of them. Archives are unpacked into OUT/unpacked, which may be deleted
afterwards, unless --link was given. OUT becomes
    trainA           colours of the label maps of the even frames of the train split (PNG)
    trainB           photographs of its odd frames: no frame of the training data gives both
    testA, testB     colours and photographs of the val split, whose labels are public
    ..._labels       for each of these the 19 train ids, 255 = void: to score by
With --overlap all 2975 train frames stand in trainA and in trainB, as CycleGAN and CUT train: for
a comparison with their tables. Photographs are squashed with the bicubic filter and saved as JPEG
of quality 100 without chroma subsampling. Label maps are squashed by nearest neighbour, as ids,
before they get their colours. At full size photographs are the original files.
"""
import sys
from functools import partial
from pathlib import Path

import numpy as np
from common import Make, Plan, build, label_ids, link_option, lookup, parser, run, save
from PIL import Image
from unpacking import find

from semst.files import InputError
from semst.images import load_image

# id: (name, train id or None, colour), as in cityscapesScripts/helpers/labels.py
LABELS = {
    0: ("unlabeled", None, (0, 0, 0)),
    1: ("ego vehicle", None, (0, 0, 0)),
    2: ("rectification border", None, (0, 0, 0)),
    3: ("out of roi", None, (0, 0, 0)),
    4: ("static", None, (0, 0, 0)),
    5: ("dynamic", None, (111, 74, 0)),
    6: ("ground", None, (81, 0, 81)),
    7: ("road", 0, (128, 64, 128)),
    8: ("sidewalk", 1, (244, 35, 232)),
    9: ("parking", None, (250, 170, 160)),
    10: ("rail track", None, (230, 150, 140)),
    11: ("building", 2, (70, 70, 70)),
    12: ("wall", 3, (102, 102, 156)),
    13: ("fence", 4, (190, 153, 153)),
    14: ("guard rail", None, (180, 165, 180)),
    15: ("bridge", None, (150, 100, 100)),
    16: ("tunnel", None, (150, 120, 90)),
    17: ("pole", 5, (153, 153, 153)),
    18: ("polegroup", None, (153, 153, 153)),
    19: ("traffic light", 6, (250, 170, 30)),
    20: ("traffic sign", 7, (220, 220, 0)),
    21: ("vegetation", 8, (107, 142, 35)),
    22: ("terrain", 9, (152, 251, 152)),
    23: ("sky", 10, (70, 130, 180)),
    24: ("person", 11, (220, 20, 60)),
    25: ("rider", 12, (255, 0, 0)),
    26: ("car", 13, (0, 0, 142)),
    27: ("truck", 14, (0, 0, 70)),
    28: ("bus", 15, (0, 60, 100)),
    29: ("caravan", None, (0, 0, 90)),
    30: ("trailer", None, (0, 0, 110)),
    31: ("train", 16, (0, 80, 100)),
    32: ("motorcycle", 17, (0, 0, 230)),
    33: ("bicycle", 18, (119, 11, 32)),
}
COLOURS = np.array([colour for _, _, colour in LABELS.values()], np.uint8)
TRAIN_IDS = lookup({i: t for i, (_, t, _) in LABELS.items() if t is not None})
FRAMES = {"train": 2975, "val": 500}


def by_name(cityscapes: Path, folder: str, split: str, ending: str, unpacked: Path
            ) -> dict[str, Path]:
    "The files of one kind, by the name of their frame."
    wanted = rf"(^|/){folder}/(train|val)/.*{ending}$"       # not of leftImg8bit_sequence's archive
    root = find(cityscapes, folder, f"{folder}*.zip", unpacked, wanted) / split
    files = [f for f in root.rglob(f"*{ending}") if not f.name.startswith(".")]
    return {f.name.removesuffix(ending): f for f in files}


def frames(cityscapes: Path, split: str, unpacked: Path) -> list[tuple[str, Path, Path]]:
    "Name, photograph and label map of every frame of a split, in the order of their names."
    photos = by_name(cityscapes, "leftImg8bit", split, "_leftImg8bit.png", unpacked)
    labels = by_name(cityscapes, "gtFine", split, "_gtFine_labelIds.png", unpacked)
    for found, what in ((photos, "photographs"), (labels, "label maps (labelIds)")):
        if not found:
            raise InputError(f"{cityscapes}: no {what} of the {split} split")
    if lonely := sorted(photos.keys() ^ labels.keys()):
        raise InputError(f"{cityscapes}: {len(lonely)} frames of the {split} split lack a "
                         f"photograph or a label map, for example {lonely[0]}; unpack the archives "
                         "again")
    if len(photos) != FRAMES[split]:
        print(f"note: {len(photos)} frames in the {split} split; all of Cityscapes has "
              f"{FRAMES[split]}")
    return [(name, photos[name], labels[name]) for name in sorted(photos)]


def label_map(label: Path, size: int | None, table: np.ndarray = TRAIN_IDS) -> Image.Image:
    "A label map through a table of ids or colours, squashed to a square or as it is."
    ids = label_ids(label, 33)
    if size is not None:
        small = Image.fromarray(ids).resize((size, size), Image.Resampling.NEAREST)
        ids = np.array(small)
    return Image.fromarray(table[ids])


def squashed(path: Path, size: int) -> Image.Image:
    "A photograph as a square."
    return load_image(path).resize((size, size), Image.Resampling.BICUBIC)


def photo(path: Path, size: int | None) -> Path | Make:
    "A photograph: a square, or the original file."
    if size is None:
        return path
    return save(partial(squashed, path, size), quality=100, subsampling=0)


def side(folder: str, triples: list[tuple[str, Path, Path]], size: int | None) -> Plan:
    "The plan of one folder: photographs if its name ends in B, parsings if in A; and its labels."
    plan: Plan = {}
    ending = ".png" if size is None else ".jpg"
    for name, image, label in triples:
        if folder.endswith("B"):
            plan[f"{folder}/{name}{ending}"] = photo(image, size)
        else:
            plan[f"{folder}/{name}.png"] = save(partial(label_map, label, size, COLOURS))
        plan[f"{folder}_labels/{name}.png"] = save(partial(label_map, label, size))
    return plan


def main(argv: list[str]) -> None:
    what = "folder with the two archives, or with leftImg8bit and gtFine"
    words = parser(__doc__, cityscapes=what)
    link_option(words)
    words.add_argument("--mode", choices=("pairs", "full"), default="pairs",
                       help="pairs: 256x256 (default); full: 2048x1024")
    words.add_argument("--overlap", action="store_true",
                       help="use every train frame on both sides")
    args = words.parse_args(argv)
    unpacked = args.out / "unpacked"
    train, val = (frames(args.cityscapes, split, unpacked) for split in ("train", "val"))
    halves = (train, train) if args.overlap else (train[::2], train[1::2])
    size = 256 if args.mode == "pairs" else None
    plan = side("trainA", halves[0], size) | side("trainB", halves[1], size)
    plan |= side("testA", val, size) | side("testB", val, size)
    build(args.out, plan, args.link, data="Cityscapes", mode=args.mode, overlap=args.overlap)


if __name__ == "__main__":
    sys.exit(run(main))
