"The figures: the runner is strict, the workflow makes all five, and their manifests say from what."
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ROOT

from semst.bench import workflow
from semst.bench.comparison import markdown, read_rows, summary, write_rows
from semst.bench.experiment import Trial
from semst.bench.protocol import COMPARED, PAIRS, PROFILES
from semst.bench.weights import keep, keep_evaluator
from semst.data import InputError
from semst.files import read_json, write_json
from semst.synthetic.scenes import scene

sys.path[:0] = [str(ROOT / "reproduce"), str(ROOT / "reproduce/tools")]
import admit  # noqa: E402
import choose  # noqa: E402
import collect  # noqa: E402
import curves  # noqa: E402
import page  # noqa: E402
import run as runner  # noqa: E402
import step  # noqa: E402


BIN = Path(sys.executable).parent


def snakemake(*words):
    command = [BIN / "snakemake", "--snakefile", ROOT / "reproduce/Snakefile", *words]
    return subprocess.run([str(w) for w in command], capture_output=True, text=True, cwd=ROOT)


def folder_of_pictures(root):
    "Four pictures for each of trainA, trainB, testA and testB, of odd sizes, without labels."
    for part, name in enumerate(("trainA", "trainB", "testA", "testB")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            look = "winter" if name.endswith("B") else "summer"
            scene(look, 10 * part + i, (48, 40 + 4 * i))[0].save(root / name / f"{i}.png")
    return root


# --- the runner

@pytest.mark.parametrize("words, message", [
    (("fig4_horse2zebra", "-p", "stepz", "3"), "has no parameter stepz; it has profile, pair"),
    (("fig9",), "no figure fig9; there are fig1_user_study"),
    (("fig4_horse2zebra", "-p", "data_name", "Ppaer"),
     "data_name must be stand-in or paper, not 'Ppaer'"),
    (("fig5_domain_adaptation", "--profile", "fast"), "profile must be one of smoke, quick")])
def test_unknown_parameters_and_values_are_errors(words, message, tmp_path, capsys):
    assert runner.main([*words, "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_tag_is_an_error(tmp_path):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("seed = 0")])
    nbformat.write(nb, tmp_path / "n.ipynb")
    with pytest.raises(InputError, match="0 cells are tagged"):
        runner.parameters_of(tmp_path / "n.ipynb")


def test_every_figure_has_its_notebook():
    for figure in workflow.FIGURES:
        notebook, own = runner.notebook_of(figure)
        known = set(runner.parameters_of(notebook))
        assert set(own) | {"profile", "data_root", "results_dir", "out_dir"} <= known
    assert set(page.TITLES) == set(workflow.FIGURES)


def test_a_figure_on_a_folder_without_labels(tmp_path, monkeypatch):
    folder_of_pictures(tmp_path / "horses")
    monkeypatch.chdir(tmp_path)                                      # the folder is named from here
    words = ["fig4_horse2zebra", "--profile", "smoke", "-p", "data_root", "horses"]
    assert runner.main([*words, "--results", str(tmp_path / "results")]) == 0
    out = tmp_path / "results/smoke/fig4_horse2zebra"
    m = read_json(out / "manifest.json")
    assert (m["verdict"], m["data_name"]) == ("undecided", "stand-in")
    assert "Without label maps" in m["words"]
    assert "of the paper's data" not in (tmp_path / "results/smoke/index.html").read_text()
    assert set(m["data"]) == {"trainA", "trainB", "testA", "testB"}
    assert m["data"]["trainA"]["images"] == 4 and m["metrics"] == {}
    assert (out / "figure.png").stat().st_size > 10_000


def test_papermill_from_any_folder(tmp_path, results):
    "Without the runner: the notebook finds the project, and writes where it is told."
    out = tmp_path / "mine"
    command = [
        BIN / "papermill",
        ROOT / "reproduce/fig2to4_translations.ipynb",
        tmp_path / "mine.ipynb",
        "-p",
        "profile",
        "smoke",
        "-p",
        "pair",
        "horse2zebra",
        "-p",
        "results_dir",
        results.parent,
        "-p",
        "out_dir",
        out,
    ]
    done = subprocess.run([str(w) for w in command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_json(out / "manifest.json")["figure"] == "fig4_horse2zebra"


# --- the workflow

@pytest.fixture(scope="module")
def results(tmp_path_factory):
    "All five figures, profile smoke."
    folder = tmp_path_factory.mktemp("results")
    done = snakemake("--directory", folder, "--cores", "2", "--keep-going", "--config",
                     "profile=smoke", f"results={folder}")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "smoke"


@pytest.mark.parametrize("figure", workflow.FIGURES)
def test_a_figure_and_its_manifest(results, figure):
    m = read_json(results / figure / "manifest.json")
    verdict = "undecided" if figure == "fig4_horse2zebra" else "smoke"       # not admitted
    assert m["verdict"] == verdict and m["data_name"] == "embedded"
    for key in ("words", "git_revision", "notebook_sha256", "packages", "device", "seconds"):
        assert m[key], key
    pairs = workflow.FIGURES[figure]
    methods = {name.split(", ")[-1].split("/")[0] for name in m["trainings"]}
    assert set(COMPARED) <= methods and len(m["trainings"]) == len(pairs) * len(methods)
    for training in m["trainings"].values():
        assert len(training["sha256"]) == 64
        assert re.match("[0-9a-f]{40}", training["made"][0]["revision"])
    assert (results / figure / "figure.png").stat().st_size > 10_000
    if figure != "fig1_user_study":
        rows = read_rows(results / figure / "rows.csv")
        assert {"copy", "matrix", "oracle", *COMPARED} <= {row["method"] for row in rows}
        assert all(0 <= row["downstream"] <= 1 for row in rows)


def test_the_study_waits_for_votes(results):
    out = results / "fig1_user_study"
    m = read_json(out / "manifest.json")
    assert m["words"] == "Waiting for votes." and m["metrics"] == {"raters": 0}
    html = (out / "study.html").read_text()
    assert "SemST" not in html and "CycleGAN" not in html               # raters must not know
    key = read_json(out / "study/key.json")
    assert len(key["sets"]) == 12


def test_the_page_shows_pictures_a_table_and_links(results):
    html = (results / "index.html").read_text()
    for figure in workflow.FIGURES:
        assert f'src="{figure}/figure.png"' in html and f'href="{figure}/manifest.json"' in html
    assert html.index("<img") < html.index("<table") and "Too few trainings" in html
    assert "Verdicts of the whole comparison" in html and "not reproduced" in html
    links = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert links and all((results / link).exists() for link in links)
    rows = read_rows(results / "fig2_parsing2image/rows.csv")
    ours = next(row for row in rows if row["method"] == "semst")
    assert f"<td>{ours['downstream']:.3f}</td>" in html


def test_nothing_on_the_page_is_unescaped(results, tmp_path):
    shutil.copytree(results / "fig2_parsing2image", tmp_path / "fig2_parsing2image")
    manifest = tmp_path / "fig2_parsing2image/manifest.json"
    evil = "<script>alert(1)</script>"
    keys = ("verdict", "words", "data_name", "device", "git_revision")
    write_json(manifest, read_json(manifest) | dict.fromkeys(keys, evil))
    for name in ("<script>.png", "a'\"&.html"):
        (tmp_path / "fig2_parsing2image" / name).write_bytes(b"")
    html = page.write_page(tmp_path).read_text()
    assert "<script" not in html and html.count("&lt;script&gt;") >= 5 and "'\"" not in html


def test_a_batch_of_100_figures_some_failing_ends_with_a_report(tmp_path, monkeypatch, capsys):
    names = [f"fig4_number{i:03}" for i in range(100)]
    bad = names[3::10]

    def execute(notebook, executed, values, **_):
        "A stub in the place of a kernel: the manifest of a figure, or a notebook that stops."
        Path(executed).write_text("{}")
        figure = Path(values["out_dir"]).name
        if figure in bad:
            raise papermill.PapermillExecutionError(1, 1, "", "InputError", f"no {figure}", [])
        about = dict(figure=figure, verdict="smoke", words="", data_name="stand-in", seconds=0,
                     device="cpu", git_revision="0", notebook=Path(executed).name)
        write_json(Path(values["out_dir"]) / "manifest.json", about)
    monkeypatch.setattr(runner, "FIGURES", dict.fromkeys(names, ("horse2zebra",)))
    monkeypatch.setattr(runner.papermill, "execute_notebook", execute)
    assert runner.main(["--profile", "smoke", "--results", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert f"10 of 100 figures failed: {', '.join(bad)}" in said.err
    assert said.out.count(": smoke (0 s)") == 90 and said.err.count("failed: InputError") == 10
    html = (tmp_path / "smoke/index.html").read_text()
    assert html.count("<strong>smoke</strong>") == 90
    assert html.count("<strong>failed</strong>") == 10 and f"{bad[0]}/fig2to4_trans" in html


def test_nothing_is_made_twice_and_a_changed_setting_is(results):
    words = ["--directory", results.parent, "--cores", "1", "--dry-run", "--config",
             "profile=smoke", f"results={results.parent}"]
    done = snakemake(*words)
    assert "Nothing to be done" in done.stdout + done.stderr
    config = results / "parsing2photo/cut/x1/seed0/run/config.json"
    about, scored = read_json(config), (config.parents[1] / "scores.json").stat().st_mtime_ns
    write_json(config, about | dict(config=about["config"] | dict(lambda_nce=0.125)))
    words = ["trial", "smoke", "parsing2photo", "cut", "--results", str(results.parent)]
    assert step.main(words) == 0
    assert read_json(config)["config"]["lambda_nce"] == 0.5
    assert (config.parents[1] / "scores.json").stat().st_mtime_ns > scored


def test_a_failing_job_is_named_and_the_rest_is_made(tmp_path):
    "A file in the place of one method's run: that method fails, its neighbour does not."
    place = tmp_path / "smoke/horse2zebra"
    (place / "gan/x1/seed0").mkdir(parents=True)
    (place / "gan/x1/seed0/run").write_text("in the way")
    targets = [f"{place}/{m}/x1/seed0/scores.json" for m in ("gan", "scc")]
    done = snakemake("--directory", tmp_path, "--cores", "1", "--keep-going", "--config",
                     "profile=smoke", f"results={tmp_path}", "--", *targets)
    assert done.returncode != 0 and "horse2zebra gan 1 0" in done.stderr
    assert Path(targets[1]).exists() and not Path(targets[0]).exists()
    assert (tmp_path / "smoke/index.html").exists()


def test_the_workflow_trains_every_seed(tmp_path):
    plan = snakemake("--directory", tmp_path, "--cores", "1", "--dry-run", "--printshellcmds",
                     "--config", "profile=cpu", f"results={tmp_path}")
    said = plan.stdout + plan.stderr
    for pair in PAIRS:
        methods = (*COMPARED, "gan", *(("semst-without-ts",) if PAIRS[pair].leading else ()))
        for method in methods:
            found = re.findall(rf"step.py' trial cpu {pair} {method} \S+ (\d)", said)
            assert sorted(found) == [str(s) for s in PROFILES["cpu"].seeds(pair)], (pair, method)
    assert "gpu=1" not in said


def test_the_workflow_on_folders(tmp_path):
    folder_of_pictures(tmp_path / "data/horse2zebra")
    words = ["--directory", tmp_path, "--cores", "1", "--dry-run", "--printshellcmds", "--config"]
    plan = snakemake(*words, "profile=paper", f"data={tmp_path / 'data'}", f"results={tmp_path}",
                     "data_name=paper")
    assert plan.returncode == 0, plan.stderr
    said = plan.stdout + plan.stderr
    assert f"step.py' trial paper horse2zebra cut 1 0 --results '{tmp_path}' --data-root" in said
    assert f"-p data_root '{tmp_path}/data/horse2zebra' -p data_name paper" in said
    assert "run.py' fig4" in said and "run.py' fig1" not in said and "run.py' fig2" not in said
    assert f"fig2_parsing2image is left out: no folder {tmp_path}/data/parsing2photo" in said
    assert "gpu=1" in said and "oracle" not in said
    for given, message in ((["profile=paper"], "add data=FOLDER"),
                           (["profile=fast"], "unknown profile"),
                           (["profile=paper", f"data={tmp_path}"], "holds none of the pairs"),
                           (["profile=paper", f"data={tmp_path / 'data'}", "data_name=mine"],
                            "data_name must be stand-in or paper, not 'mine'")):
        refused = snakemake(*words, *given)
        assert refused.returncode != 0 and message in refused.stdout + refused.stderr
    shutil.rmtree(tmp_path / "data/horse2zebra/trainB")            # told before the first training
    refused = snakemake(*words, "profile=paper", f"data={tmp_path / 'data'}")
    assert refused.returncode != 0 and "has no trainB" in refused.stdout + refused.stderr


@pytest.mark.parametrize("words, message", [
    (("trial", "smoke", "horse2zebra", "magic"), "unknown method 'magic'"),
    (("prepare", "smoke", "horse2zebra", "--data-root", "none"), "none: no such folder"),
    (("prepare", "paper", "horse2zebra"), "profile is for folders of pictures")])
def test_step_errors(words, message, tmp_path, capsys):
    assert step.main([*words, "--results", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


# --- kept weights, tables

@pytest.fixture
def kept(results, tmp_path, monkeypatch):
    "A project whose kept weights are those of two trainings of `results`."
    monkeypatch.setattr(workflow, "kept_folder", lambda pair: tmp_path / "weights" / pair)
    experiment = workflow.open_experiment(results, "smoke", "parsing2photo")
    for method in ("semst", "cut"):
        keep(experiment, Trial(method), tmp_path / "weights/parsing2photo")
    keep_evaluator(results / "evaluators/photo", tmp_path / "weights/evaluators/photo",
                   PROFILES["smoke"])
    monkeypatch.setitem(PROFILES, "quick", workflow.profile_of("smoke").__class__(
        **vars(PROFILES["smoke"]) | dict(kept=True, live=2)))
    return tmp_path


def test_quick_takes_what_is_kept_and_trains_once(kept, results):
    experiment = workflow.open_experiment(kept / "quick", "quick", "parsing2photo")
    trials = workflow.training_trials("parsing2photo", PROFILES["quick"])
    assert [t.method for t in trials] == ["cut", "semst", "semst-live"]
    full = workflow.open_experiment(results, "smoke", "parsing2photo")
    for trial in trials[:2]:
        again, first = experiment.score(trial), full.score(trial)
        assert again["flips"] == pytest.approx(first["flips"], abs=0.02)
        assert experiment.downstream(trial)["n"] == 4
        assert not (experiment.folder(trial) / "run").exists()
    assert experiment.score(trials[2])["n"] == 4 and experiment.steps(trials[2]) == 2
    assert [t.method for t in workflow.shown_trials(experiment)] == [
        "copy", "matrix", "cut", "semst-live", "semst", "oracle"]


def test_damaged_kept_weights_stop_everything(kept):
    file = kept / "weights/evaluators/photo/reader.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="its digest is not the one in reader.json"):
        workflow.open_experiment(kept / "quick", "quick", "parsing2photo")


def test_tables_are_collected_from_what_is_trained(results, tmp_path, monkeypatch, capsys):
    out = tmp_path / "scores.csv"
    monkeypatch.setattr(sys, "argv", ["collect.py", "smoke", "--results", str(results.parent),
                                      "--pairs", "horse2zebra", "--out", str(out)])
    collect.main()
    rows = read_rows(out)
    assert {row["method"] for row in rows} >= {"copy", "oracle", *COMPARED}
    again = read_rows(results / "fig4_horse2zebra/rows.csv")
    assert json.dumps(rows) == json.dumps(again)
    other = rows[0] | dict(pair="parsing2photo", seed=3)
    stays = rows[1] | dict(downstream=0.0)                        # of the same settings
    write_rows(out, [stays, other])
    collect.main()
    found = read_rows(out)
    assert found[0] == other and stays in found and len(found) == len(rows) + 1
    assert [row for row in found if row not in (other, stays)] == [rows[0], *rows[2:]]
    assert "the table's 0.000 stays" in capsys.readouterr().err


def test_curves_are_of_finished_trainings_alone(results, tmp_path, monkeypatch, capsys):
    out = tmp_path / "curves.csv"
    given = ["curves.py", "smoke", "summer2winter:cut:0", "--out", str(out), "--results"]
    for _ in range(2):                                            # rows are replaced, not repeated
        monkeypatch.setattr(sys, "argv", [*given, str(results.parent)])
        curves.main()
    rows = read_rows(out)
    assert [row["steps"] for row in rows] == [2, 4]
    experiment = workflow.open_experiment(results, "smoke", "summer2winter")
    last = experiment.downstream(Trial("cut"))["miou"]
    assert rows[-1]["downstream"] == pytest.approx(last, abs=1e-5)
    monkeypatch.setattr(sys, "argv", [*given, str(tmp_path)])
    with pytest.raises(SystemExit):
        curves.main()
    assert "cut:0: has no finished training" in capsys.readouterr().err


def test_a_pair_is_admitted_if_copy_and_matrix_both_fail_in_both_measures():
    def row(miou, pixels):
        return dict(miou=miou, pixel_accuracy=pixels)
    rows = dict(copy=row(0.5, 0.6), matrix=row(0.6, 0.7), oracle=row(0.8, 0.9))
    assert admit.admitted(rows)
    for name, worse in (("copy", row(0.7, 0.6)), ("matrix", row(0.6, 0.8)),
                        ("oracle", row(0.74, 0.9))):
        assert not admit.admitted(rows | {name: worse})


def test_the_best_weight_is_chosen_and_an_end_is_told(tmp_path, capsys):
    lines = ["pair,method,weight,seed,steps,downstream"]
    for method, values in (("cut", (0.2, 0.3, 0.25, 0.2)), ("semst", (0.4, 0.3, 0.2, 0.1)),
                           ("src", (0.9,))):
        lines += [f"parsing2photo,{method},{w},100,1,{v}" for w, v in zip((0.1, 0.3, 1, 3), values)]
    (tmp_path / "pilots.csv").write_text("\n".join(lines) + "\n")
    choose.main(str(tmp_path / "pilots.csv"))
    said = capsys.readouterr().out
    assert '"parsing2photo": dict(cut=0.3, semst=0.1)' in said
    assert "SemST: 0.1 is an end; try 0.03" in said and "CUT:" not in said
    assert "SRC: still to try 0.3, 1, 3" in said


def test_every_table_has_its_line_in_the_readme():
    text = (ROOT / "reproduce/tables/README.md").read_text()
    for table in (ROOT / "reproduce/tables").glob("*.csv"):
        assert f"`{table.name}`" in text and len(table.read_text().splitlines()) > 1, table.name


def test_the_readme_s_table_is_computed_from_the_scores():
    rows = read_rows(ROOT / "reproduce/tables/scores.csv")
    assert markdown(summary(rows)) in (ROOT / "README.md").read_text(encoding="utf-8")
