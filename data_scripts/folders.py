"""Any two folders of images -> trainA, trainB, testA and testB.

    python data_scripts/folders.py A B OUT
    semst train --source OUT/trainA --target OUT/trainB --out runs/mine

Every image is decoded once, so that a damaged one is found now and not in the middle of a training; subfolders and names are kept, and
files are linked, not copied, where that is possible. Which images are for testing depends on their names alone: the same in every run.
"""
import hashlib
import sys
from pathlib import Path

from common import build, link, parser, run
from semst.data import InputError, list_images, load_image

def checked(file: Path):
    "What links a file after a look at all of it."
    def make(path: Path):
        load_image(file)
        link(file)(path)
    return make

def split(folder: Path, share: float) -> dict[str, list[Path]]:
    "Images for training and for testing: a share of them, at least one, in the order of their names' hashes."
    files = list_images(folder)
    n = max(1, round(len(files) * share)) if share else 0
    if n >= len(files): raise InputError(f"{folder}: {len(files)} images are too few to set {n} aside for testing; try --test 0")
    shuffled = sorted(files, key=lambda f: hashlib.sha256(f.relative_to(folder).as_posix().encode()).digest())
    return {"test": sorted(shuffled[:n]), "train": sorted(shuffled[n:])}

def main(argv):
    args = parser(__doc__, a="folder of source images", b="folder of target images")
    args.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="share of the images to set aside, 0 to below 1 (default 0.1)")
    args = args.parse_args(argv)
    if not 0 <= args.test < 1: raise InputError(f"--test {args.test}: a share from 0 to below 1 is needed")
    a, b, out = (p.resolve() for p in (args.a, args.b, args.out))
    if a == b or a in b.parents or b in a.parents: raise InputError(f"{args.a} and {args.b}: one holds the other; two separate folders are needed")
    if any(p == out or p in out.parents for p in (a, b)): raise InputError(f"{args.out}: lies in a folder of the data; choose one outside")
    plan = {f"{part}{side}/{f.relative_to(folder).as_posix()}": checked(f)
            for side, folder in (("A", args.a), ("B", args.b)) for part, files in split(folder, args.test).items() for f in files}
    build(args.out, plan, data="folders", a=str(a), b=str(b), test=args.test)

if __name__ == "__main__": sys.exit(run(main))
