"CUT's checkpoints: what loads, and what the message says when a file does not fit."
from collections import OrderedDict

import pytest
import torch
from torch import nn

from semst.cut import load_cut_weights
from semst.data import InputError
from semst.generator import Generator
from semst.patch_sampling import PatchEmbedder


def copy_of(network):
    return {name: weight.clone() for name, weight in network.state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path):
    theirs = Generator(ngf=2, upsample="blur")
    for p in theirs.parameters():
        nn.init.normal_(p)
    filters = {f"model.{i}.filt": torch.ones(2, 1, 3, 3) for i in (7, 11, 21, 25)}
    torch.save(OrderedDict(theirs.state_dict() | filters), tmp_path / "latest_net_G.pth")
    return theirs, tmp_path / "latest_net_G.pth"


def test_checkpoint_round_trip(checkpoint):
    theirs, path = checkpoint
    network = Generator(ngf=2, upsample="blur")
    ours = load_cut_weights(network, str(path))
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    assert ours is network and torch.equal(ours(x), theirs(x))


def test_weights_of_f_load(tmp_path):
    source, target = PatchEmbedder((3, 8), dim=4), PatchEmbedder((3, 8), dim=4)
    path = tmp_path / "latest_net_F.pth"
    torch.save(dict(source.state_dict()), path)
    load_cut_weights(target, path)
    for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="mlp_1.0.weight"):
        load_cut_weights(PatchEmbedder((3, 9), dim=4), path)


@pytest.mark.parametrize("settings, parts", [
    (dict(ngf=4, upsample="blur"), [
        "of another shape: model.1.weight (2x3x7x7 instead of 4x3x7x7), "
        "model.1.bias (2 instead of 4)", "more"]),
    (dict(ngf=2, upsample="deconv"), [
        "missing in the file: model.21.weight", "unknown to the network: model.22.weight"]),
    (dict(ngf=2, upsample="blur", blocks=8), ["unknown to the network"])])
def test_checkpoint_that_does_not_fit(checkpoint, settings, parts):
    network = Generator(**settings)
    before = copy_of(network)
    with pytest.raises(InputError) as error:
        load_cut_weights(network, checkpoint[1])
    for part in ["latest_net_G.pth does not fit this Generator", *parts]:
        assert part in str(error.value)
    assert len(str(error.value)) < 700
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize("content", [b"hello", b""])
def test_files_that_cannot_be_read(tmp_path, content):
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(InputError, match="other.pth: cannot be read"):
        load_cut_weights(Generator(ngf=1), tmp_path / "other.pth")


def test_a_folder_and_an_absent_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_cut_weights(Generator(ngf=1), tmp_path / "absent.pth")
    with pytest.raises(InputError, match="cannot be read"):
        load_cut_weights(Generator(ngf=1), tmp_path)


@pytest.mark.parametrize("content", [
    [torch.zeros(1)], {"epoch": 3}, {"model": {"a": torch.zeros(1)}}])
def test_files_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no dictionary of weights"):
        load_cut_weights(Generator(ngf=1), tmp_path / "other.pth")
