"A scene with animals depends on its arguments alone, and another look has the same mask."
import hashlib
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from semst.data import InputError
from semst.synthetic import animals
from semst.synthetic.animals import (ANIMAL_CLASSES, COATS, LAYERS, LOOKS, AnimalClass, Bone,
                                     animal_scene, body_field, bone_field, develop, draw_animal,
                                     draw_land, edge, paint, rgb, skeleton, stripes)
from semst.synthetic.noise import (fractal_noise, hash01, keyed_random, mix, pixel_grid, ramp,
                                   value_noise)

KINDS = ["horse", "zebra"]
GROUND, SKY, ANIMAL = AnimalClass
MEANS = {  # mean red, green and blue of seed 0 at 64 pixels; shares of ground, sky and animal
    "horse": ([94.64, 112.72, 70.34], [0.6421, 0.1658, 0.1921]),
    "zebra": ([155.69, 156.27, 131.49], [0.4238, 0.3879, 0.1882])}


def shares(mask):
    return np.bincount(np.asarray(mask).ravel(), minlength=3) / mask.numel()


def random_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


# ---- the same arguments, the same scene

@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_arguments_decides_and_global_dice_are_left_alone(kind):
    picture, mask = animal_scene(kind, 5, 64)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random_states()
    animal_scene("zebra", 99, 40)
    again, mask_again = animal_scene(kind, 5, 64)
    assert again.tobytes() == picture.tobytes() and torch.equal(mask, mask_again)
    assert random_states() == before


def test_another_process_draws_the_same():
    code = ("import hashlib; from semst.synthetic.animals import animal_scene; "
            "scenes = [animal_scene(k, 3, 48)[0].tobytes() for k in ('horse', 'zebra')]; "
            "print(hashlib.sha256(b''.join(scenes)).hexdigest())")
    scenes = [animal_scene(kind, 3, 48)[0].tobytes() for kind in KINDS]
    here = hashlib.sha256(b"".join(scenes)).hexdigest()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


def test_scenes_do_not_drift_with_versions():
    "If these numbers change, results cannot be compared with old ones (a last bit is allowed)."
    for kind, (colour, amounts) in MEANS.items():
        picture, mask = animal_scene(kind, 0, 64)
        assert np.asarray(picture).mean((0, 1)) == pytest.approx(colour, abs=0.1)
        assert shares(mask) == pytest.approx(amounts, abs=2e-3)


def test_seeds_and_kinds_tell_scenes_apart():
    pictures = {animal_scene(k, seed, 32)[0].tobytes() for k in KINDS for seed in range(-2, 20)}
    assert len(pictures) == 44


def test_whole_numbers_of_other_types_are_the_same_seed():
    wanted = animal_scene("horse", 7, 32)[0].tobytes()
    for seed in (np.int64(7), torch.tensor(7), np.uint8(7)):
        assert animal_scene("horse", seed, 32)[0].tobytes() == wanted


def test_random_numbers_are_keyed_by_the_parts():
    keys = [(1, 2), (12,), ("12",), ("1, 2",), (2, 1), (-1, 2), ()]
    assert len({keyed_random(*key).random() for key in keys}) == len(keys)


# ---- another look on the same layout

@pytest.mark.parametrize("kind, layout", [("zebra", "horse"), ("horse", "zebra")])
def test_an_oracle_has_the_same_mask_and_another_look(kind, layout):
    for seed in range(12):
        oracle, mask = animal_scene(kind, seed, 64, layout)
        picture, wanted = animal_scene(layout, seed, 64)
        assert torch.equal(mask, wanted)
        assert np.abs(np.asarray(oracle).astype(int) - np.asarray(picture)).mean() > 10


def test_the_own_layout_is_the_default_and_masks_of_own_layouts_differ():
    for kind in KINDS:
        own, default = animal_scene(kind, 3, 48, kind), animal_scene(kind, 3, 48)
        assert own[0].tobytes() == default[0].tobytes()
    assert not torch.equal(animal_scene("horse", 3, 48)[1], animal_scene("zebra", 3, 48)[1])


def test_horses_on_a_zebra_layout_have_coats_of_several_colours():
    "The layout's own draws know one coat of zebras; the look draws its own."
    colours = []
    for seed in range(12):
        picture, mask = animal_scene("horse", seed, 48, "zebra")
        colours.append(np.asarray(picture)[mask.numpy() == ANIMAL].mean(0))
    assert np.std(colours, 0).max() > 8


# ---- pictures and masks

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 17, 63, 200])
def test_any_size_gives_8_bit_rgb_and_a_byte_mask(kind, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture, mask = animal_scene(kind, 1, size)
    assert picture.mode == "RGB" and picture.size == (size, size)
    assert mask.shape == (size, size) and mask.dtype == torch.uint8 and mask.is_contiguous()
    assert set(mask.unique().tolist()) <= {0, 1, 2}


def test_classes_are_ground_sky_animal_in_this_order():
    assert ANIMAL_CLASSES == ("ground", "sky", "animal")
    assert (GROUND, SKY, ANIMAL) == (0, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_scene_has_all_classes_in_sensible_amounts_and_places(kind):
    for seed in range(60):
        mask = animal_scene(kind, seed, 48)[1]
        ground, sky, animal = shares(mask)
        assert 0.25 < ground < 0.85 and 0.1 < sky < 0.6 and 0.02 < animal < 0.5, seed
        assert (mask[0] != GROUND).all() and (mask[-1] != SKY).all(), seed


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_the_majority_of_a_scene_drawn_eight_times_as_large(kind):
    for seed in range(3):
        mask, large = (animal_scene(kind, seed, size)[1] for size in (32, 256))
        blocks = large.reshape(32, 8, 32, 8).permute(0, 2, 1, 3).reshape(32, 32, 64)
        share = torch.stack([(blocks == label).float().mean(-1) for label in range(3)])
        agree, sure = share.argmax(0) == mask, share.amax(0) > 0.8
        assert agree[sure].float().mean() > 0.998 and agree.float().mean() > 0.98, seed


@pytest.mark.parametrize("kind", KINDS)
def test_animals_dyed_change_the_picture_only_where_the_mask_says(kind, monkeypatch):
    pictures = []
    for colour in ((1., 0., 0.), (0., 1., 0.)):
        monkeypatch.setitem(COATS, kind, [animals.Coat(colour, colour, colour)])
        picture, mask = animal_scene(kind, 4, 96)
        pictures.append(np.asarray(picture).astype(int))
    changed = torch.from_numpy(np.abs(pictures[0] - pictures[1]).max(-1))
    animal = mask == ANIMAL
    near = torch.nn.functional.max_pool2d(animal[None].float(), 3, 1, 1)[0] > 0
    assert (changed[~near] == 0).all()
    assert (changed[animal] > 0).float().mean() > 0.9             # all but hooves and eyes


def test_colours_of_the_domains_are_apart():
    def mean(kind):
        rows = [np.asarray(animal_scene(kind, s, 32)[0])[-8:].mean((0, 1)) for s in range(20)]
        return np.mean(rows, 0)
    (red, green, _), (red2, green2, _) = mean("horse"), mean("zebra")
    assert green > red + 15 and red2 > green2                     # green pasture, yellow savanna


def test_only_zebras_are_striped():
    "On the animals the luminance of zebras spreads much more widely, scene by scene on average."
    def spread(kind):
        scenes = (animal_scene(kind, seed, 96) for seed in range(12))
        return np.mean([np.asarray(p.convert("L"))[m.numpy() == ANIMAL].std() for p, m in scenes])
    assert spread("zebra") > 2 * spread("horse")


def test_what_is_refused():
    with pytest.raises(InputError, match="kind must be one of horse, zebra, got 'cow'"):
        animal_scene("cow", 0)
    with pytest.raises(InputError, match="layout must be one of horse, zebra, got 'open'"):
        animal_scene("horse", 0, layout="open")
    with pytest.raises(InputError, match="at least 16 pixels a side, got 15"):
        animal_scene("horse", 0, 15)


# ---- the pieces

def test_hash_is_the_documented_arithmetic():
    def by_hand(ix, iy, seed):
        h = (ix * 374761393 + iy * 668265263 + seed) % 2**32
        h = (h ^ (h >> 15)) * 2246822519 % 2**32
        h = (h ^ (h >> 13)) * 3266489917 % 2**32
        return (h >> 8) / 2**24
    r = random.Random(0)
    points = [(r.getrandbits(32), r.getrandbits(32)) for _ in range(200)]
    points += [(0, 0), (2**32 - 1, 2**32 - 1)]
    ix, iy = (np.array(v, np.uint32) for v in zip(*points))
    for seed in (0, 5, 2**31 - 1, 2**40 + 3):
        got = hash01(ix, iy, seed)
        assert got.dtype == np.float32
        assert got.tolist() == [by_hand(x, y, seed) for x, y in points]


def test_value_noise_blends_the_four_corners():
    def corner(i, j):
        return hash01(np.array([i % 2**32], np.uint32), np.array([j % 2**32], np.uint32), 7)
    for x, y in [(0.0, 0.0), (0.5, 0.5), (3.25, 8.75), (-1.5, 2.0)]:
        ix, iy = int(np.floor(x)), int(np.floor(y))
        u, v = (3 * t**2 - 2 * t**3 for t in (x - ix, y - iy))
        upper = (1 - u) * corner(ix, iy) + u * corner(ix + 1, iy)
        lower = (1 - u) * corner(ix, iy + 1) + u * corner(ix + 1, iy + 1)
        found = value_noise(np.float32([x]), np.float32([y]), 7)
        assert found == pytest.approx((1 - v) * upper + v * lower, abs=1e-6)


@pytest.mark.parametrize("noise", [value_noise, fractal_noise])
def test_noise_stays_in_range_broadcasts_and_continues_below_zero(noise):
    x = np.linspace(-9, 9, 301, dtype=np.float32)[None]
    y = np.linspace(-4, 4, 200, dtype=np.float32)[:, None]
    z = noise(x, y, 3)
    assert z.shape == (200, 301) and z.dtype == np.float32 and z.min() >= 0 and z.max() < 1
    assert np.abs(np.diff(z, axis=1)).max() < 0.35                # no jump, at zero or elsewhere
    assert not np.array_equal(z, noise(x, y, 4))
    assert np.allclose(z[::7, ::9], noise(x[:, ::9], y[::7], 3))  # a place keeps its number


def test_ramp_and_mix_keep_single_precision():
    t = np.linspace(-1, 2, 7, dtype=np.float32)
    assert ramp(t, 0.1, 0.7).dtype == np.float32 and mix(0.25, 1.5, t).dtype == np.float32
    assert ramp(t, 0., 1.).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    assert ramp(t, 1., 0.).tolist() == [1, 1, 1, 0.5, 0, 0, 0]


def test_edge_measures_the_area_of_a_disc():
    x, y = pixel_grid(64, 64)
    for radius in (0.05, 0.21, 0.4):
        distance = np.sqrt((x - 0.493) ** 2 + (y - 0.507) ** 2) - radius
        assert edge(distance, 64).sum() / 64**2 == pytest.approx(np.pi * radius**2, rel=0.01)


def test_pixel_grid_is_square_pixels_in_units_of_the_height():
    x, y = pixel_grid(10, 30)
    assert x.shape == (1, 30) and y.shape == (10, 1)
    assert x[0, -1] == pytest.approx(2.95) and y[-1, 0] == pytest.approx(0.95)
    for steps in (np.diff(x[0]), np.diff(y[:, 0])):
        assert steps == pytest.approx(0.1, abs=1e-6)


def test_painting_over_labels_and_colours_goes_together():
    r = np.random.default_rng(0)
    canvas = np.zeros((3 + 4, 5, 6), np.float32)
    paint(canvas, rgb((.2, .4, .6)), 1, np.ones((5, 6), np.float32))
    for label in (0, 3, 2):
        cover, before = r.random((5, 6), np.float32), canvas.copy()
        paint(canvas, rgb((1, 1, 1)), label, cover)
        assert np.allclose(canvas[:3], before[:3] + (1 - before[:3]) * cover)
        assert np.allclose(canvas[3 + label], before[3 + label] * (1 - cover) + cover)
    assert np.allclose(canvas[3:].sum(0), 1, atol=1e-6)
    majority = torch.from_numpy(canvas[3:].argmax(0).astype(np.uint8))
    assert torch.equal(develop(canvas)[1], majority)


def test_develop_rounds_and_clips():
    canvas = np.zeros((4, 1, 4), np.float32)
    canvas[:3] = np.float32([-0.5, 10.4 / 255, 10.6 / 255, 1.5])
    assert np.asarray(develop(canvas)[0])[0, :, 0].tolist() == [0, 10, 11, 255]


def test_bone_distance_is_that_of_the_segment():
    r = np.random.default_rng(1)
    bone, (px, py) = Bone((0.1, 0.8), (0.6, 0.2), 0.07, 0.07, 1, 3), r.random((2, 200)) * 2 - 0.5
    ts = np.linspace(0, 1, 2001)[:, None]
    brute = np.hypot(px - mix(0.1, 0.6, ts), py - mix(0.8, 0.2, ts)).min(0) - 0.07
    assert np.allclose(bone_field(bone, px, py, (0, 1))[0], brute, atol=1e-5)


def test_stripes_run_along_a_bone_and_light_across_it():
    bone = Bone((0., 0.), (1., 0.), 0.2, 0.1, 2, 6)
    x, y = np.array([0., 0.25, 0.25, 1.]), np.array([0.1, 0.1, -0.1, 0.])
    _, count, lit = bone_field(bone, x, y, (0., 1.))
    assert count == pytest.approx([2, 3, 3, 6])
    assert lit[1] == pytest.approx(-lit[2]) and lit[0] == pytest.approx(0.5)


def test_seams_do_not_depend_on_order_for_two_bones_and_only_add():
    x, y = pixel_grid(50, 50)
    one = Bone((0.2, 0.5), (0.5, 0.5), 0.12, 0.08)
    two = Bone((0.5, 0.5), (0.7, 0.8), 0.08, 0.1)
    d = body_field([one, two], x, y, (0, 1), 0.05)[0]
    swapped = body_field([two, one], x, y, (0, 1), 0.05)[0]
    nearest = np.minimum(*(bone_field(b, x, y, (0, 1))[0] for b in (one, two)))
    assert np.allclose(d, swapped, atol=1e-6) and (d <= nearest + 1e-6).all()
    assert (nearest - d).max() <= 0.0125 + 1e-6


def test_stripes_are_dark_on_whole_numbers_and_grey_far_away():
    count = np.linspace(-3, 3, 6001)
    assert stripes(np.array([-2., 0., 1.]), 100) == pytest.approx(1)
    assert stripes(np.array([-1.5, 0.5]), 100) == pytest.approx(0)
    assert stripes(count, 100).mean() == pytest.approx(0.5, abs=1e-3)
    assert np.ptp(stripes(count, 2)) < 0.3


@pytest.mark.parametrize("striped", [True, False])
def test_skeletons_stand_on_the_ground_and_have_every_layer(striped):
    for seed in range(40):
        layers = skeleton(keyed_random("t", seed), striped)
        assert list(layers) == list(LAYERS)
        bones = sum(layers.values(), [])
        assert all(b.a != b.b and b.ra > 0 and b.rb > 0 for b in bones)
        lowest = min(min(b.a[1] - b.ra, b.b[1] - b.rb) for b in bones)
        assert -0.06 < lowest < 0.03


def test_an_animal_outside_the_picture_leaves_no_trace_and_its_shadow_no_label():
    blank = draw_land(LOOKS["horse"], keyed_random("t"), 48)[0]
    canvas, coat = blank.copy(), COATS["horse"][0]
    draw_animal(canvas, coat, keyed_random("a"), (9., 0.5), 0.3, 0.)
    assert np.array_equal(canvas, blank)
    draw_animal(canvas, coat, keyed_random("a"), (0.5, 0.8), 0.3, 0.)
    untouched = canvas[3 + ANIMAL] == 0
    assert np.array_equal(canvas[3:, untouched], blank[3:, untouched])    # no other label changes
    darker = untouched & (canvas[:3].sum(0) < blank[:3].sum(0) - 0.05)
    assert darker.sum() > 5 and (canvas[3 + GROUND][darker] > 0.5).all()  # a shadow, on the ground


def test_no_shadow_falls_on_the_sky():
    blank, horizon = draw_land(LOOKS["zebra"], keyed_random("t"), 64)
    canvas, place = blank.copy(), (0.5, horizon - 0.12)                   # above the horizon
    draw_animal(canvas, COATS["zebra"][0], keyed_random("a"), place, 0.3, 0.)
    sky = (blank[3 + SKY] == 1) & (canvas[3 + ANIMAL] == 0)
    assert sky[int(64 * place[1])].any() and np.array_equal(canvas[:, sky], blank[:, sky])
