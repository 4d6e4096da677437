"""The Fréchet distance against Gaussians whose distance is known in closed form."""

import warnings

import pytest
import torch

from metrics.set_distances.frechet_distance import frechet_distance


def crossed(radii: list[float], shift: list[float]) -> torch.Tensor:
    """Return 2D points at +-radius on each axis, of covariance diag(2 r^2 / (2D - 1))."""
    axes = torch.diag(torch.tensor(radii, dtype=torch.float64))
    return torch.cat([axes, -axes]) + torch.tensor(shift, dtype=torch.float64)


def mixed(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return x @ torch.randn(columns, columns, generator=generator, dtype=torch.float64) + seed


def test_diagonal_gaussians_have_their_closed_form_distance():
    # |m|^2 = 9 + 16; the deviations are r sqrt(2/5): (1 - 2)^2 + (5 - 2)^2 + 0, times 2/5.
    one, two = crossed([1, 5, 3], [0, 0, 0]), crossed([2, 2, 3], [3, 0, -4])
    assert frechet_distance(one, two) == pytest.approx(25 + 10 * 2 / 5, rel=1e-12)


def test_covariances_that_do_not_commute_have_their_closed_form_distance():
    one, two = mixed(40, 2, 1), mixed(50, 2, 2)
    s1, s2 = torch.cov(one.T), torch.cov(two.T)
    # In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    root = ((s1 @ s2).trace() + 2 * torch.det(s1 @ s2).sqrt()).sqrt()
    expected = (one.mean(0) - two.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * root
    assert frechet_distance(one, two) == pytest.approx(expected.item(), rel=1e-9)


def test_few_images_of_many_features_have_the_distance_in_the_subspace_that_they_span():
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=torch.float64)).Q[:3]
    one, two = crossed([1, 5, 3], [0, 0, 0]), crossed([2, 2, 3], [3, 0, -4])
    assert frechet_distance(one @ rotation, two @ rotation) == pytest.approx(29, rel=1e-10)


@pytest.mark.parametrize(("rows", "others"), [(20, 30), (7, 30), (20, 5), (4, 5), (12, 13)])
def test_many_or_few_images_agree_with_the_matrix_square_root(rows, others):
    one, two = mixed(rows, 12, 1), mixed(others, 12, 2)
    s1, s2 = torch.cov(one.T), torch.cov(two.T)
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    expected = (one.mean(0) - two.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * shared
    assert frechet_distance(one, two) == pytest.approx(expected.item(), rel=1e-6)


def test_it_is_symmetric_zero_for_equal_sets_and_invariant_to_rotation_and_order():
    one, two = mixed(20, 8, 1), mixed(15, 8, 2)
    rotation = torch.linalg.qr(mixed(8, 8, 3)).Q
    value = frechet_distance(one, two)
    assert value > 1
    assert frechet_distance(two, one) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(one @ rotation, two @ rotation) == pytest.approx(value, rel=1e-10)
    assert frechet_distance(one.flip(0), two) == pytest.approx(value, rel=1e-10)
    assert 0 <= frechet_distance(one, one.flip(0)) < 1e-9


def test_statistics_are_in_float64():
    one, two = mixed(50, 8, 1).float(), mixed(40, 8, 2).float()
    exact = frechet_distance(one.double(), two.double())
    assert frechet_distance(one, two) == exact


@pytest.mark.parametrize("rows", [0, 1])
def test_one_image_has_no_covariance(rows):
    with pytest.raises(ValueError, match="at least two images"):
        frechet_distance(mixed(5, 3, 0), torch.zeros(rows, 3))


def test_it_agrees_with_torch_fidelity():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pytest.importorskip("torch_fidelity.metric_fid")
    one, two = mixed(300, 48, 1), mixed(250, 48, 2)
    statistics = (theirs.fid_features_to_statistics(x) for x in (one, two))
    expected = theirs.fid_statistics_to_metric(*statistics, verbose=False)
    assert frechet_distance(one, two) == pytest.approx(
        expected["frechet_inception_distance"], rel=1e-6
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value):
    sound, broken = torch.rand(12, 4), torch.rand(12, 4)
    broken[3, 2] = value
    for function in (frechet_distance,):
        for pair in ((broken, sound), (sound, broken)):
            with pytest.raises(
                ValueError, match="1 of 12 images have features that are not finite"
            ):
                function(*pair)
