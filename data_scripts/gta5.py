"""GTA5 (Richter et al., ECCV 2016, "Playing for Data"): frames of a game (A), and photographs of Cityscapes (B) to make them look like.

    python data_scripts/gta5.py GTA5 CITYSCAPES OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/gta5

GTA5 is a folder with 01_images.zip ... 10_images.zip and 01_labels.zip ... 10_labels.zip from
https://download.visinf.tu-darmstadt.de/data/from_games/, or with the folders images and labels that come out of them.
CITYSCAPES is what cityscapes.py reads. Archives are unpacked into OUT/unpacked.
OUT becomes
    trainA           the frames of the game (linked), but for
    testA            every fiftieth, which no method trains on
    trainB, testB    photographs of Cityscapes, train and val split, full size (linked)
    ..._labels       for each of these the 19 train ids of Cityscapes, 255 = void
GTA5's label maps are palette images: their indices are the ids, and they are never read as colours. Frames without a label map, or
with one of another size than the picture, are left out and listed in OUT/left_out.txt; users report 15188 and 17705 as broken.
"""
import sys
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from cityscapes import TRAIN_IDS, frames, side
from common import build, find, label_ids, link, parser, run, save, shortened
from semst.data import InputError, open_image

FRAMES = 24966
HELD_OUT = 50          # one frame in so many is for the test (our choice)
LICENSE_PLATE = 34     # -1 in Cityscapes; void, like every id that TRAIN_IDS does not name

def fault(image: Path, label: Path) -> str | None:
    "Why a frame is no use as it was published."
    if not label.exists(): return "no label map"
    with open_image(image) as a, open_image(label) as b:
        if b.mode not in ("P", "L"): raise InputError(f"{label}: mode {b.mode}; the palette images are needed, not copies in colours")
        if a.size != b.size: return "picture {}x{}, label map {}x{}".format(*a.size, *b.size)

def train_ids(label: Path) -> Image.Image: return Image.fromarray(TRAIN_IDS[label_ids(label, LICENSE_PLATE)])

def main(argv):
    args = parser(__doc__, gta5="folder with GTA5's archives, or with images and labels", cityscapes="folder with Cityscapes' archives, or with leftImg8bit and gtFine").parse_args(argv)
    unpacked = args.out / "unpacked"
    photos = {split: frames(args.cityscapes, split, unpacked) for split in ("train", "val")}
    images, labels = (find(args.gta5, kind, f"*_{kind}.zip", unpacked) for kind in ("images", "labels"))
    game = sorted(f for f in images.glob("*.png") if not f.name.startswith("."))
    if not game: raise InputError(f"{images}: no frames (*.png) in it")
    if len(game) != FRAMES: print(f"note: {len(game)} frames; all of GTA5 has {FRAMES}")
    faults = {f: why for f in tqdm(game, desc="compare sizes") if (why := fault(f, labels / f.name))}
    good = [f for f in game if f not in faults]
    if len(good) == 1: raise InputError(f"{images}: one frame of use is too few, one is for the test ({good[0].name})")
    if not good: raise InputError(f"{labels}: no frame of {images} has a label map of its size here ({game[0].name}: {faults[game[0]]})")
    plan = {}
    for i, f in enumerate(good):
        part = "train" if i % HELD_OUT else "test"
        plan |= {f"{part}A/{f.name}": link(f), f"{part}A_labels/{f.name}": save(lambda f=f: train_ids(labels / f.name))}
    build(args.out, plan | side("trainB", photos["train"], None) | side("testB", photos["val"], None), data="GTA5")
    listed = [f"{f.name}: {why}" for f, why in faults.items()]
    (args.out / "left_out.txt").write_text("".join(line + "\n" for line in listed))
    if listed: print(f"left out {len(listed)} frames, see {args.out / 'left_out.txt'}: {shortened(listed)}")

if __name__ == "__main__": sys.exit(run(main))
