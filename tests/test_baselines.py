"The baselines: each is what defines it, and each is trained, stopped and resumed like SemST."
import json
import signal
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_trainer import ONE, assert_same, folders, run, weights  # noqa: F401 (a fixture)

from semst.baselines import BASELINES, METHODS, OBJECTIVES, PRESETS, CycleGAN, GcGAN, cycle_gap, geometry_gap
from semst.data import InputError, rng
from semst.multiscale import SemST
from semst.trainer import content_losses, last_checkpoint, start_engine, train, train_step


def start(name, **more):
    config = replace(ONE, **OBJECTIVES[name], **more)
    return METHODS[config.method].training(config, 10, start_engine("no")), *(torch.rand(1, 3, 32, 32, generator=rng("b", d)) * 2 - 1 for d in "xy")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_logs_only_its_terms(name):
    t, x, y = start(name)
    record = METHODS[t.config.method].step(t, x, y)
    weighted = {k.split("_")[0] for k in record if k != "ts_weight" and k.split("_")[0] in ("hdce", "ts", "nce", "relation", "scc", "cycle", "geometry", "identity")}
    assert weighted == {k for k in ("hdce", "ts", "nce", "relation", "scc", "cycle", "geometry", "identity") if getattr(t.config, f"lambda_{k}")}
    assert all(torch.isfinite(torch.tensor(v)) for v in record.values())


@pytest.mark.parametrize("name", ["cyclegan", "gcgan", "fastcut"])
def test_a_resumed_baseline_ends_bit_for_bit_like_one_that_never_stopped(folders, tmp_path, name):  # noqa: F811
    config = replace(ONE, **OBJECTIVES[name])
    run(folders, tmp_path / "whole", config)
    def interrupt(step, record):
        if step == 2: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt): run(folders, tmp_path / "halves", config, on_step=interrupt)
    run(folders, tmp_path / "halves", config, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    SemST.from_pretrained(tmp_path / "whole")                                    # and translates like any other run


def test_cyclegan_is_two_games_and_two_cycles():
    t, x, y = start("cyclegan")
    there, back = t.model, t.networks["back"]
    with torch.no_grad():
        y_fake, x_fake = there(x).fused, back(y).fused
        cycle = F.l1_loss(back(y_fake).fused, x) + F.l1_loss(there(x_fake).fused, y)
        identity = F.l1_loss(there(y).fused, y) + F.l1_loss(back(x).fused, x)
        d = 0.5 * sum((s(real) - 1).square().mean() + s(fake).square().mean()
                      for s, real, fake in ((t.critic, y, y_fake), (t.networks["other_discriminator"], x, x_fake)))
    r = METHODS["cyclegan"].step(t, x, y)
    assert (r["cycle"], r["identity"], r["d_loss"]) == (pytest.approx(cycle.item(), rel=1e-5), pytest.approx(identity.item(), rel=1e-5), pytest.approx(d.item(), rel=1e-5))
    assert r["g_loss"] == pytest.approx(r["gan"] + 10 * r["cycle"] + 5 * r["identity"], rel=1e-5)


def test_cycle_gap():
    x = torch.rand(1, 3, 8, 8)
    y, gap = cycle_gap(lambda v: 2 * v, lambda v: v / 2, x)
    assert gap == 0 and torch.equal(y, 2 * x)
    assert cycle_gap(lambda v: v, lambda v: v + 0.25, x)[1] == pytest.approx(0.25)


def test_gcgan_sees_a_painter_that_knows_up_from_down():
    x = torch.rand(1, 3, 8, 8)
    assert geometry_gap(lambda v: v.square(), x)[2] == 0
    assert geometry_gap(lambda v: v + torch.linspace(0, 1, 8)[:, None], x)[2] > 0.1


def test_gcgan_s_step_uses_both_discriminators():
    t, x, y = start("gcgan")
    before = {n: [p.clone() for p in t.networks[n].parameters()] for n in ("discriminator", "other_discriminator")}
    METHODS["gcgan"].step(t, x, y)
    for n, old in before.items(): assert any(not torch.equal(a, b) for a, b in zip(old, t.networks[n].parameters())), n


def test_mirror_compares_mirrored_pictures():
    "With a generator whose features commute with mirroring nothing changes; with ours half of the steps do."
    t, x, _ = start("fastcut")
    view = t.model(x).views["global"]
    values = {mirror: [content_losses(_with(t, mirror), "global", view, (0, s), 10.0, {"nce"})["nce"].item() for s in range(12)] for mirror in (True, False)}
    assert 0 < sum(a != b for a, b in zip(values[True], values[False])) < 12
    symmetric = x + x.flip(-1)
    view = view._replace(x=symmetric, feats=[torch.ones_like(f) for f in view.feats])
    t.model.branches["global"].generator.encode = lambda v: [torch.ones_like(f) for f in view.feats]
    values = {mirror: [content_losses(_with(t, mirror), "global", view, (0, s), 10.0, {"nce"})["nce"].item() for s in range(12)] for mirror in (True, False)}
    assert values[True] == values[False]


def _with(training, mirror):
    training.config = replace(training.config, mirror=mirror)
    return training


def test_identity_is_the_contrastive_loss_on_the_target():
    t, x, y = start("cut")
    where_key = (0, 0, "identity")
    expected = content_losses(t, "global", t.model(y).views["global"], where_key, 50.0, {"nce"})["nce"].item()
    assert train_step(t, x, y)["identity_global"] == pytest.approx(expected, rel=1e-5)


def test_hard_negatives_switched_off_is_decoupled_infonce():
    from semst.hdce_loss import hdce_loss
    q, k = (F.normalize(torch.randn(1, 32, 16), dim=-1) for _ in "qk")
    config = replace(ONE, **OBJECTIVES["semst-without-hard-negatives"])
    assert hdce_loss(q, k, config.gamma_start).item() == pytest.approx(hdce_loss(q, k, None).item(), abs=1e-4)


def test_presets_and_errors(folders, tmp_path):  # noqa: F811
    assert set(BASELINES) <= set(PRESETS)
    for cls in (CycleGAN, GcGAN):
        with pytest.raises(InputError, match="one scale"): cls(PRESETS["paper"], 1, start_engine("no"))
    with pytest.raises(InputError, match="method 'magic' is none of semst, cyclegan, gcgan"): train(*folders, tmp_path / "r", replace(ONE, method="magic"), quiet=True)
    assert not (tmp_path / "r").exists()


def test_a_setting_younger_than_the_run_has_its_default(folders, tmp_path):  # noqa: F811
    run(folders, tmp_path / "r", replace(ONE, steps=2))
    about = json.loads((tmp_path / "r/config.json").read_text())
    for key in ("method", "lambda_nce", "mirror"): del about["config"][key]
    (tmp_path / "r/config.json").write_text(json.dumps(about))
    run(folders, tmp_path / "r", replace(ONE, steps=2), resume=True)
    assert last_checkpoint(tmp_path / "r").name == "step_00000002"
