"Exported translators: what they compute, and that nothing of this package is needed to run them."
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_cli import mistake

from semst.cli import main
from semst.config import ModelConfig
from semst.export import check_export, export_model, load_exported
from semst.files import InputError
from semst.model import SemST, translate_whole
from semst.pretrained import save_model


def small_model(scales):
    "A translator with weights that do something."
    torch.manual_seed(scales)
    model = SemST(ModelConfig(scales=scales, crop=128, local_crop=64, ngf=4, blocks=5)).eval()
    for weight in model.parameters():
        weight.data.normal_(0, 0.2)
    return model


def exported(folder, suffix, scales):
    "A translator and what the command makes of it."
    model = small_model(scales)
    save_model(model, folder / "model.safetensors")
    out = folder / f"model{suffix}"
    assert main(["export", str(folder / "model.safetensors"), str(out)]) == 0
    return model, out


def onnx_file(folder, scales):
    "The same as ONNX; skips the test where the packages for it are absent."
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason='the extra "export" is not installed')
    return exported(folder, ".onnx", scales)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return onnx_file(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return onnx_file(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("program"), ".pt2", 2)


@pytest.mark.parametrize("kind", ["one", "two", "program"])
def test_an_exported_file_computes_the_same_at_every_size(request, kind):
    model, out = request.getfixturevalue(kind)
    run = load_exported(out)
    for batch, height, width in ((1, 64, 64), (2, 101, 75), (3, 66, 190)):
        x = torch.rand(batch, 3, height, width) * 2 - 1
        y = translate_whole(model, x).fused
        assert y.std() > 0.05                               # the example does something
        assert np.abs(run(x.numpy()) - y.numpy()).max() < 1e-4


def test_an_onnx_file_takes_small_pictures_and_says_what_it_is(two):
    model, out = two
    import onnxruntime
    session = onnxruntime.InferenceSession(out)
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["model_config"])["scales"] == 2 and notes["semst"]
    assert [i.name for i in session.get_inputs()] == ["x"]
    x = torch.rand(1, 3, 1, 5) * 2 - 1
    y = session.run(None, dict(x=x.numpy()))[0]
    assert np.abs(y - translate_whole(model, x).fused.numpy()).max() < 1e-4


def test_the_readme_s_ten_lines_translate_without_this_package(one, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = next(block for block in blocks if "onnxruntime" in block)
    assert len(code.strip().splitlines()) <= 10 and "torch" not in code and "semst" not in code
    model, out = one
    shutil.copy(out, tmp_path / "translator.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (70, 99, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    guard = "import sys\nsys.modules.update(torch=None, semst=None)\n"
    subprocess.run([sys.executable, "-c", guard + code], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "translated.png") as image:
        result = np.asarray(image).astype(int)
    with Image.open(tmp_path / "frame.png") as image:
        ours = np.asarray(model.translate(image)).astype(int)
    assert result.shape == (70, 99, 3) and np.abs(result - ours).max() <= 1


def test_an_export_leaves_the_model_as_it_is(tmp_path):
    model = small_model(1).double().train()
    export_model(model, tmp_path / "model.pt2")
    assert model.training and next(model.parameters()).dtype == torch.float64
    assert max(check_export(model, tmp_path / "model.pt2").values()) < 1e-4
    assert model.training and next(model.parameters()).dtype == torch.float64


def test_a_file_that_computes_something_else_is_refused(one):
    _, out = one
    other = small_model(1)
    other.global_branch.generator.model[-2].bias.data.add_(0.5)
    with pytest.raises(InputError, match="differs from PyTorch for pictures of"):
        check_export(other, out)


def test_mistakes(tmp_path, capsys):
    save_model(small_model(1), tmp_path / "model.safetensors")
    said = mistake(capsys, "export", tmp_path / "model.safetensors", tmp_path / "model.h5")
    assert "exported as .onnx" in said and not (tmp_path / "model.h5").exists()
    assert "no such run" in mistake(capsys, "export", tmp_path / "nowhere", tmp_path / "m.onnx")
    said = mistake(capsys, "export", tmp_path / "model.safetensors", tmp_path / "nowhere/m.onnx")
    assert "nowhere/m.onnx: No such file" in said


def test_without_the_extra_the_message_names_it(tmp_path, capsys, monkeypatch):
    save_model(small_model(1), tmp_path / "model.safetensors")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    said = mistake(capsys, "export", tmp_path / "model.safetensors", tmp_path / "model.onnx")
    assert 'pip install "semst[export]"' in said
    assert not (tmp_path / "model.onnx").exists()
