"What the scripts beside this file share: read label maps, build a data set, say what came out."
import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from semst.files import InputError, atomic, read_json, write_json
from semst.folders import find_images, shortened
from semst.images import open_image

VOID = 255            # the label of pixels that count for nothing

Make = Callable[[Path], None]      # writes one file
Plan = dict[str, Path | Make]      # file of the data set -> an original to take over, or a maker


# -- a script

def parser(doc: str, **folders: str) -> argparse.ArgumentParser:
    "A parser whose help is the script's docstring, for these folders (name -> meaning) and OUT."
    layout = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(description=doc, formatter_class=layout)
    for name, what in (folders | dict(out="folder to write")).items():
        words.add_argument(name, type=Path, help=what)
    return words


def link_option(words: argparse.ArgumentParser) -> None:
    "The option that saves space."
    words.add_argument(
        "--link", action="store_true",
        help="hard links in place of copies: no second copy on the disk, but a program that "
             "writes into such a file writes into the original")


def run(main: Callable[[list[str]], None], argv: list | None = None) -> int:
    "A script's exit code: 0; 2 for a mistake, 1 for a disk that fails, 130 if it was stopped."
    try:
        main(sys.argv[1:] if argv is None else [str(a) for a in argv])
        return 0
    except (InputError, FileExistsError, NotADirectoryError, PermissionError) as mistake:
        code, why = 2, str(mistake)
    except OSError as failure:
        code, why = 1, str(failure)
    except KeyboardInterrupt:
        code, why = 130, "stopped; the same command goes on from here"
    name = Path(main.__code__.co_filename).stem
    print(f"{name}: {why}", file=sys.stderr)
    return code


def load_json(file: Path) -> dict:
    "What lies in a small file of ours; empty if there is none."
    return read_json(file, dict) if file.exists() else {}


# -- label maps

def label_ids(
    path: Path,
    highest: int,          # larger ids are an error
) -> np.ndarray:           # (h, w), 8 bits
    "A label map's ids: of a palette image the indices, never the colours."
    with open_image(path) as image:
        if image.mode not in ("L", "P"):
            raise InputError(f"{path}: mode {image.mode}; a label map is an 8-bit image of ids, "
                             "not of colours")
        try:
            ids = np.array(image)
        except Exception as e:
            raise InputError(f"{path}: cannot be decoded, it is probably damaged ({e})") from None
    if ids.max() > highest:
        raise InputError(f"{path}: holds the id {ids.max()}; ids run from 0 to {highest}")
    return ids


def lookup(pairs: dict[int, int]) -> np.ndarray:
    "A table to index with ids; what `pairs` does not name is void."
    table = np.full(256, VOID, np.uint8)
    table[list(pairs)] = list(pairs.values())
    return table


# -- build

def save(picture: Callable[[], Image.Image], **how) -> Make:
    "A picture that is made when it is needed."
    def make(path: Path) -> None:
        picture().save(path, **how)
    return make


def take_over(source: Path, path: Path, link: bool) -> None:
    "The original under another name: a copy, or a hard link where that is wanted and possible."
    if link:
        try:
            os.link(source.resolve(), path)
            return
        except OSError:
            pass                          # another disk, or one that has no links
    with atomic(path) as draft:
        shutil.copyfile(source, draft)


def write(entry: Path | Make, path: Path, out: Path, link: bool) -> None:
    "One file of a data set, whole or not at all."
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(entry, Path):
        ours = out.resolve() in entry.resolve().parents       # unpacked by us
        take_over(entry, path, link or ours)
    else:
        with atomic(path) as draft:
            entry(draft)


def check_place(out: Path, plan: Plan, settings: dict) -> None:
    "An `InputError` if `out` holds something else than this data."
    if out.is_file():
        raise InputError(f"{out}: is a file; a folder is needed")
    before = load_json(out / "settings.json")
    if before and before != settings:
        raise InputError(f"{out}: was made with {before}, not {settings}; choose another folder")
    for folder in {Path(name).parts[0] for name in plan}:
        for file in (out / folder).rglob("*"):
            name = file.relative_to(out).as_posix()
            if file.is_file() and not file.name.startswith(".") and name not in plan:
                raise InputError(f"{file}: is not of this data; choose an empty folder, or delete "
                                 f"{out / folder} and run again")


def build(out: Path, plan: Plan, link: bool = False, **settings) -> None:
    """Write what the plan names and is not there yet, then print the table. `settings` say what
    else decides how the files look. An `InputError` if `out` holds images of something else or, at
    the end, if some files could not be made."""
    out = Path(out)
    check_place(out, plan, settings)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "settings.json", settings)
    failed = []
    for name, entry in tqdm(plan.items(), unit="file"):
        if (out / name).exists():
            continue
        try:
            write(entry, out / name, out, link)
        except InputError as e:
            failed.append(str(e))
    table(out)
    if failed:
        raise InputError(f"{len(failed)} of {len(plan)} files could not be made: "
                         f"{shortened(failed)}")


def table(out: Path) -> None:
    "Print how many images each folder of a data set holds, and of which sizes in pixels."
    rows = [("folder", "images", "pixels")]
    for folder in sorted(Path(out).iterdir()):
        if not folder.is_dir() or not re.match("(train|val|test)[AB]", folder.name):
            continue
        sizes = []
        for file in find_images(folder).files:
            with open_image(file) as image:
                sizes.append(image.size)
        if sizes:
            sizes.sort(key=lambda size: size[0] * size[1])
            names = ["{}x{}".format(*size) for size in (sizes[0], sizes[-1])]
            pixels = names[0] if len(set(sizes)) == 1 else " to ".join(names)
            rows.append((folder.name, str(len(sizes)), pixels))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for name, count, pixels in rows:
        print(f"{name:<{widths[0]}}  {count:>{widths[1]}}  {pixels}")
