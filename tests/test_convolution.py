"The convolutions for CPUs: the same functions and gradients as nn.Conv2d."
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from semst import convolution
from semst.convolution import FewChannels, ManyChannels, Winograd, equally_wide
from semst.generator import ResidualBlock


@pytest.mark.parametrize("out, kernel", [(3, 7), (1, 3), (2, (1, 5))])
def test_few_channels_is_a_convolution(out, kernel):
    layer, x = FewChannels(8, out, kernel).double(), torch.randn(2, 8, 12, 15, dtype=torch.float64, requires_grad=True)
    nn.init.normal_(layer.bias)
    ours, plain = layer(x), F.conv2d(x, layer.weight, layer.bias)
    assert_close(ours, plain)
    up = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad((y * up).sum(), [x, layer.weight, layer.bias]) for y in (ours, plain)), strict=True): assert_close(a, b)


def gradients(convolve, x, weight, up): return torch.autograd.grad((convolve(x, weight) * up).sum(), [x, weight])


@pytest.mark.parametrize("b, c, o, h, w", [(1, 1, 1, 6, 6), (2, 3, 5, 10, 18), (3, 5, 3, 14, 6)])
def test_winograd_is_the_convolution(b, c, o, h, w):
    x, weight = torch.randn(b, c, h, w, dtype=torch.float64, requires_grad=True), torch.randn(o, c, 3, 3, dtype=torch.float64, requires_grad=True)
    assert_close(Winograd.apply(x, weight), F.conv2d(x, weight))
    up = torch.randn(b, o, h - 2, w - 2, dtype=torch.float64)
    for ours, plain in zip(gradients(Winograd.apply, x, weight, up), gradients(F.conv2d, x, weight, up), strict=True): assert_close(ours, plain)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_memory_layout(layout):
    x = torch.randn(2, 3, 10, 14, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight, up = torch.randn(4, 3, 3, 3, dtype=torch.float64), torch.randn(2, 4, 8, 12, dtype=torch.float64).contiguous(memory_format=layout)
    for ours, plain in zip(*((torch.autograd.grad(f(x, weight), x, up)) for f in (Winograd.apply, F.conv2d)), strict=True): assert_close(ours, plain)


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_gradients_that_nobody_wants_are_not_computed(wanted, monkeypatch):
    x, weight, calls = torch.randn(1, 2, 6, 6, requires_grad=wanted == "x"), torch.randn(2, 2, 3, 3, requires_grad=wanted == "weight"), []
    y = Winograd.apply(x, weight).sum()
    monkeypatch.setattr(torch, "bmm", lambda a, b, bmm=torch.bmm: calls.append(1) or bmm(a, b))
    y.backward()
    assert len(calls) == 1 and (x.grad is None) == (weight.grad is not None)


def test_sides_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"sides \(9, 8\)"): Winograd.apply(torch.zeros(1, 1, 9, 8), torch.zeros(1, 1, 3, 3))


def test_layers_take_nothing_that_they_would_ignore():
    for arguments in (dict(stride=2), dict(dilation=2), dict(bias=False), dict(padding_mode="reflect")):
        with pytest.raises(TypeError): ManyChannels(4, 4, **arguments)
        with pytest.raises(TypeError): FewChannels(4, 4, 3, **arguments)


@pytest.fixture
def wide_products(monkeypatch): monkeypatch.setattr(convolution, "equally_wide", lambda: True)      # as on some processors, and on others not


@pytest.mark.parametrize("width, maker, mkl, wide", [("AVX2", "AuthenticAMD", True, True), ("AVX512", "GenuineIntel", True, True), ("AVX512", "AuthenticAMD", True, False),
                                                     ("DEFAULT", "GenuineIntel", True, False), ("SVE256", "", False, False), ("AVX2", "GenuineIntel", False, False)])
def test_fewer_products_only_where_they_are_as_wide_as_convolutions(width, maker, mkl, wide, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {maker}")
    monkeypatch.setattr(convolution, "Path", lambda name: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: width)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(convolution, "equally_wide", equally_wide.__wrapped__)                    # anew, not from this process's memory
    assert ManyChannels(256, 256).pays(torch.zeros(1, 256, 34, 34)) == wide


def test_without_proc_the_processor_s_name_tells(monkeypatch, tmp_path):
    monkeypatch.setattr(convolution, "Path", lambda name: tmp_path / "none")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    for name, wide in (("Intel64 Family 6 Model 85, GenuineIntel", True), ("AMD64 Family 26, AuthenticAMD", False)):
        monkeypatch.setattr("platform.processor", lambda: name)
        assert equally_wide.__wrapped__() == wide


def test_a_compiler_makes_its_own_choice(wide_products, monkeypatch):
    layer, x = ManyChannels(256, 256), torch.zeros(1, 256, 34, 34)
    assert layer.pays(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not layer.pays(x)


@pytest.mark.parametrize("padding", [0, 1])
def test_the_layer_at_full_width_in_float32(padding, wide_products, monkeypatch):
    "At the size of the residual blocks: the layer takes the algorithm, and agrees with nn.Conv2d."
    layer = ManyChannels(256, 256, padding)
    nn.init.normal_(layer.bias)
    x, called = torch.randn(1, 256, 34 - 2 * padding, 34 - 2 * padding).relu().requires_grad_(), []
    monkeypatch.setattr(Winograd, "apply", lambda *a, apply=Winograd.apply: called.append(1) or apply(*a))
    ours, plain = layer(x), F.conv2d(x, layer.weight, layer.bias, padding=padding)
    assert called and (ours - plain).norm() < 1e-5 * plain.norm()
    up = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(y, [x, layer.weight, layer.bias], up) for y in (ours, plain)), strict=True): assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("c, h, w, why", [(256, 33, 34, "a side that is no multiple of 4"), (256, 18, 18, "too few pixels"), (64, 66, 66, "too few channels")])
def test_where_it_does_not_pay_the_library_s_convolution_runs(c, h, w, why, wide_products, monkeypatch):
    monkeypatch.setattr(Winograd, "apply", lambda *a: pytest.fail(f"taken in spite of {why}"))
    layer, x = ManyChannels(c, c), torch.randn(1, c, h, w)
    assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))


def test_mixed_precision_and_shapes_alone_are_left_to_the_library(wide_products):
    layer, x = ManyChannels(256, 256), torch.randn(1, 256, 34, 34)
    assert layer.pays(x) and not layer.pays(x.to("meta"))
    with torch.no_grad(): assert not layer.pays(x)                                    # translations: tiles and whole must round alike
    for half in (torch.bfloat16, torch.float16): assert not layer.to(half).pays(x.to(half)) and not layer.float().pays(x.to(half))
    with torch.autocast("cpu", dtype=torch.bfloat16): assert layer(x).dtype == FewChannels(256, 3, 7)(x).dtype == torch.bfloat16


def test_a_block_at_full_width_learns_the_same_way(wide_products):
    "One step of gradient descent through a residual block, with and without the algorithm, in float64."
    torch.manual_seed(0)
    block, x = ResidualBlock(256).double(), torch.randn(1, 256, 32, 32, dtype=torch.float64)
    def step():
        block.zero_grad()
        block(x).square().mean().backward()
        return [p.grad.clone() for p in block.parameters()]
    ours = step()
    assert all(layer.pays(torch.zeros(1, 256, 34, 34, dtype=torch.float64)) for layer in block.modules() if isinstance(layer, ManyChannels))
    for layer in block.modules():
        if isinstance(layer, ManyChannels): layer.pays = lambda x: False
    for a, b in zip(ours, step(), strict=True): assert_close(a, b, rtol=1e-9, atol=1e-15)
