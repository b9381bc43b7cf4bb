"The page of a study in headless Chromium: votes by keyboard and by touch are found in the report."
import hashlib
import json
import shutil
import time

import pytest

from semst.study.page import demo, make, read_pictures
from semst.study.report import report
from semst.study.votes import collect

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.actions import interaction  # noqa: E402
from selenium.webdriver.common.actions.action_builder import ActionBuilder  # noqa: E402
from selenium.webdriver.common.actions.pointer_input import PointerInput  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
         "disable-background-networking", "disable-component-update", "disable-dev-shm-usage")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with chromedriver")
PHONE = dict(width=390, height=844, pixelRatio=2, touch=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    words = "a <b>dusk</b> & </script><script>alert(1)</script>"
    return make(**demo(root, size=64) | dict(target=words), out=root / "study")


@pytest.fixture
def study(made):
    "The study without votes."
    (made.folder / "votes.sqlite").unlink(missing_ok=True)
    return made


@pytest.fixture
def browser(study, tmp_path):
    "Starts Chromium with an empty profile at a size, on the page of the study."
    drivers = []

    def start(width=1280, height=900, phone=None):
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        options.set_capability("goog:loggingPrefs", dict(performance="ALL", browser="ALL"))
        profile = f"user-data-dir={tmp_path / f'profile {len(drivers)}'}"
        for flag in (*FLAGS, f"window-size={width},{height}", profile):
            options.add_argument(f"--{flag}")
        options.add_experimental_option("prefs", {
            "download.default_directory": str(tmp_path / "downloads"),
            "download.prompt_for_download": False})
        if phone:
            options.add_experimental_option("mobileEmulation", dict(deviceMetrics=phone))
        drivers.append(webdriver.Chrome(options, webdriver.ChromeService(DRIVER)))
        drivers[-1].get(study.page.resolve().as_uri())
        return drivers[-1]

    (tmp_path / "downloads").mkdir()
    yield start
    for driver in drivers:
        driver.quit()


def wait(condition, what, seconds=30):
    "Wait until `condition()` holds."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def text(driver, name):
    return driver.find_element("id", name).text


def wait_for_set(driver, place, n=12):
    "Wait until a set is shown and choices count."
    wait(lambda: text(driver, "count") == f"Set {place} of {n}", f"set {place}")
    wait(lambda: driver.execute_script("return ready"), "the pictures")


def side_of_ours(driver, study):
    "Where our translation is, by the pictures that are shown."
    uris = read_pictures(study)
    ours = {uris[s.ours] for s in study.sets}
    shown = {side: driver.find_element("id", f"image-{side}").get_attribute("src") for side in "AB"}
    found = [side for side, uri in shown.items() if uri in ours]
    assert len(found) == 1
    return found[0]


def downloaded(tmp_path):
    "The file of votes among the downloads."
    folder = tmp_path / "downloads"
    wait(lambda: list(folder.glob("*.json")), "the download")
    return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[-1]


def tap(driver, element):
    "Touch the middle of an element with a finger."
    actions = ActionBuilder(driver, mouse=PointerInput(interaction.POINTER_TOUCH, "finger"))
    actions.pointer_action.move_to(element).pointer_down().pointer_up()
    actions.perform()


def requests(driver):
    "What the page tried to load over a network."
    entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    urls = [parameters["request"]["url"] for parameters in sent]
    return [url for url in urls if url.startswith(("http", "ws", "ftp"))]


def test_votes_by_keyboard_are_found_in_the_report(browser, study, tmp_path):
    "Ours for one method and never for the other; keys alone, from Begin to the saved file."
    driver = browser()

    def press(*keys):
        ActionChains(driver).send_keys(*keys).perform()

    other_method = {read_pictures(study)[s.input]: s.method for s in study.sets}
    press(Keys.ENTER)
    left = None                       # the last answer
    for place in range(1, 13):
        wait_for_set(driver, place)
        if place == 4:                # go back, and forth again
            press(Keys.BACKSPACE)
            wait_for_set(driver, 3)
            press(Keys.ARROW_LEFT if left else Keys.ARROW_RIGHT)
            wait_for_set(driver, 4)
        if place == 12:               # Back at once: the end stays away
            press(Keys.ARROW_LEFT, Keys.BACKSPACE)
            time.sleep(0.5)
            assert not driver.find_element("id", "end").is_displayed()
            wait_for_set(driver, 12)
        shown = driver.find_element("id", "image-input").get_attribute("src")
        ours = side_of_ours(driver, study)
        left = (ours == "A") == (other_method[shown] == "blurred")
        if place == 5:                # the buttons, by tab and space
            press(Keys.TAB)
            assert driver.switch_to.active_element.get_attribute("id") == "A"
            press(*([] if left else [Keys.TAB]), Keys.SPACE)
        else:
            press(Keys.ARROW_LEFT if left else Keys.ARROW_RIGHT)
    wait(lambda: driver.find_element("id", "end").is_displayed(), "the end")
    press(Keys.TAB, Keys.ENTER)
    file = downloaded(tmp_path)
    assert file.name in text(driver, "status")
    collected = collect(study.folder, file)
    assert (collected.added, collected.refused) == (1, ())
    result = report(study.folder, tmp_path / "report")
    ours = {row["method"]: (row["ours"], row["votes"]) for row in result.rows}
    assert ours == {"blurred": (6, 6), "both": (0, 6)}
    assert requests(driver) == []
    assert not driver.get_log("browser")


def test_votes_by_touch_are_found_in_the_report(browser, study, tmp_path):
    "A phone: taps alone, a double tap, an interruption, and a second person."
    driver = browser(phone=PHONE)
    raters = []
    for _person in range(2):
        tap(driver, driver.find_element("id", "begin"))
        for place in range(1, 13):
            wait_for_set(driver, place)
            if place == 6:            # the page is closed and opened again
                driver.get(study.page.resolve().as_uri())
                assert text(driver, "begin") == "Continue with set 6"
                tap(driver, driver.find_element("id", "begin"))
                wait_for_set(driver, 6)
            button = driver.find_element("id", side_of_ours(driver, study))
            tap(driver, button)
            if place == 2:            # a second tap at once is not an answer
                driver.execute_script("arguments[0].click()", button)
                assert driver.execute_script("return state.answers.length") == 2
        wait(lambda: driver.find_element("id", "end").is_displayed(), "the end")
        assert not driver.find_element("id", "next").is_displayed()
        tap(driver, driver.find_element("id", "save"))
        file = downloaded(tmp_path)
        assert collect(study.folder, file).added == 1
        raters.append(json.loads(file.read_text())["rater"])
        file.unlink()
        tap(driver, driver.find_element("id", "next"))
    assert raters[0] != raters[1]
    result = report(study.folder, tmp_path / "report")
    assert result.raters == 2 and [row["share"] for row in result.rows] == [1, 1]
    assert requests(driver) == []
    assert not driver.get_log("browser")


@pytest.mark.parametrize("width, height", [(320, 568), (390, 844), (844, 390), (768, 1024)])
def test_all_of_a_set_fits_on_the_screen(browser, width, height):
    driver = browser(phone=PHONE | dict(width=width, height=height))
    driver.find_element("id", "begin").click()
    wait_for_set(driver, 1)
    size = driver.execute_script("return [innerWidth, innerHeight, document.body.scrollWidth]")
    assert size[0] == width and size[2] <= width
    for name in ("image-input", "A", "B", "back", "aim"):
        box = driver.find_element("id", name).rect
        assert box["width"] > 0 and box["x"] >= 0 and box["y"] >= 0, name
        assert box["x"] + box["width"] <= size[0] and box["y"] + box["height"] <= size[1], name
    image = driver.find_element("id", "image-A").size
    assert image["width"] == image["height"] >= 100


def test_words_are_shown_as_words_and_names_for_readers_say_nothing(browser, study):
    driver = browser()
    driver.find_element("id", "begin").click()
    wait_for_set(driver, 1)
    assert text(driver, "aim") == study.sets[0].aim and "<b>dusk</b>" in study.sets[0].aim
    assert driver.find_element("id", "A").accessible_name == "Translation A"
    assert driver.find_element("id", "B").accessible_name == "Translation B"
    assert driver.find_element("id", "image-input").accessible_name == "Input"
    assert driver.find_element("id", "progress").accessible_name == "Sets done"
    assert driver.switch_to.active_element.text == "Set 1 of 12"


def test_page_computes_what_python_computes(browser, study):
    driver = browser()
    for words in ("", "a" * 55, "a" * 56, "b" * 64, "ünï 名前" * 30, "x" * 1000):
        digest = hashlib.sha256(words.encode()).hexdigest()
        assert driver.execute_script("return sha256(arguments[0])", words) == digest
    for rater in ("0" * 32, "f" * 32):
        script = "return planFor(arguments[0]).map(p => [p.set, p.A.picture, p.B.picture])"
        assert driver.execute_script(script, rater) == [list(shown) for shown in study.plan(rater)]


def test_copied_votes_are_the_saved_ones_and_foreign_pictures_are_blocked(browser, study, tmp_path):
    driver = browser()
    driver.find_element("id", "begin").click()
    for place in range(1, 13):
        wait_for_set(driver, place)
        driver.find_element("id", "A").click()
    wait(lambda: driver.find_element("id", "end").is_displayed(), "the end")
    driver.find_element("id", "copy").click()
    wait(lambda: "Copied" in text(driver, "status"), "the copy")
    shown = driver.find_element("id", "text").get_attribute("value")
    driver.find_element("id", "save").click()
    assert downloaded(tmp_path).read_text() == shown
    assert [answer["side"] for answer in json.loads(shown)["answers"]] == ["A"] * 12
    blocked = driver.execute_async_script("""
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", e => done(e.violatedDirective));
        new Image().src = "http://127.0.0.1:9/picture.png";""")
    assert blocked == "img-src"
