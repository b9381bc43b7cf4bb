"The notebooks are the source: clean, executed, in sync with the package, in reading order."
import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "nbs/solutions").glob("*.ipynb"))
FIGURES = sorted((ROOT / "reproduce").glob("*.ipynb"))
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The notebooks and their settings, elsewhere; the package there is exported from scratch."
    root = tmp_path_factory.mktemp("project")
    for name in ("nbs", "reproduce"):
        shutil.copytree(
            ROOT / name,
            root / name,
            ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"),
        )
    for name in ("settings.ini", "pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, root)
    for written in (ROOT / "semst").rglob("__*__.py"):          # __init__ and __main__: by hand
        (root / written.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(written, root / written.relative_to(ROOT))
    subprocess.run([BIN / "nbdev_export"], cwd=root, check=True, capture_output=True)
    for folder in ("nbs", "nbs/solutions", "reproduce"):
        subprocess.run(
            [BIN / "nbdev_clean", "--fname", folder], cwd=root, check=True, capture_output=True
        )
    return root


def test_package_is_what_the_notebooks_export(copy):
    def modules(root):
        root = root / "semst"
        return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*.py")}
    ours, fresh = modules(ROOT), modules(copy)
    assert sorted(ours) == sorted(fresh), "a module or its notebook is missing: run nbdev_export"
    for name in ours:
        assert ours[name] == fresh[name], f"{name} differs from its notebook: run nbdev_export"


def name_of(notebook):
    "Its path below the project, for the names of tests."
    return str(notebook.relative_to(ROOT))


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS + FIGURES, ids=name_of)
def test_notebook_is_clean(copy, notebook):
    cleaned = (copy / notebook.relative_to(ROOT)).read_text()
    assert cleaned == notebook.read_text(), f"run nbdev_clean --fname {notebook}"


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=name_of)
def test_notebook_was_executed_without_errors(notebook):
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    outputs = [o for c in cells for o in c["outputs"]]
    assert outputs and not [o for o in outputs if o["output_type"] == "error"]
    assert notebook.stat().st_size < 500_000


@pytest.mark.parametrize("solutions", SOLUTIONS, ids=lambda p: p.name)
def test_every_exercise_of_a_chapter_is_solved(solutions):
    "A chapter numbers its exercises; its solutions repeat each, and have code for them."

    def source(path, kind):
        cells = json.loads(path.read_text())["cells"]
        return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == kind)
    chapter = source(solutions.parents[1] / solutions.name, "markdown")
    assert f"solutions/{solutions.name}" in chapter
    exercises = re.findall(r"^(\d+)\. (.*)", chapter.split("## Exercises")[1], re.MULTILINE)
    answers = source(solutions, "markdown")
    solved = re.findall(r"^## (\d+)\. ", answers, re.MULTILINE)
    assert [number for number, _ in exercises] == solved == ["1", "2", "3"]
    for _, words in exercises:
        assert words.replace("*", "").strip() in answers.replace("*", "")
    assert source(solutions, "code").count("assert") >= 3


BUILT_FIRST = """
    A01_files A02_damage A03_pictures A04_images A05_saving A06_folders A07_data
    A22_noise A23_animals A24_stage A25_looks 01_generator A20_colour 02_patch_sampling
    03_ts_loss 04_hdce_loss 05_scale_attention 06_patchgan A08_settings A54_exchange A55_hub
    A62_pretrained 07_two_scales A09_inputs A10_state A65_terms A64_ts_embeddings 08_trainer
    11_other_methods A16_speed A11_checkpoints A12_run_folder A50_samples A13_hooks A44_device
    A61_batches A14_runs A43_tiff A63_fields""".split()


EVIDENCE = """
    10_measuring A31_protocol A32_dataset A33_evaluation A34_experiment A35_weights A36_figures
    12_comparison A37_workflow 13_results""".split()


COMMANDS = """A45_train_command A46_translate_command A47_info_command A48_study_command
    A49_data_command A53_model_commands A57_demo_command A58_score_command
    A15_command_line""".split()


def reading_order(notebook):
    "The order of building: the core as listed, appendices, evidence, the command line."
    name = notebook.stem
    if name in BUILT_FIRST:
        return 0, f"{BUILT_FIRST.index(name):02}"
    if name in COMMANDS:
        return 3, f"{COMMANDS.index(name):02}"
    if name in EVIDENCE:
        return 2, f"{EVIDENCE.index(name):02}"
    return {"A": 1}.get(name[0], 4), name


def modules_of(path):
    "The modules of the package that one module imports, with where it stands."
    package = ["semst", *path.relative_to(ROOT / "semst").parts[:-1]]
    tree = ast.parse(path.read_text())
    def for_types_only(node):
        return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    tree.body = [node for node in tree.body if not for_types_only(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - node.level + 1]
            if node.module:
                yield ".".join([*base, node.module]), [a.name for a in node.names]
            else:
                yield ".".join(base), [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("semst"):
            yield node.module, [a.name for a in node.names]


def test_modules_import_only_earlier_ones():
    order = []
    for notebook in sorted(NOTEBOOKS, key=reading_order):
        names = re.findall(r"#\| (?:default_exp|exporti?) ([\w.]+)", notebook.read_text())
        order += [f"semst.{name}" for name in names]
    order = list(dict.fromkeys(order))
    modules = {}
    for path in (ROOT / "semst").rglob("*.py"):
        if path.stem not in ("__init__", "__main__", "_modidx"):
            modules[path] = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    assert set(order) == set(modules.values())
    for path, name in modules.items():
        for module, names in modules_of(path):
            if module == "semst":
                assert names == ["__version__"], f"{name} imports from the package's root"
            else:
                assert module in order[: order.index(name)], (
                    f"{name} imports {module}, which comes later"
                )


def test_package_imports_no_development_dependency():
    needed = """torch torchvision numpy PIL einops jaxtyping scipy safetensors filelock accelerate
        tqdm tyro huggingface_hub semst""".split()
    extras = """matplotlib tensorboard torchmetrics torch_fidelity tifffile imagecodecs
        ipywidgets IPython onnx onnxscript onnxruntime av""".split()
    allowed = {*needed, *extras, *sys.stdlib_module_names}
    for path in (ROOT / "semst").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in allowed, f"{path.name} imports {name}"


def test_badges_point_to_the_repository_of_settings_ini():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    user, repo = (settings["DEFAULT"][k] for k in ("user", "repo"))
    for nb in NOTEBOOKS:
        badge = f"colab.research.google.com/github/{user}/{repo}/blob/main/nbs/{nb.name}"
        if nb.name[0].isdigit():
            assert badge in nb.read_text(), nb.name


LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_the_pages_lead_somewhere(page):
    for target in LINK.findall((ROOT / page).read_text()):
        assert (ROOT / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=name_of)
def test_links_of_the_notebooks_lead_somewhere(notebook):
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "markdown"]
    for target in LINK.findall("\n".join("".join(c["source"]) for c in cells)):
        assert (notebook.parent / target).exists(), f"{notebook.name}: {target}"


def test_the_index_is_a_map_of_every_notebook():
    text = (ROOT / "nbs/index.ipynb").read_text()
    for notebook in NOTEBOOKS:
        if notebook.name != "index.ipynb":
            assert f"({notebook.name})" in text, f"{notebook.name} is not in the index"
            first = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
            for line in re.findall("^> (.*)$", first, re.MULTILINE):
                assert json.dumps(line, ensure_ascii=False)[1:-1] in text, notebook.name


def test_the_readme_can_be_read_in_six_minutes():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


def test_the_readme_s_python_runs_as_far_as_its_names():
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code
    for block in (block for block in code if "semst" in block):
        tree = ast.parse(block)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = [alias.name for node in imports for alias in node.names]
        import semst
        assert names and all(hasattr(semst, name) for name in names)


@pytest.mark.parametrize("notebook", NOTEBOOKS + SOLUTIONS, ids=name_of)
def test_no_output_shows_a_path_of_the_machine_that_ran_it(notebook):
    assert "site-packages" not in notebook.read_text(encoding="utf-8")
