"Everything about the package stands in settings.ini; this file only hands it to setuptools."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def requirements(key):
    "The packages that one line of settings.ini names."
    return cfg[f"{key}_requirements"].split()


def long_description():
    "The README with absolute links: a package index has no files beside it."
    text = (HERE / "README.md").read_text(encoding="utf-8")
    raw = cfg["git_url"].replace("github.com", "raw.githubusercontent.com")
    absolute = r"(?!https?://|mailto:|#)"
    page = f"{cfg['git_url']}/blob/{cfg['branch']}/"
    picture = f"{raw}/{cfg['branch']}/"
    text = re.sub(rf"(!\[[^\]]*\]\(){absolute}", rf"\1{picture}", text)
    text = re.sub(rf"(<img[^>]*src=\"){absolute}", rf"\1{picture}", text)
    text = re.sub(rf"(?<!!)(\[[^\]]*\]\(){absolute}(?=[^)\s]+\))", rf"\1{page}", text)
    # a picture that is a link
    return re.sub(rf"(\]\([^)]*\)\]\(){absolute}", rf"\1{page}", text)


names = [key.removesuffix("_requirements") for key in cfg if key.endswith("_requirements")]
extras = {name: requirements(name) for name in names if name != "dev"}
extras["all"] = sorted({package for packages in extras.values() for package in packages})
extras["dev"] = requirements("dev") + extras["all"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=cfg["git_url"],
    project_urls={
        "Documentation": cfg["doc_host"] + cfg["doc_baseurl"],
        "Source": cfg["git_url"],
        "Issues": cfg["git_url"] + "/issues",
        "Changes": f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
        "Paper": cfg["paper_url"],
    },
    keywords=cfg["keywords"],
    classifiers=cfg["classifiers"].strip().splitlines(),
    packages=find_packages(include=["semst", "semst.*"]),
    package_data={"": ["py.typed", "*.safetensors", "*.json", "*.html", "*.css", "*.js", "*.png"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split()},
)
