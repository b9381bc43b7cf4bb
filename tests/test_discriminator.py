"PatchGAN and the GAN losses."
import math

import pytest
import torch
from torch.testing import assert_close

from semst.discriminator import EQUILIBRIUM, PatchGAN, discriminator_loss, generator_loss


def test_layers_are_the_supplement_s():
    convs = [m for m in PatchGAN().model if isinstance(m, torch.nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs]
    assert shapes == [
        (3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 1), (512, 1, 4, 1)]


def test_the_first_block_has_no_norm_and_the_others_have():
    kinds = [type(layer).__name__ for layer in PatchGAN().model]
    block = ["Conv2d", "InstanceNorm", "LeakyReLU"]
    assert kinds == ["Conv2d", "LeakyReLU", *3 * block, "Conv2d"]
    assert {m.negative_slope for m in PatchGAN().model if hasattr(m, "negative_slope")} == {0.2}


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels(channels):
    d = PatchGAN(ndf=2, strides=(2, 1), in_channels=channels)
    assert d(torch.rand(2, channels, 32, 32)).shape == (2, 1, 14, 14)


def test_one_batched_pass_equals_two():
    d, a, b = PatchGAN(ndf=4), torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    assert_close(d(torch.cat([a, b])), torch.cat([d(a), d(b)]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind, undecided", [("bce", 0.0), ("lsgan", 0.5), ("hinge", 0.0)])
def test_equilibrium_is_the_loss_of_an_undecided_d(kind, undecided):
    scores = torch.full((1, 1, 4, 4), undecided)
    assert discriminator_loss(scores, scores, kind).item() == pytest.approx(EQUILIBRIUM[kind])
    assert math.isclose(EQUILIBRIUM["bce"], math.log(2))


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_the_two_networks_pull_in_opposite_directions(kind):
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    up, = torch.autograd.grad(generator_loss(fake, kind), fake)
    real = torch.ones(1, 1, 2, 2)
    down, = torch.autograd.grad(discriminator_loss(real, fake + 0.1, kind), fake)
    assert (up < 0).all() and (down > 0).all()


def test_bce_is_equation_1():
    real, fake = torch.randn(2, 1, 1, 3, 3)
    eq_1 = torch.sigmoid(real).log().mean() + (1 - torch.sigmoid(fake)).log().mean()
    assert_close(discriminator_loss(real, fake), -0.5 * eq_1)


def test_the_slope_of_the_non_saturating_form_does_not_vanish():
    sure = torch.full((1, 1, 1, 1), -20.0, requires_grad=True)       # D is sure of a fake
    slope, = torch.autograd.grad(generator_loss(sure), sure)
    assert_close(slope.item(), -1.0, atol=1e-6, rtol=0)


def test_an_unknown_kind_is_named():
    scores = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="unknown GAN loss 'wasserstein'"):
        generator_loss(scores, "wasserstein")
    with pytest.raises(ValueError, match="unknown GAN loss 'wasserstein'"):
        discriminator_loss(scores, scores, "wasserstein")
