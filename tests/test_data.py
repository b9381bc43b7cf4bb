"Files of every kind become 8-bit RGB or one clear complaint, and a sample depends on nothing but its number and the seed."
import gc
import pickle
import random
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch.utils.data import DataLoader

from semst.data import (InputError, UnpairedCrops, grey_to_8_bits, list_images, load_image, open_image, random_crop, resize_image, rng,
                        shuffled, to_image, to_tensor)
from semst.model import ModelConfig
from semst.trainer import TrainConfig, new_critic

LEVELS = np.arange(256, dtype=np.uint8)


def noise(w, h, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


def png(pixels, colour_type, *, bits=16, size=None, extra=b""):
    "A PNG written by hand, for what Pillow cannot write: 16-bit colour, and sizes that are a lie."
    def chunk(tag, body): return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    h, w = size or pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour_type, 0, 0, 0)) + extra
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def tiff(pixels, *, bits=16, photometric=1, sample_format=1):
    "A grey TIFF written by hand: any depth, white or black as zero, signed or not."
    h, w = pixels.shape
    body = pixels.tobytes()
    tags = [(256, 4, w), (257, 4, h), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8 + 2 + 10 * 12 + 4), (277, 3, 1), (278, 4, h),
            (279, 4, len(body)), (339, 3, sample_format)]
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
            + struct.pack("<I", 0) + body)


def complaint(f, path):
    "The message of the InputError that f(path) raises; it must begin with the path and be one line."
    with pytest.raises(InputError) as caught: f(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message, message
    return message


@pytest.fixture
def folders(tmp_path):
    for name, n in (("source", 5), ("target", 3)):
        (tmp_path / name).mkdir()
        for i in range(n): noise(40 + i, 36, seed=i).save(tmp_path / name / f"{i}.png")
    return tmp_path / "source", tmp_path / "target"


# ---- files

def test_list_images_sorts_searches_subfolders_and_skips_hidden(tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/d.tiff", "e.webp", "._b.png", ".cache/f.png", "notes.txt", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [f.relative_to(tmp_path).as_posix() for f in list_images(tmp_path)] == ["a/c.jpeg", "a/d.tiff", "b.PNG", "e.webp"]


def test_a_hidden_folder_above_the_one_asked_for_does_not_matter(tmp_path):
    folder = tmp_path / ".data" / "horses"
    folder.mkdir(parents=True)
    noise(8, 8).save(folder / "a.png")
    assert len(list_images(folder)) == 1


def test_missing_empty_and_no_folder(tmp_path):
    assert "no such folder" in complaint(list_images, tmp_path / "nowhere")
    assert "no images in it" in complaint(list_images, tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    assert "a folder of images is needed" in complaint(list_images, tmp_path / "a.png")


def convertible(tmp_path):
    ramp = np.tile(LEVELS, (4, 1))
    grey, deep = Image.fromarray(ramp), ramp.astype(np.uint16) * 257
    colour = Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], -1))
    palette = grey.copy()
    palette.putpalette(np.asarray(colour)[0].tobytes())
    yield "grey.png", grey, {}, grey
    yield "bilevel.png", grey.point(lambda v: 255 * (v > 7), "1"), {}, grey.point(lambda v: 255 * (v > 7))
    yield "deep.png", Image.fromarray(deep), {}, grey
    yield "deep.tif", Image.fromarray(deep), {}, grey
    yield "deep_lzw.tif", Image.fromarray(deep), {"compression": "tiff_lzw"}, grey
    yield "deep_big_endian.tif", Image.frombytes("I;16B", (256, 4), deep.astype(">u2").tobytes()), {}, grey
    yield "grey_alpha.png", Image.merge("LA", (grey, grey)), {}, grey
    yield "alpha.png", Image.merge("RGBA", (*colour.split(), grey)), {}, colour
    yield "alpha.webp", Image.merge("RGBA", (*colour.split(), grey)), {"lossless": True, "exact": True}, colour
    yield "palette.png", palette, {}, colour
    yield "palette_alpha.png", palette, {"transparency": bytes(range(256))}, colour
    yield "palette.bmp", palette, {}, colour
    yield "cmyk.tif", colour.convert("CMYK"), {}, colour
    yield "first_frame.webp", colour, {"lossless": True, "save_all": True, "append_images": [grey.convert("RGB")]}, colour
    yield "first_page.tif", colour, {"save_all": True, "append_images": [grey.convert("RGB")]}, colour


@pytest.mark.parametrize("case", list(convertible(None)), ids=lambda case: case[0])
def test_convertible_kinds_are_exact_and_silent(tmp_path, case):
    name, picture, options, wanted = case
    picture.save(tmp_path / name, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / name)
    assert loaded.mode == "RGB"
    assert np.array_equal(np.asarray(loaded), np.asarray(wanted.convert("RGB")))


@pytest.mark.parametrize("name", ["cmyk.jpg", "grey.jpg", "lab.tif", "ycbcr.jpg"])
def test_lossy_kinds_are_close(tmp_path, name):
    mode = {"cmyk.jpg": "CMYK", "grey.jpg": "L", "lab.tif": "LAB", "ycbcr.jpg": "YCbCr"}[name]
    smooth = Image.fromarray(np.stack([np.tile(LEVELS, (64, 1))] * 3, -1))
    smooth.convert(mode).save(tmp_path / name, **({} if name.endswith("tif") else {"quality": 95}))
    off = np.asarray(load_image(tmp_path / name), dtype=int) - np.asarray(smooth, dtype=int)
    assert np.abs(off).max() <= 4


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_every_16_bit_level_goes_to_the_nearest_of_256(tmp_path, name):
    Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)).save(tmp_path / name)
    got = np.asarray(load_image(tmp_path / name), dtype=float)[..., 0].ravel()
    assert np.abs(got - np.arange(65536) / 257).max() < 0.5


def test_16_bit_as_32_bit_integers_is_the_same():
    "Older Pillow opens a 16-bit PNG in mode I."
    deep = np.arange(65536).reshape(256, 256)
    assert grey_to_8_bits(Image.fromarray(deep.astype(np.int32))).tobytes() == grey_to_8_bits(Image.fromarray(deep.astype(np.uint16))).tobytes()


@pytest.mark.parametrize("colour_type, channels", [(2, 3), (6, 4), (4, 2)], ids=["RGB", "RGBA", "grey and alpha"])
def test_16_bit_colour_png(tmp_path, colour_type, channels):
    deep = np.tile(LEVELS.astype(np.uint16) * 257, (4, 1))
    (tmp_path / "a.png").write_bytes(png(np.stack([deep] * channels, -1), colour_type))
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png"))[..., 0], np.tile(LEVELS, (4, 1)))


@pytest.mark.parametrize("options", [dict(bits=12), dict(photometric=0), dict(sample_format=2)], ids=["12 bits", "white is zero", "signed"])
def test_16_bit_tiff_with_another_range_is_refused(tmp_path, options):
    deep = np.tile(LEVELS.astype(np.uint16) * 257, (4, 1))
    (tmp_path / "plain.tif").write_bytes(tiff(deep))
    assert np.array_equal(np.asarray(load_image(tmp_path / "plain.tif"))[..., 0], np.tile(LEVELS, (4, 1)))
    (tmp_path / "odd.tif").write_bytes(tiff(deep, **options))
    assert "no known range" in complaint(load_image, tmp_path / "odd.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_float_and_32_bit_pixels_are_refused(tmp_path, dtype):
    Image.fromarray(np.ones((4, 4), dtype=dtype)).save(tmp_path / "a.tif")
    assert "no known range" in complaint(load_image, tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation, suffix):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("white", (0, 0, 16, 16))                                      # a bright corner at the upper left
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert loaded.size == (48, 32)
    assert np.abs(np.asarray(loaded, dtype=int) - np.asarray(upright, dtype=int)).mean() < 4


@pytest.mark.parametrize("content", [b"", b"plain text", b"<html>404</html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JF", b"II*\0\x08\0", b"RIFF"])
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "cannot be read as an image" in complaint(load_image, tmp_path / "a.png")


def test_missing_file_and_folder_instead_of_file(tmp_path):
    assert "no such file" in complaint(load_image, tmp_path / "gone.png")
    assert "cannot be read as an image" in complaint(load_image, tmp_path)


@pytest.mark.parametrize("suffix, options", [("png", {}), ("jpg", {}), ("bmp", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("webp", {})])
def test_truncated_files(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    noise(64, 64).save(path, **options)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)                            # Pillow remarks on the TIFF's directory
        complaint(load_image, path)


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_gives_a_picture_or_a_complaint(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)                       # a damaged size must not cost this test its memory
    dice = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, options in (("png", {"exif": exif}), ("jpg", {"exif": exif}), ("tif", {"exif": exif}), ("bmp", {}), ("webp", {"exif": exif})):
        path = tmp_path / f"a.{suffix}"
        noise(20, 16).save(path, **options)
        whole = path.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(dice.randint(1, 4)): content[dice.randrange(min(len(content), 300))] = dice.randrange(256)
            path.write_bytes(bytes(content))
            try: assert load_image(path).mode == "RGB"
            except InputError as e: assert str(e).startswith(str(path))


@pytest.mark.parametrize("side", [10_000, 14_000], ids=["Pillow warns", "Pillow refuses"])
def test_huge_images_are_refused_before_decoding(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png(np.zeros((1, 1)), 0, bits=8, size=(side, side)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 89478485 pixels" in complaint(open_image, tmp_path / "a.png")


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


def test_files_are_closed(tmp_path):
    noise(8, 8).save(tmp_path / "a.bmp")
    (tmp_path / "b.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:100])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_image(tmp_path / "a.bmp")
        complaint(load_image, tmp_path / "b.bmp")
        gc.collect()
    assert not [w for w in seen if issubclass(w.category, ResourceWarning)]


def test_input_error_survives_the_way_from_a_worker(folders):
    assert str(pickle.loads(pickle.dumps(InputError("a.png: broken")))) == "a.png: broken"
    data = UnpairedCrops(*folders, crop=32, load_size=34)
    file = data.files["source"][0]
    file.write_bytes(file.read_bytes()[:1000])                                  # damaged after the constructor has looked
    sample = shuffled(5, 0, "source", 0).index(0)
    batches = iter(DataLoader(data, sampler=[sample], num_workers=1))
    message = ""
    try: next(batches)
    except InputError as e:
        message = str(e)
        e.__traceback__ = None                                                  # it holds the loader, whose end would take 5 s
    assert "0.png: cannot be decoded" in message


# ---- numbers

def test_all_levels_there_and_back():
    picture = Image.fromarray(np.stack([np.tile(LEVELS, (2, 1))] * 3, -1))
    x = to_tensor(picture)
    assert x.dtype == torch.float32 and x.shape == (3, 2, 256)
    assert x.min() == -1 and x.max() == 1
    assert to_image(x).tobytes() == picture.tobytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_to_image_takes_any_float_and_gradients(dtype):
    x = torch.tensor([-1.5, -1., 0., 1., 1.5], dtype=dtype, requires_grad=True).expand(3, 1, 5)
    assert np.asarray(to_image(x))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_to_image_rounds():
    x = torch.tensor([10.4, 10.6]).expand(3, 1, 2) / 127.5 - 1
    assert np.asarray(to_image(x))[0, :, 0].tolist() == [10, 11]


# ---- chance

def test_rng_does_not_drift_with_versions():
    "These numbers are part of the promise: if they change, old runs cannot be repeated."
    assert torch.randint(10**6, (3,), generator=rng(0, "source", "crop", 7)).tolist() == [278928, 389970, 945123]
    assert list(shuffled(6, 0, "source", 0)) == [3, 1, 0, 2, 4, 5]


def test_rng_takes_any_whole_number():
    wanted = rng(3, "a", 4).initial_seed()
    assert all(rng(three, "a", 4).initial_seed() == wanted for three in (np.int64(3), np.uint8(3), torch.tensor(3)))
    with pytest.raises(TypeError): rng(0.5)


def test_rng_tells_apart_what_only_looks_alike():
    keys = [(1, 2), (12,), ("12",), ("1", "2"), ("1, 2",), (2, 1), (1, 2, 0), (-1, 2), ()]
    assert len({rng(*key).initial_seed() for key in keys}) == len(keys)


def test_shuffled_is_a_permutation_of_its_own_for_every_epoch_domain_and_seed():
    orders = [shuffled(20, seed, domain, epoch) for seed in (0, 1) for domain in ("source", "target") for epoch in range(5)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == len(orders)


# ---- geometry

@pytest.mark.parametrize("size, how, wanted", [
    ((100, 50), "shorter", (60, 30)), ((50, 100), "shorter", (30, 60)), ((31, 30), "shorter", (31, 30)), ((7, 5000), "shorter", (30, 21429)),
    ((100, 50), "square", (30, 30)), ((100, 50), "none", (100, 50)), ((30, 30), "shorter", (30, 30))])
def test_resize_image_sizes(size, how, wanted):
    assert resize_image(Image.new("RGB", size), 30, how).size == wanted


def test_resize_image_is_bicubic():
    picture = noise(60, 48)
    assert resize_image(picture, 24).tobytes() == picture.resize((30, 24), Image.Resampling.BICUBIC).tobytes()
    with pytest.raises(InputError, match="unknown resize"): resize_image(picture, 24, "bicubic")


def test_random_crop_reaches_every_place_equally_often_and_mirrors_half():
    picture = Image.fromarray(np.stack([np.tile(np.arange(12, dtype=np.uint8), (10, 1)), np.tile(np.arange(10, dtype=np.uint8)[:, None], (1, 12)),
                                        np.zeros((10, 12), dtype=np.uint8)], -1))        # a pixel's colour is its place
    counts, mirrored = torch.zeros(3, 5), 0
    for sample in range(3000):
        crop = np.asarray(random_crop(picture, 8, rng(sample)))
        mirrored += crop[0, 0, 0] > crop[0, -1, 0]
        counts[crop[..., 1].min(), crop[..., 0].min()] += 1
    assert counts.min() > 140 and counts.max() < 260                            # 200 expected, standard deviation 14
    assert 1380 < mirrored < 1620                                               # 1500 expected, standard deviation 27


def test_random_crop_edges():
    picture = noise(16, 16)
    assert random_crop(picture, 16, rng(0), flip=False).tobytes() == picture.tobytes()
    assert {random_crop(picture, 16, rng(s)).tobytes() for s in range(20)} == {picture.tobytes(), ImageOps.mirror(picture).tobytes()}
    with pytest.raises(InputError, match="17x17 pixels does not fit into 16x16"): random_crop(picture, 17, rng(0))


# ---- the dataset

def test_shapes_range_and_files(folders):
    sample = UnpairedCrops(*folders, crop=32, load_size=34)[0]
    assert sorted(sample) == ["x_file", "x_src", "y_file", "y_tgt"]
    for key in ("x_src", "y_tgt"):
        assert sample[key].shape == (3, 32, 32) and sample[key].dtype == torch.float32
        assert -1 <= sample[key].min() and sample[key].max() <= 1
    assert sample["x_file"].startswith(str(folders[0])) and sample["y_file"].startswith(str(folders[1]))


def test_an_epoch_shows_every_file_once(folders):
    data = UnpairedCrops(*folders, crop=32, load_size=34)
    for epoch in range(3):
        assert sorted(data[5 * epoch + i]["x_file"] for i in range(5)) == [str(f) for f in data.files["source"]]
        assert sorted(data[3 * epoch + i]["y_file"] for i in range(3)) == [str(f) for f in data.files["target"]]
    orders = {tuple(data[5 * epoch + i]["x_file"] for i in range(5)) for epoch in range(4)}
    assert len(orders) > 1                                                      # each epoch has an order of its own


def test_source_and_target_roll_different_dice(folders):
    data = UnpairedCrops(folders[0], folders[0], crop=20, load_size=36)         # the same folder twice
    same = [torch.equal(data[s]["x_src"], data[s]["y_tgt"]) for s in range(10)]
    assert not any(same)


def test_samples_do_not_depend_on_the_order_of_reading_or_on_global_dice(folders):
    data, again = (UnpairedCrops(*folders, crop=32, load_size=34) for _ in range(2))
    forward = [data[s]["x_src"] for s in range(12)]
    torch.manual_seed(99), random.seed(99), np.random.seed(99)
    state = torch.get_rng_state()
    backward = [again[s]["x_src"] for s in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward))
    assert torch.equal(torch.get_rng_state(), state)                            # and it leaves them alone


def test_another_seed_is_another_stream(folders):
    one, two = (UnpairedCrops(*folders, crop=32, load_size=34, seed=seed) for seed in (0, 1))
    assert not any(torch.equal(one[s]["x_src"], two[s]["x_src"]) for s in range(5))


def test_the_seed_decides_the_crop_and_not_only_the_file(tmp_path):
    noise(64, 64).save(tmp_path / "only.png")
    one, two = (UnpairedCrops(tmp_path, tmp_path, crop=16, load_size=64, seed=seed) for seed in (0, 1))
    assert not any(torch.equal(one[s]["x_src"], two[s]["x_src"]) for s in range(5))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_resuming_change_nothing(folders, workers):
    data = UnpairedCrops(*folders, crop=32, load_size=34)
    wanted = torch.stack([data[s]["y_tgt"] for s in range(12)])
    got = torch.cat([b["y_tgt"] for b in DataLoader(data, sampler=range(4, 12), batch_size=2, num_workers=workers)])
    assert torch.equal(got, wanted[4:])


def test_another_process_sees_the_same(folders):
    data = UnpairedCrops(*folders, crop=32, load_size=34)
    code = ("import sys; from semst.data import UnpairedCrops; d = UnpairedCrops(*sys.argv[1:], crop=32, load_size=34); "
            "print(d[7]['x_src'].double().sum().item())")
    out = subprocess.run([sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, check=True).stdout
    assert float(out) == data[7]["x_src"].double().sum().item()


def test_it_can_be_sent_to_a_worker_that_starts_from_scratch(folders):
    data = UnpairedCrops(*folders, crop=32, load_size=34)
    assert torch.equal(pickle.loads(pickle.dumps(data))[3]["x_src"], data[3]["x_src"])


def test_it_has_no_length(folders):
    with pytest.raises(TypeError): len(UnpairedCrops(*folders, crop=32, load_size=34))


def test_resize_none_crops_the_picture_as_it_is(folders):
    data = UnpairedCrops(*folders, crop=36, load_size=10, resize="none", flip=False)
    crop = np.asarray(to_image(data[0]["x_src"]))
    whole = np.asarray(Image.open(data[0]["x_file"]))
    assert any(np.array_equal(crop, whole[:, left:left + 36]) for left in range(whole.shape[1] - 35))


def test_images_smaller_than_the_crop_are_named(folders):
    noise(64, 20).save(folders[1] / "low.png")
    with pytest.raises(InputError, match="low.png is 64x20 pixels, smaller than the crop, 32: use larger images$"): UnpairedCrops(*folders, crop=32, load_size=34)
    (folders[0].parent / "alone").mkdir()
    noise(110, 227).save(folders[0].parent / "alone/a.png")
    with pytest.raises(InputError, match=r"a.png is 110x227 pixels, smaller than the crop, 128: use larger images, or --crop 96 \(and, with two branches, --local-crop 48\)$"):
        UnpairedCrops(*[folders[0].parent / "alone"] * 2, crop=128, load_size=143)
    for model in (ModelConfig(scales=1, crop=96), ModelConfig(crop=96, local_crop=48), ModelConfig(crop=32, local_crop=16)): new_critic(TrainConfig(model=model))   # what it proposes can be trained


def test_an_image_as_large_as_the_crop_is_fine(tmp_path):
    noise(32, 32).save(tmp_path / "a.png")
    assert UnpairedCrops(tmp_path, tmp_path, crop=32, load_size=32)[5]["x_src"].shape == (3, 32, 32)


def test_bad_files_and_options_are_found_before_training(folders):
    with pytest.raises(InputError, match="load_size 30 is smaller than the crop, 32"): UnpairedCrops(*folders, crop=32, load_size=30)
    with pytest.raises(InputError, match="unknown resize 'longer'"): UnpairedCrops(*folders, crop=32, load_size=34, resize="longer")
    (folders[0] / "page.jpg").write_text("<html>")
    with pytest.raises(InputError, match="page.jpg: cannot be read as an image"): UnpairedCrops(*folders, crop=32, load_size=34)


def test_the_seed_decides_the_order_of_the_files_too(tmp_path):
    for i in range(8): Image.new("RGB", (16, 16)).save(tmp_path / f"{i}.png")
    order = {seed: [UnpairedCrops(tmp_path, tmp_path, crop=16, load_size=16, seed=seed).file("source", i) for i in range(8)] for seed in (0, 1)}
    assert sorted(order[0]) == sorted(order[1]) and order[0] != order[1]
