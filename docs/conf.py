"Sphinx settings of the site; `make docs` assembles the pages and builds it."
import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
settings = configparser.ConfigParser()
settings.read(ROOT / "settings.ini", encoding="utf-8")
about = settings["DEFAULT"]

project, author, release = about["title"], about["author"], about["version"]
copyright = about["copyright"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
nb_execution_mode = "off"                     # the notebooks are saved with their outputs
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.xref_missing", "ref.python"]
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
html_theme = "sphinx_book_theme"
html_title = "SemST"
html_static_path = ["_static"]
html_css_files = ["semst.css"]
html_theme_options = dict(repository_url=about["git_url"], use_repository_button=True,
                          path_to_docs="nbs", show_toc_level=2)


def plain(app, what, name, obj, options, lines):
    "Docstrings are plain text: |x| is an absolute value and no substitution."
    lines[:] = [line.replace("|", r"\|").replace("*", r"\*") for line in lines]


def setup(app):
    app.connect("autodoc-process-docstring", plain)
