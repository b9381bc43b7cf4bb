"Patch sampling: the same places, unit vectors, gradients only where sampled."
import torch

from semst.patch_sampling import PatchEmbedder, gather_patches, l2_normalize, sample_locations


def test_locations_are_distinct_and_repeatable():
    draw = lambda: sample_locations(20, 30, 256, torch.Generator().manual_seed(3))
    assert torch.equal(draw(), draw()) and len(draw().unique()) == 256 and draw().max() < 600
    assert len(sample_locations(4, 4, 256)) == 16


def test_gather_equals_a_loop():
    feats, where = torch.randn(2, 5, 6, 7), torch.tensor([0, 8, 41])
    rows = gather_patches(feats, where)
    for b in range(2):
        for i, p in enumerate(where.tolist()): assert torch.equal(rows[b, i], feats[b, :, p // 7, p % 7])


def test_gradient_lands_only_on_sampled_places_and_is_contiguous():
    feats = torch.randn(1, 5, 6, 7, requires_grad=True)
    gather_patches(feats, torch.tensor([3, 20])).square().sum().backward()
    assert feats.grad.flatten(2).abs().sum((0, 1)).nonzero().flatten().tolist() == [3, 20] and feats.grad.is_contiguous()


def test_embeddings_are_unit_vectors_per_tap():
    f = PatchEmbedder((3, 8), dim=16)
    out = f([torch.randn(2, 3, 9, 9), torch.randn(2, 8, 5, 5)], [torch.arange(10), torch.arange(7)])
    assert [tuple(o.shape) for o in out] == [(2, 10, 16), (2, 7, 16)]
    for o in out: torch.testing.assert_close(o.norm(dim=-1), torch.ones(o.shape[:2]), atol=1e-2, rtol=0)


def test_zero_vectors_stay_finite():
    v = torch.zeros(2, 4, requires_grad=True)
    l2_normalize(v).sum().backward()
    assert torch.isfinite(v.grad).all() and not l2_normalize(v).any()
