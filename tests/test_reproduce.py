"The figure runner: strict about what it is asked for, and its manifests hold what a reviewer needs."
import json
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "reproduce"))
import run as runner  # noqa: E402


def test_unknown_parameters_and_values_are_errors(capsys):
    assert runner.main(["fig4_horse2zebra", "-p", "stepz", "3"]) == 2
    assert "has no parameter stepz; it has profile, seed" in capsys.readouterr().err
    assert runner.main(["fig4_horse2zebra", "-p", "seed", "three"]) == 2
    assert "seed must be int" in capsys.readouterr().err
    assert runner.main(["fig9"]) == 2
    assert "no figure fig9" in capsys.readouterr().err


def test_a_missing_tag_is_an_error(tmp_path):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("seed = 0")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    with pytest.raises(runner.RunError, match="0 cells are tagged"): runner.parameters_of(tmp_path / "n.ipynb")


def test_figure_4_smoke(tmp_path):
    subprocess.run([sys.executable, ROOT / "reproduce/run.py", "fig4_horse2zebra", "--profile", "smoke", "--results", tmp_path], check=True, capture_output=True)
    m = json.loads((tmp_path / "fig4_horse2zebra/manifest.json").read_text())
    assert m["verdict"] == "smoke" and m["data_name"] == "embedded" and m["parameters"]["profile"] == "smoke"
    assert {"look_gap", "miou_translations", "miou_ceiling_real_zebras", "miou_copy_of_the_input"} <= m["metrics"].keys()
    for key in ("git_revision", "notebook_sha256", "packages", "device", "wall_seconds", "data"): assert m[key], key
    assert (tmp_path / "fig4_horse2zebra/figure.png").stat().st_size > 10_000
    assert "fig4_horse2zebra/figure.png" in (tmp_path / "index.html").read_text()
