"Two branches and their fusion, whole-image inference, and the file that holds a translator."
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from semst.data import InputError, rng
from semst.config import ModelConfig, from_dict
from semst.model import Box, SemST, fuse, local_box, mirror_index, resize_to, translate_whole
from semst.pretrained import save_model

TWO = ModelConfig(crop=64, local_crop=32, ngf=4, blocks=5, embed_dim=16)
ONE = ModelConfig(scales=1, crop=32, ngf=4, blocks=5, embed_dim=16)

def with_constant_map(value):
    model = SemST(TWO)
    model.attention.forward = lambda feats, size: torch.full((feats.shape[0], 1, *size), value)
    return model


def test_m_0_is_the_global_branch_and_m_1_the_local_one_inside_the_box():
    x, box = torch.rand(1, 3, 64, 64), Box(8, 24, 32)
    out = with_constant_map(0.0)(x, box)
    assert torch.equal(out.fused, resize_to(out.views["global"].y, (64, 64)))
    out = with_constant_map(1.0)(x, box)
    assert torch.equal(box.cut(out.fused), out.views["local"].y)
    outside = box.paste(torch.ones(1, 1, 32, 32), (64, 64)) == 0
    assert torch.equal(
        out.fused[outside.expand_as(x)],
        resize_to(out.views["global"].y, (64, 64))[outside.expand_as(x)],
    )
    assert out.scale_map[outside].abs().max() == 0


def test_gradients_reach_both_generators_and_the_attention():
    model = SemST(TWO)
    model(torch.rand(1, 3, 64, 64), Box(0, 8, 32)).fused.square().sum().backward()
    for part in (
        model.branches["global"].generator,
        model.branches["local"].generator,
        model.attention,
    ):
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0


def test_branches_have_weights_of_their_own():
    a, b = (SemST(TWO).branches[n].generator.model[1].weight for n in ("global", "local"))
    assert not torch.equal(a, b)


def test_views_see_the_shrunken_crop_and_the_local_pixels():
    x, box = torch.rand(1, 3, 64, 64), Box(16, 0, 32)
    out = SemST(TWO)(x, box)
    assert out.views["global"].x.shape[-1] == 32
    assert torch.equal(out.views["local"].x, x[..., 16:48, :32])


@pytest.mark.parametrize("config", [ONE, TWO])
@pytest.mark.parametrize("size", [(131, 257), (1, 1), (5, 300), (64, 64)])
def test_whole_pictures_keep_their_size(config, size):
    assert translate_whole(SemST(config), torch.rand(1, 3, *size)).fused.shape[-2:] == size


def test_whole_agrees_with_training_where_the_box_is_the_picture():
    model, x = SemST(TWO), torch.rand(1, 3, 32, 32)
    # M is not 1/2, where the branches could change places
    torch.nn.init.constant_(model.attention.predict.bias, 1.0)
    torch.testing.assert_close(
        translate_whole(model, x).fused, model(x, Box(0, 0, 32)).fused, atol=1e-6, rtol=0
    )


def test_batch_of_two_is_two_batches_of_one():
    model, x, box = SemST(TWO), torch.rand(2, 3, 64, 64), Box(8, 8, 32)
    torch.testing.assert_close(
        model(x, box).fused,
        torch.cat([model(x[:1], box).fused, model(x[1:], box).fused]),
        atol=1e-6,
        rtol=1e-5,
    )


def test_the_local_branch_sees_the_whole_picture_at_once():
    model, x = SemST(TWO).eval(), torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(
        translate_whole(model, x).y_local, model.branches["local"].generator(x)
    )


@pytest.mark.parametrize("n, m", [(5, 8), (3, 20), (2, 7), (1, 4), (8, 8)])
def test_mirror_is_numpy_s_reflection(n, m):
    expected = np.pad(np.arange(n), (0, m - n), mode="reflect") if n > 1 else np.zeros(m)
    assert mirror_index(n, m).tolist() == expected.tolist()


def test_fusion_in_mixed_precision():
    "Networks in bf16, a map or a resized picture in float32: the result has the finer of the two."
    a, b, m = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4)
    for pair in (
        (a.bfloat16(), b.bfloat16(), m),
        (a, b.bfloat16(), m.bfloat16()),
        (a.bfloat16(), b, m),
    ):
        fused = fuse(*pair)
        assert fused.dtype == torch.float32
        torch.testing.assert_close(fused, fuse(a, b, m), atol=1e-2, rtol=0)


def test_a_box_whose_place_is_a_tensor_is_the_same_box():
    x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 16, 16, requires_grad=True)
    plain, other = Box(8, 16, 16), Box(torch.tensor(8), torch.tensor(16), 16)
    assert torch.equal(plain.cut(x), other.cut(x))
    assert torch.equal(plain.paste(y, (32, 32)), other.paste(y, (32, 32)))
    other.paste(y, (32, 32)).mul(x).sum().backward()
    assert torch.equal(y.grad, plain.cut(x))


def test_local_boxes_lie_inside_on_a_grid_of_8():
    boxes = [local_box(512, 256, rng(i)) for i in range(300)]
    assert all(
        b.top % 8 == 0 == b.left % 8 and 0 <= b.top <= 256 and 0 <= b.left <= 256 and b.side == 256
        for b in boxes
    )
    assert {0, 256} <= {b.top for b in boxes}


def test_fusion_is_linear_in_the_map():
    a, b = torch.rand(2, 1, 3, 4, 4)
    torch.testing.assert_close(fuse(a, b, torch.full((1, 1, 4, 4), 0.25)), 0.75 * a + 0.25 * b)


@pytest.mark.parametrize("config", [ONE, TWO])
def test_save_and_load_bit_for_bit(config, tmp_path):
    model = SemST(config)
    save_model(model, tmp_path / "semst.safetensors")
    again = SemST.from_pretrained(tmp_path / "semst.safetensors")
    assert again.config == config
    for (name, a), (_, b) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_translate_takes_and_returns_a_picture(mode):
    image = SemST(ONE).translate(Image.new(mode, (37, 21)))
    assert image.size == (37, 21) and image.mode == mode


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(InputError, match="no such run"):
        SemST.from_pretrained(tmp_path / "none")
    with pytest.raises(InputError, match="not a run of semst"):
        SemST.from_pretrained(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="is no safetensors file"):
        SemST.from_pretrained(tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match="carries no model_config"):
        SemST.from_pretrained(tmp_path / "y.safetensors")
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "z.safetensors",
        metadata={"model_config": json.dumps(asdict(ONE))},
    )
    with pytest.raises(InputError, match="other weights"):
        SemST.from_pretrained(tmp_path / "z.safetensors")


def test_bad_configurations_say_so():
    with pytest.raises(InputError, match="whole multiple"):
        replace(TWO, local_crop=24)
    with pytest.raises(InputError, match="multiple of 4"):
        replace(ONE, crop=30)
    with pytest.raises(InputError, match="unknown ModelConfig key nfg"):
        from_dict(ModelConfig, dict(nfg=3))


def test_a_picture_that_shrinks_in_one_direction_is_antialiased():
    stripes = torch.tensor([1.0, -1.0]).repeat(24).expand(1, 3, 16, 48)       # a pixel wide
    for x, size in ((stripes, (16, 16)), (stripes.mT, (16, 16))):
        assert resize_to(x, size)[..., 2:-2, 2:-2].abs().max() < 0.2
        assert resize_to(x, size).shape[-2:] == size
