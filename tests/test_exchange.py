"`SemST.translate`: every kind of picture in, the same kind out, with nothing lost."
import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import main

from semst.config import ModelConfig
from semst.files import InputError
from semst.model import SemST, translate_whole
from semst.pretrained import save_model

MODEL = ModelConfig(scales=1, crop=64, ngf=4, blocks=5)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = SemST(MODEL).eval()
    for weight in model.parameters():
        weight.data.normal_(0, 0.2)
    return model


def pixels(*shape, top=256, kind=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, top, shape).astype(kind)


def expected(model, rgb):
    "The translation of 8-bit RGB by the networks alone."
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
    return translate_whole(model, x).fused[0]


def test_path_image_array_and_tensor_have_the_same_translation(model, tmp_path):
    rgb = pixels(41, 57, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    y = expected(model, rgb)
    wanted = ((y.permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert wanted.std() > 10
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(rgb)):
        result = model.translate(source)
        assert isinstance(result, Image.Image) and np.array_equal(np.asarray(result), wanted)
    array = model.translate(rgb)
    assert array.dtype == np.uint8 and np.array_equal(array, wanted)
    x = torch.from_numpy(rgb).permute(2, 0, 1).double() / 127.5 - 1
    tensor = model.translate(x)
    assert tensor.dtype == torch.float64 and tensor.shape == x.shape and not tensor.is_inference()
    assert torch.allclose(tensor.float(), y, atol=1e-5)
    assert torch.allclose(model.translate(x[None])[0], tensor)


def test_a_list_keeps_order_kinds_and_sizes_and_equals_one_by_one(model):
    sources = [pixels(40, 40, 3), Image.fromarray(pixels(40, 40, 3, seed=1)),
               pixels(24, 48, 3, seed=2), torch.rand(3, 16, 16)]
    results = model.translate(sources)
    for source, result in zip(sources, results, strict=True):
        alone = model.translate(source)
        assert type(result) is type(alone)
        difference = np.asarray(result).astype(float) - np.asarray(alone).astype(float)
        assert np.abs(difference).max() <= 1
    assert model.translate([]) == []


def test_a_tensor_that_begins_at_zero_is_doubted(model):
    with pytest.warns(UserWarning, match="black is -1 here"):
        model.translate(torch.rand(3, 32, 32))
    with pytest.raises(InputError, match="the array: uint8 or uint16"):
        model.translate(np.zeros((0, 0, 3), np.uint8))


def test_grey_depth_and_alpha_come_back(model):
    assert model.translate(pixels(20, 30)).shape == (20, 30)
    deep = model.translate(pixels(20, 30, top=4096, kind=np.uint16), white=4095)
    assert deep.dtype == np.uint16 and 255 < deep.max() <= 4095
    assert model.translate(Image.fromarray(pixels(20, 30))).mode == "L"
    rgba = pixels(20, 30, 4)
    assert np.array_equal(model.translate(rgba)[..., 3], rgba[..., 3])
    result = model.translate(Image.fromarray(rgba))
    assert result.mode == "RGBA" and np.array_equal(np.asarray(result)[..., 3], rgba[..., 3])


@pytest.mark.parametrize("channels, shape", [(1, (20, 30)), (1, (20, 30, 1)), (2, (20, 30, 2))])
def test_more_channels_out_than_in_keep_their_colours(channels, shape, tmp_path):
    torch.manual_seed(0)
    model = SemST(ModelConfig(scales=1, crop=64, ngf=4, blocks=5, in_channels=channels)).eval()
    for weight in model.parameters():
        weight.data.normal_(0, 0.2)
    source = pixels(*shape)
    result = model.translate(source)
    assert result.shape == (20, 30, 3) and np.ptp(result, -1).max() > 20
    image = Image.fromarray(source.reshape(20, 30, -1).squeeze())
    assert np.array_equal(model.translate(image), result)
    image.save(tmp_path / "a.png")
    save_model(model, tmp_path / "model.safetensors")
    words = ["translate", tmp_path / "model.safetensors", tmp_path / "a.png", tmp_path / "b.png"]
    assert main([str(word) for word in words]) == 0
    with Image.open(tmp_path / "b.png") as theirs:
        assert np.array_equal(np.asarray(theirs), result)


def test_colours_of_sixteen_bits_are_cut_only_with_a_word(model):
    deep = pixels(20, 30, 3, top=65536, kind=np.uint16)
    assert model.translate(deep).dtype == np.uint16


def test_the_command_line_gives_the_same(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    Image.fromarray(pixels(33, 47, 4)).save(tmp_path / "a.png")
    words = ["translate", tmp_path / "model.safetensors", tmp_path / "a.png", tmp_path / "b.png"]
    assert main([str(word) for word in words]) == 0
    with Image.open(tmp_path / "b.png") as theirs:
        ours = model.translate(tmp_path / "a.png")
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_half_precision_follows_the_model():
    torch.manual_seed(0)
    model = SemST(MODEL).eval()
    rgb = pixels(32, 32, 3)
    whole = model.translate(rgb).astype(int)
    half = model.bfloat16().translate(rgb)
    assert half.dtype == np.uint8 and np.abs(half - whole).max() < 16


def test_many_channels(tmp_path):
    model = SemST(ModelConfig(scales=1, crop=64, ngf=4, blocks=5, in_channels=5, out_channels=5))
    array = pixels(20, 30, 5)
    assert model.eval().translate(array).shape == (20, 30, 5)


@pytest.mark.parametrize("source, says", [
    (np.zeros((4, 4, 3)), "uint8 or uint16"),
    (np.zeros((4, 4, 5), np.uint8), "5 channels where 3 are wanted"),
    (torch.zeros(4, 4, 3), r"of shape \(3, h, w\)"),
    (torch.zeros(3, 4, 4, dtype=torch.uint8), "not uint8"),
    (torch.full((3, 4, 4), 255.0), "they must lie in"),
    (torch.full((3, 4, 4), float("nan")), "they must lie in"),
    ("nowhere.png", "nowhere.png: no such file"),
    (3, "a int is no picture"),
    ([dict()], "a dict is no picture"),
])
def test_what_is_no_picture_is_refused(model, source, says):
    with pytest.raises(InputError, match=says):
        model.translate(source)
