"The game: its settings and schedules, what a step computes, and whom its gradients reach."
import json
import math
from types import SimpleNamespace

from accelerate import Accelerator

import pytest
import torch

from semst.colour import luminance_correlation
from semst.config import TrainConfig
from semst.data import InputError, rng
from semst.inputs import lr_at, step_inputs, ts_weight_at
from semst.methods import METHODS, PRESETS
from semst.model import local_box
from semst.state import TrainState, check_precision
from semst.terms import Compared, Term, weighted_sum
from semst.trainer import gan_pairs
from semst.batches import StepBatches

ONE = TrainConfig().replace(
    scales=1, crop=32, ngf=4, blocks=5, embed_dim=16, ndf=4, d_strides=(2, 1), patches=32,
    centres=16, steps=6, workers=0, log_every=1, checkpoint_every=2, sample_every=3,
    gamma_end=1.0, lambda_identity=0.0,
)
TWO = ONE.replace(scales=2, crop=64, local_crop=32)


def test_batches_are_a_function_of_the_step():
    assert list(StepBatches(3, 5, 2)) == [[6, 7], [8, 9]]
    shares = [list(StepBatches(3, 5, 4, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares)] == list(StepBatches(3, 5, 4))
    with pytest.raises(InputError, match="cannot be shared evenly by 2"):
        StepBatches(0, 1, 3, 0, 2)


def test_schedules():
    assert [lr_at(p, 2.0) for p in (0, 0.5, 0.75, 1)] == [2, 2, 1, 0]
    assert [ts_weight_at(p, 4.0, 0.2) for p in (0, 0.1, 0.2, 1)] == [0, 2, 4, 4]
    assert ts_weight_at(0, 4.0, 0) == 4


def training(config, seed=0):
    "A state at its beginning, and two pictures."
    shape = (config.data.batch_size, 3, config.model.crop, config.model.crop)
    x, y = (torch.rand(shape, generator=rng(seed, d)) * 2 - 1 for d in "xy")
    return TrainState(config, 10, Accelerator(), METHODS[config.method]), x, y


def take(state, x, y, step=None):
    "One step, as the loop takes it."
    inputs = step_inputs(state.config, state.steps, state.step)
    r = state.numbers((step or state.method.step)(state, x, y, inputs))
    state.step += 1
    return r


def ts_term(state, x):
    "The TS term of the global branch's view of x."
    view = state.translate(x).views["global"]
    compared = Compared(state, "global", view, step_inputs(state.config, 10, 0), "source")
    return state.method.losses["ts"](compared).value


def test_ts_gradient_reaches_f_only_when_shared():
    for how, reaches in (("shared", True), ("frozen", False), ("momentum", False)):
        t, x, _ = training(ONE.replace(ts_embedder=how))
        ts_term(t, x).backward()
        grads = [p.grad for p in t.model.branches["global"].embedder.parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in grads) == reaches, how
        # G learns from it in every case
        assert t.model.branches["global"].generator.model[1].weight.grad.abs().sum() > 0


def test_source_side_is_detached_unless_asked():
    gradients = []
    for detach in (True, False):
        t, x, _ = training(ONE.replace(detach_source=detach))
        ts_term(t, x).backward()
        gradients.append(t.model.branches["global"].embedder["mlp_4"][0].weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_momentum_compares_embeddings_of_the_moving_average():
    t, x, y = training(ONE.replace(ts_embedder="momentum"))
    before = ts_term(t, x).item()
    with torch.no_grad():
        for p in t.model.branches["global"].embedder.parameters():
            p.mul_(-2)
    assert ts_term(t, x).item() == before                     # F itself is not asked
    with torch.no_grad():
        for p in t.translator.branches["global"].embedder.parameters():
            p.mul_(-2)
    assert ts_term(t, x).item() != before
    with pytest.raises(InputError, match="momentum needs a moving average of the weights"):
        ONE.replace(ts_embedder="momentum", ema=0.0)


@pytest.mark.parametrize("step, decay", [(2, 3 / 12), (95, 0.9)])
def test_the_average_follows_with_its_decay_and_is_not_trained(step, decay):
    t, x, y = training(TWO.replace(ema=0.9))
    assert not {id(p) for p in t.translator.parameters()} & {
        id(p) for o in t.optimizers.values() for group in o.param_groups for p in group["params"]
    }
    t.step, t.steps = step, 200
    before = [p.clone() for p in t.translator.parameters()]
    take(t, x, y)
    assert t.translator is not t.model and t.translator.config == t.model.config
    for old, slow, fast in zip(
        before, t.translator.parameters(), t.model.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, decay * old + (1 - decay) * fast)
        assert not slow.requires_grad and fast.requires_grad


def test_without_an_average_the_weights_themselves_translate_and_the_training_is_the_same():
    (t, x, y), (s, _, _) = training(ONE.replace(ema=0.0)), training(ONE)
    assert t.translator is t.model and "average" not in t.networks
    for _ in range(2):
        take(t, x, y), take(s, x, y)
    for a, b in zip(t.model.parameters(), s.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_inversion_shows_in_the_record():
    x = torch.rand(3, 3, 8, 8) * 2 - 1
    assert luminance_correlation(x, -x).tolist() == pytest.approx([-1] * 3)
    assert luminance_correlation(x, torch.ones_like(x)).tolist() == [0] * 3
    assert luminance_correlation(x.bfloat16(), x.bfloat16()).tolist() == pytest.approx([1] * 3)
    # Rec. 601
    y, weights = torch.rand(3, 3, 8, 8) * 2 - 1, torch.tensor([0.299, 0.587, 0.114])
    grey = [torch.einsum("bchw,c->bhw", p, weights).flatten(1) for p in (x, y)]
    assert luminance_correlation(x, y).tolist() == pytest.approx(
        [torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in zip(*grey)], abs=1e-5
    )
    t, x, y = training(ONE)
    with torch.no_grad():
        expected = luminance_correlation(x, t.model(x).fused).mean().item()
    assert take(t, x, y)["luminance"] == pytest.approx(expected, abs=1e-5)


def test_objective_is_the_weighted_sum_of_equation_4():
    config = TWO.replace(
        lambda_gan=0.5, lambda_hdce=0.25, lambda_ts=3.0, lambda_identity=0.125, ts_warmup=0.0
    )
    t, x, y = training(config)
    r = take(t, x, y)
    # eqs. 2 and 3
    both = lambda name: r[f"{name}_global"] + r[f"{name}_local"]
    assert r["g_loss"] == pytest.approx(
        0.5 * r["gan"] + 0.25 * both("hdce") + 3.0 * both("ts") + 0.125 * both("identity"), rel=1e-5
    )
    assert both("ts") == pytest.approx(-both("texture") - both("structure"), rel=1e-5)


def test_discriminator_learns_first_and_alone():
    "With a frozen generator (all its weights 0 in eq. 4) D's loss falls, and G does not move."
    t, x, y = training(ONE.replace(lambda_gan=0.0, lambda_hdce=0.0, lambda_ts=0.0, lr=1e-2))
    before = [p.clone() for p in t.model.parameters()]
    losses = [take(t, x, y)["d_loss"] for _ in range(5)]
    assert losses[-1] < 0.8 * losses[0]
    for old, new in zip(before, t.model.parameters()):
        assert torch.equal(old, new)


def test_content_losses_learn():
    "hDCE alone ties each output patch to its source patch within a few steps."
    t, x, y = training(ONE.replace(lambda_gan=0.0, lambda_ts=0.0, lr=2e-3))
    t.steps = 10_000
    losses = [take(t, x, y)["hdce_global"] for _ in range(30)]
    assert losses[-1] < losses[0] - 0.5


def overflow(state, x):
    "The norm of the generator's gradient when the loss overflows."
    state.begin("generator")
    (state.model(x).fused.sum() * torch.inf).backward()
    return state.optimizer_step("generator", 1e-4)


def test_a_non_finite_gradient_is_in_the_record():
    "Though every loss is finite: the norm of a network that overflows only in the backward pass."
    t, x, y = training(ONE)
    assert all(map(math.isfinite, take(t, x, y).values()))
    assert not math.isfinite(overflow(t, x))


def test_configuration_round_trip_and_unknown_keys():
    for config in (*PRESETS.values(), ONE, TWO):
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    values = ONE.to_dict()
    with pytest.raises(InputError, match="unknown TrainConfig key lamda_ts"):
        TrainConfig.from_dict(values | dict(lamda_ts=1))
    for name, value in (("crop", 64), ("run", dict(keep=1))):         # of the model, and of a group
        with pytest.raises(InputError, match=f"unknown TrainConfig key {name}$"):
            TrainConfig.from_dict(values | {name: value})
    assert TrainConfig.from_dict({}) == TrainConfig()
    with pytest.raises(InputError, match="steps 0 must be at least 1"):
        ONE.replace(steps=0)


def test_paper_preset_holds_the_paper_s_numbers():
    "Supplement 2.1.2, 2.1.4 and 2.1.5."
    c = PRESETS["paper"]
    assert (c.model.crop, c.model.local_crop, c.model.scales, c.data.batch_size) == (512, 256, 2, 1)
    assert (c.optimizer.lr, c.optimizer.beta1, c.optimizer.beta2) == (2e-4, 0.5, 0.999)
    assert (c.objective.patches, c.model.embed_dim, c.model.blocks, c.model.ngf) == (
        256, 256, 9, 64,
    )
    assert (c.model.taps, c.objective.gan, c.optimizer.epochs) == ((0, 4, 8, 12, 16), "bce", 400)


def test_the_local_branch_is_judged_on_its_own():
    "With M = 0 everywhere only the detail share of the GAN loss reaches the local branch."
    for detail, reaches in ((0.5, True), (0.0, False)):
        t, x, y = training(TWO.replace(detail=detail, lambda_hdce=0.0, lambda_ts=0.0))
        t.model.attention.forward = lambda feats, size: torch.zeros(len(feats), 1, *size)
        take(t, x, y)
        gradient = sum(
            p.grad.abs().sum()
            for p in t.model.branches["local"].generator.parameters()
            if p.grad is not None
        )
        assert bool(gradient > 0) == reaches


def test_the_local_picture_is_judged_beside_the_same_box_of_the_target():
    "Shares of 0 are left out, and real and fake have one size in each pair."
    t, x, y = training(TWO)
    box = local_box(64, 32, rng(0, 0, "box"))
    out = t.model(x, box)
    found = {detail: gan_pairs(out, y, box, detail) for detail in (0.0, 0.25, 1.0)}
    assert [[j.share for j in pairs] for pairs in found.values()] == [[1.0], [0.75, 0.25], [1.0]]
    whole, local = found[0.25]
    assert whole.real is y and whole.fake is out.fused
    assert torch.equal(local.real, box.cut(y)) and local.fake is out.views["local"].y
    assert found[1.0][0].fake is local.fake


def test_the_attention_moves_at_its_own_rate():
    "Adam's first step has the size of the learning rate: the largest move tells the rate."
    for share in (0.1, 1.0):
        t, x, y = training(TWO.replace(attention_lr_factor=share, lr=1e-3))
        before = {name: p.detach().clone() for name, p in t.model.named_parameters()}
        record = take(t, x, y)
        moved = {
            name: (p - before[name]).abs().max().item() for name, p in t.model.named_parameters()
        }
        assert max(
            v for name, v in moved.items() if name.startswith("attention.")
        ) == pytest.approx(share * 1e-3, rel=0.2)
        assert max(
            v for name, v in moved.items() if name.split(".")[0].endswith("_branch")
        ) == pytest.approx(1e-3, rel=0.05)
        assert 0 < record["scale_map"] < 1
    t, x, y = training(TWO)
    t.model.attention.forward = lambda feats, size: torch.full((len(feats), 1, *size), 0.75)
    # inside the local box, not over the whole crop
    assert take(t, x, y)["scale_map"] == pytest.approx(0.75)
    t, x, y = training(ONE)
    assert "scale_map" not in take(t, x, y)
    assert [g["share"] for g in t.optimizers["generator"].param_groups] == [1.0]


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(tau=float("inf")), "tau inf must be finite and above 0"),
        (dict(detail=2.0), "detail 2.0 must be between 0 and 1"),
        (dict(lambda_ts=-1.0), "lambda_ts -1.0 must be finite and not negative"),
        (dict(gamma_start=0.0), "gamma_start 0.0"),
        (dict(gamma_late=float("nan")), "gamma_late nan"),
        (dict(patches=1), "patches 1 must be at least 2"),
        (dict(beta1=1.0), "beta1 1.0 must be at least 0 and below 1"),
        (dict(workers=-1), "workers -1"),
        (dict(seed=10**21), "seed 1000000000000000000000"),
        (dict(load_size=0), "load_size 0 must be at least 1"),
        (dict(taps=(0, 4)), "TS needs more than three"),
        (dict(ts_warmup=float("nan")), "ts_warmup nan"),
        (dict(lr=float("inf")), "lr inf"),
    ],
)
def test_settings_out_of_range_are_named(change, words):
    with pytest.raises(InputError, match=words):
        ONE.replace(**change)


def test_no_term_at_all_is_an_error():
    with pytest.raises(ValueError, match="no term to minimise"):
        weighted_sum({})


def test_a_term_is_one_number_and_is_named_if_not():
    with pytest.raises(TypeError, match=r"term edges_global has the shape \(2,\): give one number"):
        weighted_sum(dict(edges_global=Term(1.0, torch.ones(2))))


def test_ts_sends_no_gradient_into_a_mirrored_source():
    with pytest.raises(InputError, match="mirror encodes the mirrored source without gradient"):
        ONE.replace(mirror=True, detach_source=False)
    assert ONE.replace(mirror=True, detach_source=False, lambda_ts=0.0).objective.mirror


@pytest.mark.parametrize("term, says", [
    (torch.ones(()), "give Term"), (Term(2.0, None), "the value None: give a tensor"),
    (Term(2.0, 0.5), "the value 0.5"), (Term(2.0, torch.ones(2)), "has the shape"),
])
def test_what_is_no_term_is_named(term, says):
    with pytest.raises(TypeError, match=f"the term guess .*{says}"):
        weighted_sum(dict(guess=term))


def test_bf16_is_refused_where_a_gpu_only_imitates_it(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation: asked.append(including_emulation))
    half = ONE.replace(mixed_precision="bf16")
    with pytest.raises(InputError, match="mixed_precision bf16: this GPU does not compute"):
        check_precision(half, torch.device("cuda"))
    assert asked == [False]
    check_precision(half, torch.device("cpu"))
    check_precision(ONE, torch.device("cuda"))


def test_an_environment_of_accelerate_scales_no_gradient(monkeypatch):
    "`accelerate launch` may name fp16; its scaler would multiply every gradient."
    t, x, y = training(ONE)
    t.accelerator.scaler = SimpleNamespace(scale=lambda loss: 65536 * loss)
    other, _, _ = training(ONE)
    a, b = take(t, x, y), take(other, x, y)
    assert a["g_grad_norm"] == b["g_grad_norm"]
