"The colour matrix is the optimal linear map between two sets of colours, and nothing else."
import pytest
import scipy.linalg
import torch
from accelerate import Accelerator

from semst.cli import main
from semst.colour import (ColourMatrix, fit, matrix_power, monge_kantorovich, pixels_of,
                          sample_pixels)
from semst.config import ModelConfig
from semst.data import InputError, list_images, load_image, to_tensor
from semst.methods import PRESETS, method_of
from semst.model import SemST
from semst.state import TrainState
from semst.synthetic.scenes import write_scenes


def covariances(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    return a @ a.T, b @ b.T


def colours(seed, n=5000):
    "Correlated colours well inside [-1, 1]."
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, 3, generator=generator) @ torch.randn(3, 3, generator=generator)
    return 0.05 * mixed + 0.1 * torch.randn(3, generator=generator)


@pytest.mark.parametrize("power", [0.5, -0.5, 1.0, -1.0])
def test_powers_are_those_of_scipy(power):
    matrix = covariances(0)[0]
    wanted = torch.from_numpy(scipy.linalg.fractional_matrix_power(matrix.numpy(), power))
    torch.testing.assert_close(matrix_power(matrix, power), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_the_map_is_symmetric_and_carries_one_covariance_to_the_other(seed):
    cov_src, cov_tgt = covariances(seed)
    T = monge_kantorovich(cov_src, cov_tgt)
    torch.testing.assert_close(T, T.T)
    torch.testing.assert_close(T @ cov_src @ T, cov_tgt)
    assert torch.linalg.eigvalsh(T).min() >= 0


def test_it_is_the_formula_of_the_paper_with_scipys_roots():
    cov_src, cov_tgt = (c.numpy() for c in covariances(7))
    root = scipy.linalg.sqrtm(cov_src)
    inverse = scipy.linalg.inv(root)
    wanted = inverse @ scipy.linalg.sqrtm(root @ cov_tgt @ root) @ inverse
    found = monge_kantorovich(*covariances(7)).numpy()
    assert found == pytest.approx(wanted.real, abs=1e-9)


def test_pixels_move_by_the_wasserstein_distance_and_no_further():
    "The mean squared displacement of an optimal map between Gaussians is their Frechet distance."
    a, b = colours(1), colours(2)
    cov_a, cov_b = (torch.cov(c.T.double()).numpy() for c in (a, b))
    root = scipy.linalg.sqrtm(cov_a)
    cross = scipy.linalg.sqrtm(root @ cov_b @ root).real
    apart = (a.mean(0) - b.mean(0)).square().sum().item()
    distance = apart + (cov_a + cov_b - 2 * cross).trace()
    net = fit(a, b)
    mapped = (a - net.source_mean) @ net.matrix.T + net.target_mean
    moved = (mapped - a).square().sum(1).mean().item()
    assert moved == pytest.approx(distance, rel=1e-3)


def test_a_linear_change_of_colours_is_undone():
    a = colours(3)
    T = torch.tensor([[1.2, 0.1, 0.0], [0.1, 0.8, 0.2], [0.0, 0.2, 1.0]])
    net = fit(a @ T + 0.05, a)
    torch.testing.assert_close(net.matrix, T.inverse(), atol=1e-3, rtol=1e-3)


def test_a_domain_maps_to_itself_by_the_identity():
    a = colours(4)
    torch.testing.assert_close(fit(a, a).matrix, torch.eye(3), atol=1e-5, rtol=0)


def test_pictures_are_mapped_pixel_by_pixel_and_clipped():
    net, x = fit(colours(5), 8 * colours(6)), torch.rand(2, 3, 5, 7) * 2 - 1
    y = net(x)
    assert y.shape == x.shape and y.min() >= -1 and y.max() <= 1 and (y.abs() == 1).any()
    one = net.matrix @ (x[1, :, 2, 3] - net.source_mean) + net.target_mean
    torch.testing.assert_close(y[1, :, 2, 3], one.clamp(-1, 1))
    torch.testing.assert_close(net(x[0]), y[0])                   # a single picture, too
    torch.testing.assert_close(pixels_of(x)[5 * 7 + 2 * 7 + 3], x[1, :, 2, 3])


def test_a_new_matrix_changes_nothing():
    x = torch.rand(1, 3, 4, 4) * 2 - 1
    assert torch.equal(ColourMatrix()(x), x)


def test_grey_sources_get_the_mean_and_stay_on_a_line():
    "A source without two directions of colour: the matrix has rank one, and nothing is infinite."
    grey = torch.rand(1000, 1).expand(-1, 3) - 0.5
    net = fit(grey, colours(8))
    assert net.matrix.isfinite().all() and torch.linalg.matrix_rank(net.matrix, atol=1e-4) == 1
    flat = fit(torch.full((10, 3), 0.3), colours(8))
    assert torch.equal(flat.matrix, torch.zeros(3, 3))
    torch.testing.assert_close(flat.target_mean, colours(8).mean(0))


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3), torch.zeros(9, 4), torch.zeros(2, 3, 4, 4)])
def test_shapes_that_are_no_pixels_are_refused(wrong):
    with pytest.raises(InputError, match="source pixels have shape"):
        fit(wrong, colours(0))
    with pytest.raises(InputError, match="target pixels have shape"):
        fit(colours(0), wrong)


def test_pixels_that_are_not_finite_are_refused():
    bad = colours(0)
    bad[3, 1] = float("nan")
    with pytest.raises(InputError, match="target pixels hold a value that is not finite"):
        fit(colours(0), bad)


def test_a_folder_gives_the_same_pixels_for_the_same_seed(tmp_path):
    folder = write_scenes(tmp_path, "sim", 5, 32) / "images"
    pixels = sample_pixels(folder, pictures=3, each=50)
    assert pixels.shape == (150, 3) and pixels.min() >= -1 and pixels.max() <= 1
    assert torch.equal(pixels, sample_pixels(folder, pictures=3, each=50))
    assert not torch.equal(pixels, sample_pixels(folder, pictures=3, each=50, seed=1))


def test_the_command_fits_a_translator_like_any_other(tmp_path, capsys):
    source, target = (write_scenes(tmp_path / look, look, 6, 32) / "images"
                      for look in ("summer", "winter"))
    out = tmp_path / "colours.safetensors"
    assert main(["colour", str(source), str(target), str(out)]) == 0
    x = torch.stack([to_tensor(load_image(file)) for file in list_images(source)])
    expected = fit(sample_pixels(source), sample_pixels(target))(x)
    model = SemST.from_pretrained(out)
    torch.testing.assert_close(model.translate(x), expected)
    assert main(["translate", str(out), str(source), str(tmp_path / "translated")]) == 0
    assert len(list_images(tmp_path / "translated")) == 6
    capsys.readouterr()
    train = ["train", "--source", str(source), "--target", str(target), "--out"]
    assert main([*train, str(tmp_path / "run"), "--preset", "cut", "--from", str(out)]) == 2
    assert "has no weights to train" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["colour", str(source), str(target), str(out)]) == 2      # nothing is replaced
    assert "colours.safetensors exists" in capsys.readouterr().err
    assert main(["colour", str(source), str(tmp_path / "no"), str(tmp_path / "a.safetensors")]) == 2
    assert not (tmp_path / "a.safetensors").exists()


def test_a_colour_generator_has_one_tap_and_three_channels():
    for changes in (dict(taps=(0, 4)), dict(taps=(0,), in_channels=1)):
        with pytest.raises(InputError, match="generator colour"):
            SemST(ModelConfig(scales=1, generator="colour", **changes))
    config = PRESETS["tiny"].replace(generator="colour", taps=(0,), lambda_ts=0.0)
    with pytest.raises(InputError, match="'colour' has no weights to train"):
        TrainState(config, 2, Accelerator(cpu=True), method_of(config))

