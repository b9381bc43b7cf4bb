"PatchGAN and the GAN losses."
import math

import pytest
import torch

from semst.discriminator import EQUILIBRIUM, PatchGAN, discriminator_loss, generator_loss


def test_layers_are_the_supplement_s():
    convs = [m for m in PatchGAN().model if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == [
        (3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 1), (512, 1, 4, 1)]


def test_one_batched_pass_equals_two():
    d, a, b = PatchGAN(ndf=4), torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(d(torch.cat([a, b])), torch.cat([d(a), d(b)]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind, undecided", [("bce", 0.0), ("lsgan", 0.5), ("hinge", 0.0)])
def test_equilibrium_is_the_loss_of_an_undecided_d(kind, undecided):
    scores = torch.full((1, 1, 4, 4), undecided)
    assert discriminator_loss(scores, scores, kind).item() == pytest.approx(EQUILIBRIUM[kind])
    assert math.isclose(EQUILIBRIUM["bce"], math.log(2))


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_the_players_pull_in_opposite_directions(kind):
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    up, = torch.autograd.grad(generator_loss(fake, kind), fake)
    down, = torch.autograd.grad(discriminator_loss(torch.ones(1, 1, 2, 2), fake + 0.1, kind), fake)
    assert (up < 0).all() and (down > 0).all()


def test_bce_is_equation_1():
    real, fake = torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3)
    p = torch.sigmoid
    torch.testing.assert_close(discriminator_loss(real, fake), -0.5 * (p(real).log().mean() + (1 - p(fake)).log().mean()))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="wasserstein"): generator_loss(torch.zeros(1, 1, 1, 1), "wasserstein")
