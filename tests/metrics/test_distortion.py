"""L1, PSNR and SSIM against values worked out by hand."""

import pytest
import torch

from metrics.distortion import Distortion, psnr, ssim


def constant(value: float, size: int = 16) -> torch.Tensor:
    return torch.full((1, 3, size, size), value)


def test_psnr_has_its_closed_form_values():
    assert psnr(0.1**2) == pytest.approx(26.0206, abs=1e-4)  # error 0.1 over a range of 2
    assert psnr((1 / 255) ** 2, 1.0) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(0.0) is None


def test_ssim_of_two_constants():
    # (2 x y + c1) / (x^2 + y^2 + c1) with c1 = 0.01^2 over a range of 1: 0.6001 / 0.6101.
    assert ssim(constant(0.5), constant(0.6), 1.0).item() == pytest.approx(0.983609, abs=1e-6)


def test_ssim_is_one_for_equal_images_symmetric_and_low_for_noise():
    x, y = torch.rand(2, 3, 24, 30), torch.rand(2, 3, 24, 30)
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert ssim(x, y).max() < 0.2
    assert ssim(torch.rand(1, 1, 5, 7), torch.rand(1, 1, 5, 7)).shape == (1,)


def test_ssim_agrees_with_a_plain_reference_implementation():
    x, y = torch.rand(1, 1, 12, 12).double(), torch.rand(1, 1, 12, 12).double()
    g = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / 4.5)
    window = torch.outer(g, g) / g.sum() ** 2
    values = []
    for top in range(2):
        for left in range(2):
            p, q = (z[0, 0, top : top + 11, left : left + 11] for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            c = (window * (p - mp) * (q - mq)).sum()
            c1, c2 = 0.02**2, 0.06**2
            values.append(
                (2 * mp * mq + c1) * (2 * c + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2))
            )
    assert ssim(x, y).item() == pytest.approx(torch.stack(values).mean().item(), abs=1e-9)


def test_errors_are_pooled_over_all_pixels_before_the_logarithm():
    metric = Distortion()
    batch = metric.update(constant(0.0), constant(0.0))
    assert batch["psnr"] is None and batch["l1"] == 0
    batch = metric.update(constant(0.0), constant(0.2))
    assert batch["psnr"] == pytest.approx(psnr(0.04))
    result = metric.result()
    assert result["psnr"] == pytest.approx(psnr(0.02))  # not the mean of infinity and 20 dB
    assert result["l1"] == pytest.approx(0.1) and result["count"] == 2


def test_sizes_may_differ_between_updates():
    metric = Distortion()
    metric.update(constant(0, 16), constant(1, 16))
    metric.update(constant(0, 32), constant(0, 32))
    assert metric.result()["l1"] == pytest.approx(256 / (256 + 1024))
