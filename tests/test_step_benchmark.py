"The trainer's step has the losses, gradients and updates of the benchmark's reference step."

import functools
import importlib.util
from pathlib import Path

import pytest
import torch

import semst.generator
import semst.methods
import semst.state
import semst.trainer

spec = importlib.util.spec_from_file_location(
    "step_benchmark", Path(__file__).parent / "benchmarks" / "step.py"
)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def small(objective, **changes):
    return bench.settings(objective, 32, 4, 5).replace(patches=32, centres=16, **changes)


@pytest.mark.parametrize("objective", bench.NAMES)
def test_same_losses_gradients_and_updates(objective):
    worst = bench.check(small(objective))
    assert worst["gradients float32"] < 1e-4


def test_batches_too():
    bench.check(small("single-scale", batch_size=2))
    bench.check(small("src", batch_size=2))


def test_without_identity_too():
    bench.check(small("two-branch", lambda_identity=0.0))


@pytest.mark.parametrize(
    "objective, module, broken",
    [
        ("single-scale", semst.trainer, "hdce_loss"),
        ("cut", semst.methods, "patch_nce"),
        ("src", semst.methods, "relation_loss"),
        ("two-branch", semst.trainer, "generator_loss"),
    ],
)
def test_a_gradient_off_by_a_millionth_is_seen(objective, module, broken, monkeypatch):
    right = getattr(module, broken)
    def wrong(*args):
        loss = right(*args)
        return loss + 1e-6 * (loss - loss.detach())
    monkeypatch.setattr(module, broken, wrong)
    with pytest.raises(bench.Unequal, match="gradients differ"):
        bench.check(small(objective))


def test_a_detached_critic_is_seen(monkeypatch):
    scores = semst.state.TrainState.scores
    monkeypatch.setattr(
        semst.state.TrainState,
        "scores",
        lambda self, *pictures, **kw: scores(self, *(y.detach() for y in pictures), **kw),
    )
    with pytest.raises(bench.Unequal, match="gradients differ"):
        bench.check(small("cut"))


def test_the_compiled_side_is_held_to_the_reference(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    worst = bench.check_fast(small("two-branch"), "cpu", "fp32")
    assert worst["losses compiled fp32"] < 1e-5 and worst["gradients compiled fp32"] < 2e-2
    right = semst.generator.InstanceNorm.forward
    monkeypatch.setattr(
        semst.generator.InstanceNorm,
        "forward",
        lambda self, x: right(self, x) * (1.001 if torch.compiler.is_compiling() else 1),
    )
    torch._dynamo.reset()
    with pytest.raises(bench.Unequal, match="of the compiled side differ"):
        bench.check_fast(small("single-scale"), "cpu", "fp32")
