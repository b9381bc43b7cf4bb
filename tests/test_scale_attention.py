"The scale attention: sizes, edges, images of a batch apart, gradients, and the map's range."
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from semst.generator import Generator
from semst.scale_attention import ASPP, ScaleAttention


def loud(network, std=1.0):
    "Weights and biases large enough for every path to show in the output."
    for p in network.parameters():
        nn.init.normal_(p, std=std)
    return network


def test_aspp_has_a_pooled_view_and_four_dilated_4x4():
    aspp = ASPP(6, 5)
    assert aspp.pooled.kernel_size == (1, 1) and aspp.pooled.stride == (1, 1)
    assert [c.kernel_size for c in aspp.dilated] == [(4, 4)] * 4
    assert [c.dilation for c in aspp.dilated] == [(1, 1), (6, 6), (12, 12), (18, 18)]
    assert [c.stride for c in aspp.dilated] == [(1, 1)] * 4


@pytest.mark.parametrize("h, w", [(2, 2), (3, 2), (8, 8), (17, 9), (64, 64), (40, 80)])
@pytest.mark.parametrize("kernel", [3, 4])
def test_views_differ_in_size_and_are_resized_to_one_resolution(h, w, kernel):
    aspp, feats = ASPP(4, 3, kernel), torch.randn(2, 4, h, w)
    less = 1 if kernel == 4 else 0
    sizes = [tuple(view.shape[-2:]) for view in aspp.views(feats)]
    assert sizes == [(1, 1), (h - less, w - less)] + 3 * [(h, w)]
    assert aspp(feats).shape == (2, 15, h, w)


def test_views_are_concatenated_in_order_after_relu_and_resize():
    aspp, feats = loud(ASPP(3, 2)), torch.randn(1, 3, 12, 12)
    joined = aspp(feats)
    for i, view in enumerate(aspp.views(feats)):
        expected = F.interpolate(view.relu(), (12, 12), mode="bilinear", align_corners=False)
        assert_close(joined[:, 2 * i:2 * i + 2], expected)
    assert joined.min() == 0 and joined.max() > 0


def test_pooled_view_hears_of_every_place():
    aspp, feats = ASPP(2, 2), torch.randn(1, 2, 30, 30, requires_grad=True)
    aspp.views(feats)[0].sum().backward()
    assert (feats.grad != 0).all() and feats.grad[0, 0].std() == 0


def test_views_learn_from_different_scales():
    for conv, span in zip(loud(ASPP(1, 1)).dilated, (4, 19, 37, 55)):
        feats = torch.randn(1, 1, 101, 101, requires_grad=True)
        conv(feats)[0, 0, 50, 50].backward()
        columns = feats.grad[0, 0].abs().sum(0).nonzero()
        assert len(columns) == 4 and columns.max() - columns.min() + 1 == span


def test_a_view_is_centred():
    "Mirrored features and kernels give a mirrored map: no view drifts to one side."
    one, other = loud(ASPP(2, 2)), ASPP(2, 2)
    mirrored = {k: v.flip(-1) if v.dim() == 4 else v for k, v in one.state_dict().items()}
    other.load_state_dict(mirrored)
    feats = torch.randn(1, 2, 20, 21)
    assert_close(other(feats.flip(-1)), one(feats).flip(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride, cells", [(3, 22), (1, 64)])
def test_fusing_convolution_has_the_stride(stride, cells):
    attention = ScaleAttention(4, fuse_stride=stride)
    joined = attention.aspp(torch.randn(1, 4, 64, 64))
    assert joined.shape[1] == attention.fuse.in_channels == 20
    assert attention.fuse(joined).shape[-2:] == (cells, cells)
    assert ScaleAttention(4).fuse.stride == (3, 3)


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("h, w", [(2, 2), (8, 8), (9, 17), (33, 16)])
def test_map_has_one_channel_the_wanted_size_and_stays_in_0_1(b, h, w):
    attention = loud(ScaleAttention(8), std=2)
    with torch.no_grad():
        scale_map = attention(torch.randn(b, 8, h, w), (8 * h, 8 * w + 1))
    assert scale_map.shape == (b, 1, 8 * h, 8 * w + 1) and scale_map.dtype == torch.float32
    assert 0 <= scale_map.min() and scale_map.max() <= 1


def test_map_is_fuse_relu_predict_sigmoid_then_bilinear():
    attention, feats = loud(ScaleAttention(6), std=0.3), torch.randn(1, 6, 12, 12)
    hidden = attention.fuse(attention.aspp(feats))
    assert hidden.min() < 0
    small = torch.sigmoid(attention.predict(hidden.clamp(min=0)))
    expected = F.interpolate(small, (40, 44), mode="bilinear", align_corners=False)
    assert_close(attention(feats, (40, 44)), expected)


def test_deeplab_options_together():
    with torch.no_grad():
        scale_map = loud(ScaleAttention(8, 3, 1))(torch.randn(1, 8, 33, 36), (50, 70))
    assert scale_map.shape == (1, 1, 50, 70) and 0 <= scale_map.min() and scale_map.max() <= 1


def test_rounding_never_lifts_a_sure_map_above_one():
    attention = ScaleAttention(4)
    nn.init.constant_(attention.predict.bias, 100)
    for size in range(40, 90):
        with torch.no_grad():
            scale_map = attention(torch.randn(1, 4, 32, 32), (size, size + 1))
        assert scale_map.max() <= 1 and scale_map.min() > 1 - 1e-5


def test_works_on_the_features_of_the_global_encoder():
    g = Generator(ngf=4)
    feats = g.encode(torch.rand(1, 3, 32, 48) * 2 - 1)[-1]
    assert feats.shape[1] == g.tap_channels[-1]
    assert ScaleAttention(g.tap_channels[-1])(feats, (64, 96)).shape == (1, 1, 64, 96)
    assert ScaleAttention().aspp.pooled.in_channels == Generator().tap_channels[-1]


def test_untrained_map_is_one_half():
    feats = torch.randn(2, 32, 16, 16)
    scale_map = ScaleAttention(32)(feats, (64, 64))
    assert_close(scale_map, torch.full((2, 1, 64, 64), 0.5), atol=1e-4, rtol=0)


def test_batch_of_two_is_two_batches_of_one():
    attention, feats = loud(ScaleAttention(6), std=0.3), torch.randn(2, 6, 16, 20)
    both = attention(feats, (64, 80))
    assert both.std() > 0.01
    apart = torch.cat([attention(f[None], (64, 80)) for f in feats])
    assert_close(both, apart, atol=1e-5, rtol=1e-5)


def test_training_and_evaluation_are_the_same():
    attention, feats = loud(ScaleAttention(6), std=0.3), torch.randn(1, 6, 16, 16)
    assert not list(attention.buffers())
    assert torch.equal(attention.train()(feats, (32, 32)), attention.eval()(feats, (32, 32)))


def test_gradients_reach_every_weight_and_the_features():
    attention = loud(ScaleAttention(4), std=0.2)
    feats = torch.randn(1, 4, 64, 64, requires_grad=True)
    attention(feats, (64, 64)).square().mean().backward()
    for name, p in attention.named_parameters():
        assert p.grad.abs().sum() > 0, name
    assert feats.grad.abs().sum() > 0


def test_gradient_agrees_with_finite_differences():
    attention = loud(ScaleAttention(2), std=0.3).double()
    feats = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: attention(f, (9, 10)), feats)


def test_blind_view_on_a_small_map_is_its_bias():
    aspp = loud(ASPP(3, 4))
    blind, seeing = (aspp.views(torch.randn(1, 3, n, n))[-1] for n in (9, 10))
    assert_close(blind, aspp.dilated[-1].bias[:, None, None].expand(1, 4, 9, 9))
    assert seeing.std(dim=(2, 3)).max() > 0


def test_errors():
    with pytest.raises(ValueError, match="at least 2x2 pixels, got \\(1, 5\\)"):
        ASPP(3, 2)(torch.rand(1, 3, 1, 5))
    with pytest.raises(RuntimeError):
        ScaleAttention(4)(torch.rand(1, 3, 8, 8), (32, 32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_goes_through(dtype):
    attention, feats = ScaleAttention(4).to(dtype), torch.randn(1, 4, 8, 8, dtype=dtype)
    assert attention(feats, (32, 32)).dtype == dtype
