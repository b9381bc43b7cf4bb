"The notebook for one's own folders, run from top to bottom, in JupyterLab's way and in Colab's."
import json
from pathlib import Path

import papermill
import pytest
from conftest import ROOT
from PIL import Image

from semst import SemST

NOTEBOOK = ROOT / "nbs/train_your_own.ipynb"
COLAB = {
    "sitecustomize.py": "import google.colab\n",
    "google/colab/__init__.py": "from . import drive, files\n",
    "google/colab/drive.py": "from pathlib import Path\n"
                             "def mount(folder): (Path(folder) / 'MyDrive').mkdir(parents=True)\n",
    "google/colab/files.py": "def download(path): print('download', path)\n",
    "pip/__init__.py": "",
    "pip/__main__.py": "import sys\nprint(*sys.argv[1:])\n",
}


def outputs(path):
    "Everything that the executed notebook prints, and its pictures."
    cells = [c for c in json.loads(Path(path).read_text())["cells"] if c["cell_type"] == "code"]
    found = [o for c in cells for o in c["outputs"]]
    text = "".join("".join(o["text"]) for o in found if "text" in o)
    return text, [o for o in found if {"image/png", "image/jpeg"} & set(o.get("data", {}))]


def execute(folder, **given):
    papermill.execute_notebook(str(NOTEBOOK), str(folder / "out.ipynb"), dict(steps=4) | given,
                               cwd=str(folder), kernel_name="python3", progress_bar=False)
    return outputs(folder / "out.ipynb")


def test_with_drawn_pictures_and_again_after_a_disconnect(tmp_path):
    text, pictures = execute(tmp_path)
    assert "60 of 60 images translated into semst_work/first_run_translated" in text
    assert len(pictures) == 4                    # two sheets, the live picture, the translations
    SemST.from_pretrained(tmp_path / "semst_work/first_run.safetensors")
    log = (tmp_path / "semst_work/first_run/log.jsonl").read_text()
    execute(tmp_path)                            # all cells once more: nothing is trained again
    assert (tmp_path / "semst_work/first_run/log.jsonl").read_text() == log
    execute(tmp_path, steps=6)                   # and longer
    assert (tmp_path / "semst_work/first_run/checkpoints/step_00000006").exists()


@pytest.mark.filterwarnings("ignore:is one flat colour")
def test_in_colab_with_own_folders(tmp_path, monkeypatch):
    for name, text in COLAB.items():
        (tmp_path / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stubs" / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stubs'}:{ROOT}")
    for name in ("mine", "wanted"):
        for i in range(3):
            (tmp_path / name / f"{i}").mkdir(parents=True)             # one name, three folders
            Image.effect_noise((70, 80), 60).convert("RGB").save(tmp_path / name / f"{i}/a.jpg")
    text, _ = execute(
        tmp_path, source="mine", target="wanted", drive_folder=str(tmp_path / "drive")
    )
    assert "install -q semst[plots] @ git+https://github.com/semst/semst@main" in text
    work = tmp_path / "drive/MyDrive/semst"
    assert f"download {work / 'first_run.safetensors'}" in text
    translated = sorted((work / "first_run_translated").rglob("*.png"))
    assert [Image.open(p).size for p in translated] == 3 * [(70, 80)]
