"""What the scripts beside this file share: download, unpack, convert, and say what came out."""
import argparse
import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.error import HTTPError, URLError

import numpy as np
from PIL import Image
from tqdm import tqdm

from semst.data import IMAGE_SUFFIXES, InputError, open_image

VOID = 255            # the label of pixels that count for nothing
TIMEOUT = 30          # seconds without a byte before a connection counts as lost
TRIES, PAUSE = 5, 2   # attempts in a row that bring nothing before the next mirror has its turn; seconds between them


# -- a script ---------------------------------------------------------------------------------------------------------------------

def parser(doc: str, **folders: str) -> argparse.ArgumentParser:
    "A parser whose help is the script's own docstring, for these input folders (name -> what it is) and OUT."
    words = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (folders | dict(out="folder to write")).items(): words.add_argument(name, type=Path, help=what)
    return words

def run(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    "Exit code of a script: 0, 2 for a mistake in what was given, 1 for a disk that does not do its part, 130 if it was stopped."
    try: main(sys.argv[1:] if argv is None else [str(a) for a in argv])
    except (InputError, FileExistsError, NotADirectoryError, PermissionError) as mistake: code, why = 2, mistake
    except OSError as failure: code, why = 1, failure
    except KeyboardInterrupt: code, why = 130, "stopped; the same command goes on from here"
    else: return 0
    print(f"{Path(main.__code__.co_filename).stem}: {why}", file=sys.stderr)
    return code

def save_json(file: Path, content: dict):
    "Write a small file at once or not at all."
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(part, file)

def load_json(file: Path) -> dict:
    "What `save_json` wrote; empty if there is none."
    try: return json.loads(file.read_text()) if file.exists() else {}
    except ValueError: raise InputError(f"{file}: is damaged; delete it and run again") from None


# -- download ---------------------------------------------------------------------------------------------------------------------

def sha256_of(file: Path) -> str:
    with open(file, "rb") as f: return hashlib.file_digest(f, "sha256").hexdigest()

def fetch(url: str, part: Path):
    "Append to `part` what it lacks of `url`; an `OSError` or `HTTPException` if the connection does not last."
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "semst"} | ({"Range": f"bytes={have}-"} if have else {}))
    try: reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as e:
        if e.code != 416: raise
        if e.headers.get("Content-Range") == f"bytes */{have}": return        # nothing is missing
        part.unlink()
        raise ConnectionError("the file there is shorter than what was already here") from None
    with reply:
        if reply.status == 206 and not (reply.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("the server sent another part of the file than was asked for")
        start = have if reply.status == 206 else 0                            # 200: this server cannot resume, it starts again
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        with open(part, "ab" if start else "wb") as f, tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
            while chunk := reply.read(1 << 18):
                f.write(chunk)
                bar.update(len(chunk))
            got = f.tell()
    if total is not None and got != total: raise ConnectionError(f"the connection ended after {got} of {total} bytes")

def persist(url: str, part: Path):
    "`fetch` until it is done; gives up on a server that cannot be reached, that refuses, or that brings nothing new."
    size = lambda: part.stat().st_size if part.exists() else 0
    most, idle = size(), 0
    while True:
        try: return fetch(url, part)
        except URLError: raise                                                # includes HTTPError: asking again would not help
        except (OSError, http.client.HTTPException):
            most, idle = max(most, size()), 0 if size() > most else idle + 1
            if idle == TRIES: raise
        time.sleep(PAUSE)

def download(
    urls: Iterable[str],          # mirrors, tried in this order
    file: Path,
    sha256: str | None = None,    # as published; where nobody publishes one, the first download's is recorded and holds from then on
):
    """Fetch a file that is then known to be the right one; resumes where it stopped, and does nothing if the file is there.
    Length and SHA-256 are checked; `checksums.json` beside the file keeps what was found. An `InputError` says what went wrong."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    book = file.with_name("checksums.json")
    known = sha256 or load_json(book).get(file.name, {}).get("sha256")

    def record(found: str, url: str | None):
        how = "published" if sha256 else "recorded at the first download"
        save_json(book, load_json(book) | {file.name: dict(sha256=found, bytes=file.stat().st_size, url=url, checksum=how)})

    if file.exists():
        found = sha256_of(file)
        if known and found != known: raise InputError(f"{file}: its SHA-256 is {found}, it should be {known}; delete the file and run again")
        if file.name not in load_json(book): record(found, None)
        return
    complaints = []
    for url in urls:
        # One part per mirror: without a published checksum nothing else would notice a file put together from two versions.
        part = file.with_name(f"{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        try:
            persist(url, part)
            found = sha256_of(part)
            if known and found != known:
                part.unlink()
                raise ConnectionError(f"its SHA-256 is {found}, it should be {known}")
        except HTTPError as e: complaints.append(f"{url} ({e.code} {e.reason})")
        except (OSError, http.client.HTTPException, ValueError) as e: complaints.append(f"{url} ({getattr(e, 'reason', None) or e or type(e).__name__})")
        else:
            os.replace(part, file)
            for rest in file.parent.glob(f"{file.name}.*.part"): rest.unlink()
            return record(found, url)
    raise InputError(f"{file.name} could not be downloaded: {'; '.join(complaints)}. Run the same command again to go on, or put the file at {file} yourself")


# -- unpack -----------------------------------------------------------------------------------------------------------------------

def members(archive: zipfile.ZipFile | tarfile.TarFile) -> list[tuple[str, int, str, object]]:
    "Name, size, kind (file, folder or other: links and devices) and handle of everything in an archive."
    if isinstance(archive, tarfile.TarFile):
        return [(m.name, m.size, "file" if m.isfile() else "folder" if m.isdir() else "other", m) for m in archive.getmembers()]
    kind = lambda m: "folder" if m.is_dir() else "file" if m.external_attr >> 28 in (0, 0o10) else "other"    # the upper bits are Unix's file type
    return [(m.filename, m.file_size, kind(m), m) for m in archive.infolist()]

def leaves(name: str) -> bool:
    "Whether a member's name points out of the folder it is unpacked into, on any system."
    windows = PureWindowsPath(name)                                           # understands / as well as \ and C:
    return not name or bool(windows.drive or windows.root) or ".." in windows.parts or PurePosixPath(name).is_absolute()

def extract(
    archive: Path,    # zip or tar, compressed or not
    folder: Path,
    only: str = "",   # a regular expression: members whose name does not match are left in the archive
):
    "Unpack an archive; what is there already is kept. An `InputError` before anything is written if a member would land outside the folder."
    folder = Path(folder)
    try:
        with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as pack:
            content = members(pack)
            for name, _, kind, _ in content:
                if leaves(name): raise InputError(f"{archive}: its member {name!r} would be written outside {folder}; do not use this archive")
                if kind == "other": raise InputError(f"{archive}: its member {name!r} is a link or a device, which an archive of images has no use for; do not use it")
            for name, size, kind, member in tqdm([m for m in content if m[2] == "file" and re.search(only, m[0])], desc=f"unpack {Path(archive).name}"):
                target = folder / name
                if target.exists() and target.stat().st_size == size: continue
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.part")
                with pack.open(member) if isinstance(pack, zipfile.ZipFile) else pack.extractfile(member) as source, open(part, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                os.replace(part, target)
    except FileNotFoundError: raise InputError(f"{archive}: no such file") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as e:
        raise InputError(f"{archive}: is no zip or tar archive, or is damaged ({str(e).splitlines()[0] if str(e) else type(e).__name__}); get it again") from None
    except RuntimeError as e: raise InputError(f"{archive}: cannot be unpacked ({e})") from None                # a password

def find(
    source: Path,     # what the user has
    name: str,        # the folder that is needed
    archives: str,    # a pattern for the archives that hold it
    unpacked: Path,   # where archives are unpacked
    only: str = "",
) -> Path:
    "The folder `name` in `source`, or one level below; unpacked from the archives in `source` where only these are there, or were when it was unpacked."
    if not source.is_dir(): raise InputError(f"{source}: no such folder")
    def there(place): return [f for f in (place / name, *sorted(place.glob(f"*/{name}"))) if f.is_dir()]
    for folder in there(source):
        if unpacked.resolve() not in folder.resolve().parents: return folder       # what lies there may be half unpacked
    found, whole = sorted(source.glob(archives)), unpacked / f".{name} is whole"
    if not found and not whole.exists(): raise InputError(f"{source}: holds neither a folder {name} nor an archive {archives}; see --help for what is needed")
    for archive in found: extract(archive, unpacked, only)
    unpacked.mkdir(parents=True, exist_ok=True)
    whole.touch()                                              # from now on the archives may go
    if folders := there(unpacked): return folders[0]
    raise InputError(f"{found[0]}: no folder {name} came out of it; is it the right archive?")


# -- convert ----------------------------------------------------------------------------------------------------------------------

def label_ids(
    path: Path,
    highest: int,          # larger ids are an error
) -> np.ndarray:           # (h, w), 8 bits
    "A label map's ids: of a palette image the indices, never the colours."
    with open_image(path) as image:
        if image.mode not in ("L", "P"): raise InputError(f"{path}: mode {image.mode}; a label map is an 8-bit image of ids, not of colours")
        try: ids = np.array(image)
        except Exception as e: raise InputError(f"{path}: cannot be decoded, it is probably damaged ({e})") from None
    if ids.max() > highest: raise InputError(f"{path}: holds the id {ids.max()}; ids run from 0 to {highest}")
    return ids

def lookup(pairs: dict[int, int]) -> np.ndarray:
    "A table to index with ids; what `pairs` does not name is void."
    table = np.full(256, VOID, np.uint8)
    table[list(pairs)] = list(pairs.values())
    return table

Make = Callable[[Path], None]      # writes one file

def link(source: Path) -> Make:
    "The same file under another name, without a second copy on the disk where that is possible."
    def make(path: Path):
        try: os.link(source.resolve(), path)
        except OSError: shutil.copyfile(source, path)
    return make

def save(picture: Callable[[], Image.Image], **how) -> Make:
    "A picture that is made when it is needed."
    return lambda path: picture().save(path, **how)

def build(
    out: Path,
    plan: dict[str, Make],    # file below `out` -> what writes it
    **settings,               # what else decides what the files look like
):
    """Write what the plan names and is not there yet, then print the table. A file appears complete or not at all.
    An `InputError` if `out` holds images of something else, or, at the end, if some files could not be made."""
    out = Path(out)
    if out.is_file(): raise InputError(f"{out}: is a file; a folder is needed")
    out.mkdir(parents=True, exist_ok=True)
    before = load_json(out / "settings.json")
    if before and before != settings: raise InputError(f"{out}: was made with {before}, not {settings}; choose another folder")
    for folder in {Path(name).parts[0] for name in plan}:
        for file in (out / folder).rglob("*"):
            if file.is_file() and not file.name.startswith(".") and file.relative_to(out).as_posix() not in plan:
                raise InputError(f"{file}: is not of this data; choose an empty folder, or delete {out / folder} and run again")
    save_json(out / "settings.json", settings)
    failed = []
    for name, make in tqdm(plan.items(), unit="file"):
        path = out / name
        if path.exists(): continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{path.name}")                           # hidden, and with the ending that says the format
        part.unlink(missing_ok=True)
        try: make(part)
        except InputError as e: failed.append(str(e))
        else: os.replace(part, path)
    table(out)
    if failed: raise InputError(f"{len(failed)} of {len(plan)} files could not be made: {shortened(failed)}")

def shortened(items: list[str], most: int = 5) -> str:
    return "; ".join(items[:most]) + (f"; and {len(items) - most} more" if len(items) > most else "")

def table(out: Path):
    "Print how many images each folder of a data set holds, and of which sizes in pixels."
    rows = [("folder", "images", "pixels")]
    for folder in sorted(f for f in Path(out).iterdir() if f.is_dir() and re.match("(train|val|test)[AB]", f.name)):
        sizes = []
        for file in sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")):
            with open_image(file) as image: sizes.append(image.size)
        if not sizes: continue
        smallest, largest = ("{}x{}".format(*extreme(sizes, key=lambda s: s[0] * s[1])) for extreme in (min, max))
        rows.append((folder.name, str(len(sizes)), smallest if len(set(sizes)) == 1 else f"{smallest} to {largest}"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for a, b, c in rows: print(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c}")
