"The search of the methods' weights, and of what SemST's objective can be changed in."
import json
import shutil
import sys

import pytest
import torch
from conftest import ROOT
from torch.testing import assert_close

from semst.baselines import BASELINES
from semst.bench.benchmark import HOLD, PAIRS, PROFILES
from semst.bench.comparison import lead, mean_interval, read_curves
from semst.model import View
from semst.trainer import Training, start_engine
from semst.ts_loss import relative_smi

sys.path.insert(0, str(ROOT / "reproduce"))
import changes  # noqa: E402
import sweep  # noqa: E402


@pytest.mark.parametrize("pair", PAIRS)
def test_the_factors_are_those_that_the_kept_search_found(pair, monkeypatch):
    tables, seeds = sweep.read_search(ROOT / f"reproduce/hold/{pair}.csv"), (100, 101, 102)               # that no figure uses
    assert set(tables) == set(HOLD[pair]) == {*BASELINES, "semst"}
    for method, table in tables.items():
        assert all(curve[-1]["step"] == PROFILES["cpu"].steps for curves in table.values() for curve in curves.values()), method
        if pair == "sim2photo": assert all(set(curves) == {*seeds, 103} for curves in table.values()), method
        if pair == "sim2photo":                                                     # every factor on four seeds
            assert set(sweep.FACTORS[3:9]) <= set(table) and min(table) < HOLD[pair][method] < max(table)
            assert sweep.nearest_factor({f: list(curves.values()) for f, curves in table.items()}) == HOLD[pair][method], method
        else:                                                                       # the rule asks for what is kept and nothing else, and finds the factor
            monkeypatch.setattr(sweep, "score", lambda seed, name, table=table: table[float(name.split(" x")[1])][seed])
            found = sweep.search(list(seeds), method)
            assert sweep.nearest_factor(found) == HOLD[pair][method], method
            assert found == {f: [curves[s] for s in seeds[:len(curves)]] for f, curves in table.items()}, method


def searched(monkeypatch, ends):
    "What a search tries where `ends` gives the distance of a factor and a seed: factor -> seeds, and the factor it takes."
    monkeypatch.setattr(sweep, "score", lambda trial, name: [dict(sfd_oracle=99), dict(sfd_oracle=ends(float(name.split(" x")[1]), trial))])
    found = sweep.search([100, 101, 102], "cut")
    return {f: len(found[f]) for f in sorted(found)}, sweep.nearest_factor(found)


def test_the_search_keeps_three_factors_and_goes_on_beyond_an_end(monkeypatch):
    assert searched(monkeypatch, lambda f, seed: abs(f - 3)) == ({0.1: 1, 0.3: 3, 1: 3, 3: 3, 10: 1, 30: 1}, 3)
    assert searched(monkeypatch, lambda f, seed: {0.3: 0.1, 1: 0, 3: 1}.get(f, 5) if seed == 100 else f) == ({0.1: 1, 0.3: 3, 1: 3, 3: 3, 10: 1, 30: 1}, 0.3)      # a mean over seeds
    assert searched(monkeypatch, lambda f, seed: {0.3: 0, 1: 0.1, 3: 0.2}.get(f, 0.5) if seed == 100 else 5) == ({0.1: 1, 0.3: 3, 1: 3, 3: 3, 10: 1, 30: 1}, 0.3)    # one seed's luck does not win
    assert searched(monkeypatch, lambda f, seed: abs(f - 40)) == ({0.1: 1, 0.3: 1, 1: 1, 3: 3, 10: 3, 30: 3, 100: 3}, 30)
    assert searched(monkeypatch, lambda f, seed: f) == ({0.003: 3, 0.01: 3, 0.03: 3, 0.1: 3, 0.3: 3, 1: 3, 3: 1, 10: 1, 30: 1}, 0.003)                                              # to the last factor there is
    assert searched(monkeypatch, lambda f, seed: -f) == ({0.1: 1, 0.3: 1, 1: 1, 3: 3, 10: 3, 30: 3, 100: 3, 300: 3}, 300)


def test_the_search_trains_and_keeps_its_table(tmp_path, monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sweep.py", "--profile", "smoke", "--results", str(tmp_path), "--pair", "horse2zebra", "--hold", "fastcut", *words])
        sweep.main()
    monkeypatch.setattr(sweep, "FACTORS", (0.03, 0.1, 0.3, 1, 3, 10))                # it begins with the fourth
    monkeypatch.setattr(sweep, "nearest_factor", lambda curves: 3)
    call("--seeds", "100", "101")
    table = read_curves(tmp_path / "horse2zebra/sweep.csv", "setting")
    assert list(table) == ["fastcut x1", "fastcut x3", "fastcut x10"] and all(set(curves) == {100, 101} for curves in table.values())
    assert capsys.readouterr().out.endswith("fastcut: x3\n")
    config = json.loads((tmp_path / "horse2zebra/seed101/fastcut_x3/run/config.json").read_text())["config"]
    assert (config["lambda_nce"], config["seed"]) == (30, 101)
    with pytest.raises(SystemExit): call("--steps", "2")
    assert "--hold has settings of its own and the profile's steps" in capsys.readouterr().err


def test_the_sweep_trains_keeps_a_table_and_compares(tmp_path, monkeypatch, capsys):
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--profile", "smoke", "--steps", "2", "--seeds", "100", "101", "--settings", "semst", "hdce 3",
                                      "--results", str(tmp_path), "--table", str(table)])
    sweep.main()
    rows = table.read_text().splitlines()
    assert rows[0].startswith("setting,seed,step,pixel_accuracy") and len(rows) == 1 + 2 * 2 * 2              # settings, seeds, checkpoints
    config = json.loads((tmp_path / "sim2photo/seed101/hdce_3_steps_2/run/config.json").read_text())["config"]
    assert (config["lambda_hdce"], config["steps"], config["seed"]) == (3, 2, 101)
    assert "| hdce 3 |" in capsys.readouterr().out
    cut, tied = (sweep.config_of(name, PROFILES["smoke"], 1, "sim2photo") for name in ("cut x1", "cut x3"))
    assert (cut.lambda_nce, tied.lambda_nce, tied.lambda_identity, tied.lambda_gan, tied.seed) == (0.5, 1.5, 1.5, 1, 1)
    monkeypatch.setitem(HOLD["sim2photo"], "semst", 7.0)                                                                  # as if another factor had been chosen since
    with pytest.raises(SystemExit, match="was trained with other settings than 'semst' has today"): sweep.main()
    for pair in PAIRS: assert sweep.config_of("cut", PROFILES["smoke"], 1, pair) == sweep.config_of(f"cut x{HOLD[pair]['cut']:g}", PROFILES["smoke"], 1, pair)
    assert [sweep.known(name) for name in ("cut", "cut x0.3", "hdce 3", "cut xx", "cat x3", "cut x")] == [True, True, True, False, False, False]
    table.write_text("setting,seed,step,pixel_accuracy,class_accuracy,miou,sfd_oracle\n" + "\n".join(
        f"{name},{seed},{step},{score},{score},{score},{distance}" for seed in (1, 2)
        for name, step, score, distance in (("a", 1, 0.5, 4), ("a", 2, 0.4, 2), ("b", 1, 0.8, 3), ("b", 2, 0.6, 1))))
    said = sweep.compare(table)                             # at distance 2, the nearest that both reached, a has 0.4 and b 0.6
    assert said.count("+0.200 [+0.200, +0.200] 2/2") == 4 and said.count("+1.000 [+1.000, +1.000] 2/2") == 1          # three leads and the ends' mIoU; nearer by 1
    assert sweep.compare(table, ["b", "a"]).count("-0.200 [-0.200, -0.200] 0/2") == 4
    with pytest.raises(SystemExit, match="holds no setting c; it has a, b"): sweep.compare(table, ["c"])


def training_of(name, **model):
    config = sweep.config_of(name, PROFILES["smoke"], 3, "sim2photo")
    return Training(config, config.steps, start_engine("no"))


def test_ts_of_rows_knows_what_a_place_resembles_and_not_what_it_is():
    torch.manual_seed(0)
    taps = [torch.randn(1, 40, 6) for _ in range(5)]
    turn = torch.linalg.qr(torch.randn(6, 6)).Q                                           # turned together, places resemble each other as before
    a, b = changes.of_rows(taps, taps), changes.of_rows([*taps[:3], *(t @ turn for t in taps[3:])], taps)
    assert_close(b, a, atol=1e-4, rtol=0)
    texture = changes.of_rows([taps[0], taps[1], taps[2][:, torch.randperm(40)], *taps[3:]], taps)
    assert a.texture - texture.texture > 0.05 and texture.structure == a.structure         # the texture taps are as they were
    assert_close(a.texture, torch.stack([relative_smi(t, t) for t in taps[:3]]).mean())
    assert_close(a.structure, torch.stack([relative_smi(t @ t.mT, t @ t.mT) for t in taps[3:]]).mean())


def test_joint_ts_has_one_problem_for_each_group():
    torch.manual_seed(0)
    q, k = ([torch.randn(2, 40, 6) for _ in range(5)] for _ in range(2))
    found = changes.joint(q, k, bandwidth=0.4)
    assert_close(found.texture, relative_smi(torch.cat(q[:3], -1), torch.cat(k[:3], -1), bandwidth=0.4).mean())
    assert_close(found.structure, relative_smi(torch.cat(q[3:], -1), torch.cat(k[3:], -1), bandwidth=0.4).mean())


def test_same_places_lie_one_below_the_other():
    training = training_of("semst")
    x = torch.zeros(1, 3, 32, 32)
    feats = training.model.branches["global"].generator.encode(x)
    places = changes.same_places(training, View(x, x, feats), "global")
    ys, xs = zip(*((p // f.shape[-1], p % f.shape[-1]) for p, f in zip(places, feats)))
    for tap, f in enumerate(feats):                                                       # each in the picture's pixels, the first tap without its border
        border, scale = (3, 1) if tap == 0 else (0, 32 / f.shape[-1])
        for found, coarse in ((ys[tap], ys[-1]), (xs[tap], xs[-1])): assert ((found - border + 0.5) * scale - (coarse + 0.5) * 4).abs().max() <= scale / 2
    assert len(places[-1].unique()) == len(places[-1]) == min(64, training.config.patches)


def test_real_pictures_are_coarse_outside_the_box_in_the_critic_s_turn_alone(monkeypatch):
    training, seen = training_of("semst-two-scales coarse outside"), []
    monkeypatch.setattr(changes.Training, "scores", changes.coarse_outside)                 # as a training of this form has it
    monkeypatch.setitem(training.networks._modules, "discriminator", lambda x: seen.append(x) or x)
    real, fake, local = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16)
    training.scores(real, fake, local)
    coarse, same, small = seen                                                              # what the critic saw
    assert torch.equal(small, local)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[training.box().pixels[-2:]] = True
    assert torch.equal(same, fake) and torch.equal(coarse[..., inside], real[..., inside])
    steps = lambda p: (p[..., :, 1:] - p[..., :, :-1]).abs()[..., ~inside[:, 1:]].mean()
    assert steps(coarse) < 0.6 * steps(real)
    seen.clear()
    training.scores(fake.requires_grad_(), local)
    assert torch.equal(seen[0], fake) and torch.equal(seen[1], local)


def test_local_reals_weigh_half_in_the_critic_s_turn_alone(monkeypatch):
    training = training_of("semst-two-scales local reals")
    monkeypatch.setattr(changes.Training, "scores", changes.local_reals)
    monkeypatch.setitem(training.networks._modules, "discriminator", lambda x: x[:, :1, ::2])     # scores that are pixels
    real, fake, local = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16)
    both, *fakes = training.scores(real, fake, local)
    assert_close(both.square().mean(), (real[:, :1, ::2].square().mean() + training.box().cut(real)[:, :1, ::2].square().mean()) / 2)
    assert torch.equal(fakes[0], fake[:, :1, ::2]) and torch.equal(fakes[1], local[:, :1, ::2])
    assert [z.shape for z in training.scores(fake.requires_grad_(), local)] == [fakes[0].shape, fakes[1].shape]


@pytest.mark.parametrize("name", [*changes.CHANGES, *changes.FORMS])
def test_a_change_is_the_only_one(name):
    changed, plain = (sweep.config_of(n, PROFILES["cpu"], 1, "horse2zebra") for n in (name, name.split()[0]))
    assert {f: v for f, v in vars(changed).items() if v != vars(plain)[f]} == changes.CHANGES.get(name, {})
    for where, what, instead in changes.FORMS.get(name, ()): assert getattr(where, what) is not instead            # as long as it is not asked for


def test_another_form_trains_otherwise_and_leaves_no_trace(tmp_path, monkeypatch):
    trial = sweep.Trial(tmp_path, "smoke", "sim2photo", 100)
    plain, *formed = (sweep.score(trial, name, 2)[-1] for name in ("semst", "semst ts of rows", "semst same places", "semst ts joint"))
    assert len({p["sfd_oracle"] for p in (plain, *formed)}) == 4
    shutil.rmtree(trial.folder / "semst_steps_2")
    assert sweep.score(trial, "semst", 2)[-1] == plain


def test_every_change_was_trained_and_the_rule_was_kept():
    first, again = (read_curves(ROOT / f"reproduce/{name}.csv", "setting") for name in ("changes", "changes_again"))
    assert set(first) == {"semst", "semst-two-scales", *changes.CHANGES, *changes.FORMS} and all(set(every) == {100, 101, 102, 103, 104} for every in first.values())
    def gaps(table, name):
        pairs = [(every, table[name.split()[0]][seed]) for seed, every in table[name].items()]
        return [mean_interval([gap(a, b) for a, b in pairs]) for gap in (lambda a, b: b[-1]["sfd_oracle"] - a[-1]["sfd_oracle"], lambda a, b: lead(a, b, "pixel_accuracy"))]
    went_on = {name for name in (*changes.CHANGES, *changes.FORMS) if min(g.mean for g in gaps(first, name)) > 0}
    assert went_on == set(again) - {"semst"} and all(set(every) == set(range(105, 115)) for every in again.values())
    for name in went_on:                                                                  # none became the default
        found = gaps(again, name)
        assert not (max(g.low for g in found) > 0 and min(g.mean for g in found) > 0)
