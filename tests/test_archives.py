"Archives that are damaged or made to do harm: one line that names them, or exactly their content."
import bz2
import gzip
import io
import lzma
import os
import random
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from conftest import ROOT

from semst.files import InputError

sys.path.insert(0, str(ROOT / "data_scripts"))
import fetching  # noqa: E402
import unpacking  # noqa: E402

NOISE = np.random.default_rng(0).bytes(3000)
CONTENT = {"d/one.png": NOISE, "d/two.png": b"2" * 5000, "three.png": NOISE[:700]}
ZIP = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2,
       "lzma": zipfile.ZIP_LZMA}
TAR = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}


def packed(kind, content=CONTENT):
    "The bytes of an archive."
    file = io.BytesIO()
    if kind in ZIP:
        with zipfile.ZipFile(file, "w", ZIP[kind]) as pack:
            for name, data in content.items():
                pack.writestr(zipfile.ZipInfo(name), data, ZIP[kind])
    else:
        with tarfile.open(fileobj=file, mode=TAR[kind]) as pack:
            for name, data in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                pack.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def unpacked(tmp_path, data, number=0):
    "What comes out, by name; None if the archive is refused. Nothing may land outside."
    archive, out = tmp_path / "a.archive", tmp_path / f"deep{number}" / "out"
    archive.write_bytes(data)
    try:
        unpacking.extract(archive, out)
    except InputError as e:
        assert str(e).startswith(str(archive)) and "\n" not in str(e)
        return None
    finally:
        outside = [f for f in tmp_path.rglob("*") if f.is_file() and out not in f.parents]
        assert [f for f in outside if "out" not in f.parts] == [archive]
    return {f.relative_to(out).as_posix(): f.read_bytes() for f in out.rglob("*") if f.is_file()}


@pytest.mark.parametrize("kind", [*ZIP, *TAR])
def test_a_whole_archive_comes_out_whole(tmp_path, kind):
    assert unpacked(tmp_path, packed(kind)) == CONTENT


@pytest.mark.parametrize("kind", [*ZIP, *TAR])
def test_damage_is_named_or_does_no_harm(tmp_path, kind):
    "Bytes changed, cut off, or zeroed: refused, or what is there is right."
    dice, whole, refused = random.Random(kind), packed(kind), 0
    for trial in range(50):
        data = bytearray(whole)
        if trial % 3 == 0:
            del data[dice.randrange(1, len(data)):]
        elif trial % 3 == 1:
            start = dice.randrange(len(data) - 300)
            data[start:start + 300] = bytes(300)
        else:
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        found = unpacked(tmp_path, bytes(data), trial)
        refused += found is None
        if found is not None and kind != "tar":            # plain tar has no checksum of content
            for name, content in found.items():
                assert content in (CONTENT.get(name), *CONTENT.values()), name
    assert refused >= 15


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_damage_in_the_middle_of_a_packed_tar_is_never_silent(tmp_path, kind):
    dice, whole = random.Random(0), packed(kind)
    for trial in range(60):
        data = bytearray(whole)
        data[dice.randrange(20, len(data) - 20)] ^= 1 << dice.randrange(8)
        assert unpacked(tmp_path, bytes(data), trial) in (None, CONTENT)


def test_a_damaged_header_in_the_middle_of_a_tar_is_named(tmp_path):
    "tarfile takes it for the end, and the rest would be missing without a word."
    plain = bytearray(packed("tar"))
    second = plain.index(b"d/two.png")
    plain[second + 150] ^= 0xFF                            # the header's own checksum
    for data in (bytes(plain), gzip.compress(plain), bz2.compress(plain), lzma.compress(plain)):
        assert unpacked(tmp_path, data) is None


ODD = ["", ".", "./", "/", "..", "a/..", "../a", "a/../../b", "/etc/semst-evil", "C:evil",
       "C:\\evil", "\\evil", "..\\evil", "\\\\host\\share\\evil", "a\\..\\..\\evil"]


@pytest.mark.parametrize("kind", ["stored", "tar"])
@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused_or_stay_inside(tmp_path, kind, name):
    found = unpacked(tmp_path, packed(kind, {"good.png": b"1", name: b"evil"}))
    assert found is None or set(found) <= {"good.png"}


@pytest.mark.parametrize("name", ["a\0b.png", "\0", "x" * 300, "caf\udce9.png", "a\nb.png",
                                  "-rf.png", "$(touch x).png", "<script>.png"])
def test_strange_names_do_no_harm(tmp_path, name):
    try:
        data = packed("tar", {name: b"1"})
        found = unpacked(tmp_path, data)
        assert found is None or len(found) == 1
    except OSError as e:
        assert e.errno is not None                         # too long for this disk


def test_a_zip_whose_names_hold_a_zero_byte(tmp_path):
    data = packed("stored", {"aXb.png": b"1"}).replace(b"aXb.png", b"a\0b.png")
    found = unpacked(tmp_path, data)
    assert found is None or set(found) <= {"a", "a\0b.png"}


DEVICES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]


@pytest.mark.parametrize("kind", DEVICES)
def test_links_and_devices_are_refused(tmp_path, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as pack:
        entry = tarfile.TarInfo("d")
        entry.type, entry.linkname = kind, "/etc"
        pack.addfile(entry)
    assert unpacked(tmp_path, file.getvalue()) is None


def test_a_link_that_lies_in_the_folder_already_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a.zip").write_bytes(packed("stored"))
    with pytest.raises(InputError, match="a link leads out of"):
        unpacking.extract(tmp_path / "a.zip", tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_two_members_where_one_needs_the_other_as_a_folder(tmp_path):
    (tmp_path / "a.zip").write_bytes(packed("stored", {"a": b"1", "a/b.png": b"2"}))
    with pytest.raises((InputError, OSError)):
        unpacking.extract(tmp_path / "a.zip", tmp_path / "out")


# ---- archives that expand without end

def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
    bomb = packed("deflated", {"zeros.png": bytes(2**24)})
    assert len(bomb) < 2**15 and unpacked(tmp_path, bomb) is None
    assert not (tmp_path / "deep0").exists()
    monkeypatch.setattr(unpacking, "FREE_BYTES", 2**25)
    assert len(unpacked(tmp_path, bomb)["zeros.png"]) == 2**24


@pytest.mark.parametrize("claim", [10, 4999, 5001])
def test_a_member_is_as_long_as_it_claims_or_refused(tmp_path, claim):
    "The size in the directory is a lie."
    data = bytearray(packed("deflated", {"two.png": b"2" * 5000}))
    place = data.index(b"PK\1\2") + 24
    assert int.from_bytes(data[place:place + 4], "little") == 5000
    data[place:place + 4] = claim.to_bytes(4, "little")
    assert unpacked(tmp_path, bytes(data)) is None
    assert not [f for f in tmp_path.rglob("*.png")]


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MOST_MEMBERS", 10)
    for kind in ("stored", "tar"):
        assert unpacked(tmp_path, packed(kind, {f"{i}.png": b"" for i in range(11)})) is None


def test_a_password_is_named(tmp_path):
    data = bytearray(packed("stored"))
    for sign, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = -1
        while (place := data.find(sign, place + 1)) >= 0:
            data[place + offset] |= 1                      # "is encrypted"
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="a.zip: cannot be unpacked .*password"):
        unpacking.extract(tmp_path / "a.zip", tmp_path / "out")


def test_a_disk_that_fails_is_no_damage_of_the_archive(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(packed("stored"))

    def full(*args):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        unpacking.extract(tmp_path / "a.zip", tmp_path / "out")
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]


# ---- addresses

@pytest.mark.parametrize("url, pinned, fine", [
    ("https://example.org/a.zip", False, True), ("https://example.org/a.zip", True, True),
    ("http://example.org/a.zip", True, True), ("http://example.org/a.zip", False, False),
    ("http://127.0.0.1:8000/a.zip", False, True), ("ftp://example.org/a.zip", True, False),
    ("file:///etc/passwd", True, False), ("/etc/passwd", False, False)])
def test_bytes_are_vouched_for_by_tls_or_by_a_checksum(url, pinned, fine):
    if fine:
        fetching.check_address(url, pinned)
    else:
        with pytest.raises(InputError, match="only https is safe"):
            fetching.check_address(url, pinned)


def test_an_unsafe_address_is_not_asked(tmp_path):
    with pytest.raises(InputError, match="only https is safe.*put the file at"):
        fetching.download(["http://example.invalid/a.zip"], tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())
