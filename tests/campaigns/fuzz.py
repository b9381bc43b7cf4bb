"""Readers of files that are given random changes: by atheris, which follows the code that a change
reaches, if it is installed; otherwise by chance alone.

pip install atheris; python tests/campaign.py --parts fuzz"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from campaigns.common import TINY, Campaign, harmed
from PIL import Image

from semst.files import InputError, read_weights
from semst.images import read_picture
from semst.model import SemST
from semst.pretrained import model_config_of, save_model
from semst.run_folder import read_config, read_log
from semst.study.page import demo, make
from semst.study.votes import made_up_votes, read_votes
from semst.tiff import open_pixels

TESTS = Path(__file__).resolve().parents[1]
# atheris follows the code that is imported inside its block
START = """
import importlib.util, sys
if importlib.util.find_spec("atheris"):
    import atheris
    with atheris.instrument_imports(include=["semst", "PIL", "tifffile", "unpacking"]):
        from campaigns import fuzz
else:
    from campaigns import fuzz
fuzz.main(*sys.argv[1:])
"""


class Reader(NamedTuple):
    "What is fuzzed: the name of its file, good contents to begin with, and the call."

    name: str
    seeds: list[bytes]
    read: Callable[[Path], object]


def written(kind: str, **options) -> bytes:
    "A small picture as the bytes of a file."
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    image, file = Image.fromarray(pixels), io.BytesIO()
    image = image.convert("P") if options.pop("palette", False) else image
    image.save(file, kind, **options)
    return file.getvalue()


def tiffs(root: Path) -> list[bytes]:
    "TIFFs in tiles and in strips."
    import tifffile

    pixels, found = np.random.default_rng(0).integers(0, 256, (40, 33, 3), np.uint8), []
    layouts = (dict(tile=(16, 16), compression="zlib"), dict(rowsperstrip=8), dict(tile=(16, 32)))
    for layout in layouts:
        tifffile.imwrite(root / "seed.tif", pixels, photometric="rgb", **layout)
        found.append((root / "seed.tif").read_bytes())
    return found


def windows(file: Path) -> None:
    "All of a TIFF, in four windows."
    pixels = open_pixels(file)
    half_h, half_w = pixels.shape[0] // 2, pixels.shape[1] // 2
    for rows in (slice(0, half_h), slice(half_h, pixels.shape[0])):
        for cols in (slice(0, half_w), slice(half_w, pixels.shape[1])):
            pixels[rows, cols]


def archived(kind: str) -> bytes:
    "An archive with a folder and two files."
    file, content = io.BytesIO(), {"d/one.png": b"1" * 99, "two.png": bytes(range(256))}
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, data in content.items():
                pack.writestr(zipfile.ZipInfo(name), data)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode=kind) as pack:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            pack.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def unpack(file: Path) -> None:
    "Unpack an archive; what comes out is removed."
    sys.path[:0] = [str(TESTS.parent / "data_scripts")]
    import unpacking

    sys.path.pop(0)
    try:
        unpacking.extract(file, file.parent / "unpacked")
    finally:
        shutil.rmtree(file.parent / "unpacked", ignore_errors=True)


def weights_seed(root: Path) -> bytes:
    save_model(SemST(TINY.replace(ngf=1, embed_dim=1).model), root / "seed.safetensors")
    return (root / "seed.safetensors").read_bytes()


def config_seed() -> bytes:
    about = dict(source="a", target="b", steps=8, data={}, config=TINY.to_dict())
    return json.dumps(about).encode()


def votes_reader(root: Path) -> Reader:
    study = make(**demo(root / "demo", n=4, size=32), out=root / "study", sets=4)
    text = made_up_votes(study, "a" * 32, 0.8, random.Random(0))
    return Reader("votes.json", [text.encode()], lambda file: read_votes(file, study))


def config_reader(root: Path) -> Reader:
    return Reader("config.json", [config_seed()], lambda file: read_config(file.parent))


def weights_reader(root: Path) -> Reader:
    return Reader("w.safetensors", [weights_seed(root)],
                  lambda file: model_config_of(file, read_weights(file)[0]))


def picture_reader(root: Path) -> Reader:
    seeds = [written("PNG"), written("PNG", palette=True), written("JPEG"), written("WEBP"),
             written("GIF"), written("BMP"), written("TGA"), written("PPM"), written("TIFF")]
    return Reader("x.png", seeds, read_picture)


READERS: dict[str, Callable[[Path], Reader]] = {
    "pictures": picture_reader,
    "tiled TIFFs": lambda root: Reader("x.tif", tiffs(root), windows),
    "config.json": config_reader,
    "weights": weights_reader,
    "votes": votes_reader,
    "archives": lambda root: Reader(
        "a.archive", [archived("zip"), archived("w"), archived("w:gz")], unpack),
    "logs": lambda root: Reader(
        "log.jsonl", [b'{"step": 1, "d_loss": 0.5}\n{"step": 2, "d_loss": 0.4}\n'], read_log),
}


class Target:
    "A reader with a count of what became of each content, kept in a file."

    def __init__(self, reader: Reader, root: Path):
        self.reader, self.file, self.result = reader, root / reader.name, root / "result.json"
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        self.file.write_bytes(data)
        try:
            with warnings.catch_warnings(action="ignore"):
                self.reader.read(self.file)
            self.counts["read"] += 1
        except InputError as e:
            if self.reader.name in str(e):
                self.counts["refused by name"] += 1
            else:
                self.fail(data, f"the message does not name it: {e}")
        except Exception as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            self.fail(data, f"{type(e).__name__} in {Path(last.filename).name}:{last.lineno}: {e}")
        if self.counts.total() % 100 == 0:
            self.keep()

    def fail(self, data: bytes, words: str) -> None:
        "Keep one content for each kind of failure."
        self.counts["failed"] += 1
        kind = words.partition(":")[0] if "does not name" in words else words[:60]
        if kind not in self.failures:
            self.failures[kind] = f"{words[:300]}; {data[:80]!r}"
            (self.result.parent / f"failure{len(self.failures)}").write_bytes(data)
            self.keep()

    def keep(self) -> None:
        self.result.write_text(json.dumps([self.counts, list(self.failures.values())]))


def main(name: str, folder: str, runs: str, seconds: str) -> None:
    "Fuzz one reader, in a program of its own."
    root = Path(folder)
    reader = READERS[name](root)
    target = Target(reader, root)
    for number, seed in enumerate(reader.seeds):
        (root / f"corpus/{number}").write_bytes(seed)
    if find_spec("atheris") is None:
        dice = random.Random(0)
        for _ in range(int(runs)):
            data = dice.choice(reader.seeds)
            for _ in range(dice.randint(1, 3)):
                data = harmed(data or b"\0", dice)
            target(data)
        target.keep()
        return
    import atheris

    options = [f"-runs={runs}", f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096",
               f"-max_len={2 * max(map(len, reader.seeds))}", f"-artifact_prefix={root}/"]
    atheris.Setup(["fuzz", *options, str(root / "corpus")], target)
    atheris.Fuzz()


def fuzz_campaign(root: Path, runs: int, seconds: int, names=tuple(READERS)) -> list[Campaign]:
    "Every reader, each in a program of its own; `seconds` ends one earlier."
    found = []
    for name in names:
        place = root / name.replace(" ", "_")
        (place / "corpus").mkdir(parents=True)
        words = [sys.executable, "-c", START, name, place, str(runs), str(seconds)]
        path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
        done = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True,
                              text=True, errors="replace")
        campaign = Campaign(f"{name}, fuzzed")
        if done.returncode or not (place / "result.json").exists():
            campaign.fail(f"ended with {done.returncode}: {done.stderr[-1500:]}")
        if (place / "result.json").exists():
            counts, failures = json.loads((place / "result.json").read_text())
            counts.pop("failed", None)
            campaign.counts.update(counts)
            for words in failures:
                campaign.fail(words)
        found.append(campaign)
    how = f"atheris {version('atheris')}" if find_spec("atheris") else "chance, without atheris"
    found[0].notes.append(f"all that is fuzzed is changed by {how}")
    return found

