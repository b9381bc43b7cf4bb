"Tiles against the whole: every size, tile and variant; what a norm must know; files in and out."
import builtins
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import nn

import semst.tiff
from semst.data import InputError, load_image, to_image, to_tensor
from semst.generator import Generator, InstanceNorm
from semst.pictures import on_white
from semst.fields import Combined, Mapped, Picture, Stored, reach, stored, tents, tiles
from semst.model import ModelConfig, SemST, resize_to, translate_whole
from semst.tiff import TiffPixels, open_pixels
from semst.tiling import KnownNorm, approximate, exact, seam, tiled_whole, translate_tiled

PIXELS = np.random.default_rng(0).integers(0, 256, (150, 170, 3), dtype=np.uint8)

def loud(network):
    "Weights large enough that every layer matters; the initial ones give grey."
    for p in network.parameters():
        if p.ndim == 1:
            nn.init.normal_(p, std=0.3)
        else:
            nn.init.kaiming_normal_(p)
    return network.eval().requires_grad_(False)

def one_scale(downsample="blur", upsample="deconv"):
    config = ModelConfig(scales=1, crop=32, ngf=4, blocks=2, taps=(0, 4, 8), embed_dim=4,
                         downsample=downsample, upsample=upsample)
    return loud(SemST(config))


def two_scales(crop=64, downsample="blur", upsample="deconv", taps=(0, 4, 8, 12, 14)):
    config = ModelConfig(crop=crop, local_crop=32, ngf=4, blocks=6, taps=taps, embed_dim=4,
                         downsample=downsample, upsample=upsample)
    return loud(SemST(config))


def whole(model, pixels):
    return translate_whole(model, to_tensor(Image.fromarray(pixels))[None]).fused

def in_tiles(field, size, tile):
    out = None
    for rows, cols in tiles(size, tile):
        part = field.read(rows, cols)
        if out is None:
            out = torch.full((1, part.shape[1], *size), torch.nan)
        out[..., rows, cols] = part
    return out

def assert_equals_whole(model, pixels, tile):
    right, size = whole(model, pixels), pixels.shape[:2]
    assert right.std() > 0.02
    assert (in_tiles(tiled_whole(model, pixels, tile), size, tile) - right).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(131, 77), (64, 128), (150, 9), (65, 63), (2, 3)])
@pytest.mark.parametrize("tile", [64, 80, 512])
def test_exact_equals_whole(size, tile):
    assert_equals_whole(one_scale(), PIXELS[:size[0], :size[1]], tile)


@pytest.mark.parametrize("downsample", ["blur", "stride"])
@pytest.mark.parametrize("upsample", ["deconv", "blur"])
def test_exact_equals_whole_in_every_variant(downsample, upsample):
    assert_equals_whole(one_scale(downsample, upsample), PIXELS[:99, :131], 64)
    assert_equals_whole(two_scales(downsample=downsample, upsample=upsample), PIXELS[:40, :70], 64)


@pytest.mark.parametrize(
    "crop, size", [(64, (70, 101)), (96, (101, 40)), (64, (20, 31)), (64, (1, 90))]
)
def test_two_branches_equal_translate_whole(crop, size):
    assert_equals_whole(two_scales(crop), PIXELS[:size[0], :size[1]], 64)


@pytest.mark.parametrize("taps", [(0, 4, 8), (0, 4, 9), (0, 10), (0, 13)])
def test_two_branches_may_be_cut_at_any_tap(taps):
    assert_equals_whole(two_scales(taps=taps), PIXELS[:40, :70], 64)


def test_every_part_of_two_branches_agrees():
    model = two_scales()
    right = translate_whole(model, to_tensor(Image.fromarray(PIXELS[:70, :90]))[None])
    field = tiled_whole(model, PIXELS[:70, :90], 64)
    parts = (right.y_global, right.y_local, right.scale_map)
    for ours, theirs in zip(field.fields, parts, strict=True):
        assert (in_tiles(ours, (70, 90), 64) - theirs).abs().max() < 1e-4


def test_any_window_can_be_read():
    model = one_scale()
    right, field = whole(model, PIXELS), tiled_whole(model, PIXELS, 64)
    for rows, cols in [
        ((0, 1), (0, 1)),
        ((149, 150), (169, 170)),
        ((63, 65), (1, 170)),
        ((37, 94), (51, 52)),
    ]:
        rows, cols = slice(*rows), slice(*cols)
        assert (field.read(rows, cols) - right[..., rows, cols]).abs().max() < 1e-4


def test_approximate_does_not_depend_on_the_tiles_once_the_statistics_are_known():
    field = approximate(one_scale().branches["global"].generator.model, Picture(PIXELS, 64))
    a, b = (in_tiles(field, (150, 170), side) for side in (37, 64))
    assert (a - b).abs().max() < 1e-4


def test_approximate_is_exact_where_each_window_is_the_whole_picture():
    model, small = one_scale(), PIXELS[:32, :64]
    ours = in_tiles(tiled_whole(model, small, 128, "approximate"), (32, 64), 128)
    assert (ours - whole(model, small)).abs().max() < 1e-4


def test_approximate_leaves_the_model_as_it_was_and_shares_its_weights():
    model = one_scale()
    before = whole(model, PIXELS[:64, :64])
    field = approximate(model.branches["global"].generator.model, Picture(PIXELS, 64))
    assert torch.equal(whole(model, PIXELS[:64, :64]), before)
    theirs = model.branches["global"].generator.model.parameters()
    assert {id(p) for p in field.layers.parameters()} == {id(p) for p in theirs}


def test_approximate_two_branches_are_nearer_to_the_whole_than_naive_tiles():
    model, size = two_scales(), (256, 320)
    # dark tiles and bright ones
    noise = resize_to(torch.rand(1, 3, 24, 30) * 2 - 1, size)
    ramp = torch.linspace(-1, 1, 320).expand(1, 3, 256, 320) * 0.9 + 0.1 * noise
    pixels = np.asarray(to_image(ramp[0]))
    ours = in_tiles(tiled_whole(model, pixels, 64, "approximate"), size, 64)
    right = whole(model, pixels)
    rows = []
    for top in range(0, 256, 64):
        row = [whole(model, pixels[y, x]) for y, x in tiles(size, 64) if y.start == top]
        rows.append(torch.cat(row, 3))
    naive = torch.cat(rows, 2)
    assert abs(seam(ours, 64) - seam(right, 64)) < 0.5 * abs(seam(naive, 64) - seam(right, 64))
    assert (ours - right).abs().mean() < 0.8 * (naive - right).abs().mean()


def test_naive_norms_have_seams_and_exact_ones_have_not():
    ramp = np.arange(192, dtype=np.uint8)[:, None] + np.zeros((192, 192), np.uint8)
    norm = nn.Sequential(InstanceNorm())
    fields = Mapped(Picture(ramp, 64), norm), exact(norm, Picture(ramp, 64))
    naive, right = (in_tiles(field, (192, 192), 64) for field in fields)
    assert seam(naive, 64) > 10 and seam(right, 64) == pytest.approx(1, rel=1e-3)


def test_a_flat_picture_is_no_trouble():
    flat = np.full((70, 90, 3), 255, np.uint8)
    assert in_tiles(tiled_whole(one_scale(), flat, 64), (70, 90), 64).isfinite().all()


def test_reach_of_the_generators():
    assert reach(Generator(ngf=1).model) == (90, 1, 4)
    # a block looks 2 pixels far, 4 pixels apart
    assert reach(Generator(ngf=1, blocks=2, taps=(0,)).model)[0] == 90 - 7 * 8
    assert reach(nn.Conv2d(1, 1, 4, dilation=6)) == (9, 1, 1)


@pytest.mark.parametrize("n_in, n_out", [(10, 20), (20, 10), (21, 7), (17, 18), (5, 5), (1, 3)])
def test_tents_are_torchs_bilinear_weights(n_in, n_out):
    x = torch.rand(1, 1, n_in, 1).expand(1, 1, n_in, n_in).contiguous()
    window, weight = tents(slice(0, n_out), n_in, n_out)
    ours, theirs = weight @ x[..., window, :1], resize_to(x, (n_out, n_out))[..., :1]
    assert torch.allclose(ours, theirs, atol=1e-6)
    for i in range(n_out):
        window, one = tents(slice(i, i + 1), n_in, n_out)
        assert torch.allclose(one @ x[..., window, :], (weight @ x)[..., i:i + 1, :], atol=1e-6)


def test_statistics_survive_a_mean_far_above_the_deviation():
    class Far(Combined):
        def __init__(self):
            self.size, self.tile = (64, 64), 16
        def read(self, rows, cols):
            return 1000 + torch.sin(torch.arange(4096.).reshape(1, 1, 64, 64)[..., rows, cols])
    store = stored(Far())
    right = torch.sin(torch.arange(4096.0)).var(correction=0).item()
    assert store.variance.item() == pytest.approx(right, rel=1e-3)


def test_a_store_is_zero_where_nothing_was_written_and_works_out_nothing_twice():
    store = Stored(2, (5, 7), 4)
    store.part(slice(1, 3), slice(2, 7)).add_(1.0)
    assert store.read(slice(0, 5), slice(0, 7)).sum() == 2 * 2 * 5
    assert stored(store) is store


def test_a_full_disk_is_a_clear_error(monkeypatch):
    def cannot(*_):
        raise OSError(95, "Operation not supported")
    # some file systems set no space aside
    monkeypatch.setattr("os.posix_fallocate", cannot, raising=False)
    assert translate_tiled(one_scale(), PIXELS, tile=64).size == (170, 150)
    def full(*_):
        raise OSError(28, "No space left on device")
    # others have filled it since we looked
    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match="GB needed for temporary files.*No space left.*TMPDIR"):
        translate_tiled(one_scale(), PIXELS, tile=64)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match="GB needed for temporary files.*only 0.0 GB.*TMPDIR"):
        translate_tiled(one_scale(), PIXELS, tile=64)


def test_known_norm_pools_its_first_batch_and_keeps_its_statistics():
    norm, x = KnownNorm(), torch.rand(3, 2, 4, 4)
    y = norm(x.clone())
    # pooled, not image by image
    assert y.mean((0, 2, 3)).abs().max() < 1e-5 and y.mean((2, 3)).abs().max() > 1e-3
    assert torch.allclose(norm(x[:1].clone()), y[:1])


def test_seam_counts_jumps_at_borders_only():
    y = torch.zeros(1, 3, 8, 8)
    y[..., 4:] = torch.arange(4.) * 0.1 + 1
    y[..., :4] = torch.arange(4.) * 0.1
    y = y + torch.arange(8.)[:, None] * 0.1
    assert seam(y, 4) == pytest.approx((0.7 + 0.1) / (0.1 + 0.1), rel=1e-5)
    assert seam(y, 3) < 1


# ---- pictures and files

def test_what_comes_out_is_what_translate_gives_but_for_a_rounding():
    model, picture = one_scale(), Image.fromarray(PIXELS[:90, :131])
    ours = np.asarray(translate_tiled(model, picture, tile=64)).astype(int)
    theirs = np.asarray(model.translate(picture)).astype(int)
    assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 0.01


@pytest.mark.parametrize("mode", ["exact", "approximate"])
def test_from_tiff_to_tiff(tmp_path, mode):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "in.tif", PIXELS, tile=(32, 32), photometric="rgb", compression="zlib"
    )
    model = one_scale()
    given, made = tmp_path / "in.tif", str(tmp_path / "out.tiff")
    assert translate_tiled(model, given, made, tile=64, mode=mode) is None
    assert sorted(f.name for f in tmp_path.iterdir()) == ["in.tif", "out.tiff"]
    with tifffile.TiffFile(tmp_path / "out.tiff") as file:
        assert (file.pages[0].tile, file.pages[0].shape) == ((64, 64), PIXELS.shape)
    with Image.open(tmp_path / "out.tiff") as image:
        assert np.array_equal(image, translate_tiled(model, PIXELS, tile=64, mode=mode))


def tiff(path, layout):
    "PIXELS (or grey) in a file of one of the layouts that TIFF allows."
    import tifffile
    if layout == "lzw":
        pytest.importorskip("imagecodecs")
    how = dict(
        tiles=dict(tile=(32, 48), compression="zlib"),
        plain={},
        strips=dict(rowsperstrip=16, compression="zlib"),
        lzw=dict(rowsperstrip=16, compression="lzw"),
        grey={},
        alpha=dict(extrasamples=["unassalpha"]),
        multiplied=dict(extrasamples=["assocalpha"]),
        planar=dict(planarconfig="separate"),
        turned=dict(extratags=[(274, "H", 1, 6, True)]),
        deep={},
        white=dict(photometric="miniswhite"),
        several={},
    )[layout]
    pixels = dict(
        grey=PIXELS[..., 0],
        white=PIXELS[..., 0],
        deep=PIXELS[..., 0] * np.uint16(257),
        alpha=np.dstack([PIXELS, PIXELS[..., :1]]),
        multiplied=np.dstack([PIXELS // 2, PIXELS[..., :1] | 128]),
        planar=PIXELS.transpose(2, 0, 1),
    ).get(layout, PIXELS)
    colours = "minisblack" if pixels.ndim == 2 else "rgb"
    tifffile.imwrite(path, pixels, **dict(photometric=colours) | how)
    if layout == "several":
        tifffile.imwrite(path, PIXELS[::-1, :-1], append=True, photometric="rgb")


@pytest.mark.parametrize(
    "layout, pieces",
    [
        ("tiles", True),
        ("plain", True),
        ("strips", True),
        ("lzw", True),
        ("grey", True),
        ("alpha", True),
        ("several", True),
        ("multiplied", False),
        ("planar", False),
        ("turned", False),
        ("deep", False),
        ("white", False),
    ],
)
def test_a_tiff_is_the_picture_that_pillow_reads(tmp_path, layout, pieces):
    pytest.importorskip("tifffile")
    tiff(tmp_path / "in.tif", layout)
    pixels, right = open_pixels(tmp_path / "in.tif"), np.asarray(load_image(tmp_path / "in.tif"))
    assert isinstance(pixels, TiffPixels) == pieces and pixels.shape[:2] == right.shape[:2]
    for window in (
        (slice(3, 50), slice(100, 150)),
        (slice(40, 90), slice(0, 64)),
        (slice(0, 150), slice(0, 150)),
    ):
        assert torch.equal(Picture(pixels, 64).read(*window), Picture(right, 64).read(*window))


def test_strips_are_decoded_once_for_a_row_of_tiles(tmp_path, monkeypatch):
    pytest.importorskip("tifffile")
    tiff(tmp_path / "in.tif", "strips")
    pixels, asked, whole = open_pixels(tmp_path / "in.tif"), [], semst.tiff.joined
    def joined(file, page, rows, cols):
        asked.append((rows.start, rows.stop, cols.stop))
        return whole(file, page, rows, cols)
    monkeypatch.setattr(semst.tiff, "joined", joined)
    for rows, cols in tiles((150, 170), 64):
        assert np.array_equal(pixels[rows, cols], PIXELS[rows, cols])
    assert asked == [(0, 64, 170), (64, 128, 170), (128, 150, 170)]
    assert pixels.band.shape == (22, 170, 3)                            # one band at a time
    assert np.array_equal(pixels[132:140, 5:9], PIXELS[132:140, 5:9]) and len(asked) == 3


def test_planes_as_narrow_as_colours_are_not_taken_for_pixels(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "in.tif",
        PIXELS[:, :4].transpose(2, 0, 1),
        photometric="rgb",
        planarconfig="separate",
    )
    assert np.array_equal(open_pixels(tmp_path / "in.tif"), PIXELS[:, :4])


def test_pages_that_are_left_out_are_told_and_files_are_closed(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "channels.tif", PIXELS.transpose(2, 0, 1), photometric="minisblack")
    with pytest.warns(UserWarning, match="channels.tif: only the first of its 3 pages is read"):
        pixels = open_pixels(tmp_path / "channels.tif")
    handle = pixels.file.filehandle
    assert not handle.closed
    del pixels
    assert handle.closed


def test_a_tiff_without_pixels_is_named(tmp_path):
    pytest.importorskip("tifffile")
    tiff(tmp_path / "in.tif", "plain")
    whole = (tmp_path / "in.tif").read_bytes()
    # tag 257, ImageLength, little endian
    entry = np.frombuffer(whole, np.uint8).tobytes().find(bytes([1, 1]) , 8)
    assert entry > 0
    broken = bytearray(whole)
    broken[entry + 8:entry + 12] = bytes(4)
    (tmp_path / "in.tif").write_bytes(broken)
    with pytest.raises(
        InputError, match="in.tif: .*piece by piece either: its shape is \\(0, 170, 3\\)"
    ):
        open_pixels(tmp_path / "in.tif")


@pytest.mark.parametrize("layout", ["tiles", "plain", "strips"])
def test_damage_in_the_middle_is_named(tmp_path, layout):
    pytest.importorskip("tifffile")
    tiff(tmp_path / "in.tif", layout)
    whole = (tmp_path / "in.tif").read_bytes()
    (tmp_path / "in.tif").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(
        InputError, match="in.tif: cannot be decoded, it is damaged: piece .* lies behind its end"
    ):
        translate_tiled(one_scale(), tmp_path / "in.tif", tmp_path / "out.tif", 64, "approximate")
    assert [f.name for f in tmp_path.iterdir()] == ["in.tif"]


def test_without_the_packages_large_pictures_say_what_to_install(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "in.tif")
    real = builtins.__import__
    def without_tifffile(name, *rest, **more):
        if name == "tifffile":
            raise ImportError(name)
        return real(name, *rest, **more)
    monkeypatch.delitem(sys.modules, "tifffile", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_tifffile)
    assert translate_tiled(one_scale(), tmp_path / "in.tif", tile=64).size == (170, 150)
    with pytest.raises(InputError, match="pip install \"semst.tiff.\""):
        translate_tiled(one_scale(), tmp_path / "in.tif", tmp_path / "out.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="more than 1000 pixels.*pip install \"semst.tiff.\""):
        translate_tiled(one_scale(), tmp_path / "in.tif")


@pytest.mark.parametrize(
    "picture", [PIXELS[..., 0], np.dstack([PIXELS, PIXELS[..., :1]])], ids=["grey", "alpha"]
)
def test_grey_and_alpha(tmp_path, picture):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "in.tif", picture)
    pixels = open_pixels(tmp_path / "in.tif")
    if picture.ndim == 2:
        rgb = np.dstack([picture] * 3)
    else:
        rgb = on_white(picture[..., :3], picture[..., 3])
    window = slice(3, 50), slice(100, 176)
    assert torch.equal(Picture(pixels, 64).read(*window), Picture(rgb, 64).read(*window))


@pytest.mark.parametrize("image", [
    Image.fromarray(np.full((64, 64), 30000, np.uint16)),
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)),
    Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]])),
    Image.new("L", (64, 64), 7),
], ids=["deep", "transparent", "alpha", "grey"])
def test_a_pillow_image_is_read_as_its_file(image, tmp_path):
    image.save(tmp_path / "a.png")
    assert np.array_equal(open_pixels(image), open_pixels(tmp_path / "a.png"))


def test_what_is_converted_of_a_pillow_image_is_said():
    with pytest.warns(UserWarning, match="the image: CMYK is converted to RGB"):
        open_pixels(Image.new("CMYK", (8, 8)))


def test_only_what_is_needed_is_read():
    class Counting:
        shape, dtype, ndim, most = (4000, 4000, 3), np.dtype(np.uint8), 3, 0
        def __getitem__(self, where):
            h, w = (s.stop - s.start for s in where)
            self.most = max(self.most, h * w)
            return np.zeros((h, w, 3), np.uint8)
    pixels = Counting()
    field = tiled_whole(one_scale(), pixels, 64, "approximate")
    field.read(slice(2000, 2064), slice(2000, 2064))
    assert 64**2 < pixels.most < 200**2


def test_other_channels_are_named():
    grey = SemST(ModelConfig(scales=1, crop=64, ngf=4, blocks=5, in_channels=1, out_channels=1))
    with pytest.raises(InputError, match="translators with 3 channels"):
        translate_tiled(grey, PIXELS)


@pytest.mark.parametrize("options", [{}, dict(tile=(16, 16), compression="zlib"),
                                     dict(rowsperstrip=7, compression="zlib")])
def test_a_tiff_takes_open_slices(tmp_path, options):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", **options)
    pixels = TiffPixels(tmp_path / "a.tif")
    for window in [(slice(None, 10), slice(None)), (slice(-9, None), slice(3, -1))]:
        assert np.array_equal(pixels[window], PIXELS[window])
    with pytest.raises(ValueError, match="without a step"):
        pixels[::2, :]


def test_mistakes_are_named(tmp_path):
    tifffile, model = pytest.importorskip("tifffile"), one_scale()
    (tmp_path / "text.tif").write_text("no picture")
    tifffile.imwrite(tmp_path / "deep.tif", PIXELS.astype(np.float32), photometric="rgb")
    Image.fromarray(PIXELS).save(tmp_path / "good.tif")
    for source, output, options, message in [
        (PIXELS, None, dict(mode="naive"), "unknown mode 'naive': exact, approximate"),
        (PIXELS, None, dict(tile=100), "multiple of 16"),
        (PIXELS, None, dict(tile=48), "at least 64"),
        (PIXELS, tmp_path / "out.png", {}, "out.png: only .tif"),
        (tmp_path / "none.tif", None, {}, "none.tif: no such file"),
        (tmp_path / "none.png", None, {}, "none.png: no such file"),
        (tmp_path / "text.tif", None, {}, "text.tif: cannot be read"),
        (tmp_path / "deep.tif", None, {}, "deep.tif: .*piece by piece either: .*32 bits"),
        (PIXELS[..., :2], None, {}, "the array: 8-bit"),
        (PIXELS[:0], None, {}, "the array: 8-bit"),
        (tmp_path / "good.tif", tmp_path / "nowhere" / "out.tif", {}, "out.tif: cannot be written"),
    ]:
        with pytest.raises(InputError, match=message):
            translate_tiled(model, source, output, **options)


def test_a_failed_run_leaves_no_half_written_file(tmp_path, monkeypatch):
    pytest.importorskip("tifffile")
    model = one_scale()
    monkeypatch.setattr("semst.tiling.to_image", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        translate_tiled(model, PIXELS, tmp_path / "out.tif", tile=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--tiff", "strips", "--modes", "approximate", "exact"],
        ["--tiff", "plain", "--modes", "exact", "--scales", "2"],
    ],
    ids=["strips", "plain, two branches"],
)
def test_memory_does_not_grow_with_the_picture(options):
    table = subprocess.run(
        [
            sys.executable,
            ROOT / "tests/benchmarks/tiling.py",
            "--sizes",
            "768",
            "5120",
            "--tiles",
            "256",
            "--ngf",
            "2",
            "--blocks",
            "1",
            *options,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    # GiB
    peak = {
        (size, mode): float(p)
        for size, mode, *_, p, before, device in (
            line.split() for line in table.stdout.splitlines()[2:]
        )
    }
    modes = {mode for _, mode in peak}
    assert len(peak) == 2 * len(modes) > 0, table.stderr
    for mode in modes:
        # the larger picture's bytes alone: 0.073
        assert peak["5120x5120", mode] - peak["768x768", mode] < 0.04, peak
