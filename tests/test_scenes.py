"Geometry never depends on the look, layouts have the statistics they promise, and folders of scenes are what training reads."
import hashlib
import json
import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from semst.synthetic.animals import ANIMAL_CLASSES, animal_scene, dice
from semst.data import InputError, list_images
from semst.synthetic.scenes import (CAR, CLASSES, EYE, FAMILY, FOCAL, GROUND, LANDSCAPE_CLASSES, LANDSCAPES, LAYOUT, PALETTE, PAVEMENT, POLE, ROAD, SKY,
                          STREETS, TEXTURE, TREE, Stage, bars, car, classes_of, crowd, draw, landscape, palette, person, pole, scene, street,
                          tree, write_scenes)

STREET_LOOKS, LANDSCAPE_LOOKS, LAYOUTS = ["parsing", "sim", "photo"], ["summer", "winter"], list(STREETS)
AIMS = dict(open=(0.43, 0.03), wooded=(0.27, 0.20), forest=(0.15, 0.38))        # shares of sky and of trees


def cases(): return [(look, layout) for look in STREET_LOOKS + LANDSCAPE_LOOKS for layout in LAYOUTS]
def pixels(*args): return np.asarray(scene(*args)[0]).astype(int)


# ---- one geometry, several looks

@pytest.mark.parametrize("looks", [STREET_LOOKS, LANDSCAPE_LOOKS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mask_does_not_depend_on_the_look(looks, layout):
    for seed in range(6):
        for size in (48, (40, 96)):
            first, *others = [scene(look, seed, size, layout) for look in looks]
            for picture, mask in others:
                assert torch.equal(mask, first[1])
                assert picture.tobytes() != first[0].tobytes()


def test_animals_come_through_with_their_oracles():
    picture, mask = animal_scene("zebra", 4, 48, "horse")
    again, mask_again = scene("zebra", 4, (48, 48), layout="horse")
    assert again.tobytes() == picture.tobytes() and torch.equal(mask_again, mask) and torch.equal(mask, scene("horse", 4, 48)[1])


def test_every_look_has_its_own_layout_by_default():
    for look, layout in LAYOUT.items(): assert scene(look, 2, 32)[0].tobytes() == scene(look, 2, 32, layout)[0].tobytes()
    assert LAYOUT == dict(parsing="open", sim="open", photo="wooded", summer="open", winter="wooded", horse="horse", zebra="zebra")


def test_layouts_and_seeds_tell_geometries_apart():
    masks = {scene(look, seed, 48, layout)[1].numpy().tobytes() for look in ("sim", "summer") for layout in LAYOUTS for seed in range(-2, 8)}
    assert len(masks) == 60


def test_a_parsing_is_its_mask_in_colours():
    picture, mask = scene("parsing", 3, (48, 96))
    assert np.array_equal(np.asarray(picture), PALETTE[mask.numpy()]) and PALETTE.shape == (11, 3) and len(np.unique(PALETTE, axis=0)) == 11


def test_a_game_is_flat_and_a_photograph_is_not():
    "A game frame has few colours, a photograph thousands; they are far apart everywhere."
    for seed in range(4):
        sim, photo = pixels("sim", seed, 64, "open"), pixels("photo", seed, 64, "open")
        assert len(np.unique(sim.reshape(-1, 3), axis=0)) < 150 < 1500 < len(np.unique(photo.reshape(-1, 3), axis=0))
        assert np.abs(sim - photo).mean() > 25


def test_summers_are_green_and_winters_are_not():
    for seed in range(5):
        mask = scene("summer", seed, 48, "open")[1].numpy()
        summer, winter = (pixels(look, seed, 48, "open")[mask == LANDSCAPE_CLASSES.index("meadow")].mean(0) for look in ("summer", "winter"))
        assert summer[1] > summer[0] + 10 and summer[1] > summer[2] + 40 and winter.min() > 150 and np.ptp(winter) < 40


# ---- classes and their statistics

def test_classes():
    assert CLASSES == ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
    assert [classes_of(look) for look in ("parsing", "sim", "photo")] == [CLASSES] * 3
    assert classes_of("summer") is classes_of("winter") is LANDSCAPE_CLASSES and classes_of("zebra") is ANIMAL_CLASSES
    assert CLASSES[TREE] == LANDSCAPE_CLASSES[TREE] == "tree" and CLASSES[SKY] == LANDSCAPE_CLASSES[SKY] == "sky"
    assert set(TEXTURE) == set(CLASSES) | set(LANDSCAPE_CLASSES)


@pytest.mark.parametrize("make, layouts, names", [(street, STREETS, CLASSES), (landscape, LANDSCAPES, LANDSCAPE_CLASSES)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shares_of_a_layout(make, layouts, names, layout):
    "Sky and trees as promised (100 scenes: within 4 points), every class in some of the first 50, the sky above and the ground below."
    masks = np.stack([make(layout, seed, 64, 64).surfaces.label for seed in range(100)])
    sky, trees = ((masks == label).mean() for label in (SKY, TREE))
    assert (sky, trees) == pytest.approx(AIMS[layout], abs=0.04)
    assert set(np.unique(masks[:50])) == set(range(len(names)))
    assert (masks[:, -1] != SKY).all() and len(layouts) == 3


# ---- the same arguments, the same scene

def test_nothing_but_the_arguments_decides_and_global_dice_are_left_alone():
    wanted = scene("photo", 5, 48)[0].tobytes()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    scene("winter", 9, 40)
    assert scene("photo", 5, 48)[0].tobytes() == wanted
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert all(scene("photo", seed, 48)[0].tobytes() == wanted for seed in (np.int64(5), torch.tensor(5), np.uint8(5)))


DIGEST = "3de90bd1a0b2be87e6acf6acb159bdcd1f5b1ce15bd0daeae88b807cd7602f16"


def test_scenes_are_the_same_bits_everywhere():
    "Only +, -, *, /, sqrt and whole numbers are used: if this digest changes, results on scenes cannot be compared with old ones."
    digest = hashlib.sha256()
    for look in STREET_LOOKS + LANDSCAPE_LOOKS:
        for layout in ("open", "forest"):
            for seed in (0, 7):
                for part in scene(look, seed, (48, 80), layout): digest.update(np.asarray(part).tobytes())
    assert digest.hexdigest() == DIGEST


# ---- sizes and errors

@pytest.mark.parametrize("look, layout", cases())
def test_any_size_gives_8_bit_rgb_and_a_byte_mask(look, layout):
    for h, w in ((16, 16), (17, 40), (64, 33), (30, 300)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture, mask = scene(look, 1, (h, w), layout)
        assert picture.mode == "RGB" and picture.size == (w, h)
        assert mask.shape == (h, w) and mask.dtype == torch.uint8 and mask.is_contiguous() and mask.max() < len(classes_of(look))


def test_a_larger_picture_shows_the_same_scene():
    for layout in LAYOUTS:
        for seed in range(4):
            small, large = (scene("sim", seed, size, layout)[1] for size in (48, 240))
            blocks = large.reshape(48, 5, 48, 5).permute(0, 2, 1, 3).reshape(48, 48, 25)
            assert (blocks.mode(-1).values == small).float().mean() > 0.93


def test_what_is_refused():
    with pytest.raises(InputError, match="look must be one of parsing, sim, photo, summer, winter, horse, zebra, got 'cartoon'"): scene("cartoon", 0)
    with pytest.raises(InputError, match="look must be one of"): classes_of("night")
    with pytest.raises(InputError, match="layout of photo must be one of open, wooded, forest, got 'horse'"): scene("photo", 0, layout="horse")
    with pytest.raises(InputError, match="layout of horse must be one of horse, zebra, got 'open'"): scene("horse", 0, layout="open")
    with pytest.raises(InputError, match="at least 16 pixels a side, got 15x40"): scene("sim", 0, (15, 40))
    with pytest.raises(InputError, match="square, got 32x64"): scene("zebra", 0, (32, 64))


# ---- the pieces

def test_the_camera_projects_there_and_back():
    st = Stage(dice("t"), 50, 120)
    box, X, z = st.ground()
    assert np.allclose((st.horizon + FOCAL * EYE / z)[1:], st.y[box[0]][1:], atol=1e-5) and np.allclose(st.centre + FOCAL * X / z, st.x, atol=1e-4)
    (rows, cols), u, v = st.frame(1.0, 10.0, 0.5, 2.0)
    assert np.allclose(st.centre + FOCAL * (1.0 + u) / 10, st.x[:, cols], atol=1e-5)
    assert np.allclose(st.horizon + FOCAL * (EYE - v) / 10, st.y[rows], atol=1e-5)


def test_putting_changes_all_planes_or_none():
    st = Stage(dice("t"), 20, 20)
    before = [plane.copy() for plane in st.surfaces]
    inside = np.zeros((5, 4), bool)
    inside[1, 2] = True
    st.put((slice(2, 7), slice(3, 7)), inside, 7, 1, 9, 0.5, 0.25, 33, -1)
    assert [plane[3, 5] for plane in st.surfaces] == [7, 1, 9, 0.5, 0.25, 33, -1]
    for plane, old in zip(st.surfaces, before): assert (plane != old).sum() <= 1


def test_bars_are_nearest_distances():
    r = np.random.default_rng(0)
    (u, v), bones = r.random((2, 300)).astype(np.float32), [(0.1, 0.2, 0.8, 0.3, 0.05, 1), (0.5, 0.9, 0.5, 0.4, 0.1, 2)]
    t = np.linspace(0, 1, 2001)[:, None]
    each = np.stack([np.hypot(u - a - t * (c - a), v - b - t * (d - b)).min(0) - radius for a, b, c, d, radius, _ in bones])
    d, part = bars(u, v, bones)
    assert np.allclose(d, each.min(0), atol=1e-4) and (part == each.argmin(0) + 1).mean() > 0.99


def test_the_near_thing_stands_in_front():
    for order in (1, -1):
        st = Stage(dice("t"), 64, 64)
        crowds = [[(9., person, lambda z: 0., (1, 1), {})], [(5., car, lambda z: 0., (1, 1), {})]]
        draw(st, 10, *crowds[::order])
        below = st.surfaces.label[int(64 * (st.horizon + 0.1)):, int(64 * st.centre)]
        assert CAR in below and 9 not in below                                 # the person's legs are hidden behind the car


def test_a_far_pole_is_never_missed():
    for X in np.linspace(-3, 3, 13):
        st = Stage(dice("t"), 64, 64)
        pole(st, 10, float(X), 60.)
        assert (st.surfaces.label == POLE).any()


def test_shadows_change_the_light_of_the_ground_and_no_label():
    st = street("open", 3, 64, 96)
    before, lit = st.surfaces.label.copy(), st.surfaces.lit.copy()
    for X in (-3, 0, 4): st.shade(X, 8, 2, 2)
    changed = st.surfaces.lit != lit
    assert np.array_equal(st.surfaces.label, before) and changed.sum() > 20
    assert np.isin(before[changed], (ROAD, PAVEMENT)).all() and (st.surfaces.item[changed] == GROUND).all()


def test_a_crowd_is_even_over_the_picture():
    nearness = np.array([1 / thing[0] for thing in crowd(random.Random(0), 4000, tree, None, 5, 50, (1, 1))])
    assert nearness.min() >= 1 / 50 and nearness.max() <= 1 / 5 and nearness.mean() == pytest.approx((1 / 5 + 1 / 50) / 2, abs=0.003)


def test_parts_without_a_colour_take_the_class_colour():
    table = palette("winter", LANDSCAPE_CLASSES)
    assert table.shape == (3, 2, 24) and np.array_equal(table[:, :, 4 * 4], table[:, :, 4 * 4 + 3]) and table.min() >= 0 and table.max() <= 1


# ---- folders

def test_scene_i_of_a_folder_has_seed_plus_i(tmp_path):
    for look, size in (("zebra", 32), ("photo", (32, 48))):
        folder = write_scenes(tmp_path / "new" / look, look, 3, size, seed=11)
        assert folder == tmp_path / "new" / look
        assert [f.name for f in list_images(folder / "images")] == [f.name for f in list_images(folder / "labels")] == [f"{i:05d}.png" for i in range(3)]
        for i in range(3):
            picture, mask = scene(look, 11 + i, size)
            with Image.open(folder / "images" / f"{i:05d}.png") as f: assert f.mode == "RGB" and f.tobytes() == picture.tobytes()
            with Image.open(folder / "labels" / f"{i:05d}.png") as f: assert f.mode == "L" and np.array_equal(np.asarray(f), mask.numpy())
    assert json.loads((folder / "scenes.json").read_text()) == dict(look="photo", n=3, size=[32, 48], seed=11, layout="wooded")


def test_a_folder_that_is_there_is_not_drawn_again_but_a_damaged_one_is(tmp_path):
    write_scenes(tmp_path, "sim", 2, 16)
    first = tmp_path / "images" / "00000.png"
    first.write_bytes(b"mark")
    write_scenes(tmp_path, "sim", 2, (16, 16), layout="open")                   # the same settings, said in other words
    assert first.read_bytes() == b"mark"
    (tmp_path / "labels" / "00001.png").unlink()
    write_scenes(tmp_path, "sim", 2, 16)
    assert first.read_bytes() != b"mark" and (tmp_path / "labels" / "00001.png").exists()


@pytest.mark.parametrize("other", [dict(look="parsing"), dict(n=3), dict(size=32), dict(seed=5), dict(layout="forest")])
def test_other_settings_are_refused_and_the_folder_is_named(tmp_path, other):
    settings = dict(look="sim", n=2, size=16)
    write_scenes(tmp_path / "x", **settings)
    with pytest.raises(InputError, match=f"other settings .*: delete {tmp_path / 'x'} or"): write_scenes(tmp_path / "x", **settings | other)


def test_leftovers_in_the_folder_are_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00002.png").write_bytes(b"")
    with pytest.raises(InputError, match="images holds 00002.png, which is none of these 2 scenes"): write_scenes(tmp_path, "horse", 2, 16)


def test_wrong_arguments_leave_no_finished_folder(tmp_path):
    with pytest.raises(InputError, match="look must be one of"): write_scenes(tmp_path / "a", "cow", 2, 16)
    with pytest.raises(InputError, match="layout of sim must be one of"): write_scenes(tmp_path / "b", "sim", 2, 16, layout="dense")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b" / "scenes.json").exists()
    assert set(FAMILY) == set(LAYOUT)
