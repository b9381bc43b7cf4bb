"Protocol, dataset, evaluator, experiment and kept weights."
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from PIL import Image

from semst.batches import open_data
from semst.bench import experiment as module
from semst.bench.comparison import read_rows, row_of, table
from semst.bench.dataset import CITYSCAPES, ORACLES, PILOT_OFFSET, Dataset, drawn_sets
from semst.bench.evaluation import load_evaluator, save_evaluator, teach_evaluator
from semst.bench.experiment import Experiment, Trial, made_otherwise, settings_digest
from semst.bench.manifest import device_name, repository
from semst.bench.protocol import (ABLATIONS, COMPARED, LIVE, MINIMAL_EFFECT, PAIRS, PROFILES,
                                  REFERENCES, SEARCHED, VARIANTS, chosen_weight, config_for,
                                  title_of, whole_semst, with_content_weight)
from semst.bench.weights import check_kept, keep, kept_trials
from semst.bench.workflow import shown_trials, training_trials
from semst.config import TrainConfig
from semst.data import InputError, load_image
from semst.eval.labels import VOID
from semst.files import digest, read_json, write_json
from semst.methods import OBJECTIVES, PRESETS
from semst.synthetic.scenes import CLASSES, scene

SMOKE = PROFILES["smoke"]


def open_experiment(folder, pair="parsing2photo", profile=SMOKE, root=None):
    dataset = Dataset(folder, pair, profile, root)
    dataset.prepare()
    labelled = dataset.has_labels("trainB", "testA")
    return Experiment(dataset, teach_evaluator(dataset, profile) if labelled else None, profile)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    "On drawn scenes, with one scored training."
    e = open_experiment(tmp_path_factory.mktemp("experiment"))
    e.score(Trial("semst", 0.3, 1))
    return e


# --- protocol

def test_searched_weights_are_the_best_of_the_pilots_or_as_good():
    rows = read_rows(ROOT / "reproduce/tables/pilots.csv")
    for pair, weights in SEARCHED.items():
        for method, weight in weights.items():
            found = {row["weight"]: row["downstream"] for row in rows
                     if (row["pair"], row["method"]) == (pair, method)}
            assert found[weight] > max(found.values()) - MINIMAL_EFFECT and len(found) >= 3
            collapsed = (pair, method) == ("horse2zebra", "semst")           # PROTOCOL.md, line 5
            assert collapsed or weight == max(found, key=found.get)
            searched = Trial(f"{method}-searched", chosen_weight(pair, f"{method}-searched"))
            assert searched.weight == weight
            configs = [config_for(m, PROFILES["cpu"], 3, weight)
                       for m in (method, searched.method)]
            assert configs[0] == configs[1]


def test_searched_weights_are_planned_and_shown_on_drawn_scenes_alone():
    cpu = PROFILES["cpu"]
    planned = training_trials("horse2zebra", cpu)
    assert {Trial("semst-searched", 3.0, 1), Trial("semst", 1.0, 1)} <= set(planned)
    real = training_trials("horse2zebra", cpu, "photographs")
    assert real and not any("searched" in trial.method for trial in real)
    drawn = SimpleNamespace(profile=cpu, dataset=SimpleNamespace(pair="horse2zebra", root=None))
    assert [trial.method for trial in shown_trials(drawn)][-4:] == [
        "semst", "cut-searched", "semst-searched", "oracle"]


def test_parts_are_left_out_of_the_semst_they_are_compared_with():
    for pair, whole in (("summer2winter", "semst-searched"), ("parsing2photo", "semst")):
        assert whole_semst(pair) == whole
        weight = chosen_weight(pair, whole)
        planned = [t for t in training_trials(pair, PROFILES["cpu"]) if t.method in ABLATIONS]
        assert {trial.weight for trial in planned} == {weight} and len(planned) == 3 * 4
    assert chosen_weight("summer2winter", "semst-without-ts") == 0.1
    gpu = training_trials("summer2winter", PROFILES["gpu"])
    assert Trial("semst-two-scales", 0.1, 3) in gpu
    real = training_trials("summer2winter", PROFILES["paper"], "photographs")
    assert {trial.weight for trial in real} == {1.0}
    assert "semst-two-scales" not in {trial.method for trial in real}


@pytest.mark.parametrize("method", [m for m in VARIANTS if m != LIVE])
def test_methods_differ_in_their_objective_alone(method):
    ours, base = (config_for(m, PROFILES["cpu"], seed=3).to_dict() for m in (method, "semst"))
    differ = {name for name in ours if ours[name] != base[name]}
    allowed = set(OBJECTIVES.get(method.removesuffix("-searched"), {}))
    allowed |= {"model"} if "two-scales" in method else set()
    assert differ <= allowed and ours["gan"] == base["gan"] == "bce" and ours["seed"] == 3


def test_a_training_of_days_keeps_a_checkpoint_now_and_then():
    run = config_for("semst", PROFILES["paper"], 0).run
    assert (run.log_every, run.sample_every, run.checkpoint_every) == (100, 5000, 5000)
    assert config_for("semst", PROFILES["cpu"], 0).run.checkpoint_every == 1500


def test_an_epoch_has_all_pictures_of_a_folder(tmp_path):
    root = tmp_path / "data"
    fill(root)
    profile = replace(SMOKE, steps=0, epochs=3, train=2)
    e = open_experiment(tmp_path / "results", "game2photo", profile, root)
    count = len(list((root / "trainA").iterdir()))
    assert count > 2 and e.steps(Trial("cut")) == 3 * count


def test_the_paper_s_own_sets_are_smaller_than_the_crop_and_are_enlarged(tmp_path):
    "CycleGAN's sets have 256 pixels, and SemST's crop has 512."
    root = fill(tmp_path / "data", sizes=(96,) * 3)
    dataset = Dataset(tmp_path / "results", "horse2zebra", PROFILES["paper"], root)
    e = Experiment(dataset, None, PROFILES["paper"])
    for method in ("semst", "cut"):
        config = e.config(Trial(method))
        with pytest.warns(UserWarning, match="smaller than the crop, .*: enlarged"):
            samples, _, _ = open_data((root / "trainA", root / "trainB"), config)
        assert samples[0]["x_src"].shape[-1] == config.model.crop > 96
    assert e.steps(Trial("semst")) == 400 * 3
    short = Experiment(dataset, None, replace(PROFILES["paper"], most_steps=1000))
    assert short.steps(Trial("semst")) == 1000


def test_authors_settings_for_cityscapes_under_paper(tmp_path):
    root = fill(tmp_path / "data")
    found = {}
    for pair in ("parsing2photo", "horse2zebra"):
        dataset = Dataset(tmp_path / pair, pair, PROFILES["paper"], root)
        found[pair] = Experiment(dataset, None, PROFILES["paper"]).config(Trial("src")).objective
    assert (found["parsing2photo"].lambda_relation, found["parsing2photo"].gamma_late) == (0.1, 1.0)
    assert (found["horse2zebra"].lambda_relation, found["horse2zebra"].gamma_late) == (0.05, None)


def test_results_of_other_pictures_are_refused(tmp_path):
    root = fill(tmp_path / "data")
    Dataset(tmp_path / "results", "game2photo", SMOKE, root).prepare()
    Dataset(tmp_path / "results", "game2photo", SMOKE, root).prepare()
    shutil.copy(root / "trainB/0.png", root / "trainB/more.png")
    with pytest.raises(InputError, match="holds results of other pictures"):
        Dataset(tmp_path / "results", "game2photo", SMOKE, root).prepare()


def test_no_two_rows_of_a_comparison_are_the_same_training():
    for profile in (PROFILES["cpu"], PROFILES["gpu"], PROFILES["paper"]):
        methods = {"gan", *COMPARED, *ABLATIONS}
        if profile.epochs:
            methods.remove("semst-two-scales")                             # `paper` has two anyway
        digests = [settings_digest(config_for(m, profile, 0)) for m in methods]
        assert len(set(digests)) == len(digests)


def test_a_training_of_the_first_pilots_counts():
    "Their recipe, written out: a run made with it has the settings of the profile `cpu`."
    for method in ("gan", *COMPARED):
        config = PRESETS["tiny"].replace(**OBJECTIVES[method] | dict(gan="bce"))
        config = config.replace(crop=64, upsample="blur", seed=100, steps=6000, workers=0,
                                cache=True, log_every=50, sample_every=1500,
                                checkpoint_every=1500, keep=4)
        pilot = with_content_weight(config, 0.3)
        ours = config_for(method, PROFILES["cpu"], 100, 0.3)
        assert settings_digest(pilot) == settings_digest(ours)


def test_the_content_weight_leaves_the_gan_alone():
    for method in VARIANTS.keys() - {LIVE}:
        once = config_for(method, SMOKE, 0, 1.0).to_dict()
        thrice = config_for(method, SMOKE, 0, 3.0).to_dict()
        for name, value in once.items():
            factor = 3 if name.startswith("lambda_") and name != "lambda_gan" else 1
            if factor == 3:
                value = pytest.approx(3 * value)
            assert thrice[name] == value, name


def test_the_paper_s_settings_under_the_profile_paper():
    ours, theirs = (config_for(m, PROFILES["paper"], 0) for m in ("semst", "cut"))
    assert (ours.model.scales, ours.model.crop, ours.objective.gan) == (2, 512, "bce")
    assert (theirs.model.scales, theirs.model.crop, theirs.objective.gan) == (1, 256, "lsgan")
    assert ours.optimizer.steps is None and ours.optimizer.epochs == theirs.optimizer.epochs == 400
    assert config_for("semst-without-ts", PROFILES["paper"], 0).model == ours.model


def test_the_live_training_is_semst_s_with_its_own_length():
    quick = PROFILES["quick"]
    live, kept = (config_for(m, quick, 0, 0.3).to_dict() for m in (LIVE, "semst"))
    differ = {name for name in live if live[name] != kept[name]}
    assert differ == {"steps", "checkpoint_every", "sample_every", "log_every"}
    assert live["steps"] == quick.live < kept["steps"]


def test_names_and_seeds():
    with pytest.raises(InputError, match="unknown method 'magic': one of gan"):
        config_for("magic", SMOKE, 0)
    assert chosen_weight("summer2winter", "cut") == 1
    assert title_of("cut-searched") == "CUT, searched"
    with pytest.raises(InputError, match="no pilots have searched a weight for scc-searched"):
        chosen_weight("summer2winter", "scc-searched")
    assert title_of("matrix") == "colour matrix" and title_of("fastcut") == "FastCUT"
    leading = [pair for pair in PAIRS if PAIRS[pair].leading]
    assert len(leading) == 2 and all(PROFILES["cpu"].seeds(p) == (0, 1, 2, 3) for p in leading)


# --- dataset

@pytest.mark.parametrize("pair", PAIRS)
def test_no_scene_serves_two_purposes(pair):
    spans = [(s.layout, offset + s.first, offset + s.first + 10_000)
             for offset in (0, PILOT_OFFSET) for name, s in drawn_sets(PAIRS[pair]).items()
             if name not in ORACLES]
    for i, (_, first, _) in enumerate(spans):
        assert not any(a <= first < b for _, a, b in spans[:i])
    sets = drawn_sets(PAIRS[pair])
    for name in ("train", "test"):
        source, oracle = sets[f"{name}A"], sets[f"{name}O"]
        assert source[1:] == oracle[1:] and oracle.look == PAIRS[pair].target


def test_the_oracle_has_the_source_s_layouts_in_the_target_s_look(experiment):
    (x, a), (y, b) = (experiment.dataset.labelled(name) for name in ("testA", "testO"))
    assert torch.equal(a, b) and not torch.equal(x, y)


SIZES = ((48, 40), (40, 52), (48, 48), (44, 40), (64, 40))


def fill(root, labels=("trainA", "trainB", "testA", "testB"), sizes=SIZES):
    "Street scenes of odd sizes, with label maps beside the sets named; a corner of each is void."
    for part, name in enumerate(("trainA", "trainB", "testA", "testB")):
        for i, size in enumerate(sizes):
            look = "photo" if name.endswith("B") else "sim"
            image, mask = scene(look, 10 * part + i, size)
            mask[:8, :8] = VOID
            maps = Image.fromarray(mask.numpy())
            for folder, picture in ((name, image), (f"{name}_labels", maps)):
                if folder == name or name in labels:
                    (root / folder).mkdir(parents=True, exist_ok=True)
                    picture.save(root / folder / f"{i}.png")
    return root


@pytest.mark.parametrize("gone, words", [(("trainA",), "has no trainA"),
                                         (("testA", "testB"), "has no testA, testB")])
def test_a_folder_that_lacks_a_set_is_refused_before_anything_is_written(tmp_path, gone, words):
    fill(tmp_path / "data")
    for name in gone:
        shutil.rmtree(tmp_path / "data" / name)
    with pytest.raises(InputError, match=words):
        Dataset(tmp_path / "results", "horse2zebra", SMOKE, tmp_path / "data")
    assert not (tmp_path / "results").exists()


def test_two_datasets_do_not_share_results(experiment, tmp_path):
    given = experiment.dataset.folder, "parsing2photo"
    for other in (
        Dataset(*given, SMOKE, fill(tmp_path / "data")),
        Dataset(*given, replace(SMOKE, test=5)),
        Dataset(*given, SMOKE, offset=PILOT_OFFSET),
    ):
        with pytest.raises(InputError, match="holds results of other pictures"):
            other.prepare()


def test_classes_are_the_data_s(tmp_path):
    root = fill(tmp_path / "data")
    assert Dataset(tmp_path, "game2photo", SMOKE, root).classes == CLASSES
    write_json(root / "settings.json", dict(data="GTA5"))
    assert Dataset(tmp_path, "game2photo", SMOKE, root).classes == CITYSCAPES
    assert len(set(CITYSCAPES)) == 19
    (root / "settings.json").write_text("{")
    with pytest.raises(InputError, match="settings.json: is damaged"):
        Dataset(tmp_path, "game2photo", SMOKE, root)


def test_mistakes_in_words(tmp_path):
    with pytest.raises(InputError, match="unknown pair 'cats': one of parsing2photo"):
        Dataset(tmp_path, "cats", SMOKE)
    with pytest.raises(InputError, match="profile is for folders of pictures"):
        Dataset(tmp_path, "game2photo", PROFILES["paper"])
    with pytest.raises(InputError, match="nowhere: no such folder"):
        Dataset(tmp_path, "game2photo", SMOKE, tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no set trainC"):
        Dataset(tmp_path, "game2photo", SMOKE).set_folder("trainC")


# --- evaluator

def test_an_evaluator_scores_the_oracle_as_its_ceiling(experiment, tmp_path):
    copy, oracle = (experiment.score(Trial(name)) for name in ("copy", "oracle"))
    assert oracle["flips"] == oracle["low_pass"] == 0 and oracle["edges"] == pytest.approx(1)
    assert oracle["frechet"] < 1e-3 < copy["frechet"] and copy["low_pass"] > 0.1
    save_evaluator(experiment.evaluator, tmp_path)
    again = load_evaluator(tmp_path, experiment.dataset.classes)
    y, labels = experiment.dataset.labelled("testA")
    rows = [e.score(y, labels, None, y) for e in (again, experiment.evaluator)]
    assert rows[0] == rows[1] and "low_pass" not in rows[0]


def test_sky_read_as_tree_is_the_confusion_s_entry(experiment):
    row = experiment.score(Trial("semst", 0.3, 1))
    names = experiment.dataset.classes
    entry = row["confusion"][names.index("sky")][names.index("tree")]
    assert row["sky_tree"] == pytest.approx(entry, abs=1e-5)


# --- experiment

def test_nothing_is_made_twice(experiment, monkeypatch):
    trial = Trial("semst", 0.3, 1)
    first = experiment.score(trial), experiment.downstream(trial), experiment.curve(trial)

    def never(*args, **kwargs):
        raise AssertionError("made again")
    for name in ("train", "train_segmenter", "translate_all"):
        monkeypatch.setattr(module, name, never)
    assert (experiment.score(trial), experiment.downstream(trial), experiment.curve(trial)) == first


def test_the_pictures_on_disk_give_the_scores_in_the_file(experiment):
    trial = Trial("semst", 0.3, 1)
    saved = sorted((experiment.folder(trial) / "translations").iterdir())
    assert len(saved) == SMOKE.test and load_image(saved[0]).size == (32, 32)
    again, row = experiment.rate(trial, experiment.translations(trial)), experiment.score(trial)
    assert again.pop("confusion") == row["confusion"]
    assert again == pytest.approx({name: row[name] for name in again}, rel=1e-4)


def test_references_are_what_they_say(experiment):
    dataset = experiment.dataset
    assert torch.equal(experiment.translate(Trial("copy"), "testA"), dataset.pictures("testA"))
    assert torch.equal(experiment.translate(Trial("oracle"), "trainA"), dataset.pictures("trainO"))
    matrix = experiment.translate(Trial("matrix"), "trainA")
    target, source = dataset.pictures("trainB"), dataset.pictures("trainA")
    gaps = [(x.mean((0, 2, 3)) - target.mean((0, 2, 3))).abs().max() for x in (source, matrix)]
    assert gaps[1] < 0.5 * gaps[0]
    scores = [experiment.downstream(Trial(m)) for m in ("copy", "matrix", "oracle", "target")]
    assert all(s["n"] == SMOKE.test for s in scores) and len({str(s) for s in scores}) == 4
    assert experiment.downstream(Trial("copy", seed=1)) != scores[0]  # another network's seed


def test_a_run_with_other_settings_is_refused_and_can_be_forgotten(experiment, tmp_path):
    own = Experiment(Dataset(tmp_path, "parsing2photo", SMOKE), experiment.evaluator, SMOKE)
    own.dataset.prepare()
    trial = Trial("cut", 0.3)
    own.train(trial)
    file = own.folder(trial) / "run/config.json"
    about = read_json(file)
    write_json(file, about | dict(config=about["config"] | dict(keep=9, log_every=1, cache=False)))
    assert not made_otherwise(own.folder(trial) / "run", own.config(trial))
    write_json(file, about | dict(config=about["config"] | dict(lambda_nce=0.25)))
    for use in (own.train, own.score, own.downstream, own.curve):
        with pytest.raises(InputError, match="was trained with other settings than today's"):
            use(trial)
    own.forget(Trial("copy"))
    own.forget(trial)
    assert not own.folder(trial).exists()


def test_an_older_run_without_newer_settings_counts(experiment, tmp_path):
    trial = Trial("semst", 0.3, 1)
    shutil.copytree(experiment.folder(trial) / "run", tmp_path / "run")
    file = tmp_path / "run/config.json"
    about = read_json(file)
    old = {name: value for name, value in about["config"].items() if name != "decay_from"}
    write_json(file, about | dict(config=old))
    assert not made_otherwise(tmp_path / "run", experiment.config(trial))


def test_a_training_says_where_it_comes_from(experiment):
    trial = Trial("semst", 0.3, 1)
    said, run = experiment.origin(trial), experiment.folder(trial) / "run"
    assert said["sha256"] == digest(run / "checkpoints/step_00000004/average.safetensors")
    assert (said["settings"], said["steps"]) == (settings_digest(experiment.config(trial)), 4)
    assert (said["weight"], said["seed"]) == (0.3, 1) and said["seconds"] > 0
    assert [made["device"] for made in said["made"]] == [device_name()]
    assert experiment.origin(Trial("copy")) == {}


def test_a_training_that_goes_on_is_noted_twice(experiment, tmp_path, monkeypatch):
    own, stops = Experiment(Dataset(tmp_path, "parsing2photo", SMOKE), None, SMOKE), [True, False]
    own.dataset.prepare()

    def train(data, run, config, hooks, resume):
        if stops.pop(0):
            raise KeyboardInterrupt
    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt):
        own.train(Trial("cut"))
    own.train(Trial("cut"))
    assert len(read_json(own.folder(Trial("cut")) / "made.json")) == 2


def test_numbers_of_other_settings_are_no_numbers(experiment, monkeypatch):
    trial = Trial("semst", 0.3, 1)
    assert experiment.score(trial) == experiment.score(trial)
    right = experiment.config
    monkeypatch.setattr(experiment, "config", lambda t: right(t).replace(lr=1e-5))
    for ask in (experiment.score, experiment.curve, experiment.downstream):
        with pytest.raises(InputError, match="was trained with other settings"):
            ask(trial)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    return open_experiment(root / "results", "game2photo", root=fill(root / "data"))


def test_a_labelled_folder_is_scored_without_an_oracle(real):
    row, target = real.score(Trial("cut")), real.score(Trial("target"))
    assert 0 < row["class_accuracy"] < 1 and row["n"] == 4 and "low_pass" not in row
    assert target["frechet"] < 1e-3 < row["frechet"]                 # to testB itself
    assert real.downstream(Trial("cut"))["n"] == real.downstream(Trial("target"))["n"] == 4
    assert real.config(Trial("cut")).data.resize == "square"
    with pytest.raises(InputError, match="there is no set testO"):
        real.score(Trial("oracle"))


def test_without_labels_there_are_pictures(tmp_path, monkeypatch):
    root = fill(tmp_path / "data", labels=())
    e = open_experiment(tmp_path / "results", "horse2zebra", root=root)
    asked = []
    monkeypatch.setattr(module, "cached_inception", lambda: tmp_path / "weights.pth")
    monkeypatch.setattr(module, "fid_kid", lambda *given: asked.append(given) or dict(
        fid=50.0, kid=0.1, kid_std=0.01, mode="stand-in", n_a=4, n_b=4))
    assert e.score(Trial("cut")) == dict(n=4, fid=50.0, kid=0.1, kid_std=0.01, mode="stand-in",
                                         n_b=4)
    row = row_of(e, Trial("cut"))
    assert row["fid"] == 50.0 and "FID" in table([row], ["cut"])[0]
    assert asked == [(e.folder(Trial("cut")) / "translations", (tmp_path / "data/testB").resolve(),
                      tmp_path / "weights.pth", 32)]


def test_a_method_translates_at_its_crop_s_size(experiment, tmp_path):
    weights = experiment.weights(Trial("semst", 0.3, 1))              # trained with crops of 32
    y = module.translate_all(weights, experiment.dataset.files("testA"), 64)
    assert y.shape == (4, 3, 64, 64) and torch.equal(((y + 1) * 127.5).round() / 127.5 - 1, y)
    same = module.translate_all(weights, experiment.dataset.files("testA"), 32)
    assert (torch.nn.functional.avg_pool2d(y, 2) - same).abs().mean() < 0.1


# --- kept weights

def test_kept_weights_translate_in_the_place_of_a_training(experiment, tmp_path, monkeypatch):
    trial = Trial("semst", 0.3, 1)
    path = keep(experiment, trial, tmp_path)
    assert path.name == "semst.safetensors" and path.stat().st_size < 1.2e6
    kept = Experiment(experiment.dataset, None, SMOKE, kept_trials(tmp_path))
    monkeypatch.setattr(module, "train", None)
    difference = kept.translate(trial, "testA") - experiment.translate(trial, "testA")
    assert difference.abs().max() <= 3 * 2 / 255
    said = kept.origin(trial)
    assert said["sha256"] == digest(path) and said["pair"] == "parsing2photo"
    assert said["original_sha256"] == experiment.origin(trial)["sha256"]


def test_changed_or_foreign_weights_are_refused(experiment, tmp_path):
    path = keep(experiment, Trial("semst", 0.3, 1), tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="its digest is not the one in semst.json"):
        check_kept(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="semst.json: no such file"):
        kept_trials(tmp_path)


def test_the_repository_s_kept_weights_are_whole():
    for folder in sorted((ROOT / "reproduce/weights").glob("*2*")):
        for trial in kept_trials(folder):
            assert trial.method in VARIANTS


def test_the_project_s_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repository() == ROOT
    monkeypatch.chdir(ROOT / "nbs")
    assert repository() == ROOT


def test_references_are_no_methods():
    assert not set(REFERENCES) & set(VARIANTS)
    assert isinstance(config_for("semst", SMOKE, 0), TrainConfig)


def test_how_pictures_are_read_counts_where_it_changes_a_result():
    config = config_for("semst", SMOKE, 0)
    same = [config.replace(skip_bad=True), config.replace(small="skip"), config.replace(cache=True)]
    assert {settings_digest(other) for other in same} == {settings_digest(config)}
    assert settings_digest(config.replace(white=4095)) != settings_digest(config)
