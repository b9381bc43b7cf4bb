"Generators of CUT and CycleGAN become translators by one command."
import pytest
import torch
from test_cli import main, mistake

from semst import SemST
from semst.foreign import import_generator
from semst.generator import Generator

KINDS = [(9, "blur", "blur"), (9, "blur", "deconv"), (6, "stride", "deconv"), (9, "stride", "blur")]


def theirs(blocks=6, down="stride", up="deconv", channels=3):
    torch.manual_seed(blocks)
    network = Generator(8, blocks, down, up, taps=(0, 4, 8), in_channels=channels)
    for weight in network.parameters():
        weight.data.normal_(0, 0.2)
    return network


@pytest.mark.parametrize("blocks, down, up", KINDS)
def test_the_network_is_found_by_names_and_shapes(tmp_path, capsys, blocks, down, up):
    network = theirs(blocks, down, up)
    torch.save(network.state_dict(), tmp_path / "latest_net_G.pth")
    out = tmp_path / "theirs.safetensors"
    assert main(["import", str(tmp_path / "latest_net_G.pth"), str(out)]) == 0
    said = capsys.readouterr().out
    assert f"ngf 8, {blocks} blocks, downsample {down}, upsample {up}" in said
    x = torch.rand(1, 3, 64, 48) * 2 - 1
    assert torch.equal(SemST.from_pretrained(out).translate(x), network(x).detach())


def test_old_statistics_and_several_gpus(tmp_path):
    state = theirs(channels=1).state_dict() | {
        "model.2.running_mean": torch.zeros(8), "model.2.num_batches_tracked": torch.tensor(3)}
    torch.save({f"module.{name}": w for name, w in state.items()}, tmp_path / "g.pth")
    model, notes = import_generator(tmp_path / "g.pth")
    assert model.config.in_channels == 1 and model.config.out_channels == 3
    assert notes[1].startswith("2 running statistics left out")


def test_what_cannot_be_imported_is_named(tmp_path, capsys):
    def refused(content, says):
        torch.save(content, tmp_path / "g.pth")
        said = mistake(capsys, "import", tmp_path / "g.pth", tmp_path / "out.safetensors")
        assert says in said and "g.pth" in said, said
        assert not (tmp_path / "out.safetensors").exists()
    refused(theirs(), "cannot be read as a file of weights")               # a pickled object
    refused({"model.1.weight": torch.zeros(64, 3, 4, 4)}, "holds no residual generator")
    refused({}, "holds no residual generator")
    state = theirs().state_dict()
    refused(state | {"extra.weight": torch.zeros(2)}, "unknown to the network: extra.weight")
    del state["model.4.bias"]
    refused(state, "missing in the file: model.4.bias")


def test_names_of_results(tmp_path, capsys):
    torch.save(theirs().state_dict(), tmp_path / "g.pth")
    assert "name it so" in mistake(capsys, "import", tmp_path / "g.pth", tmp_path / "g.onnx")
    (tmp_path / "there.safetensors").write_text("kept")
    said = mistake(capsys, "import", tmp_path / "g.pth", tmp_path / "there.safetensors")
    assert "exists: remove it" in said and (tmp_path / "there.safetensors").read_text() == "kept"
    said = mistake(capsys, "import", tmp_path / "no.pth", tmp_path / "n.safetensors")
    assert "no.pth: no such file" in said
