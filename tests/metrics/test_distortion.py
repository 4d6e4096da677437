"""L1 and PSNR against values worked out by hand."""

import pytest
import torch

from metrics.distortion import Distortion, psnr


def constant(value: float, size: int = 16) -> torch.Tensor:
    return torch.full((1, 3, size, size), value)


def test_psnr_has_its_closed_form_values():
    assert psnr(0.1**2) == pytest.approx(26.0206, abs=1e-4)  # error 0.1 over a range of 2
    assert psnr((1 / 255) ** 2, 1.0) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(0.0) is None


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
