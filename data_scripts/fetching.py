"Download a file that is then known to be the right one."
import hashlib
import http.client
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from common import load_json
from tqdm import tqdm

from semst.files import InputError, digest, flush, write_json

TIMEOUT = 30          # seconds without a byte before a connection counts as lost
TRIES, PAUSE = 5, 2   # attempts in a row that bring nothing, and seconds between them
LARGEST = 2**40       # bytes; a server that sends more is not believed


def check_address(url: str, pinned: bool) -> None:
    "An `InputError` unless the bytes are vouched for: by TLS, by a checksum, or by this machine."
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and (pinned or local)):
        raise InputError(f"{url}: without a published checksum only https is safe")


def fetch(url: str, part: Path, pinned: bool = False) -> None:
    "Append to `part` what it lacks of `url`; `OSError`, `HTTPException` if the connection breaks."
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "semst"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as e:
        if e.code != 416:
            raise
        if e.headers.get("Content-Range") == f"bytes */{have}":
            return                                            # nothing is missing
        part.unlink()
        raise ConnectionError("the file there is shorter than what was already here") from None
    with reply:
        check_address(reply.url, pinned)                      # where a redirection has led
        receive(reply, part, have, url)


def receive(reply, part: Path, have: int, url: str) -> None:
    "Write what a server sends behind the bytes that are there, or anew if it cannot go on."
    resumed = reply.status == 206
    if resumed and not (reply.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
        part.unlink()
        raise ConnectionError("the server sent another part of the file than was asked for")
    start = have if resumed else 0
    length = reply.headers.get("Content-Length")
    total = start + int(length) if length else None
    name = url.rsplit("/", 1)[-1]
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name)
    with open(part, "ab" if start else "wb") as file, bar:
        while chunk := reply.read(2**18):
            file.write(chunk)
            bar.update(len(chunk))
            if file.tell() > LARGEST:
                raise InputError(f"{url}: sent more than {LARGEST} bytes")
        got = file.tell()
    if total is not None and got != total:
        raise ConnectionError(f"the connection ended after {got} of {total} bytes")


def persist(url: str, part: Path, pinned: bool = False) -> None:
    "`fetch` until it is done; gives up on a server that refuses or brings nothing new."
    def size() -> int:
        return part.stat().st_size if part.exists() else 0

    most, idle = size(), 0
    while True:
        try:
            return fetch(url, part, pinned)
        except URLError:                          # HTTPError, too: asking again would not help
            raise
        except (OSError, http.client.HTTPException):
            idle = 0 if size() > most else idle + 1
            most = max(most, size())
            if idle == TRIES:
                raise
        time.sleep(PAUSE)


def record(file: Path, found: str, url: str | None, published: bool) -> None:
    "Note a file's checksum in `checksums.json` beside it."
    book = file.with_name("checksums.json")
    how = "published" if published else "recorded at the first download"
    entry = dict(sha256=found, bytes=file.stat().st_size, url=url, checksum=how)
    write_json(book, load_json(book) | {file.name: entry})


def whole(url: str, file: Path, known: str | None) -> Path:
    "The finished part of one mirror, checked; `ConnectionError` if its bytes are wrong."
    # One part per mirror: without a published checksum nothing else would notice a mixture.
    check_address(url, pinned=known is not None)
    part = file.with_name(f"{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    persist(url, part, pinned=known is not None)
    found = digest(part)
    if known and found != known:
        part.unlink()
        raise ConnectionError(f"its SHA-256 is {found}, it should be {known}")
    return part


def download(
    urls: Iterable[str],          # mirrors, tried in this order
    file: Path,
    sha256: str | None = None,    # as published; else the first download's holds from then on
) -> None:
    """Fetch a file; resumes where it stopped, and does nothing if the file is there. Length and
    SHA-256 are checked; `checksums.json` beside the file keeps what was found. An `InputError`
    says what went wrong."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    entry = load_json(file.with_name("checksums.json")).get(file.name)
    known = sha256 or (entry or {}).get("sha256")
    if file.exists():
        found = digest(file)
        if known and found != known:
            raise InputError(f"{file}: its SHA-256 is {found}, it should be {known}; delete the "
                             "file and run again")
        if entry is None:
            record(file, found, None, sha256 is not None)
        return
    complaints = []
    for url in urls:
        try:
            part = whole(url, file, known)
        except HTTPError as e:
            complaints.append(f"{url} ({e.code} {e.reason})")
        except InputError as e:
            complaints.append(str(e))
        except (OSError, http.client.HTTPException, ValueError) as e:
            complaints.append(f"{url} ({getattr(e, 'reason', None) or e or type(e).__name__})")
        else:
            flush(part)
            part.replace(file)
            flush(file.parent)
            for rest in file.parent.glob(f"{file.name}.*.part"):
                rest.unlink()
            return record(file, digest(file), url, sha256 is not None)
    raise InputError(f"{file.name} could not be downloaded: {'; '.join(complaints)}. Run the same "
                     f"command again to go on, or put the file at {file} yourself")
