"The site is built without a warning; no link is dead, and it can be read on a phone."
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

pytest.importorskip("sphinx", reason="sphinx is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
         "disable-background-networking", "disable-component-update", "disable-dev-shm-usage")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the finished site, built as `make docs` builds it."
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "docs/assemble.py", folder / "pages"], check=True)
    words = ["-q", "-W", "--keep-going", "-b", "html", "-c", ROOT / "docs"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, folder / "pages", folder / "out"],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return folder / "out"


class Addresses(HTMLParser):
    "The links, pictures and anchors of a page."
    def __init__(self, page: Path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        wanted = {"a": "href", "img": "src", "script": "src", "link": "href"}.get(tag)
        if wanted and found.get(wanted):
            self.links.append(found[wanted])


def test_no_link_is_dead(site):
    pages = {page: Addresses(page) for page in site.rglob("*.html")
             if not {"_static", "_modules"} & set(page.parts)}
    assert len(pages) > 60
    dead = []
    for page, found in pages.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            lost = (
                target in pages and parts.fragment and parts.fragment not in pages[target].anchors
            )
            if not target.exists() or lost:
                dead.append(f"{page.relative_to(site)}: {link}")
    assert not dead, "\n".join(dead[:20])


def test_every_chapter_has_its_pictures_and_equations(site):
    text = (site / "04_hdce_loss.html").read_text(encoding="utf-8")
    assert "mathjax" in text.lower() and 'class="math' in text
    for chapter in sorted(site.glob("0[1-8]_*.html")):
        assert re.search(r'<img[^>]+src="_images/', chapter.read_text(encoding="utf-8")), (
            chapter.name
        )


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "text/plain"])
def test_a_hidden_cell_is_shown_if_it_has_a_picture(tmp_path, monkeypatch, kind):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import assemble

    output = dict(output_type="display_data", data={kind: "x"}, metadata={})
    cell = dict(cell_type="code", source=["#| hide\n", "draw()"], metadata={}, outputs=[output])
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    assert len(json.loads(assemble.readable(path))["cells"]) == int(kind != "text/plain")


def test_the_search_finds_words_of_the_text(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    terms = json.loads(index[index.index("(") + 1:index.rindex(")")])["terms"]
    assert {"hdce", "patchgan"} <= set(terms)


@pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with chromedriver")
def test_pages_fit_a_phone(site, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    phone = dict(width=390, height=844, pixelRatio=2, touch=True)
    options.add_experimental_option("mobileEmulation", dict(deviceMetrics=phone))
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        for name in ("index", "03_ts_loss", "08_trainer", "13_results", "api"):
            driver.get((site / f"{name}.html").as_uri())
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= 400, f"{name}: {width} pixels wide"
    finally:
        driver.quit()
