"The options of `semst translate`, as a user types them."
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_cli import TINY, finished, horses, main, mistake, zebras  # noqa: F401

from semst import SemST
from semst.commands import translate as command
from semst.files import read_weights
from semst.pretrained import save_model


def go(*words):
    assert main(["translate", *map(str, words)]) == 0


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_format_quality_and_suffix(finished, horses, tmp_path):
    go(finished, horses, tmp_path / "a", "--format", "jpg", "--suffix", "_zebra", "--quality", 100)
    go(finished, horses, tmp_path / "b", "--format", "jpg", "--quality", 20)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == [f"0000{i}_zebra.jpg" for i in range(4)]
    fine, coarse = tmp_path / "a/00000_zebra.jpg", tmp_path / "b/00000.jpg"
    assert fine.stat().st_size > 2 * coarse.stat().st_size
    with Image.open(fine) as image:
        assert image.format == "JPEG" and image.layer[0][1:3] == image.layer[1][1:3]      # 4:4:4


def test_results_that_are_there_are_left_alone(finished, horses, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/00001.png").write_text("mine")
    go(finished, horses, tmp_path / "out", "--skip-existing")
    said = capsys.readouterr().out
    assert "1 results are there already" in said and "3 of 3 images" in said
    assert (tmp_path / "out/00001.png").read_text() == "mine"


def test_a_batch_gives_what_single_pictures_give(finished, horses, tmp_path, monkeypatch):
    go(finished, horses, tmp_path / "one")
    right, sizes = command.translate_whole, []

    def translate(model, x):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return right(model, x)
    monkeypatch.setattr(command, "translate_whole", translate)
    go(finished, horses, tmp_path / "two", "--batch-size", 2)
    assert sizes == [2, 2]
    go(finished, horses, tmp_path / "four", "--batch-size", 4)          # does not fit: one by one
    assert sizes[2:] == [4, 1, 1, 1, 1]
    for name in ("00000.png", "00003.png"):
        one = pixels_of(tmp_path / "one" / name).astype(int)
        for other in ("two", "four"):
            assert np.abs(pixels_of(tmp_path / other / name) - one).max() <= 1


def test_the_training_s_scale(finished, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (120, 180, 3), np.uint8)).save(tmp_path / "a.png")
    go(finished, tmp_path / "a.png", tmp_path / "b.png", "--scale", "training")
    assert pixels_of(tmp_path / "b.png").shape == (36, 54, 3)       # 32 * 286 / 256, shorter side


def test_white_of_twelve_bits(finished, tmp_path):
    levels = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    go(finished, tmp_path / "deep.png", tmp_path / "out.png", "--white", 4095)
    eight = Image.fromarray((levels.astype(int) * 255 // 4095).astype(np.uint8))
    ours = np.asarray(SemST.from_pretrained(finished).translate(eight)).astype(int)
    theirs = pixels_of(tmp_path / "out.png").astype(int)
    assert theirs.max() <= 4095 and np.abs(theirs * 255 / 4095 - ours).mean() < 6


def test_bad_pictures_are_skipped_by_the_user_s_word(finished, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_text("no picture")
    assert "b.png" in mistake(capsys, "translate", finished, tmp_path / "in", tmp_path / "out")
    go(finished, tmp_path / "in", tmp_path / "out2", "--skip-bad")
    said = capsys.readouterr()
    assert "1 of 2 images" in said.out and "skipped: " in said.err and "b.png" in said.err


def test_the_way_back_of_cyclegan(horses, zebras, tmp_path):
    words = ["train", "--source", horses, "--target", zebras, "--out", tmp_path / "run", *TINY[2:],
             "--preset", "cyclegan", "--crop", 32, "--d-strides", 2, 1, "--load-size", 36]
    assert main([str(word) for word in words]) == 0
    go(tmp_path / "run", zebras, tmp_path / "there")
    go(tmp_path / "run", zebras, tmp_path / "back", "--back")
    weights = next((tmp_path / "run/checkpoints").glob("*4/back.safetensors"))
    with Image.open(zebras / "00000.png") as image:
        wanted = np.asarray(SemST.from_pretrained(weights).translate(image))
    assert np.array_equal(pixels_of(tmp_path / "back/00000.png"), wanted)
    assert not np.array_equal(pixels_of(tmp_path / "there/00000.png"), wanted)


def test_the_model_in_the_package(horses, tmp_path):
    go("demo", horses / "00000.png", tmp_path / "out.png")
    assert pixels_of(tmp_path / "out.png").shape == (48, 48, 3)


@pytest.mark.parametrize("words, says", [
    ("--quality 0", "--quality 0 must lie"),
    ("--format gif", "--format gif: known are png"),
    ("--suffix a/b", "must be part of a name"),
    ("--batch-size 0", "must be at least 1"),
    ("--tile 64 --white 4095", "does not go with"),
    ("--back", "translates one way"),
    ("--scale large", "large"),
])
def test_options_that_do_not_fit(finished, horses, tmp_path, capsys, words, says):
    said = mistake(capsys, "translate", finished, horses, tmp_path / "out", *words.split())
    assert says in said and not (tmp_path / "out").exists()


def test_grey_stays_grey_and_says_so_unless_colour_is_asked(finished, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.linear_gradient("L").resize((32, 32)).save(tmp_path / "in/a.png")
    model = SemST.from_pretrained(finished)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    save_model(model, tmp_path / "colourful.safetensors")
    go(tmp_path / "colourful.safetensors", tmp_path / "in", tmp_path / "grey")
    assert "the colours of its translation are left out; --colour keeps" in capsys.readouterr().err
    go(tmp_path / "colourful.safetensors", tmp_path / "in", tmp_path / "all", "--colour")
    assert "left out" not in capsys.readouterr().err
    grey, colour = (pixels_of(tmp_path / name / "a.png") for name in ("grey", "all"))
    assert grey.shape == (32, 32) and colour.shape == (32, 32, 3) and np.ptp(colour, -1).max() > 20


def test_a_picture_of_one_pixel_is_translated_without_a_word(finished, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "in/a.png")
    go(finished, tmp_path / "in", tmp_path / "out")
    assert "NumPy" not in capsys.readouterr().err
    assert pixels_of(tmp_path / "out/a.png").shape == (1, 1, 3)


def test_files_that_are_no_pictures_are_counted(finished, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "in/a.png")
    for name in ("b.heic", "c.cr2", "notes.txt"):
        (tmp_path / "in" / name).write_text("no picture")
    go(finished, tmp_path / "in", tmp_path / "out")
    said = capsys.readouterr().err
    assert "3 files of other types left out: 1 .heic, 1 .cr2, 1 .txt" in said


def test_names_that_would_meet(finished, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.bmp"):
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / name)
    words = ["translate", finished, tmp_path / "in", tmp_path / "out", "--format", "jpg"]
    assert "would both become" in mistake(capsys, *words)
    said = mistake(capsys, "translate", finished, tmp_path / "in/a.png", tmp_path / "b.png",
                   "--format", "jpg")
    assert "names the result" in said


def test_the_training_s_scale_needs_a_run(finished, horses, tmp_path, capsys):
    weights = next(finished.rglob("average.safetensors"))
    said = mistake(capsys, "translate", weights, horses, tmp_path / "out", "--scale", "training")
    assert "is not a run of semst" in said


def test_numbers_that_overflow_name_the_picture_and_the_weights(finished, horses, tmp_path, capsys):
    weights = tmp_path / "wild.safetensors"
    model = SemST.from_pretrained(finished)
    with torch.no_grad():
        model.global_branch.generator.model[1].weight.mul_(3e38)    # what follows is not finite
    save_model(model, weights)
    for more in ([], ["--tile", 64]):
        words = ["translate", weights, horses / "00000.png", tmp_path / "y.png", *more]
        said = mistake(capsys, *words)
        assert f"00000.png: its translation is not finite: {weights} is damaged" in said
    assert not (tmp_path / "y.png").exists()
    header, state = read_weights(weights)
    name = min(state)
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, weights, metadata=header)
    said = mistake(capsys, "translate", weights, horses, tmp_path / "out")
    assert f"{weights}: its weight {name} is not finite" in said
