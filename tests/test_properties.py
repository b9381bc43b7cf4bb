"Properties that hold for any input, tried on inputs that hypothesis makes up."

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from semst.bench.manifest import folder_digest
from semst.data import UnpairedCrops, shuffled
from semst.files import (
    InputError,
    atomic,
    read_json,
    read_weights,
    save_weights,
    write_json,
    write_text,
)
from semst.model import fuse, pad_to_multiple
from semst.patch_sampling import sample_locations
from semst.tiff import open_pixels, write_tiff
from semst.fields import Picture, Resized, tents, tiles
from semst.batches import StepBatches

few = settings(max_examples=20, deadline=None)
sides = st.integers(1, 90)
seeds = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(sides, sides, st.integers(1, 40))
@few
def test_tiles_cover_every_pixel_once(height, width, side):
    seen = np.zeros((height, width), int)
    for window in tiles((height, width), side):
        assert seen[window].size
        seen[window] += 1
    assert (seen == 1).all()


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@few
def test_weights_of_resizing_sum_to_one_and_a_part_is_a_part_of_the_whole(n_in, n_out, data):
    start = data.draw(st.integers(0, n_out - 1))
    stop = data.draw(st.integers(start + 1, n_out))
    whole, part = torch.zeros(n_out, n_in), torch.zeros(stop - start, n_in)
    for weights, out in ((whole, slice(0, n_out)), (part, slice(start, stop))):
        window, found = tents(out, n_in, n_out)
        weights[:, window] = found
    assert torch.allclose(whole.sum(1), torch.ones(n_out)) and (whole >= 0).all()
    assert torch.equal(part, whole[start:stop])


@given(sides, sides, sides, sides, seeds)
@few
def test_a_window_of_a_picture_or_a_resized_one_is_the_window_of_the_whole(
    height, width, top, left, seed
):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Picture(pixels, 32)
    for field in (picture, Resized(picture, (picture.size[0] // 2, picture.size[1] * 2))):
        whole = field.read(slice(0, field.size[0]), slice(0, field.size[1]))
        y, x = top % field.size[0], left % field.size[1]
        part = field.read(slice(y, field.size[0]), slice(x, x + 1))
        assert torch.allclose(part, whole[..., y:, x : x + 1], atol=1e-5)
    assert torch.equal(
        picture.read(slice(0, height), slice(0, width))[0].permute(1, 2, 0),
        torch.tensor(pixels).float() / 127.5 - 1,
    )


@given(sides, sides, st.sampled_from([64, 80]), seeds)
@few
def test_a_tiff_that_was_written_is_read_back(height, width, tile, seed):
    pytest.importorskip("tifffile")
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        write_tiff(
            path, (pixels[window] for window in tiles((height, width), tile)), (height, width), tile
        )
        assert np.array_equal(open_pixels(path)[0:height, 0:width], pixels)


@given(sides, sides, st.integers(1, 16), st.integers(1, 32))
@few
def test_padding_keeps_the_picture_in_its_corner(height, width, multiple, least):
    x = torch.rand(1, 2, height, width)
    padded = pad_to_multiple(x, multiple, least)
    h, w = padded.shape[-2:]
    assert all(n == max(least, -(-m // multiple) * multiple) for n, m in ((h, height), (w, width)))
    assert torch.equal(padded[..., :height, :width], x)
    assert set(padded.unique().tolist()) <= set(x.unique().tolist())


@given(sides, sides, seeds)
@few
def test_fusion_lies_between_its_two_pictures_and_is_one_of_them_where_m_says_so(
    height, width, seed
):
    dice = torch.Generator().manual_seed(seed)
    y_global, y_local = (torch.rand(1, 3, height, width, generator=dice) * 2 - 1 for _ in range(2))
    scale_map = torch.rand(1, 1, height, width, generator=dice)
    fused = fuse(y_global, y_local, scale_map)
    low, high = torch.minimum(y_global, y_local), torch.maximum(y_global, y_local)
    assert ((fused >= low - 1e-6) & (fused <= high + 1e-6)).all()
    assert torch.allclose(fuse(y_global, y_local, torch.zeros_like(scale_map)), y_global)
    assert torch.allclose(fuse(y_global, y_local, torch.ones_like(scale_map)), y_local)


@given(sides, sides, st.integers(1, 300), seeds)
@few
def test_locations_of_patches_lie_on_the_map_and_none_twice(height, width, n, seed):
    found = sample_locations(height, width, n, torch.Generator().manual_seed(seed)).tolist()
    assert len(found) == len(set(found)) == min(n, height * width)
    assert min(found) >= 0 and max(found) < height * width


@given(st.integers(1, 50), seeds, st.integers(0, 5))
@few
def test_an_epoch_shows_every_picture_once(count, seed, epoch):
    order = [shuffled(count, seed, "pairs", epoch)[i] for i in range(count)]
    assert sorted(map(int, order)) == list(range(count))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 8), st.sampled_from([1, 2, 4]))
@few
def test_processes_share_the_samples_of_every_step(start, more, share, processes):
    batch = share * processes
    ranks = [
        list(StepBatches(start, start + more, batch, rank, processes)) for rank in range(processes)
    ]
    together = [sum(step, []) for step in zip(*ranks)]
    assert together == list(StepBatches(start, start + more, batch))
    assert sum(together, []) == list(range(start * batch, (start + more) * batch))


@given(st.integers(32, 70), st.integers(32, 70), seeds)
@few
def test_a_crop_is_a_part_of_its_picture_and_depends_on_the_sample_alone(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("source", "target"):
            (Path(folder) / name).mkdir()
            Image.fromarray(pixels).save(Path(folder) / name / "a.png")
        crops = UnpairedCrops(
            Path(folder) / "source", Path(folder) / "target", 16, 16, "none", True, seed
        )
        first, again = crops[seed % 1000]["x_src"], crops[seed % 1000]["x_src"]
    assert torch.equal(first, again) and first.shape == (3, 16, 16)
    assert first.min() >= -1 and first.max() <= 1


@given(values)
@few
def test_json_comes_back(value):
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "a.json", value)
        assert read_json(Path(folder) / "a.json") == json.loads(json.dumps(value))
        assert [f.name for f in Path(folder).iterdir()] == ["a.json"]


@given(st.binary(max_size=200))
@few
def test_any_bytes_are_json_or_an_error_that_names_the_file(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(data)
        for read in (read_json, read_weights, open_pixels):
            try:
                read(path)
            except InputError as e:
                assert str(path) in str(e)


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=6), st.lists(st.integers(0, 3), max_size=3), max_size=4
    ),
    seeds,
)
@few
def test_weights_come_back(shapes, seed):
    dice = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=dice) for name, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        save_weights(state, Path(folder) / "a.safetensors")
        found = read_weights(Path(folder) / "a.safetensors")[1]
    assert found.keys() == state.keys() and all(
        torch.equal(found[name], state[name]) for name in state
    )


@given(texts, texts, st.booleans())
@few
def test_a_file_is_as_before_or_new_and_nothing_lies_beside_it(before, after, fails):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        write_text(path, before)
        try:
            with atomic(path) as draft:
                draft.write_text(after, encoding="utf-8", newline="")
                if fails:
                    raise RuntimeError
        except RuntimeError:
            pass
        assert path.read_bytes().decode() == (before if fails else after)
        assert [f.name for f in Path(folder).iterdir()] == ["a.txt"]


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.binary(max_size=20), min_size=1, max_size=4
    ),
    st.data(),
)
@few
def test_the_digest_of_a_folder_changes_with_any_file(files, data):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / f"{name}.png").write_bytes(content)
        before = folder_digest(folder)
        assert folder_digest(folder) == before
        name = data.draw(st.sampled_from(sorted(files)))
        (Path(folder) / f"{name}.png").write_bytes(files[name] + b"!")
        assert folder_digest(folder) != before
