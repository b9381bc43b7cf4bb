"A study of translations: blind pages, votes that can be trusted, and what they say."
import base64
import hashlib
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from semst.data import InputError
from semst.study import page as page_module
from semst.study import votes as votes_module
from semst.study.page import demo, draw_names, make, named, read_pictures, read_study, targets
from semst.study.report import draw_preferences, draw_sets, fleiss_kappa, preference, report
from semst.study.template import page_html
from semst.study.votes import (Answer, collect, made_up_votes, read_votes,
                               votes_digest, votes_text)
from semst.study.widget import StudyWidget

NAMES = ("<script>alert(1)</script>", 'quo"te\'s', "名前 Ünïcode", "$\\frac$ & <b>", "a=b|c`d`",
         "plain")


def write_pictures(folder, names, colour, size=(24, 16)):
    "Pictures of one colour with a dot that differs from name to name."
    for i, name in enumerate(names):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((size[1], size[0], 3), colour, np.uint8)
        pixels[0, i % size[0]] = 255 - i
        Image.fromarray(pixels).save(file)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "Twelve inputs in three subfolders, ours, and six other methods with awkward names."
    root = tmp_path_factory.mktemp("pictures")
    names = [f"{part}/{i}" for part in ("street", "winter", "zebra") for i in range(5)]
    write_pictures(root / "inputs", names, 40)
    methods = {}
    for i, method in enumerate(("ours!", *NAMES)):
        methods[method] = root / str(i)
        write_pictures(methods[method], names, 60 + 20 * i)
    return dict(methods=methods, ours="ours!", inputs=root / "inputs")


@pytest.fixture
def study(folders, tmp_path):
    return make(**folders, out=tmp_path / "study")


@pytest.fixture
def toy(tmp_path):
    "A small study: two other methods, four sets."
    return make(**demo(tmp_path / "demo", n=4, size=32), out=tmp_path / "toy", sets=4)


def good(study, rater="a" * 32):
    return json.loads(made_up_votes(study, rater, 0.8, random.Random(rater)))


def signed(file):
    "The file with a right digest over whatever it holds."
    answers = [Answer(**answer) for answer in file["answers"]]
    return file | dict(digest=votes_digest(file["study"], file["rater"], answers))


def written(folder, value, name="votes.json"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# ---- the study

def test_each_method_is_in_two_sets_and_each_input_in_one(study):
    assert len(study.sets) == 12
    assert study.methods == NAMES
    assert [sum(s.method == m for s in study.sets) for m in NAMES] == [2] * 6
    assert len({s.name for s in study.sets}) == 12
    parts = [s.name.split("/")[0] for s in study.sets]
    assert [parts.count(p) for p in ("street", "winter", "zebra")] == [4, 4, 4]


def test_tokens_show_the_right_files(study, folders):
    pictures = read_pictures(study)
    for s in study.sets:
        for token, folder in ((s.input, folders["inputs"]), (s.ours, folders["methods"]["ours!"]),
                              (s.other, folders["methods"][s.method])):
            shown = base64.b64decode(pictures[token].split(",")[1])
            shown = np.asarray(Image.open(BytesIO(shown)).convert("RGB"))
            assert np.array_equal(shown, np.asarray(Image.open(folder / f"{s.name}.png")))


def test_plan_depends_on_the_rater_and_is_balanced(study):
    ours = {s.set: s.ours for s in study.sets}
    plans = [study.plan(f"{i:032x}") for i in range(200)]
    assert plans[0] == study.plan(f"{0:032x}") and plans[0] != plans[1]
    for plan in plans:
        assert {shown.set for shown in plan} == set(ours)
    left = [shown.A == ours[shown.set] for plan in plans for shown in plan]
    assert abs(np.mean(left) - 0.5) < 4 * 0.5 / len(left) ** 0.5
    first = [plan[0].set for plan in plans]
    assert len(set(first)) == 12


def test_plan_is_what_the_page_computes(study):
    "The rule that the page follows, written down a second time."
    for rater in ("0" * 32, "a1" * 16):
        draws = {}
        for s in study.sets:
            words = f"{study.id} {rater} {s.set}"
            draws[hashlib.sha256(words.encode()).hexdigest()] = s
        expected = []
        for draw in sorted(draws):
            pair = sorted([draws[draw].ours, draws[draw].other])
            if draw[-1] in "13579bdf":
                pair.reverse()
            expected.append((draws[draw].set, *pair))
        assert study.plan(rater) == expected


def test_one_pixel_makes_another_study(tmp_path):
    given = demo(tmp_path, n=2, size=32)
    study = make(**given, out=tmp_path / "a", sets=2)
    for folder in (given["inputs"], given["methods"]["recoloured"], given["methods"]["both"]):
        for file in folder.glob("*.png"):
            image = Image.open(file).convert("RGB")
            image.putpixel((3, 3), (1, 2, 3))
            image.save(file)
        other = make(**given, out=tmp_path / folder.name / "study", sets=2)
        assert other.id != study.id
        with pytest.raises(InputError, match="other pictures"):
            make(**given, out=study.folder, sets=2)
        study = other


def test_seed_and_files_decide_and_nothing_else(folders, tmp_path):
    a, b = (make(**folders, out=tmp_path / name) for name in "ab")
    assert a.page.read_bytes() == b.page.read_bytes()
    assert a.key.read_bytes() == b.key.read_bytes()
    other = make(**folders, out=tmp_path / "c", seed=1)
    assert other.id != a.id and not {s.set for s in a.sets} & {s.set for s in other.sets}


def test_study_is_the_same_in_another_process(folders, tmp_path):
    "The order of sets and dicts of words must not depend on Python's hash seed."
    study = make(**folders, out=tmp_path / "a", target="snow")
    words = dict(methods={m: str(f) for m, f in folders["methods"].items()}, ours="ours!",
                 inputs=str(folders["inputs"]), out=str(tmp_path / "b"), target="snow")
    code = ("import json, sys; from semst.study.page import make; "
            "print(make(**json.loads(sys.argv[1])).id)")
    run = subprocess.run([sys.executable, "-c", code, json.dumps(words)], text=True, check=True,
                         env=os.environ | dict(PYTHONHASHSEED="1"), capture_output=True)
    assert run.stdout.strip() == study.id


def test_make_again_changes_nothing_and_never_writes_over_another_study(study, folders):
    written(study.folder / "votes", good(study))
    collect(study.folder)
    before = {p: p.read_bytes() for p in study.folder.rglob("*") if p.is_file()}
    assert make(**folders, out=study.folder) == study
    with pytest.raises(InputError, match="another folder"):
        make(**folders, out=study.folder, seed=3)
    assert {p: p.read_bytes() for p in study.folder.rglob("*") if p.is_file()} == before
    study.page.unlink()
    make(**folders, out=study.folder)
    assert study.page.read_bytes() == before[study.page]


def test_foreign_page_is_not_written_over(folders, tmp_path):
    (tmp_path / "study.html").write_text("mine")
    with pytest.raises(InputError, match="without a key"):
        make(**folders, out=tmp_path)
    assert (tmp_path / "study.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["", " " * 200, "a\nb", "a\x1b[31m", "a\u202eb", "\udce9", 3])
def test_names_that_could_mislead_are_refused(folders, tmp_path, name):
    methods = dict(folders["methods"])
    methods[name] = methods["plain"]
    with pytest.raises(InputError, match="cannot be a method's name"):
        make(methods, "ours!", folders["inputs"], tmp_path / "study", sets=7)


def test_bad_folders_are_refused_and_nothing_is_left(tmp_path):
    given = demo(tmp_path, n=4, size=32)
    blurred = given["methods"]["blurred"]

    def refused(words, **changes):
        with pytest.raises(InputError, match=words):
            make(**given | dict(out=tmp_path / "study", sets=4) | changes)
        assert not (tmp_path / "study").exists()

    refused("none of the methods", ours="nobody")
    refused("another one to compare", methods={"recoloured": blurred})
    refused("a multiple of 2", sets=3)
    refused("a multiple of 2", sets=0)
    refused("each set needs its own", sets=6)
    refused("no such folder", inputs=tmp_path / "nowhere")
    refused("no subfolders", target={"a": "b"})
    image = Image.open(blurred / "0.png").copy()
    image.resize((16, 16)).save(blurred / "0.png")
    refused("different sizes, 32x32 and 16x16")
    Image.open(given["methods"]["recoloured"] / "0.png").save(blurred / "0.png")
    refused("the same picture")
    image.save(blurred / "0.png")
    image.save(blurred / "0.bmp")
    refused("have the same name")
    (blurred / "0.bmp").unlink()
    (blurred / "0.png").write_bytes(b"no picture")
    refused("0.png")
    (blurred / "0.png").unlink()
    refused("no translation of 0")


def test_words_of_the_command_line():
    assert named(["CUT=a=b", "名=c"]) == {"CUT": "a=b", "名": "c"}
    assert targets([]) == "" and targets(["snow"]) == "snow" and targets(["a=b"]) == {"a": "b"}
    for words in (["CUT"], ["=a"], ["a="]):
        with pytest.raises(InputError, match="NAME=VALUE"):
            named(words)
    with pytest.raises(InputError, match="twice"):
        named(["a=b", "a=c"])


@pytest.mark.parametrize("n", range(1, 8))
def test_drawn_names_are_distinct_and_balanced(n):
    names = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2", "c/3"]
    drawn = draw_names(names, n, 0)
    assert len(set(drawn)) == n and set(drawn) <= set(names)
    if n <= 3:
        assert len({name[0] for name in drawn}) == n


@pytest.mark.parametrize("change", [
    lambda key: key | dict(ours="plain"),
    lambda key: key | dict(sets=key["sets"][1:]),
    lambda key: {k: v for k, v in key.items() if k != "digest"},
    lambda key: [key],
    lambda key: "{",
])
def test_changed_key_is_refused(toy, change):
    written(toy.folder, change(json.loads(toy.key.read_text())), "key.json")
    with pytest.raises(InputError, match="key.json"):
        read_study(toy.folder)
    with pytest.raises(InputError, match="key.json"):
        report(toy.folder)


def test_key_with_a_right_digest_but_other_fields_is_refused(toy):
    key = json.loads(toy.key.read_text()) | dict(sets=[{"no": "set"}])
    written(toy.folder, key | dict(digest=page_module.key_digest(key)), "key.json")
    with pytest.raises(InputError, match="key.json"):
        read_study(toy.folder)


@pytest.mark.parametrize("data", ["", "{}", "[]", '{"sets": []}', '{"sets": [1]}', "{"])
def test_damaged_page_is_named(toy, data):
    toy.page.write_text(f'<script type="application/json" id="data">{data}</script>')
    with pytest.raises(InputError, match="study.html"):
        read_pictures(toy)
    with pytest.raises(InputError, match="study.html"):
        draw_sets(toy.folder)


# ---- the page

class Elements(HTMLParser):
    "All elements of a page with their attributes."
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_page_gives_no_method_away(study):
    html = study.page.read_text("utf-8")
    data = re.search(r'id="data">(.*?)</script>', html, re.S)[1]
    for method in ("ours!", *NAMES):
        as_json = json.dumps(method)[1:-1]
        for text in (method, as_json, as_json.replace("<", "\\u003c")):
            assert method == "plain" or text not in html      # a word of the style
            assert text not in data
    for s in study.sets:
        assert s.name not in data
    ours, places = {s.ours for s in study.sets}, []
    for row in json.loads(data)["sets"]:
        tokens = [p["picture"] for p in row["pictures"]]
        assert tokens == sorted(tokens)
        assert set(row) == {"set", "aim", "input", "pictures"}
        places.append(tokens[0] in ours)
    assert 0 < sum(places) < 12      # ours is not always in one place


def test_page_loads_nothing_and_runs_no_other_script(study):
    html = study.page.read_text("utf-8")
    code = re.sub(r'id="data">.*?</script>', "", html, flags=re.S)
    assert not re.search(r"https?:|//\w|url\(|@import|<link|<iframe|innerHTML|\beval\b", code)
    elements = Elements(html).found
    assert [tag for tag, _ in elements].count("script") == 2
    for _, attributes in elements:
        assert not {name for name in attributes if name.startswith("on")}
        assert "style" not in attributes
        assert "src" not in attributes and "href" not in attributes
    policies = [a for _, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
    policy = policies[0]["content"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    alternatives = [attributes["alt"] for tag, attributes in elements if tag == "img"]
    assert alternatives == ["Input", "Translation", "Translation"]


def test_words_in_the_page_are_inert(tmp_path):
    words = "</script><script>alert(1)</script><!-- @SCRIPT@ \u2028 '\""
    given = demo(tmp_path, n=2, size=32) | dict(target=words)
    html = make(**given, out=tmp_path / "study", sets=2).page.read_text("utf-8")
    assert html.lower().count("<script") == 2 and html.lower().count("</script") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert data["sets"][0]["aim"].endswith(words + ".")


def test_pictures_lose_metadata_and_size_tells_nothing(tmp_path):
    image = Image.new("RGB", (2000, 500), "red")
    notes = Image.Exif()
    notes[270] = "CUT"          # the description
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", exif=notes, icc_profile=profile)
    assert b"CUT" in (tmp_path / "a.png").read_bytes()
    uri = page_module.encode(page_module.load_image(tmp_path / "a.png"))
    data = base64.b64decode(uri.split(",")[1])
    assert b"CUT" not in data and b"EXIF" not in data and b"ICCP" not in data
    assert Image.open(BytesIO(data)).size == (768, 192)


# ---- collecting

def test_good_votes_count_once(toy, tmp_path):
    a = written(tmp_path / "in", good(toy), "a.json")
    b = written(tmp_path / "in", good(toy, "b" * 32), "b.json")
    copy = written(tmp_path / "in", json.dumps(good(toy), indent=7) + "\n\n", "copy of a.json")
    collected = collect(toy.folder, a, b, copy, a)
    assert (collected.added, collected.known, collected.refused, collected.raters) == (2, 2, (), 2)
    collected.complain()
    assert collect(toy.folder, tmp_path / "in").known == 3
    assert report(toy.folder).raters == 2


def tampered_files(toy):
    "Name -> a file that must not count, and a word of the reason."
    file = good(toy, "c" * 32)
    answers = file["answers"]

    def answer(**changes):
        return dict(file, answers=[answers[0] | changes, *answers[1:]])

    other = next(p for p in toy.plan(file["rater"]) if p.set == answers[1]["set"])
    flipped = "B" if answers[0]["side"] == "A" else "A"
    yield "one side flipped", answer(side=flipped), "was changed"
    yield "one time changed", answer(milliseconds=1), "was changed"
    yield "digest missing", {k: v for k, v in file.items() if k != "digest"}, "this version"
    yield "digest wrong", file | dict(digest="0" * 64), "was changed"
    yield "digest no text", file | dict(digest=None), "was changed"
    yield "rater renamed", file | dict(rater="d" * 32), "was changed"
    yield "rater renamed and signed", signed(file | dict(rater="d" * 32)), "side|order"
    yield "side flipped and signed", signed(answer(side=flipped)), "another side"
    yield "foreign study", signed(file | dict(study="0" * 16)), "another study"
    yield "study no text", file | dict(study=["x"]), "another study"
    yield "set unknown", signed(answer(set="0" * 16)), "not in this study"
    yield "picture unknown", signed(answer(picture="0" * 16)), "not in set"
    yield "picture of another set", signed(answer(picture=other.A)), "not in set"
    yield "side unknown", signed(answer(side="C")), "another side"
    yield "side a method", signed(answer(side="count")), "another side"
    yield "incomplete", signed(file | dict(answers=answers[:-1])), "3 of 4 sets"
    yield "empty", signed(file | dict(answers=[])), "0 of 4 sets"
    yield "a set twice", signed(file | dict(answers=answers + answers[:1])), "4 of 4 .* in 5"
    yield "for another", signed(file | dict(answers=answers[:-1] + answers[:1])), "3 of 4"
    yield "other order", signed(file | dict(answers=answers[::-1])), "order"
    yield "more fields", file | dict(name="x"), "this version"
    yield "more in an answer", answer(x=1), "does not hold"
    yield "answers no list", file | dict(answers={}), "no list"
    yield "an answer no dict", file | dict(answers=[1, 2, 3, 4]), "does not hold"
    for value in (-1, 1.5, "7", None, True, 10**30):
        yield f"milliseconds {value}", answer(milliseconds=value), "milliseconds"
    for value in (1, None, ["x"], {"a": 1}):
        yield f"set {value}", answer(set=value), "must be words"
    for value in ("", "zz", "A" * 32, "a" * 32 + "\n", "'; DROP TABLE raters; --", 7, None):
        yield f"rater {value!r}", file | dict(rater=value), "32 hexadecimal"
    yield "surrogate", signed(answer(set="\ud800")), "not in this study"
    yield "format", file | dict(format="semst-votes-0"), "no file of votes"
    text = json.dumps(file)
    yield "cut off", text[: len(text) // 2], "JSON"
    yield "empty file", "", "JSON"
    yield "list", [file], "dict"
    yield "null", "null", "dict"
    yield "deep", "[" * 200_000, "JSON|damaged"
    number = '"milliseconds": '
    yield "long number", text.replace(number, number + "9" * 5000), "JSON|milliseconds"
    yield "NaN", text.replace(number, '"milliseconds": NaN, "x": ', 1), "does not hold"
    yield "huge", text + " " * 2**20, "larger than"


def test_each_kind_of_bad_file_is_refused_with_its_name_and_good_ones_go_in(toy, tmp_path):
    kinds = list(tampered_files(toy))
    files = [written(tmp_path / "in", k[1], f"{i:02}.json") for i, k in enumerate(kinds)]
    raw = tmp_path / "in/bytes.json"
    raw.write_bytes(b"\xff\xfe\x00{")
    files += [raw, tmp_path / "in/absent.json"]
    kinds += [("bytes", None, "damaged|JSON"), ("absent", None, "no such file")]
    middle = len(files) // 2
    files.insert(middle, written(tmp_path / "in", good(toy), "good.json"))
    kinds.insert(middle, None)
    last = written(tmp_path / "in", good(toy, "b" * 32), "last.json")
    collected = collect(toy.folder, *files, last)
    assert (collected.added, len(collected.refused)) == (2, len(files) - 1)
    reasons = iter(collected.refused)
    for file, kind in zip(files, kinds):
        if kind:
            reason = next(reasons)
            assert reason.startswith(f"{file}: ") and re.search(kind[2], reason), (kind[0], reason)
            assert len(reason) < len(str(file)) + 200
    with pytest.raises(InputError, match="not all files were good") as error:
        collected.complain()
    assert str(error.value).count("\n") == len(collected.refused)
    assert report(toy.folder).raters == 2


def mutated(text, dice):
    "The text with a few characters deleted, doubled, replaced or swapped for another part of it."
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, n = dice.randrange(len(text)), dice.choice((1, 1, 2, 30))
        part = dice.choice(("", text[at:at + n] * 2, dice.choice('{}[]",:0-eE.nt\\ \x00\ud800é'),
                            text[dice.randrange(len(text)):][:n]))
        text = text[:at] + part + text[at + n:] or "0"
    return text


def test_fuzzed_votes_are_refused_by_name_or_are_the_same_votes(toy, tmp_path):
    dice = random.Random(0)
    text = json.dumps(good(toy), indent=1)
    path = tmp_path / "votes.json"
    wanted = read_votes(written(tmp_path, text), toy)
    refused = 0
    for _ in range(600):
        path.write_bytes(mutated(text, dice).encode("utf-8", "surrogatepass"))
        try:
            assert read_votes(path, toy) == wanted      # blanks, or nothing of weight
        except InputError as e:
            assert str(e).startswith(f"{path}: ")
            refused += 1
    assert refused > 400


def test_fuzzed_keys_are_refused_by_name_or_are_the_same_key(toy):
    dice = random.Random(1)
    text = toy.key.read_text()
    wanted = read_study(toy.folder)
    deep = "[" * 950 + "]" * 950
    for changed in [text.replace('"seed": 0', f'"seed": {deep}'),
                    *(mutated(text, dice) for _ in range(300))]:
        toy.key.write_bytes(changed.encode("utf-8", "surrogatepass"))
        try:
            assert read_study(toy.folder) == wanted
        except InputError as e:
            assert str(e).startswith(str(toy.folder))


def test_page_of_any_bytes_is_named(toy):
    toy.page.write_bytes(b"\xff\xfe<html>")
    with pytest.raises(InputError, match="study.html"):
        read_pictures(toy)


def test_other_answers_of_a_known_rater_are_refused(toy, tmp_path):
    first = written(tmp_path / "in", good(toy), "first.json")
    collect(toy.folder, first)
    before = report(toy.folder)
    changed = good(toy)
    changed["answers"][0]["milliseconds"] += 1
    collected = collect(toy.folder, written(tmp_path / "in", signed(changed), "second.json"))
    assert collected.added == 0 and "second.json" in collected.refused[0]
    assert "already sent other answers" in collected.refused[0]
    assert report(toy.folder) == before


def test_folder_of_votes_is_the_default(toy):
    with pytest.raises(InputError, match="votes"):
        collect(toy.folder)
    written(toy.folder / "votes", good(toy))
    assert collect(toy.folder).added == 1
    (toy.folder / "nothing").mkdir()
    (toy.folder / "nothing/._votes.json").write_text("of a Mac's archive")
    with pytest.raises(InputError, match="no .json files"):
        collect(toy.folder, toy.folder / "nothing")


def test_damaged_or_foreign_database_is_named(toy, folders, tmp_path):
    written(toy.folder / "votes", good(toy))
    database = toy.folder / "votes.sqlite"
    database.write_bytes(b"no database, but long enough to be looked at" * 100)
    for use in (collect, report):
        with pytest.raises(InputError, match="votes.sqlite"):
            use(toy.folder)
    database.unlink()
    sqlite3.connect(database).close()
    with pytest.raises(InputError, match="votes.sqlite"):
        report(toy.folder)
    database.unlink()
    other = make(**folders, out=tmp_path / "other")
    written(other.folder / "votes", good(other))
    collect(other.folder)
    database.write_bytes((other.folder / "votes.sqlite").read_bytes())
    with pytest.raises(InputError, match="another study"):
        report(toy.folder)


def test_a_failure_in_a_file_leaves_no_half_of_it(toy, tmp_path, monkeypatch):
    file = written(tmp_path / "in", good(toy))
    votes = read_votes(file, toy)
    with votes_module.votes_database(toy, write=True) as database:
        broken = votes._replace(answers=votes.answers[:2] + [votes.answers[0]])
        with pytest.raises(sqlite3.IntegrityError):
            votes_module.add_votes(database, broken, file)
        assert database.execute("SELECT count(*) FROM raters").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    assert collect(toy.folder, file).added == 1


def test_two_collectors_at_once_count_each_rater_once(toy, tmp_path):
    files = [written(tmp_path / "in", good(toy, f"{i:032x}"), f"{i}.json") for i in range(20)]
    results = []

    def work():
        results.append(collect(toy.folder, *files))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and not any(r.refused for r in results)
    assert sum(r.added for r in results) == 20
    assert report(toy.folder).raters == 20


def test_awkward_paths(tmp_path):
    root = tmp_path / "a b'c\"d?#%41 ünï"
    study = make(**demo(root / "demo", n=2, size=32), out=root / "study", sets=2)
    file = written(root, good(study), "v'ö te;s.json")
    assert collect(study.folder, file).added == 1
    assert report(study.folder).raters == 1


# ---- the report

def test_waiting_report_shows_the_sets(toy, tmp_path):
    result = report(toy.folder, tmp_path / "out")
    assert result.waiting and "Waiting for votes" in str(result)
    value = json.loads((tmp_path / "out/report.json").read_text())
    assert (value["status"], value["rows"], value["raters"]) == ("waiting for votes", [], 0)
    assert Image.open(tmp_path / "out/figure1.png").width > 1000
    assert len(draw_sets(toy.folder).axes) == 4 * 3 + 6


@pytest.mark.filterwarnings("ignore:Glyph")      # no CJK in matplotlib's font
def test_report_counts_what_was_voted(study, tmp_path):
    "A rater who always takes ours, one who never does, and one who takes it for one method alone."
    sets = {s.set: s for s in study.sets}

    def wants_ours(rater, s):
        return {"a": True, "b": False, "c": s.method == NAMES[1]}[rater[0]]

    for rater in ("a" * 32, "b" * 32, "c" * 32):
        answers = []
        for shown in study.plan(rater):
            s = sets[shown.set]
            picture = s.ours if wants_ours(rater, s) else s.other
            answers.append(Answer(s.set, picture, "A" if picture == shown.A else "B", 2000))
        written(tmp_path / "in", votes_text(study.id, rater, answers), f"{rater[0]}.json")
    assert collect(study.folder, tmp_path / "in").added == 3
    result = report(study.folder, tmp_path / "out")
    assert [row["method"] for row in result.rows] == list(NAMES)
    assert [row["ours"] for row in result.rows] == [2, 4, 2, 2, 2, 2]
    assert all((row["votes"], row["sets"]) == (6, 2) for row in result.rows)
    assert all(row["low"] < row["share"] < row["high"] for row in result.rows)
    assert result.agreement["agreeing"] == pytest.approx(1 / 3)
    assert result.agreement["median_seconds"] == 2
    value = json.loads((tmp_path / "out/report.json").read_text())
    assert value["rows"] == result.rows and value["ours"] == "ours!"


def test_preference_is_wilson_and_binomial():
    found = preference(17, 20)      # Wilson 1927 by hand: z = 1.959964
    z, p, n = 1.959963985, 17 / 20, 20
    centre, half = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    assert found["low"] == pytest.approx((centre - half) / (1 + z * z / n), abs=1e-9)
    assert found["high"] == pytest.approx((centre + half) / (1 + z * z / n), abs=1e-9)
    assert found["p"] == pytest.approx(2 * (1140 + 190 + 20 + 1) / 2**20)
    assert preference(60, 60)["high"] == 1 and preference(0, 60)["low"] == 0
    assert preference(30, 60)["p"] == 1


def test_fleiss_kappa_of_known_tables():
    example = np.array([[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0],
                        [2, 2, 8, 1, 1], [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2],
                        [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]])
    assert fleiss_kappa(example)[1] == pytest.approx(0.20993, abs=1e-5)
    assert fleiss_kappa([[3, 0], [0, 3]]) == (1, 1)
    assert fleiss_kappa([[3, 0], [3, 0]]) == (1, None)
    assert fleiss_kappa([[1, 1], [1, 1]])[1] == pytest.approx(-1)
    for wrong in ([[1, 0]], [[2, 1], [1, 1]]):
        with pytest.raises(ValueError, match="same number"):
            fleiss_kappa(wrong)


def test_random_votes_are_undecided_and_strong_ones_are_not(toy, tmp_path):
    dice = random.Random(1)
    for i in range(30):
        text = made_up_votes(toy, f"{i:032x}", 0.5, dice)
        written(toy.folder / "votes", text, f"{i}.json")
    collect(toy.folder)
    result = report(toy.folder)
    assert {row["preferred"] for row in result.rows} == {"undecided"}
    assert abs(result.agreement["fleiss_kappa"]) < 0.1
    (toy.folder / "votes.sqlite").unlink()
    for i in range(30):
        written(toy.folder / "votes", made_up_votes(toy, f"{i:032x}", 1.0, dice), f"{i}.json")
    collect(toy.folder)
    result = report(toy.folder)
    assert {row["preferred"] for row in result.rows} == {"recoloured"}
    assert result.agreement["fleiss_kappa"] is None and "undefined" in str(result)
    assert [row["share"] for row in result.rows] == [1, 1]
    draw_preferences(result).canvas.draw()


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_shown_escaped(study):
    written(study.folder / "votes", good(study))
    collect(study.folder)
    result = report(study.folder)
    html = result._repr_html_()
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    tags = [tag for tag, _ in Elements(html).found]
    assert set(tags) == {"table", "tr", "th", "td", "code", "p"}
    assert "<b>" not in html and "<code>$\\frac$ &amp; &lt;b&gt;</code>" in html
    for name in NAMES:
        assert name in str(result)
    figure = draw_preferences(result)
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(NAMES)


def test_report_says_what_is_missing(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"semst\[plots\]"):
        report(toy.folder)


# ---- the widget

def test_widget_votes_like_the_page(toy):
    pytest.importorskip("ipywidgets")
    widget = StudyWidget(toy.folder, "e" * 32)
    assert 'alt="Translation A"' in widget.pictures["A"].value
    for _ in range(3):
        widget.buttons["A"].click()
    widget.back.click()
    assert len(widget.answers) == 2 and not widget.file.exists()
    widget.buttons["B"].click()
    widget.buttons["A"].click()
    widget.buttons["A"].click()
    widget.back.click()
    assert [answer.side for answer in widget.answers] == ["A", "A", "B", "A"]
    assert [answer.set for answer in widget.answers] == [shown.set for shown in toy.plan("e" * 32)]
    assert collect(toy.folder).added == 1
    assert report(toy.folder).agreement["side_a"] == 0.75


def test_widget_wants_a_random_number(toy):
    pytest.importorskip("ipywidgets")
    for rater in ("", "me", "E" * 32):
        with pytest.raises(InputError, match="32 hexadecimal"):
            StudyWidget(toy.folder, rater)
    assert StudyWidget(toy.folder).rater != StudyWidget(toy.folder).rater


def test_widget_says_what_is_missing(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(InputError, match=r"semst\[notebook\]"):
        StudyWidget(toy.folder)


def test_widget_shows_words_as_text(tmp_path):
    pytest.importorskip("ipywidgets")
    given = demo(tmp_path, n=2, size=32) | dict(target="<script>alert(1)</script>")
    widget = StudyWidget(make(**given, out=tmp_path / "<b>study", sets=2).folder)
    assert "<script" not in widget.message.value and "&lt;script" in widget.message.value
    widget.buttons["A"].click()
    widget.buttons["B"].click()
    assert "<b>" not in widget.message.value


def test_template_keeps_marks_in_words():
    assert '"aim": "@STYLE@"' in page_html(dict(study="", sets=[dict(aim="@STYLE@")]))


def test_more_names_than_there_are_is_all_of_them():
    assert sorted(draw_names(["a/1.png", "a/2.png", "b/1.png"], 9, seed=0)) == [
        "a/1.png", "a/2.png", "b/1.png"]
