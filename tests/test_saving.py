"A result keeps what its input had, or says what its format cannot hold; and it is whole."
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from pictures_by_hand import noise

from semst.files import InputError
from semst.images import read_picture
from semst.pictures import Picture
from semst.saving import WRITERS, result_name, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixels(channels=3, dtype=np.uint8, size=(24, 17)):
    dice = np.random.default_rng(0)
    return dice.integers(0, np.iinfo(dtype).max, (*size, channels), dtype=dtype, endpoint=True)


def picture(channels=3, dtype=np.uint8, alpha=False, **kwargs):
    white = int(np.iinfo(dtype).max)
    both = pixels(channels + alpha, dtype)
    both[..., -1] = np.maximum(both[..., -1], 1) if alpha else both[..., -1]
    return Picture(both[..., :channels], white, both[..., -1] if alpha else None,
                   grey=channels == 1, **kwargs)


LOSSLESS = [".png", ".tif", ".webp", ".bmp", ".jp2", ".tga", ".ppm"]


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_eight_bit_colour_comes_back(tmp_path, suffix):
    wanted = picture()
    assert write_picture(tmp_path / f"a{suffix}", wanted, quality=100) == ()
    assert np.array_equal(read_picture(tmp_path / f"a{suffix}").pixels, wanted.pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif", ".tga"])
def test_alpha_is_kept(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    wanted = picture(alpha=True)
    assert write_picture(tmp_path / f"a{suffix}", wanted, quality=100) == ()
    back = read_picture(tmp_path / f"a{suffix}")
    assert np.abs(back.alpha.astype(int) - wanted.alpha).max() <= (4 if suffix == ".avif" else 0)
    if suffix != ".avif":
        assert np.array_equal(back.pixels, wanted.pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_where_alpha_is_not_held_it_is_laid_on_white_and_said(tmp_path, suffix):
    wanted = picture(alpha=True)
    notes = write_picture(tmp_path / f"a{suffix}", wanted, quality=100)
    assert len(notes) == 1 and "has no alpha; the picture is laid on white" in notes[0]
    off = read_picture(tmp_path / f"a{suffix}").pixels.astype(int) - wanted.flat()
    assert np.abs(off).mean() < 2


@pytest.mark.parametrize("suffix", LOSSLESS + [".jpg"])
def test_grey_stays_grey(tmp_path, suffix):
    one = pixels(1)
    result = Picture(one.repeat(3, -1), grey=True)        # as a model of three channels gives it
    write_picture(tmp_path / f"a{suffix}", result, quality=100)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == ("RGB" if suffix == ".webp" else "L")         # WebP has no grey
    back = read_picture(tmp_path / f"a{suffix}", None)
    assert np.abs(back.pixels[..., :1].astype(int) - one).max() <= (3 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels, alpha", [(1, False), (1, True), (3, False), (3, True)])
def test_16_bits_are_kept(tmp_path, suffix, channels, alpha):
    if channels > 1 or alpha:
        pytest.importorskip("imagecodecs")
        pytest.importorskip("tifffile")
    wanted = picture(channels, np.uint16, alpha, profile=SRGB)
    assert write_picture(tmp_path / f"a{suffix}", wanted) == ()
    back = read_picture(tmp_path / f"a{suffix}", channels)
    assert back.pixels.dtype == np.uint16 and np.array_equal(back.pixels, wanted.pixels)
    assert (back.alpha is None) == (not alpha)
    if alpha:
        assert np.array_equal(back.alpha, wanted.alpha)
    assert back.notes == ()


def test_12_bits_go_back_as_12_bits(tmp_path):
    levels = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "in.png")
    original = read_picture(tmp_path / "in.png", white=4095)
    write_picture(tmp_path / "out.png", original)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), levels)


def test_where_16_bits_are_not_held_that_is_said(tmp_path):
    assert write_picture(tmp_path / "a.jpg", picture(1, np.uint16)) == ("JPEG has 8 bits",)
    assert write_picture(tmp_path / "a.webp", picture(3, np.uint16)) == ("WEBP has 8 bits",)


@pytest.mark.parametrize("channels", [2, 4, 5, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_many_channels_go_into_tiff(tmp_path, channels, dtype):
    pytest.importorskip("tifffile")
    wanted = picture(channels, dtype)
    write_picture(tmp_path / "a.tif", wanted)
    assert np.array_equal(read_picture(tmp_path / "a.tif", channels).pixels, wanted.pixels)
    if channels > 4:
        with pytest.raises(InputError, match=f"PNG cannot hold {channels} channels; name it .tif"):
            write_picture(tmp_path / "a.png", wanted)
    with pytest.raises(InputError, match=f"JPEG cannot hold {channels} channels"):
        write_picture(tmp_path / "a.jpg", wanted)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_profile_and_resolution_are_kept(tmp_path, suffix):
    wanted = picture(profile=SRGB, dpi=(300, 150))
    write_picture(tmp_path / f"a{suffix}", wanted)
    back = read_picture(tmp_path / f"a{suffix}")
    assert back.profile == SRGB
    if suffix != ".webp":
        assert np.allclose(back.dpi, (300, 150), atol=0.1)


def test_a_deep_png_keeps_the_resolution(tmp_path):
    write_picture(tmp_path / "a.png", picture(3, np.uint16, dpi=(300, 150)))
    with Image.open(tmp_path / "a.png") as image:
        assert np.allclose(image.info["dpi"], (300, 150), atol=0.1)


GEO = {33550: (10.0, 10.0, 0.0), 33922: (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0),
       34735: (1, 1, 0, 1, 1024, 0, 1, 1), 34737: "UTM zone 11|", 42113: "0"}


@pytest.mark.parametrize("channels, dtype", [(3, np.uint8), (1, np.uint16), (3, np.uint16),
                                             (5, np.uint8)])
def test_geotiff_tags_are_kept(tmp_path, channels, dtype):
    pytest.importorskip("tifffile")
    write_picture(tmp_path / "a.tif", picture(channels, dtype, tags=GEO))
    back = read_picture(tmp_path / "a.tif", channels)
    assert {code: value for code, value in back.tags.items()} == GEO
    write_picture(tmp_path / "b.tif", back)
    assert read_picture(tmp_path / "b.tif", channels).tags == GEO


def test_tags_that_a_format_cannot_hold_are_said(tmp_path):
    notes = write_picture(tmp_path / "a.png", picture(tags=GEO))
    assert notes == ("PNG has no place for its GeoTIFF tags",)


def test_jpeg_keeps_the_resolution_of_colours(tmp_path):
    write_picture(tmp_path / "a.jpg", picture())
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)        # 4:4:4
    small, large = (tmp_path / name for name in ("small.jpg", "large.jpg"))
    write_picture(small, picture(), quality=50)
    write_picture(large, picture(), quality=95)
    assert small.stat().st_size < large.stat().st_size


# ---- mistakes, and files that stand in the way

def test_a_suffix_that_is_not_written_is_named(tmp_path):
    for name in ("a.psd", "a.gif", "a.txt", "a"):
        with pytest.raises(InputError, match="pictures are written as .png"):
            write_picture(tmp_path / name, picture())
    assert not list(tmp_path.iterdir())
    assert result_name(Path("sub/a.psd")) == Path("sub/a.psd.png")
    assert result_name(Path("sub/a.JPG")) == Path("sub/a.JPG")
    assert set(WRITERS.values()) <= set(Image.SAVE) | {"AVIF"}


@pytest.mark.parametrize("suffix, side", [(".jpg", 65_501), (".webp", 16_384)])
def test_a_picture_too_large_for_its_format_leaves_the_earlier_result(tmp_path, suffix, side):
    path = tmp_path / f"a{suffix}"
    write_picture(path, picture())
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"a{suffix}: cannot be written as"):
        write_picture(path, Picture(np.zeros((1, side, 3), np.uint8)))
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == [path.name]


def test_inputs_are_not_written_through_links(tmp_path):
    noise(24, 17).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    for name, link in (("hard.png", os.link), ("soft.png", os.symlink)):
        link(tmp_path / "photo.png", tmp_path / name)
        write_picture(tmp_path / name, picture())
        assert (tmp_path / "photo.png").read_bytes() == before
        assert np.array_equal(read_picture(tmp_path / name).pixels, picture().pixels)


def test_long_and_odd_names(tmp_path):
    names = ["x" * 251 + ".png", "a b'c\".png", "Zürich 東京.png", "-rf.png"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"caf\xe9.png"))
    for name in names:
        write_picture(tmp_path / name, picture())
        assert np.array_equal(read_picture(tmp_path / name).pixels, picture().pixels)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r'a.tif: .*pip install "semst\[tiff\]"'):
        write_picture(tmp_path / "a.tif", picture(5))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="kills by a signal")
def test_a_kill_leaves_the_earlier_result(tmp_path):
    "Killed at 5 moments while large pictures are written one after another."
    code = """
import sys, numpy as np
from pathlib import Path
from semst.pictures import Picture
from semst.saving import write_picture
pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
print("ready", flush=True)
while True:
    for suffix in (".png", ".jpg"):
        write_picture(Path(sys.argv[1]) / f"a{suffix}", Picture(pixels))
"""
    for moment in range(5):
        command = [sys.executable, "-c", code, str(tmp_path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.readline()
        try:
            child.wait(timeout=0.01 + 0.11 * moment)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        for file in tmp_path.glob("a.*"):
            assert read_picture(file).size == (600, 600)


def test_a_result_replaces_only_its_pixels(tmp_path):
    original = picture(profile=SRGB, dpi=(72, 72), alpha=True)
    result = replace(original, pixels=255 - original.pixels)
    write_picture(tmp_path / "a.png", result)
    back = read_picture(tmp_path / "a.png")
    assert np.array_equal(back.pixels, result.pixels) and np.array_equal(back.alpha, original.alpha)
    assert back.profile == SRGB
