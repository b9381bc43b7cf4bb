"Patch sampling: the same locations, unit vectors, gradients only where sampled."
import io
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from semst.data import rng
from semst.generator import Generator, InstanceNorm
from semst.patch_sampling import PatchEmbedder, gather_patches, l2_normalize, sample_locations


def norm_by_hand(v):
    mean, variance = v.mean((2, 3), keepdim=True), v.var((2, 3), keepdim=True, unbiased=False)
    return (v - mean) / (variance + 1e-5).sqrt()


# locations

def test_locations_are_distinct_and_repeatable():
    def draw():
        return sample_locations(20, 30, 256, torch.Generator().manual_seed(3))
    assert torch.equal(draw(), draw()) and len(draw().unique()) == 256 and draw().max() < 600
    assert len(sample_locations(4, 4, 256)) == 16


@pytest.mark.parametrize("height, width, n, expected", [
    (1, 1, 1, 1), (1, 1, 256, 1), (1, 300, 256, 256), (16, 16, 256, 256), (16, 16, 257, 256),
    (5, 3, 14, 14)])
def test_number_of_locations(height, width, n, expected):
    where = sample_locations(height, width, n)
    assert where.dtype == torch.int64 and where.shape == (expected,)
    assert len(where.unique()) == expected
    assert where.min() >= 0 and where.max() < height * width


@pytest.mark.parametrize("height, width, n", [(8, 8, 0), (8, 8, -1), (0, 8, 4), (8, 0, 4)])
def test_nothing_to_draw_is_an_error(height, width, n):
    with pytest.raises(ValueError, match="at least 1"):
        sample_locations(height, width, n)


def test_every_location_is_equally_likely():
    counts = torch.zeros(24)
    for step in range(2000):                     # 500 each, with a standard deviation of 19
        counts[sample_locations(4, 6, 6, rng(0, step))] += 1
    assert counts.sum() == 12000 and (counts - 500).abs().max() < 100


def test_only_its_own_generator_moves():
    own, before = torch.Generator().manual_seed(1), torch.get_rng_state()
    first, second = sample_locations(16, 16, 64, own), sample_locations(16, 16, 64, own)
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(first, second)


@pytest.mark.parametrize("tap, stride, field", [
    (0, 1, 1), (4, 1, 9), (8, 2, 15), (12, 4, 35), (16, 4, 99)])
def test_a_location_sees_the_square_around_its_pixel(tap, stride, field):
    "Location (i, j) is pixel (s i, s j); at tap 0, which is padded by 3, it is (i - 3, j - 3)."
    layers = deepcopy(Generator(ngf=1).model[:tap + 1]).double()
    for module in layers.modules():
        if isinstance(module, InstanceNorm):
            module.forward = lambda v: v                        # a norm sees the whole map
    for p in layers.parameters():
        nn.init.constant_(p, 1e-2)
    x = torch.ones(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    i, j = (83, 75) if tap == 0 else (80 // stride, 72 // stride)
    layers(x)[0, :, i, j].sum().backward()
    rows, columns = x.grad[0].abs().sum(0).nonzero().T
    half = field // 2
    assert (rows.min(), rows.max()) == (80 - half, 80 + half)
    assert (columns.min(), columns.max()) == (72 - half, 72 + half)


# picking up

def test_gather_equals_a_loop():
    feats, where = torch.randn(2, 5, 6, 7), torch.tensor([0, 8, 41])
    rows = gather_patches(feats, where)
    assert rows.shape == (2, 3, 5)
    for b in range(2):
        for i, p in enumerate(where.tolist()):
            assert torch.equal(rows[b, i], feats[b, :, p // 7, p % 7])


def test_gather_keeps_images_apart():
    feats, where = torch.randn(3, 5, 6, 7), sample_locations(6, 7, 20)
    separately = [gather_patches(f, where) for f in feats.split(1)]
    assert torch.equal(gather_patches(feats, where), torch.cat(separately))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gather_in_every_dtype_and_layout(dtype, layout):
    feats, where = torch.randn(2, 5, 6, 7).to(dtype), torch.tensor([40, 3])
    picked = gather_patches(feats.contiguous(memory_format=layout), where)
    expected = torch.stack([feats[:, :, 5, 5], feats[:, :, 0, 3]], dim=1)
    assert picked.dtype == dtype and torch.equal(picked, expected)


def test_a_location_outside_the_map_is_an_error():
    with pytest.raises(IndexError):
        gather_patches(torch.randn(1, 5, 6, 7), torch.tensor([42]))


def test_all_locations_give_the_map_back():
    feats = torch.randn(2, 5, 6, 7)
    assert torch.equal(gather_patches(feats, torch.arange(42)).mT.unflatten(2, (6, 7)), feats)


def test_tap_0_is_the_padded_image():
    x, where = torch.rand(1, 3, 16, 16) * 2 - 1, torch.tensor([(5 + 3) * 22 + (9 + 3), 0])
    feats = Generator(ngf=2, blocks=5).encode(x)
    assert feats[0].shape == (1, 3, 22, 22) and not feats[0].requires_grad
    colour, corner = gather_patches(feats[0], where)[0]
    assert torch.equal(colour, x[0, :, 5, 9])
    assert torch.equal(corner, x[0, :, 3, 3])                    # the corner is a reflection


# gradients

def test_gradient_lands_only_on_sampled_locations_and_is_contiguous():
    feats = torch.randn(1, 5, 6, 7, requires_grad=True)
    gather_patches(feats, torch.tensor([3, 20])).square().sum().backward()
    assert feats.grad.flatten(2).abs().sum((0, 1)).nonzero().flatten().tolist() == [3, 20]
    assert feats.grad.is_contiguous()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_gather(layout):
    feats = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    where = torch.tensor([7, 0, 19])
    assert torch.autograd.gradcheck(lambda f: gather_patches(f, where), feats.requires_grad_())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("embed", [True, False])
def test_gradient_that_leaves_the_lookup_is_contiguous(batch, embed):
    layouts, leaf = [], torch.randn(batch, 8, 6, 7, requires_grad=True)
    feats, where = leaf * 1, sample_locations(6, 7, 20)
    feats.register_hook(lambda grad: layouts.append(grad.is_contiguous()))
    if embed:
        out, = PatchEmbedder((8,), dim=4)([feats], [where])
    else:
        out = gather_patches(feats, where)
    (out * torch.randn_like(out)).sum().backward()
    assert layouts == [True]


@pytest.mark.parametrize("norm", [InstanceNorm(), F.instance_norm])
def test_gradient_below_a_norm_at_batch_1(norm):
    "Torch's own norm is right, too, as long as the lookup sends contiguous gradients."
    v = torch.randn(1, 8, 12, 12, dtype=torch.float64, requires_grad=True)
    where, up = sample_locations(12, 12, 20), torch.randn(1, 20, 8, dtype=torch.float64)
    ours, = torch.autograd.grad((gather_patches(norm(v), where) * up).sum(), v)
    right, = torch.autograd.grad((gather_patches(norm_by_hand(v), where) * up).sum(), v)
    assert_close(ours, right, atol=1e-12, rtol=0)


def test_every_tap_of_the_encoder_gets_a_contiguous_gradient():
    g, layouts = Generator(ngf=4), []
    feats = g.encode(torch.randn(1, 3, 32, 32))
    for f in feats[1:]:
        f.register_hook(lambda grad: layouts.append(grad.is_contiguous()))
    where = [sample_locations(*f.shape[-2:], 256) for f in feats]
    embeds = PatchEmbedder(g.tap_channels, dim=8)(feats, where)
    sum((e * torch.randn_like(e)).sum() for e in embeds).backward()
    assert layouts == [True] * 4


# vectors of length 1

def test_normalisation_is_the_written_formula():
    lengths = torch.logspace(-9, 2, 4, dtype=torch.float64)[:, None]
    v = torch.randn(4, 9, dtype=torch.float64) * lengths
    expected = torch.stack([row / (sum(x * x for x in row) ** 0.5 + 1e-7) for row in v])
    assert_close(l2_normalize(v), expected, atol=1e-14, rtol=1e-12)


def test_zero_vectors_stay_finite():
    v = torch.zeros(2, 4, requires_grad=True)
    l2_normalize(v).sum().backward()
    assert torch.isfinite(v.grad).all() and not l2_normalize(v).any()


def test_one_zero_vector_leaves_the_others_alone():
    v = torch.randn(3, 4)
    v[1] = 0
    v.requires_grad_()
    (l2_normalize(v) * torch.arange(4.)).sum().backward()
    alone = v.detach()[[0, 2]].requires_grad_()
    (l2_normalize(alone) * torch.arange(4.)).sum().backward()
    assert_close(v.grad[[0, 2]], alone.grad)
    assert torch.isfinite(v.grad).all() and v.grad.abs().max() <= 3.1e7


@pytest.mark.parametrize("length", [1.0, 1e-5, 1e-7])
def test_gradient_of_normalisation(length):
    v = F.normalize(torch.randn(3, 5, dtype=torch.float64), dim=-1) * length
    v.requires_grad_()
    assert torch.autograd.gradcheck(l2_normalize, v, eps=1e-5 * length, atol=1e-4 / length)


# F

def test_embeddings_are_unit_vectors_per_tap():
    f = PatchEmbedder((3, 8), dim=16)
    feats = [torch.randn(2, 3, 9, 9), torch.randn(2, 8, 5, 5)]
    out = f(feats, [torch.arange(10), torch.arange(7)])
    assert [tuple(o.shape) for o in out] == [(2, 10, 16), (2, 7, 16)]
    for o in out:
        assert_close(o.norm(dim=-1), torch.ones(o.shape[:2]), atol=1e-2, rtol=0)


def test_architecture_is_two_layers_to_256():
    f, expected = PatchEmbedder(), {}
    for i, c in enumerate(Generator().tap_channels):
        expected |= {
            f"mlp_{i}.0.weight": (256, c), f"mlp_{i}.0.bias": (256,),
            f"mlp_{i}.2.weight": (256, 256), f"mlp_{i}.2.bias": (256,)}
    assert {name: tuple(w.shape) for name, w in f.state_dict().items()} == expected
    for mlp in f.values():
        assert [type(layer) for layer in mlp] == [nn.Linear, nn.ReLU, nn.Linear]


def test_all_weights_exist_before_the_first_forward_pass():
    f = PatchEmbedder((3, 8), dim=4)
    before = {name: w.clone() for name, w in f.state_dict().items()}
    optimizer = torch.optim.SGD(f.parameters(), lr=1)
    f([torch.randn(1, 3, 4, 4), torch.randn(1, 8, 4, 4)], [torch.arange(16)] * 2)
    after = f.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(w, before[name]) for name, w in after.items())
    in_optimizer = optimizer.param_groups[0]["params"]
    assert [id(p) for p in in_optimizer] == [id(p) for p in f.parameters()]


def test_first_weights_are_xavier_with_gain_002():
    layers = [layer for mlp in PatchEmbedder().values() for layer in (mlp[0], mlp[2])]
    assert len(layers) == 10
    for layer in layers:
        spread = 0.02 * (2 / (layer.in_features + layer.out_features)) ** 0.5
        assert not layer.bias.any() and abs(layer.weight.std().item() / spread - 1) < 0.15


def test_each_location_alone_and_each_image_alone():
    f = PatchEmbedder((3, 8), dim=4)
    feats = [torch.randn(2, 3, 6, 7), torch.randn(2, 8, 3, 4)]
    where = [torch.tensor([5, 41, 0]), torch.tensor([11, 2])]
    both = f(feats, where)
    one_by_one = [f([v[i:i + 1] for v in feats], where) for i in range(2)]
    reverse = f(feats, [w.flip(0) for w in where])
    for t in range(2):
        assert_close(both[t], torch.cat([o[t] for o in one_by_one]))
        assert_close(both[t], reverse[t].flip(1))


def test_same_pictures_at_the_same_locations_have_equal_embeddings():
    g, x = Generator(ngf=2), torch.randn(1, 3, 16, 16)
    f = PatchEmbedder(g.tap_channels, dim=4)
    where = [sample_locations(*v.shape[-2:], 16) for v in g.encode(x)]
    for a, b in zip(f(g.encode(x), where), f(g.encode(x.clone()), where), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("feats, places", [(1, 2), (2, 1), (3, 3), (1, 1)])
def test_a_wrong_number_of_taps_is_an_error(feats, places):
    f, words = PatchEmbedder((3, 3), dim=4), f"2 taps, got {feats} feature maps and {places} sets"
    with pytest.raises(ValueError, match=words):
        f([torch.randn(1, 3, 4, 4)] * feats, [torch.arange(4)] * places)


def test_channels_that_do_not_fit_are_an_error():
    with pytest.raises(RuntimeError):
        PatchEmbedder((3,), dim=4)([torch.randn(1, 8, 4, 4)], [torch.arange(4)])


def test_gradient_reaches_f_and_the_encoder():
    g = Generator(ngf=2)
    f, feats = PatchEmbedder(g.tap_channels, dim=4), g.encode(torch.randn(1, 3, 16, 16))
    embeds = f(feats, [sample_locations(*v.shape[-2:], 16) for v in feats])
    sum((e * torch.randn_like(e)).sum() for e in embeds).backward()
    first = g.model[1].weight.grad
    assert all(p.grad is not None and p.grad.isfinite().all() for p in f.parameters())
    assert first is not None and first.isfinite().all() and first.any()


def test_state_survives_a_file():
    f, buffer = PatchEmbedder((3,), dim=4), io.BytesIO()
    torch.save(f.state_dict(), buffer)
    buffer.seek(0)
    again = PatchEmbedder((3,), dim=4)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    feats, where = [torch.randn(1, 3, 4, 4)], [torch.arange(5)]
    assert torch.equal(f(feats, where)[0], again(feats, where)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_locations_travel_to_the_gpu():
    feats, where = torch.randn(1, 5, 6, 7), sample_locations(6, 7, 20)
    assert torch.equal(gather_patches(feats.cuda(), where).cpu(), gather_patches(feats, where))
