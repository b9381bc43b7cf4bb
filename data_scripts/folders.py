"""Any two folders of images -> trainA, trainB, testA and testB.

    python data_scripts/folders.py A B OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/mine

Every image is decoded once, so that a damaged one is found now and not in the middle of a
training. Subfolders and names are kept. Which images are for testing depends on their names alone:
the same in every run.
"""
import hashlib
import sys
from pathlib import Path

from common import Plan, build, link_option, parser, run

from semst.files import InputError
from semst.folders import list_images, look_at_all, shortened


def split(folder: Path, share: float) -> dict[str, list[Path]]:
    "Images for testing, a share of at least one, and for training, by the hashes of their names."
    files = list_images(folder)
    n = max(1, round(len(files) * share)) if share else 0
    if n >= len(files):
        raise InputError(f"{folder}: {len(files)} images are too few to set {n} aside for testing; "
                         "try --test 0")

    def mixed(file: Path) -> bytes:
        name = file.relative_to(folder).as_posix()
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()

    shuffled = sorted(files, key=mixed)
    return {"test": sorted(shuffled[:n]), "train": sorted(shuffled[n:])}


def check_places(a: Path, b: Path, out: Path) -> None:
    "An `InputError` if one of the three folders lies in another."
    for one, other in ((a, b), (b, a)):
        if one.resolve() in (other.resolve(), *other.resolve().parents):
            raise InputError(f"{a} and {b}: one holds the other; two separate folders are needed")
    for folder in (a, b):
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise InputError(f"{out}: lies in a folder of the data; choose one outside")


def main(argv: list[str]) -> None:
    words = parser(__doc__, a="folder of source images", b="folder of target images")
    link_option(words)
    words.add_argument("--test", type=float, default=0.1, metavar="SHARE",
                       help="share of the images to set aside, 0 to below 1 (default 0.1)")
    args = words.parse_args(argv)
    if not 0 <= args.test < 1:
        raise InputError(f"--test {args.test}: a share from 0 to below 1 is needed")
    check_places(args.a, args.b, args.out)
    plan: Plan = {}
    for side, folder in (("A", args.a), ("B", args.b)):
        for part, files in split(folder, args.test).items():
            for file in files:
                plan[f"{part}{side}/{file.relative_to(folder).as_posix()}"] = file
    looks = look_at_all([file for file in plan.values() if isinstance(file, Path)], channels=None)
    bad = [look.problem for look in looks.values() if look.problem]
    good = {name: file for name, file in plan.items() if not looks[file].problem}
    a, b = str(args.a.resolve()), str(args.b.resolve())
    build(args.out, good, args.link, data="folders", a=a, b=b, test=args.test)
    if bad:
        raise InputError(f"{len(bad)} of {len(plan)} files could not be made: {shortened(bad)}")


if __name__ == "__main__":
    sys.exit(run(main))
