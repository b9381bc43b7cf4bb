"The generator: norms and their gradients, blurs, taps, receptive fields, errors, first weights."
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import semst.colour  # noqa: F401, adds its generator
from semst.discriminator import PatchGAN
from semst.generator import (
    GENERATORS, BlurDown, BlurUp, Generator, InstanceNorm, ResidualBlock, down_block, init_weights,
    receptive_field, up_block)

TAPS = (0, 4, 8, 12, 16)
KINDS = [(down, up) for down in ("blur", "stride") for up in ("deconv", "blur")]
CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last


def norm_by_hand(x, eps=1e-5):
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + eps).sqrt()


def picture(b=1, h=16, w=16, dtype=torch.float32):
    return torch.rand(b, 3, h, w, dtype=dtype) * 2 - 1


def sampled(x):
    "Vectors at three places, picked as CUT does."
    return x.permute(0, 2, 3, 1).flatten(1, 2)[:, [0, 3, 1]]


# norms

@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("x_format", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("grad_format", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("b", [1, 2])
def test_norm_gradient_is_right_at_batch_1(b, grad_format, x_format, dtype, atol):
    x, grad_out = torch.randn(2, b, 5, 6, 7, dtype=dtype)
    grad_out = grad_out.contiguous(memory_format=grad_format)
    grads = []
    for norm in (InstanceNorm(), norm_by_hand):
        leaf = x.contiguous(memory_format=x_format).requires_grad_()
        grads += torch.autograd.grad(norm(leaf), leaf, grad_out)
    assert_close(*grads, atol=atol, rtol=0)


@pytest.mark.parametrize("b", [1, 2])
def test_norm_gradcheck_with_sampling_behind_it(b):
    x = torch.randn(b, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sampled(InstanceNorm()(x)), x)
    assert torch.autograd.gradcheck(InstanceNorm(), x)


def test_norm_keeps_images_and_channels_apart():
    x = torch.randn(2, 3, 5, 6)
    y = x.clone()
    y[1], y[0, 2] = 7 * x[1] + 3, x[0, 2] ** 2
    assert torch.equal(InstanceNorm()(x)[0, :2], InstanceNorm()(y)[0, :2])


def test_norm_gives_mean_0_and_variance_1_and_has_no_state():
    out = InstanceNorm()(100 * torch.randn(2, 3, 5, 6))
    assert_close(out.mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)
    assert_close(out.var((2, 3), unbiased=False), torch.ones(2, 3), atol=1e-4, rtol=0)
    assert not list(InstanceNorm().parameters()) and not list(InstanceNorm().buffers())


def test_a_compiled_norm_is_the_same_function(monkeypatch):
    x = torch.randn(2, 3, 5, 6)
    plain = InstanceNorm()(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(InstanceNorm()(x), plain, atol=1e-5, rtol=0)


def test_generator_gradient_at_batch_1_through_sampled_features():
    "What CUT's sampling sends back, through the whole encoder, against finite differences."
    g = Generator(ngf=1, blocks=5).double()
    for p in g.parameters():
        nn.init.normal_(p, std=0.3)
    x = picture(h=8, w=8, dtype=torch.float64).requires_grad_()

    def loss(x):
        return sum(sampled(f).sin().sum() for f in g.encode(x))
    direction, step = torch.randn_like(x), 1e-6
    grad, = torch.autograd.grad(loss(x), x)
    with torch.no_grad():
        slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    assert_close((grad * direction).sum(), slope, rtol=1e-4, atol=1e-6)


# blurs

@pytest.mark.parametrize("h, w", [(2, 2), (2, 5), (3, 3), (7, 8), (16, 9)])
@pytest.mark.parametrize("dtype, atol", [
    (torch.float32, 1e-6), (torch.float64, 1e-6), (torch.bfloat16, 5e-2)])
def test_blur_down_is_the_depthwise_convolution(h, w, dtype, atol):
    x = torch.randn(2, 3, h, w, dtype=dtype)
    k = torch.tensor([1., 2., 1.], dtype=dtype) / 4
    kernel = torch.outer(k, k).expand(3, 1, 3, 3)
    by_hand = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=3)
    out = BlurDown()(x)
    assert out.shape == (2, 3, (h + 1) // 2, (w + 1) // 2) and out.dtype == dtype
    assert_close(out, by_hand, atol=atol, rtol=0)


def test_blur_down_is_the_written_sum():
    x, k = torch.randn(1, 1, 6, 8), [0.25, 0.5, 0.25]
    out = BlurDown()(x)
    for i, j in ((1, 1), (2, 3)):
        total = sum(k[u] * k[v] * x[0, 0, 2 * i + u - 1, 2 * j + v - 1]
                    for u in range(3) for v in range(3))
        assert_close(out[0, 0, i, j], total)


def test_a_flat_map_stays_flat():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert_close(BlurDown()(flat), flat[..., :4, :4], atol=1e-6, rtol=0)
    assert_close(BlurUp()(flat), torch.full((1, 3, 16, 16), 0.3), atol=1e-6, rtol=0)


def test_blur_down_needs_two_pixels():
    with pytest.raises(RuntimeError):
        BlurDown()(torch.randn(1, 3, 1, 8))


@pytest.mark.parametrize("h, w", [(1, 1), (1, 4), (3, 2), (8, 7)])
def test_blur_up_is_the_transposed_convolution(h, w):
    x = torch.randn(2, 3, h, w)
    k = torch.tensor([1., 3., 3., 1.]) / 4
    kernel, padded = torch.outer(k, k).expand(3, 1, 4, 4), F.pad(x, (1, 1, 1, 1), mode="replicate")
    by_hand = F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=3)
    assert_close(BlurUp()(x), by_hand, atol=1e-6, rtol=0)


def test_blurs_are_linear_with_right_gradients():
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    for blur in (BlurDown(), BlurUp()):
        assert torch.autograd.gradcheck(blur, x)
        assert not blur.state_dict()


# the generator's shape and parts

def kinds(layers):
    return [type(layer).__name__ for layer in layers]


def test_layers_are_the_supplements():
    norm, g = ["InstanceNorm", "ReLU"], Generator()
    assert kinds(g.model) == [
        "ReflectionPad2d", "Conv2d", *norm,
        *2 * ["Conv2d", *norm, "BlurDown"],
        *9 * ["ResidualBlock"],
        *2 * ["ConvTranspose2d", *norm],
        "ReflectionPad2d", "Conv2d", "Tanh"]
    convs = [(layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
             for layer in g.model if hasattr(layer, "kernel_size")]
    assert convs == [(3, 64, 7, 1), (64, 128, 3, 1), (128, 256, 3, 1), (256, 128, 3, 2),
                     (128, 64, 3, 2), (64, 3, 7, 1)]
    assert kinds(g.model[12].conv_block) == [
        "ReflectionPad2d", "Conv2d", *norm, "ReflectionPad2d", "Conv2d", "InstanceNorm"]
    padding = [(layer.padding, layer.padding_mode)
               for layer in g.model if isinstance(layer, nn.Conv2d)]
    assert padding == [((0, 0), "zeros"), *2 * [((1, 1), "zeros")], ((0, 0), "zeros")]
    assert sum(p.numel() for p in g.parameters()) == 11_378_179


@pytest.mark.parametrize("down, up", KINDS)
def test_blurs_have_no_weights(down, up):
    g = Generator(downsample=down, upsample=up)
    assert sum(p.numel() for p in g.parameters()) == 11_378_179


def test_residual_block_adds_and_does_not_clip():
    block, x = ResidualBlock(3), torch.randn(1, 3, 5, 5)
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
    for p in g.parameters():
        nn.init.normal_(p, std=0.3)
    y = g(picture())
    assert y.min() < -0.1 and y.max() > 0.1 and y.abs().max() <= 1


@pytest.mark.parametrize("down, up", KINDS)
def test_batch_of_two_is_two_batches_of_one(down, up):
    g = Generator(ngf=4, downsample=down, upsample=up).double()
    x = picture(2, dtype=torch.float64)
    assert_close(g(x), torch.cat([g(x[:1]), g(x[1:])]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    g = Generator(ngf=2).to(dtype)
    y = g(picture().to(dtype))
    assert y.dtype == dtype and y.isfinite().all()


def test_channels_last_network_is_the_same_function():
    g, x = Generator(ngf=4).double(), picture(dtype=torch.float64)
    plain = g(x)
    last = g.to(memory_format=CHANNELS_LAST)(x.contiguous(memory_format=CHANNELS_LAST))
    assert_close(last, plain)


@pytest.mark.parametrize("c_in, c_out", [(1, 1), (2, 2), (4, 4), (5, 5), (4, 3)])
def test_any_number_of_channels(c_in, c_out):
    g = Generator(ngf=2, blocks=5, in_channels=c_in, out_channels=c_out)
    x = torch.rand(2, c_in, 16, 20)
    assert g(x).shape == (2, c_out, 16, 20)
    assert g.tap_channels == (c_in, 4, 8, 8, 8)
    assert g.tap_channels == tuple(f.shape[1] for f in g.encode(x))


@pytest.mark.parametrize("name, taps, c_in, c_out", [
    ("resnet", (0, 4, 8), 2, 1), ("colour", (0,), 3, 3)])
def test_every_generator_has_what_a_branch_needs(name, taps, c_in, c_out):
    g = GENERATORS[name](2, 5, "blur", "deconv", taps, in_channels=c_in, out_channels=c_out)
    x = torch.rand(1, c_in, 16, 20)
    feats = g.encode(x)
    assert torch.equal(g.decode(feats[-1]), g(x)) and g(x).shape == (1, c_out, 16, 20)
    assert g.taps == taps and g.tap_channels == tuple(f.shape[1] for f in feats)


# taps

@pytest.mark.parametrize("down, up", KINDS)
def test_encoder_and_decoder_are_the_two_halves(down, up):
    g, x = Generator(ngf=4, downsample=down, upsample=up), picture(2)
    feats = g.encode(x)
    assert torch.equal(g.decode(feats[-1]), g.model(x)) and torch.equal(g(x), g.model(x))
    assert g.tap_channels == tuple(f.shape[1] for f in feats)
    assert torch.equal(feats[-1], g.model[:17](x))


@pytest.mark.parametrize("down", ["blur", "stride"])
def test_features_are_the_layers_outputs(down):
    "No in-place operation may change a feature after it was taken."
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
    for down in ("blur", "stride"):
        assert Generator(downsample=down).tap_channels == (3, 128, 256, 256, 256)
    assert Generator(ngf=2, taps=(1, 3, 20)).tap_channels == (2, 2, 8)


def test_other_taps_move_the_border():
    g, x = Generator(ngf=2, blocks=3, taps=(2, 9)), picture()
    assert len(g.encode(x)) == 2 and torch.equal(g.decode(g.encode(x)[-1]), g.model(x))


def test_gradient_reaches_every_weight():
    "A norm takes the bias before it away: the gradient of that bias is rounding."
    g = Generator(ngf=2)
    g(picture()).square().sum().backward()
    without = {f"model.{i}.bias" for i in (1, 4, 8, 21, 24)}
    without |= {f"model.{i}.conv_block.{j}.bias" for i in range(12, 21) for j in (1, 5)}
    for name, p in g.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all()
        assert name in without or p.grad.abs().max() > 0, name


# receptive fields

@pytest.mark.parametrize("tap, blur, stride", [
    (0, 1, 1), (4, 9, 9), (8, 15, 13), (12, 35, 61), (16, 99, 125)])
def test_receptive_fields(tap, blur, stride):
    for how, side in (("blur", blur), ("stride", stride)):
        layers = Generator(ngf=1, downsample=how).model[:tap + 1]
        assert receptive_field(layers, size=131) == side


@pytest.mark.parametrize("options, field", [
    ({}, 70), ({"downsample": "blur"}, 84), ({"strides": (2, 2, 2, 2)}, 94)])
def test_patchgan_fields(options, field):
    assert receptive_field(PatchGAN(ndf=2, **options)) == field


def test_receptive_field_of_simple_stacks():
    strided = nn.Sequential(nn.Conv2d(3, 2, 4, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(2, 1, 4))
    with_gaps = nn.Sequential(nn.Conv2d(3, 2, 3, dilation=3), nn.Identity())
    assert receptive_field(nn.Conv2d(3, 2, 5), size=21) == 5
    assert receptive_field(strided, size=41) == 10
    assert receptive_field(with_gaps, size=31) == 3


def test_receptive_field_of_other_channels():
    layers = Generator(ngf=1, in_channels=5).model[:9]
    assert receptive_field(layers, size=51, in_channels=5) == 15
    assert receptive_field(PatchGAN(ndf=2, in_channels=1), in_channels=1) == 70


def test_receptive_field_leaves_the_network_alone():
    g = Generator(ngf=1)
    before = {name: weight.clone() for name, weight in g.state_dict().items()}
    receptive_field(g.model[:9], size=51)
    assert kinds(g.model[:3]) == ["ReflectionPad2d", "Conv2d", "InstanceNorm"]
    for name, weight in g.state_dict().items():
        assert torch.equal(weight, before[name]) and weight.dtype == torch.float32


def test_receptive_field_needs_a_large_probe():
    with pytest.raises(ValueError, match="25 of 25 pixels"):
        receptive_field(Generator(ngf=1).model[:13], size=25)
    with pytest.raises(ValueError, match="larger than the field"):      # cut at one side only
        receptive_field(Generator(ngf=1).model[:17], size=101)


# errors

@pytest.mark.parametrize("h, w", [(30, 32), (32, 33), (4, 32), (8, 0), (0, 8)])
def test_sides_that_do_not_fit(h, w):
    with pytest.raises(ValueError, match=rf"multiples of 4 and at least 8, got \({h}, {w}\)"):
        Generator(ngf=1)(torch.zeros(1, 3, h, w))


@pytest.mark.parametrize("taps", [(), (4, 0), (0, 0, 4), (-1, 4), (0, 21)])
def test_taps_that_do_not_fit(taps):
    with pytest.raises(ValueError, match=r"must rise and lie before the upsampling, in 0\.\.20"):
        Generator(ngf=1, taps=taps)


def test_taps_need_enough_blocks():
    with pytest.raises(ValueError, match=r"in 0\.\.15"):
        Generator(ngf=1, blocks=4)


def test_unknown_options():
    with pytest.raises(ValueError, match="unknown downsample 'max'"):
        Generator(ngf=1, downsample="max")
    with pytest.raises(ValueError, match="unknown upsample 'nearest'"):
        up_block(2, 1, "nearest")


# first weights

def test_initialisation_is_xavier_with_gain_002():
    for layer in Generator(ngf=16).modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        area, n = layer.kernel_size[0] ** 2, layer.weight.numel()
        spread = 0.02 * (2 / (area * (layer.in_channels + layer.out_channels))) ** 0.5
        assert layer.bias.abs().max() == 0
        assert_close(layer.weight.std().item() / spread, 1.0, atol=5 / n ** 0.5, rtol=0)
        if n > 5000:
            assert layer.weight.abs().max() > 2.5 * spread          # normal, not uniform


def test_initialisation_of_a_linear_layer():
    linear = init_weights(nn.Linear(300, 200, bias=False), gain=1)
    assert_close(linear.weight.std().item(), (2 / 500) ** 0.5, atol=0, rtol=0.03)
