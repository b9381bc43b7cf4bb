"The package builds, installs and imports from its own files alone, and says what it is."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from configparser import ConfigParser
from email import message_from_string
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

SOURCES = ["setup.py", "settings.ini", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE",
           "CHANGELOG.md", "CITATION.cff"]
needs_build = pytest.mark.skipif(find_spec("build") is None, reason="the package `build` is absent")


def settings():
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def run(*command, **kwargs):
    "Run a command outside the repository, without the variables that point into it."
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                            env=environment, **kwargs)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "A source archive, and the wheel that is built from it."
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "semst", tree / "semst",
                    ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in SOURCES:
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree, cwd=out)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    "The wheel in an environment of its own, which finds the other packages in ours."
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, with_pip=False)
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps",
        "--no-index", built[1], cwd=place)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place)
    Path(site.strip(), "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def modules(names):
    return {n for n in names if n.startswith("semst/") and n.endswith(".py")}


@needs_build
def test_source_archive_and_wheel_hold_the_package(built):
    ours = {p.relative_to(ROOT).as_posix() for p in (ROOT / "semst").rglob("*.py")}
    with tarfile.open(built[0]) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(built[1]) as archive:
        wheel = set(archive.namelist())
    assert modules(source) == modules(wheel) == ours
    assert {"semst/py.typed"} <= source & wheel
    assert set(SOURCES) - {"MANIFEST.in"} <= source
    assert not {name.split("/")[0] for name in source} & {"tests", "nbs", "reproduce", "results"}


@needs_build
def test_metadata(built):
    with zipfile.ZipFile(built[1]) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = message_from_string(archive.read(name).decode())
    cfg = settings()
    assert (metadata["Name"], metadata["Version"]) == (cfg["lib_name"], cfg["version"])
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL"))
    assert {"Documentation", "Source", "Issues", "Changes", "Paper"} <= set(urls)
    assert all(url.startswith("https://") for url in urls.values())
    assert urls["Source"] == cfg["git_url"]
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert f"Programming Language :: Python :: {cfg['min_python']}" in classifiers
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"plots", "tensorboard", "tiff", "all", "dev"} <= extras


@needs_build
def test_the_long_description_has_no_relative_link(built):
    with zipfile.ZipFile(built[1]) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        text = archive.read(name).decode().partition("\n\n")[2]
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)", prose) + re.findall(r"(?:src|href)=\"([^\"]+)", prose)
    assert links and not [link for link in links if not link.startswith(("https://", "#"))]


@needs_build
def test_every_module_imports_from_the_wheel(installed, tmp_path):
    code = """
import importlib, pkgutil, semst
print(semst.__file__)
for module in pkgutil.walk_packages(semst.__path__, "semst."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    out = run(installed / "python", "-c", code, cwd=tmp_path)
    assert str(installed.parent) in out and str(ROOT) not in out


@needs_build
def test_both_commands_say_the_version(installed, tmp_path):
    wanted = f"semst {settings()['version']}\n"
    assert run(installed / "semst", "--version", cwd=tmp_path) == wanted
    assert run(installed / "python", "-m", "semst", "--version", cwd=tmp_path) == wanted


# ---- the chapters in Colab, with the wheel and what their first cell installs

CHAPTERS = [*sorted((ROOT / "nbs").glob("0*.ipynb")), ROOT / "nbs/train_your_own.ipynb"]
COLAB = {
    "sitecustomize.py": "import google.colab\n",
    "google/colab/__init__.py": "from . import drive, files\n",
    "google/colab/drive.py": "",
    "google/colab/files.py": "",
    "pip/__init__.py": "",
    "pip/__main__.py": "import sys\nprint(*sys.argv[1:])\n",
}
RUN_CELLS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(open(sys.argv[1])):
    shell.run_cell(cell).raise_error()
"""


def cells_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def first_of(cells):
    "The cell that installs, and all imports."
    install = next(cell for cell in cells if "google.colab" in cell)
    imports = [ast.unparse(node) for cell in cells for node in ast.walk(ast.parse(cell))
               if isinstance(node, (ast.Import, ast.ImportFrom))]
    return [install, *(words for words in imports if "google" not in words)]


@pytest.fixture
def colab(installed, tmp_path):
    "Runs cells outside the repository, as Colab would; returns what they print."
    for name, text in COLAB.items():
        (tmp_path / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stubs" / name).write_text(text)
    (tmp_path / "stubs/git").write_text("#!/bin/sh\nmkdir -p semst/nbs\n")
    (tmp_path / "stubs/git").chmod(0o755)
    given = dict(PYTHONPATH=str(tmp_path / "stubs"), MPLBACKEND="agg",
                 PATH=f"{tmp_path / 'stubs'}{os.pathsep}{os.environ['PATH']}")

    def execute(cells):
        (tmp_path / "cells.json").write_text(json.dumps(cells))
        words = [installed / "python", "-c", RUN_CELLS, tmp_path / "cells.json"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                              cwd=tmp_path, env=os.environ | given)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout
    return execute


@needs_build
@pytest.mark.skipif(os.name == "nt", reason="git is replaced by a script for a shell")
def test_the_first_cell_and_the_imports_of_every_chapter(colab):
    found = colab([cell for chapter in CHAPTERS for cell in first_of(cells_of(chapter))]
                  + ["import semst; print(semst.__file__)"])
    wanted = r"install -q semst\[[\w,]+\] @ git\+https://github.com/semst/semst\b"
    assert len(re.findall(wanted, found)) == len(CHAPTERS) and "semst/semst@main" in found
    assert "environment" in found.splitlines()[-1] and str(ROOT) not in found


@needs_build
def test_a_whole_chapter_outside_the_repository(colab):
    colab(cells_of(ROOT / "nbs/02_patch_sampling.ipynb"))


@needs_build
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_imports_is_installed_by_its_first_cell(built, chapter):
    "By the wheel's requirements and the extras that are named; IPython comes with every kernel."
    install, *imports = first_of(cells_of(chapter))
    extras = re.search(r"semst\[([\w,]+)\]", install)[1].split(",")
    with zipfile.ZipFile(built[1]) as archive:
        name = next(n for n in archive.namelist() if n.endswith("METADATA"))
        needs = message_from_string(archive.read(name).decode()).get_all("Requires-Dist")
    needs = [need for need in needs if "extra ==" not in need
             or re.search(r"extra == ['\"]([\w-]+)", need)[1] in extras]
    ours = {re.split(r"[^\w.-]", need)[0].lower().replace("_", "-") for need in needs}
    packages = packages_distributions()
    for words in imports:
        for node in ast.parse(words).body:
            full = node.names[0].name if isinstance(node, ast.Import) else node.module
            module = full.partition(".")[0]
            if module in (*sys.stdlib_module_names, "semst", "IPython", "matplotlib_inline"):
                continue
            from_packages = {name.lower() for name in packages.get(module, [module])}
            assert from_packages & ours, f"{chapter.name} imports {module}"


# ---- the front door: `import semst`

def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=ROOT).stdout


def test_the_package_and_its_version_do_without_torch():
    code = """
import sys
import semst
sys.argv = ["semst", "--version"]
from semst.__main__ import main
assert main() == 0
print("torch" in sys.modules, "numpy" in sys.modules)
"""
    assert python(code).splitlines()[-1] == "False False"


def test_importing_the_package_is_quick():
    code = "import time; t = time.process_time(); import semst; print(time.process_time() - t)"
    assert min(float(python(code)) for _ in range(3)) < 0.1


def test_the_public_names_are_there():
    code = """
import semst
names = list(semst.__all__)
assert set(names) <= set(dir(semst))
from semst import *
print(names, [callable(SemST), callable(TrainConfig), callable(train), type(PRESETS).__name__])
"""
    wanted = "['PRESETS', 'SemST', 'TrainConfig', 'train'] [True, True, True, 'dict']\n"
    assert python(code) == wanted


def test_a_wrong_name_is_an_attribute_error():
    import semst
    with pytest.raises(AttributeError, match="module 'semst' has no attribute 'Semst'"):
        getattr(semst, "Semst")  # noqa: B009


def test_the_names_mean_the_same_after_the_modules_were_imported():
    code = """
import importlib, pkgutil, semst
for module in pkgutil.iter_modules(semst.__path__, "semst."):
    if module.name.rpartition(".")[2] in set(semst._MODULES.values()):
        importlib.import_module(module.name)
import types
print([isinstance(getattr(semst, name), types.ModuleType) for name in semst.__all__])
"""
    assert python(code) == "[False, False, False, False]\n"


def test_the_core_does_without_the_optional_packages():
    "Only what `requirements` names may be imported by the command line and what it imports."
    cfg = settings()
    extras = [key for key in cfg if key.endswith("_requirements")]
    modules = {"torch-fidelity": "torch_fidelity"}
    optional = {re.split("[<>=]", package)[0] for key in extras for package in cfg[key].split()}
    required = {re.split("[<>=]", package)[0] for package in cfg["requirements"].split()}
    blocked = sorted(modules.get(name, name) for name in optional - required)
    assert {"matplotlib", "tensorboard", "tifffile", "mypy"} <= set(blocked)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked}))
import semst.cli, semst.folders, semst.saving
from semst import *
"""
    assert python(code) == ""


# ---- what stands around the package

def test_owner_and_addresses_stand_in_one_place():
    "Everything else that names the repository names that of settings.ini."
    cfg = settings()
    files = [ROOT / name for name in SOURCES if (ROOT / name).exists() and name != "settings.ini"]
    files += [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / ".github").rglob("*.yml")]
    ours = {cfg["git_url"].partition("github.com/")[2]}
    for path in files:
        text = path.read_text(encoding="utf-8")
        found = set(re.findall(r"github\.com/([\w-]+/semst)\b", text))
        assert found <= ours, f"{path.name} names {found - ours}"


def test_workflows_pin_actions_and_ask_for_little():
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert workflows
    for path in workflows:
        text = path.read_text()
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{path.name}: {action}"
        head = text.partition("\njobs:")[0]
        assert re.search(r"(?m)^permissions:(\n  contents: read| \{\})$", head), path.name
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")
        assert "${{ github.event" not in text, f"{path.name}: an event's text reaches a shell"


def test_ci_runs_the_versions_that_are_promised():
    text = (ROOT / ".github/workflows/test.yml").read_text()
    cfg = settings()
    promised = set(re.findall(r"Python :: (3\.\d+)", cfg["classifiers"]))
    assert promised == set(re.findall(r"\"(3\.\d+)\"", text))
    for system in ("ubuntu", "macos", "windows"):
        assert f"{system}-latest" in text
    lowest = re.search(r"torch>=([\d.]+)", cfg["requirements"])[1]
    assert f"torch: \"{lowest}.*\"" in text


def test_the_citation_has_the_package_s_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cfg = settings()
    assert f"version: {cfg['version']}" in text and cfg["git_url"] in text
    assert f"## {cfg['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# ---- types

@pytest.mark.skipif(find_spec("mypy") is None, reason="the type checker mypy is absent")
def test_types(tmp_path):
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path, "semst"]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


def test_modules_named_to_the_type_checker_exist():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    package = ROOT / "semst"
    for override in config["overrides"]:
        for name in override["module"]:
            if name.startswith("semst."):
                path = package.joinpath(*name.split(".")[1:]).with_suffix(".py")
                assert path.exists(), f"{name} is gone: remove it from pyproject.toml"
