"The convolution for CPUs: the function and gradients of nn.Conv2d, in a finished model."
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from semst import convolution
from semst.convolution import ManyChannels, Winograd, equally_wide, many_channels
from semst.generator import Generator, ResidualBlock


def gradients(y, up, layer, x):
    return torch.autograd.grad((y * up).sum(), [x, layer.weight, layer.bias])


@pytest.mark.parametrize("ignored", [
    dict(stride=2), dict(dilation=2), dict(bias=False), dict(padding_mode="reflect")])
def test_the_layer_takes_nothing_that_it_would_ignore(ignored):
    with pytest.raises(TypeError):
        ManyChannels(4, 4, **ignored)


# in a finished model

RESIDUAL = [f"model.{i}.conv_block.{j}" for i in range(12, 17) for j in (1, 5)]


def swapped(network):
    return [name for name, m in network.named_modules() if isinstance(m, ManyChannels)]


def test_a_swap_keeps_weights_names_and_the_random_state():
    g = Generator(ngf=4, blocks=5)
    plain, names, weights = deepcopy(g), list(g.state_dict()), list(g.parameters())
    random_state = torch.get_rng_state()
    assert many_channels(g) is g and swapped(g) == ["model.4", "model.8", *RESIDUAL]
    assert torch.equal(random_state, torch.get_rng_state())
    assert list(g.state_dict()) == names
    assert all(a is b for a, b in zip(g.parameters(), weights, strict=True))
    x = torch.rand(1, 3, 16, 20)
    assert_close(g(x), plain(x), atol=1e-6, rtol=0)
    layer = g.model[4]
    assert many_channels(g).model[4] is layer                # twice is once


@pytest.mark.parametrize("other", [
    dict(stride=2), dict(dilation=2), dict(bias=False), dict(padding=2), dict(groups=2),
    dict(padding=1, padding_mode="reflect")])
def test_convolutions_of_another_kind_stay(other):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, **other), nn.Conv2d(4, 4, 5))
    assert swapped(many_channels(network)) == []


# fewer products

def x_and_weight_grads(convolve, x, weight, up):
    return torch.autograd.grad((convolve(x, weight) * up).sum(), [x, weight])


@pytest.mark.parametrize("b, c, o, h, w", [(1, 1, 1, 6, 6), (2, 3, 5, 10, 18), (3, 5, 3, 14, 6)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_winograd_is_the_convolution(b, c, o, h, w, layout):
    x = torch.randn(b, c, h, w, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(o, c, 3, 3, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    assert_close(Winograd.apply(x, weight), F.conv2d(x, weight))
    up = torch.randn(b, o, h - 2, w - 2, dtype=torch.float64).contiguous(memory_format=layout)
    ours = x_and_weight_grads(Winograd.apply, x, weight, up)
    plain = x_and_weight_grads(F.conv2d, x, weight, up)
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_gradients_that_nobody_wants_are_not_computed(wanted, monkeypatch):
    x = torch.randn(1, 2, 6, 6, requires_grad=wanted == "x")
    weight = torch.randn(2, 2, 3, 3, requires_grad=wanted == "weight")
    y, calls, bmm = Winograd.apply(x, weight).sum(), [], torch.bmm

    def counted(a, b):
        calls.append(1)
        return bmm(a, b)
    monkeypatch.setattr(torch, "bmm", counted)
    y.backward()
    assert len(calls) == 1 and (x.grad is None) == (weight.grad is not None)


def test_sides_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"sides \(9, 8\)"):
        Winograd.apply(torch.zeros(1, 1, 9, 8), torch.zeros(1, 1, 3, 3))


@pytest.fixture
def wide_products(monkeypatch):
    "As on some processors, and on others not."
    monkeypatch.setattr(convolution, "equally_wide", lambda: True)


@pytest.mark.parametrize("width, about, mkl, wide", [
    ("AVX2", "AuthenticAMD", True, True),
    ("AVX512", "GenuineIntel", True, True),
    ("AVX512", "AuthenticAMD\ncpu family\t: 25", True, True),
    ("AVX512", "AuthenticAMD\ncpu family\t: 26", True, False),
    ("AVX512", "AuthenticAMD", True, False),
    ("DEFAULT", "GenuineIntel", True, False),
    ("SVE256", "", False, False),
    ("AVX2", "GenuineIntel", False, False)])
def test_only_where_products_are_as_wide_as_convolutions(
        width, about, mkl, wide, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {about}")
    monkeypatch.setattr(convolution, "Path", lambda name: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: width)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(convolution, "equally_wide", equally_wide.__wrapped__)   # without its cache
    assert ManyChannels(256, 256).pays(torch.zeros(1, 256, 34, 34)) == wide


@pytest.mark.parametrize("name, wide", [
    ("Intel64 Family 6 Model 85, GenuineIntel", True), ("AMD64 Family 26, AuthenticAMD", False),
    ("AMD64 Family 25 Model 17, AuthenticAMD", True)])
def test_without_proc_the_processor_s_name_tells(name, wide, monkeypatch, tmp_path):
    monkeypatch.setattr(convolution, "Path", lambda path: tmp_path / "none")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
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
    layer, called, winograd = ManyChannels(256, 256, padding), [], Winograd.apply
    nn.init.normal_(layer.bias)
    side = 34 - 2 * padding
    x = torch.randn(1, 256, side, side).relu().requires_grad_()

    def counted(*args):
        called.append(1)
        return winograd(*args)
    monkeypatch.setattr(Winograd, "apply", counted)
    ours, plain = layer(x), F.conv2d(x, layer.weight, layer.bias, padding=padding)
    assert called and (ours - plain).norm() < 1e-5 * plain.norm()
    up = torch.randn_like(plain)
    for a, b in zip(gradients(ours, up, layer, x), gradients(plain, up, layer, x), strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("c, h, w, why", [
    (256, 33, 34, "a side that is no multiple of 4"),
    (256, 18, 18, "too few pixels"),
    (64, 66, 66, "too few channels")])
def test_where_it_does_not_pay_the_library_runs(c, h, w, why, wide_products, monkeypatch):
    monkeypatch.setattr(Winograd, "apply", lambda *a: pytest.fail(f"taken in spite of {why}"))
    layer, x = ManyChannels(c, c), torch.randn(1, c, h, w)
    assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))


def test_mixed_precision_shapes_and_translations_are_left_to_the_library(wide_products):
    layer, x = ManyChannels(256, 256), torch.randn(1, 256, 34, 34)
    assert layer.pays(x) and not layer.pays(x.to("meta"))
    with torch.no_grad():
        assert not layer.pays(x)                     # a translation and its tiles must round alike
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    for half in (torch.bfloat16, torch.float16):
        assert not layer.float().pays(x.to(half))
        assert not layer.to(half).pays(x.to(half))


def test_a_block_at_full_width_learns_the_same_way(wide_products):
    "The gradients of a residual block, with and without the algorithm, in float64."
    plain = ResidualBlock(256).double()
    ours = many_channels(deepcopy(plain))
    x = torch.randn(1, 256, 32, 32, dtype=torch.float64)
    layers = [m for m in ours.modules() if isinstance(m, ManyChannels)]
    assert len(layers) == 2 and all(layer.pays(F.pad(x, (1, 1, 1, 1))) for layer in layers)
    for block in (plain, ours):
        block(x).square().mean().backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-15)
