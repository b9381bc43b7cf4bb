"Models that travel: a folder, the Hub (a folder stands for it), and the model in the package."
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_cli import main, mistake

from semst import SemST, hub
from semst.config import ModelConfig
from semst.files import InputError, write_json
from semst.methods import PRESETS

SMALL = ModelConfig(scales=2, crop=64, local_crop=32, ngf=4, blocks=5)


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    "The Hub as a folder: what is uploaded lies there, and downloads come from it."
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name, private, exist_ok):
            (root / name).mkdir(parents=True, exist_ok=exist_ok)
            (root / name / "private").write_text(str(private))
            return f"https://huggingface.co/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

    def fetch(name, file, revision=None):
        if not (root / name / file).exists():
            raise OSError("404: no such model\nfurther words")
        return str(root / name / file)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    return root


def same(a, b):
    return a.config == b.config and all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(),
                                          strict=True))


def test_a_shared_folder_holds_weights_settings_and_a_card(tmp_path):
    model = SemST(SMALL)
    run = tmp_path / "run"
    run.mkdir()
    about = dict(source="/data/frames", target="/data/photos", steps=123,
                 data=dict(source=dict(images=7)), config=PRESETS["tiny"].to_dict())
    write_json(run / "config.json", about)
    folder = model.save_pretrained(tmp_path / "shared", run)
    assert sorted(f.name for f in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    for words in ("frames", "photos", "Steps: 123", "7 source pictures", '"lambda_ts"'):
        assert words in card
    assert "/data" not in card                            # no path of this machine
    assert json.loads((folder / "config.json").read_text())["model_config"]["ngf"] == 4
    assert same(SemST.from_pretrained(folder), model)
    assert same(SemST.from_pretrained(folder / "model.safetensors"), model)
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict())


def test_a_run_is_no_folder_to_share(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("of the run")
    with pytest.raises(InputError, match="is a run, and its config.json would be replaced"):
        SemST.from_pretrained("demo").save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == "of the run"
    with pytest.raises(InputError, match="device .gpu. is unknown: try cpu or cuda"):
        SemST.from_pretrained("demo", "gpu")


def test_to_the_hub_and_back(local_hub):
    model = SemST(SMALL)
    address = model.push_to_hub("me/zebras", private=True)
    assert address.endswith("me/zebras") and (local_hub / "me/zebras/private").read_text() == "True"
    assert 'from_pretrained("me/zebras")' in (local_hub / "me/zebras/README.md").read_text()
    assert same(SemST.from_pretrained("me/zebras"), model)


def test_a_name_that_leads_nowhere(local_hub, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="me/none: no such run, and no model .*404: no such model"):
        SemST.from_pretrained("me/none")
    monkeypatch.chdir(tmp_path)
    for name in ("none", "runs/deep/none", "/none/none", "../none"):
        with pytest.raises(InputError, match="no such run"):
            SemST.from_pretrained(name)


def test_a_folder_of_that_name_comes_before_the_hub(local_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = SemST(SMALL)
    model.save_pretrained(Path("me/zebras"))
    assert same(SemST.from_pretrained("me/zebras"), model)


def test_the_hub_s_own_errors_become_one_line(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("cannot reach the Hub\nand more")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(InputError, match=r"\(cannot reach the Hub\)$"):
        SemST.from_pretrained("me/zebras")


def test_the_package_has_a_small_model():
    model = SemST.from_pretrained("demo")
    assert hub.DEMO.stat().st_size < 2_000_000
    about = json.loads(hub.DEMO.with_suffix(".json").read_text())
    assert about["source"] and about["target"]
    y = model.translate(torch.rand(3, 64, 64) * 2 - 1)
    assert y.shape == (3, 64, 64) and y.std() > 0.05


def test_the_demo_is_a_picture_of_four_scenes(tmp_path, capsys):
    start = time.process_time()
    assert main(["demo", str(tmp_path / "demo.png")]) == 0
    assert time.process_time() - start < 10
    assert str(tmp_path / "demo.png") in capsys.readouterr().out
    with Image.open(tmp_path / "demo.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    cell = [pixels[28:220, 6 + 198 * column:198 + 198 * column] for column in range(3)]
    assert np.abs(cell[0] - cell[1]).mean() > 10          # a translation is not its source
    assert np.abs(cell[1] - cell[2]).mean() < np.abs(cell[0] - cell[2]).mean()
    assert "name it .png" in mistake(capsys, "demo", tmp_path / "demo.txt")
    (tmp_path / "mine.png").write_text("a photograph")
    assert "is there already" in mistake(capsys, "demo", tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_text() == "a photograph"
    assert "--port 99999 must lie" in mistake(capsys, "demo", "--web", "--port", 99999)


def test_a_folder_of_pictures_called_demo_is_not_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo/horses").mkdir(parents=True)
    assert hub.located("demo") == hub.DEMO
    assert main(["demo"]) == 0 and (tmp_path / "semst-demo.png").exists()
    SemST(SMALL).save_pretrained("demo")
    assert hub.located("demo") == Path("demo")
