"""One training step, ours against a reference step.

The reference computes the same objective, written as the code bases of CUT and SRC write theirs.

    python tests/benchmarks/step.py              # 64x64, the networks of the preset `tiny`
    python tests/benchmarks/step.py --size 256 --ngf 32 --rounds 1 --objectives cut single-scale
    # with a third side: compiled, in bf16, and on a GPU recorded
    python tests/benchmarks/step.py --size 256 --batch 4 --fast bf16

All sides take turns in one process. Before that, ours and the reference make one step from the
same weights on the same images and patch locations. Unless losses, gradients and updates agree,
no time is printed. The third side must agree, too: to rounding in float32, within 5 % in bf16.
`cpu s` is processor time, which suffers less than the clock from other programs. On a GPU,
`of peak` is of its bf16 matrix product.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from semst.config import TrainConfig
from semst.data import rng
from semst.hdce_loss import gamma_at
from semst.inputs import lr_at, step_inputs, ts_weight_at
from semst.methods import METHODS, OBJECTIVES, PRESETS
from semst.model import local_box
from semst.patch_sampling import sample_locations
from semst.speed import compiled, fast_step
from semst.state import TrainState

# benchmark's name: objective of notebook 11
NAMES = {"cut": "cut", "src": "src", "single-scale": "semst", "two-branch": "semst"}


# The reference: networks and losses of their own, so that a mistake in ours cannot hide.
# Weights have the names of ours.

class Norm(nn.Module):
    """nn.InstanceNorm2d with an incoming gradient that is made contiguous first.

    Its own gradient is wrong at batch 1 if the incoming one is channels_last."""

    def forward(self, x):
        y = F.instance_norm(x)
        if y.requires_grad:
            y.register_hook(lambda g: g.contiguous())
        return y


class BlurPool(nn.Module):
    def __init__(self, channels):
        super().__init__()
        k = torch.tensor([1.0, 2.0, 1.0])
        self.pad, self.channels = nn.ReflectionPad2d(1), channels
        self.register_buffer(
            "filt", (k[:, None] * k / 16)[None, None].repeat(channels, 1, 1, 1), persistent=False
        )

    def forward(self, x):
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=self.channels)


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), Norm(), nn.ReLU(True),
            nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), Norm(),
        )

    def forward(self, x):
        return x + self.conv_block(x)


class Generator(nn.Module):
    def __init__(self, m):
        super().__init__()
        def up(a, b):
            return [nn.ConvTranspose2d(a, b, 3, 2, 1, 1), Norm(), nn.ReLU(True)]
        n, self.taps = m.ngf, m.taps
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, n, 7),
            Norm(),
            nn.ReLU(True),
            nn.Conv2d(n, 2 * n, 3, padding=1),
            Norm(),
            nn.ReLU(True),
            BlurPool(2 * n),
            nn.Conv2d(2 * n, 4 * n, 3, padding=1),
            Norm(),
            nn.ReLU(True),
            BlurPool(4 * n),
            *(Block(4 * n) for _ in range(m.blocks)),
            *up(4 * n, 2 * n),
            *up(2 * n, n),
            nn.ReflectionPad2d(3),
            nn.Conv2d(n, 3, 7),
            nn.Tanh(),
        )

    def forward(self, x, encode_only=False):
        feats = []
        for i, layer in enumerate(self.model):
            x = layer(x)
            if encode_only and i in self.taps:
                feats.append(x)
            if encode_only and i == self.taps[-1]:
                return feats
        return x


class Embedder(nn.Module):
    def __init__(self, channels, dim):
        super().__init__()
        for i, n in enumerate(channels):
            setattr(
                self, f"mlp_{i}", nn.Sequential(nn.Linear(n, dim), nn.ReLU(), nn.Linear(dim, dim))
            )

    def forward(self, feats, where):
        embeds = []
        for i, (f, ids) in enumerate(zip(feats, where)):
            v = getattr(self, f"mlp_{i}")(
                f.permute(0, 2, 3, 1).flatten(1, 2)[:, ids.to(f.device), :]
            )
            embeds.append(v / (v.norm(dim=-1, keepdim=True) + 1e-7))
        return embeds


class Discriminator(nn.Module):
    def __init__(self, ndf, strides):
        super().__init__()
        layers, a = [], 3
        for i, stride in enumerate(strides):
            b = ndf * min(2**i, 8)
            layers += (
                [nn.Conv2d(a, b, 4, stride, 1)]
                + ([Norm()] if i else [])
                + [nn.LeakyReLU(0.2, True)]
            )
            a = b
        self.model = nn.Sequential(*layers, nn.Conv2d(a, 1, 4, padding=1))

    def forward(self, x):
        return self.model(x)


class Attention(nn.Module):
    def __init__(self, n, kernel, stride):
        super().__init__()
        self.aspp = nn.Module()
        self.aspp.pooled = nn.Conv2d(n, n, 1)
        self.aspp.dilated = nn.ModuleList(
            nn.Conv2d(n, n, kernel, dilation=d, padding=(kernel - 1) * d // 2)
            for d in (1, 6, 12, 18)
        )
        self.fuse, self.predict = nn.Conv2d(5 * n, n, 3, stride, 1), nn.Conv2d(n, 1, 1)

    def forward(self, f, size):
        views = [
            self.aspp.pooled(f.mean((2, 3), keepdim=True)),
            *(conv(f) for conv in self.aspp.dilated),
        ]
        views = torch.cat(
            [F.interpolate(torch.relu(v), f.shape[2:], mode="bilinear") for v in views], 1
        )
        return F.interpolate(
            torch.sigmoid(self.predict(torch.relu(self.fuse(views)))), size, mode="bilinear"
        ).clamp(max=1)


def gan_loss(scores, real, kind):
    truth = torch.ones_like(scores) if real else torch.zeros_like(scores)
    return (
        F.mse_loss(scores, truth)
        if kind == "lsgan"
        else F.binary_cross_entropy_with_logits(scores, truth)
    )


def nce(q, k, tau):
    same = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)[None]
    positive = (q * k).sum(-1, keepdim=True)
    negative = (q @ k.transpose(1, 2)).masked_fill(same, -10.0)
    logits = torch.cat((positive, negative), -1).flatten(0, 1) / tau
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=q.device))


def hdce(q, k, tau, gamma):
    same = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)[None]
    relation = torch.softmax((k @ k.transpose(1, 2)).masked_fill(same, -1e9) / gamma, -1)
    weights = relation / relation.max(-1, keepdim=True).values
    negative = (weights * (q @ k.transpose(1, 2)) / tau).exp().masked_fill(same, 0.0).sum(-1)
    return (negative.log() - (q * k).sum(-1) / tau).mean()


def relation_consistency(q, k):
    total = 0.0
    for a, b in zip(q, k):
        a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
        p, r = torch.softmax(a @ a.T, -1), torch.softmax(b @ b.T, -1)
        m = (0.5 * (p + r)).log()
        total = total + 0.5 * (F.kl_div(m, p, reduction="sum") + F.kl_div(m, r, reduction="sum"))
    return total / len(q)


def gaussian(x, c, bandwidth):
    middle = x.mean(0).detach()
    x, c = x - middle, c - middle
    d2 = ((x**2).sum(1)[:, None] + (c**2).sum(1) - 2 * x @ c.T).clamp(min=0)
    apart = d2.detach()[d2.detach() > 1e-5 * d2.detach().mean()]
    return torch.exp(-d2 / (2 * bandwidth**2 * apart.median()))


def rsmi(x, y, c, beta=0.5):
    n = len(x)
    chosen = torch.linspace(0, n - 1, min(c.centres, n)).round().long().to(x.device)
    k_x, k_y = gaussian(x, x[chosen], c.bandwidth), gaussian(y, y[chosen], c.bandwidth)
    H = beta / n * (k_x * k_y).T @ (k_x * k_y) + (1 - beta) / n**2 * (k_x.T @ k_x) * (k_y.T @ k_y)
    h = (k_x * k_y).mean(0)
    alpha = torch.linalg.solve(H + c.ridge * torch.eye(len(H), dtype=H.dtype, device=x.device), h)
    return 2 * alpha @ h - alpha @ H @ alpha - 1


def flat(config: TrainConfig) -> SimpleNamespace:
    "The settings side by side."
    return SimpleNamespace(**config.to_dict() | dict(model=config.model))


class Reference:
    """The step as the peers write it.

    The encoder runs again over the source. D runs for real, fake and G's loss separately.
    Each network has a plain Adam."""

    def __init__(self, training: TrainState, dtype: torch.dtype = torch.float32):
        c = self.config = flat(training.config)
        self.step, self.steps = training.step, training.steps
        m, n = c.model, c.model.ngf
        self.nets = {"discriminator": Discriminator(c.ndf, c.d_strides)}
        for branch in ("global", "local")[:m.scales]:
            self.nets[f"semst.{branch}_branch.generator"] = Generator(m)
            self.nets[f"semst.{branch}_branch.embedder"] = Embedder(
                (3, 2 * n, 4 * n, 4 * n, 4 * n), m.embed_dim
            )
        if m.scales == 2:
            self.nets["semst.attention"] = Attention(4 * n, m.attention_kernel, m.attention_stride)
        state = training.networks.state_dict()
        for name, net in self.nets.items():
            net.to(dtype).load_state_dict(
                {
                    k.removeprefix(f"{name}."): v
                    for k, v in state.items()
                    if k.startswith(f"{name}.")
                }
            )
            net.to(training.accelerator.device)
        self.optimizers = {
            name: torch.optim.Adam(
                net.parameters(), c.lr, (c.beta1, c.beta2), foreach=False, fused=False
            )
            for name, net in self.nets.items()
        }

    def parameters(self):
        return {
            f"{name}.{k}": p for name, net in self.nets.items() for k, p in net.named_parameters()
        }

    def paint(self, x, y):
        """The fused picture, and what each branch saw and painted of x.

        And of y if the objective asks for it, in one batch with x, as CUT does."""
        m, n, size, nets = self.config.model, len(x), x.shape[2:], self.nets
        both = torch.cat((x, y)) if self.config.lambda_identity else x
        if m.scales == 1:
            inputs = {"global": both}
        else:
            top, left, side = local_box(
                m.crop, m.local_crop, rng(self.config.seed, self.step, "box")
            )
            inputs = {
                "global": F.interpolate(
                    both, scale_factor=1 / m.shrink, mode="bilinear", antialias=True
                ),
                "local": both[:, :, top : top + side, left : left + side],
            }
        painted = {
            branch: nets[f"semst.{branch}_branch.generator"](v) for branch, v in inputs.items()
        }
        views, same = (
            {branch: (inputs[branch][part], painted[branch][part]) for branch in inputs}
            for part in (slice(0, n), slice(n, None))
        )
        if m.scales == 1:
            return painted["global"][:n], views, same
        mask = torch.zeros_like(x[:, :1])
        mask[:, :, top:top + side, left:left + side] = 1
        around = (left, size[1] - left - side, top, size[0] - top - side)
        m_map = (
            nets["semst.attention"](
                nets["semst.global_branch.generator"](views["global"][0], encode_only=True)[-1],
                size,
            )
            * mask
        )
        fused = (1 - m_map) * F.interpolate(
            views["global"][1], size, mode="bilinear"
        ) + m_map * F.pad(views["local"][1], around)
        return fused, views, same

    def content(self, branch, x, y, key, names):
        c = self.config
        G = self.nets[f"semst.{branch}_branch.generator"]
        E = self.nets[f"semst.{branch}_branch.embedder"]
        gamma = gamma_at(self.step / self.steps, c.gamma_start, c.gamma_end, c.gamma_late)
        losses = {}
        feats_q, feats_k = G(y, encode_only=True), G(x, encode_only=True)
        where = [
            sample_locations(*f.shape[2:], c.patches, rng(*key, branch, tap))
            for tap, f in enumerate(feats_k)
        ]
        embeds_q, embeds_k = E(feats_q, where), [e.detach() for e in E(feats_k, where)]
        taps = len(embeds_q)
        for name in names:
            total = [0.0] * taps
            for tap, (q, k) in enumerate(zip(embeds_q, embeds_k)):
                if name == "nce":
                    total[tap] = nce(q, k, c.tau)
                if name == "hdce":
                    total[tap] = hdce(q, k, c.tau, gamma)
                if name == "relation":
                    total[tap] = relation_consistency(q, k)
                if name == "ts":
                    total[tap] = sum(rsmi(a, b, c) for a, b in zip(q, k)) / len(q)
            if name == "ts":
                losses["texture"], losses["structure"] = (
                    sum(total[:3]) / 3,
                    sum(total[3:]) / (taps - 3),
                )
                losses["ts"] = (
                    -c.texture_weight * losses["texture"] - c.structure_weight * losses["structure"]
                )
            else:
                losses[name] = sum(total) / taps
        return losses

    def __call__(self, x, y) -> dict[str, float]:
        c, D, key = self.config, self.nets["discriminator"], (self.config.seed, self.step)
        progress = self.step / self.steps
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = lr_at(progress, c.lr) * (
                c.attention_lr_factor if name == "semst.attention" else 1
            )
        fused, views, same = self.paint(x, y)
        judged = [(1.0, y, fused)]
        if "local" in views:
            top, left, side = local_box(
                self.config.model.crop, self.config.model.local_crop, rng(*key, "box")
            )
            inside = y[:, :, top : top + side, left : left + side]
            judged = [(1 - c.detail, y, fused), (c.detail, inside, views["local"][1])]

        D.requires_grad_(True)
        self.optimizers["discriminator"].zero_grad()
        d_loss = sum(
            share
            * 0.5
            * (gan_loss(D(fake.detach()), False, c.gan) + gan_loss(D(real), True, c.gan))
            for share, real, fake in judged
        )
        d_loss.backward()
        self.optimizers["discriminator"].step()

        D.requires_grad_(False)
        others = [
            optimizer for name, optimizer in self.optimizers.items() if name != "discriminator"
        ]
        for optimizer in others:
            optimizer.zero_grad()
        names = [name for name in ("nce", "hdce", "relation", "ts") if getattr(c, f"lambda_{name}")]
        terms = dict(
            gan=sum(share * gan_loss(D(fake), True, c.gan) for share, _, fake in judged)
        )
        weights = {
            name: getattr(c, f"lambda_{name}")
            for name in ("gan", "nce", "hdce", "relation", "identity")
        } | dict(ts=ts_weight_at(progress, c.lambda_ts, c.ts_warmup))
        for branch, (source, painted) in views.items():
            terms |= {
                f"{name}_{branch}": v
                for name, v in self.content(branch, source, painted, key, names).items()
            }
        for branch, (source, painted) in same.items() if c.lambda_identity else ():
            terms[f"identity_{branch}"] = sum(
                self.content(
                    branch,
                    source,
                    painted,
                    (*key, "identity"),
                    [n for n in names if n in ("nce", "hdce")],
                ).values()
            )
        g_loss = sum(weights.get(name.split("_")[0], 0.0) * v for name, v in terms.items())
        g_loss.backward()
        for optimizer in others:
            optimizer.step()
        self.step += 1
        return {
            name: float(v.detach())
            for name, v in dict(d_loss=d_loss, g_loss=g_loss, **terms).items()
        }


# Both sides, and whether they do the same.

def settings(
    objective: str, size: int, ngf: int | None = None, blocks: int | None = None,
    batch_size: int = 1,
) -> TrainConfig:
    """Up to 128 pixels the networks of the preset `tiny`, above those of the paper.

    With other widths D and F keep their proportion. No average: the peers keep none."""
    base = PRESETS["tiny" if size <= 128 else "single-scale"].replace(upsample="deconv")
    m = base.model
    ngf, blocks = ngf or m.ngf, blocks or m.blocks
    config = base.replace(
        scales=2 if objective == "two-branch" else 1,
        crop=size,
        local_crop=size // 2,
        ngf=ngf,
        blocks=blocks,
        embed_dim=4 * ngf,
    )
    ndf = max(1, base.objective.ndf * ngf // m.ngf)
    changes = OBJECTIVES[NAMES[objective]] | dict(upsample="deconv")
    return config.replace(ndf=ndf, steps=1000, batch_size=batch_size, ema=0.0, **changes)


class Ours:
    """The trainer's step in the middle of a training.

    It is past TS's warm-up, with weights of ordinary size and biases that are not 0."""

    def __init__(self, config: TrainConfig):
        steps = config.optimizer.steps
        self.training = TrainState(config, steps, Accelerator(), METHODS[config.method])
        self.training.step = steps // 4
        for p in self.training.networks.parameters():
            nn.init.xavier_normal_(p) if p.ndim > 1 else nn.init.normal_(p, std=0.1)

        self.step = fast_step(self.training)
        self.mode = compiled(self.training) if config.run.compile else nullcontext()
        self.mode.__enter__()

    def parameters(self):
        return dict(self.training.networks.named_parameters())

    def __call__(self, x, y) -> dict[str, float]:
        state = self.training
        inputs = step_inputs(state.config, state.steps, state.step)
        record = state.numbers(self.step(state, x, y, inputs))
        state.step += 1
        return record


def pictures(config: TrainConfig, device="cpu"):
    "A source and a target batch with coarse and fine structure."
    random = torch.Generator().manual_seed(1)
    def one():
        coarse = F.interpolate(
            torch.rand(config.data.batch_size, 3, 8, 8, generator=random) * 2 - 1,
            (config.model.crop,) * 2,
            mode="bicubic",
        ).clamp(-1, 1)
        return (0.8 * coarse + 0.2 * (2 * torch.rand(coarse.shape, generator=random) - 1)).to(
            device
        )

    return one(), one()


class Unequal(Exception):
    "The two sides do not compute the same."


def compare(ours: Ours, reference: Reference, x, y) -> dict[str, tuple[str, float]]:
    """One step of each; where losses, gradients and updates differ most, relatively.

    Gradients are compared layer by layer, L2 of weight and bias together: a bias before a norm
    alone has gradient 0 but for rounding. For the same reason updates are compared where the
    gradient is above a hundredth of its layer's root mean square; in units of the learning rate."""
    lr = lr_at(reference.step / reference.steps, reference.config.lr)
    got, want = ours(x, y), reference(x, y)
    worst = dict(losses=("", 0.0), gradients=("", 0.0), updates=("", 0.0))
    def note(kind, name, value):
        if not value <= worst[kind][1]:
            worst[kind] = (name, value)        # so that NaN is the worst
    for name, value in want.items():
        note("losses", name, abs(got.get(name, float("nan")) - value) / max(abs(value), 1e-12))
    mine, theirs = ours.parameters(), reference.parameters()
    if mine.keys() != theirs.keys():
        raise Unequal(f"other parameters: {sorted(mine.keys() ^ theirs.keys())}")
    for layer in sorted({name.rpartition(".")[0] for name in theirs}):
        names = [name for name in theirs if name.rpartition(".")[0] == layer]
        a, b, w, v = (
            torch.cat([t.detach().flatten() for t in tensors])
            for tensors in (
                [mine[n].grad for n in names], [theirs[n].grad for n in names],
                [mine[n] for n in names], [theirs[n] for n in names],
            )
        )
        if not b.any() and not a.any():
            continue                            # a dilated convolution wider than its map
        clear = b.abs() > 1e-2 * b.square().mean().sqrt()
        note("gradients", layer, float((a - b).norm() / b.norm()))
        note("updates", layer, float((w - v)[clear].abs().max() / lr))
    return worst


TOLERANCES = {
    torch.float64: dict(losses=1e-10, gradients=1e-9, updates=1e-6),
    torch.float32: dict(losses=1e-5, gradients=2e-2),
}


def check(config: TrainConfig, device="cpu") -> dict[str, float]:
    """The largest differences, in float64 and in float32, or `Unequal`.

    Both sides have the same weights, images and patch locations. Float64 tells whether both
    compute the same gradients. In float32 a ReLU whose input is 0 up to rounding may fall on
    either side, and then gradients of equal code differ by up to 1e-2. And Adam's first step has
    the size of the learning rate whatever that of the gradient, so that rounding would move D,
    whose step comes first, by as much as a gradient: in float32 the learning rate is next to
    nothing."""
    largest = {}
    for dtype, tolerances in TOLERANCES.items():
        ours, (x, y) = (
            Ours(config if dtype == torch.float64 else config.replace(lr=1e-9)),
            pictures(config, device),
        )
        ours.training.networks.to(dtype)
        reference = Reference(ours.training, dtype)
        # the trainer's losses are in float32
        with mock.patch.object(
            torch.Tensor, "float", lambda v: v if v.dtype == torch.float64 else v.to(torch.float32)
        ):
            worst = compare(ours, reference, x.to(dtype), y.to(dtype))
        for kind, tolerance in tolerances.items():
            name, value = worst[kind]
            if not value <= tolerance:
                raise Unequal(
                    f"{kind} differ in {str(dtype)[6:]}: {name} by {value:.1e}, "
                    f"more than {tolerance:.0e}"
                )
            largest[f"{kind} {str(dtype)[6:]}"] = value
    return largest


FAST = dict(fp32=dict(losses=1e-5, gradients=2e-2), bf16=dict(losses=5e-2))

def fast(config: TrainConfig, precision: str) -> TrainConfig:
    return config.replace(compile=True, mixed_precision="bf16" if precision == "bf16" else "no")

def check_fast(config: TrainConfig, device, precision: str) -> dict[str, float]:
    """The fifth step of the compiled side against the reference's.

    On a GPU it is replayed from a recording. The learning rate is next to nothing, so that the
    weights are still the same."""
    config = config.replace(lr=1e-9)
    ours, (x, y) = Ours(fast(config, precision)), pictures(config, device)
    reference = Reference(ours.training)
    for _ in range(4):
        ours(x, y), reference(x, y)
    worst = compare(ours, reference, x, y)
    for kind, tolerance in FAST[precision].items():
        if not worst[kind][1] <= tolerance:
            raise Unequal(
                f"{kind} of the compiled side differ: {worst[kind][0]} by {worst[kind][1]:.1e}, "
                f"more than {tolerance:.0e}"
            )
    return {f"{kind} compiled {precision}": worst[kind][1] for kind in ("losses", "gradients")}


# Measuring.

def peak() -> int:
    # on Linux; `ru_maxrss` would count what the parent held before the start
    "The most memory this process has held, bytes."
    return 1024 * int(
        next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    )


def memory(args, side: str, objective: str) -> dict:
    """Peak memory of one side, bytes.

    On a CPU of two steps, in a child process. On a GPU of five steps, in this process: by how
    much the memory taken from the device grew at most."""
    config = settings(objective, args.size, args.ngf, args.blocks, args.batch)
    if on_gpu := args.device == "cuda":
        gc.collect(), torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
    ours = Ours(fast(config, args.fast) if side == "fast" else config)
    step = Reference(ours.training) if side == "reference" else ours
    x, y = pictures(config, ours.training.accelerator.device)
    del ours
    if on_gpu:
        for _ in range(5):
            step(x, y)
        return dict(before=before, peak=torch.cuda.max_memory_reserved() - before)
    before = peak()
    for _ in range(2):
        step(x, y)
    return dict(before=before, peak=peak())


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_peak(device) -> float:
    "The best rate of a large matrix product, FLOP/s: float32 on a CPU, bf16 on a GPU."
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(
        n, n, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    )
    times = []
    for _ in range(10):
        wait(device)
        start = time.perf_counter()
        a @ a
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times)


def flops(step, x, y) -> int:
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter:
        step(x, y)
    return counter.get_total_flops()


def turns(sides: dict, x, y, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds and processor seconds of a step, the median over rounds.

    A round is as many steps of each side as fit two seconds for all, at most 20."""
    for _ in range(5 if "fast" in sides else 0):
        sides["fast"](x, y)        # compiled, and recorded
    start = time.perf_counter()
    for step in sides.values():
        step(x, y)
    wait(x.device)
    repeats = max(1, min(20, int(2 / (time.perf_counter() - start))))
    times = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            for _ in range(repeats):
                wait(x.device)
                start, cpu = time.perf_counter(), time.process_time()
                sides[name](x, y)
                wait(x.device)
                times[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return {
        name: tuple(statistics.median(column) for column in zip(*seen))
        for name, seen in times.items()
    }


def main():
    parser = argparse.ArgumentParser(
        description="one training step, ours against a reference step with the same losses"
    )
    parser.add_argument("--objectives", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument(
        "--size",
        type=int,
        default=64,
        help="side of the training crop; the local crop of two branches is half of it",
    )
    parser.add_argument("--ngf", type=int, help="width; default 16 up to 128 pixels, else 64")
    parser.add_argument(
        "--blocks", type=int, help="residual blocks, at least 5; default 6 up to 128 pixels, else 9"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--fast",
        choices=list(FAST),
        help="a third side: compiled, on a GPU recorded, in this precision",
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    # side and objective: what the child processes are given
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cpu":
        torch.cuda.is_available = lambda: False         # accelerate would take the GPU
    if args.memory_of:
        return print(json.dumps(memory(args, *args.memory_of)))
    device = torch.device(args.device)
    # else fp32 would not be fp32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    best = matrix_peak(device)
    print(
        f"{args.size}x{args.size}, batch {args.batch}, {args.device}, "
        f"{torch.get_num_threads()} threads, matrix peak {best / 1e9:.0f} GFLOP/s"
    )
    print(
        f"{'objective':>12s} {'side':>9s} {'seconds':>8s} {'ratio':>6s} {'cpu s':>8s} "
        f"{'ratio':>6s} {'GFLOP':>8s} {'of peak':>7s} {'peak GiB':>8s} {'before':>6s}"
    )
    failed = False
    for objective in args.objectives:
        config = settings(objective, args.size, args.ngf, args.blocks, args.batch)
        try:
            same = check(config, device) | (
                check_fast(config, device, args.fast) if args.fast else {}
            )
        except Unequal as e:
            print(f"{objective:>12s} no ratio: {e}")
            failed = True
            continue
        ours, (x, y) = Ours(config), pictures(config, device)
        sides = dict(reference=Reference(ours.training), ours=ours)
        counts = {name: flops(step, x, y) for name, step in sides.items()}
        if args.fast:
            # the counter does not see into compiled code
            sides["fast"], counts["fast"] = Ours(fast(config, args.fast)), counts["ours"]
        times = turns(sides, x, y, args.rounds)
        names = list(sides)
        del sides, ours
        for name in names:
            if args.device == "cuda":
                held = memory(args, name, objective)
            else:
                child = subprocess.run(
                    [sys.executable, __file__, *sys.argv[1:], "--memory-of", name, objective],
                    capture_output=True,
                    text=True,
                )
                if child.returncode:
                    sys.exit(child.stderr)
                held = json.loads(child.stdout.splitlines()[-1])
            seconds, cpu = times[name]
            print(
                f"{objective:>12s} {name:>9s} {seconds:8.4f} "
                f"{seconds / times['reference'][0]:6.3f} {cpu:8.4f} "
                f"{cpu / times['reference'][1]:6.3f} {counts[name] / 1e9:8.2f} "
                f"{counts[name] / seconds / best:7.1%} {held['peak'] / 2**30:8.3f} "
                f"{held['before'] / 2**30:6.3f}",
                flush=True,
            )
        print(
            f"{'':>12s} largest relative differences: "
            + ", ".join(f"{kind} {value:.1e}" for kind, value in same.items())
        )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
