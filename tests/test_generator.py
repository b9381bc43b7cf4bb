"The generator: norms and their gradients, blurs, taps, receptive fields, errors, initial weights and CUT's checkpoints."
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from semst.data import InputError
from semst.discriminator import PatchGAN
from semst.generator import (BlurDown, BlurUp, Generator, InstanceNorm, ResidualBlock, down_block, init_weights, load_cut_weights,
                             receptive_field, up_block)

TAPS = (0, 4, 8, 12, 16)
KINDS = [(down, up) for down in ("blur", "stride") for up in ("deconv", "blur")]


def norm_by_hand(x, eps=1e-5):
    return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + eps).sqrt()


def picture(b=1, h=16, w=16, dtype=torch.float32): return torch.rand(b, 3, h, w, dtype=dtype) * 2 - 1


# norms

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grad_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("b", [1, 2])
def test_norm_gradient_is_right_at_batch_1(b, grad_format, x_format, dtype):
    x, grad_out = torch.randn(2, b, 5, 6, 7, dtype=dtype)
    grads = []
    for norm in (InstanceNorm(), norm_by_hand):
        leaf = x.contiguous(memory_format=x_format).requires_grad_()
        grads += torch.autograd.grad(norm(leaf), leaf, grad_out.contiguous(memory_format=grad_format))
    assert_close(*grads, atol=1e-5 if dtype == torch.float32 else 1e-12, rtol=0)


@pytest.mark.parametrize("b", [1, 2])
def test_norm_gradcheck_with_sampling_behind_it(b):
    x = torch.randn(b, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: InstanceNorm()(x).permute(0, 2, 3, 1).flatten(1, 2)[:, [5, 0, 11]], x)
    assert torch.autograd.gradcheck(InstanceNorm(), x)


def test_norm_keeps_images_and_channels_apart():
    x = torch.randn(2, 3, 5, 6)
    y = x.clone()
    y[1], y[0, 2] = 7 * x[1] + 3, x[0, 2] ** 2
    same = InstanceNorm()(x)[0, :2] - InstanceNorm()(y)[0, :2]
    assert same.abs().max() == 0
    out = InstanceNorm()(100 * x)
    assert_close(out.mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    assert_close(out.var((2, 3), unbiased=False), torch.ones(2, 3), atol=1e-4, rtol=0)
    assert not list(InstanceNorm().parameters()) and not list(InstanceNorm().buffers())


def test_generator_gradient_at_batch_1_through_sampled_features():
    "What CUT's sampling sends back (channels last, batch 1) against finite differences, through the whole encoder."
    g = Generator(ngf=1, blocks=5).double()
    for p in g.parameters(): nn.init.normal_(p, std=0.3)
    x = picture(h=8, w=8, dtype=torch.float64).requires_grad_()

    def loss(x):
        feats = g.encode(x)
        return sum(f.permute(0, 2, 3, 1).flatten(1, 2)[:, [0, 3, 1]].sin().sum() for f in feats)
    direction, step = torch.randn_like(x), 1e-6
    grad, = torch.autograd.grad(loss(x), x)
    with torch.no_grad(): slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    assert_close((grad * direction).sum(), slope, rtol=1e-4, atol=1e-6)


# blurs

@pytest.mark.parametrize("h, w", [(2, 2), (2, 5), (3, 3), (7, 8), (16, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_blur_down_is_the_depthwise_convolution(h, w, dtype):
    x = torch.randn(2, 3, h, w, dtype=dtype)
    k = torch.tensor([1., 2., 1.], dtype=dtype) / 4
    by_hand = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), torch.outer(k, k).expand(3, 1, 3, 3), stride=2, groups=3)
    out = BlurDown()(x)
    assert out.shape == (2, 3, (h + 1) // 2, (w + 1) // 2) and out.dtype == dtype
    assert_close(out, by_hand, atol=5e-2 if dtype == torch.bfloat16 else 1e-6, rtol=0)


def test_blur_down_needs_two_pixels():
    with pytest.raises(RuntimeError): BlurDown()(torch.randn(1, 3, 1, 8))


@pytest.mark.parametrize("h, w", [(1, 1), (1, 4), (3, 2), (8, 7)])
def test_blur_up_is_the_transposed_convolution(h, w):
    x = torch.randn(2, 3, h, w)
    k = torch.tensor([1., 3., 3., 1.]) / 4
    by_hand = F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.outer(k, k).expand(3, 1, 4, 4), stride=2, padding=3, groups=3)
    assert_close(BlurUp()(x), by_hand, atol=1e-6, rtol=0)


def test_blurs_are_linear_with_right_gradients():
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(BlurDown(), x) and torch.autograd.gradcheck(BlurUp(), x)
    assert not [name for module in (BlurDown(), BlurUp()) for name in module.state_dict()]


# the generator's shape and parts

def kinds(layers): return [type(layer).__name__ for layer in layers]


def test_layers_are_the_supplements():
    start, norm = ["ReflectionPad2d", "Conv2d"], ["InstanceNorm", "ReLU"]
    g = Generator()
    assert kinds(g.model) == start + norm + 2 * (["ManyChannels", *norm, "BlurDown"]) + 9 * ["ResidualBlock"] + 2 * ["ConvTranspose2d", *norm] + ["ReflectionPad2d", "FewChannels", "Tanh"]
    convs = [(layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in g.model if hasattr(layer, "kernel_size")]
    assert convs == [(3, 64, 7, 1), (64, 128, 3, 1), (128, 256, 3, 1), (256, 128, 3, 2), (128, 64, 3, 2), (64, 3, 7, 1)]
    assert kinds(g.model[12].conv_block) == ["ReflectionPad2d", "ManyChannels", *norm, "ReflectionPad2d", "ManyChannels", "InstanceNorm"]
    padding = [(layer.padding, layer.padding_mode) for layer in g.model if isinstance(layer, nn.Conv2d)]
    assert padding == [((0, 0), "zeros"), *2 * [((1, 1), "zeros")], ((0, 0), "zeros")]     # the 7x7 ones stand behind a reflection
    assert sum(p.numel() for p in g.parameters()) == 11_378_179


def test_residual_block_adds_and_does_not_clip():
    block = ResidualBlock(3)
    x = torch.randn(1, 3, 5, 5)
    assert_close(block(x), x + block.conv_block(x))
    assert (block(x) < 0).any()


@pytest.mark.parametrize("how, stride", [("blur", 1), ("stride", 2)])
def test_down_block(how, stride):
    conv, *rest = down_block(4, 6, how)
    assert conv.stride == (stride, stride) and kinds(rest)[:2] == ["InstanceNorm", "ReLU"]
    assert nn.Sequential(conv, *rest)(torch.randn(1, 4, 8, 12)).shape == (1, 6, 4, 6)


@pytest.mark.parametrize("down, up", KINDS)
@pytest.mark.parametrize("h, w", [(8, 8), (12, 20), (28, 36)])
def test_output_has_the_inputs_size(down, up, h, w):
    y = Generator(ngf=2, downsample=down, upsample=up)(picture(2, h, w))
    assert y.shape == (2, 3, h, w) and y.abs().max() <= 1


def test_output_takes_both_signs():
    g = Generator(ngf=4)
    for p in g.parameters(): nn.init.normal_(p, std=0.3)
    y = g(picture())
    assert y.min() < -0.1 and y.max() > 0.1 and y.abs().max() <= 1


@pytest.mark.parametrize("down, up", KINDS)
def test_batch_of_two_is_two_batches_of_one(down, up):
    g, x = Generator(ngf=4, downsample=down, upsample=up).double(), picture(2, dtype=torch.float64)
    assert_close(g(x), torch.cat([g(x[:1]), g(x[1:])]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    g = Generator(ngf=2).to(dtype)
    y = g(picture().to(dtype))
    assert y.dtype == dtype and y.isfinite().all()


def test_channels_last_network_is_the_same_function():
    g, x = Generator(ngf=4).double(), picture(dtype=torch.float64)
    assert_close(g.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)), g(x))


# taps

@pytest.mark.parametrize("down, up", KINDS)
def test_encoder_and_decoder_are_the_two_halves(down, up):
    g, x = Generator(ngf=4, downsample=down, upsample=up), picture(2)
    feats = g.encode(x)
    assert torch.equal(g.decode(feats[-1]), g.model(x)) and torch.equal(g(x), g.model(x))
    assert g.tap_channels == tuple(f.shape[1] for f in feats)
    assert torch.equal(feats[-1], g.model[:17](x))


def test_features_are_the_layers_outputs():
    "No in-place operation may change a feature after it was taken."
    for down in ("blur", "stride"):
        g, x = Generator(ngf=4, downsample=down), picture()
        before = x.clone()
        for tap, f in zip(TAPS, g.encode(x), strict=True):
            assert torch.equal(f, g.model[:tap + 1](x))
            assert tap == 0 or (f < 0).any()
        assert torch.equal(x, before)


def test_tap_0_is_the_padded_picture():
    x = picture()
    assert torch.equal(Generator(ngf=2).encode(x)[0], F.pad(x, (3, 3, 3, 3), mode="reflect"))


def test_tap_channels_at_full_width():
    for down in ("blur", "stride"): assert Generator(downsample=down).tap_channels == (3, 128, 256, 256, 256)
    assert Generator(ngf=2, taps=(1, 3, 20)).tap_channels == (2, 2, 8)


def test_other_taps_move_the_border():
    g, x = Generator(ngf=2, blocks=3, taps=(2, 9)), picture()
    assert len(g.encode(x)) == 2 and torch.equal(g.decode(g.encode(x)[-1]), g.model(x))


def test_gradient_reaches_every_weight():
    g = Generator(ngf=2)
    g(picture()).square().sum().backward()
    before_norm = {f"model.{i}.bias" for i in (1, 4, 8, 21, 24)} | {f"model.{i}.conv_block.{j}.bias" for i in range(12, 21) for j in (1, 5)}
    for name, p in g.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all()
        if name not in before_norm: assert p.grad.abs().max() > 0, name    # a norm takes a bias away: its gradient is rounding


# receptive fields

@pytest.mark.parametrize("tap, blur, stride", list(zip(TAPS, (1, 9, 15, 35, 99), (1, 9, 13, 61, 125))))
def test_receptive_fields(tap, blur, stride):
    for how, side in (("blur", blur), ("stride", stride)):
        assert receptive_field(Generator(ngf=1, downsample=how).model[:tap + 1], size=131) == side


@pytest.mark.parametrize("options, field", [({}, 70), ({"downsample": "blur"}, 84), ({"strides": (2, 2, 2, 2)}, 94)])
def test_patchgan_fields(options, field): assert receptive_field(PatchGAN(ndf=2, **options)) == field


def test_receptive_field_of_simple_stacks():
    assert receptive_field(nn.Conv2d(3, 2, 5), size=21) == 5
    assert receptive_field(nn.Sequential(nn.Conv2d(3, 2, 4, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(2, 1, 4)), size=41) == 10
    assert receptive_field(nn.Sequential(nn.Conv2d(3, 2, 3, dilation=3), nn.Identity()), size=31) == 3    # a dilated one has gaps


def test_receptive_field_leaves_the_network_alone():
    g = Generator(ngf=1)
    before = {k: v.clone() for k, v in g.state_dict().items()}
    receptive_field(g.model[:9], size=51)
    assert kinds(g.model[:3]) == ["ReflectionPad2d", "Conv2d", "InstanceNorm"]
    for k, v in g.state_dict().items(): assert torch.equal(v, before[k]) and v.dtype == torch.float32


def test_receptive_field_needs_a_large_probe():
    with pytest.raises(ValueError, match="25 of 25 pixels"): receptive_field(Generator(ngf=1).model[:13], size=25)


# errors

@pytest.mark.parametrize("h, w", [(30, 32), (32, 33), (4, 32), (8, 0), (0, 8)])
def test_sides_that_do_not_fit(h, w):
    with pytest.raises(ValueError, match=rf"multiples of 4 and at least 8, got \({h}, {w}\)"): Generator(ngf=1)(torch.zeros(1, 3, h, w))


@pytest.mark.parametrize("taps", [(), (4, 0), (0, 0, 4), (-1, 4), (0, 21)])
def test_taps_that_do_not_fit(taps):
    with pytest.raises(ValueError, match=r"must rise and lie before the upsampling, in 0\.\.20"): Generator(ngf=1, taps=taps)


def test_taps_need_enough_blocks():
    with pytest.raises(ValueError, match=r"in 0\.\.15"): Generator(ngf=1, blocks=4)


def test_unknown_options():
    with pytest.raises(ValueError, match="unknown downsample 'max'"): Generator(ngf=1, downsample="max")
    with pytest.raises(ValueError, match="unknown upsample 'nearest'"): up_block(2, 1, "nearest")


# initial weights

def test_initialisation_is_xavier_with_gain_002():
    g = Generator(ngf=16)
    for layer in g.modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)): continue
        assert layer.bias.abs().max() == 0
        area = layer.kernel_size[0] ** 2
        spread = 0.02 * (2 / (area * (layer.in_channels + layer.out_channels))) ** 0.5
        assert_close(layer.weight.std().item() / spread, 1.0, atol=5 / layer.weight.numel() ** 0.5, rtol=0)
        if layer.weight.numel() > 5000: assert layer.weight.abs().max() > 2.5 * spread       # normal, not uniform
    linear = init_weights(nn.Linear(300, 200, bias=False), gain=1)
    assert_close(linear.weight.std().item(), (2 / 500) ** 0.5, atol=0, rtol=0.03)


# CUT's checkpoints

@pytest.fixture
def checkpoint(tmp_path):
    theirs = Generator(ngf=2, upsample="blur")
    for p in theirs.parameters(): nn.init.normal_(p)
    filters = {f"model.{i}.filt": torch.ones(2, 1, 3, 3) for i in (7, 11, 21, 25)}
    torch.save(OrderedDict(theirs.state_dict() | filters), tmp_path / "latest_net_G.pth")
    return theirs, tmp_path / "latest_net_G.pth"


def test_checkpoint_round_trip(checkpoint):
    theirs, path = checkpoint
    network = Generator(ngf=2, upsample="blur")
    ours = load_cut_weights(network, str(path))
    assert ours is network
    x = picture()
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("settings, parts", [
    (dict(ngf=4, upsample="blur"), ["of another shape: model.1.weight (2x3x7x7 instead of 4x3x7x7), model.1.bias (2 instead of 4)", "more"]),
    (dict(ngf=2, upsample="deconv"), ["missing in the file: model.21.weight", "unknown to the network: model.22.weight"]),
    (dict(ngf=2, upsample="blur", blocks=8), ["unknown to the network"])])
def test_checkpoint_that_does_not_fit(checkpoint, settings, parts):
    network = Generator(**settings)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(InputError) as error: load_cut_weights(network, checkpoint[1])
    for part in ["latest_net_G.pth does not fit this Generator", *parts]: assert part in str(error.value)
    assert len(str(error.value)) < 700
    for k, v in network.state_dict().items(): assert torch.equal(v, before[k])


def test_files_that_are_no_checkpoint(tmp_path):
    g = Generator(ngf=1)
    with pytest.raises(InputError, match="no such file"): load_cut_weights(g, tmp_path / "absent.pth")
    for name, content in {"text.pth": b"hello", "empty.pth": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: cannot be read"): load_cut_weights(g, tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"): load_cut_weights(g, tmp_path)
    for content in ([torch.zeros(1)], {"epoch": 3}, {"model": {"a": torch.zeros(1)}}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(InputError, match="no dictionary of weights"): load_cut_weights(g, tmp_path / "other.pth")
