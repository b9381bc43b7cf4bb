"The benchmark: parts made once, and seeds that are repetitions."
import hashlib
import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from PIL import Image

from semst.bench import benchmark
from semst.baselines import OBJECTIVES
from semst.bench.benchmark import CITYSCAPES, HOLD, METHOD_NAMES, PAIRS, PROFILES, Trial, config_for, downstream, hold_of, reported, seeds_of, settings_digest
from semst.bench.comparison import conclude, data_of, leads_of, table
from semst.data import InputError, load_image
from semst.bench.figures import side_by_side
from semst.bench.manifest import device_name
from semst.eval.metrics import VOID, load_labelled
from semst.model import load_model, translate_whole
from semst.synthetic.scenes import CLASSES, scene


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    t = Trial(tmp_path_factory.mktemp("trial"), "smoke", "sim2photo", 3)
    t.score("semst")
    return t


def test_oracle_has_the_layouts_of_test_a_in_the_target_s_look(trial):
    (x, a), (y, b) = (load_labelled(trial.data()[name]) for name in ("testA", "oracle"))
    assert torch.equal(a, b) and not torch.equal(x, y)


def test_no_scene_serves_two_purposes(trial):
    seen = {}
    for name, folder in trial.data().items():
        if name == "oracle": continue
        for f in (folder / "labels").iterdir(): seen.setdefault(f.read_bytes(), set()).add(name)
    assert all(len(names) == 1 for names in seen.values())


def test_another_seed_is_another_experiment(trial, tmp_path):
    other = Trial(tmp_path, "smoke", "sim2photo", 4)
    assert not torch.equal(load_labelled(other.data()["testA"])[1], load_labelled(trial.data()["testA"])[1])
    assert config_for("semst", PROFILES["smoke"], 4).seed == 4


def test_nothing_is_made_twice(trial, monkeypatch):
    curve, row = trial.score("semst"), trial.references()
    def never(*args, **kwargs): raise AssertionError("made again")
    for name in ("train", "evaluate", "train_segmenter"): monkeypatch.setattr(benchmark, name, never)
    assert trial.score("semst") == curve and trial.references() == row


def test_a_training_says_where_it_comes_from(trial, tmp_path, monkeypatch):
    other = Trial(tmp_path, "smoke", "sim2photo", 3)
    shutil.copytree(trial.folder / "semst", other.folder / "semst")
    monkeypatch.setattr(benchmark, "train", None)                                     # asking must not train
    run, said = other.folder / "semst/run", other.origin("semst")
    assert said["weights"] == hashlib.sha256((run / "checkpoints/step_00000004/average.safetensors").read_bytes()).hexdigest()
    assert said["judge"] is None and trial.origin("semst")["judge"] == hashlib.sha256((trial.folder / "judge.safetensors").read_bytes()).hexdigest()
    assert said["hold"] == HOLD["sim2photo"]["semst"] and said["settings"] == settings_digest(other.config("semst")) != settings_digest(other.config("cut"))
    assert [m["device"] for m in said["made"]] == [device_name()] and re.match(r"[0-9a-f]{40}", said["made"][0]["revision"])
    (run / "log.jsonl").write_text('{"step": 4, "images_per_second": 2}\n{"step": 10, "images_per_second": 3}\n')
    (other.folder / "semst/made.json").unlink()                                        # from before it was noted, and without its weights
    shutil.rmtree(run / "checkpoints")
    assert other.origin("semst") == dict(said, weights=None, made=[], seconds=4 / 2 + 6 / 3)
    monkeypatch.setattr(Trial, "config", lambda self, method: replace(config_for(method, self.size, self.seed, self.hold(method)), batch_size=3))
    monkeypatch.setattr(Trial, "stale", lambda self, method: False)
    assert other.origin("semst")["seconds"] == 3 * (4 / 2 + 6 / 3)


def test_a_training_that_goes_on_is_noted_twice(tmp_path, monkeypatch):
    trial, stop = Trial(tmp_path, "smoke", "horse2zebra"), iter([KeyboardInterrupt, None])
    def train(*args, **options):
        if error := next(stop): raise error
    monkeypatch.setattr(benchmark, "train", train)
    with pytest.raises(KeyboardInterrupt): trial.train("cut")
    monkeypatch.setattr(benchmark, "git_revision", lambda folder: "another")
    trial.train("cut")
    first, second = trial.origin("cut")["made"]
    assert first["revision"] != second["revision"] == "another"


def test_every_checkpoint_is_scored_and_the_last_one_s_pictures_are_kept(trial):
    assert [p["step"] for p in trial.score("semst")] == [2, 4]
    saved = sorted((trial.folder / "semst/translations").iterdir())
    assert len(saved) == PROFILES["smoke"].test and load_image(saved[0]).size == (32, 32)
    row = trial.rate(trial.translations("semst"))                                  # the pictures on disk give the scores in the file
    assert row["pixel_accuracy"] == trial.score("semst")[-1]["pixel_accuracy"]
    assert row["sfd_oracle"] == pytest.approx(trial.score("semst")[-1]["sfd_oracle"], rel=1e-4)


def test_readers(trial):
    scores = {m: downstream(trial, m) for m in ("source", "semst", "target")}
    assert len({s["pixel_accuracy"] for s in scores.values()}) == 3
    assert json.loads((trial.folder / "target/downstream.json").read_text())["n"] == PROFILES["smoke"].test


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_methods_differ_in_their_objective_alone(method):
    ours, base = (config_for(m, PROFILES["cpu"], 0, hold_of(m, PROFILES["cpu"], "sim2photo")) for m in (method, "semst"))
    differ = {k for k, v in vars(ours).items() if v != vars(base)[k]}
    assert differ <= set(OBJECTIVES.get(method, {"model": 0})) and ours.gan == base.gan == "bce"
    if method == "semst-two-scales": assert replace(ours.model, scales=1, local_crop=base.model.local_crop) == base.model


@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_rows_of_a_comparison_are_the_same_training(profile):
    for pair in PAIRS:
        configs = [config_for(m, PROFILES[profile]._replace(steps=100), 0, hold_of(m, PROFILES[profile], pair)) for m in reported(profile)]
        assert all(a != b for i, a in enumerate(configs) for b in configs[:i]) and len(configs) == 12


def test_a_run_with_other_settings_is_refused(tmp_path):
    trial = Trial(tmp_path, "smoke", "horse2zebra")
    trial.score("cut")
    file = trial.folder / "cut/run/config.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps(about | dict(config=about["config"] | dict(lambda_nce=0.25))))
    for use in (trial.score, trial.train, trial.translations, lambda m: downstream(trial, m)):
        with pytest.raises(InputError, match="cut/run: was trained with other settings than today's; remove"): use("cut")


def test_seeds_of_a_profile():
    assert [len(seeds_of("standin", pair)) for pair in PAIRS] == [3, 3, 3, 1] and list(seeds_of("quick", "sim2photo")) == [0]


def test_unknown_method():
    with pytest.raises(InputError, match="unknown method 'magic': one of gan"): config_for("magic", PROFILES["smoke"], 0)


# --- real folders

SIZES = ((48, 40), (40, 52), (48, 48), (44, 40), (64, 40))

def fill(root, labels=("trainA", "trainB", "testA", "testB"), sizes=SIZES):
    "trainA ... testB with street scenes of odd sizes, and label maps beside those named; a corner of each label map is void."
    for part, name in enumerate(("trainA", "trainB", "testA", "testB")):
        for i, size in enumerate(sizes):
            image, mask = scene("photo" if name.endswith("B") else "sim", 10 * part + i, size)
            mask[:8, :8] = VOID
            for folder, picture in ((name, image), (f"{name}_labels", Image.fromarray(mask.numpy()))):
                if folder == name or name in labels:
                    (root / folder).mkdir(parents=True, exist_ok=True)
                    picture.save(root / folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    return Trial(root / "results", "smoke", "sim2photo", 0, fill(root / "data"))


def test_a_labelled_folder_is_judged_without_an_oracle(real):
    last, rows = real.score("cut")[-1], real.references()
    assert 0 < last["pixel_accuracy"] < 1 and last["sfd_target"] > 0 and "sfd_oracle" not in last and last["n"] == 4
    assert list(rows) == ["copy of the input", "target pictures"] and rows["target pictures"]["sfd_target"] > 0        # test pictures from training pictures: how near is near
    assert real.translations("cut").shape == (4, 3, 32, 32) and downstream(real, "cut")["n"] == 4
    curves = dict.fromkeys(METHOD_NAMES, [real.score("cut")])
    metrics, verdict = conclude([real], curves, [rows], leads_of(real, curves))
    assert metrics["lead over cut, pixel accuracy"] == 0 and verdict == "smoke" and metrics["test pictures"] == 4
    assert "read right" in side_by_side(real, ("cut",), rows=2).axes[3].get_xlabel()
    assert "FID" not in table({"cut": [last]}) and "SFD oracle" not in table({"cut": [last]})


def test_a_manifest_digests_label_maps_too(real, trial):
    names = {"trainA", "trainB", "testA", "testB"}
    found = data_of([real])
    assert set(found) == names | {f"{name}, labels" for name in names} | {"labelled"} and found["testA, labels"].name == "testA_labels"
    assert not any("labels" in name for name in data_of([trial]))                          # of drawn scenes, which their seed decides


def test_without_labels_there_are_pictures_and_distances(tmp_path, monkeypatch):
    trial = Trial(tmp_path / "results", "smoke", "horse2zebra", 0, fill(tmp_path / "data", labels=("testA",)))
    monkeypatch.setattr(benchmark, "cached_inception", lambda: None)
    assert not trial.judged and not trial.teaches
    assert set(trial.score("cut")[-1]) == {"step", "n", "inversion", "note", "sfd_target", "skd_target", "skd_target_error"}
    found = trial.references()
    assert list(found) == ["copy of the input", "target pictures"] and found["target pictures"]["sfd_target"] > 0
    assert trial.drawn == ("labelled",) and trial.data()["labelled"].is_relative_to(trial.folder)
    assert (trial.folder / "judge-drawn.safetensors").exists() and not (trial.folder / "judge.safetensors").exists()       # drawings taught it: it must never read for a score
    fig = side_by_side(trial, ("cut",), rows=2)
    assert "No labels" in fig.get_suptitle() and not any(ax.patches or ax.get_xlabel() for ax in fig.axes)
    curves = dict.fromkeys(METHOD_NAMES, [trial.score("cut")])
    assert leads_of(trial, curves) == {} and conclude([trial], curves, [trial.references()], {})[1] == "smoke"


def test_three_pictures_have_no_distance(tmp_path, monkeypatch):
    trial = Trial(tmp_path / "results", "smoke", "horse2zebra", 0, fill(tmp_path / "data", labels=(), sizes=SIZES[:3]))
    monkeypatch.setattr(benchmark, "cached_inception", lambda: None)
    assert set(trial.score("cut")[-1]) == {"step", "n", "inversion", "note"} and trial.references()["target pictures"] == {}


def test_fid_where_its_weights_are(tmp_path, monkeypatch):
    trial, asked = Trial(tmp_path / "results", "smoke", "horse2zebra", 0, fill(tmp_path / "data", labels=())), []
    monkeypatch.setattr(benchmark, "cached_inception", lambda: tmp_path / "weights.pth")
    monkeypatch.setattr(benchmark, "fid_kid", lambda *folders: asked.append(folders) or dict(fid=50.0, kid=0.1, kid_subset_size=2))
    first, last = trial.score("cut")
    assert "fid" not in first and last["fid"] == 50.0 and last["fid_size"] == 32 and "kid_subset_size" not in last
    assert asked == [(trial.folder / "cut/translations", tmp_path.resolve() / "data/testB", tmp_path / "weights.pth", 32)]
    scores = trial.folder / "cut/scores.json"
    scores.write_text(scores.read_text().replace('"fid_size": 32', '"fid_size": 64').replace("50.0", "51.0"))             # an FID of other pictures
    assert trial.score("cut")[-1]["fid"] == 50.0
    def refuse(*folders): raise InputError("3 and 5 images are too few")
    monkeypatch.setattr(benchmark, "fid_kid", refuse)
    assert trial.references()["copy of the input"]["note"] == "no FID: 3 and 5 images are too few"


def test_a_root_without_train_a_borrows_the_simulator(tmp_path):
    fill(tmp_path / "data")
    for name in ("trainA", "testA"): (tmp_path / "data" / name).rename(tmp_path / name)
    trial = Trial(tmp_path / "results", "smoke", "sim2photo", 0, tmp_path / "data")
    assert trial.drawn == ("trainA", "testA") and trial.teaches and trial.data()["trainB"] == tmp_path.resolve() / "data/trainB"
    drawn = Trial(tmp_path / "other", "smoke", "sim2photo")
    assert torch.equal(trial.pictures("trainA"), drawn.pictures("trainA")) and torch.equal(trial.labelled("testA")[1], drawn.labelled("testA")[1])
    (tmp_path / "data/settings.json").write_text('{"data": "Cityscapes"}')
    with pytest.raises(InputError, match="drawn scenes have CamVid's classes"): trial.names


def test_classes_are_the_data_s(real):
    assert real.names == CLASSES
    note = real.data_root / "settings.json"
    note.write_text('{"data": "GTA5"}')
    try: assert real.names == CITYSCAPES and len(set(CITYSCAPES)) == 19
    finally: note.unlink()


def test_two_data_sets_do_not_share_results(real, trial, tmp_path):
    for other in (Trial(real.results, "smoke", "sim2photo", 0), Trial(real.results, "smoke", "sim2photo", 0, fill(tmp_path / "data")), Trial(trial.results, "smoke", "sim2photo", 3, tmp_path / "data")):
        with pytest.raises(InputError, match="choose another folder"): other.data()


@pytest.mark.parametrize("pair, gone, words", [("horse2zebra", ("trainA",), "has no trainA"), ("horse2zebra", ("testA", "testB"), "has no testA, testB"), ("horse2zebra", ("trainA", "testA"), "has no trainA, testA"),
                                               ("sim2photo", ("testA",), r"has no testA; .* \(or neither trainA nor testA: then the source is drawn\)"), ("sim2photo", ("trainA",), "has no trainA")])
def test_a_root_that_lacks_something_is_refused_before_anything_is_written(tmp_path, pair, gone, words):
    fill(tmp_path / "data")
    for name in gone: shutil.rmtree(tmp_path / "data" / name)
    with pytest.raises(InputError, match=words): Trial(tmp_path / "results", "smoke", pair, 0, tmp_path / "data")
    assert not (tmp_path / "results").exists()


def test_labels_that_come_later_are_used(tmp_path):
    trial = Trial(tmp_path / "results", "smoke", "sim2photo", 0, fill(tmp_path / "data", labels=()))
    assert "pixel_accuracy" not in trial.score("cut")[-1] and "pixel_accuracy" not in trial.references()["copy of the input"]
    weights = (trial.folder / "cut/run/checkpoints/step_00000004/average.safetensors").stat().st_mtime_ns
    fill(tmp_path / "data")
    assert 0 < trial.score("cut")[-1]["pixel_accuracy"] < 1 and 0 < trial.references()["copy of the input"]["pixel_accuracy"] < 1
    assert weights == (trial.folder / "cut/run/checkpoints/step_00000004/average.safetensors").stat().st_mtime_ns         # nothing is trained again


def test_too_few_test_pictures_and_a_damaged_note(tmp_path):
    trial = Trial(tmp_path / "results", "smoke", "sim2photo", 0, fill(tmp_path / "data", sizes=SIZES[:3]))
    with pytest.raises(InputError, match="data/testA: 3 pictures are too few to compare; there must be four at least"): trial.references()
    (tmp_path / "data/settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings.json: is damaged \(no JSON\)"): trial.names


def test_a_checkpoint_that_a_stop_left_is_not_scored(trial, tmp_path):
    own = Trial(tmp_path, "smoke", "sim2photo", trial.seed)
    shutil.copytree(trial.folder, own.folder)
    run = own.train("cut")
    shutil.copytree(run / "checkpoints/step_00000002", run / "checkpoints/step_00000003")
    (run / "checkpoints/step_00000003/state.json").write_text('{"step": 3, "steps": 4, "scheduled": false}')
    own.folder.joinpath("cut/scores.json").unlink(missing_ok=True)
    assert [p["step"] for p in own.score("cut")] == [2, 4]


def test_small_pictures_are_enlarged_for_a_large_crop(tmp_path):
    trial = Trial(tmp_path / "results", "smoke", "horse2zebra", 0, fill(tmp_path / "data", labels=(), sizes=((40, 24), (40, 40), (32, 32), (28, 60))))
    trial.train("cut")
    made = sorted((trial.folder / "data/trainA-36").iterdir())
    assert [f.name for f in made] == ["0.png", "1.png", "2.png", "3.png"] and {load_image(f).size for f in made} == {(36, 36)}
    fits = Trial(tmp_path / "more", "smoke", "horse2zebra", 0, fill(tmp_path / "fits", labels=()))
    assert fits.training_set("trainA", fits.config("cut")) == tmp_path.resolve() / "fits/trainA"                      # large enough: as they are


def test_the_paper_s_settings(real):
    with pytest.raises(InputError, match="profile paper is for folders"): Trial(real.results, "paper", "sim2photo")
    with pytest.raises(InputError, match="nowhere: no such folder"): Trial(real.results, "smoke", "sim2photo", 0, real.data_root / "nowhere")
    paper = Trial(real.results, "paper", "sim2photo", 0, real.data_root)
    ours, theirs = paper.config("semst"), paper.config("cut")
    assert ours.steps == theirs.steps == 400 * len(SIZES) and ours.resize == theirs.resize == "square"
    assert (ours.model.scales, ours.model.crop, ours.lambda_nce) == (2, 512, 0) and (theirs.model.scales, theirs.model.crop, theirs.load, theirs.gan) == (1, 256, 286, "lsgan")
    assert real.config("semst").resize == "square" and Trial(real.results, "smoke", "sim2photo").config("semst") == config_for("semst", PROFILES["smoke"], 0, HOLD["sim2photo"]["semst"])
    assert real.config("semst").lambda_hdce == 1                                                                       # chosen on drawn scenes, used there alone
    assert [hold_of("cut", PROFILES[p], "sim2photo") for p in ("smoke", "quick", "cpu", "standin", "gpu", "paper")] == [30, 30, 30, 1, 1, 1]
    assert config_for("semst", PROFILES["standin"], 0).d_strides == (2, 2, 1)                                          # sees 34 of 128 pixels


def test_a_method_paints_at_its_crop_s_size_and_is_judged_at_the_profile_s(real, monkeypatch):
    monkeypatch.setitem(PROFILES, "smoke", PROFILES["smoke"]._replace(size=64))
    run = real.folder / "cut/run"                                                                                     # trained with crops of 32
    seen = []
    monkeypatch.setattr(benchmark, "translate_whole", lambda model, x: seen.append(tuple(x.shape)) or type("Whole", (), dict(fused=x)))
    y = real.translate(run, "testA")
    assert seen == [(4, 3, 32, 32)] and y.shape == (4, 3, 64, 64) and torch.equal(((y + 1) * 127.5).round() / 127.5 - 1, y)
