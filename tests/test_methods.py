"The baselines: each is what defines it, and each is trained, stopped and resumed like SemST."
import json
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from test_runs import Interrupt, assert_same, folders, run, weights  # noqa: F401 (a fixture)
from test_trainer import ONE, TWO, take

from semst.checkpoint import last_checkpoint
from semst.config import TrainConfig
from semst.data import InputError, rng
from semst.hdce_loss import hdce_loss, patch_nce, relation_loss
from semst.inputs import step_inputs
from semst.methods import (
    BASELINES, METHODS, OBJECTIVES, PRESETS, cycle_gap, cyclegan_networks, gcgan_networks,
    geometry_gap, method_of)
from semst.model import SemST, View
from semst.patch_sampling import sample_locations
from semst.state import TrainState, check_terms
from semst.terms import Compared
from semst.trainer import SEMST
from semst.training import train
from semst.ts_loss import scc_released


def start(name, **more):
    config = ONE.replace(**OBJECTIVES[name], **more)
    x, y = (torch.rand(1, 3, 32, 32, generator=rng("b", d)) * 2 - 1 for d in "xy")
    return TrainState(config, 10, Accelerator(), METHODS[config.method]), x, y


def term_of(state, name, view, step=0, purpose="source"):
    "The value of one content loss of the global branch."
    inputs = step_inputs(state.config, 100, step)
    return state.method.losses[name](Compared(state, "global", view, inputs, purpose)).value.item()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_logs_only_its_terms(name):
    t, x, y = start(name)
    record = take(t, x, y)
    names = ("hdce", "ts", "nce", "relation", "scc", "cycle", "geometry", "identity")
    logged = {k.split("_")[0] for k in record if k != "ts_weight"}
    assert logged & set(names) == {k for k in names if getattr(t.config.objective, f"lambda_{k}")}
    assert all(torch.isfinite(torch.tensor(v)) for v in record.values())


@pytest.mark.parametrize("name", ["cyclegan", "gcgan", "fastcut"])
def test_a_resumed_baseline_ends_like_one_that_never_stopped(folders, tmp_path, name):  # noqa: F811
    config = ONE.replace(**OBJECTIVES[name])
    run(folders, tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "halves", config, hooks=[Interrupt(2)])
    run(folders, tmp_path / "halves", config, resume=True)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "halves"))
    # and translates like any other run
    SemST.from_pretrained(tmp_path / "whole")


def loud(training):
    "Discriminators whose scores differ; at the initial gain all scores are near zero."
    for name in ("discriminator", "other_discriminator"):
        for p in training.networks[name].parameters():
            if p.dim() > 1:
                torch.nn.init.xavier_normal_(p)
    return training.networks["discriminator"], training.networks["other_discriminator"]


def least_squares(critic, real, fake):
    return 0.5 * ((critic(real) - 1).square().mean() + critic(fake).square().mean())


def test_cyclegan_is_two_games_and_two_cycles():
    # so slow that the D step does not change what G meets
    t, x, y = start("cyclegan", lr=1e-9)
    there, back, (d, d_x) = t.model, t.networks["back"], loud(t)
    with torch.no_grad():
        y_fake, x_fake = there(x).fused, back(y).fused
        cycle = F.l1_loss(back(y_fake).fused, x) + F.l1_loss(there(x_fake).fused, y)
        identity = F.l1_loss(there(y).fused, y) + F.l1_loss(back(x).fused, x)
        d_loss = least_squares(d, y, y_fake) + least_squares(d_x, x, x_fake)
        gan = (d(y_fake) - 1).square().mean() + (d_x(x_fake) - 1).square().mean()
    r = take(t, x, y)
    for name, value in dict(cycle=cycle, identity=identity, d_loss=d_loss, gan=gan).items():
        assert r[name] == pytest.approx(value.item(), rel=1e-4), name
    assert r["g_loss"] == pytest.approx(r["gan"] + 10 * r["cycle"] + 5 * r["identity"], rel=1e-5)


def test_gcgan_is_two_games_and_one_gap():
    t, x, y = start("gcgan", lr=1e-9)
    paint, (d, d_turned) = (lambda v: t.model(v).fused), loud(t)
    turn = lambda v: v.rot90(1, (-2, -1))
    with torch.no_grad():
        y_fake, y_turned = paint(x), paint(turn(x))
        d_loss = least_squares(d, y, y_fake) + least_squares(d_turned, turn(y), y_turned)
        gan = (d(y_fake) - 1).square().mean() + (d_turned(y_turned) - 1).square().mean()
        identity = F.l1_loss(paint(y), y)
    r = take(t, x, y)
    geometry = F.l1_loss(turn(y_fake), y_turned)
    for name, value in dict(geometry=geometry, identity=identity, d_loss=d_loss, gan=gan).items():
        assert r[name] == pytest.approx(value.item(), rel=1e-4), name
    assert r["g_loss"] == pytest.approx(r["gan"] + 20 * r["geometry"] + 3 * r["identity"], rel=1e-5)


def test_cycle_gap():
    x = torch.rand(1, 3, 8, 8)
    y, gap = cycle_gap(lambda v: 2 * v, lambda v: v / 2, x)
    assert gap == 0 and torch.equal(y, 2 * x)
    assert cycle_gap(lambda v: v, lambda v: v + 0.25, x)[1] == pytest.approx(0.25)


def test_gcgan_sees_a_painter_that_knows_up_from_down():
    x = torch.rand(1, 3, 8, 8)
    assert geometry_gap(lambda v: v.square(), x)[2] == 0
    assert geometry_gap(lambda v: v + torch.linspace(0, 1, 8)[:, None], x)[2] > 0.1


@pytest.mark.parametrize(
    "name, term", [("cut", "nce"), ("src", "relation"), ("src", "hdce"), ("scc", "scc")]
)
def test_a_term_is_its_loss_between_translation_and_source(name, term):
    t, x, _ = start(name)
    net = t.model.branches["global"]
    for module in net.embedder.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_normal_(module.weight)
    view = t.model(x).views["global"]
    where = [
        sample_locations(*f.shape[-2:], t.config.objective.patches, rng(0, 0, "global", tap))
        for tap, f in enumerate(view.feats)
    ]
    q = net.embedder(net.generator.encode(view.y), where)
    k = net.embedder(net.generator.encode(x), where)
    losses = dict(nce=patch_nce, relation=relation_loss, hdce=lambda q, k: hdce_loss(q, k, 50.0))
    if term == "scc":
        expected, other = scc_released(x, view.y).item(), scc_released(view.y, view.y).item()
    else:
        expected = sum(losses[term](a, b).item() for a, b in zip(q, k)) / len(q)
        other = sum(losses[term](b, a).item() for a, b in zip(q, k)) / len(q)
    measured = term_of(t, term, view)
    assert measured == pytest.approx(expected, rel=1e-5)
    if term != "relation":
        # translation and source do not change places
        assert measured != pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("name", ["cyclegan", "gcgan"])
def test_every_network_of_a_game_learns(name):
    t, x, y = start(name)
    before = {k: v.clone() for k, v in t.networks.state_dict().items()}
    take(t, x, y)
    after = t.networks.state_dict()
    moved = {k.split(".")[0] for k, v in after.items() if not torch.equal(v, before[k])}
    expected = {"semst", "average", "discriminator", "other_discriminator"}
    if name == "cyclegan":
        expected.add("back")
    assert moved == set(t.networks) == expected


def test_mirror_compares_mirrored_pictures():
    "With features that commute with mirroring, a mirrored step is a step on the mirrored pair."
    t, x, _ = start("fastcut")
    generator = t.model.branches["global"].generator
    shapes = [f.shape for f in generator.encode(x)]
    generator.encode = lambda v: [
        F.adaptive_avg_pool2d(v, s[-2:]).repeat(1, -(-s[1] // 3), 1, 1)[:, : s[1]] for s in shapes
    ]
    y = torch.rand(1, 3, 32, 32, generator=rng("another")) * 2 - 1
    def nce(mirror, turn, step):
        view = View(turn(x), turn(y), generator.encode(turn(x)))
        return term_of(_with(t, mirror), "nce", view, step)
    same, mirrored = (lambda v: v), (lambda v: v.flip(-1))
    kinds = []
    for step in range(12):
        plain = nce(False, same, step)
        turned = nce(False, mirrored, step)
        asked = nce(True, same, step)
        assert plain != turned
        assert asked in (pytest.approx(plain, rel=1e-5), pytest.approx(turned, rel=1e-5))
        kinds.append(asked == pytest.approx(turned, rel=1e-5))
    assert 0 < sum(kinds) < 12


def _with(training, mirror):
    training.config = training.config.replace(mirror=mirror)
    return training


def test_identity_is_the_contrastive_loss_on_the_target():
    t, x, y = start("cut")
    expected = term_of(t, "nce", t.model(y).views["global"], purpose="identity")
    assert take(t, x, y)["identity_global"] == pytest.approx(expected, rel=1e-5)


def test_hard_negatives_switched_off_is_decoupled_infonce():
    q, k = (F.normalize(torch.randn(1, 32, 16), dim=-1) for _ in "qk")
    config = ONE.replace(**OBJECTIVES["semst-without-hard-negatives"])
    ours = hdce_loss(q, k, config.objective.gamma_start).item()
    assert ours == pytest.approx(hdce_loss(q, k, None).item(), abs=1e-4)


def test_presets_and_errors(folders, tmp_path):  # noqa: F811
    assert set(BASELINES) <= set(PRESETS)
    for networks in (cyclegan_networks, gcgan_networks):
        with pytest.raises(InputError, match="one scale"):
            networks(PRESETS["paper"])
    with pytest.raises(InputError, match="unknown method 'magic': one of semst, cyclegan, gcgan"):
        run(folders, tmp_path / "r", ONE.replace(method="magic"))
    assert not (tmp_path / "r").exists()


def test_a_setting_younger_than_the_run_has_its_default(folders, tmp_path):  # noqa: F811
    run(folders, tmp_path / "r", ONE.replace(steps=2))
    about = json.loads((tmp_path / "r/config.json").read_text())
    for key in ("method", "lambda_nce", "mirror"):
        del about["config"][key]
    (tmp_path / "r/config.json").write_text(json.dumps(about))
    run(folders, tmp_path / "r", ONE.replace(steps=2), resume=True)
    assert last_checkpoint(tmp_path / "r").name == "step_00000002"


BATCHES = {
    name: ONE.replace(**dict(lambda_identity=1.0) | objective)
    for name, objective in OBJECTIVES.items()
} | {
    "two scales": TWO.replace(lambda_identity=1.0),
    "two scales, no detail": TWO.replace(detail=0.0),
    "density": TWO.replace(weighting="density"),
    "frozen": ONE.replace(ts_embedder="frozen"),
    "momentum": ONE.replace(ts_embedder="momentum"),
    "source not detached": ONE.replace(detach_source=False),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_two_is_the_mean_of_its_pictures(name):
    "Terms and gradients in float64: each picture has its own negatives, statistics and box."
    # so slow that the D step does not change what G meets
    config = BATCHES[name].replace(lr=1e-12, batch_size=2, ts_warmup=0.0,
                                   ema=0.5 if name == "momentum" else 0.0)
    method, size = METHODS[config.method], config.model.crop
    def step(x, y):
        training = TrainState(config, 10, Accelerator(), method)
        training.step = 4
        torch.manual_seed(5)
        for p in training.networks.parameters():
            if p.ndim > 1:
                torch.nn.init.xavier_normal_(p)
            else:
                torch.nn.init.normal_(p, std=0.1)
        training.networks.double()
        # what is taken out of half precision stays double here
        with mock.patch.object(
            torch.Tensor, "float", lambda v: v if v.dtype == torch.float64 else v.to(torch.float32)
        ):
            record = take(training, x, y)
        gradients = [p.grad for n in training.networks.values() for p in n.parameters()]
        return record, torch.cat([g.flatten() for g in gradients if g is not None])

    x, y = (torch.rand(2, 3, size, size, generator=rng("two", d)).double() * 2 - 1 for d in "xy")
    # two pictures of different kinds
    x[1], y[1] = 0.3 * x[1], 0.2 * y[1]
    (both, whole), (one, first), (two, second) = step(x, y), step(x[:1], y[:1]), step(x[1:], y[1:])
    assert (whole - (first + second) / 2).norm() < 1e-8 * whole.norm()
    assert (first - second).norm() > 0.05 * whole.norm()
    terms = [k for k in both if "norm" not in k]
    assert len(terms) > 5
    for k in terms:
        assert both[k] == pytest.approx((one[k] + two[k]) / 2, rel=1e-6, abs=1e-7), k


@pytest.mark.parametrize("name, term", [("semst", "cycle"), ("cyclegan", "hdce"), ("gcgan", "scc")])
def test_a_weight_that_a_method_ignores_is_an_error(name, term):
    config = TrainConfig().replace(scales=1, **OBJECTIVES[name])
    check_terms(config, method_of(config))
    with pytest.raises(InputError, match=f"has no term {term}: give lambda_{term} 0"):
        check_terms(config.replace(**{f"lambda_{term}": 1.0}), method_of(config))


def test_the_paper_s_method_alone_does_not_drop_a_baseline_s_weight():
    for name in ("nce", "cycle"):
        with pytest.raises(InputError, match=f"the method that trains has no term {name}"):
            train(("no", "folders"), "run", ONE.replace(**{f"lambda_{name}": 1.0}), method=SEMST)
