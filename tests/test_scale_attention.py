"The scale attention: sizes, range, options."
import pytest
import torch

from semst.scale_attention import ASPP, ScaleAttention


@pytest.mark.parametrize("kernel, stride", [(4, 3), (3, 1)])
@pytest.mark.parametrize("side", [8, 33])
def test_map_has_the_size_asked_for_and_lies_in_0_1(kernel, stride, side):
    attention = ScaleAttention(8, kernel, stride)
    m = attention(torch.randn(1, 8, side, side + 3), (50, 70))
    assert m.shape == (1, 1, 50, 70) and 0 <= m.min() and m.max() <= 1


def test_five_views_at_one_resolution():
    assert ASPP(6, 4)(torch.randn(2, 6, 20, 24)).shape == (2, 20, 20, 24)
    even = ASPP(6, 4).dilated[0](torch.randn(1, 6, 20, 24))
    assert even.shape[-2:] == (19, 23)                       # hence "resized to the same resolution"


def test_dilations_are_the_supplement_s():
    assert [conv.dilation for conv in ASPP(6, 4).dilated] == [(1, 1), (6, 6), (12, 12), (18, 18)]
    assert all(conv.kernel_size == (4, 4) for conv in ASPP(6, 4).dilated) and ScaleAttention(8).fuse.stride == (3, 3)


def test_untrained_map_is_undecided():
    assert (ScaleAttention(16)(torch.randn(1, 16, 16, 16), (64, 64)) - 0.5).abs().max() < 0.05


def test_gradient_reaches_the_features():
    feats = torch.randn(1, 8, 16, 16, requires_grad=True)
    ScaleAttention(8)(feats, (64, 64)).sum().backward()
    assert feats.grad.abs().sum() > 0
