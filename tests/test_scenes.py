"Geometry never depends on the look, layouts have their statistics, and folders are exact."
import hashlib
import json
import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from semst.data import InputError, list_images
from semst.synthetic.animals import ANIMAL_CLASSES, animal_scene
from semst.synthetic.looks import (FAMILY, GAME_COLOURS, PALETTE, TEXTURE, VARIETY, channels,
                                   colour_rows, read_colours, texture_of)
from semst.synthetic.noise import keyed_random
from semst.synthetic.scenes import (CLASSES, FAMILIES, LANDSCAPES, LAYOUT, STREETS,
                                    build_landscape, build_street, classes_of, layouts_of,
                                    scene, write_scenes)
from semst.synthetic.stage import (EYE, FOCAL, GROUND_ITEM, Bar, LandscapeClass, Part, Stage,
                                   StreetClass, Thing, bars, car, person, place, pole, scatter,
                                   tree)

STREET_LOOKS, LANDSCAPE_LOOKS = ["parsing", "sim", "game", "photo"], ["summer", "winter"]
LAYOUTS = list(STREETS)
AIMS = dict(open=(0.43, 0.03), wooded=(0.27, 0.20), forest=(0.15, 0.38))   # sky and trees


def cases():
    return [(look, layout) for look in STREET_LOOKS + LANDSCAPE_LOOKS for layout in LAYOUTS]


def pixels(*args):
    return np.asarray(scene(*args)[0]).astype(int)


def empty(h=50, w=50, classes=StreetClass):
    return Stage(keyed_random("t"), classes, h, w)


# ---- one geometry, several looks

@pytest.mark.parametrize("looks", [STREET_LOOKS, LANDSCAPE_LOOKS])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_mask_does_not_depend_on_the_look(looks, layout):
    for seed in range(6):
        for size in (48, (40, 96)):
            drawn = [scene(look, seed, size, layout) for look in looks]
            assert all(torch.equal(mask, drawn[0][1]) for _, mask in drawn)
            assert len({picture.tobytes() for picture, _ in drawn}) == len(looks)


def test_animals_come_through_with_their_oracles():
    picture, mask = animal_scene("zebra", 4, 48, "horse")
    again, mask_again = scene("zebra", 4, (48, 48), layout="horse")
    assert again.tobytes() == picture.tobytes() and torch.equal(mask_again, mask)
    assert torch.equal(mask, scene("horse", 4, 48)[1])


def test_every_look_has_its_own_layout_by_default():
    for look, layout in LAYOUT.items():
        assert scene(look, 2, 32)[0].tobytes() == scene(look, 2, 32, layout)[0].tobytes()
    assert set(LAYOUT) == set(FAMILIES)
    assert LAYOUT["game"] == LAYOUT["sim"] == LAYOUT["summer"] == "open"
    assert LAYOUT["photo"] == LAYOUT["winter"] == "wooded"


def test_layouts_and_seeds_tell_geometries_apart():
    masks = {scene(look, seed, 48, layout)[1].numpy().tobytes()
             for look in ("sim", "summer") for layout in LAYOUTS for seed in range(-2, 8)}
    assert len(masks) == 60


def test_a_parsing_is_its_mask_in_colours():
    picture, mask = scene("parsing", 3, (48, 96))
    assert np.array_equal(np.asarray(picture), PALETTE[mask.numpy()])
    assert PALETTE.shape == (11, 3) and len(np.unique(PALETTE, axis=0)) == 11


@pytest.mark.parametrize("look", ["sim", "game"])
def test_a_simulator_is_flat_and_a_photograph_is_not(look):
    "A frame has few colours, a photograph thousands; they are far apart everywhere."
    for seed in range(4):
        flat, photo = pixels(look, seed, 64, "open"), pixels("photo", seed, 64, "open")
        counts = [len(np.unique(p.reshape(-1, 3), axis=0)) for p in (flat, photo)]
        assert counts[0] < 150 and counts[1] > 1500
        assert np.abs(flat - photo).mean() > 25


def test_summers_are_green_and_winters_are_not():
    for seed in range(5):
        meadow = scene("summer", seed, 48, "open")[1].numpy() == LandscapeClass.MEADOW
        drawn = [pixels(look, seed, 48, "open") for look in LANDSCAPE_LOOKS]
        summer, winter = (picture[meadow].mean(0) for picture in drawn)
        assert summer[1] > summer[0] + 10 and summer[1] > summer[2] + 40
        assert winter.min() > 150 and np.ptp(winter) < 40


# ---- the game: a colour for every thing

def class_colours(look, label, seeds):
    "Mean colour of a class in each of some scenes."
    drawn = [scene(look, seed, 64, "open") for seed in seeds]
    found = [np.asarray(p)[m.numpy() == label] for p, m in drawn]
    return np.stack([values.mean(0) for values in found if len(values) > 20])


@pytest.mark.parametrize("label", [StreetClass.SKY, StreetClass.ROAD, StreetClass.TREE])
def test_in_a_game_a_class_has_many_colours_and_in_a_simulator_one(label):
    game, sim = (class_colours(look, label, range(40)).std(0).mean() for look in ("game", "sim"))
    assert game > 40 > 25 > sim


def test_skies_of_the_game_are_flat_and_near_the_colours_of_the_list():
    "Skies are unlit, so they show a colour of the list and what it was varied by."
    listed, nearest = 255 * channels(colour_rows("game")[0]), []
    for seed in range(80):
        picture, mask = scene("game", seed, 32)
        sky = np.unique(np.asarray(picture)[mask.numpy() == StreetClass.SKY], axis=0)
        assert len(sky) == 1
        apart = np.abs(listed - sky).max(1)
        assert apart.min() <= 255 * VARIETY / 2 + 1
        nearest.append(apart.argmin())
    assert set(nearest) == set(range(len(listed)))


def test_two_trees_of_one_scene_may_differ_in_colour():
    st = build_street("forest", 1, 96, 192)
    assert st.surfaces.item[st.surfaces.label == StreetClass.TREE].max() > 100
    picture, mask = scene("game", 1, (96, 192), "forest")
    trees = np.asarray(picture)[mask.numpy() == StreetClass.TREE]
    assert len(np.unique(trees, axis=0)) > 8


def test_colours_of_the_game_tell_little_about_the_class():
    "Read new scenes by the class that is likeliest at a pixel's colour: sim .92, game .35."
    def read(look, seeds):
        drawn = [scene(look, seed, 64, "open") for seed in seeds]
        cells = [np.asarray(p).reshape(-1, 3) // 32 @ np.array([64, 8, 1]) for p, _ in drawn]
        return np.concatenate(cells), np.concatenate([m.numpy().ravel() for _, m in drawn])
    def accuracy(look):
        counts, (cells, labels) = np.zeros((512, 11)), read(look, range(150))
        np.add.at(counts, (cells, labels), 1)
        best = (counts / np.bincount(labels, minlength=11)).argmax(1)        # classes weigh alike
        cells, labels = read(look, range(1000, 1050))
        return np.mean([(best[cells[labels == k]] == k).mean() for k in range(11)])
    assert accuracy("sim") > 0.85 and accuracy("game") < 0.45


# ---- classes and their statistics

def test_classes():
    assert CLASSES == ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence",
                       "car", "pedestrian", "bicyclist")
    assert [classes_of(look) for look in STREET_LOOKS] == [CLASSES] * 4
    landscape = ("sky", "mountain", "hill", "meadow", "water", "tree")
    assert classes_of("summer") == classes_of("winter") == landscape
    assert classes_of("zebra") == ANIMAL_CLASSES
    names = {line.split()[0] for line in TEXTURE.strip().splitlines()}
    assert names == set(CLASSES) | set(landscape)


@pytest.mark.parametrize("build, classes", [(build_street, StreetClass),
                                            (build_landscape, LandscapeClass)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shares_of_a_layout(build, classes, layout):
    "Sky and trees as promised (100 scenes, within 4 points), and every class in the first 50."
    masks = np.stack([build(layout, seed, 64, 64).surfaces.label for seed in range(100)])
    sky, trees = ((masks == label).mean() for label in (classes.SKY, classes.TREE))
    assert (sky, trees) == pytest.approx(AIMS[layout], abs=0.04)
    assert set(np.unique(masks[:50])) == set(classes)
    assert (masks[:, -1] != classes.SKY).all() and set(LANDSCAPES) == set(STREETS)


# ---- the same arguments, the same scene

def random_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("look", ["photo", "game"])
def test_nothing_but_the_arguments_decides_and_global_dice_are_left_alone(look):
    wanted = scene(look, 5, 48)[0].tobytes()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random_states()
    scene("winter", 9, 40)
    assert scene(look, 5, 48)[0].tobytes() == wanted
    assert random_states() == before
    for seed in (np.int64(5), torch.tensor(5), np.uint8(5)):
        assert scene(look, seed, 48)[0].tobytes() == wanted


def digest_of(looks):
    digest = hashlib.sha256()
    for look in looks:
        for layout in ("open", "forest"):
            for seed in (0, 7):
                for part in scene(look, seed, (48, 80), layout):
                    digest.update(np.asarray(part).tobytes())
    return digest.hexdigest()


def test_scenes_are_the_same_bits_everywhere():
    "Only +, -, *, /, sqrt and whole numbers: a new digest means results that cannot be compared."
    wanted = "3de90bd1a0b2be87e6acf6acb159bdcd1f5b1ce15bd0daeae88b807cd7602f16"
    assert digest_of(["parsing", "sim", "photo", "summer", "winter"]) == wanted
    assert digest_of(["game"]) == "c275f98c10dfec98fb63b6ade9bdd0587fad30b77301a02ca9df561c9009bc29"


# ---- sizes and errors

@pytest.mark.parametrize("look, layout", cases())
def test_any_size_gives_8_bit_rgb_and_a_byte_mask(look, layout):
    for h, w in ((16, 16), (17, 40), (64, 33), (30, 300)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture, mask = scene(look, 1, (h, w), layout)
        assert picture.mode == "RGB" and picture.size == (w, h)
        assert mask.shape == (h, w) and mask.dtype == torch.uint8 and mask.is_contiguous()
        assert mask.max() < len(classes_of(look))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_larger_picture_shows_the_same_scene(layout):
    for seed in range(4):
        small, large = (scene("sim", seed, size, layout)[1] for size in (48, 240))
        blocks = large.reshape(48, 5, 48, 5).permute(0, 2, 1, 3).reshape(48, 48, 25)
        assert (blocks.mode(-1).values == small).float().mean() > 0.93


@pytest.mark.parametrize("call, message", [
    (lambda: scene("cartoon", 0), "look must be one of parsing, sim, game, photo, summer, winter, "
                                  "horse, zebra, got 'cartoon'"),
    (lambda: classes_of("night"), "look must be one of"),
    (lambda: scene("photo", 0, layout="horse"),
     "layout of photo must be one of open, wooded, forest, got 'horse'"),
    (lambda: scene("horse", 0, layout="open"),
     "layout of horse must be one of horse, zebra, got 'open'"),
    (lambda: scene("sim", 0, (15, 40)), "at least 16 pixels a side, got 15x40"),
    (lambda: scene("zebra", 0, (32, 64)), "square, got 32x64")])
def test_what_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ---- the stage

def test_the_camera_projects_there_and_back():
    st = empty(50, 120)
    box, X, z = st.ground()
    back = st.horizon + FOCAL * EYE / z
    assert np.allclose(back[1:], st.y[box[0]][1:], atol=1e-5)
    assert np.allclose(st.centre + FOCAL * X / z, st.x, atol=1e-4)
    (rows, cols), u, v = st.frame(1.0, 10.0, 0.5, 2.0)
    assert np.allclose(st.centre + FOCAL * (1.0 + u) / 10, st.x[:, cols], atol=1e-5)
    assert np.allclose(st.horizon + FOCAL * (EYE - v) / 10, st.y[rows], atol=1e-5)


def test_putting_changes_all_planes_or_none():
    st = empty(20, 20)
    before = [plane.copy() for plane in st.surfaces]
    inside = np.zeros((5, 4), bool)
    inside[1, 2] = True
    st.put((slice(2, 7), slice(3, 7)), inside, 7, 1, 9, 0.5, 0.25, 33, -1)
    assert [plane[3, 5] for plane in st.surfaces] == [7, 1, 9, 0.5, 0.25, 33, -1]
    for plane, old in zip(st.surfaces, before):
        assert (plane != old).sum() <= 1


def test_bars_are_nearest_distances():
    r = np.random.default_rng(0)
    u, v = r.random((2, 300)).astype(np.float32)
    bones = [Bar(0.1, 0.2, 0.8, 0.3, 0.05, Part.DARK), Bar(0.5, 0.9, 0.5, 0.4, 0.1, Part.GLASS)]
    t = np.linspace(0, 1, 2001)[:, None]
    each = np.stack([np.hypot(u - b.x0 - t * (b.x1 - b.x0), v - b.y0 - t * (b.y1 - b.y0)).min(0)
                     - b.radius for b in bones])
    d, part = bars(u, v, bones)
    assert np.allclose(d, each.min(0), atol=1e-4) and (part == each.argmin(0) + 1).mean() > 0.99


@pytest.mark.parametrize("order", [1, -1])
def test_the_near_thing_stands_in_front(order):
    st = empty(64, 64)
    far = Thing(9., person, lambda z: 0., (1, 1), {})
    near = Thing(5., car, lambda z: 0., (1, 1), {})
    place(st, 10, *[[far], [near]][::order])
    below = st.surfaces.label[int(64 * (st.horizon + 0.1)):, int(64 * st.centre)]
    assert StreetClass.CAR in below and StreetClass.PEDESTRIAN not in below


def test_a_far_pole_is_never_missed():
    for X in np.linspace(-3, 3, 13):
        st = empty(64, 64)
        pole(st, 10, float(X), 60.)
        assert (st.surfaces.label == StreetClass.POLE).any()


@pytest.mark.parametrize("classes", [StreetClass, LandscapeClass])
def test_a_tree_is_a_tree_in_both_families(classes):
    st = empty(64, 64, classes)
    tree(st, 10, 0., 8., (4., 5.))
    assert set(np.unique(st.surfaces.label)) == {classes.SKY, classes.TREE}


def test_shadows_change_the_light_of_the_ground_and_no_label():
    st = build_street("open", 3, 64, 96)
    before, lit = st.surfaces.label.copy(), st.surfaces.lit.copy()
    for X in (-3, 0, 4):
        st.shade(X, 8, 2, 2)
    changed = st.surfaces.lit != lit
    assert np.array_equal(st.surfaces.label, before) and changed.sum() > 20
    assert np.isin(before[changed], (StreetClass.ROAD, StreetClass.PAVEMENT)).all()
    assert (st.surfaces.item[changed] == GROUND_ITEM).all()


def test_scattered_things_are_even_over_the_picture():
    things = scatter(random.Random(0), 4000, tree, None, 5, 50, (1, 1))
    nearness = np.array([1 / thing.z for thing in things])
    assert nearness.min() >= 1 / 50 and nearness.max() <= 1 / 5
    assert nearness.mean() == pytest.approx((1 / 5 + 1 / 50) / 2, abs=0.003)


# ---- tables of colours

def test_a_table_is_read_by_looks_and_parts_without_a_row_take_the_class_colours():
    table = read_colours("sky 000000 ff8000 0000ff 00ff00\nsky.mark 1 2 3 4", "day", "night")
    assert table["day"]["sky"] == ["000000", "ff8000"] and table["night"]["sky.mark"] == ["3", "4"]
    assert channels(["ff8000"])[0].tolist() == pytest.approx([1, 128 / 255, 0])
    water = colour_rows("winter")[len(Part) * LandscapeClass.WATER:][:len(Part)]
    assert water[Part.MARK] == water[Part.PLAIN] == ["8fa9ba", "d7e3ea"]


@pytest.mark.parametrize("look", [look for look in FAMILY if look != "parsing"])
def test_every_class_and_part_has_colours(look):
    rows = colour_rows(look)
    assert len(rows) == len(Part) * len(FAMILY[look])
    assert all(channels(row).shape == (len(row), 3) for row in rows)
    assert look == "game" or {len(row) for row in rows} == {2}


def test_game_colours_are_all_of_known_classes_and_parts():
    parts = ("", ".dark", ".glass", ".mark")
    names = {name + part for name in CLASSES for part in parts}
    assert set(read_colours(GAME_COLOURS, "game")["game"]) <= names


def test_texture_is_looked_up_by_class():
    label = np.array([[StreetClass.SKY, StreetClass.CAR]])
    assert texture_of(label, "photo")[:, 0, 1] == pytest.approx([0.6, 1.2, 0.25, 0.3])


# ---- folders

def test_scene_i_of_a_folder_has_seed_plus_i(tmp_path):
    names = [f"{i:05d}.png" for i in range(3)]
    for look, size in (("zebra", 32), ("photo", (32, 48))):
        folder = write_scenes(tmp_path / "new" / look, look, 3, size, seed=11)
        assert folder == tmp_path / "new" / look
        for sub in ("images", "labels"):
            assert [f.name for f in list_images(folder / sub)] == names
        for i, name in enumerate(names):
            picture, mask = scene(look, 11 + i, size)
            with Image.open(folder / "images" / name) as f:
                assert f.mode == "RGB" and f.tobytes() == picture.tobytes()
            with Image.open(folder / "labels" / name) as f:
                assert f.mode == "L" and np.array_equal(np.asarray(f), mask.numpy())
    wanted = dict(look="photo", n=3, size=[32, 48], seed=11, layout="wooded")
    assert json.loads((folder / "scenes.json").read_text()) == wanted


def test_a_folder_that_is_there_is_not_drawn_again_but_a_damaged_one_is(tmp_path):
    write_scenes(tmp_path, "sim", 2, 16)
    first = tmp_path / "images" / "00000.png"
    first.write_bytes(b"mark")
    write_scenes(tmp_path, "sim", 2, (16, 16), layout="open")     # the same in other words
    assert first.read_bytes() == b"mark"
    (tmp_path / "labels" / "00001.png").unlink()
    write_scenes(tmp_path, "sim", 2, 16)
    assert first.read_bytes() != b"mark" and (tmp_path / "labels" / "00001.png").exists()


@pytest.mark.parametrize("other", [dict(look="parsing"), dict(n=3), dict(size=32), dict(seed=5),
                                   dict(layout="forest")])
def test_other_settings_are_refused_and_the_folder_is_named(tmp_path, other):
    settings, folder = dict(look="sim", n=2, size=16), tmp_path / "x"
    write_scenes(folder, **settings)
    with pytest.raises(InputError, match=f"other settings .*: delete {folder} or"):
        write_scenes(folder, **settings | other)


def test_a_damaged_note_is_named(tmp_path):
    write_scenes(tmp_path, "sim", 1, 16)
    (tmp_path / "scenes.json").write_text('{"look": ')
    with pytest.raises(InputError, match="scenes.json"):
        write_scenes(tmp_path, "sim", 1, 16)


def test_leftovers_in_the_folder_are_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00002.png").write_bytes(b"")
    with pytest.raises(InputError, match="images holds 00002.png, which is none of these 2 scenes"):
        write_scenes(tmp_path, "horse", 2, 16)


def test_wrong_arguments_leave_no_finished_folder(tmp_path):
    with pytest.raises(InputError, match="look must be one of"):
        write_scenes(tmp_path / "a", "cow", 2, 16)
    with pytest.raises(InputError, match="layout of sim must be one of"):
        write_scenes(tmp_path / "b", "sim", 2, 16, layout="dense")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b" / "scenes.json").exists()
    assert all(layouts_of(look) for look in FAMILIES)


def test_a_picture_too_many_in_a_complete_folder_is_named(tmp_path):
    write_scenes(tmp_path, "sim", 2, 16)
    (tmp_path / "images/.DS_Store").write_bytes(b"")
    write_scenes(tmp_path, "sim", 2, 16)
    (tmp_path / "images/mine.png").write_bytes(b"")
    with pytest.raises(InputError, match="mine.png, .*: remove it"):
        write_scenes(tmp_path, "sim", 2, 16)
