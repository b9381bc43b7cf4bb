"All that lies in a folder is found once, named if it cannot be used, and looked at only once."
import os
import re
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pictures_by_hand import noise

from semst import folders
from semst.files import InputError
from semst.folders import (
    Look,
    contact_sheet,
    duplicates,
    find_images,
    list_images,
    look_at,
    look_at_all,
    other_types,
    report,
    stamp_of,
)


def complaint(f, path):
    with pytest.raises(InputError) as caught:
        f(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    return str(caught.value)


def names(found, root):
    return [f.relative_to(root).as_posix() for f in found]


# ---- finding

def test_list_images_sorts_searches_subfolders_and_skips_hidden(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/d.tiff", "e.webp", "._b.png", ".cache/f.png", "notes.txt",
                 "png", "a/g.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    wanted = ["a/c.jpeg", "a/d.tiff", "a/g.gif", "b.PNG", "e.webp"]
    assert names(list_images(tmp_path), tmp_path) == wanted
    found = find_images(tmp_path)
    assert found.others == {".txt": 1, "no suffix": 1}
    assert other_types(found) == "2 files of other types left out: 1 .txt, 1 no suffix"


def test_a_hidden_folder_above_the_one_asked_for_does_not_matter(tmp_path):
    folder = tmp_path / ".data" / "horses"
    folder.mkdir(parents=True)
    noise(8, 8).save(folder / "a.png")
    assert len(list_images(folder)) == 1


def test_missing_empty_and_no_folder(tmp_path):
    assert "no such folder" in complaint(list_images, tmp_path / "nowhere")
    assert "no images in it (it is empty" in complaint(list_images, tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert "1 file of other types left out: 1 .mp4" in complaint(list_images, tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert "a folder of images is needed" in complaint(list_images, tmp_path / "a.png")


def test_linked_folders_are_followed_once_and_without_loops(tmp_path):
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    noise(8, 8).save(tmp_path / "here" / "a.png")
    noise(8, 8).save(tmp_path / "here" / "sub" / "b.png")
    noise(8, 8).save(tmp_path / "elsewhere" / "deep" / "c.png")
    here = tmp_path / "here"
    (here / "more").symlink_to(tmp_path / "elsewhere")
    (here / "again").symlink_to(tmp_path / "elsewhere")          # the same folder twice
    (here / "loop").symlink_to(here)
    (here / "sub" / "up").symlink_to("..")
    (here / "a_sub").symlink_to("sub")                           # before the real one by name
    (tmp_path / "elsewhere" / "back").symlink_to(here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(list_images(here), here) == ["a.png", "again/deep/c.png", "sub/b.png"]
    (tmp_path / "door").symlink_to(here)
    assert len(list_images(tmp_path / "door")) == 3


def test_what_cannot_be_read_is_named(tmp_path):
    noise(8, 8).save(tmp_path / "a.png")
    (tmp_path / "lost.png").symlink_to("nowhere.png")
    (tmp_path / "lost folder").symlink_to("nowhere")
    wanted = {f"{tmp_path / 'lost.png'} (a link to nothing)",
              f"{tmp_path / 'lost folder'} (a link to nothing)"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        wanted.add(f"{tmp_path / 'pipe.png'} (a device or a pipe)")
    assert set(find_images(tmp_path).left_out) == wanted
    with pytest.warns(UserWarning, match="left out: .*a link to nothing") as caught:
        assert names(list_images(tmp_path), tmp_path) == ["a.png"]
    assert len(caught) == 1


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    noise(8, 8).save(tmp_path / "a.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return real(path)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match=r"secret \(Permission denied\)"):
        assert len(list_images(tmp_path)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_names_that_are_no_utf8_are_found_and_read(tmp_path):
    odd = os.fsdecode(b"caf\xe9.png")
    noise(8, 8).save(tmp_path / odd)
    noise(8, 8).save(tmp_path / "東京.png")
    assert names(list_images(tmp_path), tmp_path) == sorted([odd, "東京.png"])
    assert not [look for look in look_at_all(list_images(tmp_path)).values() if look.problem]
    assert contact_sheet(list_images(tmp_path)).size[1] > 0
    report([tmp_path])


# ---- looking

def test_a_look_says_what_a_file_holds(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    noise(9, 7, channels=4).save(tmp_path / "alpha.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "flat.png")
    (tmp_path / "page.jpg").write_text("<html>")
    deep, alpha, flat, page = (look_at(tmp_path / name) for name in
                               ("deep.png", "alpha.png", "flat.png", "page.jpg"))
    assert (deep.kind, deep.size) == ("grey, 16 bits", (8, 8))
    assert (alpha.kind, alpha.size) == ("3 channels, 8 bits, alpha", (9, 7))
    assert flat.notes == ("is one flat colour",) and flat.size == (40, 30)
    assert page.problem.startswith(f"{tmp_path / 'page.jpg'}: cannot be read as an image")
    assert page.stamp[0] == 6


@pytest.fixture
def cached(tmp_path, monkeypatch):
    "Four pictures, and a cache that is used from two files on."
    monkeypatch.setattr(folders, "CACHED_FROM", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for i in range(4):
        noise(8, 8, seed=i).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"broken")
    return tmp_path


def counted(monkeypatch):
    seen, real = Counter(), folders.look_at

    def count(file, *args):
        seen[file.name] += 1
        return real(file, *args)
    monkeypatch.setattr(folders, "look_at", count)
    return seen


def test_files_are_looked_at_once_until_they_change(cached, monkeypatch):
    seen = counted(monkeypatch)
    files = list_images(cached / "images")
    first = look_at_all(files)
    assert sorted(seen) == ["0.png", "1.png", "2.png", "3.png"]
    assert look_at_all(files) == first and seen == {"0.png": 1, "1.png": 1, "2.png": 1, "3.png": 2}
    noise(8, 8, seed=9).save(files[1])
    os.utime(files[1], ns=(1, time.time_ns() + 10**9))
    assert list(look_at_all(files)) == files
    assert seen == {"0.png": 1, "1.png": 2, "2.png": 1, "3.png": 3}
    look_at_all(files, channels=1)                              # another question, another answer
    assert seen.total() == 11


def test_a_refused_picture_is_looked_at_again(cached, monkeypatch):
    files = list_images(cached / "images")
    with monkeypatch.context() as small:
        small.setattr(Image, "MAX_IMAGE_PIXELS", 32)
        assert all(look.problem for look in look_at_all(files).values())
    assert [file.name for file, look in look_at_all(files).items() if look.problem] == ["3.png"]


def test_a_note_on_a_missing_package_is_not_remembered(cached, monkeypatch):
    def without_package(file, *_):
        return Look(stamp_of(file), (8, 8), "", ('8 of its 16 bits are used (pip install "x")',))

    files = list_images(cached / "images")
    with monkeypatch.context() as bare:
        bare.setattr(folders, "look_at", without_package)
        look_at_all(files)
    assert not any(look.notes for look in look_at_all(files).values())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 5}', '{"a": [1]}',
                                     '{"a": [[1],2,3,4,5]}'])
def test_a_damaged_cache_is_looked_past(cached, monkeypatch, content):
    files = list_images(cached / "images")
    first = look_at_all(files)
    cache = next((cached / "cache" / "semst").iterdir())
    cache.write_text(content)
    assert look_at_all(files) == first
    seen = counted(monkeypatch)
    assert look_at_all(files) == first and seen == {"3.png": 1}


def test_a_home_that_cannot_be_written_costs_nothing_but_time(cached, monkeypatch):
    (cached / "cache").write_text("a file in the way")
    assert len(look_at_all(list_images(cached / "images"))) == 4


def test_few_files_leave_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    noise(8, 8).save(tmp_path / "images" / "a.png")
    look_at_all(list_images(tmp_path / "images"))
    assert not (tmp_path / "cache").exists()


# ---- the report

def test_the_same_file_twice(tmp_path):
    for name, seed in (("a.bmp", 0), ("b.bmp", 1), ("c.bmp", 0), ("d.bmp", 0)):
        noise(8, 8, seed=seed).save(tmp_path / name)
    assert [names(group, tmp_path) for group in duplicates(list_images(tmp_path))] == [
        ["a.bmp", "c.bmp", "d.bmp"]]


def test_two_folders_beside_each_other(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        noise(40, 36).save(tmp_path / folder / "0.png")
    noise(20, 36).save(tmp_path / "a" / "1.png")
    noise(40, 36).save(tmp_path / "b" / "1.png")
    (tmp_path / "b" / "2.png").write_text("broken")
    (tmp_path / "b" / "notes.txt").write_text("words")
    Image.new("L", (40, 36)).save(tmp_path / "b" / "3.png")
    lines = report([tmp_path / "a", tmp_path / "b"], crop=32).splitlines()
    rows = {line[0]: line[1:] for line in (re.split(r"\s{2,}", line) for line in lines)}
    assert rows["images"] == ["2", "3"] and rows["unreadable"] == ["0", "1"]
    assert rows["pixels"] == ["20x36 to 40x36", "40x36 to 40x36"]
    assert rows["below 32 pixels"] == ["1", "0"]
    assert rows["same file twice"] == ["0", "1"]
    assert rows["kinds"] == ["2 3 channels, 8 bits", "2 3 channels, 8 bits; 1 grey, 8 bits"]
    assert rows["notes"] == ["-", "1: is one flat colour"]
    assert rows["left out"] == ["-", "1 file of other types left out: 1 .txt"]


def test_a_contact_sheet_shows_what_is_there_and_crosses_what_is_not(tmp_path):
    Image.new("RGB", (50, 30), (0, 0, 255)).save(tmp_path / "blue.png")
    (tmp_path / "bad.png").write_text("broken")
    sheet = np.asarray(contact_sheet(list_images(tmp_path), columns=2, rows=1, side=64))
    assert sheet.shape == (78, 128, 3)
    assert (sheet[:, 64:] == (0, 0, 255)).all(-1).sum() == 50 * 30
    assert (sheet[:, :64] == (255, 0, 0)).all(-1).sum() > 64
    assert contact_sheet([]).size[0] > 0
