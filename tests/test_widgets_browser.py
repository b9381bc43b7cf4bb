"Every slider and menu of the course, driven in JupyterLab by a headless Chromium."
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from test_study_browser import BROWSER, DRIVER, FLAGS, wait

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with chromedriver"),
    pytest.mark.skipif(os.name == "nt", reason="JupyterLab is started as on Linux and macOS"),
]
CHAPTERS = {"02_patch_sampling": 3, "03_ts_loss": 2, "04_hdce_loss": 5, "05_scale_attention": 3,
            "07_two_scales": 3}
HANDLES = ".widget-slider .noUi-handle, .jupyter-widgets select"
PICTURE = ".widget-interact .widget-output img"


def test_every_widget_of_the_course_is_driven():
    found = {path.stem for path in (ROOT / "nbs").glob("0*.ipynb")
             if "ipywidgets" in path.read_text("utf-8")}
    assert found == set(CHAPTERS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "Starts JupyterLab on copies of the chapters; its address."
    home = tmp_path_factory.mktemp("lab")
    work, settings = home / "work", home / "settings/@jupyterlab/notebook-extension"
    settings.mkdir(parents=True)
    work.mkdir()
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    for name in CHAPTERS:
        shutil.copy(ROOT / f"nbs/{name}.ipynb", work)
    folders = dict(JUPYTER_CONFIG_DIR=home / "config", JUPYTER_RUNTIME_DIR=home / "runtime",
                   JUPYTERLAB_SETTINGS_DIR=home / "settings", JUPYTER_DATA_DIR=home / "data",
                   JUPYTERLAB_WORKSPACES_DIR=home / "workspaces")
    environment = os.environ | {name: str(path) for name, path in folders.items()}
    environment |= dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0",
               "--IdentityProvider.token=known", "--LabApp.expose_app_in_browser=True",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class="
               "jupyterlab.NeverCheckForUpdate"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)

    def address():
        for path in (home / "runtime").glob("jpserver-*.json"):
            try:
                return json.loads(path.read_text())["url"]
            except ValueError:
                return None
    try:
        wait(address, "JupyterLab", 60)
        yield address()
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, "window-size=1400,1000", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, address):
    "The page with its kernel ready."
    browser.get(address)
    ready = ("const page = window.jupyterapp?.shell.currentWidget;"
             "return page?.context?.isReady && page.sessionContext?.isReady"
             " && page.sessionContext.session?.kernel?.status == 'idle'")
    wait(lambda: browser.execute_script(ready), "the notebook and its kernel", 90)


def elements(browser, selector):
    return browser.find_elements("css selector", selector)


def picture(browser):
    "The data of the widget's picture; None while it is drawn anew."
    return browser.execute_script(f"return document.querySelector('{PICTURE}')?.src")


def another(browser, before):
    "Whether the widget shows another picture than before."
    return lambda: picture(browser) not in (None, before)


def moved(control):
    "Move a slider to its other end, or take another entry of a menu."
    if control.tag_name == "select":
        options = control.find_elements("tag name", "option")
        next(option for option in options if not option.is_selected()).click()
    else:
        ends = (control.get_attribute(f"aria-value{name}") for name in ("now", "max"))
        control.send_keys(Keys.HOME if len(set(ends)) == 1 else Keys.END)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_control_changes_the_picture(lab, browser, chapter):
    opened(browser, f"{lab}lab/tree/{chapter}.ipynb?token=known&reset")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    wait(lambda: picture(browser), "the widget's picture", 240)
    controls = len(elements(browser, HANDLES))
    assert controls == CHAPTERS[chapter]
    for i in range(controls):
        before = picture(browser)
        control = elements(browser, HANDLES)[i]
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", control)
        moved(control)
        wait(another(browser, before), f"another picture after control {i}", 60)
