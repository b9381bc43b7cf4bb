"""Frames of the CARLA driving simulator (A), and photographs of CamVid (B) to look like.

    python data_scripts/carla.py CARLA CAMVID OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/carla

CARLA is your folder: images/ holds frames without labels, labelled/ holds frames NAME_img.jpg (or
.png) with their label maps NAME_labelIds.png, in the ids of CARLA 0.9.14 and later. CAMVID is what
camvid.py reads. OUT becomes
    trainA           the frames without labels
    trainB           all photographs of CamVid's train split
    testA            the labelled frames
    testB            photographs of CamVid's test split
    ..._labels       for trainB, testA and testB: CamVid's ids 0..10, 255 = void
CARLA's road lines are road, walls are buildings (as low walls are in CamVid), traffic lights are
signs. Terrain, ground, water, rails and the rest, static or dynamic, are void, because CamVid has
no such class or spreads it over several.
"""
import sys
from functools import partial
from pathlib import Path

from camvid import CLASSES, frames, side
from common import Plan, build, label_ids, link_option, lookup, parser, run, save
from PIL import Image

from semst.files import InputError
from semst.folders import list_images

HIGHEST = 28           # CARLA's last id
# CARLA's ids for each of CamVid's classes, from carla::rpc::CityObjectLabel
FROM_CARLA = {
    "road": (1, 24), "pavement": (2,), "building": (3, 4, 26), "fence": (5, 28), "pole": (6,),
    "sign": (7, 8), "tree": (9,), "sky": (11,), "pedestrian": (12,), "bicyclist": (13, 18, 19),
    "car": (14, 15, 16, 17)}
CAMVID_IDS = lookup({i: CLASSES.index(name) for name, ids in FROM_CARLA.items() for i in ids})


def labelled(carla: Path) -> list[tuple[Path, Path]]:
    "Picture and label map of every labelled frame."
    pairs = []
    for label in sorted((carla / "labelled").glob("*_labelIds.png")):
        name = label.name.removesuffix("_labelIds.png")
        images = sorted(label.parent.glob(f"{name}_img.*"))
        if not images:
            raise InputError(f"{label}: has no picture {name}_img.jpg beside it")
        pairs.append((images[0], label))
    if not pairs:
        raise InputError(f"{carla / 'labelled'}: no label maps (NAME_labelIds.png) in it")
    return pairs


def camvid_ids(label: Path) -> Image.Image:
    "A label map of CARLA in CamVid's ids."
    return Image.fromarray(CAMVID_IDS[label_ids(label, HIGHEST)])


def main(argv: list[str]) -> None:
    words = parser(__doc__, carla="your frames of CARLA", camvid="your copy of CamVid")
    link_option(words)
    args = words.parse_args(argv)
    images = args.carla / "images"
    plan: Plan = {f"trainA/{f.relative_to(images).as_posix()}": f for f in list_images(images)}
    for image, label in labelled(args.carla):               # picture and label map get one name
        name = label.name.removesuffix("_labelIds.png")
        plan[f"testA/{name}{image.suffix}"] = image
        plan[f"testA_labels/{name}.png"] = save(partial(camvid_ids, label))
    plan |= side("trainB", frames(args.camvid, "train"))
    plan |= side("testB", frames(args.camvid, "test"))
    build(args.out, plan, args.link, data="CARLA and CamVid")


if __name__ == "__main__":
    sys.exit(run(main))
