"Malformed inputs of every kind, through the commands that read them."

import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
from campaigns.common import (
    TINY,
    Campaign,
    changed_json,
    command,
    drawn,
    harmed,
    json_value,
    judged,
    tiny_training,
    two_folders,
)
from PIL import Image

from semst.checkpoint import last_checkpoint
from semst.files import InputError
from semst.images import read_picture
from semst.pretrained import find_weights
from semst.study.page import demo, make
from semst.study.votes import made_up_votes

FORMATS = {
    "png": ("png", {}),
    "palette png": ("png", {}),
    "jpeg": ("jpg", dict(quality=90)),
    "progressive jpeg": ("jpg", dict(progressive=True)),
    "webp": ("webp", {}),
    "gif": ("gif", {}),
    "zipped tiff": ("tif", dict(compression="tiff_adobe_deflate")),
    "bmp": ("bmp", {}),
    "lzw tiff": ("tif", dict(compression="tiff_lzw")),
    "tga": ("tga", {}),
    "ppm": ("ppm", {}),
}
CHECKED = ("png", "palette png", "zipped tiff")  # their pixels carry checksums
SECONDS = 60  # longer is a hang


@contextmanager
def no_hang() -> Iterator[None]:
    "`TimeoutError` in what takes too long."

    def late(*_):
        raise TimeoutError(f"not done after {SECONDS} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def trial(
    campaign: Campaign, what: str, name: str | tuple[str, ...], output: Path | None, *words: object
) -> tuple[int, str]:
    "One command on one bad input."

    def call():
        with no_hang():
            return command(*words)

    return judged(campaign, what, call, (name,) if isinstance(name, str) else name, output)


def photo(side: int = 48) -> Image.Image:
    rows, columns = np.mgrid[:side, :side]
    waves = [np.sin(columns / 9), np.cos(rows / 7), np.sin((rows + columns) / 15)]
    smooth = np.stack([127 + 90 * wave for wave in waves], -1)
    noise = np.random.default_rng(0).normal(0, 12, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def pictures(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Damaged pictures: refused by name, or read; with wrong pixels only where no checksum tells."
    campaign = Campaign("pictures")
    for number in range(count):
        kind = list(FORMATS)[number % len(FORMATS)]
        suffix, options = FORMATS[kind]
        file, out = root / f"p{number}.{suffix}", root / f"q{number}.png"
        image = photo().convert("P") if kind in ("palette png", "gif") else photo()
        image.save(file, **options)
        right = read_picture(file).flat()
        file.write_bytes(harmed(file.read_bytes(), dice))
        code, _ = trial(campaign, f"a damaged {kind}", file.name, out, "translate", run, file, out)
        if code == 0 and kind in CHECKED:
            with warnings.catch_warnings(action="ignore"):
                found = read_picture(file).flat()
            if (
                found.shape == right.shape
                and not np.array_equal(found, right)
                and not header_differs(kind, file, image)
            ):
                campaign.counts["read after all"] -= 1
                campaign.fail(f"a damaged {kind} was read with wrong pixels")
        out.unlink(missing_ok=True)
    return campaign


def header_differs(kind: str, file: Path, image: Image.Image) -> bool:
    "Whether the damage changed what the header says, so that these are the right pixels of it."
    with warnings.catch_warnings(action="ignore"), Image.open(file) as found:
        tags = dict(getattr(found, "tag_v2", {}))
        odd = {"gamma", "transparency", "icc_profile"} & set(found.info)
        return (
            found.mode != image.mode
            or bool(odd)
            or (tags.get(262, 2), tags.get(317, 1), 339 in tags, tags.get(274, 1))
            != (2, 1, False, 1)
        )


def tiff_fields(data: bytes) -> list[int]:
    "Where the values of a little-endian TIFF's first table of tags stand."
    table = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, table)[0]
    return [table + 2 + 12 * i + offset for i in range(count) for offset in (0, 2, 4, 8)]


def tiled_tiffs(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Tiled and stripped TIFFs whose tables lie, read in tiles."
    import tifffile

    campaign, pixels = Campaign("tiled TIFFs"), np.asarray(photo(96))
    layouts = [
        dict(tile=(32, 32), compression="zlib"),
        dict(rowsperstrip=16, compression="zlib"),
        {},
        dict(tile=(32, 32)),
        dict(tile=(32, 48), compression="lzw"),
    ]
    for number in range(count):
        file, out = root / f"t{number}.tif", root / f"u{number}.tif"
        tifffile.imwrite(
            file, pixels, photometric="rgb", byteorder="<", **layouts[number % len(layouts)]
        )
        data = bytearray(file.read_bytes())
        if dice.random() < 0.5:
            place = dice.choice(tiff_fields(bytes(data)))
            value = dice.choice([0, 1, 2, 7, 255, 65535, 2**24, 2**31 - 1, 2**32 - 1, len(data)])
            short = value < 65536 and dice.random() < 0.5
            struct.pack_into("<H" if short else "<I", data, place, value)
            file.write_bytes(bytes(data))
        else:
            file.write_bytes(harmed(bytes(data), dice))
        trial(
            campaign, f"TIFF {number}", file.name, out, "translate", run, file, out, "--tile", "64"
        )
        out.unlink(missing_ok=True)
    return campaign


def configurations(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "RUN/config.json with other types, names and values, read by `info` and by a resumed training."
    campaign, whole = Campaign("config.json"), (run / "config.json").read_text()
    copy = root / "configured"
    shutil.copytree(run, copy)
    for number in range(count):
        way = dice.random()
        if way < 0.7:
            text = json.dumps(changed_json(json.loads(whole), dice))
        elif way < 0.8:
            text = "[" * 100_000
        else:
            text = harmed(whole.encode(), dice).decode("latin-1")
        (copy / "config.json").write_text(text)
        resume = ["train", "--out", copy, "--resume"]
        trial(
            campaign,
            f"config.json {number}",
            "",
            None,
            *(resume if number % 4 == 0 else ["info", copy]),
        )
    return campaign


def weights(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Files of weights: cut, turned, with another header, or with other settings of the model."
    campaign, data = Campaign("weights"), find_weights(run).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, picture = json.loads(data[8 : 8 + size]), drawn(root / "one", 1, 48, 0)
    for number in range(count):
        file, out = root / f"w{number}.safetensors", root / f"x{number}"
        way = dice.randrange(4)
        if way == 0:
            changed = harmed(data, dice)
        elif way == 1:
            text = harmed(data[: 8 + size], dice)
            changed = text + data[8 + size :]
        else:
            new = json.loads(json.dumps(header))
            if way == 2:
                settings = json.loads(new["__metadata__"]["model_config"])
                new["__metadata__"]["model_config"] = json.dumps(changed_json(settings, dice))
            else:
                new = changed_json(new, dice)
            text = json.dumps(new).encode()
            changed = struct.pack("<Q", len(text)) + text + data[8 + size :]
        file.write_bytes(changed)
        at_fault = file.name, "the weights that made it are damaged"
        trial(campaign, f"weights {number}", at_fault, None, "translate", file, picture, out)
        file.unlink()
        shutil.rmtree(out, ignore_errors=True)
    return campaign


def checkpoints(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "A checkpoint's files and its list of digests, damaged or exchanged; then the run is resumed."
    campaign, copy = Campaign("checkpoints and their lists of digests"), root / "checkpointed"
    for number in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        folder = last_checkpoint(copy)
        file = dice.choice(sorted(folder.iterdir()))
        before = file.read_bytes()
        if file.suffix == ".json" and dice.random() < 0.7:
            file.write_text(json.dumps(changed_json(json.loads(before), dice)))
        else:
            file.write_bytes(harmed(before, dice))
        weights_changed = file.suffix != ".json" and file.read_bytes() != before
        name = f"checkpoint {number}" if weights_changed else f"checkpoint {number}, {file.name}"
        code, _ = trial(campaign, name, folder.name, None, "train", "--out", copy, "--resume")
        if weights_changed and code == 0:
            campaign.counts["read after all"] -= 1
            campaign.fail(f"{file.name} was changed and taken")
    return campaign


def logs(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "log.jsonl, damaged: what can be read is shown, the rest is counted in a warning."
    campaign, copy = Campaign("logs"), root / "logged"
    shutil.copytree(run, copy)
    whole = (run / "log.jsonl").read_bytes()
    for number in range(count):
        data = (
            harmed(whole, dice)
            if dice.random() < 0.6
            else (json.dumps(json_value(dice)) + "\n").encode() + whole
        )
        (copy / "log.jsonl").write_bytes(data)
        trial(campaign, f"log {number}", "log.jsonl", None, "info", copy)
    return campaign


def votes(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Files of votes and keys of a study."
    campaign = Campaign("votes and keys of a study")
    study = make(**demo(root / "demo", n=4, size=32), out=root / "study", sets=4)
    text, key = made_up_votes(study, "a" * 32, 0.8, random.Random(0)), study.key.read_bytes()
    for number in range(count):
        file = root / f"votes{number}.json"
        if number % 3:
            changed = (
                json.dumps(changed_json(json.loads(text), dice)) if dice.random() < 0.6 else ""
            )
            file.write_bytes(changed.encode() or harmed(text.encode(), dice))
            trial(
                campaign,
                f"votes {number}",
                file.name,
                None,
                "study",
                "collect",
                root / "study",
                file,
            )
        else:
            study.key.write_bytes(harmed(key, dice))
            trial(
                campaign,
                f"key {number}",
                str(root / "study"),
                None,
                "study",
                "report",
                root / "study",
            )
            study.key.write_bytes(key)
    return campaign


def archives(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Archives of data sets, damaged or with names that lead elsewhere."
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "data_scripts"))
    import unpacking

    campaign = Campaign("archives")
    bad_names = [
        "../out",
        "/tmp/out",
        ".",
        "",
        "a/../../out",
        "a\0b",
        "C:/x",
        "a//b",
        "x" * 300,
        "..\\out",
    ]
    for number in range(count):
        content, file = {"d/one.png": dice.randbytes(900), "two.png": b"2" * 900}, io.BytesIO()
        if dice.random() < 0.4:
            content[dice.choice(bad_names)] = b"bad"
        if number % 2:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
                for name, data in content.items():
                    pack.writestr(zipfile.ZipInfo(name), data)
        else:
            with tarfile.open(fileobj=file, mode="w:gz") as pack:
                for name, data in content.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    pack.addfile(entry, io.BytesIO(data))
        archive, out = root / f"a{number}.archive", root / "deep" / str(number) / "out"
        archive.write_bytes(harmed(file.getvalue(), dice) if len(content) == 2 else file.getvalue())

        def call():
            with no_hang():
                try:
                    unpacking.extract(archive, out)
                except InputError as e:
                    return 2, str(e)
                return 0, ""

        before = set(root.rglob("*"))
        judged(campaign, f"archive {number}", call, (archive.name,))
        outside = [
            f
            for f in set(root.rglob("*")) - before
            if out not in (f, *f.parents) and f not in out.parents
        ]
        if outside:
            campaign.fail(f"archive {number} wrote {outside[0]}")
    return campaign


def names(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Names of files and folders: odd ones are translated and kept; a path that cannot be is named."
    campaign = Campaign("names")
    odd = [
        b"a b.png",
        b"it's.png",
        b'quo"te.png',
        "名前 Ünïcode.png".encode(),
        b"new\nline.png",
        b"-x.png",
        b"$(touch no).png",
        b"`no`.png",
        b"<script>alert(1)<script>.png",
        b"%s{0}.png",
        b"\xff\xfe.png",
        b"a;b&c|d.png",
        b"#1.png",
        b"~.png",
        b"[x]*?.png",
        b"x" * 240 + b".png",
        b"back\\slash.png",
        b"tab\t.png",
    ]
    for number in range(count):
        name = odd[number % len(odd)]
        folder = Path(os.fsdecode(os.fsencode(root) + b"/n%d " % number + name))
        out = Path(str(folder) + " out")
        if len(os.fsencode(folder.name)) > 240:
            folder = root / f"n{number}"
            out = root / f"n{number} out"
        folder.mkdir()
        file = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        photo().save(file)
        code, said = trial(campaign, f"the name {name!r}", "", None, "translate", run, folder, out)
        if code or not (out / file.name).exists() or Path("no").exists():
            campaign.fail(f"the name {name!r}: {code}, {said[-200:]!r}")
    return campaign


def values(root: Path, run: Path, count: int, dice: random.Random) -> Campaign:
    "Values of the command line; the data do not exist, so that even a good value ends in code 2."
    campaign, missing = Campaign("values of the command line"), root / "missing"
    groups = [
        getattr(TINY, f.name)
        for f in fields(TINY)
        if hasattr(getattr(TINY, f.name), "__dataclass_fields__")
    ]
    options = sorted({f.name.replace("_", "-") for group in groups for f in fields(group)})
    bad = [
        "abc",
        "-1",
        "nan",
        "inf",
        "1e400",
        "9" * 25,
        "--",
        "0x10",
        "1,5",
        "",
        " ",
        "\0",
        "$(touch no)",
        "é",
        "1 2",
        "[1]",
        "None",
        "x" * 3000,
        "-",
        "=",
        "0",
        "True",
        "1.5",
    ]
    for _ in range(count):
        option, value = dice.choice(options), dice.choice(bad)
        words = [
            "train",
            "--source",
            missing,
            "--target",
            missing,
            "--out",
            root / "never",
            f"--{option}",
            value,
        ]
        trial(campaign, f"--{option} {value[:40]!r}", "", root / "never", *words)
    return campaign


KINDS: dict[Callable, float] = {  # share of all trials
    pictures: 0.25,
    tiled_tiffs: 0.15,
    configurations: 0.15,
    weights: 0.12,
    checkpoints: 0.05,
    logs: 0.06,
    votes: 0.08,
    archives: 0.08,
    names: 0.03,
    values: 0.1,
}


def input_campaigns(root: Path, trials: int, seed: int = 0) -> list[Campaign]:
    "All kinds, each with its share of the trials."
    data, run, found = two_folders(root / "data"), root / "a run", []
    tiny_training(data, run)
    for kind, share in KINDS.items():
        place = root / kind.__name__
        place.mkdir()
        dice = random.Random(f"{seed} {kind.__name__}")
        found.append(kind(place, run, max(3, round(share * trials)), dice))
    return found
