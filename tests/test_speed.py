"What a faster step may not change: its values, its crops, and the networks once it is over."
import functools
import signal
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from semst import runs, speed
from semst.data import InputError, UnpairedCrops, rng
from semst.runs import RunLog, read_log, train
from semst.synthetic.scenes import write_scenes
from semst.speed import CachedCrops, Recorded, Tape, compiled, recorded
from semst.trainer import Training, start_engine, train_step
from test_trainer import ONE, TWO, training

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for kind, size in (("horse", (100, 72)), ("zebra", (72, 90))):                 # one lying, one standing
        write_scenes(root / kind, kind, n=5, size=72, seed=0)
        for file in (root / kind / "images").iterdir(): Image.open(file).resize(size).save(file)
    return root / "horse/images", root / "zebra/images"


def same(a: dict, b: dict, rel=1e-5):
    assert a.keys() == b.keys()
    for name in a: assert a[name] == pytest.approx(b[name], rel=rel, abs=1e-6), name


@pytest.mark.parametrize("config", [ONE, replace(TWO, lambda_identity=1.0), replace(ONE, ts_embedder="momentum", lambda_nce=1.0)])
def test_a_step_with_a_tape_is_the_step_without(config):
    (plain, x, y), (taped, _, _) = training(config), training(config)
    taped.tape, seen = Tape(torch.device("cpu")), []
    for step in range(4):
        taped.tape.fill(step)
        same(plain.take(train_step, x, y), taped.take(train_step, x, y))
        if step % 2: taped.tape.look_ahead(step + 1)                       # the values of the next step, or, if nobody looked ahead, made by `fill`
        seen.append([v.clone() for v in taped.tape.buffers])
    assert len({len(buffers) for buffers in seen}) == 1                     # the first step asked for all of them
    for before, after in zip(seen, seen[1:]):                               # and every buffer of places holds new ones at each step
        assert not any(torch.equal(a, b) for a, b in zip(before, after) if a.ndim)


def test_everything_that_changes_from_step_to_step_is_on_the_tape():
    "Played from one tape's buffers, and with the step's number hidden, a step is still the right one: nothing else depends on it."
    config = replace(TWO, lambda_identity=1.0)
    (plain, x, y), (taped, _, _) = training(config), training(config)
    tape = Tape(torch.device("cpu"))
    for step in range(3):
        tape.fill(step)
        taped.tape = tape
        taped.step = 0 if step == 0 else 99                                  # a recording does not know what step it is
        values = train_step(taped, x, y)
        expected = plain.take(train_step, x, y)
        for name, value in values.items(): assert torch.as_tensor(value).item() == pytest.approx(expected[name], rel=1e-5, abs=1e-6), (step, name)


def test_tape_buffers_keep_their_places():
    tape = Tape(torch.device("cpu"))
    values = []
    for step in range(3):
        tape.fill(step)
        values.append((tape(lambda step: step / 2), tape(lambda step: torch.tensor([step, 1]))))
        assert values[-1][0].item() == step / 2 and values[-1][1].tolist() == [step, 1]
    assert values[0][0] is values[2][0] and values[0][1] is values[2][1]
    assert values[0][0].dtype == torch.float32 and values[0][1].dtype == torch.int64


def test_compiled_networks_compute_the_same_and_are_let_go(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    config = replace(TWO, lambda_identity=1.0, lr=1e-9)
    (plain, x, y), (t, _, _) = training(config), training(config)
    keys = list(t.networks.state_dict())
    with compiled(t):
        assert all(name in vars(t.model.branches["local"].generator) for name in ("encode", "decode")) and "forward" in vars(t.critic)
        for _ in range(2): same({k: v for k, v in plain.take(train_step, x, y).items() if "norm" not in k}, {k: v for k, v in t.take(train_step, x, y).items() if "norm" not in k}, rel=1e-3)
    assert list(t.networks.state_dict()) == keys
    assert not any("forward" in vars(m) or "encode" in vars(m) or "decode" in vars(m) for m in t.networks.modules())


def test_compiled_networks_keep_channels_last(monkeypatch):
    "Every norm under the compiler hands a picture on in the order in which it came."
    from semst.generator import InstanceNorm
    code = []
    def backend(gm, inputs):
        code.append(gm.code)
        return gm.forward
    torch._dynamo.reset()
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    norm = InstanceNorm()
    fast = torch.compile(norm, backend=backend)(x)
    assert "var_mean" in code[0] and "group_norm" not in code[0]                        # whose compiled form turns the picture over, on a GPU
    assert fast.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast, norm(x), atol=1e-5, rtol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_a_run_that_is_compiled_and_cached(folders, tmp_path, monkeypatch):
    "The same log but for rounding, also after a stop; the cache changes no bit."
    def stop(step, record):
        if step == 2: signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    asked, ask = [], runs.recorded
    monkeypatch.setattr(runs, "recorded", lambda training, play: asked.append(training.config.compile) or ask(training, play))
    config = replace(ONE, steps=4, lambda_identity=1.0, lr=1e-6)           # a larger one makes differences of rounding
    logs = {}
    for name, how in dict(plain={}, cached=dict(cache=True), compiled=dict(compile=True, cache=True)).items():
        if name == "compiled":
            with pytest.raises(KeyboardInterrupt): train(*folders, tmp_path / name, replace(config, **how), quiet=True, on_step=stop)
        model = train(*folders, tmp_path / name, replace(config, **how), quiet=True, resume=name == "compiled")
        logs[name] = [{k: v for k, v in record.items() if k != "images_per_second"} for record in read_log(tmp_path / name / "log.jsonl")]
        assert "encode" not in vars(model.branches["global"].generator)
    assert asked == [True, True]                                                        # a recording, where there is a GPU
    assert logs["plain"] == logs["cached"]
    for a, b in zip(logs["plain"], logs["compiled"]): same({k: v for k, v in a.items() if "norm" not in k}, {k: v for k, v in b.items() if "norm" not in k}, rel=5e-3)
    assert len(logs["compiled"]) == 4 and (tmp_path / "compiled/samples/step_00000003.png").exists()


def test_samples_are_not_compiled(folders, tmp_path, monkeypatch):
    "Pictures of many sizes would each be compiled anew."
    compilations, during = [], []
    def backend(gm, inputs):
        compilations.append(len(inputs))
        return gm.forward
    draw = RunLog.samples
    def samples(self, *args):
        before = len(compilations)
        draw(self, *args)
        during.append(len(compilations) - before)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(RunLog, "samples", samples)
    torch._dynamo.reset()
    train(*folders, tmp_path / "r", replace(TWO, steps=2, sample_every=1, compile=True), quiet=True)
    assert compilations and during == [0, 0]


def test_cached_crops_are_the_same_crops(folders):
    for how in (dict(crop=32, load_size=40), dict(crop=64, load_size=72, resize="none"), dict(crop=32, load_size=32, flip=False, seed=3)):
        plain = UnpairedCrops(*folders, **how)
        cached = CachedCrops(plain, torch.device("cpu"))
        assert cached.files is plain.files and len(cached.pictures) == 10 and all(p.dtype == torch.uint8 for p in cached.pictures.values())
        for sample in range(12):
            a, b = plain[sample], cached[sample]
            assert a.keys() == b.keys()
            for key in a: assert torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key]


def test_a_cached_run_starts_no_loader_processes(folders, tmp_path, monkeypatch):
    "They would each hold a copy, and could not share what lies on a GPU."
    seen = []
    class Loader(runs.DataLoader):
        def __init__(self, *a, num_workers, **k):
            seen.append(num_workers)
            super().__init__(*a, num_workers=0, **{k: v for k, v in k.items() if k != "worker_init_fn"})
    monkeypatch.setattr(runs, "DataLoader", Loader)
    for cache in (True, False): train(*folders, tmp_path / str(cache), replace(ONE, steps=1, workers=2, cache=cache), quiet=True)
    assert seen == [0, 2]


def test_a_damaged_image_is_named_before_anything_is_written(folders, tmp_path):
    copy = tmp_path / "source"
    copy.mkdir()
    for file in folders[0].iterdir(): (copy / file.name).write_bytes(file.read_bytes())
    bad = sorted(copy.iterdir())[3]
    bad.write_bytes(bad.read_bytes()[:-2000])
    with pytest.raises(InputError, match=f"{bad.name}: cannot be decoded"): train(copy, folders[1], tmp_path / "r", replace(ONE, cache=True), quiet=True)
    assert not (tmp_path / "r").exists()


def test_a_damaged_image_ends_the_reading_at_once(folders, monkeypatch):
    started = []
    def slow(self, file):
        started.append(file)
        if file.name == "000.png": raise InputError("the first one")
        time.sleep(0.05)
        return Image.new("RGB", (40, 40))
    data = UnpairedCrops(*folders, 32, 40)
    data.files = {"source": [Path(f"{i:03d}.png") for i in range(400)], "target": []}
    monkeypatch.setattr(UnpairedCrops, "read", slow)
    with pytest.raises(InputError, match="the first one"): CachedCrops(data, torch.device("cpu"))
    assert len(started) < 100


def test_the_cache_leaves_warnings_as_they_were(folders):
    "Opening an image changes their filters for a moment, and threads do not take turns."
    before = list(warnings.filters)
    for _ in range(5): CachedCrops(UnpairedCrops(*folders, 32, 40), torch.device("cpu"))
    assert list(warnings.filters) == before


def test_a_run_that_is_refused_reads_no_image(folders, tmp_path, monkeypatch):
    train(*folders, tmp_path / "r", replace(ONE, steps=1), quiet=True)
    monkeypatch.setattr(runs, "CachedCrops", lambda *_: pytest.fail("images were read"))
    with pytest.raises(InputError, match="already holds a run"): train(*folders, tmp_path / "r", replace(ONE, steps=1, cache=True), quiet=True)


def test_what_is_recorded():
    class Engine: device, num_processes = torch.device("cuda"), 1
    class Stand: config, accelerator = ONE, Engine
    made = []
    class Tell(Recorded):
        def __init__(self, training, play): made.append(play)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "Recorded", Tell)
        assert isinstance(recorded(Stand, train_step), Tell) and made == [train_step]
        for change in (dict(mirror=True), dict(lambda_scc=1.0)):
            Stand.config = replace(ONE, **change)
            assert recorded(Stand, train_step) is train_step
        Stand.config = ONE
        for change in (dict(num_processes=2), dict(device=torch.device("cpu"))):
            Stand.accelerator = type("Other", (Engine,), change)
            assert recorded(Stand, train_step) is train_step


@CUDA
@pytest.mark.parametrize("config", [ONE, replace(TWO, lambda_identity=1.0), replace(ONE, ts_embedder="momentum", batch_size=2)])
def test_a_recorded_step_is_the_step(config):
    (plain, x, y), (t, _, _) = training(replace(config, lr=1e-6)), training(replace(config, lr=1e-6, compile=True))      # which readies Adam for it
    play = Recorded(t, train_step)
    x, y = x.cuda(), y.cuda()
    for step in range(7):
        pictures = (x.roll(step, -1), y.roll(step, -1))
        a, b = plain.take(train_step, *pictures), t.take(play, *pictures)
        same({k: v for k, v in a.items() if "norm" not in k}, {k: v for k, v in b.items() if "norm" not in k}, rel=1e-3)
    assert play.graph
    for a, b in zip(plain.translator.parameters(), t.translator.parameters(), strict=True): torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)    # the average follows replays, too
