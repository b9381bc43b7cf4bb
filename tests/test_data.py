"A sample depends on nothing but its number and the seed, and bad files are named before the first."
import pickle
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pictures_by_hand import noise
from torch.utils.data import DataLoader

from semst.data import (
    InputError,
    UnpairedCrops,
    crop_place,
    resize_image,
    resize_pixels,
    rng,
    shuffled,
    to_image,
)


@pytest.fixture
def folders(tmp_path):
    for name, n in (("source", 5), ("target", 3)):
        (tmp_path / name).mkdir()
        for i in range(n):
            noise(40 + i, 36, seed=i).save(tmp_path / name / f"{i}.png")
    return tmp_path / "source", tmp_path / "target"


def crops(folders, **options):
    return UnpairedCrops(*folders, **(dict(crop=32, load_size=34) | options))


# ---- chance

def test_rng_does_not_drift_with_versions():
    "These numbers are part of the promise: if they change, old runs cannot be repeated."
    draws = torch.randint(10**6, (3,), generator=rng(0, "source", "crop", 7))
    assert draws.tolist() == [278928, 389970, 945123]
    assert list(shuffled(6, 0, "source", 0)) == [3, 1, 0, 2, 4, 5]


def test_rng_takes_any_whole_number():
    wanted = rng(3, "a", 4).initial_seed()
    for three in (np.int64(3), np.uint8(3), torch.tensor(3)):
        assert rng(three, "a", 4).initial_seed() == wanted
    with pytest.raises(TypeError):
        rng(0.5)


def test_rng_tells_apart_what_only_looks_alike():
    keys = [(1, 2), (12,), ("12",), ("1", "2"), ("1, 2",), (2, 1), (1, 2, 0), (-1, 2), ()]
    assert len({rng(*key).initial_seed() for key in keys}) == len(keys)


def test_shuffled_is_a_permutation_of_its_own_for_every_epoch_domain_and_seed():
    orders = [shuffled(20, seed, domain, epoch)
              for seed in (0, 1) for domain in ("source", "target") for epoch in range(5)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == len(orders)


# ---- geometry

@pytest.mark.parametrize("size, how, wanted", [
    ((100, 50), "shorter", (60, 30)), ((50, 100), "shorter", (30, 60)),
    ((31, 30), "shorter", (31, 30)), ((7, 5000), "shorter", (30, 21429)),
    ((100, 50), "square", (30, 30)), ((100, 50), "none", (100, 50)),
    ((30, 30), "shorter", (30, 30))])
def test_resize_image_sizes(size, how, wanted):
    assert resize_image(Image.new("RGB", size), 30, how).size == wanted


def test_resize_image_is_bicubic():
    picture = noise(60, 48)
    wanted = picture.resize((30, 24), Image.Resampling.BICUBIC)
    assert resize_image(picture, 24).tobytes() == wanted.tobytes()
    with pytest.raises(InputError, match="unknown resize"):
        resize_image(picture, 24, "bicubic")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_resize_pixels_treats_each_channel_as_a_picture(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 60, channels), dtype=np.uint8)
    resized = resize_pixels(pixels, 24)
    for i in range(channels):
        wanted = np.asarray(resize_image(Image.fromarray(pixels[..., i]), 24))
        assert np.array_equal(resized[..., i], wanted)


def test_crop_place_reaches_every_place_equally_often_and_mirrors_half():
    counts, mirrored = torch.zeros(3, 5), 0
    for sample in range(3000):
        left, top, mirror = crop_place(12, 10, 8, rng(sample))
        mirrored += mirror
        counts[top, left] += 1
    assert counts.min() > 140 and counts.max() < 260              # 200 expected, deviation 14
    assert 1380 < mirrored < 1620                                 # 1500 expected, deviation 27


def test_crop_place_edges():
    assert {crop_place(16, 16, 16, rng(s), flip=False) for s in range(20)} == {(0, 0, False)}
    assert {crop_place(16, 16, 16, rng(s)) for s in range(20)} == {(0, 0, False), (0, 0, True)}
    with pytest.raises(InputError, match="17x17 pixels does not fit into 16x16"):
        crop_place(16, 16, 17, rng(0))


# ---- the dataset

def test_shapes_range_and_files(folders):
    sample = crops(folders)[0]
    assert sorted(sample) == ["x_file", "x_src", "y_file", "y_tgt"]
    for key in ("x_src", "y_tgt"):
        assert sample[key].shape == (3, 32, 32) and sample[key].dtype == torch.float32
        assert -1 <= sample[key].min() and sample[key].max() <= 1
    assert sample["x_file"].startswith(str(folders[0]))
    assert sample["y_file"].startswith(str(folders[1]))


def test_a_sample_is_the_crop_of_its_file(folders):
    data, mirrors = crops(folders), set()
    for s in range(6):
        image = resize_image(Image.open(data.file("target", s)), 34)
        left, top, mirrored = crop_place(*image.size, 32, rng(0, "target", "crop", s))
        wanted = image.crop((left, top, left + 32, top + 32))
        wanted = ImageOps.mirror(wanted) if mirrored else wanted
        assert to_image(data[s]["y_tgt"]).tobytes() == wanted.tobytes()
        mirrors.add(mirrored)
    assert mirrors == {False, True}


def test_an_epoch_shows_every_file_once(folders):
    data = crops(folders)
    for epoch in range(3):
        x_files = sorted(data[5 * epoch + i]["x_file"] for i in range(5))
        y_files = sorted(data[3 * epoch + i]["y_file"] for i in range(3))
        assert x_files == [str(f) for f in data.files["source"]]
        assert y_files == [str(f) for f in data.files["target"]]
    orders = {tuple(data[5 * epoch + i]["x_file"] for i in range(5)) for epoch in range(4)}
    assert len(orders) > 1                                        # each epoch has its own order


def test_source_and_target_roll_different_dice(folders):
    data = crops([folders[0], folders[0]], crop=20, load_size=36)          # the same folder twice
    assert not any(torch.equal(data[s]["x_src"], data[s]["y_tgt"]) for s in range(10))


def test_samples_do_not_depend_on_the_order_of_reading_or_on_global_dice(folders):
    data, again = crops(folders), crops(folders)
    forward = [data[s]["x_src"] for s in range(12)]
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    state = torch.get_rng_state()
    backward = [again[s]["x_src"] for s in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward))
    assert torch.equal(torch.get_rng_state(), state)              # and it leaves them alone


def test_another_seed_is_another_stream(folders):
    one, two = (crops(folders, seed=seed) for seed in (0, 1))
    assert not any(torch.equal(one[s]["x_src"], two[s]["x_src"]) for s in range(5))


def test_the_seed_decides_the_crop_and_not_only_the_file(tmp_path):
    noise(64, 64).save(tmp_path / "only.png")
    one, two = (crops([tmp_path] * 2, crop=16, load_size=64, seed=seed) for seed in (0, 1))
    assert not any(torch.equal(one[s]["x_src"], two[s]["x_src"]) for s in range(5))


def test_the_seed_decides_the_order_of_the_files_too(tmp_path):
    for i in range(8):
        noise(16, 16, seed=i).save(tmp_path / f"{i}.png")
    order = {}
    for seed in (0, 1):
        data = crops([tmp_path] * 2, crop=16, load_size=16, seed=seed)
        order[seed] = [data.file("source", i) for i in range(8)]
    assert sorted(order[0]) == sorted(order[1]) and order[0] != order[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_resuming_change_nothing(folders, workers):
    data = crops(folders)
    wanted = torch.stack([data[s]["y_tgt"] for s in range(12)])
    loader = DataLoader(data, sampler=range(4, 12), batch_size=2, num_workers=workers)
    assert torch.equal(torch.cat([b["y_tgt"] for b in loader]), wanted[4:])


def test_another_process_sees_the_same(folders):
    data = crops(folders)
    code = ("import sys; from semst.data import UnpairedCrops; "
            "d = UnpairedCrops(*sys.argv[1:], crop=32, load_size=34); "
            "print(d[7]['x_src'].double().sum().item())")
    out = subprocess.run([sys.executable, "-c", code, *map(str, folders)], capture_output=True,
                         text=True, check=True).stdout
    assert float(out) == data[7]["x_src"].double().sum().item()


def test_it_can_be_sent_to_a_worker_that_starts_from_scratch(folders):
    data = crops(folders)
    assert torch.equal(pickle.loads(pickle.dumps(data))[3]["x_src"], data[3]["x_src"])


def test_it_has_no_length(folders):
    with pytest.raises(TypeError):
        len(crops(folders))


def test_resize_none_crops_the_picture_as_it_is(folders):
    data = crops(folders, crop=36, load_size=10, resize="none", flip=False)
    crop = np.asarray(to_image(data[0]["x_src"]))
    whole = np.asarray(Image.open(data[0]["x_file"]))
    places = range(whole.shape[1] - 35)
    assert any(np.array_equal(crop, whole[:, left:left + 36]) for left in places)


def test_an_image_as_large_as_the_crop_is_fine(tmp_path):
    noise(32, 32).save(tmp_path / "a.png")
    assert crops([tmp_path] * 2, load_size=32)[5]["x_src"].shape == (3, 32, 32)


# ---- channels and depth

@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (2, 2), (4, 4), (5, 3)])
def test_channels_of_source_and_target(tmp_path, channels):
    tifffile = pytest.importorskip("tifffile")
    for name, n in zip(("source", "target"), channels):
        (tmp_path / name).mkdir()
        pixels = np.random.default_rng(n).integers(0, 256, (40, 40, n), dtype=np.uint8)
        if n == 3:
            Image.fromarray(pixels).save(tmp_path / name / "a.png")
        else:
            extra = dict(extrasamples=["unspecified"] * (n - 1)) if n > 1 else {}
            tifffile.imwrite(tmp_path / name / "a.tif", pixels if n > 1 else pixels[..., 0],
                             photometric="minisblack", planarconfig="contig", **extra)
    sample = crops([tmp_path / "source", tmp_path / "target"], channels=channels)[0]
    assert [sample[key].shape[0] for key in ("x_src", "y_tgt")] == list(channels)
    with pytest.raises(InputError, match="channels where 7 are wanted"):
        crops([tmp_path / "source", tmp_path / "target"], channels=(7, channels[1]))


def test_white_of_deep_pictures(tmp_path):
    levels = np.linspace(0, 4095, 32 * 32).reshape(32, 32).round().astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    with pytest.warns(UserWarning, match="if it has 12 bits, say white=4095"):
        assert crops([tmp_path] * 2, load_size=32)[0]["x_src"].max() < -0.8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert crops([tmp_path] * 2, load_size=32, white=4095)[0]["x_src"].max() == 1


def test_transparent_places_are_white_and_their_hidden_colour_is_not_seen(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., 0] = 255                                          # red, and wholly transparent
    pixels[:16, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    crop = np.asarray(to_image(crops([tmp_path] * 2, load_size=32)[0]["x_src"]))
    assert (crop[:16] == (255, 0, 0)).all() and (crop[16:] == 255).all()


# ---- mistakes

def test_options_are_checked(folders):
    with pytest.raises(InputError, match="load_size 30 is smaller than the crop, 32"):
        crops(folders, load_size=30)
    with pytest.raises(InputError, match="unknown resize 'longer'"):
        crops(folders, resize="longer")
    with pytest.raises(InputError, match="unknown small 'shrink': refuse, enlarge, skip"):
        crops(folders, small="shrink")
    with pytest.raises(InputError, match="no such folder"):
        crops([folders[0], folders[0] / "nowhere"])


def test_all_bad_files_are_named_at_once_or_skipped(folders):
    (folders[0] / "page.jpg").write_text("<html>")
    with pytest.raises(InputError, match="^[^;]*page.jpg: cannot be read as an image"):
        crops(folders)
    cut = (folders[0] / "0.png").read_bytes()
    (folders[0] / "cut.png").write_bytes(cut[:1000])
    with pytest.raises(InputError, match=r"2 files cannot be used: .*cut.png: .*page.jpg: "):
        crops(folders)
    with pytest.warns(UserWarning, match="2 of 7 files are skipped: .*cut.png.*page.jpg"):
        data = crops(folders, skip_bad=True)
    assert [f.name for f in data.files["source"]] == [f"{i}.png" for i in range(5)]
    for i in range(5):
        (folders[0] / f"{i}.png").write_text("broken")
    with pytest.raises(InputError, match="none of its 7 images can be used"), \
            warnings.catch_warnings(action="ignore"):
        crops(folders, skip_bad=True)


def test_all_small_files_are_named_and_refused_enlarged_or_skipped(folders):
    noise(64, 20).save(folders[1] / "low.png")
    noise(10, 64).save(folders[1] / "thin.png")
    named = "low.png is 64x20 pixels; .*thin.png is 10x64 pixels, smaller than the crop, 32: "
    with pytest.raises(InputError, match=named + "use larger images"):
        crops(folders)
    with pytest.warns(UserWarning, match=named + "skipped"):
        assert len(crops(folders, small="skip").files["target"]) == 3
    for resize, load_size in (("shorter", 34), ("square", 34), ("none", 10)):
        with pytest.warns(UserWarning, match=named + "enlarged"):
            data = crops(folders, small="enlarge", resize=resize, load_size=load_size)
        assert len(data.files["target"]) == 5
        assert all(data[s]["y_tgt"].shape == (3, 32, 32) for s in range(5))


@pytest.mark.parametrize("inner", [0, 1])
def test_a_folder_inside_the_other_is_refused(folders, inner):
    inside = folders[1 - inner] / "inside"
    inside.mkdir()
    noise(40, 40).save(inside / "a.png")
    pair = [folders[0], folders[1]]
    pair[inner] = inside
    with pytest.raises(InputError, match="inside belongs to both source and target"):
        crops(pair)
    link = folders[0].parent / "link"
    link.symlink_to(inside)
    pair[inner] = link
    with pytest.raises(InputError, match="inside belongs to both source and target"):
        crops(pair)


def test_other_files_and_lost_links_are_said(folders):
    (folders[0] / "words.txt").write_text("words")
    (folders[0] / "lost.png").symlink_to("nowhere")
    with pytest.warns(UserWarning, match="lost.png .a link to nothing.; 1 file of other types"):
        crops(folders)


def test_what_is_converted_is_said(folders):
    noise(40, 40).convert("CMYK").save(folders[0] / "print.tif")
    with pytest.warns(UserWarning, match=r"CMYK is converted to RGB \(1 of 6 files\)"):
        crops(folders)


def test_a_file_that_changes_or_goes_is_named(folders):
    data = crops(folders)
    file = data.files["source"][0]
    sample = shuffled(5, 0, "source", 0).index(0)
    noise(44, 44, seed=9).save(file)
    with pytest.raises(InputError, match="0.png: was changed after it had been checked"):
        data[sample]
    file.unlink()
    with pytest.raises(InputError, match="0.png: no such file"):
        data[sample]


def test_input_error_survives_the_way_from_a_worker(folders):
    assert str(pickle.loads(pickle.dumps(InputError("a.png: broken")))) == "a.png: broken"
    data = crops(folders)
    file = data.files["source"][0]
    file.write_bytes(file.read_bytes()[:1000])                    # damaged after it was looked at
    sample = shuffled(5, 0, "source", 0).index(0)
    batches = iter(DataLoader(data, sampler=[sample], num_workers=1))
    message = ""
    try:
        next(batches)
    except InputError as e:
        message = str(e)
        e.__traceback__ = None            # it holds the loader, whose end would take 5 s
    assert "semst.data.InputError: " in message and "0.png: was changed" in message
