"The page on extending the package: its code runs, in its order, with what it adds in one place."
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from semst.data import InputError
from semst.generator import GENERATORS
from semst.methods import METHODS
from semst.model import SemST
from semst.run_folder import read_log
from semst.synthetic.animals import animal_scene

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "The folder in which the page's code has run; what it registered is forgotten afterwards."
    folder = tmp_path_factory.mktemp("extending")
    for name in ("horses", "zebras"):
        (folder / name).mkdir()
        for seed in range(4):
            animal_scene(name[:-1], seed, 48)[0].save(folder / name / f"{seed}.png")
    known = dict(METHODS), dict(GENERATORS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names: dict = {}
        for block in BLOCKS:
            exec(block, names)
        yield folder / "runs"
    for registry, before in zip((METHODS, GENERATORS), known):
        registry.clear()
        registry.update(before)


def records(run: Path):
    return read_log(run / "log.jsonl")


def test_a_loss_is_logged_and_weighs(runs):
    for run in (runs / "edges", runs / "cli"):
        record = records(run)[-1]
        parts = [record["gan"], record["hdce_global"], record["identity_global"],
                 2 * record["edges_global"], record["ts_weight"] * record["ts_global"]]
        assert record["edges_global"] > 0
        assert record["g_loss"] == pytest.approx(sum(parts), rel=1e-4)
        assert json.loads((run / "config.json").read_text())["config"]["method"] == "semst-edges"


def test_a_method_s_own_network_learns(runs):
    record = records(runs / "guess")[-1]
    assert record["g_loss"] == pytest.approx(record["gan"] + 10 * record["guess"], rel=1e-4)
    assert (runs / "guess/checkpoints/step_00000002/guess.safetensors").exists()


def test_a_generator_that_is_not_added_is_named(runs, monkeypatch):
    assert type(SemST.from_pretrained(runs / "plain").global_branch.generator).__name__ == "Plain"
    monkeypatch.delitem(GENERATORS, "plain")
    with pytest.raises(InputError, match="plain"):
        SemST.from_pretrained(runs / "plain")


def test_a_fourth_channel_is_saved_with_the_model(runs):
    config = SemST.from_pretrained(runs / "channels").config
    assert (config.in_channels, config.out_channels) == (4, 4)
