"The package builds, installs and imports from its own files alone, and says what it is."
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
