"The trainer: what is random, what is saved, what stops a run, and that it learns."
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from semst.data import InputError, rng
from semst.multiscale import ModelConfig, SemST, local_box
from semst.scenes import write_scenes
from semst.trainer import (
    PRESETS, CollapseAlarm, NonFiniteLoss, StepBatches, TrainConfig, Training, content_losses, last_checkpoint, lr_at, start_engine, train,
    train_step, ts_weight_at)

ONE = TrainConfig(model=ModelConfig(scales=1, crop=32, ngf=4, blocks=5, embed_dim=16), ndf=4, d_strides=(2, 1), patches=32, centres=16,
                  steps=6, workers=0, log_every=1, checkpoint_every=2, sample_every=3, gamma_end=1.0, lambda_identity=0.0)
TWO = replace(ONE, model=ModelConfig(crop=64, local_crop=32, ngf=4, blocks=5, embed_dim=16))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    for kind in ("horse", "zebra"): write_scenes(root / kind, kind, 5, 72, 0)
    return root / "horse" / "images", root / "zebra" / "images"


def run(folders, out, config, **more): return train(*folders, out, config, quiet=True, **more)

def weights(out): return {f"{f.name}/{k}": v for f in last_checkpoint(out).glob("*.safetensors") for k, v in load_file(f).items()}

def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a: assert torch.equal(a[k], b[k]), k


@pytest.mark.parametrize("config", [ONE, TWO, replace(TWO, ts_embedder="momentum", lambda_identity=1.0, batch_size=2)], ids=["one scale", "two scales", "momentum"])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(folders, tmp_path, config):
    run(folders, tmp_path / "whole", config)
    def interrupt(step, record):
        if step == 2: signal.raise_signal(signal.SIGINT)             # in the middle of the first epoch of five images
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3 of 6"): run(folders, tmp_path / "halves", config, on_step=interrupt)
    assert last_checkpoint(tmp_path / "halves").name == "step_00000003"
    run(folders, tmp_path / "halves", replace(config), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "halves/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_resume_after_a_crash_repeats_the_lost_steps(folders, tmp_path):
    run(folders, tmp_path / "whole", ONE)
    def crash(step, record):
        if step == 5: raise RuntimeError("power cut")
    with pytest.raises(RuntimeError): run(folders, tmp_path / "cut", ONE, on_step=crash)
    assert last_checkpoint(tmp_path / "cut").name == "step_00000004"
    run(folders, tmp_path / "cut", ONE, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_workers_do_not_change_the_result(folders, tmp_path):
    for n in (0, 2): run(folders, tmp_path / str(n), replace(ONE, workers=n))
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_the_seed_does(folders, tmp_path):
    for s in (0, 1): run(folders, tmp_path / str(s), replace(ONE, seed=s, steps=1))
    a, b = weights(tmp_path / "0"), weights(tmp_path / "1")
    assert not torch.equal(a["semst.safetensors/branches.global.generator.model.1.weight"], b["semst.safetensors/branches.global.generator.model.1.weight"])


def test_two_processes_share_a_batch_like_one(folders, tmp_path):
    "Gloo on the CPU: the same global batch, the same gradients up to rounding, one log."
    script = tmp_path / "go.py"
    script.write_text(f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from dataclasses import replace
from test_trainer import TWO
from semst.trainer import train
train({str(folders[0])!r}, {str(folders[1])!r}, sys.argv[1], replace(TWO, batch_size=2, steps=1), quiet=True)
from accelerate import PartialState
assert PartialState().num_processes == int(sys.argv[2]), PartialState().num_processes
""")
    env = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    subprocess.run([sys.executable, script, tmp_path / "one", "1"], check=True, env=env)
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, tmp_path / "two", "2"], check=True, env=env)
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    for player in ("generator", "discriminator"):                    # Adam's first moment after one step is half of the gradient
        moments = [k for k in a if k.startswith(f"optimizers.safetensors/{player}.") and k.endswith(".exp_avg")]
        largest = max(float(a[k].abs().max()) for k in moments)
        for k in moments:
            # biases before a norm have gradient 0, and D's last bias is what is left of halves that cancel: rounding of larger terms
            torch.testing.assert_close(a[k], b[k], rtol=1e-3, atol=5e-6 + 1e-3 * float(a[k].abs().max()) + 1e-6 * largest)
    assert len((tmp_path / "two/log.jsonl").read_text().splitlines()) == 1          # one log, not two


def test_batches_are_a_function_of_the_step():
    assert list(StepBatches(3, 5, 2)) == [[6, 7], [8, 9]]
    shares = [list(StepBatches(3, 5, 4, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares)] == list(StepBatches(3, 5, 4))
    with pytest.raises(InputError, match="cannot be shared evenly by 2"): StepBatches(0, 1, 3, 0, 2)


def test_schedules():
    assert [lr_at(p, 2.0) for p in (0, 0.5, 0.75, 1)] == [2, 2, 1, 0]
    assert [ts_weight_at(p, 4.0, 0.2) for p in (0, 0.1, 0.2, 1)] == [0, 2, 4, 4]
    assert ts_weight_at(0, 4.0, 0) == 4


def training(config, seed=0):
    x, y = (torch.rand(config.batch_size, 3, config.model.crop, config.model.crop, generator=rng(seed, d)) * 2 - 1 for d in "xy")
    return Training(config, 10, start_engine("no")), x, y


def test_ts_gradient_reaches_f_only_when_shared():
    for how, reaches in (("shared", True), ("frozen", False), ("momentum", False)):
        t, x, _ = training(replace(ONE, ts_embedder=how))
        content_losses(t, "global", t.model(x).views["global"], (0, 0), 10.0, {"ts"})["ts"].backward()
        grads = [p.grad for p in t.model.branches["global"].embedder.parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in grads) == reaches, how
        assert t.model.branches["global"].generator.model[1].weight.grad.abs().sum() > 0          # G learns from it in every case


def test_source_side_is_detached_unless_asked():
    gradients = []
    for detach in (True, False):
        t, x, _ = training(replace(ONE, detach_source=detach))
        content_losses(t, "global", t.model(x).views["global"], (0, 0), 10.0, {"ts"})["ts"].backward()
        gradients.append(t.model.branches["global"].embedder["mlp_4"][0].weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_momentum_copy_follows_slowly():
    t, x, y = training(replace(ONE, ts_embedder="momentum", ts_momentum=0.9))
    before = [p.clone() for p in t.networks["teachers"].parameters()]
    train_step(t, x, y)
    for old, slow, fast in zip(before, t.networks["teachers"].parameters(), t.model.branches["global"].embedder.parameters()):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * fast)


def test_objective_is_the_weighted_sum_of_equation_4():
    config = replace(TWO, lambda_gan=0.5, lambda_hdce=0.25, lambda_ts=3.0, lambda_identity=0.125, ts_warmup=0.0)
    t, x, y = training(config)
    r = train_step(t, x, y)
    both = lambda name: r[f"{name}_global"] + r[f"{name}_local"]                                   # eqs. 2 and 3
    assert r["g_loss"] == pytest.approx(0.5 * r["gan"] + 0.25 * both("hdce") + 3.0 * both("ts") + 0.125 * both("identity"), rel=1e-5)
    assert both("ts") == pytest.approx(-both("texture") - both("structure"), rel=1e-5)


def test_discriminator_learns_first_and_alone():
    "With a frozen generator (all its weights 0 in eq. 4) D's loss falls, and G does not move."
    t, x, y = training(replace(ONE, lambda_gan=0.0, lambda_hdce=0.0, lambda_ts=0.0, lr=1e-2))
    before = [p.clone() for p in t.model.parameters()]
    losses = [train_step(t, x, y)["d_loss"] for _ in range(5)]
    assert losses[-1] < 0.8 * losses[0]
    for old, new in zip(before, t.model.parameters()): assert torch.equal(old, new)


def test_content_losses_learn():
    "hDCE alone ties each output patch to its source patch within a few steps."
    t, x, y = training(replace(ONE, lambda_gan=0.0, lambda_ts=0.0, lr=2e-3))
    t.steps = 10_000
    losses = [train_step(t, x, y)["hdce_global"] for _ in range(30)]
    assert losses[-1] < losses[0] - 0.5


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(folders, tmp_path):
    def poison(step, record):
        if step == 4: seen["training"].model.branches["global"].generator.model[1].weight.data.fill_(torch.nan)
    seen, init = {}, Training.__init__
    def remember(self, *a): init(self, *a); seen["training"] = self
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "__init__", remember)
        with pytest.raises(NonFiniteLoss) as stop: run(folders, tmp_path / "r", ONE, on_step=poison)
    message = str(stop.value)
    assert "step 5" in message and "gan = nan" in message and ".png" in message and "step_00000004" in message
    assert all(v.isfinite().all() for v in weights(tmp_path / "r").values())


def test_non_finite_gradient_is_not_applied():
    t, x, y = training(ONE)
    before = [p.clone() for p in t.model.parameters()]
    norm = t.update("generator", t.model(x).fused.sum() * torch.inf)
    assert not torch.isfinite(torch.tensor(norm))
    for old, new in zip(before, t.model.parameters()): assert torch.equal(old, new)


def test_a_run_keeps_its_settings_and_images(folders, tmp_path):
    run(folders, tmp_path / "r", replace(ONE, steps=2))
    with pytest.raises(InputError, match="already holds a run"): run(folders, tmp_path / "r", replace(ONE, steps=2))
    with pytest.raises(InputError, match="began with lr = 0.0002, not 0.001"): run(folders, tmp_path / "r", replace(ONE, steps=2, lr=1e-3), resume=True)
    with pytest.raises(InputError, match="source images are not those"): train(folders[1], folders[1], tmp_path / "r", replace(ONE, steps=2), resume=True, quiet=True)
    with pytest.raises(InputError, match="not a run"): run(folders, tmp_path / "none", ONE, resume=True)


def test_a_damaged_image_is_named_and_nothing_is_lost(folders, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    for f in folders[0].iterdir(): (bad / f.name).write_bytes(f.read_bytes())
    victim = bad / "00003.png"
    victim.write_bytes(victim.read_bytes()[:2000])                     # its header is whole, its pixels are not
    with pytest.raises(InputError) as stop: train(bad, folders[1], tmp_path / "r", replace(ONE, workers=1, steps=5), quiet=True)
    assert str(victim) in str(stop.value) and "\n" not in str(stop.value)


def test_configuration_round_trip_and_unknown_keys():
    from dataclasses import asdict
    for config in (*PRESETS.values(), ONE, TWO): assert TrainConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    values = asdict(ONE)
    with pytest.raises(InputError, match="unknown TrainConfig key lamda_ts"): TrainConfig.from_dict(values | dict(lamda_ts=1))
    with pytest.raises(InputError, match="steps 0 must be at least 1"): replace(ONE, steps=0)


def test_paper_preset_holds_the_paper_s_numbers():
    "Supplement 2.1.2, 2.1.4 and 2.1.5."
    c = PRESETS["paper"]
    assert (c.model.crop, c.model.local_crop, c.model.scales, c.batch_size, c.lr, c.beta1, c.beta2) == (512, 256, 2, 1, 2e-4, 0.5, 0.999)
    assert (c.patches, c.model.embed_dim, c.model.blocks, c.model.ngf, c.model.taps, c.gan, c.epochs) == (256, 256, 9, 64, (0, 4, 8, 12, 16), "bce", 400)


def test_alarm_rings_when_the_discriminator_has_won():
    alarm = CollapseAlarm("bce")
    assert not any(alarm(0.6) for _ in range(500))
    assert any(alarm(0.001) for _ in range(500))


def test_a_run_s_folder(folders, tmp_path):
    run(folders, tmp_path / "r", replace(TWO, steps=3))
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"config.json", "log.jsonl", "samples", "checkpoints", "tensorboard"}
    assert [p.name for p in sorted((tmp_path / "r/checkpoints").iterdir())] == ["step_00000002", "step_00000003"]
    assert SemST.from_pretrained(tmp_path / "r").config == TWO.model
    assert not [p for p in (tmp_path / "r/checkpoints").rglob("*") if p.suffix not in ("", ".safetensors", ".json")]   # nothing that could execute


def test_bf16_trains(folders, tmp_path):
    run(folders, tmp_path / "r", replace(TWO, steps=2, mixed_precision="bf16"))
    last = json.loads((tmp_path / "r/log.jsonl").read_text().splitlines()[-1])
    run(folders, tmp_path / "f", replace(TWO, steps=2))
    full = json.loads((tmp_path / "f/log.jsonl").read_text().splitlines()[-1])
    assert last["hdce_global"] == pytest.approx(full["hdce_global"], rel=0.05)


def test_the_local_branch_is_judged_on_its_own():
    "With M = 0 everywhere only the detail share of the GAN loss reaches the local branch."
    for detail, reaches in ((0.5, True), (0.0, False)):
        t, x, y = training(replace(TWO, detail=detail, lambda_hdce=0.0, lambda_ts=0.0))
        t.model.attention.forward = lambda feats, size: torch.zeros(len(feats), 1, *size)
        train_step(t, x, y)
        gradient = sum(p.grad.abs().sum() for p in t.model.branches["local"].generator.parameters() if p.grad is not None)
        assert bool(gradient > 0) == reaches


@pytest.mark.parametrize("change, words", [
    (dict(tau=float("inf")), "tau inf must be finite and above 0"), (dict(detail=2.0), "detail 2.0 must be between 0 and 1"), (dict(lambda_ts=-1.0), "lambda_ts -1.0 must be finite and not negative"),
    (dict(gamma_start=0.0), "gamma_start 0.0"), (dict(gamma_late=float("nan")), "gamma_late nan"), (dict(patches=1), "patches 1 must be at least 2"), (dict(beta1=1.0), "beta1 1.0 must be at least 0 and below 1"),
    (dict(workers=-1), "workers -1"), (dict(seed=10**21), "seed 1000000000000000000000"), (dict(load_size=0), "load_size 0 must be at least 1"), (dict(model=replace(ONE.model, taps=(0, 4))), "TS needs more than three"),
    (dict(ts_warmup=float("nan")), "ts_warmup nan"), (dict(lr=float("inf")), "lr inf")])
def test_settings_out_of_range_are_named(change, words):
    with pytest.raises(InputError, match=words): replace(ONE, **change)


@pytest.mark.parametrize("change, words", [(dict(d_strides=(2,) * 6), "leave nothing of a crop of 32"), (dict(d_strides=(0,)), "leave nothing"), (dict(model=replace(ONE.model, taps=(4, 0, 8, 12))), "must rise")])
def test_a_start_that_fails_leaves_no_folder(folders, tmp_path, change, words):
    with pytest.raises(InputError, match=words): run(folders, tmp_path / "r", replace(ONE, **change))
    assert not (tmp_path / "r").exists()
    with pytest.raises(InputError, match="must be at least 1"): replace(ONE.model, ngf=0)


def test_a_folder_without_a_checkpoint_may_begin_anew(folders, tmp_path):
    def crash(step, record): raise RuntimeError("power cut")
    with pytest.raises(RuntimeError): run(folders, tmp_path / "r", ONE, on_step=crash)
    run(folders, tmp_path / "r", replace(ONE, lr=1e-3))
    assert last_checkpoint(tmp_path / "r").name == "step_00000006"


def test_a_run_inside_its_data_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="its samples would become training images"): run(folders, folders[0] / "run", ONE)
    assert not (folders[0] / "run").exists()


def test_damaged_runs_are_named_and_the_checkpoint_before_is_used(folders, tmp_path):
    config, r = replace(ONE, keep=3), tmp_path / "r"
    run(folders, r, config)
    before = weights(r)
    for name, content in (("semst.safetensors", b"no"), ("optimizers.safetensors", b""), ("state.json", b"{"), ("state.json", b'{"step": 99}')):
        good = (last_checkpoint(r) / name).read_bytes()
        (last_checkpoint(r) / name).write_bytes(content)
        with pytest.raises(InputError, match="step_00000006 is damaged.*remove it"): run(folders, r, config, resume=True)
        (last_checkpoint(r) / name).write_bytes(good)
    (r / "log.jsonl").open("a").write('{"step": 7, "d_lo')                          # a torn line
    (r / "checkpoints/step_copy").mkdir()                                            # not one of ours
    shutil.rmtree(last_checkpoint(r))
    run(folders, r, config, resume=True)
    assert_same(before, weights(r))
    assert [json.loads(line)["step"] for line in (r / "log.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    for text in ("[]", "{}", "\"x\""):
        (r / "config.json").write_text(text)
        with pytest.raises(InputError, match="config.json: is damaged"): run(folders, r, config, resume=True)


def test_a_resumed_run_may_change_what_changes_no_weight(folders, tmp_path, monkeypatch):
    run(folders, tmp_path / "whole", ONE)
    def interrupt(step, record):
        if step == 2: signal.raise_signal(signal.SIGINT)
    monkeypatch.chdir(folders[0].parents[1])
    relative = [f.relative_to(folders[0].parents[1]) for f in folders]
    with pytest.raises(KeyboardInterrupt): run(relative, tmp_path / "halves", ONE, on_step=interrupt)
    assert json.loads((tmp_path / "halves/config.json").read_text())["source"] == str(folders[0])    # found from anywhere
    run(folders, tmp_path / "halves", replace(ONE, workers=1, log_every=2, keep=1, checkpoint_every=3, sample_every=6), resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    with pytest.raises(InputError, match="began with steps = 6, not 8"): run(folders, tmp_path / "halves", replace(ONE, steps=8), resume=True)
