"""CamVid -> parsings and photographs, unpaired, in the layout that `semst train` reads.

    python data_scripts/camvid.py CAMVID OUT

CAMVID is your copy: {train,val,test}/{images,labels}, labels as 8-bit ids 0..10 and 11 = void.
OUT becomes trainA (label colours of the even frames of the train split), trainB (photographs of its odd frames), testA (label
colours of the val split) and testB (its photographs): no frame of the training data gives both its labels and its photograph.
"""
import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist", "void")
COLOURS = np.array([(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
                    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0)], np.uint8)


def colour(label_file: Path) -> Image.Image:
    "A label map of ids as a picture of colours."
    ids = np.array(Image.open(label_file))
    if ids.ndim != 2 or ids.max() >= len(CLASSES): raise SystemExit(f"{label_file}: is no map of ids 0..{len(CLASSES) - 1}")
    return Image.fromarray(COLOURS[ids])


def convert(camvid: Path, out: Path):
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            if not (camvid / part / kind).is_dir(): raise SystemExit(f"{camvid / part / kind}: no such folder; see the top of this script for the layout")
    frames = {part: sorted((camvid / part / "labels").glob("*.png")) for part in ("train", "val")}
    plan = {"trainA": frames["train"][::2], "trainB": frames["train"][1::2], "testA": frames["val"], "testB": frames["val"]}
    for folder, labels in plan.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        for label in labels:
            if folder.endswith("A"):
                colour(label).save(out / folder / label.name)
                continue
            photo = next((label.parents[1] / "images").glob(label.stem + ".*"), None)
            if photo is None: raise SystemExit(f"{label}: has no photograph of the same name")
            shutil.copyfile(photo, out / folder / photo.name)
    print("\n".join(f"{folder}: {len(labels)} images" for folder, labels in plan.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    sys.exit(convert(args.camvid, args.out))
