"The course: its chapters are complete, and its kept weights are what their notes say."
import json
import sys

import pytest
import torch
from conftest import ROOT

from semst.bench.weights import check_kept
from semst.data import InputError
from semst.hooks import Checkpoints, Log
from semst.methods import PRESETS
from semst.model import SemST, translate_whole
from semst.run_folder import read_log
from semst.synthetic.scenes import write_scenes
from semst.training import train

sys.path.insert(0, str(ROOT / "reproduce/tools"))
import keep_course  # noqa: E402

CHAPTERS = sorted((ROOT / "nbs").glob("0*.ipynb"))
WEIGHTS = ROOT / "reproduce/weights"
KEPT = sorted((*WEIGHTS.glob("course/*.safetensors"), *WEIGHTS.glob("two_scales/*.safetensors")))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_has_a_table_of_choices_and_solved_exercises(chapter):
    cells = json.loads(chapter.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert "the paper says" in text and "we chose" in text
    assert "## Exercises" in text
    assert (ROOT / "nbs/solutions" / chapter.name).exists()


def test_the_chapters_are_numbered_from_0_to_9():
    assert [int(chapter.stem[:2]) for chapter in CHAPTERS] == list(range(10))


@pytest.mark.parametrize("path", KEPT, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_kept_weights_have_their_digest_and_translate(path):
    check_kept(path)
    y = translate_whole(SemST.from_pretrained(path), torch.zeros(1, 3, 64, 64)).fused
    assert y.shape == (1, 3, 64, 64) and y.isfinite().all()


@pytest.mark.parametrize("folder", ["course", "two_scales"])
def test_the_kept_steps_belong_to_the_kept_log(folder):
    notes = [check_kept(path) for path in sorted((WEIGHTS / folder).glob("step_*.safetensors"))]
    assert len(notes) >= 3 and len({note["pair"] for note in notes}) == 1
    assert all(note["config"] == notes[0]["config"] for note in notes)
    last = read_log(WEIGHTS / folder / "log.jsonl")[-1]["step"]
    assert last == notes[-1]["step"] == notes[-1]["steps"]


def test_a_run_is_kept_at_each_checkpoint_and_replaces_the_one_before(tmp_path, monkeypatch):
    for look in ("summer", "winter"):
        write_scenes(tmp_path / look, look, n=2, size=32)
    config = PRESETS["tiny"].replace(crop=32, ngf=4, ndf=4, embed_dim=8, patches=8, centres=4,
                                     steps=4, log_every=1, checkpoint_every=2, cache=True)
    data = tmp_path / "summer/images", tmp_path / "winter/images"
    train(data, tmp_path / "run", config, hooks=[Log(), Checkpoints()])
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "step_00000009.safetensors").write_bytes(b"of an older training")
    monkeypatch.setattr(keep_course, "kept_folder", lambda _: kept)
    monkeypatch.setattr(sys, "argv", ["keep_course.py", str(tmp_path / "run"), "summer2winter"])
    keep_course.main()
    files = sorted(kept.glob("*.safetensors"))
    assert [path.stem for path in files] == ["step_00000002", "step_00000004"]
    assert [check_kept(path)["step"] for path in files] == [2, 4]
    assert len(read_log(kept / "log.jsonl")) == 4
    assert "begun_from" not in check_kept(files[0])
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(InputError, match="digest"):
        check_kept(files[0])


def test_a_training_is_kept_in_a_folder_of_its_own_with_what_it_began_from(tmp_path, monkeypatch):
    write_scenes(tmp_path / "winter", "winter", n=2, size=32)
    config = PRESETS["tiny"].replace(crop=32, ngf=4, ndf=4, embed_dim=8, patches=8, centres=4,
                                     steps=1)
    train([tmp_path / "winter/images"] * 2, tmp_path / "run", config, hooks=[Log(), Checkpoints()])
    monkeypatch.setattr(keep_course, "kept_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(sys, "argv", ["keep_course.py", str(tmp_path / "run"), "summer2winter",
                                      "--to", "other", "--begun", "summer2winter/semst"])
    keep_course.main()
    note = check_kept(tmp_path / "other/step_00000001.safetensors")
    assert note["begun_from"] == "summer2winter/semst"
