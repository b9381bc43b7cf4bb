"Unpack archives that may be damaged, or made to do harm."
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from tqdm import tqdm

from semst.files import DRAFT, InputError, check_file

MOST_MEMBERS = 2_000_000
FREE_BYTES = 2**32      # any archive may unpack to so much, ...
MOST_TIMES = 100        # ... and else to so many times its own size


class Member(NamedTuple):
    "One entry of an archive."
    name: str
    size: int
    kind: str               # file, folder, or other: links and devices
    handle: zipfile.ZipInfo | tarfile.TarInfo


def zip_members(pack: zipfile.ZipFile) -> Iterator[Member]:
    for info in pack.infolist():
        unix_type = info.external_attr >> 28              # the upper bits are Unix's file type
        kind = "file" if unix_type in (0, 0o10) else "other"
        yield Member(info.filename, info.file_size, "folder" if info.is_dir() else kind, info)


def tar_members(pack: tarfile.TarFile) -> Iterator[Member]:
    for info in pack:
        kind = "file" if info.isfile() else "folder" if info.isdir() else "other"
        yield Member(info.name, info.size, kind, info)


def check_tar_end(pack: tarfile.TarFile) -> None:
    "Nothing but zeros after the last member, and a right checksum of what packed it."
    pack.fileobj.seek(pack.offset)
    while rest := pack.fileobj.read(2**20):               # to the end: gzip checks itself there
        if rest.strip(b"\0"):
            raise tarfile.ReadError("a header in its middle is damaged")


def wrong_name(name: str) -> str:
    "What is wrong with a member's name, on any system; empty if nothing is."
    windows = PureWindowsPath(name)                       # understands / as well as \ and C:
    if not PurePosixPath(name).parts or "\0" in name or set(windows.parts) <= {".", "/", "\\"}:
        return "is no name"
    if windows.drive or windows.root or ".." in windows.parts or PurePosixPath(name).is_absolute():
        return "would be written outside its folder"
    if max(len(os.fsencode(part)) for part in windows.parts) > 255:
        return "is longer than a name may be"
    return ""


def check_members(archive: Path, content: list[Member]) -> None:
    "An `InputError` if an archive is not what an archive of images is."
    for member in content:
        if wrong := wrong_name(member.name):
            raise InputError(f"{archive}: its member {member.name!r} {wrong}; do not use this "
                             "archive")
        if member.kind == "other":
            raise InputError(f"{archive}: its member {member.name!r} is a link or a device, which "
                             "an archive of images has no use for; do not use it")


def local_name(name: str, windows: bool = os.name == "nt") -> str:
    "A member's name as this system can have it: Windows forbids some characters, `_` stands there."
    return re.sub(r'[<>:"|?*]', "_", name) if windows else name


def write_member(source: IO[bytes], target: Path, size: int, folder: Path) -> None:
    "One file out of an archive, whole or not at all, and no longer than it claims to be."
    target.parent.mkdir(parents=True, exist_ok=True)
    if folder.resolve() not in (target.resolve().parent, *target.resolve().parent.parents):
        raise InputError(f"{target}: a link leads out of {folder}; unpack into an empty folder")
    draft = target.with_name(f"{DRAFT}{os.getpid()}")
    try:
        with open(draft, "wb") as sink:
            while chunk := source.read(2**20):
                sink.write(chunk)
                if sink.tell() > size:
                    break
            written = sink.tell()
        if written != size:
            raise EOFError(f"{target.name} has not the {size} bytes that it claims")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    "Whatever an archive's reader raises becomes an `InputError` that names the archive."
    try:
        yield
    except (InputError, MemoryError):
        raise
    except RuntimeError as e:                             # a password, or an unknown packing
        raise InputError(f"{archive}: cannot be unpacked ({e})") from None
    except Exception as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise                                         # the disk, not the archive
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise InputError(f"{archive}: is no zip or tar archive, or is damaged ({reason}); get it "
                         "again") from None


def listed(pack: zipfile.ZipFile | tarfile.TarFile, archive: Path) -> list[Member]:
    "All members; an error if they are too many or too large, or if the list ends in damage."
    content: list[Member] = []
    length, total = archive.stat().st_size, 0
    is_tar = isinstance(pack, tarfile.TarFile)
    for member in tar_members(pack) if is_tar else zip_members(pack):
        content.append(member)
        total += member.size
        if total > max(FREE_BYTES, MOST_TIMES * length) or len(content) > MOST_MEMBERS:
            raise InputError(f"{archive}: {length} bytes claim to hold {len(content)} members or "
                             f"more, of {total} bytes or more; do not use this archive")
    if is_tar:
        check_tar_end(pack)
    return content


def extract(
    archive: Path,    # zip or tar, compressed or not
    folder: Path,
    only: str = "",   # a regular expression: members whose name does not match stay in the archive
) -> None:
    "Unpack an archive; what is there already is kept. An `InputError` before anything is written."
    archive, folder = check_file(archive), Path(folder)
    with reading(archive):
        is_zip = zipfile.is_zipfile(archive)
        with zipfile.ZipFile(archive) if is_zip else tarfile.open(archive) as pack:
            content = listed(pack, archive)
            check_members(archive, content)
            files = [m for m in content if m.kind == "file" and re.search(only, m.name)]
            for member in tqdm(files, desc=f"unpack {archive.name}"):
                target = folder / local_name(member.name)
                if target.is_file() and target.stat().st_size == member.size:
                    continue
                opened = pack.open(member.handle) if is_zip else pack.extractfile(member.handle)
                with opened as source:
                    write_member(source, target, member.size, folder)


def find(
    source: Path,     # what the user has
    name: str,        # the folder that is needed
    archives: str,    # a pattern for the archives that hold it
    unpacked: Path,   # where archives are unpacked
    only: str = "",
) -> Path:
    """The folder `name` in `source`, or one level below; unpacked from archives if need be.

    `InputError` if there are several: they may be parts, or only one may be meant."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")

    def there(place: Path) -> list[Path]:
        return [f for f in (place / name, *sorted(place.glob(f"*/{name}"))) if f.is_dir()]

    places = {folder.resolve(): folder for folder in there(source)
              if folder.parent.name != "__MACOSX"                # what is unpacked may be half
              and unpacked.resolve() not in folder.resolve().parents}
    ready = list(places.values())
    if len(ready) > 1:
        raise InputError(f"{source}: has {len(ready)} folders {name}, for example {ready[0]} and "
                         f"{ready[1]}; put what belongs together into one, {source / name}")
    if ready:
        return ready[0]
    found, mark = sorted(source.glob(archives)), unpacked / f".{name} is whole"
    if not found and not mark.exists():
        raise InputError(f"{source}: holds neither a folder {name} nor an archive {archives}; see "
                         "--help for what is needed")
    for archive in found:
        extract(archive, unpacked, only)
    unpacked.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sync"):
        os.sync()                                 # all files are on the disk before the mark is
    mark.touch()                                  # from now on the archives may go
    if folders := there(unpacked):
        return folders[0]
    raise InputError(f"{(found or [unpacked])[0]}: no folder {name} came out of it; is it the "
                     "right archive?")
