"The command line: what a user types, what comes out, and one clear line for every mistake."
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from semst import SemST
from semst.batches import LoaderDied
from semst.device import chosen_device
from semst.cli import CODES, main
from semst.synthetic.scenes import write_scenes
from semst.training import Alarmed, NonFiniteLoss

TINY = [
    "--preset", "tiny", "--crop", "32", "--ngf", "4", "--blocks", "5", "--ndf", "4",
    "--patches", "32", "--steps", "4", "--workers", "0", "--log-every", "1",
    "--checkpoint-every", "2",
]


@pytest.fixture(scope="module")
def horses(tmp_path_factory):
    return write(tmp_path_factory, "horse")

@pytest.fixture(scope="module")
def zebras(tmp_path_factory):
    return write(tmp_path_factory, "zebra")

def write(tmp_path_factory, kind):
    root = tmp_path_factory.mktemp(kind)
    write_scenes(root, kind, 4, 48, 0)
    return root / "images"

@pytest.fixture(scope="module")
def finished(tmp_path_factory, horses, zebras):
    "A run that the command itself trained."
    run = tmp_path_factory.mktemp("runs") / "run"
    assert (
        main(["train", "--source", str(horses), "--target", str(zebras), "--out", str(run), *TINY])
        == 0
    )
    return run

def mistake(capsys, *argv):
    "What a mistake prints: one line of ours, or tyro's words; always exit code 2 and no traceback."
    capsys.readouterr()
    assert main([str(a) for a in argv]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.strip()
    lines = [line for line in err.splitlines() if line.startswith("semst: ")]
    assert len(lines) <= 1
    return " ".join(err.replace("│", " ").split())


def test_train_leaves_weights_and_what_info_reads(finished, capsys):
    assert list(finished.rglob("*.safetensors"))
    assert main(["info", str(finished)]) == 0
    out = capsys.readouterr().out
    for part in (
        "4 of 4", "images, source", "gan", "lambda_ts", "ngf", "parameters",
        "average.safetensors",
    ):
        assert part in out, part


def test_resume_by_the_same_words(horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, "--out", tmp_path / "r", *TINY]
    assert main([str(w) for w in words]) == 0
    shutil.rmtree(tmp_path / "r/checkpoints/step_00000004")
    assert main([str(w) for w in words] + ["--resume"]) == 0
    assert (tmp_path / "r/checkpoints/step_00000004").exists()
    shutil.rmtree(tmp_path / "r/checkpoints/step_00000004")
    # everything else stands in the run
    assert main(["train", "--out", str(tmp_path / "r"), "--resume"]) == 0
    assert (tmp_path / "r/checkpoints/step_00000004").exists()
    assert "began with lr = 0.0004, not 0.1" in mistake(
        capsys, "train", "--out", tmp_path / "r", "--resume", "--lr", "0.1"
    )
    # another preset is not ignored
    assert "began with" in mistake(
        capsys, "train", "--out", tmp_path / "r", "--resume", "--preset", "tiny", "--crop", "32"
    )
    assert "began with ngf = 4, not 8" in mistake(
        capsys, "train", "--out", tmp_path / "r", "--resume", "--ngf", "8"
    )
    assert "already holds a run" in mistake(capsys, *words)


def test_translate_a_folder_keeps_names_sizes_and_subfolders(finished, tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    rgb = np.random.default_rng(0).integers(0, 255, (61, 97, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "in/a.png")
    Image.fromarray(rgb[..., 0]).save(tmp_path / "in/deep/grey.jpg")
    Image.fromarray((rgb[..., 0].astype(np.uint16) * 257)).save(tmp_path / "in/sixteen.tif")
    assert main(["translate", str(finished), str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    results = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")
    )
    assert results == ["a.png", "deep/grey.jpg", "sixteen.tif"]
    # grey stays grey, 16 bits stay
    modes = {"a.png": "RGB", "deep/grey.jpg": "L", "sixteen.tif": "I;16"}
    for name in results:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (97, 61) and image.mode == modes[name]


def test_translate_one_picture_to_a_file_or_into_a_folder(finished, horses, tmp_path):
    picture = horses / "00000.png"
    assert main(["translate", str(finished), str(picture), str(tmp_path / "b.png")]) == 0
    assert main(["translate", str(finished), str(picture), str(tmp_path / "new")]) == 0
    assert (
        (tmp_path / "b.png").read_bytes()
        == (tmp_path / "new/00000.png").read_bytes()
        != picture.read_bytes()
    )


def test_the_library_call_gives_what_the_command_gives(finished, horses, tmp_path):
    from semst import SemST
    picture = Image.open(horses / "00001.png")
    result = SemST.from_pretrained(finished).translate(picture)
    main(["translate", str(finished), str(horses / "00001.png"), str(tmp_path / "c.png")])
    assert np.array_equal(np.array(result), np.array(Image.open(tmp_path / "c.png")))


def test_a_warning_is_one_line(horses, zebras, tmp_path, capsys):
    shutil.copytree(horses, tmp_path / "horses")
    go = [
        "train", "--source", str(tmp_path / "horses"), "--target", str(zebras), "--out",
        str(tmp_path / "run"), *TINY,
    ]
    assert main(go) == 0
    replaced = sorted((tmp_path / "horses").iterdir())[0]
    Image.open(replaced).save(replaced, compress_level=0)
    capsys.readouterr()
    assert main([*go, "--resume"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "sizes" in line]
    assert said == [
        f"semst: {tmp_path / 'horses'}: some images have other sizes in bytes than when "
        f"{tmp_path / 'run'} began; going on with them as they are"
    ]


def test_one_bad_picture_does_not_cost_the_others(finished, horses, tmp_path, capsys):
    shutil.copytree(horses, tmp_path / "in")
    (tmp_path / "in/00002.png").write_text("no picture")
    assert "00002.png" in mistake(capsys, "translate", finished, tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "00000.png",
        "00001.png",
        "00003.png",
    ]


def test_several_bad_pictures_have_a_line_each(finished, horses, tmp_path, capsys):
    shutil.copytree(horses, tmp_path / "in")
    (tmp_path / "in/00001.png").write_bytes((horses / "00001.png").read_bytes()[:200])
    (tmp_path / "in/00002.png").write_text("")
    assert main(["translate", str(finished), str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert lines[0] == "semst: 2 images failed:"
    assert "00001.png" in lines[1]
    assert "00002.png" in lines[2]


def test_a_result_that_cannot_be_written_is_named(finished, horses, tmp_path, capsys):
    # WebP ends at 16383 pixels
    Image.new("RGB", (17000, 8)).save(tmp_path / "long.png")
    line = mistake(capsys, "translate", finished, tmp_path / "long.png", tmp_path / "long.webp")
    assert "long.webp: cannot be written" in line and not (tmp_path / "long.webp").exists()


@pytest.mark.parametrize(
    "error, code, says",
    [
        (PermissionError(13, "Permission denied", "/there"), 2, "/there: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            1,
            "out of memory: try a smaller --crop",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (
            type("InductorError", (RuntimeError,), dict(__module__="torch._inductor.exc"))(
                "InvalidCxxCompiler: none found\n\nSet TORCH_LOGS"
            ),
            1,
            "could not be compiled (InvalidCxxCompiler: none found): train without --compile",
        ),
        (OSError(12, "Cannot allocate memory"), 1, "out of memory: try a smaller --crop"),
        (RuntimeError("could not create a primitive"), 1, "out of memory: try a smaller --crop"),
        (LoaderDied("give --workers 0"), 1, "give --workers 0"),
        (NonFiniteLoss("step 3: gan = nan"), 1, "step 3: gan = nan"),
        (Alarmed("by the alarm d_won"), 1, "by the alarm d_won"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(
    finished, horses, capsys, monkeypatch, error, code, says
):
    def fail(*_):
        raise error
    monkeypatch.setattr("semst.commands.train.train", fail)
    assert (
        main(["train", "--source", str(horses), "--target", str(horses), "--out", "nowhere"])
        == code
    )
    err = capsys.readouterr().err
    assert err.startswith("semst: ") and says in err and "Traceback" not in err


def test_an_error_of_ours_is_not_hidden(horses, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes do not match")
    monkeypatch.setattr("semst.commands.train.train", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        main(["train", "--source", str(horses), "--target", str(horses), "--out", "nowhere"])


def test_a_picture_too_large_for_the_memory_costs_only_itself(
    finished, horses, tmp_path, capsys, monkeypatch
):
    from semst.commands import translate as command
    right, calls = command.translate_whole, []

    def translate(model, x):
        calls.append(x)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(model, x)
    monkeypatch.setattr(command, "translate_whole", translate)
    assert "00001.png: too large for this machine's memory" in mistake(
        capsys, "translate", finished, horses, tmp_path / "out"
    )
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_batch_too_large_for_the_memory_goes_one_by_one(finished, horses, tmp_path, monkeypatch):
    "Outside the handling of the error, whose traceback would hold the batch's memory."
    from semst.commands import translate as command
    right, handled = command.translate_whole, []

    def translate(model, x):
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        handled.append(sys.exc_info()[0])
        return right(model, x)
    monkeypatch.setattr(command, "translate_whole", translate)
    words = ["translate", finished, horses, tmp_path / "out", "--batch-size", 2]
    assert main([str(word) for word in words]) == 0
    assert len(list((tmp_path / "out").iterdir())) == len(handled) == 4
    assert set(handled) == {None}


def test_the_picture_that_is_too_large_is_the_one_that_is_named(
    finished, horses, tmp_path, capsys, monkeypatch
):
    "In a batch whose first picture is unreadable."
    from semst.commands import translate as command

    def full(model, x):
        raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(command, "translate_whole", full)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0.png").write_text("no picture")
    shutil.copy(horses / "00001.png", folder / "1.png")
    said = mistake(capsys, "translate", finished, folder, tmp_path / "out", "--batch-size", 2)
    assert "1.png: too large" in said and "0.png: too large" not in said


def test_a_full_gpu_is_not_called_a_missing_one(monkeypatch):
    for error in (torch.OutOfMemoryError("CUDA out of memory"),
                  RuntimeError("CUDA error: out of memory"),
                  RuntimeError("MPS backend out of memory")):
        def full(*_, error=error, **__):
            raise error
        monkeypatch.setattr(torch, "zeros", full)
        with pytest.raises(type(error), match="out of memory"):
            chosen_device("cuda:1")


@pytest.mark.parametrize("channels, mode", [(1, "L"), (4, "RGBA")])
def test_folders_of_other_channel_counts_train_and_translate(tmp_path, channels, mode):
    shape = (48, 48) if channels == 1 else (48, 48, channels)
    for domain in "ab":
        (tmp_path / domain).mkdir()
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 255, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / domain / f"{i}.png")
    words = [
        "--source", tmp_path / "a", "--target", tmp_path / "b", "--out", tmp_path / "run",
        *TINY,
    ]
    words += ["--in-channels", channels, "--out-channels", channels]
    assert main(["train", *map(str, words)]) == 0
    assert (
        main(
            ["translate", str(tmp_path / "run"), str(tmp_path / "a/0.png"), str(tmp_path / "y.png")]
        )
        == 0
    )
    with Image.open(tmp_path / "y.png") as image:
        assert image.mode == mode and image.size == (48, 48)


def test_an_alarm_stops_a_training_where_told_and_it_can_go_on(horses, zebras, tmp_path, capsys):
    words = ["train", "--source", horses, "--target", zebras, *TINY, "--lr", 10, "--steps", 30]
    go = [*words, "--out", tmp_path / "r"]
    go += ["--stop-on-alarm", "d_won", "--stop-on-alarm", "diverged"]
    assert main([str(word) for word in go]) == 1
    said = capsys.readouterr().err
    assert "by the alarm diverged (the losses" in said and "Traceback" not in said
    newest = max((tmp_path / "r/checkpoints").iterdir())
    assert str(newest) in said and "step_00000030" != newest.name
    about = json.loads((tmp_path / "r/config.json").read_text())
    assert not any("alarm" in name for name in about["config"])       # no setting of the run
    assert main(["train", "--out", str(tmp_path / "r"), "--resume"]) == 0
    assert "invalid choice" in mistake(capsys, *words, "--out", tmp_path / "n",
                                       "--stop-on-alarm", "divorced")


def test_the_exit_codes_stand_where_a_user_looks(capsys):
    assert main(["--help"]) == 0
    front = " ".join(capsys.readouterr().out.split())
    assert main(["train", "--help"]) == 0
    train = " ".join(capsys.readouterr().out.split())
    book = (ROOT / "nbs/A15_command_line.ipynb").read_text()
    page, readme = (ROOT / "docs/reliability.md").read_text(), (ROOT / "README.md").read_text()
    for code, words in CODES.items():
        assert f"{code} {words}" in front
        assert f"| {code} | {words} |" in book and f"| {code} | {words} |" in page
        for text in (train, readme):
            assert f"{code} " in text[text.index("xit codes"):][:300]


def test_ctrl_c_while_torch_is_imported_ends_with_one_line():
    code = """
import signal, sys
class Press:
    def find_spec(self, name, *_):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.argv = ["semst", "train"]
from semst.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "semst: stopped\n")


def test_info_says_in_words_which_bell_rings(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "r")
    said = {}
    for rings in (0.0, 1.0):
        with open(tmp_path / "r/log.jsonl", "a") as log:
            log.write(
                json.dumps(dict(step=5, d_loss=0.001, alarm_d_won=rings, alarm_inverted=0.0)) + "\n"
            )
        assert main(["info", str(tmp_path / "r")]) == 0
        said[rings] = capsys.readouterr().out
    assert "alarm" not in said[0.0] and "it has won" in said[1.0] and "inverted" not in said[1.0]


def test_info_of_a_run_that_holds_a_model_too(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "r2")
    SemST.from_pretrained(finished).save_pretrained(tmp_path / "shared")
    shutil.copy(tmp_path / "shared" / "model.safetensors", tmp_path / "r2")
    assert main(["info", str(tmp_path / "r2")]) == 0
    said = capsys.readouterr().out
    assert "4 of 4" in said and str(tmp_path / "r2" / "model.safetensors") in said
    shutil.rmtree(tmp_path / "r2" / "checkpoints")
    assert main(["info", str(tmp_path / "r2")]) == 0
    assert "0 of 4" in capsys.readouterr().out


def test_info_shows_losses_and_settings_of_one_name_apart(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "r")
    with (tmp_path / "r/log.jsonl").open("a") as log:
        log.write('{"step": 5, "ga')   # as a killed run leaves it
    assert main(["info", str(tmp_path / "r")]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    gan = [row[1] for row in rows if row[0] == "gan"]
    assert len(gan) == 2 and float(gan[0]) > 0 and gan[1] == "bce" and ["step", "4"] in rows
    shutil.rmtree(tmp_path / "r/checkpoints")
    assert main(["info", str(tmp_path / "r")]) == 0
    assert "none yet" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("semst 0.")


def test_a_closed_pipe_is_no_mistake(finished, capfd, monkeypatch):
    def fail(*_):
        raise BrokenPipeError(32, "Broken pipe")
    monkeypatch.setattr("semst.commands.info.read_run", fail)
    monkeypatch.setattr("semst.cli.os.dup2", lambda *_: None)
    assert main(["info", str(finished)]) == 0 and capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "words, says",
    [
        ("translate {run} {data} {data}/results", "lies inside"),
        ("translate {run} {data} {data}/00000.png", "is a file: name a folder"),
        ("translate {run} {data}/00000.png out.txt", "results are written as .png"),
        (
            "translate {run} {data}/00000.png /dev/null",
            "is a file: name a folder for the results, or a picture",
        ),
        ("translate {run}", "INPUT"),
        ("train --source {data} --target {data} --out out --steps 1e3", "--steps"),
        ("train --source {data} --target {data} --out out --lr fast", "fast"),
        ("train --source {data} --target {data} --out out --crop 3.5", "3.5"),
        ("train --stpes 3 --source {data} --target {data} --out out", "--stpes"),
        ("train --souce 3", "--souce"),
        (
            "train --source {data} --target {data} --out out --preset tiny --crop 30",
            "crop 30 must be",
        ),
        ("translate {run} nowhere out", "nowhere: no such file or folder"),
        ("translate {data} {data} out", "is not a run of semst"),
        ("translate nowhere {data} out", "nowhere: no such run"),
        ("translate {run} {data} {data}", "is an input"),
        ("translate {run} {data}/00000.png {data}/00000.png", "is an input"),
        ("translate {run} {data}/00000.png {data}", "is an input"),
        ("translate {run} {empty} out", "no images in it"),
        ("translate {run} {data}", "OUTPUT"),
        ("info {data}", "is not a run of semst"),
        ("info {data}/00000.png", "is not a run of semst"),
        ("train --source nowhere --target {data} --out out", "nowhere: no such folder"),
        ("train --source {empty} --target {data} --out out", "no images in it"),
        (
            "train --source {data} --target {data}/00000.png --out out",
            "is a file; a folder of images is needed",
        ),
        ("train --source {data} --target {data} --out out", "smaller than the crop"),
        (
            "train --source {data} --target {data} --out out --preset tiny --crop 30",
            "crop 30 must be a multiple of 4",
        ),
        ("train --source {data} --target {data} --out out --preset tyni", "'tyni'"),
        ("train --source {data} --target {data} --out out --lamda-ts 3", "--lamda-ts"),
        ("train --source {data} --target {data} --out out --steps many", "many"),
        ("train --source {data} --target {data} --out out --steps 0", "steps 0 must be at least 1"),
        ("train --out nowhere --resume", "is not a run of semst"),
        ("train --source {data} --out out", "--target"),
        ("trian", "trian"),
        ("", "{train, translate, info,"),
        ("data", "{check, draw}"),
        ("study", "{make, collect, report}"),
        ("data check nowhere", "nowhere: no such folder"),
        ("data check {data} {data} {data}", "3 folders: give one"),
        ("data check {data} --sheet out.txt", "cannot be written"),
        ("data draw out --look unicorn", "unicorn"),
        ("study make --methods a=b --ours a --inputs {data} --out out", "needs another one"),
        ("study report nowhere", "nowhere"),
        ("study collect nowhere", "nowhere"),
    ],
)
def test_every_mistake_is_explained_and_code_2(
    finished, horses, tmp_path, capsys, monkeypatch, words, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    line = mistake(
        capsys, *words.format(run=finished, data=horses, empty=tmp_path / "empty").split()
    )
    assert says in line, line
    assert not (tmp_path / "out").exists(), "a mistake must leave nothing behind"


def test_a_damaged_run_is_named(finished, horses, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "r")
    weights = next((tmp_path / "r/checkpoints").glob("*4/average.safetensors"))
    weights.write_bytes(b"not a safetensors file")
    assert str(weights) in mistake(capsys, "translate", tmp_path / "r", horses, tmp_path / "out")
    (tmp_path / "r/config.json").write_text("{")
    assert "config.json" in mistake(capsys, "info", tmp_path / "r")


@pytest.mark.parametrize(
    "words", [["--help"], ["train", "--help"], ["translate", "--help"], ["info", "--help"]]
)
def test_help_reads_well(words, capsys):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "semst" in out and "folder" in out.lower() or "train" in out


def test_an_output_that_is_another_name_of_an_input_is_refused(finished, horses, tmp_path, capsys):
    import os
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shutil.copy(horses / "00000.png", tmp_path / "in/a.png")
    os.link(tmp_path / "in/a.png", tmp_path / "out/a.png")
    before = (tmp_path / "in/a.png").read_bytes()
    assert "is an input" in mistake(
        capsys, "translate", finished, tmp_path / "in", tmp_path / "out"
    )
    assert (tmp_path / "in/a.png").read_bytes() == before


def test_every_option_explains_itself():
    from dataclasses import fields, is_dataclass
    from tyro._docstrings import get_field_docstring
    from semst.config import TrainConfig
    for config in (TrainConfig(), *vars(TrainConfig()).values()):
        if not is_dataclass(config):
            continue
        for f in fields(config):
            if not is_dataclass(getattr(config, f.name)):
                assert get_field_docstring(type(config), f.name, ()), (
                    f"{type(config).__name__}.{f.name} has no comment"
                )


def test_an_empty_word_is_refused_not_taken_for_this_folder(
    finished, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert "empty" in mistake(capsys, "translate", finished, "", tmp_path / "out")


def test_in_tiles_a_damaged_file_costs_only_itself_and_every_kind_of_picture_goes_in(
    finished, tmp_path, capsys
):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in/a.tif", pixels, tile=(32, 32), photometric="rgb", compression="zlib"
    )
    whole = (tmp_path / "in/a.tif").read_bytes()
    (tmp_path / "in/b.tif").write_bytes(whole[:len(whole) // 2])
    exif = Image.Exif()
    exif[274] = 6                               # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "in/c.tif", exif=exif)
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "in/d.tif")
    Image.fromarray(pixels).save(tmp_path / "in/e.png")
    assert "b.tif: cannot be decoded, it is damaged: piece" in mistake(
        capsys, "translate", finished, tmp_path / "in", tmp_path / "out", "--tile", "64"
    )
    sizes = {}
    for file in sorted((tmp_path / "out").iterdir()):
        with Image.open(file) as image:
            sizes[file.name] = image.size
    assert sizes == {"a.tif": (70, 90), "c.tif": (90, 70), "d.tif": (70, 90), "e.png": (70, 90)}
    assert "--mode approximate is a way to translate in tiles" in mistake(
        capsys, "translate", finished, tmp_path / "in", tmp_path / "out2", "--mode", "approximate"
    )


def test_a_tiff_too_large_for_pillow_becomes_a_png_in_tiles(
    finished, tmp_path, monkeypatch, capsys
):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "large.tif", np.zeros((90, 70, 3), np.uint8), photometric="rgb")
    Image.fromarray(np.zeros((90, 70, 3), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert (
        main(
            [
                "translate", str(finished), str(tmp_path / "large.tif"),
                str(tmp_path / "out.png"), "--tile", "64",
            ]
        )
        == 0
    )
    assert "save it as an RGB or grey TIFF" in mistake(
        capsys, "translate", finished, tmp_path / "large.png", tmp_path / "out2.png", "--tile", "64"
    )


def test_small_and_bad_pictures_are_enlarged_or_left_out_by_choice(zebras, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, side in (("large.png", 48), ("small.png", 20)):
        Image.effect_noise((side, side), 60).save(tmp_path / "in" / name)
    (tmp_path / "in/bad.png").write_text("no picture")
    words = ["train", "--source", tmp_path / "in", "--target", zebras, *TINY, "--steps", "1"]
    said = mistake(capsys, *words, "--out", tmp_path / "refused")
    assert "bad.png" in said and "--skip-bad" in said
    assert main([str(word) for word in [*words, "--out", tmp_path / "refused", "--skip-bad"]]) == 2
    said = capsys.readouterr().err
    assert "small.png is 20x20" in said and "--small enlarge" in said and "--small skip" in said
    for how, images in (("enlarge", 2), ("skip", 1)):
        run = tmp_path / how
        go = [*words, "--out", run, "--skip-bad", "--small", how]
        assert main([str(word) for word in go]) == 0
        said = capsys.readouterr().err
        assert "bad.png" in said and f"smaller than the crop, 32: {how}" in said
        about = json.loads((run / "config.json").read_text())
        assert about["data"]["source"]["images"] == images and about["config"]["small"] == how


def test_a_training_knows_the_white_of_twelve_bits(zebras, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((48, 48), 4095, np.uint16)).save(tmp_path / "in/deep.png")
    words = ["train", "--source", tmp_path / "in", "--target", zebras, "--out", tmp_path / "run",
             *TINY, "--steps", "1", "--white", "4095"]
    seen = []
    monkeypatch.setattr("semst.hooks.Progress.step",
                        lambda self, training, record: seen.append(training.previews[0]["x_src"]))
    assert main([str(word) for word in words]) == 0
    assert seen[0].min() == 1
    words[words.index("--white") + 1] = "0"
    assert "white 0 must be at least 1" in mistake(capsys, *words)
