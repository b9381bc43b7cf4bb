"The scripts that bring real data: downloads that break, archives that lie, real label maps."

import hashlib
import http.server
import io
import json
import os
import runpy
import shutil
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, SHARED
from semst.synthetic.looks import PALETTE
from semst.synthetic.scenes import CLASSES
from semst.bench.dataset import Dataset
from semst.bench.protocol import PROFILES
from semst.data import InputError, UnpairedCrops, list_images

sys.path.insert(0, str(ROOT / "data_scripts"))
import camvid
import carla
import cityscapes
import common
import cyclegan
import fetching
import folders
import gta5
import horse2zebra
import summer2winter_yosemite
import unpacking

SCRIPTS = sorted(
    f.stem
    for f in (ROOT / "data_scripts").glob("*.py")
    if f.stem not in ("common", "cyclegan", "fetching", "unpacking")
)
BYTES = np.random.default_rng(0).bytes(700_000)
SHA = hashlib.sha256(BYTES).hexdigest()


# -- a server that misbehaves on demand


class Site(http.server.ThreadingHTTPServer):
    "Serves `files`; the options say how badly. `log` holds path and Range of every request."

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.log, self.ranges, self.cut, self.claim = {}, [], True, [], None

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        site, name, asked = self.server, self.path.lstrip("/"), self.headers.get("Range")
        site.log.append((name, asked))
        if name not in site.files:
            return self.send_error(404)
        content, start = site.files[name], 0
        if asked and site.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(site.claim or len(content) - start))
        self.end_headers()
        self.wfile.write(
            content[start : start + (site.cut.pop(0) if site.cut else len(content))]
        )  # then the connection ends


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def complaint(call, *contains):
    with pytest.raises(InputError) as e:
        call()
    message = str(e.value)
    assert "\n" not in message
    for part in contains:
        assert str(part) in message, (part, message)
    return message


def ledger(folder):
    return json.loads((folder / "checksums.json").read_text())


# -- download


def test_download_is_complete_checked_and_done_once(site, tmp_path):
    site.files["a.zip"] = BYTES
    for _ in range(2):
        fetching.download([site.url("a.zip")], tmp_path / "new/a.zip", SHA)
    assert (tmp_path / "new/a.zip").read_bytes() == BYTES and len(site.log) == 1
    assert ledger(tmp_path / "new") == {
        "a.zip": {
            "sha256": SHA,
            "bytes": len(BYTES),
            "url": site.url("a.zip"),
            "checksum": "published",
        }
    }
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["a.zip", "checksums.json"]


def test_a_connection_that_breaks_off_is_taken_up_again(site, tmp_path):
    site.files["a.zip"], site.cut = BYTES, [300_000, 200_000]
    fetching.download([site.url("a.zip")], tmp_path / "a.zip", SHA)
    assert site.log == [("a.zip", None), ("a.zip", "bytes=300000-"), ("a.zip", "bytes=500000-")]


def test_a_later_run_goes_on_where_the_first_stopped(site, tmp_path):
    site.files["a.zip"], site.cut = BYTES, [400_000] + [0] * fetching.TRIES
    complaint(
        lambda: fetching.download([site.url("a.zip")], tmp_path / "a.zip", SHA),
        site.url("a.zip"),
        "Run the same command again",
    )
    assert not (tmp_path / "a.zip").exists()
    site.log.clear()
    fetching.download([site.url("a.zip")], tmp_path / "a.zip", SHA)
    assert site.log == [("a.zip", "bytes=400000-")] and (tmp_path / "a.zip").read_bytes() == BYTES


def test_a_part_that_is_already_complete(site, tmp_path):
    site.files["a.zip"], url = BYTES, site.url("a.zip")
    part = tmp_path / f"a.zip.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
    part.write_bytes(BYTES)
    fetching.download([url], tmp_path / "a.zip", SHA)
    assert (tmp_path / "a.zip").read_bytes() == BYTES and not part.exists()


def test_a_part_that_is_too_long_is_thrown_away(site, tmp_path):
    site.files["a.zip"], url = BYTES, site.url("a.zip")
    (tmp_path / f"a.zip.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part").write_bytes(
        BYTES + b"more"
    )
    fetching.download([url], tmp_path / "a.zip", SHA)
    assert (tmp_path / "a.zip").read_bytes() == BYTES


def test_a_server_that_cannot_resume_starts_again(site, tmp_path):
    site.files["a.zip"], site.cut, site.ranges = BYTES, [300_000], False
    fetching.download([site.url("a.zip")], tmp_path / "a.zip", SHA)
    assert (tmp_path / "a.zip").read_bytes() == BYTES


def test_a_server_that_always_breaks_off_somewhere_is_given_up(site, tmp_path):
    site.files["a.zip"], site.cut, site.ranges = BYTES, [100_000, 200_000] * 50, False
    complaint(
        lambda: fetching.download([site.url("a.zip")], tmp_path / "a.zip", SHA),
        f"of {len(BYTES)} bytes",
    )
    assert len(site.log) < 10


def test_wrong_length(site, tmp_path):
    site.files["a.zip"], site.claim, site.ranges = BYTES, len(BYTES) + 1000, False
    complaint(
        lambda: fetching.download([site.url("a.zip")], tmp_path / "a.zip"),
        site.url("a.zip"),
        f"after {len(BYTES)} of {len(BYTES) + 1000} bytes",
    )
    assert not (tmp_path / "a.zip").exists()


def test_wrong_bytes_are_not_kept_and_the_next_mirror_has_its_turn(site, tmp_path):
    site.files |= {"bad.zip": BYTES[::-1], "good.zip": BYTES}
    complaint(
        lambda: fetching.download([site.url("bad.zip")], tmp_path / "a.zip", SHA),
        "SHA-256",
        SHA,
        site.url("bad.zip"),
    )
    assert list(tmp_path.iterdir()) == []
    fetching.download([site.url("bad.zip"), site.url("good.zip")], tmp_path / "a.zip", SHA)
    assert (tmp_path / "a.zip").read_bytes() == BYTES and ledger(tmp_path)["a.zip"][
        "url"
    ] == site.url("good.zip")


def test_404_and_then_the_second_mirror(site, tmp_path):
    site.files["good.zip"] = BYTES
    fetching.download([site.url("gone.zip"), site.url("good.zip")], tmp_path / "a.zip", SHA)
    assert [name for name, _ in site.log] == [
        "gone.zip",
        "good.zip",
    ]  # a refusal is not asked again
    complaint(
        lambda: fetching.download(
            [site.url("gone.zip"), "http://127.0.0.1:9/b.zip"], tmp_path / "b.zip", SHA
        ),
        "b.zip could not be downloaded",
        "gone.zip (404",
        "refused",
        str(tmp_path / "b.zip"),
    )


def test_without_a_published_checksum_the_first_download_counts(site, tmp_path):
    site.files["a.zip"] = BYTES
    fetching.download([site.url("a.zip")], tmp_path / "a.zip")
    assert (
        ledger(tmp_path)["a.zip"]["sha256"] == SHA
        and "first" in ledger(tmp_path)["a.zip"]["checksum"]
    )
    (tmp_path / "a.zip").write_bytes(b"changed")
    complaint(
        lambda: fetching.download([site.url("a.zip")], tmp_path / "a.zip"),
        tmp_path / "a.zip",
        SHA,
        "delete the file",
    )
    (tmp_path / "a.zip").unlink()
    site.files["a.zip"] = BYTES[:-1]
    complaint(lambda: fetching.download([site.url("a.zip")], tmp_path / "a.zip"), "SHA-256", SHA)


def test_parts_of_two_mirrors_are_never_mixed(site, tmp_path):
    site.files |= {"one.zip": b"1" * 1000, "two.zip": b"2" * 1000}
    site.cut = [500] + [0] * fetching.TRIES
    fetching.download([site.url("one.zip"), site.url("two.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"2" * 1000 and not list(tmp_path.glob("*.part"))


# -- unpack


def make_zip(file, content, link=None):
    with zipfile.ZipFile(file, "w") as z:
        for name, data in content.items():
            z.writestr(name, data)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            z.writestr(entry, "/etc")
    return file


def make_tar(file, content, link=None, kind=tarfile.SYMTYPE):
    with tarfile.open(file, "w:gz") as t:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            t.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = kind, "/etc"
            t.addfile(entry)
    return file


PACK = {"zip": make_zip, "tar": make_tar}


@pytest.mark.parametrize("kind", PACK)
def test_extract_twice_and_only_what_is_asked_for(kind, tmp_path):
    archive = PACK[kind](
        tmp_path / "a", {"d/one.txt": b"1", "d/two.png": b"22", "three.png": b"333"}
    )
    unpacking.extract(archive, tmp_path / "out", r"\.png$")
    stamp = (tmp_path / "out/d/two.png").stat().st_mtime_ns
    unpacking.extract(archive, tmp_path / "out", r"\.png$")
    assert (tmp_path / "out/d/two.png").stat().st_mtime_ns == stamp  # kept, not written again
    assert sorted(f.name for f in (tmp_path / "out").rglob("*") if f.is_file()) == [
        "three.png",
        "two.png",
    ]
    (tmp_path / "out/three.png").write_bytes(b"3")  # a torso from elsewhere
    unpacking.extract(archive, tmp_path / "out", r"\.png$")
    assert (tmp_path / "out/three.png").read_bytes() == b"333"


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize(
    "name", ["../evil", "d/../../evil", "/tmp/semst-evil", "C:/evil", "..\\evil", "\\\\host\\evil"]
)
def test_nothing_is_written_outside_the_folder(kind, name, tmp_path):
    archive = PACK[kind](tmp_path / "a", {"good.png": b"1", name: b"evil"})
    complaint(
        lambda: unpacking.extract(archive, tmp_path / "deep/out"), archive, "outside", "do not use"
    )
    assert [f.name for f in tmp_path.rglob("*")] == ["a"]  # not even the good member
    assert not Path("/tmp/semst-evil").exists()


@pytest.mark.parametrize("kind", PACK)
def test_links_are_refused(kind, tmp_path):
    archive = PACK[kind](tmp_path / "a", {"good.png": b"1"}, link="d")
    complaint(lambda: unpacking.extract(archive, tmp_path / "out"), archive, "'d'", "link")
    assert not (tmp_path / "out").exists()


def test_hard_links_are_refused(tmp_path):
    complaint(
        lambda: unpacking.extract(
            make_tar(tmp_path / "a", {}, link="d", kind=tarfile.LNKTYPE), tmp_path / "out"
        ),
        "link",
    )


def test_damaged_archives_are_one_line(tmp_path):
    whole = make_zip(tmp_path / "a.zip", {"a.png": BYTES}).read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[:5000])
    (tmp_path / "bytes.zip").write_bytes(whole[:3000] + b"\0\0\0\0" + whole[3004:])
    (tmp_path / "no.zip").write_text("<html>please log in</html>")
    for name in ("short.zip", "bytes.zip", "no.zip"):
        archive = tmp_path / name
        complaint(lambda a=archive: unpacking.extract(a, tmp_path / "out"), name, "get it again")
    complaint(lambda: unpacking.extract(tmp_path / "absent.zip", tmp_path / "out"), "no such file")
    assert not list((tmp_path / "out").glob("*.png"))


# -- build and the table


def picture(file, size=(40, 30), colour=(200, 100, 50)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)
    return file


def test_build_goes_on_after_a_stop_and_lists_what_failed(tmp_path, capsys):
    made = []

    def make(name, fail=None):
        def write(path):
            made.append(name)
            if fail:
                raise fail
            Image.new("L", (8, 6)).save(path)

        return write

    plan = {
        "trainA/a.png": make("a"),
        "trainB/b.png": make("b", KeyboardInterrupt()),
        "testA/c.png": make("c"),
    }
    with pytest.raises(KeyboardInterrupt):
        common.build(tmp_path, plan, data="x")
    plan["trainB/b.png"] = make("b", InputError("b.png: broken"))
    complaint(lambda: common.build(tmp_path, plan, data="x"), "1 of 3 files", "b.png: broken")
    plan["trainB/b.png"] = make("b")
    common.build(tmp_path, plan, data="x")
    common.build(tmp_path, plan, data="x")
    assert made == ["a", "b", "b", "c", "b"]
    assert "trainB       1  8x6" in capsys.readouterr().out


def test_build_refuses_a_folder_of_other_data(tmp_path):
    picture(tmp_path / "trainA/other.png")
    plan = {"trainA/a.png": picture(tmp_path / "a.png")}
    complaint(lambda: common.build(tmp_path, plan, data="x"), "other.png", "is not of this data")
    assert not (tmp_path / "trainA/a.png").exists()
    common.build(tmp_path / "new", plan, mode="full")
    complaint(
        lambda: common.build(tmp_path / "new", plan, mode="pairs"),
        "'full'",
        "'pairs'",
        "another folder",
    )
    complaint(lambda: common.build(tmp_path / "a.png", plan), "is a file")


def test_table_names_the_range_of_sizes(tmp_path, capsys):
    for i, size in enumerate([(50, 20), (40, 30), (10, 10)]):
        picture(tmp_path / f"testB/{i}.png", size)
    (tmp_path / "unpacked").mkdir()
    common.table(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "folder  images  pixels",
        "testB        3  10x10 to 40x30",
    ]


def test_label_ids_come_from_the_palette_index(tmp_path):
    image = Image.fromarray(np.array([[7, 26]], np.uint8)).convert("L")
    image.save(tmp_path / "grey.png")
    indexed = image.copy()
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    indexed.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        assert common.label_ids(tmp_path / name, 26).tolist() == [[7, 26]]
    complaint(
        lambda: common.label_ids(tmp_path / "palette.png", 25),
        "palette.png",
        "the id 26",
        "0 to 25",
    )
    indexed.convert("RGB").save(tmp_path / "rgb.png")
    complaint(lambda: common.label_ids(tmp_path / "rgb.png", 255), "rgb.png", "mode RGB")


# -- the scripts

MODULES = dict(
    camvid=camvid,
    carla=carla,
    cityscapes=cityscapes,
    folders=folders,
    gta5=gta5,
    horse2zebra=horse2zebra,
    summer2winter_yosemite=summer2winter_yosemite,
)


def test_every_script_is_tested_here():
    assert SCRIPTS == sorted(MODULES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        MODULES[name].main(["--help"])
    out = capsys.readouterr().out
    assert (
        stop.value.code == 0
        and f"python data_scripts/{name}.py" in out
        and "semst train --source OUT/trainA --target OUT/trainB" in out
    )
    assert max(map(len, out.splitlines())) <= 100


def test_a_mistake_at_the_command_line_is_one_line_and_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["camvid.py", str(tmp_path / "absent"), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "data_scripts/camvid.py"), run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr() == (
        "",
        f"camvid: {tmp_path / 'absent/train/images'}: no such folder; see --help for the layout\n",
    )


def twice(main, *argv, out):
    "Run a script twice: the second time changes nothing. Returns the files by name."
    assert common.run(main, [*argv, out]) == 0
    state = {f: f.stat().st_mtime_ns for f in out.rglob("*") if f.suffix in (".png", ".jpg")}
    assert common.run(main, [*argv, out]) == 0
    assert {
        f: f.stat().st_mtime_ns for f in out.rglob("*") if f.suffix in (".png", ".jpg")
    } == state
    assert UnpairedCrops(out / "trainA", out / "trainB", crop=8, load_size=16)[0][
        "x_src"
    ].shape == (3, 8, 8)  # as `semst train` reads it
    return {f.relative_to(out).as_posix() for f in state}


def pixels(file):
    return np.array(Image.open(file))


@pytest.mark.parametrize(
    "script, name",
    [(horse2zebra, "horse2zebra"), (summer2winter_yosemite, "summer2winter_yosemite")],
)
def test_cyclegan_data(script, name, site, tmp_path, monkeypatch, capsys):
    inner = io.BytesIO()
    Image.new("RGB", (16, 16)).save(inner, "PNG")
    content = {
        f"{name}/{split}/{i}.png": inner.getvalue() for split in cyclegan.SPLITS for i in range(2)
    } | {"__MACOSX/x": b"", f"{name}/README": b""}
    data = make_zip(tmp_path / "z", content).read_bytes()
    site.files[f"{name}.zip"] = data
    monkeypatch.setitem(cyclegan.SHA256, name, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(cyclegan, "MIRRORS", (site.url("{name}.zip"),))
    out = tmp_path / "out"
    assert twice(script.main, out=out) == {
        f"{split}/{i}.png" for split in cyclegan.SPLITS for i in range(2)
    }
    assert len(site.log) == 1 and sorted(f.name for f in out.iterdir()) == sorted(
        [*cyclegan.SPLITS, f"{name}.zip", "checksums.json"]
    )
    (out / f"{name}.zip").unlink()
    assert (
        common.run(script.main, [out]) == 0 and len(site.log) == 1
    )  # the archive is no longer needed
    site.files.clear()
    capsys.readouterr()
    assert common.run(script.main, [tmp_path / "other", "--mirror", site.url("mine.zip")]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(
        "horse2zebra: " if script is horse2zebra else "summer2winter_yosemite: "
    ) and err.index("mine.zip") < err.index("127.0.0.1", err.index("mine.zip"))


def tiny_cityscapes(root, n=(4, 2), size=(64, 32)):
    "Frames in Cityscapes' own layout; every id occurs in every label map."
    for split, count in zip(("train", "val"), n):
        for i in range(count):
            picture(
                root / f"leftImg8bit/{split}/town/town_{i:06}_000019_leftImg8bit.png",
                size,
                (i, 0, 0),
            )
            label = np.resize(np.arange(34, dtype=np.uint8), size[::-1])
            file = root / f"gtFine/{split}/town/town_{i:06}_000019_gtFine_labelIds.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(label).save(file)
            Image.fromarray(label.astype(np.uint16)).save(
                str(file).replace("labelIds", "instanceIds")
            )
    return root


def archives(root):
    "The folders of `root` as zip archives, as one downloads them."
    for folder in [f for f in root.iterdir() if f.is_dir()]:
        with zipfile.ZipFile(root / f"{folder.name}_trainvaltest.zip", "w") as z:
            z.writestr("license.txt", "")
            for f in folder.rglob("*"):
                z.write(f, f.relative_to(root))
                if f.is_file():
                    f.unlink()
        for f in sorted(folder.rglob("*"), reverse=True):
            f.rmdir()
        folder.rmdir()
    return root


def test_cityscapes_ids_and_colours():
    torchvision = pytest.importorskip("torchvision.datasets")
    theirs = {
        c.id: (c.name, None if c.train_id == 255 else c.train_id, c.color)
        for c in torchvision.Cityscapes.classes
        if c.id >= 0
    }
    assert cityscapes.LABELS == theirs and list(cityscapes.LABELS) == list(range(34))
    assert (
        sorted(set(cityscapes.TRAIN_IDS.tolist())) == [*range(19), 255]
        and (cityscapes.TRAIN_IDS[34:] == 255).all()
    )


def test_cityscapes_pairs_from_archives(tmp_path, capsys):
    out = tmp_path / "out"
    files = twice(cityscapes.main, archives(tiny_cityscapes(tmp_path / "c")), out=out)
    shown = {f for f in files if not f.startswith("unpacked")}
    stems = lambda folder: {
        f.split("/")[1].split(".")[0] for f in shown if f.startswith(folder + "/")
    }
    assert stems("trainA") == {"town_000000_000019", "town_000002_000019"} and stems("trainB") == {
        "town_000001_000019",
        "town_000003_000019",
    }
    for folder in ("trainA", "trainB", "testA", "testB"):
        assert stems(folder) == stems(folder + "_labels")
    assert not any("instanceIds" in f for f in files)
    ids = np.array(
        Image.fromarray(np.resize(np.arange(34, dtype=np.uint8), (32, 64))).resize(
            (256, 256), Image.Resampling.NEAREST
        )
    )
    name = "town_000000_000019"
    assert (pixels(out / f"trainA/{name}.png") == cityscapes.COLOURS[ids]).all()
    assert (pixels(out / f"trainA_labels/{name}.png") == cityscapes.TRAIN_IDS[ids]).all()
    with Image.open(out / f"testB/{name}.jpg") as photo:
        assert (
            photo.format == "JPEG"
            and photo.size == (256, 256)
            and all(set(t) == {1} for t in photo.quantization.values())
        )  # quality 100
        assert all(layer[1:3] == (1, 1) for layer in photo.layer)  # 4:4:4
    printed = capsys.readouterr().out
    assert (
        "note: 4 frames in the train split; all of Cityscapes has 2975" in printed
        and "256x256" in printed
    )


def test_cityscapes_full_and_overlap(tmp_path, capsys):
    source, out = tiny_cityscapes(tmp_path / "c"), tmp_path / "out"
    twice(cityscapes.main, source, "--mode", "full", "--overlap", out=out)
    assert len(list_images(out / "trainA")) == len(list_images(out / "trainB")) == 4
    name = "town_000001_000019"
    assert (out / f"trainB/{name}.png").read_bytes() == (
        source / f"leftImg8bit/train/town/{name}_leftImg8bit.png"
    ).read_bytes()
    assert pixels(out / f"trainA/{name}.png").shape == (32, 64, 3)
    capsys.readouterr()
    assert (
        common.run(cityscapes.main, [source, out]) == 2
        and "choose another folder" in capsys.readouterr().err
    )


def test_cityscapes_mistakes(tmp_path, capsys):
    def says(*argv):
        assert common.run(cityscapes.main, [*argv, tmp_path / "out"]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "no such folder" in says(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "neither a folder leftImg8bit nor an archive leftImg8bit*.zip" in says(
        tmp_path / "empty"
    )
    source = tiny_cityscapes(tmp_path / "c")
    (source / "gtFine/val/town/town_000000_000019_gtFine_labelIds.png").unlink()
    assert "1 frames of the val split lack" in says(source)
    make_zip(
        tmp_path / "empty/leftImg8bit_trainvaltest.zip",
        {"../leftImg8bit/train/x_leftImg8bit.png": b""},
    )
    assert "would be written outside" in says(tmp_path / "empty")


def tiny_gta5(root, sizes):
    "Frames in GTA5's own layout: palette images of ids 0..34 whose colours repeat."
    palette = [c for colour in cityscapes.COLOURS.tolist() for c in colour] + [0, 0, 142]
    for i, (image, label) in enumerate(sizes, 1):
        picture(root / f"images/{i:05}.png", image)
        if label is None:
            continue
        ids = Image.fromarray(np.resize(np.arange(35, dtype=np.uint8), label[::-1]))
        ids.putpalette(palette)
        (root / "labels").mkdir(exist_ok=True)
        ids.save(root / f"labels/{i:05}.png")
    return root


def test_gta5(tmp_path, capsys):
    game = tiny_gta5(
        tmp_path / "g",
        [((38, 21), (38, 21)), ((38, 21), (40, 20)), ((38, 21), None), ((40, 20), (40, 20))],
    )
    out, streets = tmp_path / "out", tiny_cityscapes(tmp_path / "c")
    files = twice(gta5.main, game, streets, out=out)
    assert {f for f in files if "A" in f} == {
        f"{folder}/{i:05}.png"
        for folder, i in (("testA", 1), ("testA_labels", 1), ("trainA", 4), ("trainA_labels", 4))
    }
    ids = np.resize(np.arange(35, dtype=np.uint8), (21, 38))
    label = pixels(out / "testA_labels/00001.png")
    assert (label == cityscapes.TRAIN_IDS[ids]).all() and label[0, 34] == 255
    assert (
        sum(f.startswith("trainB/") for f in files) == 4
        and sum(f.startswith("testB_labels/") for f in files) == 2
    )
    assert (
        out / "left_out.txt"
    ).read_text() == "00002.png: picture 38x21, label map 40x20\n00003.png: no label map\n"
    printed = capsys.readouterr().out
    assert "left out 2 frames" in printed and "24966" in printed
    Image.open(game / "labels/00004.png").convert("RGB").save(game / "labels/00004.png")
    assert (
        common.run(gta5.main, [game, streets, tmp_path / "b"]) == 2
        and "00004.png: mode RGB" in capsys.readouterr().err
    )


def test_gta5_from_archives(tmp_path):
    game = tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))] * 3)
    for part, numbers in (("01", (1, 2)), ("02", (3,))):
        for kind in ("images", "labels"):
            with zipfile.ZipFile(game / f"{part}_{kind}.zip", "w") as z:
                for i in numbers:
                    z.write(game / f"{kind}/{i:05}.png", f"{kind}/{i:05}.png")
    for kind in ("images", "labels"):
        (game / kind).rename(tmp_path / kind)
    assert (
        common.run(gta5.main, [game, archives(tiny_cityscapes(tmp_path / "c")), tmp_path / "out"])
        == 0
    )
    assert (
        len(list_images(tmp_path / "out/trainA"))
        == len(list_images(tmp_path / "out/trainA_labels"))
        == 2
    )


def test_one_gta5_frame_in_fifty_is_held_out(tmp_path):
    game, streets = (
        tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))] * 101),
        tiny_cityscapes(tmp_path / "c"),
    )
    assert common.run(gta5.main, [game, streets, tmp_path / "out"]) == 0
    assert [f.stem for f in list_images(tmp_path / "out/testA")] == [
        "00001",
        "00051",
        "00101",
    ] and len(list_images(tmp_path / "out/trainA")) == 98
    dataset = Dataset(tmp_path / "results", "game2photo", PROFILES["paper"], tmp_path / "out")
    assert (
        dataset.has_labels(*dataset.sets) and len(dataset.classes) == 19
    )  # figure 5 can work with it


def test_one_gta5_frame_is_too_few(tmp_path, capsys):
    assert (
        common.run(
            gta5.main,
            [
                tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))]),
                tiny_cityscapes(tmp_path / "c"),
                tmp_path / "out",
            ],
        )
        == 2
    )
    assert "one frame of use is too few" in capsys.readouterr().err


def test_archives_that_lie_where_they_are_unpacked(tmp_path):
    "A stop in the middle of the second archive: the next call does not take what is there for all."
    game, out = tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))] * 3), tmp_path / "out"
    for kind in ("images", "labels"):
        (out / f"unpacked/{kind}").mkdir(parents=True)
        for part in (1, 2, 3):
            with zipfile.ZipFile(out / f"0{part}_{kind}.zip", "w") as z:
                z.write(game / f"{kind}/0000{part}.png", f"{kind}/0000{part}.png")
    shutil.copy(game / "images/00001.png", out / "unpacked/images")
    for _ in range(2):
        assert common.run(gta5.main, [out, tiny_cityscapes(tmp_path / "c"), out]) == 0
    assert len(list_images(out / "trainA")) == 2 and len(list_images(out / "testA")) == 1
    for file in out.glob("*.zip"):
        file.unlink()
    assert (
        common.run(gta5.main, [out, tmp_path / "c", out]) == 0
    )  # archives may go when they are unpacked
    (out / "unpacked/.images is whole").unlink()  # and not before
    assert common.run(gta5.main, [out, tmp_path / "c", out]) == 2


def test_gta5_damaged_label_maps_may_be_mended(tmp_path, capsys):
    game = tiny_gta5(tmp_path / "g", [((380, 210), (380, 210))] * 3)
    file = game / "labels/00002.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    run = lambda: common.run(gta5.main, [game, tiny_cityscapes(tmp_path / "c"), tmp_path / "out"])
    assert run() == 0 and "00002.png: cannot be decoded" in capsys.readouterr().out
    assert not (tmp_path / "out/trainA_labels/00002.png").exists()
    file.write_bytes(whole)
    assert run() == 0 and (tmp_path / "out/trainA_labels/00002.png").exists()


def tiny_camvid(root, counts=(5, 2, 3)):
    for split, count in zip(("train", "val", "test"), counts):
        for i in range(count):
            picture(root / split / f"images/{split}_{i}.jpg", (24, 18))
            (root / split / "labels").mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.resize(np.arange(12, dtype=np.uint8), (18, 24))).save(
                root / split / f"labels/{split}_{i}.png"
            )
    return root


def test_camvid(tmp_path, capsys):
    source, out = tiny_camvid(tmp_path / "c"), tmp_path / "out"
    files = twice(camvid.main, source, out=out)
    count = lambda folder: sum(f.startswith(folder + "/") for f in files)
    assert [count(f) for f in ("trainA", "trainB", "valA", "valB", "testA", "testB")] == [
        3,
        2,
        2,
        2,
        3,
        3,
    ]
    assert (out / "trainB/train_1.jpg").read_bytes() == (
        source / "train/images/train_1.jpg"
    ).read_bytes() and not (out / "trainB/train_0.jpg").exists()
    ids = np.resize(np.arange(12, dtype=np.uint8), (18, 24))
    assert (pixels(out / "testA_labels/test_0.png") == np.where(ids == 11, 255, ids)).all()
    assert (pixels(out / "testA/test_0.png") == camvid.COLOURS[ids]).all()
    Image.fromarray(np.full((18, 24), 12, np.uint8)).save(source / "val/labels/val_0.png")
    capsys.readouterr()
    assert (
        common.run(camvid.main, [source, tmp_path / "b"]) == 2
        and "val_0.png: holds the id 12" in capsys.readouterr().err.splitlines()[-1]
    )
    (source / "test/images/test_2.jpg").unlink()
    assert (
        common.run(camvid.main, [source, tmp_path / "b"]) == 2
        and "test_2.png: has no photograph" in capsys.readouterr().err
    )


def test_camvid_with_noise(tmp_path, capsys):
    "Every scale adds its share; photographs, labels and folders without noise stay as they are."
    source, out = tiny_camvid(tmp_path / "c"), tmp_path / "out"
    flat = np.full((64, 64), 4, np.uint8)  # pavement: (0, 0, 192), so blue can go both ways
    Image.fromarray(flat).save(source / "test/labels/test_0.png")
    Image.new("RGB", (64, 64)).save(source / "test/images/test_0.jpg")
    twice(camvid.main, source, "--noise", "8", out=out)
    blue = pixels(out / "testA/test_0.png")[..., 2].astype(float)
    assert abs(blue.mean() - 192) < 4 and 8 < blue.std() < 8 * 3**0.5 + 1
    blocks = lambda side: blue.reshape(64 // side, side, 64 // side, side).mean((1, 3))
    assert blocks(16).std() > 4  # the coarse scale; the others leave about 1
    assert (
        blocks(4).reshape(4, 4, 4, 4).std((1, 3)).mean()
    ) > 5  # the middle one, inside the coarse one's cells; the others leave about 4
    assert (
        blue.reshape(16, 4, 16, 4).std((1, 3)).mean()
    ) > 6  # the fine one, inside the middle one's cells
    assert not (
        pixels(out / "testA/test_1.png") == pixels(out / "testA/test_2.png")
    ).all()  # the name decides
    assert (pixels(out / "testA_labels/test_0.png") == 4).all() and (
        out / "testB/test_0.jpg"
    ).read_bytes() == (source / "test/images/test_0.jpg").read_bytes()
    capsys.readouterr()
    assert (
        common.run(camvid.main, [source, out]) == 2
        and "choose another folder" in capsys.readouterr().err
    )
    assert (
        common.run(camvid.main, [source, tmp_path / "b", "--noise", "-1"]) == 2
        and "--noise -1.0" in capsys.readouterr().err
    )


def test_camvid_speaks_as_the_benchmark_does():
    assert camvid.CLASSES == (*CLASSES, "void")
    assert (camvid.COLOURS[:11] == PALETTE).all()


def test_carla(tmp_path, capsys):
    source, out = tmp_path / "carla", tmp_path / "out"
    for i in range(3):
        picture(source / f"images/{i}.jpg", (80, 60))
    picture(source / "labelled/Town_1_img.jpg", (29, 4))
    Image.fromarray(np.resize(np.arange(29, dtype=np.uint8), (4, 29))).save(
        source / "labelled/Town_1_labelIds.png"
    )
    files = twice(carla.main, source, tiny_camvid(tmp_path / "c"), out=out)
    assert {"testA/Town_1.jpg", "testA_labels/Town_1.png"} <= files and sum(
        f.startswith("trainB/") for f in files
    ) == 5
    V = 255
    assert pixels(out / "testA_labels/Town_1.png")[0].tolist() == [
        V,
        3,
        4,
        1,
        1,
        7,
        2,
        6,
        6,
        5,
        V,
        0,
        9,
        10,
        8,
        8,
        8,
        8,
        10,
        10,
        V,
        V,
        V,
        V,
        3,
        V,
        1,
        V,
        7,
    ]
    (source / "labelled/Town_1_img.jpg").unlink()
    capsys.readouterr()
    assert (
        common.run(carla.main, [source, tmp_path / "c", tmp_path / "b"]) == 2
        and "Town_1_labelIds.png: has no picture Town_1_img.jpg" in capsys.readouterr().err
    )


def test_folders(tmp_path, capsys):
    for i in range(20):
        picture(tmp_path / f"a/sub/{i}.png")
        picture(tmp_path / f"b/{i}.jpg", (10, 10))
    files = twice(folders.main, tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    count = lambda folder: sum(f.startswith(folder + "/") for f in files)
    assert [count(f) for f in ("trainA", "trainB", "testA", "testB")] == [18, 18, 2, 2]
    assert {Path(f).name for f in files if "A/sub/" in f} == {f"{i}.png" for i in range(20)}
    name = next(f for f in files if f.startswith("testA/"))
    original = tmp_path / "a/sub" / Path(name).name
    assert not os.path.samefile(tmp_path / "out" / name, original)  # a copy
    before = original.read_bytes()
    (tmp_path / "out" / name).write_bytes(b"edited in place")
    assert original.read_bytes() == before
    linked = tmp_path / "linked"
    assert common.run(folders.main, [tmp_path / "a", tmp_path / "b", linked, "--link"]) == 0
    assert os.path.samefile(linked / name, original)
    first = folders.split(tmp_path / "a", 0.25)
    assert first == folders.split(tmp_path / "a", 0.25) and len(first["test"]) == 5
    whole = picture(tmp_path / "b/broken.jpg", (200, 200)).read_bytes()
    (tmp_path / "b/broken.jpg").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()

    def says(*argv):
        assert common.run(folders.main, argv) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert (
        "1 of 41 files could not be made"
        in (said := says(tmp_path / "a", tmp_path / "b", tmp_path / "new", "--test", 0))
        and "broken.jpg" in said
    )
    assert "--test 1.0" in says(tmp_path / "a", tmp_path / "b", tmp_path / "x", "--test", 1)
    assert "one holds the other" in says(tmp_path / "a", tmp_path / "a/sub", tmp_path / "x")
    assert "choose one outside" in says(tmp_path / "a", tmp_path / "b", tmp_path / "a/out")
    picture(tmp_path / "one/x.png")
    assert "too few" in says(tmp_path / "one", tmp_path / "b", tmp_path / "x")


# -- the real thing, where it is at hand


def real(name):
    if not (SHARED / "data" / name).is_dir():
        pytest.skip(f"no copy of {name} here (photographs are kept outside the project)")
    return SHARED / "data" / name


def test_real_cityscapes(tmp_path):
    mini, source = real("cityscapes_mini"), tmp_path / "c"
    for i, photo in enumerate(sorted((mini / "leftImg8bit_train").iterdir())[:3]):
        name, split = photo.name.removesuffix("_leftImg8bit.png"), "val" if i == 2 else "train"
        for kind, file in (
            ("leftImg8bit", photo),
            ("gtFine", mini / f"gtFine_labelIds_train/{name}_gtFine_labelIds.png"),
        ):
            (source / kind / split / "aachen").mkdir(parents=True, exist_ok=True)
            (source / kind / split / "aachen" / file.name).symlink_to(file)
    out = tmp_path / "out"
    assert common.run(cityscapes.main, [source, out]) == 0
    label, colour = (
        pixels(next((out / "testA_labels").iterdir())),
        pixels(next((out / "testA").iterdir())),
    )
    assert (
        {0, 8, 10, 13} <= set(np.unique(label)) <= {*range(19), 255}
    )  # road, vegetation, sky, car
    assert (colour[label == 0] == (128, 64, 128)).all() and (label == 0)[200:].mean() > 0.2 > (
        label == 0
    )[:80].mean()


def test_real_camvid():
    pairs = camvid.frames(real("camvid"), "test")[::40]
    ids = np.stack([pixels(label) for _, label in pairs])
    rows = np.broadcast_to(np.linspace(0, 1, ids.shape[1])[:, None], ids.shape[1:])
    height = {
        name: rows[None].repeat(len(ids), 0)[ids == i].mean()
        for i, name in enumerate(camvid.CLASSES[:6])
    }
    assert (
        height["sky"] < height["building"] < height["pavement"] < height["road"]
        and height["tree"] < height["road"]
    )  # 0 is the top
    light = np.stack([np.array(Image.open(photo).convert("L")) for photo, _ in pairs])
    assert (
        light[ids == 0].mean() > 1.5 * light[ids == 3].mean()
    )  # the sky is brighter than the road
    assert set(np.unique(np.array(camvid.ids(pairs[0][1])))) <= {*range(11), 255}


def test_real_carla():
    image, label = carla.labelled(real("carla"))[0]
    ids, photo = np.array(carla.camvid_ids(label)), pixels(image).astype(float)
    assert photo.shape[:2] == ids.shape and set(np.unique(ids)) <= {*range(11), 255}
    rows = np.nonzero(ids == 3)[0].mean(), np.nonzero(ids == 0)[0].mean()
    assert rows[0] > 0.6 * len(ids) and rows[1] < 0.4 * len(ids) and 0.5 < (ids != 255).mean() < 1


def test_parts_of_gta5_in_folders_of_their_own_are_not_taken_for_all(tmp_path, capsys):
    game, streets = tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))] * 3), tiny_cityscapes(tmp_path)
    for part in ("01_images", "02_images"):
        shutil.copytree(game / "images", tmp_path / f"parts/{part}/images")
    shutil.copytree(game / "labels", tmp_path / "parts/labels")
    assert common.run(gta5.main, [tmp_path / "parts", streets, tmp_path / "out"]) == 2
    said = capsys.readouterr().err
    assert "has 2 folders images" in said and "02_images" in said and "into one" in said
    shutil.rmtree(tmp_path / "parts/02_images")                  # and what a Mac leaves is no part
    (tmp_path / "parts/__MACOSX/images").mkdir(parents=True)
    assert common.run(gta5.main, [tmp_path / "parts", streets, tmp_path / "out"]) == 0


def test_a_damaged_gta5_frame_is_left_out(tmp_path):
    game, streets = tiny_gta5(tmp_path / "g", [((38, 21), (38, 21))] * 6), tiny_cityscapes(tmp_path)
    for name in ("images/00002.png", "labels/00003.png"):
        (game / name).write_bytes((game / name).read_bytes()[:-40])
    for name in ("images/00004.png", "labels/00005.png"):
        (game / name).write_bytes(b"")
    out = tmp_path / "out"
    assert common.run(gta5.main, [game, streets, out]) == 0
    listed = (out / "left_out.txt").read_text().splitlines()
    assert [line[:11] for line in listed] == [f"0000{i}.png: " for i in (2, 3, 4, 5)]
    assert {f.stem for name in ("trainA", "testA") for f in list_images(out / name)} == {
        "00001", "00006"}


def test_the_video_archive_of_cityscapes_is_not_unpacked(tmp_path):
    streets, out = archives(tiny_cityscapes(tmp_path / "c")), tmp_path / "out"
    with zipfile.ZipFile(streets / "leftImg8bit_sequence_trainvaltest.zip", "w") as z:
        z.writestr("leftImg8bit_sequence/train/town/town_000000_000018_leftImg8bit.png", b"x" * 99)
    assert common.run(cityscapes.main, [streets, out]) == 0
    assert not (out / "unpacked/leftImg8bit_sequence").exists()


def test_camvid_as_segnet_s_tutorial_has_it(tmp_path):
    source, theirs = tiny_camvid(tmp_path / "c"), tmp_path / "t"
    for split in ("train", "val", "test"):
        shutil.copytree(source / split / "images", theirs / split)
        shutil.copytree(source / split / "labels", theirs / f"{split}annot")
    for place, out in ((source, "a"), (theirs, "b")):
        assert common.run(camvid.main, [place, tmp_path / out]) == 0
    found = [sorted(f.relative_to(tmp_path / out) for f in (tmp_path / out).rglob("*.png"))
             for out in "ab"]
    assert found[0] == found[1] != []


def test_names_that_windows_forbids():
    name = "testA/2010-09-07 12:23:20.jpg"
    assert unpacking.local_name(name, windows=True) == "testA/2010-09-07 12_23_20.jpg"
    assert unpacking.local_name(name, windows=False) == name
