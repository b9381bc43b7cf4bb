"The data sets of CycleGAN (Zhu et al., ICCV 2017), for the two scripts that name one."
import os
import shutil
from pathlib import Path

from common import parser, table
from fetching import download
from unpacking import extract

from semst.files import InputError

SPLITS = ("trainA", "trainB", "testA", "testB")
MIRRORS = (
    "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{name}.zip",
    "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{name}.zip",
    "https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/{name}.zip")   # older
# Berkeley publishes no checksums; these are TensorFlow Datasets' (url_checksums/cycle_gan.txt).
SHA256 = {
    "horse2zebra": "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
    "summer2winter_yosemite": "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9"}


def unpack(name: str, archive: Path, out: Path) -> None:
    "The four splits out of the archive; each appears at once and complete."
    aside = out / ".unpacking"
    extract(archive, aside, "/(train|test)[AB]/")
    if hasattr(os, "sync"):
        os.sync()
    for split in SPLITS:
        if (out / split).is_dir():
            continue
        if not (aside / name / split).is_dir():
            raise InputError(f"{archive}: holds no {name}/{split}; is it the right archive?")
        os.replace(aside / name / split, out / split)
    print(f"{archive} is no longer needed")


def fetch(name: str, doc: str, argv: list[str], more: tuple[str, ...] = ()) -> None:
    "Download one data set, unpack it, print its table; every step that is done stays done."
    words = parser(doc)
    words.add_argument("--mirror", action="append", default=[], metavar="URL",
                       help="address of a copy of the archive, tried first; may be given again")
    args = words.parse_args(argv)
    out, archive = args.out, args.out / f"{name}.zip"
    complete = all((out / split).is_dir() for split in SPLITS)
    if archive.exists() or not complete:
        known = [address.format(name=name) for address in MIRRORS]
        download([*args.mirror, *known, *more], archive, SHA256[name])
    if not complete:
        unpack(name, archive, out)
    shutil.rmtree(out / ".unpacking", ignore_errors=True)
    table(out)
