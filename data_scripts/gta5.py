"""GTA5 (Richter et al., ECCV 2016): frames of a game (A), photographs of Cityscapes (B).

    python data_scripts/gta5.py GTA5 CITYSCAPES OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/gta5

GTA5 is a folder with 01_images.zip ... 10_images.zip and 01_labels.zip ... 10_labels.zip from
https://download.visinf.tu-darmstadt.de/data/from_games/, or with the folders images and labels
that come out of all of them together. CITYSCAPES is what cityscapes.py reads. Archives are
unpacked into OUT/unpacked, which may be deleted afterwards, unless --link was given. OUT becomes
    trainA           the frames of the game, but for
    testA            every fiftieth, which no method trains on
    trainB, testB    photographs of Cityscapes, train and val split, full size
    ..._labels       for each of these the 19 train ids of Cityscapes, 255 = void
GTA5's label maps are palette images: their indices are the ids, and they are never read as
colours. Frames are left out and listed in OUT/left_out.txt if they are damaged, or have no label
map of the picture's size; users report 15188 and 17705 as broken.
"""
import sys
from functools import partial
from pathlib import Path

from cityscapes import TRAIN_IDS, frames, side
from common import Plan, build, label_ids, link_option, parser, run, save
from PIL import Image
from tqdm import tqdm
from unpacking import find

from semst.files import InputError, write_text
from semst.folders import look_at, shortened
from semst.images import open_image

FRAMES = 24966
HELD_OUT = 50          # one frame in so many is for the test (our choice)
LICENSE_PLATE = 34     # -1 in Cityscapes; void, like every id that TRAIN_IDS does not name


def fault(image: Path, label: Path) -> str:
    "Why a frame is no use as it was published; empty if it is of use."
    if not label.exists():
        return "no label map"
    for file in (image, label):
        if problem := look_at(file, channels=None).problem:
            return problem.removeprefix(f"{file}: ")
    with open_image(image) as a, open_image(label) as b:
        if b.mode not in ("P", "L"):
            raise InputError(f"{label}: mode {b.mode}; the palette images are needed, not copies "
                             "in colours")
        if a.size != b.size:
            return "picture {}x{}, label map {}x{}".format(*a.size, *b.size)
    return ""


def train_ids(label: Path) -> Image.Image:
    "A label map of the game in Cityscapes' train ids."
    return Image.fromarray(TRAIN_IDS[label_ids(label, LICENSE_PLATE)])


def sorted_out(images: Path, labels: Path) -> tuple[list[Path], dict[Path, str]]:
    "The frames of use, and why each of the others is none."
    game = sorted(f for f in images.glob("*.png") if not f.name.startswith("."))
    if not game:
        raise InputError(f"{images}: no frames (*.png) in it")
    if len(game) != FRAMES:
        print(f"note: {len(game)} frames; all of GTA5 has {FRAMES}")
    faults = {f: fault(f, labels / f.name) for f in tqdm(game, desc="look at frames")}
    faults = {f: why for f, why in faults.items() if why}
    good = [f for f in game if f not in faults]
    if not good:
        raise InputError(f"{labels}: no frame of {images} has a label map of its size here "
                         f"({game[0].name}: {faults[game[0]]})")
    if len(good) == 1:
        raise InputError(f"{images}: one frame of use is too few, one is for the test "
                         f"({good[0].name})")
    return good, faults


def main(argv: list[str]) -> None:
    words = parser(__doc__, gta5="folder with GTA5's archives, or with images and labels",
                   cityscapes="folder with Cityscapes' archives, or with leftImg8bit and gtFine")
    link_option(words)
    args = words.parse_args(argv)
    unpacked = args.out / "unpacked"
    photos = {split: frames(args.cityscapes, split, unpacked) for split in ("train", "val")}
    images, labels = (find(args.gta5, kind, f"*_{kind}.zip", unpacked)
                      for kind in ("images", "labels"))
    good, faults = sorted_out(images, labels)
    plan: Plan = {}
    for i, file in enumerate(good):
        part = "train" if i % HELD_OUT else "test"
        plan[f"{part}A/{file.name}"] = file
        plan[f"{part}A_labels/{file.name}"] = save(partial(train_ids, labels / file.name))
    plan |= side("trainB", photos["train"], None) | side("testB", photos["val"], None)
    build(args.out, plan, args.link, data="GTA5")
    listed = [f"{f.name}: {why}" for f, why in faults.items()]
    write_text(args.out / "left_out.txt", "".join(line + "\n" for line in listed))
    if listed:
        print(f"left out {len(listed)} frames, see {args.out / 'left_out.txt'}: "
              f"{shortened(listed)}")


if __name__ == "__main__":
    sys.exit(run(main))
