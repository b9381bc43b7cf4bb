"`semst demo --web`: the server by itself, and the page in headless Chromium."
import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection

import numpy as np
import pytest
import torch
from PIL import Image

from semst import SemST
from semst.config import ModelConfig
from semst.model import translate_whole
from semst.pretrained import save_model
from semst.pictures import to_image, to_tensor
from semst.web import LARGEST, Server, answer, find_runs, model_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
         "disable-background-networking", "disable-component-update", "disable-dev-shm-usage")
SMALL = dict(scales=1, crop=32, ngf=4, blocks=5, taps=(0, 4, 8))


def picture(width=60, height=44, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "A run with one branch, of which one checkpoint is the best, and a run with two."
    root = tmp_path_factory.mktemp("web") / "runs"
    torch.manual_seed(0)
    for name, config in dict(one=ModelConfig(**SMALL),
                             two=ModelConfig(**SMALL | dict(scales=2, local_crop=16))).items():
        folder = root / name / "checkpoints/step_00000002"
        folder.mkdir(parents=True)
        (root / name / "config.json").write_text("{}")
        save_model(SemST(config), folder / "semst.safetensors")
    shutil.copy(root / "one/checkpoints/step_00000002/semst.safetensors",
                root / "one/best.safetensors")
    return root


@pytest.fixture
def server(runs):
    server = Server(find_runs(runs), "127.0.0.1", 0, "cpu")
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.02))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def ask(server, method, path, body=None, **headers):
    "Status, headers and body of one request."
    port = server.server_address[1]
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, dict(response.getheaders()), data


def send(server, path, body, **headers):
    headers = dict(Content_Type="application/octet-stream") | headers
    status, _, data = ask(server, "POST", path, body, **headers)
    return status, json.loads(data)


def test_runs_and_the_best_are_found(runs, tmp_path):
    assert list(find_runs(runs)) == ["demo", "one", "one, best", "two"]
    assert list(find_runs(runs / "two")) == ["demo", "two"]
    assert list(find_runs(tmp_path / "none")) == ["demo"]


def test_a_picture_of_a_model_with_two_branches(server, runs):
    status, found = send(server, "/translate?run=3&name=a.png", png(picture()))
    assert status == 200 and found["run"] == "two" and found["notes"] == []
    out = translate_whole(SemST.from_pretrained(runs / "two"), to_tensor(picture())[None])
    assert np.array_equal(decoded(found["after"]), to_image(out.fused[0]))
    assert np.array_equal(decoded(found["before"]), picture())
    scale, whole, detail = (np.asarray(decoded(uri)) for uri in found["parts"].values())
    assert np.abs(scale[..., 0] / 255 - out.scale_map[0, 0].numpy()).max() < 0.003
    assert np.array_equal(whole, to_image(out.y_global[0]))
    assert np.array_equal(detail, to_image(out.y_local[0]))


@pytest.mark.parametrize("place", ["checkpoints/step_00000004/semst.safetensors",
                                   "checkpoints/step_00000002/semst.safetensors"])
def test_a_run_that_was_trained_on_shows_its_newest_weights(place, runs, tmp_path):
    shutil.copytree(runs / "one", tmp_path / "one")
    before = model_of(str(tmp_path / "one"), "cpu")
    assert model_of(str(tmp_path / "one"), "cpu") is before
    torch.manual_seed(1)
    newer = SemST(ModelConfig(**SMALL)).eval()
    (tmp_path / "one" / place).parent.mkdir(exist_ok=True)
    save_model(newer, tmp_path / "one" / place)
    image = picture()
    found = answer(str(tmp_path / "one"), "cpu", png(image), "a.png", 0)
    assert np.array_equal(decoded(found["after"]), newer.translate(image))
    assert not np.array_equal(decoded(found["after"]), before.translate(image))


def test_large_pictures_become_smaller_and_others_stay(server):
    for most, size in ((32, (32, 23)), (64, (60, 44)), (0, (60, 44))):
        status, found = send(server, f"/translate?run=1&most={most}", png(picture()))
        assert status == 200 and found["parts"] == {}
        assert decoded(found["before"]).size == decoded(found["after"]).size == size


@pytest.mark.parametrize("path, body, headers, says", [
    ("/translate?run=1&name=x.png", b"no picture", {}, "x.png: cannot be read"),
    ("/translate?run=9", b"x", {}, "index out of range"),
    ("/translate?run=../one", b"x", {}, "invalid literal"),
    ("/translate?run=1", b"", {}, "has 0 bytes"),
    ("/translate?run=1", b"x", dict(Content_Length=str(LARGEST + 1)), "at most"),
    ("/translate?run=1", b"x", dict(Content_Type="text/plain"), "is sent as"),
    ("/translate?run=1", b"x", dict(Host="evil.example"), "no such page"),
    ("/elsewhere", b"x", {}, "no such page"),
])
def test_what_is_refused(server, path, body, headers, says):
    status, found = send(server, path, body, **headers)
    assert status == 400 and says in found["error"] and "/tmp" not in found["error"]


def test_a_client_that_sends_slowly_keeps_nobody_waiting(server):
    body = png(picture())
    with socket.create_connection(server.server_address) as slow:
        slow.sendall(f"POST /translate?run=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n"
                     "Content-Type: application/octet-stream\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.5)
        assert send(server, "/translate?run=1", body)[0] == 200
        slow.sendall(body)
        assert slow.recv(12).endswith(b" 200")


def test_the_page_loads_nothing_from_elsewhere_and_answers_to_its_own_name(server):
    status, headers, page = ask(server, "GET", "/")
    assert status == 200 and not re.search(rb"https?:|//[a-z]+[.]", page)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert json.loads(ask(server, "GET", "/runs")[2])[0] == "demo"
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403
    assert ask(server, "GET", "/etc/passwd")[0] == 404


def test_the_command_serves_this_machine_until_it_is_stopped(runs, tmp_path):
    words = [sys.executable, "-m", "semst", "demo", "--web", "--runs", runs, "--port", "0"]
    command = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, text=True,
                               cwd=tmp_path)
    try:
        assert command.stdout.readline() == "models: demo, one, one, best, two\n"
        port = int(re.search(r"http://127[.]0[.]0[.]1:(\d+)/", command.stdout.readline())[1])
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/")
        assert b"<title>semst</title>" in connection.getresponse().read()
        second = subprocess.run([*map(str, words[:-1]), str(port)], capture_output=True, text=True)
        assert second.returncode == 2 and "choose another port" in second.stderr
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0
    finally:
        command.kill()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with chromedriver")
def test_a_dropped_folder_and_a_chosen_picture_in_a_browser(server, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", dict(browser="ALL"))
    for flag in (*FLAGS, "window-size=900,1200", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def text(name):
        return driver.find_element("id", name).text

    def wait(words):
        end = time.monotonic() + 30
        while words not in text("status"):
            assert time.monotonic() < end, text("status")
            time.sleep(0.02)
    try:
        driver.get(server.address)
        picture().save(tmp_path / "mine.png")
        run = driver.find_element("id", "run")
        while not run.text:
            time.sleep(0.02)
        run.send_keys("two")
        driver.find_element("id", "files").send_keys(str(tmp_path / "mine.png"))
        wait("mine.png: two")
        assert "scale map" in text("parts") and "local branch" in text("parts")
        slider = driver.find_element("id", "slider")
        cut = driver.find_element("id", "before").value_of_css_property("clip-path")
        slider.send_keys("\ue012" * 20)                                       # arrow left
        moved = driver.find_element("id", "before").value_of_css_property("clip-path")
        assert cut == "inset(0px 50% 0px 0px)" and moved == "inset(0px 70% 0px 0px)"
        shown = driver.find_element("id", "after").get_attribute("src")
        x = to_tensor(picture())[None]
        y = translate_whole(SemST.from_pretrained(server.runs["two"]), x).fused
        assert np.array_equal(decoded(shown), to_image(y[0]))
        assert driver.find_element("id", "save").get_attribute("download") == "mine_two.png"
        run.send_keys("one")
        driver.execute_script("""
            const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
            const all = new DataTransfer();
            all.items.add(new File([bytes], "first.png"));
            all.items.add(new File(["x"], "broken.png"));
            all.items.add(new File([bytes], "last.png"));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: all, bubbles: true, cancelable: true}));
            """, base64.b64encode(png(picture(seed=1))).decode())
        wait("last.png: one")
        assert text("parts") == "" and "broken.png: cannot be read" in text("list")
        buttons = driver.find_elements("css selector", "#list button")
        assert [b.text for b in buttons] == ["mine.png (two)", "first.png (one)", "last.png (one)"]
        buttons[0].click()
        wait("mine.png: two")
        assert driver.find_element("id", "after").get_attribute("src") == shown
        severe = [entry for entry in driver.get_log("browser") if "400" not in entry["message"]]
        assert not [e for e in severe if "favicon" not in e["message"]], severe
    finally:
        driver.quit()
