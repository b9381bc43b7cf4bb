"A run: what is saved, what stops it, that stopping costs nothing, and that processes agree."
import contextlib
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from filelock import Timeout
from PIL import Image
from safetensors.torch import load_file
from test_trainer import ONE, TWO

import semst.hooks
import semst.training
from semst.batches import LoaderDied, ignore_signals, readable
from semst.checkpoint import check_shapes, last_checkpoint, load_checkpoint, on_schedule
from semst.cli import explain
from semst.data import InputError, UnpairedCrops
from semst.hooks import Alarms, Checkpoints, Hook, Live, Log, Progress, default_hooks
from semst.methods import METHODS, OBJECTIVES, PRESETS
from semst.model import SemST, translate_whole
from semst.pretrained import checkpoints, find_weights
from semst.run_folder import fingerprint, read_log, run_lock, same_images
from semst.synthetic.scenes import write_scenes
from semst.state import TrainState
from semst.training import Alarmed, NonFiniteLoss, train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    for kind in ("horse", "zebra"):
        write_scenes(root / kind, kind, 5, 72, 0)
    return root / "horse" / "images", root / "zebra" / "images"


class Interrupt(Hook):
    "Sends Ctrl-C after a step."
    def __init__(self, at):
        self.at = at

    def step(self, training, record):
        if training.state.step == self.at:
            signal.raise_signal(signal.SIGINT)


class OnStep(Hook):
    "Calls a function with the training and the record."
    def __init__(self, call, at=None):
        self.call, self.at = call, at

    def step(self, training, record):
        if self.at in (None, training.state.step):
            self.call(training, record)


def fail(training, record):
    raise RuntimeError("power cut")


def run(folders, out, config, hooks=(), **more):
    "Train without a bar; `hooks` come after the default ones."
    return train(folders, out, config, hooks=default_hooks(progress=False) + list(hooks), **more)

def weights(out):
    return {
        f"{f.name}/{k}": v
        for f in last_checkpoint(out).glob("*.safetensors")
        for k, v in load_file(f).items()
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert torch.equal(a[k], b[k]), k


@pytest.mark.parametrize(
    "config",
    [ONE, TWO, TWO.replace(ts_embedder="momentum", lambda_identity=1.0, batch_size=2)],
    ids=["one scale", "two scales", "momentum"],
)
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(folders, tmp_path, config):
    run(folders, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 2 of 6"):
        run(folders, tmp_path / "halves", config, hooks=[Interrupt(2)])
    assert last_checkpoint(tmp_path / "halves").name == "step_00000002"
    run(folders, tmp_path / "halves", config, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    steps = [record["step"] for record in read_log(tmp_path / "halves/log.jsonl")]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_stop_costs_no_checkpoint_on_schedule(folders, tmp_path):
    config = ONE.replace(steps=8, checkpoint_every=2, keep=4)
    there = lambda: [int(c.name[5:]) for c in checkpoints(tmp_path / "r")]
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "r", config, hooks=[Interrupt(5)])
    assert there() == [2, 4, 5]
    assert [c.name for c in on_schedule(tmp_path / "r")] == ["step_00000002", "step_00000004"]
    shutil.copytree(tmp_path / "r", tmp_path / "other")
    run(folders, tmp_path / "r", config, resume=True)
    assert there() == [2, 4, 6, 8]
    # what was due when it was written stays
    run(folders, tmp_path / "other", config.replace(checkpoint_every=7), resume=True)
    assert [int(c.name[5:]) for c in checkpoints(tmp_path / "other")] == [2, 4, 7, 8]
    state = tmp_path / "other/checkpoints/step_00000007/state.json"
    state.write_text(
        json.dumps({k: v for k, v in json.loads(state.read_text()).items() if k != "scheduled"})
    )
    # of runs from before they were told apart
    assert len(on_schedule(tmp_path / "other")) == 4


def test_the_clock_asks_for_a_checkpoint_that_goes_with_the_next(folders, tmp_path, monkeypatch):
    seen = []
    look = OnStep(lambda *_: seen.append([int(c.name[5:]) for c in checkpoints(tmp_path / "r")]))
    hooks = [Alarms(), Checkpoints(seconds=0), look]                       # no step is to be lost
    train(folders, tmp_path / "r", ONE.replace(steps=7, checkpoint_every=3, keep=2), hooks=hooks)
    assert seen == [[1], [1, 2], [3], [3, 4], [3, 4, 5], [3, 6], [6, 7]]


def test_the_clock_begins_anew_with_every_checkpoint(folders, tmp_path, monkeypatch):
    now, seen = [0.0], []
    def clock():
        now[0] += 1e-3
        return now[0]
    def hundred_seconds(training, record):
        now[0] += 100
        seen.append([int(c.name[5:]) for c in checkpoints(tmp_path / "r")])
    monkeypatch.setattr(semst.hooks.time, "perf_counter", clock)
    hooks = [Checkpoints(seconds=250), OnStep(hundred_seconds)]
    train(folders, tmp_path / "r", ONE.replace(steps=7, checkpoint_every=100, keep=1), hooks=hooks)
    assert seen == [[], [], [], [4], [4], [4], [7]]


def test_an_error_in_a_hook_leaves_a_checkpoint_of_the_last_whole_step(folders, tmp_path):
    run(folders, tmp_path / "whole", ONE)
    with pytest.raises(RuntimeError):
        run(folders, tmp_path / "cut", ONE, hooks=[OnStep(fail, at=5)])
    assert last_checkpoint(tmp_path / "cut").name == "step_00000005"
    run(folders, tmp_path / "cut", ONE, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert [r["step"] for r in read_log(tmp_path / "cut/log.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_an_error_inside_a_step_saves_nothing_of_it(folders, tmp_path, monkeypatch):
    run(folders, tmp_path / "whole", ONE)
    follow = semst.training.TrainState.update_average

    def broken(state, inputs):
        if state.step == 4:
            # both networks have moved, the average has not
            raise RuntimeError("power cut")
        follow(state, inputs)
    monkeypatch.setattr(semst.training.TrainState, "update_average", broken)
    with pytest.raises(RuntimeError):
        run(folders, tmp_path / "cut", ONE.replace(checkpoint_every=3))
    assert last_checkpoint(tmp_path / "cut").name == "step_00000003"
    monkeypatch.undo()
    run(folders, tmp_path / "cut", ONE.replace(checkpoint_every=3), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_hook_can_stop_and_hooks_are_ended(folders, tmp_path):
    heard = []

    class Told(Hook):
        def start(self, training):
            heard.append("start")
        def checkpoint(self, training, folder):
            heard.append(folder.name)
        def end(self, training):
            heard.append("end")
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 of 6"):
        run(
            folders,
            tmp_path / "r",
            ONE,
            hooks=[Told(), OnStep(lambda training, _: training.stop(), at=3)],
        )
    assert heard == ["start", "step_00000002", "end", "step_00000003"]


def test_a_resumed_run_may_become_longer_and_says_so(folders, tmp_path, capsys):
    run(folders, tmp_path / "r", ONE.replace(steps=4))
    train(folders, tmp_path / "r", ONE.replace(steps=8), hooks=default_hooks(), resume=True)
    assert "was to have 4 steps and has 8 now" in capsys.readouterr().err
    log = read_log(tmp_path / "r/log.jsonl")
    assert [r["step"] for r in log] == list(range(1, 9))
    # of the new length
    assert log[3]["lr"] == pytest.approx(1e-4, rel=1e-3)
    assert log[4]["lr"] == pytest.approx(2e-4, rel=1e-3)
    assert json.loads((tmp_path / "r/config.json").read_text())["steps"] == 8


class Noise(torch.utils.data.Dataset):
    "Pairs that are no files."
    def __len__(self):
        return 5
    def __getitem__(self, i):
        noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i))
        return (2 * noise - 1).unbind()


@pytest.mark.parametrize("hooks, left", [
    ([Checkpoints()], "the last good checkpoint is .*step_00000003: go on from it with --resume"),
    ([], "there is no checkpoint$"),
])
def test_a_stop_names_the_checkpoint_that_there_is(folders, tmp_path, hooks, left):
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step 3 of 6; {left}"):
        train(folders, tmp_path / "r", ONE, hooks=[Interrupt(3), *hooks])


class Torn(Noise):
    "Pairs that cannot be loaded once it is `torn`."
    torn = False

    def __getitem__(self, i):
        if self.torn:
            raise RuntimeError("power cut")
        return super().__getitem__(i)


@pytest.mark.parametrize("log_is_first", [False, True])
def test_an_error_of_the_loader_leaves_a_checkpoint_in_any_order_of_hooks(tmp_path, log_is_first):
    "Hooks end in the reverse order: behind `Checkpoints`, the log is closed before it."
    pairs = Torn()
    hooks = [Checkpoints(), Log()]
    hooks = [*(hooks[::-1] if log_is_first else hooks),
             OnStep(lambda *_: setattr(pairs, "torn", True), at=3)]
    with pytest.raises(RuntimeError, match="power cut"):
        train(pairs, tmp_path / "r", ONE, hooks=hooks)
    assert last_checkpoint(tmp_path / "r").name == "step_00000003"


def test_the_log_is_on_the_disk_before_a_checkpoint(folders, tmp_path, monkeypatch):
    done, save = [], semst.hooks.save_checkpoint
    monkeypatch.setattr(semst.hooks, "flush", lambda path: done.append(path.name))

    def saved(state, *rest):
        done.append(state.step)
        return save(state, *rest)
    monkeypatch.setattr(semst.hooks, "save_checkpoint", saved)
    train(folders, tmp_path / "r", ONE.replace(steps=2), hooks=[Log(), Checkpoints()])
    assert done == ["log.jsonl", 2]


def test_any_dataset_of_pairs_trains_and_resumes(tmp_path):
    run(Noise(), tmp_path / "whole", ONE)
    with pytest.raises(KeyboardInterrupt):
        run(Noise(), tmp_path / "halves", ONE, hooks=[Interrupt(2)])
    run(Noise(), tmp_path / "halves", ONE, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    with pytest.raises(InputError, match="began with other data|others by name"):
        run(
            torch.utils.data.TensorDataset(torch.zeros(5, 3, 32, 32), torch.zeros(5, 3, 32, 32)),
            tmp_path / "halves",
            ONE,
            resume=True,
        )


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_other_channel_counts_train_and_translate(tmp_path, channels):
    pairs = torch.utils.data.TensorDataset(*torch.rand(2, 5, channels, 32, 32).mul(2).sub(1))
    config = ONE.replace(steps=2, in_channels=channels, out_channels=channels, lambda_identity=1.0)
    run(pairs, tmp_path / "r", config)
    model = SemST.from_pretrained(tmp_path / "r")
    x = torch.zeros(1, channels, 40, 36)
    assert translate_whole(model, x).fused.shape == x.shape


def test_channel_counts_that_differ_need_a_method_without_contrast(tmp_path):
    with pytest.raises(InputError, match="lambda_hdce compares source and translation"):
        ONE.replace(out_channels=1)
    x, y = torch.rand(5, 3, 32, 32), torch.rand(5, 1, 32, 32)
    config = ONE.replace(
        steps=2, out_channels=1, **OBJECTIVES["cyclegan"] | dict(lambda_identity=0.0)
    )
    model = run(torch.utils.data.TensorDataset(x, y), tmp_path / "r", config)
    assert translate_whole(model, x[:1]).fused.shape == (1, 1, 32, 32)


def test_a_foreign_folder_is_not_taken_over(folders, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/config.json").write_text("{}")
    (tmp_path / "theirs/log.jsonl").write_text("precious")
    with pytest.raises(InputError, match="config.json: is damaged"):
        run(folders, tmp_path / "theirs", ONE)
    (tmp_path / "theirs/thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="holds thesis.tex, which is no run's"):
        run(folders, tmp_path / "theirs", ONE)
    assert (tmp_path / "theirs/log.jsonl").read_text() == "precious"


def test_workers_do_not_change_the_result(folders, tmp_path):
    for n in (0, 2):
        run(folders, tmp_path / str(n), ONE.replace(workers=n))
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_the_seed_does(folders, tmp_path):
    for s in (0, 1):
        run(folders, tmp_path / str(s), ONE.replace(seed=s, steps=1))
    a, b = weights(tmp_path / "0"), weights(tmp_path / "1")
    assert not torch.equal(
        a["semst.safetensors/global_branch.generator.model.1.weight"],
        b["semst.safetensors/global_branch.generator.model.1.weight"],
    )


def launch(
    folders, out, settings, step=None, then="pass", resume=False, alone=1
) -> subprocess.CompletedProcess:
    "Train in two processes over gloo on the CPU; after step `step`, one process does `then`."
    script = out.parent / "go.py"
    script.write_text(f"""
import signal, sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from accelerate import PartialState
from test_trainer import TWO
import semst.training
from semst.training import Training, train
step = Training.step
def and_then(training, batch):
    record = step(training, batch)
    if training.state.step == {step} and PartialState().process_index == {alone}: {then}
    return record
Training.step = and_then
from semst.hooks import default_hooks
config = TWO.replace(batch_size=2, {settings})
hooks = default_hooks(progress=False)
try:
    train({[str(f) for f in folders]!r}, {str(out)!r}, config, hooks=hooks, resume={resume})
except KeyboardInterrupt as stopped:
    print(stopped, flush=True)
assert PartialState().num_processes == 2
""")
    words = "torch.distributed.run --standalone --nproc_per_node 2".split()
    return subprocess.run(
        [sys.executable, "-m", *words, script],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def test_an_alarm_ends_both_processes_for_the_same_reason(folders, tmp_path):
    "The hooks of process 0 alone hear it; process 1 must not end like one that was interrupted."
    done = launch(folders, tmp_path / "run", "steps=4", 2, "training.stop('the alarm')", alone=0)
    assert done.returncode == 1 and "stopped at step 2 of 4" not in done.stdout
    assert done.stderr.count("Alarmed: stopped at step 2 of 4 by the alarm") == 2


def test_two_processes_share_a_batch_like_one(folders, tmp_path):
    "One batch over both, the same gradients up to rounding, one log; every term has a weight."
    run(
        folders,
        tmp_path / "one",
        TWO.replace(batch_size=2, steps=1, ts_warmup=0.0, lambda_identity=1.0),
    )
    done = launch(folders, tmp_path / "two", "steps=1, ts_warmup=0.0, lambda_identity=1.0")
    assert done.returncode == 0, done.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    # Adam's first moment after one step is half of the gradient
    for role in ("generator", "discriminator"):
        moments = [
            k
            for k in a
            if k.startswith(f"optimizers.safetensors/{role}.") and k.endswith(".exp_avg")
        ]
        largest = max(float(a[k].abs().max()) for k in moments)
        for k in moments:
            # biases before a norm have gradient 0; D's last bias is a small rest of large terms
            torch.testing.assert_close(
                a[k], b[k], rtol=1e-3, atol=5e-6 + 1e-3 * float(a[k].abs().max()) + 1e-6 * largest
            )
    one, two = (read_log(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 1                                  # one log, not two
    assert one[0]["ts_weight"] == 1 and one[0]["identity_local"] > 0
    for name in set(one[0]) - {"images_per_second"}:
        # of the whole batch, not of a half
        assert one[0][name] == pytest.approx(two[0][name], rel=2e-4, abs=1e-6), name


def test_a_signal_to_one_process_stops_both_and_one_process_goes_on(folders, tmp_path):
    done = launch(
        folders, tmp_path / "run", "steps=5", step=2, then="signal.raise_signal(signal.SIGTERM)"
    )
    assert done.returncode == 0 and done.stdout.count("stopped at step 2 of 5") == 2, done.stderr
    assert last_checkpoint(tmp_path / "run").name == "step_00000002"
    five = TWO.replace(batch_size=2, steps=5)
    run(folders, tmp_path / "run", five, resume=True)
    run(folders, tmp_path / "whole", five)
    ours, whole = (read_log(tmp_path / name / "log.jsonl") for name in ("run", "whole"))
    assert [r["step"] for r in ours] == [r["step"] for r in whole] == [1, 2, 3, 4, 5]
    for a, b in zip(ours, whole):
        for name in ("d_loss", "gan", "hdce_global", "hdce_local", "texture_global"):
            assert a[name] == pytest.approx(b[name], rel=5e-3), (a["step"], name)


def test_one_process_begins_and_two_go_on(folders, tmp_path):
    five = TWO.replace(batch_size=2, steps=5, lambda_identity=1.0)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "run", five, hooks=[Interrupt(2)])
    done = launch(folders, tmp_path / "run", "steps=5, lambda_identity=1.0", resume=True)
    assert done.returncode == 0, done.stderr
    run(folders, tmp_path / "whole", five)
    ours, whole = (read_log(tmp_path / name / "log.jsonl") for name in ("run", "whole"))
    assert [r["step"] for r in ours] == [1, 2, 3, 4, 5]
    for a, b in zip(ours, whole):
        for name in (
            "d_loss", "gan", "hdce_global", "hdce_local", "texture_global", "identity_local",
        ):
            assert a[name] == pytest.approx(b[name], rel=5e-3), (a["step"], name)


def test_a_loss_that_is_not_finite_in_one_process_ends_both_and_names_all_images(folders, tmp_path):
    spoil = (
        "import semst.trainer as t; right = t.generator_loss; "
        "t.generator_loss = lambda *a: right(*a) * float('nan')"
    )
    done = launch(folders, tmp_path / "run", "steps=9", step=2, then=spoil)
    assert done.returncode != 0
    message = next(part for part in done.stderr.split("NonFiniteLoss: ")[1:])
    assert message.startswith("step 3: ") and "gan = nan" in message
    # two of each domain: both halves of the batch
    assert message.split("images: ")[1].split("\n")[0].count(".png") == 4
    assert last_checkpoint(tmp_path / "run").name == "step_00000002"


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(folders, tmp_path):
    def poison(training, record):
        training.state.model.global_branch.generator.model[1].weight.data.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss) as stop:
        run(folders, tmp_path / "r", ONE, hooks=[OnStep(poison, at=4)])
    message = str(stop.value)
    assert "step 5" in message
    assert "gan = nan" in message
    assert ".png" in message
    assert "step_00000004" in message
    assert all(v.isfinite().all() for v in weights(tmp_path / "r").values())


def test_a_run_keeps_its_settings_and_images(folders, tmp_path):
    run(folders, tmp_path / "r", ONE.replace(steps=2))
    with pytest.raises(InputError, match="already holds a run"):
        run(folders, tmp_path / "r", ONE.replace(steps=2))
    with pytest.raises(InputError, match="began with lr = 0.0002, not 0.001"):
        run(folders, tmp_path / "r", ONE.replace(steps=2, lr=1e-3), resume=True)
    with pytest.raises(
        InputError,
        match="not those that .* began with: their names agree, but most sizes do not",
    ):
        run((folders[1], folders[1]), tmp_path / "r", ONE.replace(steps=2), resume=True)
    with pytest.raises(InputError, match="not a run"):
        run(folders, tmp_path / "none", ONE, resume=True)


def test_a_damaged_image_is_named_before_the_first_step(folders, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(folders[0], bad)
    victim = sorted(bad.iterdir())[4]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(InputError, match=victim.name):
        run((bad, folders[1]), tmp_path / "r", ONE)
    assert not (tmp_path / "r").exists()


def test_a_good_copy_of_other_size_may_take_the_place_of_a_damaged_image(folders, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(folders[0], images)
    config = ONE.replace(steps=2, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        run((images, folders[1]), tmp_path / "r", config, hooks=[Interrupt(1)])
    victim = sorted(images.iterdir())[0]
    Image.open(victim).rotate(90).save(victim, compress_level=0)
    with pytest.warns(UserWarning, match=f"{images}: some images have other sizes in bytes"):
        run((images, folders[1]), tmp_path / "r", config, resume=True)
    victim.unlink()
    with pytest.raises(
        InputError,
        match=r"the images are not those that .* began with \(others by name; 5 then, 4 now\)",
    ):
        run((images, folders[1]), tmp_path / "r", config, resume=True)


@pytest.mark.parametrize(
    "replaced, files, outcome",
    [
        (0, 5000, None),
        (200, 5000, "warning"),
        (2, 4, "warning"),
        (3, 4, "error"),
        (5000, 5000, "error"),
    ],
)
def test_few_replaced_images_are_a_repair_and_most_are_another_folder(
    replaced, files, outcome, tmp_path
):
    class File:
        def __init__(self, i, size):
            self.name, self.size = f"{i}.png", size
        def stat(self):
            return SimpleNamespace(st_size=self.size)

    was, now = (
        fingerprint([File(i, i + 10**6 * (new and i < replaced)) for i in range(files)])
        for new in (False, True)
    )
    # fit for a file that people read
    assert len(was["sizes"]) < 6000
    if outcome == "error":
        with pytest.raises(InputError, match="most sizes do not"):
            same_images(was, now, "horses", tmp_path)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        same_images(was, now, "horses", tmp_path)
        # of several processes one tells
        same_images(was, now, "horses", tmp_path, tell=False)
    assert len(told) == (outcome == "warning")
    same_images(dict(images=files, digest="of an older version"), now, "horses", tmp_path)
    with pytest.raises(InputError, match="others by name"):
        same_images(was | dict(images=files - 1), now, "horses", tmp_path)


@pytest.mark.parametrize("method, discriminators", [("semst", 1), ("cyclegan", 2)])
def test_the_alarm_expects_the_loss_of_all_discriminators(
    method, discriminators, folders, tmp_path
):
    alarms = Alarms()
    config = ONE.replace(steps=1, method=method, lambda_hdce=0.0, lambda_ts=0.0)
    train(folders, tmp_path / "r", config, hooks=[alarms])
    assert alarms.levels["d_won"] == pytest.approx(0.05 * discriminators * math.log(2))


def test_a_cluster_s_signal_to_all_processes_leaves_a_checkpoint(folders, tmp_path):
    "SIGTERM to the whole group, as a scheduler sends it: it reaches the loader process too."
    script = tmp_path / "go.py"
    script.write_text(f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_trainer import ONE
from semst.training import train
config = ONE.replace(workers=1, steps=100_000, checkpoint_every=100_000)
try:
    train({[str(f) for f in folders]!r}, {str(tmp_path / "r")!r}, config)
except KeyboardInterrupt as stopped:
    print(stopped)
""")
    job = subprocess.Popen(
        [sys.executable, script],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while len(read_log(tmp_path / "r/log.jsonl")) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGTERM)
    said, complained = job.communicate(timeout=60)
    assert job.returncode == 0 and "the last good checkpoint is" in said, complained
    assert last_checkpoint(tmp_path / "r")


def test_an_error_that_is_kept_does_not_keep_the_loader_alive(folders, tmp_path):
    "A loader process that outlived its run would be waited for at the program's end, for ever."
    bad = tmp_path / "bad"
    shutil.copytree(folders[0], bad)
    victim = Path(UnpairedCrops(bad, folders[1], 32, 32, "shorter", True, 0)[4]["x_file"])
    victim.write_bytes(victim.read_bytes()[:60] + b"\xff" * 9000)
    script = tmp_path / "go.py"
    script.write_text(f"""
import sys, time; sys.path.insert(0, {os.path.dirname(__file__)!r})
from multiprocessing import active_children
from test_trainer import ONE
from semst.training import train
config = ONE.replace(workers=1, load_size=32)
try:
    train([{str(bad)!r}, {str(folders[1])!r}], {str(tmp_path / "r")!r}, config)
except Exception as e:
    kept = e
print(type(kept).__name__, len(active_children()), flush=True)
""")
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["InputError", "0"], done.stderr


def test_a_loader_process_that_dies_late_disturbs_nothing(monkeypatch):
    "PyTorch's handler raises at any point while it knows the process: in the last save, too."
    loader, known = torch.utils.data.DataLoader(Noise(), num_workers=1), []

    def torn(batches, timeout=None):
        known.extend(worker.pid for worker in batches._workers)
        raise OSError("unable to open shared memory")
    kind = torch.utils.data.dataloader._MultiProcessingDataLoaderIter
    monkeypatch.setattr(kind, "_try_get_data", torn)
    with pytest.raises(LoaderDied) as died:                # its frames hold the loader
        list(readable(loader))
    with contextlib.suppress(ProcessLookupError):
        os.kill(known[0], signal.SIGKILL)
        time.sleep(1)
    assert "--workers 0" in str(died.value)


@pytest.mark.parametrize("words", [
    "DataLoader worker (pid 12) is killed by signal: Killed.",
    "DataLoader worker (pid(s) 12, 13) exited unexpectedly",
    "unable to open shared memory object </torch_1_2_3> in read-write mode: No space left (28)",
    "unable to allocate shared memory(shm) for file </torch_1_2>: Resource unavailable (11)",
    "unable to write to file </torch_1_2>: No space left on device (28)",
    "unable to mmap 4096 bytes from file <filename not specified>: Cannot allocate memory (12)",
])
def test_every_sign_of_a_dead_loader_is_known(words):
    class Batches:
        def __iter__(self):
            raise RuntimeError(words)
    with pytest.raises(LoaderDied):
        list(readable(Batches()))


def test_an_error_of_a_loader_process_is_not_called_a_death():
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            raise RuntimeError("unable to stack these")
    for workers in (0, 1):
        loader = torch.utils.data.DataLoader(Broken(), num_workers=workers)
        with pytest.raises(RuntimeError, match="unable to stack these") as raised:
            list(readable(loader))
        assert not isinstance(raised.value, LoaderDied)


def test_a_dataset_without_pairs_is_named(tmp_path):
    with pytest.raises(InputError, match="the dataset holds no pair"):
        train(torch.utils.data.TensorDataset(torch.zeros(0, 3, 32, 32)), tmp_path / "run", ONE)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_does_not_fit_changes_nothing(folders, tmp_path):
    train(folders, tmp_path / "run", ONE.replace(steps=2))
    folder = last_checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match="discriminator: a has the shape None instead of"):
        check_shapes("discriminator", dict(a=torch.ones(2)), {})
    with pytest.raises(ValueError, match="discriminator: b has the shape .* instead of None"):
        check_shapes("discriminator", {}, dict(b=torch.ones(2)))
    for config, steps, says in ((ONE.replace(ndf=5), 6, "has the shape"),
                                (ONE, 1, "give --steps 2 or more")):
        state = TrainState(config, steps, Accelerator(cpu=True), METHODS["semst"])
        for weight in state.networks.parameters():
            weight.data.zero_()
        with pytest.raises(InputError, match=says):
            load_checkpoint(state, folder)
        assert not any(weight.any() for weight in state.networks.parameters())


def test_the_live_picture_s_line_is_that_of_all_discriminators(monkeypatch):
    lines = []
    monkeypatch.setattr(semst.hooks, "sample_rows", lambda *_: [])
    monkeypatch.setattr(semst.hooks, "sample_grid", lambda *_: Image.new("RGB", (8, 8)))
    right = semst.hooks.live_figure
    monkeypatch.setattr(semst.hooks, "live_figure",
                        lambda page, curve, line: lines.append(line) or right(page, curve, line))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    for judges in (1, 2):
        state = SimpleNamespace(step=1, steps=1, roles=dict(discriminator=judges * [None]),
                                translator=None)
        training = SimpleNamespace(state=state, config=ONE, previews=[])
        Live(1).step(training, dict(d_loss=0.5))
    assert lines == pytest.approx([math.log(2), 2 * math.log(2)])


def test_a_loader_process_outlives_a_signal_but_not_for_ever():
    loader = multiprocessing.get_context("fork").Process(
        target=lambda: (ignore_signals(0), time.sleep(100))
    )
    before = signal.getsignal(signal.SIGTERM)
    loader.start()
    time.sleep(1)
    os.kill(loader.pid, signal.SIGINT)
    os.kill(loader.pid, signal.SIGTERM)
    loader.join(2)
    assert loader.is_alive()
    # what comes half a minute later
    os.kill(loader.pid, signal.SIGALRM)
    loader.join(10)
    assert loader.exitcode == -signal.SIGALRM and signal.getsignal(signal.SIGTERM) == before


def test_a_kill_while_a_checkpoint_is_written_costs_the_steps_since_the_last(
    folders, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def killed(draft, final):
        if str(final).endswith("step_00000004"):
            raise Killed
        return rename(draft, final)
    rename = os.rename
    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(Killed):
        run(folders, tmp_path / "r", ONE)
    monkeypatch.undo()
    assert last_checkpoint(tmp_path / "r").name == "step_00000002"
    run(folders, tmp_path / "r", ONE, resume=True)
    run(folders, tmp_path / "whole", ONE)
    assert_same(weights(tmp_path / "r"), weights(tmp_path / "whole"))


def at(step):
    "A training at a step, as far as `Alarms` looks at one."
    return SimpleNamespace(state=SimpleNamespace(step=step))


def rings(alarms, d_loss, luminance, times):
    "The records after so many equal steps: which alarms ring."
    for _ in range(times):
        record = dict(d_loss=d_loss, luminance=luminance)
        alarms.step(at(1), record)
    return [name for name in ("d_won", "inverted") if record[f"alarm_{name}"]]


def listening(gan, discriminators):
    "Alarms at the beginning of a training."
    alarms = Alarms()
    roles = dict(discriminator=dict.fromkeys(range(discriminators)))
    alarms.start(
        SimpleNamespace(config=ONE.replace(gan=gan), state=SimpleNamespace(roles=roles))
    )
    return alarms


def test_an_alarm_rings_when_the_discriminator_has_won():
    alarms = listening("bce", 2)
    assert rings(alarms, 1.2, 0.3, 500) == [] and rings(alarms, 0.05, 0.3, 1) == []
    # 0.025 of each of two: below a twentieth of log 2
    assert rings(alarms, 0.05, 0.3, 500) == ["d_won"]
    assert rings(listening("bce", 1), 0.05, 0.3, 500) == []


def test_an_alarm_rings_for_inverted_colours_but_not_for_one_odd_batch():
    alarms = listening("lsgan", 1)
    assert rings(alarms, 0.5, -1.0, 10) == []
    assert rings(alarms, 0.5, -0.5, 300) == ["inverted"]


def test_an_alarm_rings_when_the_losses_of_the_game_grow():
    alarms, record = listening("bce", 1), dict(d_loss=0.0, gan=100 * math.log(2))
    for step in range(1, 11):
        alarms.step(at(1), record)
        assert record["alarm_diverged"] == (step == 10)
    calm, record = listening("lsgan", 1), dict(d_loss=0.25, gan=2.0)
    for _ in range(500):
        calm.step(at(1), record)
    # a discriminator that wins is no divergence
    assert not record["alarm_diverged"]


@pytest.mark.parametrize("gan", ["bce", "lsgan", "hinge"])
def test_a_learning_rate_of_ten_rings_within_25_steps_and_stops_where_told(
    folders, tmp_path, gan, capsys
):
    config = ONE.replace(steps=100, lr=10.0, gan=gan)
    with pytest.raises(Alarmed, match="stopped at step .* by the alarm diverged") as why:
        train(folders, tmp_path / "r", config, hooks=default_hooks(stop=("diverged",)))
    log = read_log(tmp_path / "r/log.jsonl")
    newest = last_checkpoint(tmp_path / "r")
    assert newest.name == f"step_{log[-1]['step']:08d}" and str(newest) in str(why.value)
    assert len(log) <= 25 and [r["alarm_diverged"] for r in log] == [0] * (len(log) - 1) + [1]
    assert "the training diverges; try a lower lr" in capsys.readouterr().err
    with pytest.raises(InputError, match="unknown alarm 'divorced': one of d_won, diverged"):
        default_hooks(stop=("divorced",))


@pytest.mark.parametrize("name, value, most", [
    ("d_won", dict(d_loss=0.0), 299), ("diverged", dict(d_loss=100 * math.log(2)), 10),
    ("inverted", dict(luminance=-1.0), 92), ("inverted", dict(luminance=-0.5), 161),
    ("collapsed", {}, 300),
])
def test_each_alarm_rings_as_early_as_the_page_says(monkeypatch, name, value, most):
    "The worst case: the training was at rest until step 100, and begins to fail just after it."
    alarms, found = listening("bce", 1), []
    monkeypatch.setattr(semst.hooks, "variety", lambda training: float(name != "collapsed"))
    alarms.means["collapsed"] = 1.0
    for step in range(101, 101 + most):
        record = dict(d_loss=math.log(2), gan=math.log(2), luminance=1.0) | value
        alarms.step(at(step), record)
        found.append({key for key in semst.hooks.ALARMS if record[f"alarm_{key}"]})
    assert found == [set()] * (most - 1) + [{name}]


def test_an_alarm_rings_when_all_translations_are_alike(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(semst.hooks, "LOOK", 2)

    def flat(training, record):
        training.state.translator.global_branch.generator.model[-2].weight.data.zero_()
    hooks = [OnStep(flat), Alarms(memory=2, stop=("collapsed",)), Checkpoints()]
    with pytest.raises(Alarmed, match="by the alarm collapsed"):
        train(folders, tmp_path / "r", ONE.replace(steps=100), hooks=hooks)
    assert last_checkpoint(tmp_path / "r").name == "step_00000004"


def test_variety_compares_translations_with_sources_and_targets(monkeypatch):
    def of(source, translation, target):
        rows = [dict(zip(("source", "translation", "a target"), row))
                for row in zip(source, translation, target)]
        monkeypatch.setattr(semst.hooks, "sample_rows", lambda translator, previews: rows)
        state = SimpleNamespace(translator=None)
        return semst.hooks.variety(SimpleNamespace(state=state, previews=[]))
    x = torch.rand(4, 3, 8, 8) * 2 - 1
    one, dim = x[:1].expand(4, 3, 8, 8), x / 4
    assert of(x, x, x) == pytest.approx(1) and of(x, one, x) == of(x, one * 0, x) == 0
    assert of(x, dim, x) == pytest.approx(0.25)
    assert of(x, dim, dim) == pytest.approx(1)             # targets that are hardly different
    assert of(one, one, x) == of(x, one, one) == 1         # nothing to compare with


@pytest.mark.parametrize("what", ["weight", "average", "moment"])
def test_numbers_that_are_not_finite_are_never_saved(folders, tmp_path, what):
    "They appear in a step whose losses are finite, just before its checkpoint."
    def poison(training, record):
        state = training.state
        if what == "moment":
            next(iter(state.optimizers["generator"].state.values()))["exp_avg"].fill_(torch.inf)
        else:
            model = state.model if what == "weight" else state.translator
            model.global_branch.generator.model[-2].weight.data[0] = torch.nan
    hooks = [OnStep(poison, at=4), *default_hooks(progress=False)]
    with pytest.raises((NonFiniteLoss, InputError), match="not finite|NaN"):
        train(folders, tmp_path / "r", ONE.replace(sample_every=100), hooks=hooks)
    assert last_checkpoint(tmp_path / "r").name == "step_00000002"
    assert all(value.isfinite().all() for value in weights(tmp_path / "r").values())


def test_weights_are_looked_at_before_a_checkpoint_and_named(folders, tmp_path, monkeypatch):
    follow = semst.training.TrainState.update_average

    def broken(state, inputs):
        follow(state, inputs)
        if state.step == 3:
            state.model.global_branch.generator.model[1].bias.data.fill_(torch.nan)
    monkeypatch.setattr(semst.training.TrainState, "update_average", broken)
    with pytest.raises(NonFiniteLoss) as stop:
        run(folders, tmp_path / "r", ONE)
    message = str(stop.value)
    assert (
        "step 4: the weight global_branch.generator.model.1.bias of semst is not finite" in message
    )
    assert ".png" in message and "step_00000002" in message
    assert last_checkpoint(tmp_path / "r").name == "step_00000002"


def test_alarms_remember_over_a_resume(folders, tmp_path):
    run(folders, tmp_path / "whole", ONE)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "halves", ONE, hooks=[Interrupt(2)])
    again = default_hooks(progress=False)
    train(folders, tmp_path / "halves", ONE, hooks=again, resume=True)
    whole = json.loads((last_checkpoint(tmp_path / "whole") / "state.json").read_text())["hooks"]
    assert whole["Alarms"] == again[0].means


def test_progress_says_what_runs_and_which_alarm_rings(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(semst.hooks, "bars_work", lambda: False)
    loud = Alarms()
    loud.means["d_won"] = -1e6
    train(
        folders,
        tmp_path / "r",
        ONE.replace(steps=100, log_every=100, sample_every=100, checkpoint_every=100),
        hooks=[loud, Progress()],
    )
    said = capsys.readouterr().err
    for words in (
        "semst 0.",
        "device cpu, 1 process",
        "5 source, 5 target",
        "steps 100, batch 1",
        f"output {tmp_path / 'r'}",
        "step 100: the discriminator's loss is near zero",
        "step 100 of 100",
    ):
        assert words in said, words
    assert "\r" not in said                                         # plain lines off a terminal


@pytest.mark.parametrize("config, said", [
    (PRESETS["cut"], "method semst, losses gan, identity, nce"),
    (PRESETS["fastcut"], "method semst, losses gan, nce"),
    (PRESETS["cyclegan"], "method cyclegan, losses gan, identity, cycle"),
    (PRESETS["paper"], "method semst, losses gan, identity, hdce, ts"),
])
def test_the_header_names_the_losses_that_a_preset_minimises(config, said):
    state = SimpleNamespace(
        config=config, method=METHODS[config.method], step=0, steps=1,
        accelerator=SimpleNamespace(device="cpu", num_processes=1))
    about = dict(data=dict(source=dict(images=5)))
    first, *_ = semst.hooks.header(
        SimpleNamespace(state=state, config=config, about=about, run="r"))
    assert first.startswith("semst ") and first.endswith(said)


def test_a_run_s_folder(folders, tmp_path):
    run(folders, tmp_path / "r", TWO.replace(steps=3))
    names = {p.name for p in (tmp_path / "r").iterdir()}
    assert names == {".lock", "config.json", "log.jsonl", "samples", "checkpoints"}
    kept = sorted(p.name for p in (tmp_path / "r/checkpoints").iterdir())
    assert kept == ["step_00000002", "step_00000003"]
    assert SemST.from_pretrained(tmp_path / "r").config == TWO.model
    # nothing that could execute
    suffixes = {p.suffix for p in (tmp_path / "r/checkpoints").rglob("*")}
    assert suffixes == {"", ".safetensors", ".json"}


def test_two_trainings_never_share_a_folder(folders, tmp_path):
    refused = []

    def second(training, record):
        # its first checkpoint comes after this
        for resume in (False, True):
            with pytest.raises(InputError, match="another training is writing into it") as e:
                run(folders, tmp_path / "r", ONE, resume=resume)
            refused.append(e)
    run(folders, tmp_path / "r", ONE.replace(checkpoint_every=4), hooks=[OnStep(second, at=2)])
    assert len(refused) == 2
    run(folders, tmp_path / "whole", ONE.replace(checkpoint_every=4))
    assert_same(weights(tmp_path / "r"), weights(tmp_path / "whole"))
    with pytest.raises(RuntimeError) as crashed:
        run(folders, tmp_path / "c", ONE, hooks=[OnStep(fail, at=1)])
    # a crash keeps no lock, even while somebody looks at its traceback
    run(folders, tmp_path / "c", ONE, resume=True)
    assert crashed.traceback
    with pytest.raises(Timeout, match="compiler"), run_lock(tmp_path / "c", True, bool):
        raise Timeout("compiler")  # somebody else's lock is not ours
    with (
        pytest.raises(InputError, match="another training is writing into it"),
        run_lock(tmp_path / "c", False, lambda taken: True),
    ):
        pass      # the main process was refused


def test_a_run_that_came_first_is_not_written_over(folders, tmp_path, monkeypatch):
    "While this training read its images, another one began in the folder and was stopped."
    cached = semst.training.CachedCrops

    def meanwhile(data, device):
        monkeypatch.setattr(semst.training, "CachedCrops", cached)
        run(folders, tmp_path / "r", ONE.replace(lr=1e-3))
        return cached(data, device)
    monkeypatch.setattr(semst.training, "CachedCrops", meanwhile)
    with pytest.raises(InputError, match="already holds a run"):
        run(folders, tmp_path / "r", ONE.replace(cache=True))
    assert json.loads((tmp_path / "r/config.json").read_text())["config"]["lr"] == 1e-3


def test_what_translates_is_the_average(folders, tmp_path, monkeypatch):
    shown, rows = [], semst.hooks.sample_rows
    monkeypatch.setattr(
        semst.hooks,
        "sample_rows",
        lambda model, previews: shown.append(model) or rows(model, previews),
    )
    model = run(folders, tmp_path / "r", ONE)
    # it can be trained on, as a loaded one can
    assert all(p.requires_grad for p in model.parameters())
    # samples show what will translate
    assert shown and all(m is model for m in shown)
    files = {f.stem: load_file(f) for f in last_checkpoint(tmp_path / "r").glob("*.safetensors")}
    for name, weight in SemST.from_pretrained(tmp_path / "r").state_dict().items():
        assert torch.equal(weight, files["average"][name])
        assert torch.equal(weight, model.state_dict()[name])
    assert any(
        not torch.equal(files["semst"][name], files["average"][name]) for name in files["average"]
    )
    run(folders, tmp_path / "none", ONE.replace(ema=0.0))
    assert find_weights(tmp_path / "none").name == "semst.safetensors"
    assert not list((tmp_path / "none").rglob("average*"))


def test_bf16_trains(folders, tmp_path):
    run(folders, tmp_path / "r", TWO.replace(steps=2, mixed_precision="bf16"))
    last = json.loads((tmp_path / "r/log.jsonl").read_text().splitlines()[-1])
    run(folders, tmp_path / "f", TWO.replace(steps=2))
    full = json.loads((tmp_path / "f/log.jsonl").read_text().splitlines()[-1])
    assert last["hdce_global"] == pytest.approx(full["hdce_global"], rel=0.05)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(d_strides=(2,) * 6), "leave nothing of a crop of 32"),
        (dict(d_strides=(0,)), "leave nothing"),
        (dict(taps=(4, 0, 8, 12)), "must rise"),
    ],
)
def test_a_start_that_fails_leaves_no_folder(folders, tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        run(folders, tmp_path / "r", ONE.replace(**change))
    assert not (tmp_path / "r").exists()
    with pytest.raises(InputError, match="must be at least 1"):
        ONE.replace(ngf=0)


def test_a_folder_without_a_checkpoint_may_begin_anew(folders, tmp_path):
    with pytest.raises(RuntimeError):
        run(folders, tmp_path / "r", ONE, hooks=[OnStep(fail, at=1)])
    shutil.rmtree(tmp_path / "r/checkpoints")
    run(folders, tmp_path / "r", ONE.replace(lr=1e-3))
    assert last_checkpoint(tmp_path / "r").name == "step_00000006"


def test_a_run_inside_its_data_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="its samples would become training images"):
        run(folders, folders[0] / "run", ONE)
    assert not (folders[0] / "run").exists()


def test_damaged_runs_are_named_and_the_checkpoint_before_is_used(folders, tmp_path):
    config, r = ONE.replace(keep=3), tmp_path / "r"
    run(folders, r, config)
    before = weights(r)
    for name, content in (
        ("semst.safetensors", b"no"),
        ("average.safetensors", b""),
        ("optimizers.safetensors", b""),
        ("state.json", b"{"),
        ("state.json", b'{"step": 99}'),
    ):
        good = (last_checkpoint(r) / name).read_bytes()
        (last_checkpoint(r) / name).write_bytes(content)
        with pytest.raises(InputError, match="step_00000006 is damaged.*remove it"):
            run(folders, r, config, resume=True)
        (last_checkpoint(r) / name).write_bytes(good)
    (r / "log.jsonl").open("a").write('{"step": 7, "d_lo')                          # a torn line
    # not one of ours
    (r / "checkpoints/step_copy").mkdir()
    shutil.rmtree(last_checkpoint(r))
    run(folders, r, config, resume=True)
    assert_same(before, weights(r))
    lines = (r / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for text in ("[]", "{}", "\"x\""):
        (r / "config.json").write_text(text)
        with pytest.raises(InputError, match="config.json: is damaged"):
            run(folders, r, config, resume=True)


def forbidden(monkeypatch):
    def never(path, *rest, **more):
        if str(path).endswith("average.safetensors"):
            raise PermissionError(13, "Permission denied", str(path))
        return right(path, *rest, **more)
    right = open
    monkeypatch.setattr("builtins.open", never)


def torn_disk(monkeypatch):
    def fails(file, kind):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr("semst.files.hashlib.file_digest", fails)


def full_memory(monkeypatch):
    def fails(path, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't "
                           "allocate memory: you tried to allocate 4096 bytes.")
    monkeypatch.setattr("safetensors.safe_open", fails)


@pytest.mark.parametrize("fault, code, says", [
    (forbidden, 2, "average.safetensors: may not be read; change its permissions"),
    (torn_disk, 2, "step_00000002.*safetensors: Input/output error"),
    (full_memory, 1, "out of memory"),
])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(
    folders, tmp_path, monkeypatch, fault, code, says
):
    "The advice for damage is to remove it: that would cost an intact one."
    run(folders, tmp_path / "r", ONE.replace(steps=2))
    fault(monkeypatch)
    with pytest.raises((InputError, OSError, RuntimeError)) as e:
        run(folders, tmp_path / "r", ONE.replace(steps=4), resume=True)
    found, words = explain(e.value)
    assert found == code and re.search(says, words) and "remove" not in words


def test_files_of_others_do_not_hinder_a_checkpoint(folders, tmp_path):
    run(folders, tmp_path / "r", ONE.replace(steps=2))
    checkpoint = last_checkpoint(tmp_path / "r")
    (checkpoint / ".#state.json").symlink_to("an editor's lock")
    run(folders, tmp_path / "r", ONE.replace(steps=4), resume=True)
    assert last_checkpoint(tmp_path / "r").name == "step_00000004"
    with pytest.raises(InputError, match="nowhere: no such checkpoint"):
        load_checkpoint(None, tmp_path / "nowhere")


def test_a_run_cannot_go_on_to_less_than_it_has(folders, tmp_path):
    run(folders, tmp_path / "r", ONE)
    with pytest.raises(InputError, match="is of step 6, and .* have 4: give --steps 6 or more"):
        run(folders, tmp_path / "r", ONE.replace(steps=4), resume=True)


def test_scores_in_a_run_do_not_hinder_its_next_training(folders, tmp_path):
    run(folders, tmp_path / "r", ONE)
    (tmp_path / "r/scores").mkdir()
    shutil.rmtree(tmp_path / "r/checkpoints")
    run(folders, tmp_path / "r", ONE)
    assert last_checkpoint(tmp_path / "r").name == "step_00000006"


def test_two_hooks_of_a_class_remember_for_themselves(folders, tmp_path):
    class Counter(Hook):
        def __init__(self, first):
            self.count = first

        def step(self, training, record):
            self.count += 1

        def state_dict(self):
            return dict(count=self.count)

        def load_state_dict(self, values):
            self.count = values["count"]

    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "r", ONE, [Counter(10), Counter(20), Interrupt(3)])
    again = [Counter(0), Counter(0)]
    run(folders, tmp_path / "r", ONE, again, resume=True)
    assert [counter.count for counter in again] == [16, 26]


@pytest.mark.parametrize("data, config, says", [
    ("photographs", ONE, "'photographs': two folders are needed"),
    (("one",), ONE, "two folders are needed"),
    (("a", "b"), "tiny", "'tiny' is no TrainConfig: give one such as PRESETS"),
])
def test_what_train_is_given(data, config, says, tmp_path):
    with pytest.raises(InputError, match=says):
        train(data, tmp_path / "r", config)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("changes", [dict(flip="no"), dict(log_every=2.5), dict(steps=2.0),
                                     dict(gan="foo"), dict(taps=[0, 4, 8, 12]), dict(seed=1.5)])
def test_a_setting_of_a_wrong_type_is_refused_at_once(changes):
    name, = changes
    with pytest.raises(InputError, match=f"^{name} .* has the wrong type: give "):
        ONE.replace(**changes)


def test_one_folder_twice_is_doubted(folders, tmp_path):
    with pytest.warns(UserWarning, match="is source and target"):
        run((folders[0], folders[0]), tmp_path / "r", ONE.replace(steps=1))


def test_a_cache_for_a_dataset_is_refused(tmp_path):
    pairs = torch.utils.data.TensorDataset(*torch.zeros(2, 5, 3, 32, 32))
    with pytest.raises(InputError, match="for a dataset of pairs give cache=False"):
        train(pairs, tmp_path / "r", ONE.replace(cache=True))


def test_a_resumed_run_may_change_what_changes_no_weight(folders, tmp_path, monkeypatch):
    run(folders, tmp_path / "whole", ONE)
    monkeypatch.chdir(folders[0].parents[1])
    relative = [f.relative_to(folders[0].parents[1]) for f in folders]
    with pytest.raises(KeyboardInterrupt):
        run(relative, tmp_path / "halves", ONE, hooks=[Interrupt(2)])
    # found from anywhere
    assert json.loads((tmp_path / "halves/config.json").read_text())["source"] == str(folders[0])
    run(
        folders,
        tmp_path / "halves",
        ONE.replace(workers=1, log_every=2, keep=1, checkpoint_every=3, sample_every=6),
        resume=True,
    )
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    with pytest.raises(InputError, match="began with seed = 0, not 1"):
        run(folders, tmp_path / "halves", ONE.replace(seed=1), resume=True)


def test_a_run_goes_on_without_pictures_that_were_removed_when_told_to(folders, tmp_path):
    own = []
    for folder in folders:
        own.append(tmp_path / folder.parent.name)
        shutil.copytree(folder, own[-1])
    with pytest.raises(KeyboardInterrupt):
        run(own, tmp_path / "r", ONE, hooks=[Interrupt(2)])
    first, second = sorted(own[0].iterdir())[:2]
    first.unlink()
    second.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        run(own, tmp_path / "r", ONE, resume=True)
    second.unlink()
    with pytest.raises(InputError, match="go on without them with --skip-bad"):
        run(own, tmp_path / "r", ONE, resume=True)
    kept = json.loads((tmp_path / "r/config.json").read_text())["data"]["source"]["images"]
    second.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=f"began with {kept} images and goes on with {kept - 2}"):
        run(own, tmp_path / "r", ONE.replace(skip_bad=True), resume=True)
    about = json.loads((tmp_path / "r/config.json").read_text())
    assert about["data"]["source"]["images"] == kept - 2 and about["config"]["skip_bad"]


@pytest.mark.parametrize("name, current", [("cuda", []), ("cuda:1", [torch.device("cuda:1")])])
def test_the_training_s_gpu_is_made_the_current_one(folders, tmp_path, monkeypatch, name, current):
    "Without a launcher the device of `Accelerator` has no number."
    made = []
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    engine = SimpleNamespace(device=torch.device(name), num_processes=2, is_main_process=True)
    with pytest.raises(InputError, match="cannot be shared evenly"):
        monkeypatch.setattr(semst.training, "TrainState", lambda *_: None)
        train(folders, tmp_path / "run", ONE, accelerator=engine)
    assert made == current
