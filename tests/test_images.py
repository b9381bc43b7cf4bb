"Files of every kind become pictures with all that they say, or one clear complaint."
import gc
import os
import random
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features
from pictures_by_hand import noise, png, tiff

from semst.files import InputError
from semst.images import (
    IMAGE_SUFFIXES,
    image_suffixes,
    load_image,
    open_image,
    picture_of,
    read_picture,
    readable_formats,
)
from semst.pictures import Picture
from semst.saving import write_picture

LEVELS = np.arange(256, dtype=np.uint8)
RAMP = np.tile(LEVELS, (4, 1))
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], -1)


def complaint(f, path, *args, **kwargs):
    "The message of the InputError that f raises; it must begin with the path and be one line."
    with pytest.raises(InputError) as caught:
        f(path, *args, **kwargs)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message, message
    return message


def on_white(pixels, alpha):
    mixed = pixels * alpha[..., None].astype(int) + 255 * (255 - alpha[..., None].astype(int))
    return ((mixed + 127) // 255).astype(np.uint8)


# ---- kinds of files

def convertible():
    grey, deep = Image.fromarray(RAMP), RAMP.astype(np.uint16) * 257
    colour = Image.fromarray(COLOUR)
    palette = grey.copy()
    palette.putpalette(COLOUR[0].tobytes())
    glass = Image.merge("RGBA", (*colour.split(), grey))
    on_glass = Image.fromarray(on_white(COLOUR, RAMP))
    yield "grey.png", grey, {}, grey
    yield "bilevel.png", grey.point(lambda v: 255 * (v > 7), "1"), {}, grey.point(
        lambda v: 255 * (v > 7))
    yield "deep.png", Image.fromarray(deep), {}, grey
    yield "deep.tif", Image.fromarray(deep), {}, grey
    yield "deep_lzw.tif", Image.fromarray(deep), {"compression": "tiff_lzw"}, grey
    big_endian = Image.frombytes("I;16B", (256, 4), deep.astype(">u2").tobytes())
    yield "deep_big_endian.tif", big_endian, {}, grey
    yield "deep.pgm", Image.fromarray(deep), {}, grey
    on_grey = Image.fromarray(on_white(np.stack([RAMP], -1), RAMP)[..., 0])
    yield "grey_alpha.png", Image.merge("LA", (grey, grey)), {}, on_grey
    yield "alpha.png", glass, {}, on_glass
    yield "alpha.tif", glass, {}, on_glass
    yield "alpha.webp", glass, {"lossless": True, "exact": True}, on_glass
    yield "palette.png", palette, {}, colour
    yield "palette_alpha.png", palette, {"transparency": bytes(range(256))}, on_glass
    yield "key.png", colour, {"transparency": (9, 246, 4)}, Image.fromarray(
        np.where((COLOUR == (9, 246, 4)).all(-1, keepdims=True), 255, COLOUR).astype(np.uint8))
    yield "palette.bmp", palette, {}, colour
    yield "photo.qoi", colour, {}, colour
    yield "photo.tga", colour, {}, colour
    yield "photo.ppm", colour, {}, colour
    yield "photo.jp2", colour, {}, colour
    yield "still.gif", palette, {}, colour


@pytest.mark.parametrize("case", list(convertible()), ids=lambda case: case[0])
def test_convertible_kinds_are_exact_and_silent(tmp_path, case):
    name, picture, options, wanted = case
    if name.endswith("qoi") and "QOI" not in Image.SAVE:
        pytest.skip("this Pillow does not write QOI")
    picture.save(tmp_path / name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / name)
    assert loaded.mode == "RGB"
    assert np.array_equal(np.asarray(loaded), np.asarray(wanted.convert("RGB")))


@pytest.mark.parametrize("name, mode", [("cmyk.jpg", "CMYK"), ("grey.jpg", "L"), ("lab.tif", "LAB"),
                                        ("ycbcr.jpg", "YCbCr")])
@pytest.mark.filterwarnings("ignore:.*is converted to RGB")
def test_lossy_kinds_are_close(tmp_path, name, mode):
    smooth = Image.fromarray(np.stack([np.tile(LEVELS, (64, 1))] * 3, -1))
    smooth.convert(mode).save(tmp_path / name, **({} if name.endswith("tif") else {"quality": 95}))
    off = np.asarray(load_image(tmp_path / name), dtype=int) - np.asarray(smooth, dtype=int)
    assert np.abs(off).max() <= 4


@pytest.mark.parametrize("name, several", [("a.gif", True), ("a.webp", True), ("a.tif", True),
                                           ("a.png", True)])
def test_of_several_frames_the_first_is_used_and_that_is_said(tmp_path, name, several):
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(UserWarning, match=f"{name}: has several frames; the first is used"):
        assert np.asarray(load_image(tmp_path / name)).max() == 10


def test_what_is_converted_is_said(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "print.tif")
    assert read_picture(tmp_path / "print.tif").notes == ("CMYK is converted to RGB",)
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 1).notes == ("is in colour; its luminance is used",)
    assert read_picture(tmp_path / "a.png").notes == ()


# ---- depth

@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_every_16_bit_level_is_kept_and_goes_to_the_nearest_of_256(tmp_path, name):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(deep).save(tmp_path / name)
    picture = read_picture(tmp_path / name, channels=None)
    assert picture.white == 65535 and np.array_equal(picture.pixels[..., 0], deep) and picture.grey
    got = np.asarray(load_image(tmp_path / name), dtype=float)[..., 0].ravel()
    assert np.abs(got - np.arange(65536) / 257).max() < 0.5


@pytest.mark.parametrize("colour_type, channels, has_alpha", [(2, 3, 0), (6, 4, 1), (4, 2, 1)],
                         ids=["RGB", "RGBA", "grey and alpha"])
def test_16_bit_colour_png_keeps_its_depth(tmp_path, colour_type, channels, has_alpha):
    deep = np.random.default_rng(0).integers(1, 65536, (7, 9, channels), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(deep, colour_type))
    picture = read_picture(tmp_path / "a.png", channels=None)
    assert np.array_equal(picture.pixels, deep[..., :channels - has_alpha])
    assert (picture.alpha is not None) == has_alpha
    if has_alpha:
        assert np.array_equal(picture.alpha, deep[..., -1])


def test_16_bit_colour_tiff_keeps_its_depth(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    deep = np.random.default_rng(0).integers(0, 65536, (7, 9, 3), dtype=np.uint16)
    for name, options in (("a.tif", {}), ("z.tif", dict(compression="zlib")),
                          ("p.tif", dict(planarconfig="separate"))):
        pixels = np.moveaxis(deep, -1, 0) if "planarconfig" in options else deep
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", **options)
        picture = read_picture(tmp_path / name)
        assert np.array_equal(picture.pixels, deep) and picture.white == 65535


def test_16_bit_colour_tiff_without_tifffile_has_8_bits_and_says_so(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    deep = np.full((7, 9, 3), 40 * 257, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.pixels == 40).all() and picture.white == 255
    assert "8 of its 16 bits are used" in picture.notes[0] and "semst[tiff]" in picture.notes[0]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_a_16_bit_file_are_noticed(tmp_path, bits):
    white = 2**bits - 1
    levels = np.linspace(0, white, 256).round().astype(np.uint16)
    Image.fromarray(np.tile(levels, (4, 1))).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=f"brightest value is {white} of 65535.*white={white}"):
        load_image(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = np.asarray(load_image(tmp_path / "a.png", white=white))
    assert np.abs(loaded[0, :, 0].astype(int) - LEVELS).max() == 0


def test_brighter_than_white_is_cut_and_said(tmp_path):
    Image.fromarray(np.array([[0, 4095, 5000]], np.uint16)).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png", white=4095)
    assert picture.pixels[0, :, 0].tolist() == [0, 4095, 4095]
    assert picture.notes == ("values up to 5000 are cut to white=4095",)
    assert "must lie between" in complaint(read_picture, tmp_path / "a.png", white=0)


@pytest.mark.parametrize("options", [dict(bits=12), dict(photometric=0), dict(sample_format=2)],
                         ids=["12 bits", "white is zero", "signed"])
def test_16_bit_tiff_with_another_range_is_refused(tmp_path, options):
    deep = np.tile(LEVELS.astype(np.uint16) * 257, (4, 1))
    (tmp_path / "plain.tif").write_bytes(tiff(deep))
    assert np.array_equal(np.asarray(load_image(tmp_path / "plain.tif"))[..., 0], RAMP)
    (tmp_path / "odd.tif").write_bytes(tiff(deep, **options))
    assert "no known range" in complaint(load_image, tmp_path / "odd.tif")


def test_signed_8_bit_tiff_is_refused(tmp_path):
    (tmp_path / "plain.tif").write_bytes(tiff(RAMP, bits=8))
    assert np.array_equal(np.asarray(load_image(tmp_path / "plain.tif"))[..., 0], RAMP)
    (tmp_path / "odd.tif").write_bytes(tiff(RAMP, bits=8, sample_format=2))
    assert "no known range" in complaint(load_image, tmp_path / "odd.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_float_and_32_bit_pixels_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((4, 4), dtype=dtype)).save(tmp_path / "a.tif")
    assert "no known range" in complaint(load_image, tmp_path / "a.tif")


# ---- channels

@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_of_a_tiff(tmp_path, channels, dtype):
    tifffile = pytest.importorskip("tifffile")
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (6, 7, channels), dtype=dtype, endpoint=True)
    photometric = "rgb" if channels == 3 else "minisblack"
    extra = dict(extrasamples=["unspecified"] * (channels - 1)) if photometric != "rgb" else {}
    shaped = pixels[..., 0] if channels == 1 else pixels
    tifffile.imwrite(tmp_path / "a.tif", shaped, photometric=photometric, planarconfig="contig",
                     **(extra if channels > 1 else {}))
    picture = read_picture(tmp_path / "a.tif", channels)
    assert np.array_equal(picture.pixels, pixels) and picture.white == top
    for other in {2, 4, 5, 6} - {channels}:
        message = complaint(read_picture, tmp_path / "a.tif", other)
        assert f"{channels} channels" in message and f"{other} are wanted" in message


def test_five_channels_are_not_three(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((8, 8, 5), np.uint8), photometric="minisblack",
                     planarconfig="contig")
    message = complaint(load_image, tmp_path / "five.tif")
    assert "has 5 channels where 3 are wanted" in message and "in_channels=5" in message


def test_five_channels_without_tifffile_name_the_package(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((8, 8, 5), np.uint8), photometric="minisblack",
                     planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert 'pip install "semst[tiff]"' in complaint(load_image, tmp_path / "five.tif")


def test_alpha_is_a_channel_where_four_are_wanted(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    four = read_picture(tmp_path / "a.png", 4)
    assert four.alpha is None and np.array_equal(four.pixels[1:], pixels[1:])
    three = read_picture(tmp_path / "a.png", 3)
    assert np.array_equal(three.alpha, pixels[..., 3])
    assert three.pixels[0, 0].tolist() == [255, 255, 255]              # hidden colour is not seen
    assert np.array_equal(three.pixels[1:][pixels[1:, :, 3] > 0],
                          pixels[1:, :, :3][pixels[1:, :, 3] > 0])


def test_grey_is_known_to_be_grey(tmp_path):
    for mode, wanted in (("L", True), ("1", True), ("LA", True), ("I;16", True), ("RGB", False)):
        image = Image.new(mode, (4, 4), 0) if mode != "I;16" else Image.fromarray(
            np.zeros((4, 4), np.uint16))
        image.save(tmp_path / "a.png")
        picture = read_picture(tmp_path / "a.png")
        assert picture.grey == wanted and picture.channels == 3


def test_a_grey_palette_with_transparency_is_grey(tmp_path):
    palette = Image.fromarray(RAMP).convert("P")
    palette.save(tmp_path / "a.png", transparency=bytes(range(255, -1, -1)))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
    picture = read_picture(tmp_path / "a.png")
    assert picture.grey and picture.alpha is not None and picture.alpha.min() == 0
    palette.putpalette(COLOUR[0].tobytes())
    palette.save(tmp_path / "a.png", transparency=bytes(range(255, -1, -1)))
    assert not read_picture(tmp_path / "a.png").grey


# ---- orientation, profile, resolution, tags

@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation, suffix):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("white", (0, 0, 16, 16))                       # a bright corner at the upper left
    turn = Image.Transpose
    undo = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
            5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert loaded.size == (48, 32)
    off = np.asarray(loaded, dtype=int) - np.asarray(upright, dtype=int)
    assert np.abs(off).mean() < 4
    with Image.open(tmp_path / f"a.{suffix}") as image:          # from Python, the same
        assert np.array_equal(picture_of(image).flat(), np.asarray(loaded))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_of_deep_pictures(tmp_path, orientation):
    tifffile = pytest.importorskip("tifffile")
    small, deep = tmp_path / "small.tif", tmp_path / "deep.tif"
    pixels = noise(6, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels.save(small, exif=exif)
    tifffile.imwrite(deep, np.asarray(pixels).astype(np.uint16) * 257, photometric="rgb",
                     extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read_picture(deep).flat(), read_picture(small).flat())


def test_a_garbled_exif_block_does_not_spoil_a_picture(tmp_path):
    noise(8, 8).save(tmp_path / "a.png", exif=b"Exif\0\0garbage that is no TIFF header")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), np.asarray(noise(8, 8)))


def wide_profile():
    "A profile in which the red and the green of sRGB change places: easy to see, and not sRGB."
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red:red + 4], data[green:green + 4] = b"gXYZ", b"rXYZ"
    for text in ("sRGB", "s\0R\0G\0B\0", "\0s\0R\0G\0B"):
        data = data.replace(text.encode(), bytes(len(text)).replace(b"\0", b"x"))
    return bytes(data)


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without colour management")
@pytest.mark.parametrize("suffix, options", [("png", {}), ("tif", {}), ("webp", {"lossless": True}),
                                             ("jpg", {"quality": 95, "subsampling": 0})])
def test_a_profile_is_converted_to_srgb(tmp_path, suffix, options):
    profile = wide_profile()
    flat = Image.new("RGB", (16, 16), (200, 40, 90))
    flat.save(tmp_path / f"a.{suffix}", icc_profile=profile, **options)
    picture = read_picture(tmp_path / f"a.{suffix}")
    assert np.abs(picture.pixels[8, 8].astype(int) - (40, 200, 90)).max() <= 4
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert len(picture.profile) == len(srgb)
    alpha = Image.new("L", (16, 16), 128)
    flat.putalpha(alpha)
    if suffix != "jpg":
        flat.save(tmp_path / f"b.{suffix}", icc_profile=profile, **options)
        again = read_picture(tmp_path / f"b.{suffix}")
        assert np.array_equal(again.pixels, picture.pixels) and (again.alpha == 128).all()


def test_an_srgb_profile_changes_no_bit(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise(20, 20).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.asarray(noise(20, 20))) and picture.profile == profile


def test_a_damaged_profile_is_said_and_left_out(tmp_path):
    noise(20, 20).save(tmp_path / "a.png", icc_profile=b"no profile at all" * 20)
    picture = read_picture(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, np.asarray(noise(20, 20))) and picture.profile is None
    assert "its colour profile is left out" in picture.notes[0]


def test_resolution_is_known(tmp_path):
    for suffix in ("png", "jpg", "tif", "bmp"):
        noise(8, 8).save(tmp_path / f"a.{suffix}", dpi=(300, 150))
        assert np.allclose(read_picture(tmp_path / f"a.{suffix}").dpi, (300, 150), atol=0.1)


# ---- from Python

def test_arrays_and_images_are_pictures_too():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for source in (deep, Image.fromarray(deep)):
        picture = picture_of(source)
        assert picture.grey and np.array_equal(picture.pixels[..., 1], deep)
    glass = np.random.default_rng(0).integers(1, 256, (5, 6, 4), dtype=np.uint8)
    for source in (glass, Image.fromarray(glass)):
        picture = picture_of(source)
        assert np.array_equal(picture.alpha, glass[..., 3])
        assert np.array_equal(picture.pixels, glass[..., :3])
        assert np.array_equal(picture_of(source, 4).pixels, glass)
    for odd in (np.zeros((4, 4)), np.zeros((1, 3, 4, 4), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(InputError, match="^the array: "):
            picture_of(odd)
    with pytest.raises(InputError, match="^the image: its pixels have no known range"):
        picture_of(Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(InputError, match="^the array: has 5 channels where 3"):
        picture_of(np.zeros((4, 4, 5), np.uint8))


# ---- what cannot be read

@pytest.mark.parametrize("content", [b"", b"plain text", b"<html>404</html>", b"\x89PNG\r\n\x1a\n",
                                     b"\xff\xd8\xff\xe0\0\x10JF", b"RIFF"])
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "cannot be read as an image" in complaint(load_image, tmp_path / "a.png")


def test_the_beginning_of_a_tiff_is_a_complaint(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0")
    complaint(load_image, tmp_path / "a.tif")


def test_missing_file_folder_and_pipe(tmp_path):
    assert "no such file" in complaint(load_image, tmp_path / "gone.png")
    assert "is a folder" in complaint(load_image, tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "p.png")
        assert "a pipe" in complaint(load_image, tmp_path / "p.png")
        assert "a pipe" in complaint(open_image, tmp_path / "p.png")


@pytest.mark.parametrize("suffix, options", [
    ("png", {}), ("jpg", {}), ("bmp", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}),
    ("webp", {}), ("gif", {}), ("qoi", {}), ("tga", {}), ("ppm", {}), ("jp2", {}), ("avif", {})])
@pytest.mark.filterwarnings("ignore::UserWarning")           # Pillow remarks on a TIFF's directory
def test_truncated_files(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    noise(64, 64).save(path, **options)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    complaint(load_image, path)


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_gives_a_picture_or_a_complaint(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)    # a damaged size must not cost memory
    dice = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [("png", {"exif": exif}), ("jpg", {"exif": exif}), ("tif", {"exif": exif}),
             ("tif", {"compression": "tiff_adobe_deflate"}), ("bmp", {}), ("webp", {"exif": exif}),
             ("gif", {}), ("qoi", {}), ("tga", {}), ("ppm", {}), ("jp2", {}), ("pcx", {}),
             ("dds", {})]
    for suffix, options in kinds:
        path = tmp_path / f"a.{suffix}"
        noise(20, 16).save(path, **options)
        whole = path.read_bytes()
        for _ in range(100):
            content = bytearray(whole)
            for _ in range(dice.randint(1, 4)):
                content[dice.randrange(min(len(content), 300))] = dice.randrange(256)
            path.write_bytes(bytes(content))
            try:
                assert load_image(path).mode == "RGB"
            except InputError as e:
                assert str(e).startswith(str(path))


@pytest.mark.filterwarnings("ignore")
def test_damage_in_a_tiff_of_five_channels_gives_a_picture_or_a_complaint(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    dice, path = random.Random(0), tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 16, 5), np.uint8), photometric="minisblack",
                     planarconfig="contig")
    whole = path.read_bytes()
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(min(len(content), 400))] = dice.randrange(256)
        path.write_bytes(bytes(content[:dice.choice([len(content), 900, 300])]))
        try:
            assert read_picture(path, 5).channels == 5
        except InputError as e:
            assert str(e).startswith(str(path))


def test_silent_damage_is_a_complaint_and_can_be_passed_over(tmp_path):
    noise(64, 64).save(tmp_path / "a.jpg", quality=95)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    middle = len(data) // 2
    data[middle:middle + 600] = bytes(600)
    (tmp_path / "a.jpg").write_bytes(data)
    assert "a part of it is zeros" in complaint(load_image, tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg", check=False).channels == 3


@pytest.mark.parametrize("side", [10_000, 14_000], ids=["Pillow warns", "Pillow refuses"])
def test_huge_images_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png(np.zeros((1, 1)), 0, bits=8, size=(side, side)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 89478485 pixels" in complaint(open_image, tmp_path / "a.png")
        assert "more than 89478485 pixels" in complaint(load_image, tmp_path / "a.png")


def test_a_tiff_that_claims_to_be_gigantic_costs_no_memory(tmp_path):
    data = bytearray(tiff(np.zeros((4, 4), np.uint8), bits=8))
    for tag in (256, 257):
        place = data.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0")
        data[place + 8:place + 12] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    code = ("import resource, sys; from semst.images import load_image; "
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try: load_image(sys.argv[1])\n"
            "except ValueError as e: print(e)\n"
            "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)")
    if sys.platform != "linux":
        pytest.skip("counts memory as Linux does")
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True,
                         text=True, check=True).stdout.splitlines()
    assert "more than" in out[0] and int(out[1]) < 50                   # MiB


def test_a_huge_file_is_not_read(tmp_path):
    noise(8, 8).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "r+b") as file:
        file.truncate(2**33)                                            # sparse
    assert "has 8589934592 bytes, more than" in complaint(load_image, tmp_path / "a.png")


def test_the_limit_on_pixels_can_be_raised(tmp_path, monkeypatch):
    noise(40, 40).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than 1000 pixels" in complaint(load_image, tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(tmp_path / "a.png").size == (40, 40)


def test_an_oversized_text_chunk_is_a_complaint(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("xmp", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    noise(8, 8).save(tmp_path / "a.png", pnginfo=info)
    complaint(load_image, tmp_path / "a.png")


# ---- safety

def test_no_other_program_is_started(tmp_path, monkeypatch):
    "A PostScript file starts Ghostscript in Pillow."
    def started(*args, **kwargs):
        raise AssertionError("a program was started")
    for name in ("Popen", "run", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    assert "cannot be read as an image" in complaint(load_image, tmp_path / "x.png")


def test_formats_that_need_a_program_or_have_no_range_are_not_read():
    unsafe = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "FITS", "SPIDER", "ICO", "ICNS"}
    assert not unsafe & set(readable_formats())
    assert {"PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM"} <= set(readable_formats())
    usual = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"}
    assert usual <= set(IMAGE_SUFFIXES)
    assert not {".eps", ".pdf", ".ico"} & set(IMAGE_SUFFIXES)


def test_files_are_closed(tmp_path):
    noise(8, 8).save(tmp_path / "a.bmp")
    (tmp_path / "b.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:100])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_image(tmp_path / "a.bmp")
        complaint(load_image, tmp_path / "b.bmp")
        gc.collect()
    assert not [w for w in seen if issubclass(w.category, ResourceWarning)]


def test_threads_leave_the_filters_of_warnings_alone(tmp_path):
    noise(8, 8).save(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [load_image(tmp_path / "a.png") for _ in range(50)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


@pytest.mark.parametrize("suffix, options", [("png", {}), ("jpg", {"quality": 90})])
def test_reading_costs_little_more_than_decoding(tmp_path, suffix, options):
    "Without the search for damage, as in a training, which has searched before."
    smooth = noise(64, 64).resize((512, 512), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / f"a.{suffix}", **options)

    def fastest(f):
        times = []
        for _ in range(15):
            start = time.process_time()
            f()
            times.append(time.process_time() - start)
        return min(times)

    def decode():
        with Image.open(tmp_path / f"a.{suffix}") as image:
            np.asarray(image.convert("RGB"))
    ours = fastest(lambda: read_picture(tmp_path / f"a.{suffix}", check=False).flat())
    assert ours < 2 * fastest(decode) + 0.001


def test_a_broken_profile_costs_a_deep_picture_nothing(tmp_path):
    pytest.importorskip("imagecodecs")
    write_picture(tmp_path / "a.png", Picture(
        np.full((8, 8, 3), 40_000, np.uint16), white=65535, profile=b"no profile"))
    picture = read_picture(tmp_path / "a.png")
    assert picture.white == 65535 and "its colour profile is kept" in picture.notes[-1]


def test_the_first_picture_of_an_mpo_is_read(tmp_path):
    first, second = (Image.new("RGB", (32, 24), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    assert ".mpo" in image_suffixes()
    pixels = read_picture(tmp_path / "a.mpo").pixels
    assert pixels.shape == (24, 32, 3) and pixels[..., 0].min() > 240
