"""Agreement with the programs SemST builds on: CUT, SRC and SCC at their public releases.

Tolerances are 3 to 10 times the largest difference between a float32 and a float64 run
of the peer's own code.
"""

import pytest
import torch
from conftest import weights
from einops import rearrange
from torch.testing import assert_close

from semst.cut import load_cut_weights
from semst.discriminator import PatchGAN, discriminator_loss, generator_loss
from semst.generator import Generator
from semst.hdce_loss import hdce_loss, patch_nce, relation_loss, semantic_weights
from semst.patch_sampling import PatchEmbedder, gather_patches, l2_normalize
from semst.ts_loss import scc_released


def close(ours, reference, atol):
    assert_close(ours, reference.to(ours.dtype), atol=atol, rtol=0)


def load(network, archive, tmp_path):
    "Through a file, as a user's checkpoint would come."
    torch.save(weights(archive), tmp_path / "latest_net.pth")
    return load_cut_weights(network, tmp_path / "latest_net.pth")


@pytest.mark.parametrize(
    "name, downsample, upsample",
    [
        ("aa", "blur", "blur"),
        ("aa_convT", "blur", "deconv"),
        ("noaa", "stride", "blur"),
        ("noaa_convT", "stride", "deconv"),
    ],
)
def test_generator(golden, tmp_path, name, downsample, upsample):
    z = golden(f"cut_resnet9_{name}")
    g = load(Generator(ngf=4, downsample=downsample, upsample=upsample), z, tmp_path)
    x = z["x"].requires_grad_()
    feats = g.encode(x)
    out = g.decode(feats[-1])
    close(out, z["out"], 3e-5)
    for tap, feat, atol in zip(g.taps, feats, (0, 1e-5, 1e-5, 3e-5, 1e-4)):
        if downsample == "stride" and tap == 8:
            feat = feat.relu()       # the peer's in-place ReLU overwrites this tap
        close(feat, z[f"feat{tap}"], atol)
    (0.5 * out.square().sum()).backward()
    close(x.grad, z["grad_x"], 4e-4)


@pytest.mark.parametrize("name, downsample", [("aa", "blur"), ("noaa", "stride")])
def test_discriminator(golden, tmp_path, name, downsample):
    z = golden(f"cut_patchgan_{name}")
    d = load(PatchGAN(ndf=8, downsample=downsample), z, tmp_path)
    x = z["x"].requires_grad_()
    out = d(x)
    close(out, z["out"], 1e-5)
    (0.5 * out.square().sum()).backward()
    close(x.grad, z["grad_x"], 5e-6)


def test_patch_embeddings(golden, tmp_path):
    z = golden("cut_patchsamplef")
    feats = [z[f"feat{i}"].requires_grad_() for i in range(5)]
    ids = [z[f"ids{i}"] for i in range(5)]
    f = load(PatchEmbedder((3, 8, 16, 32, 32), dim=32), z, tmp_path)
    out = f(feats, ids)
    for i in range(5):
        close(rearrange(out[i], "b n d -> (b n) d"), z[f"out{i}"], 1e-6)
        close(
            rearrange(l2_normalize(gather_patches(feats[i], ids[i])), "b n d -> (b n) d"),
            z[f"plain{i}"],
            1e-6,
        )
    sum(0.5 * (o - 0.25).square().sum() for o in out).backward()
    close(feats[0].grad, z["grad_feat0"], 1e-6)
    close(feats[3].grad, z["grad_feat3"], 1e-6)


@pytest.mark.parametrize("case, b", [("b1", 1), ("b2", 2), ("b2all", 1)])
def test_patch_nce(golden, case, b):
    "b2all: the whole batch counts as one image."
    z = golden("cut_patchnce")
    q, k = (rearrange(z[f"{case}_feat_{s}"], "(b n) d -> b n d", b=b) for s in "qk")
    q.requires_grad_()
    loss = patch_nce(q, k)
    close(loss, z[f"{case}_loss"].mean(), 1e-5)
    loss.backward()
    close(rearrange(q.grad, "b n d -> (b n) d"), z[f"{case}_grad_q"], 3e-7)


@pytest.mark.parametrize("file, tag, gamma", [
    ("src_srcloss", "gamma1", 1), ("src_srcloss", "gamma50", 50), ("src_srcloss", "gamma0p1", 0.1),
    ("src_srcloss", "h2z_epoch1", 49.9), ("src_srcloss", "h2z_epoch100", 40),
    ("src_srcloss_city", "city_epoch200", 30), ("src_srcloss_city", "city_epoch201", 1)])
def test_semantic_weights(golden, file, tag, gamma):
    "The Cityscapes archive holds weights of the other archive's features."
    z = golden("src_srcloss") | golden(file)
    ours, theirs = semantic_weights(l2_normalize(z["feat_k"])[None], gamma), z[f"weight_{tag}"]
    off = ~torch.eye(64, dtype=torch.bool)
    close(ours[:, off], theirs[:, off], 5e-6 if gamma == 0.1 else 1e-6)


@pytest.mark.parametrize("tag, gamma", [
    ("now", None), ("gamma1", 1), ("gamma50", 50), ("gamma0p1", 0.1)])
def test_hdce_gradient_and_reported_value(golden, tag, gamma):
    z = golden("src_hdce")
    q, k = z["feat_q"][None].requires_grad_(), z["feat_k"][None]
    hdce_loss(q, k, gamma).backward()
    close(q.grad[0], z[f"{tag}_grad_q"], 3e-7)
    # What the released program prints: a cross-entropy over the weighted logits and the positive.
    sim, eye = (q @ k.mT)[0].detach(), torch.eye(64, dtype=torch.bool)
    w = torch.ones(64, 64) if gamma is None else semantic_weights(k, gamma)[0]
    positive = sim.diagonal()[:, None]
    logits = torch.cat([positive, (w * sim).masked_fill(eye, -10)], dim=1) / 0.07
    close(logits.logsumexp(1) - positive[:, 0] / 0.07, z[f"{tag}_loss"], 1e-5)


@pytest.mark.parametrize("tag, b", [("b2", 2), ("b2all", 1)])
def test_hdce_keeps_images_apart(golden, tag, b):
    z = golden("src_hdce_b2")
    q, k = (rearrange(z[s], "(b n) d -> b n d", b=b) for s in ("feat_q", "feat_k"))
    hdce_loss(q.requires_grad_(), k).backward()
    close(rearrange(q.grad, "b n d -> (b n) d"), z[f"{tag}_grad_q"], 3e-7)


@pytest.mark.parametrize("normed", [False, True])
def test_relation_loss(golden, normed):
    z = golden("src_srcloss")
    q, k = (l2_normalize(z[s])[None] if normed else z[s][None] for s in ("feat_q", "feat_k"))
    loss = relation_loss(q.requires_grad_(), k)
    loss.backward()
    end = "_normed" if normed else ""
    close(loss, z[f"loss{end}"], 1e-6)
    close(q.grad[0], z[f"grad_q{end}"], 2e-8)


@pytest.mark.parametrize("batch", ["b1", "b2"])
@pytest.mark.parametrize("sign, mend_sign", [("plus", False), ("minus", True)])
def test_scc_as_released(golden, batch, sign, mend_sign):
    z = golden("scc_ersmi")
    one, two = (z[f"{batch}_{i}"].double().requires_grad_() for i in ("I1", "I2"))
    loss = scc_released(one, two, mend_sign=mend_sign)
    loss.backward()
    close(loss, z[f"{batch}_{sign}_loss"], 1e-7)
    close(one.grad, z[f"{batch}_{sign}_grad_I1"], 1e-9)
    close(two.grad, z[f"{batch}_{sign}_grad_I2"], 1e-9)
    close(scc_released(two, two, mend_sign=mend_sign), z[f"{batch}_{sign}_loss_I2I2"], 1e-7)
    single = scc_released(one.float(), two.float(), mend_sign=mend_sign)
    close(single, z[f"{batch}_{sign}_loss"], 3e-6)


@pytest.mark.parametrize(
    "peer, kind", [("lsgan", "lsgan"), ("vanilla", "bce"), ("nonsaturating", "bce")]
)
def test_gan_losses(golden, peer, kind):
    z = golden("cut_ganloss")
    real, fake = (z["pred"].clone().requires_grad_() for _ in "rf")
    loss = discriminator_loss(real, fake, kind)
    loss.backward()
    close(loss, 0.5 * (z[f"{peer}_real"].mean() + z[f"{peer}_fake"].mean()), 1e-6)
    close(real.grad, 0.5 * z[f"{peer}_real_grad"], 1e-7)
    close(fake.grad, 0.5 * z[f"{peer}_fake_grad"], 1e-7)
    as_real = z["pred"].clone().requires_grad_()
    loss = generator_loss(as_real, kind)
    loss.backward()
    close(loss, z[f"{peer}_real"].mean(), 1e-6)
    close(as_real.grad, z[f"{peer}_real_grad"], 1e-7)
