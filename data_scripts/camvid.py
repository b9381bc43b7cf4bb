"""CamVid (Brostow et al., 2009): parsings (A) and photographs (B) of streets, unpaired.

    python data_scripts/camvid.py CAMVID OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/camvid --resize square

CAMVID is your copy: {train,val,test}/{images,labels}, labels as 8-bit images of ids 0..10 and 11 = void.
OUT becomes
    trainA           label colours of the even frames of the train split
    trainB           photographs of its odd frames, so that no frame of the training data gives both
    valA, valB       label colours and photographs of the val split: to choose by
    testA, testB     the same of the test split: to report
    ..._labels       for each of these the ids 0..10, 255 = void: to score by
The classes, in the order of their ids: sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist.
"""
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from common import build, label_ids, link, lookup, parser, run, save
from semst.data import InputError

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist", "void")
COLOURS = np.array([(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
                    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0)], np.uint8)
IDS = lookup({i: i for i in range(11)})

def frames(camvid: Path, split: str) -> list[tuple[Path, Path]]:
    "Photograph and label map of every frame of a split, in the order of their names."
    for kind in ("images", "labels"):
        if not (camvid / split / kind).is_dir(): raise InputError(f"{camvid / split / kind}: no such folder; see --help for the layout")
    photos = {f.stem: f for f in (camvid / split / "images").iterdir() if not f.name.startswith(".")}
    labels = sorted((camvid / split / "labels").glob("*.png"))
    if not labels: raise InputError(f"{camvid / split / 'labels'}: no label maps (*.png) in it")
    for label in labels:
        if label.stem not in photos: raise InputError(f"{label}: has no photograph of the same name in {camvid / split / 'images'}")
    return [(photos[label.stem], label) for label in labels]

def ids(label: Path) -> Image.Image: return Image.fromarray(IDS[label_ids(label, 11)])
def colours(label: Path) -> Image.Image: return Image.fromarray(COLOURS[label_ids(label, 11)])

def side(folder: str, pairs: list[tuple[Path, Path]]) -> dict:
    "The plan of one folder: photographs if its name ends in B, parsings if in A; and of its labels."
    shown = {f"{folder}/{photo.name}": link(photo) for photo, _ in pairs} if folder.endswith("B") else {
        f"{folder}/{label.name}": save(lambda label=label: colours(label)) for _, label in pairs}
    return shown | {f"{folder}_labels/{label.name}": save(lambda label=label: ids(label)) for _, label in pairs}

def main(argv):
    args = parser(__doc__, camvid="your copy of CamVid").parse_args(argv)
    train, val, test = (frames(args.camvid, split) for split in ("train", "val", "test"))
    plan = side("trainA", train[::2]) | side("trainB", train[1::2])
    for split, pairs in (("val", val), ("test", test)): plan |= side(f"{split}A", pairs) | side(f"{split}B", pairs)
    build(args.out, plan, data="CamVid")

if __name__ == "__main__": sys.exit(run(main))
