"The generator: fields, gradients at batch 1, sizes, weights."
import pytest
import torch
import torch.nn.functional as F

from semst.discriminator import PatchGAN
from semst.generator import BlurDown, BlurUp, Generator, InstanceNorm, receptive_field


@pytest.mark.parametrize("downsample, fields", [("blur", [1, 9, 15, 35, 99]), ("stride", [1, 9, 13, 61, 125])])
def test_receptive_fields(downsample, fields):
    g = Generator(ngf=2, downsample=downsample)
    assert [receptive_field(g.model[:tap + 1]) for tap in g.taps] == fields


@pytest.mark.parametrize("options, field", [({}, 70), ({"downsample": "blur"}, 84), ({"strides": (2, 2, 2, 2)}, 94)])
def test_patchgan_fields(options, field): assert receptive_field(PatchGAN(ndf=2, **options)) == field


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_gradient_is_right_at_batch_1(layout):
    x = torch.randn(1, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(1, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    by_hand = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected, = torch.autograd.grad(by_hand, x, seed)
    ours, = torch.autograd.grad(InstanceNorm()(x), x, seed)
    torch.testing.assert_close(ours, expected)
    assert torch.autograd.gradcheck(InstanceNorm(), (x,))


def test_blurs_are_the_filters_they_claim_to_be():
    x = torch.randn(2, 3, 8, 11)
    k = torch.tensor([1.0, 2, 1]) / 4
    reference = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), torch.outer(k, k).expand(3, 1, 3, 3), stride=2, groups=3)
    torch.testing.assert_close(BlurDown()(x), reference)
    k = torch.tensor([1.0, 3, 3, 1]) / 4
    up = F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), torch.outer(k, k).expand(3, 1, 4, 4), stride=2, groups=3)
    torch.testing.assert_close(BlurUp()(x), up[..., 3:-3, 3:-3])


def test_encoder_and_decoder_are_the_two_halves():
    g, x = Generator(ngf=4), torch.rand(1, 3, 24, 32) * 2 - 1
    feats = g.encode(x)
    assert torch.equal(g.decode(feats[-1]), g(x))
    assert [f.shape[1] for f in feats] == list(g.tap_channels) and Generator.tap_channels.fget(Generator(ngf=64, blocks=5)) == (3, 128, 256, 256, 256)
    assert g(x).shape == x.shape and g(x).abs().max() <= 1


def test_batch_of_two_is_two_batches_of_one():
    g, x = Generator(ngf=4, blocks=5), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(g(x), torch.cat([g(x[:1]), g(x[1:])]), atol=1e-6, rtol=1e-5)


def test_what_cannot_work_says_so():
    with pytest.raises(ValueError, match="multiples of 4"): Generator(ngf=2)(torch.rand(1, 3, 18, 16))
    with pytest.raises(ValueError, match="taps"): Generator(ngf=2, blocks=4)


def test_initialisation_is_xavier_with_gain_002():
    conv = Generator(ngf=64, blocks=5).model[12].conv_block[1]
    fan = 2 * 256 * 9
    assert float(conv.weight.std()) == pytest.approx(0.02 * (2 / fan) ** 0.5, rel=0.02) and not conv.bias.any()
