"`semst translate RUN clip.mp4 out.mp4`: frames in order, at their times, with the audio."
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from test_cli import TINY, finished, horses, main, mistake, zebras  # noqa: F401

import semst.commands.translate as command
from semst.video import Result

av = pytest.importorskip("av", reason="PyAV is not installed")
TIMES = [0, 1, 2, 4, 8, 9, 10]            # tenths of a second: the rate changes


def write_clip(path, size=(48, 64), sound=None):
    "Frames whose grey value grows, at TIMES, and a tone."
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options=dict(crf="1"))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv444p"
        stream.codec_context.time_base = Fraction(1, 10)
        audio = file.add_stream(sound, rate=8000) if sound else None
        for i, time in enumerate(TIMES):
            pixels = np.full((*size, 3), 30 * i + 20, np.uint8)
            pixels[:10, :10] = 255                              # a corner that tells what is up
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = time, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if audio:
            tone = np.sin(np.arange(8000) / 5)[None]
            tone = tone.astype(np.float32) if sound == "aac" else (tone * 9000).astype(np.int16)
            kind = "fltp" if sound == "aac" else "s16p"
            frame = av.AudioFrame.from_ndarray(tone, format=kind, layout="mono")
            frame.sample_rate = 8000
            file.mux(audio.encode(frame))
            file.mux(audio.encode())
    return path


def frames_of(path):
    with av.open(str(path)) as file:
        return [(round(10 * frame.time), frame.to_ndarray(format="rgb24"))
                for frame in file.decode(video=0)]


def packets_of(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


@pytest.fixture
def negative(monkeypatch):
    "The translator turns colours round; the sizes of its batches."
    sizes = []

    def translate(model, x):
        sizes.append(tuple(x.shape))
        return type("Translation", (), dict(fused=-x))
    monkeypatch.setattr(command, "translate_whole", translate)
    return sizes


@pytest.mark.parametrize("batch, size", [(1, (48, 64)), (3, (48, 64)), (3, (37, 51))])
def test_order_times_size_and_audio_stay(finished, negative, tmp_path, batch, size):
    clip = write_clip(tmp_path / "clip.mp4", size, "aac")
    words = ["translate", finished, clip, tmp_path / "out.mp4", "--batch-size", batch]
    assert main([str(word) for word in words]) == 0
    before, after = frames_of(clip), frames_of(tmp_path / "out.mp4")
    assert [time for time, _ in after] == TIMES
    assert negative == [(n, 3, *size) for n in {1: 7 * [1], 3: [3, 3, 1]}[batch]]
    for (_, x), (_, y) in zip(before, after):
        assert y.shape == (*size, 3)
        assert np.abs(255 - x.astype(int) - y).mean() < 3
    assert packets_of(tmp_path / "out.mp4") == packets_of(clip) != []
    assert not list(tmp_path.glob(".draft-*"))


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_stay_so(tmp_path, turned):
    like = av.open(str(write_clip(tmp_path / "clip.mp4", (48, 64)))).streams.video[0]
    stretched = SimpleNamespace(time_base=like.time_base, average_rate=like.average_rate,
                                height=48, width=64, sample_aspect_ratio=Fraction(4, 3))
    size = (64, 48) if turned else (48, 64)
    with Result(av, tmp_path / "out.mp4", stretched, size, None) as out:
        out.frame(np.zeros((*size, 3), np.uint8), 0)
    with av.open(str(tmp_path / "out.mp4")) as file:
        ratio = file.streams.video[0].sample_aspect_ratio
    assert ratio == (Fraction(3, 4) if turned else Fraction(4, 3))


def test_a_video_that_lies_is_turned(finished, negative, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    with av.open(str(clip)) as given, av.open(str(tmp_path / "lying.mp4"), "w") as file:
        stream = file.add_stream_from_template(given.streams.video[0])
        turn = av.BitStreamFilterContext("h264_metadata=rotate=90:display_orientation=insert",
                                         given.streams.video[0])
        for packet in given.demux(video=0):
            for turned in turn.filter(packet if packet.size else None):
                turned.stream = stream
                file.mux(turned)
    with av.open(str(tmp_path / "lying.mp4")) as file:
        assert abs(next(file.decode(video=0)).rotation) == 90
    words = ["translate", finished, tmp_path / "lying.mp4", tmp_path / "out.mp4"]
    assert main([str(word) for word in words]) == 0
    first = frames_of(tmp_path / "out.mp4")[0][1]
    assert first.shape == (64, 48, 3)
    assert first[-8:, :8].max() < 60 and first[:8, :8].min() > 200     # counterclockwise


def test_audio_that_the_result_cannot_hold_is_said(finished, negative, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mkv", sound="wavpack")
    assert main(["translate", str(finished), str(clip), str(tmp_path / "out.mp4")]) == 0
    assert f"{clip}: audio is left out" in capsys.readouterr().err
    assert [time for time, _ in frames_of(tmp_path / "out.mp4")] == TIMES


def test_a_folder_takes_the_clip_s_name_and_results_are_skipped(finished, negative, tmp_path,
                                                                capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    for _ in range(2):
        words = ["translate", finished, clip, tmp_path / "out", "--skip-existing"]
        assert main([str(word) for word in words]) == 0
    assert "1 result is there already" in capsys.readouterr().out and len(negative) == 7
    assert len(frames_of(tmp_path / "out/clip.mp4")) == 7


def test_half_a_result_never_stays(finished, tmp_path, monkeypatch):
    clip, seen = write_clip(tmp_path / "clip.mp4"), []

    def translate(model, x):
        seen.append(x)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return type("Translation", (), dict(fused=x))
    monkeypatch.setattr(command, "translate_whole", translate)
    assert main(["translate", str(finished), str(clip), str(tmp_path / "out.mp4")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("make, output, more, says", [
    (lambda clip: clip.write_bytes(b"no video" * 99), "out.mp4", [], "cannot be translated as a"),
    (lambda clip: clip.unlink(), "out.mp4", [], "no such video"),
    (lambda clip: None, "clip.mp4", [], "is the input"),
    (lambda clip: None, "out.png", [], "videos are written as .mp4"),
    (lambda clip: None, "out.mp4", ["--tile", 64], "are for pictures"),
])
def test_mistakes(finished, tmp_path, capsys, make, output, more, says):
    clip = write_clip(tmp_path / "clip.mp4")
    make(clip)
    assert says in mistake(capsys, "translate", finished, clip, tmp_path / output, *more)
    assert {path.name for path in tmp_path.iterdir()} <= {"clip.mp4"}


def test_without_the_package_a_message_says_what_to_install(finished, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    code = ("import sys; sys.modules['av'] = None; from semst.cli import main; "
            "sys.exit(main(sys.argv[1:]))")
    words = [sys.executable, "-c", code, "translate", finished, clip, tmp_path / "out.mp4"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 2 and 'pip install "semst[video]"' in done.stderr
