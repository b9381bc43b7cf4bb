"Every level survives the way to a network and back, and no channel is dropped without a word."
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pictures_by_hand import noise

from semst.files import InputError
from semst.pictures import (
    Picture,
    eight_bits,
    luminance,
    to_image,
    to_pixels,
    to_tensor,
    turned,
    upright,
    with_alpha_apart,
    with_channels,
    with_white,
)

LEVELS = np.arange(256, dtype=np.uint8)


def test_all_levels_there_and_back():
    picture = Image.fromarray(np.stack([np.tile(LEVELS, (2, 1))] * 3, -1))
    x = to_tensor(picture)
    assert x.dtype == torch.float32 and x.shape == (3, 2, 256)
    assert x.min() == -1 and x.max() == 1
    assert torch.equal(x[0, 0], torch.arange(256).float() / 127.5 - 1)
    assert to_image(x).tobytes() == picture.tobytes()


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_all_levels_of_every_depth_there_and_back(white):
    dtype = np.uint8 if white == 255 else np.uint16
    levels = np.arange(white + 1, dtype=dtype).reshape(-1, 4, 1)
    x = to_tensor(Picture(levels, white))
    assert x.min() == -1 and x.max() == 1
    back = to_pixels(x, white)
    assert back.dtype == dtype and np.array_equal(back, levels)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_to_image_by_channels(channels, mode):
    pixels = np.asarray(noise(5, 4, channels=channels)).reshape(4, 5, channels)
    image = to_image(to_tensor(pixels))
    assert image.mode == mode and np.array_equal(np.asarray(image).reshape(4, 5, -1), pixels)


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="5 channels are no picture"):
        to_image(torch.zeros(5, 4, 4))
    with pytest.raises(InputError, match="float64 have no known range"):
        to_tensor(np.zeros((4, 4)))
    with pytest.raises(InputError, match="holds NaN"):
        to_image(torch.full((3, 2, 2), torch.nan))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_to_image_takes_any_float_and_gradients(dtype):
    x = torch.tensor([-1.5, -1., 0., 1., 1.5], dtype=dtype, requires_grad=True).expand(3, 1, 5)
    assert np.asarray(to_image(x))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_to_image_rounds():
    x = torch.tensor([10.4, 10.6]).expand(3, 1, 2) / 127.5 - 1
    assert np.asarray(to_image(x))[0, :, 0].tolist() == [10, 11]


def test_eight_bits_is_the_nearest_level():
    for white in (1, 7, 1023, 4095, 65535):
        levels = np.arange(white + 1, dtype=np.uint16)
        off = eight_bits(levels, white) - levels * 255.0 / white
        assert np.abs(off).max() <= 0.5
    assert eight_bits(LEVELS, 255) is LEVELS


def test_luminance_is_pillow_s():
    pixels = np.asarray(noise(64, 64))
    wanted = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.array_equal(luminance(pixels)[..., 0], wanted)
    deep = np.full((1, 1, 3), 65535, np.uint16)
    assert luminance(deep).item() == 65535


def test_turning_is_pillow_s():
    turn = Image.Transpose
    ways = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
            6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90}
    image = noise(7, 5)
    for how, way in ways.items():
        assert np.array_equal(turned(np.asarray(image), how), np.asarray(image.transpose(way)))
    picture = Picture(np.asarray(image), alpha=np.asarray(image)[..., 0])
    assert np.array_equal(upright(picture, 6).alpha, upright(picture, 6).pixels[..., 0])


def glass():
    pixels = np.asarray(noise(6, 4, channels=4)).copy()
    pixels[0, :3, 3] = 0
    return with_alpha_apart(Picture(pixels)), pixels


def test_alpha_apart_or_as_a_channel():
    picture, pixels = glass()
    assert np.array_equal(with_channels(picture, 4, "a").pixels, pixels)      # hidden colour, too
    shown = with_channels(picture, 3, "a")
    assert (shown.pixels[0, :3] == 255).all()
    seen = pixels[..., 3] > 0
    assert np.array_equal(shown.pixels[seen], pixels[..., :3][seen])
    assert np.array_equal(with_channels(picture, None, "a").pixels, shown.pixels)


def test_flat_lies_on_white():
    picture, pixels = glass()
    alpha = pixels[..., 3:] / 255
    wanted = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(picture.flat() - wanted).max() <= 0.5
    levels, alpha = (a.astype(np.uint16) * 257 for a in (picture.pixels, picture.alpha))
    deep = Picture(levels, 65535, alpha)
    assert np.array_equal(deep.flat(), picture.flat())


def test_a_deep_alpha_follows_white():
    pixels = np.full((1, 2, 1), 2000, np.uint16)
    alpha = np.array([[0, 65535]], np.uint16)
    picture = with_white(Picture(pixels, 65535, alpha), 4095, "a")
    assert picture.white == 4095 and picture.alpha.tolist() == [[0, 4095]]


def test_colour_and_grey_go_into_each_other_and_nothing_else_does():
    for have in (1, 2, 3, 4, 5):
        picture = Picture(np.zeros((2, 2, have), np.uint8))
        for want in (1, 2, 3, 4, 5):
            if want == have or {have, want} == {1, 3}:
                assert with_channels(picture, want, "a").channels == want
            else:
                with pytest.raises(InputError, match=f"a: has {have} channels where {want} are"):
                    with_channels(picture, want, "a")


def test_reading_pictures_does_not_import_torchvision():
    code = "import sys, semst.data; print('torchvision' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_eight_bits_in_sixteen_become_eight():
    "Of the alpha, too: else the two cannot stand in one file."
    deep = Picture(np.full((4, 4, 3), 200, np.uint16), 65535, np.full((4, 4), 65535, np.uint16))
    assert "say white=255" in with_white(deep, None, "a").notes[-1]
    flat = with_white(deep, 255, "a")
    assert flat.pixels.dtype == flat.alpha.dtype == np.uint8 and flat.white == 255
    assert flat.pixels.max() == 200 and flat.alpha.min() == 255
