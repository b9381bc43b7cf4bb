"What a faster step may not change: its values, its crops, and the networks once it is over."
import functools
import os
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from semst import batches, speed
from semst import training as runs
from semst.data import InputError, UnpairedCrops
from semst.hooks import Samples
from semst.model import SemST
from semst.inputs import step_inputs
from semst.run_folder import read_log
from semst.synthetic.scenes import write_scenes
from semst.speed import (
    CachedCrops, Recorded, compiled, fast_step, leaves, refill, to_buffers)
from semst.trainer import SEMST, train_step
from test_runs import Interrupt, run
from test_trainer import ONE, TWO, take, training

CUDA = pytest.mark.skipif(
    not torch.cuda.is_available() or os.environ["ACCELERATE_USE_CPU"] != "false",
    reason="needs a GPU, and ACCELERATE_USE_CPU=false")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    # one lying, one standing
    for kind, size in (("horse", (100, 72)), ("zebra", (72, 90))):
        write_scenes(root / kind, kind, n=5, size=72, seed=0)
        for file in (root / kind / "images").iterdir():
            Image.open(file).resize(size).save(file)
    return root / "horse/images", root / "zebra/images"


def same(a: dict, b: dict, rel=1e-5):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=rel, abs=1e-6), name


@pytest.mark.parametrize(
    "config",
    [ONE, TWO.replace(lambda_identity=1.0), ONE.replace(ts_embedder="momentum", lambda_nce=1.0)],
)
def test_a_step_from_buffers_is_the_step(config):
    "A recording does not know its step: all that changes from step to step is in the buffers."
    (plain, x, y), (buffered, _, _) = training(config), training(config)
    buffers, seen = to_buffers(step_inputs(config, 10, 0), torch.device("cpu")), []
    for step in range(4):
        inputs = step_inputs(config, 10, step)
        refill(buffers, inputs)
        buffered.step = 99
        values = buffered.numbers(train_step(buffered, x, y, buffers))
        same(plain.numbers(train_step(plain, x, y, inputs)), values)
        seen.append([v.clone() for v in leaves(buffers)])
    for a, b in zip(plain.translator.parameters(), buffered.translator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    # every buffer of places holds new ones at each step
    for before, after in zip(seen, seen[1:]):
        assert not any(torch.equal(a, b) for a, b in zip(before, after) if a.ndim)


def test_buffers_keep_their_places():
    buffers = to_buffers(step_inputs(TWO, 10, 0), torch.device("cpu"))
    before = [v.data_ptr() for v in leaves(buffers)]
    refill(buffers, step_inputs(TWO, 10, 5))
    assert before == [v.data_ptr() for v in leaves(buffers)]
    assert buffers.gamma.item() == pytest.approx(step_inputs(TWO, 10, 5).gamma)


def test_compiled_networks_compute_the_same_and_are_let_go(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    config = TWO.replace(lambda_identity=1.0, lr=1e-9)
    (plain, x, y), (t, _, _) = training(config), training(config)
    keys = list(t.networks.state_dict())
    with compiled(t):
        assert all(name in vars(t.model.local_branch.generator) for name in ("encode", "decode"))
        assert "forward" in vars(t.networks["discriminator"])
        for _ in range(2):
            same(
                {k: v for k, v in take(plain, x, y).items() if "norm" not in k},
                {k: v for k, v in take(t, x, y).items() if "norm" not in k},
                rel=1e-3,
            )
    assert list(t.networks.state_dict()) == keys
    assert not any(
        "forward" in vars(m) or "encode" in vars(m) or "decode" in vars(m)
        for m in t.networks.modules()
    )


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
    # whose compiled form turns the picture over, on a GPU
    assert "var_mean" in code[0] and "group_norm" not in code[0]
    assert fast.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast, norm(x), atol=1e-5, rtol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_a_run_that_is_compiled_and_cached(folders, tmp_path, monkeypatch):
    "The same log but for rounding, also after a stop; the cache changes no bit."
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    asked, ask = [], runs.fast_step
    monkeypatch.setattr(
        runs, "fast_step", lambda state: asked.append(state.config.run.compile) or ask(state)
    )
    # a larger one makes differences of rounding
    config = ONE.replace(steps=4, lambda_identity=1.0, lr=1e-6)
    logs = {}
    for name, how in dict(
        plain={}, cached=dict(cache=True), compiled=dict(compile=True, cache=True)
    ).items():
        if name == "compiled":
            with pytest.raises(KeyboardInterrupt):
                run(folders, tmp_path / name, config.replace(**how), hooks=[Interrupt(2)])
        model = run(folders, tmp_path / name, config.replace(**how), resume=name == "compiled")
        logs[name] = [
            {k: v for k, v in record.items() if k != "images_per_second"}
            for record in read_log(tmp_path / name / "log.jsonl")
        ]
        assert "encode" not in vars(model.global_branch.generator)
    # a recording, where there is a GPU
    assert asked == [False, False, True, True]
    assert logs["plain"] == logs["cached"]
    for a, b in zip(logs["plain"], logs["compiled"]):
        same(
            {k: v for k, v in a.items() if "norm" not in k},
            {k: v for k, v in b.items() if "norm" not in k},
            rel=5e-3,
        )
    assert len(logs["compiled"]) == 4 and (tmp_path / "compiled/samples/step_00000003.png").exists()


def test_samples_are_not_compiled(folders, tmp_path, monkeypatch):
    "Pictures of many sizes would each be compiled anew."
    compilations, during = [], []
    def backend(gm, inputs):
        compilations.append(len(inputs))
        return gm.forward
    draw = Samples.step
    def samples(self, *args):
        before = len(compilations)
        draw(self, *args)
        during.append(len(compilations) - before)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(Samples, "step", samples)
    torch._dynamo.reset()
    run(folders, tmp_path / "r", TWO.replace(steps=2, sample_every=1, compile=True))
    assert compilations and during == [0, 0]


def test_cached_crops_are_the_same_crops(folders):
    for how in (
        dict(crop=32, load_size=40),
        dict(crop=64, load_size=72, resize="none"),
        dict(crop=32, load_size=32, flip=False, seed=3),
        dict(crop=32, load_size=40, channels=(1, 3)),
    ):
        plain = UnpairedCrops(*folders, **how)
        cached = CachedCrops(plain, torch.device("cpu"))
        assert cached.files is plain.files
        assert len(cached.pictures) == 10
        assert all(p.dtype == torch.uint8 for p in cached.pictures.values())
        for sample in range(12):
            a, b = plain[sample], cached[sample]
            assert a.keys() == b.keys()
            for key in a:
                if isinstance(a[key], torch.Tensor):
                    assert torch.equal(a[key], b[key])
                else:
                    assert a[key] == b[key]


def test_a_cached_run_starts_no_loader_processes(folders, tmp_path, monkeypatch):
    "They would each hold a copy, and could not share what lies on a GPU."
    seen = []
    class Loader(batches.DataLoader):
        def __init__(self, *a, num_workers, **k):
            seen.append(num_workers)
            super().__init__(
                *a, num_workers=0, **{k: v for k, v in k.items() if k != "worker_init_fn"}
            )

    monkeypatch.setattr(batches, "DataLoader", Loader)
    for cache in (True, False):
        run(folders, tmp_path / str(cache), ONE.replace(steps=1, workers=2, cache=cache))
    assert seen == [0, 2]


def test_a_damaged_image_is_named_before_anything_is_written(folders, tmp_path):
    copy = tmp_path / "source"
    copy.mkdir()
    for file in folders[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    bad = sorted(copy.iterdir())[3]
    bad.write_bytes(bad.read_bytes()[:-2000])
    with pytest.raises(InputError, match=f"{bad.name}: cannot be decoded"):
        run((copy, folders[1]), tmp_path / "r", ONE.replace(cache=True))
    assert not (tmp_path / "r").exists()


def test_a_damaged_image_ends_the_reading_at_once(folders, monkeypatch):
    started = []
    def slow(self, file, channels):
        started.append(file)
        if file.name == "000.png":
            raise InputError("the first one")
        time.sleep(0.05)
        return np.zeros((40, 40, channels), np.uint8)
    data = UnpairedCrops(*folders, 32, 40)
    data.files = {"source": [Path(f"{i:03d}.png") for i in range(400)], "target": []}
    monkeypatch.setattr(UnpairedCrops, "pixels", slow)
    with pytest.raises(InputError, match="the first one"):
        CachedCrops(data, torch.device("cpu"))
    assert len(started) < 100


def test_the_cache_leaves_warnings_as_they_were(folders):
    "Opening an image changes their filters for a moment, and threads do not take turns."
    before = list(warnings.filters)
    for _ in range(5):
        CachedCrops(UnpairedCrops(*folders, 32, 40), torch.device("cpu"))
    assert list(warnings.filters) == before


def test_a_run_that_is_refused_reads_no_image(folders, tmp_path, monkeypatch):
    run(folders, tmp_path / "r", ONE.replace(steps=1))
    monkeypatch.setattr(runs, "CachedCrops", lambda *_: pytest.fail("images were read"))
    with pytest.raises(InputError, match="already holds a run"):
        run(folders, tmp_path / "r", ONE.replace(steps=1, cache=True))


def test_what_is_recorded(monkeypatch):
    class Engine:
        device, num_processes = torch.device("cuda"), 1
    class State:
        config, accelerator, method = ONE.replace(compile=True), Engine, SEMST
        networks = torch.nn.ModuleDict(dict(semst=SemST(ONE.model)))

    class Mine(torch.nn.Module):
        "A network of our own."
    made = []

    class Tell(Recorded):
        def __init__(self, step):
            made.append(step)
    monkeypatch.setattr(speed, "Recorded", Tell)
    assert isinstance(fast_step(State), Tell) and made == [train_step]
    for change in (dict(mirror=True), dict(lambda_scc=1.0), dict(compile=False)):
        State.config = ONE.replace(compile=True).replace(**change)
        assert fast_step(State) is train_step
    State.config = ONE.replace(compile=True)
    State.method = SEMST._replace(losses=SEMST.losses | dict(mine=lambda c: None))   # our own
    assert fast_step(State) is train_step
    State.method = SEMST
    State.networks = torch.nn.ModuleDict(dict(semst=SemST(ONE.model), mine=Mine()))
    assert fast_step(State) is train_step
    del State.networks["mine"]
    assert isinstance(fast_step(State), Tell)
    for change in (dict(num_processes=2), dict(device=torch.device("cpu"))):
        State.accelerator = type("Other", (Engine,), change)
        assert fast_step(State) is train_step


@CUDA
@pytest.mark.parametrize(
    "config",
    [ONE, TWO.replace(lambda_identity=1.0), ONE.replace(ts_embedder="momentum", batch_size=2)],
)
def test_a_recorded_step_is_the_step(config):
    # which readies Adam for it
    (plain, x, y), (t, _, _) = (
        training(config.replace(lr=1e-6)),
        training(config.replace(lr=1e-6, compile=True)),
    )
    step = Recorded(train_step)
    x, y = x.cuda(), y.cuda()
    for n in range(7):
        pictures = (x.roll(n, -1), y.roll(n, -1))
        a, b = take(plain, *pictures), take(t, *pictures, step)
        same(
            {k: v for k, v in a.items() if "norm" not in k},
            {k: v for k, v in b.items() if "norm" not in k},
            rel=1e-3,
        )
    assert step.graph
    for a, b in zip(plain.translator.parameters(), t.translator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)    # the average follows replays, too


def test_a_replay_says_that_it_is_inside_a_step():
    "So an error in it saves no checkpoint; a graph runs no Python that would say so."
    state, x, y = training(ONE)
    step = Recorded.__new__(Recorded)                      # its constructor needs a GPU
    step.graph, step.values = SimpleNamespace(replay=lambda: None), {}
    step.x_src, step.y_tgt = x.clone(), y.clone()
    step.inputs = to_buffers(step_inputs(ONE, 10, 0), torch.device("cpu"))
    assert state.whole
    step(state, x, y, step_inputs(ONE, 10, 1))
    assert not state.whole
