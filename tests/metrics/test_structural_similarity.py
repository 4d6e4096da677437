"""SSIM and MS-SSIM against scikit-image and pytorch-msssim."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as library_ms_ssim
from skimage.metrics import structural_similarity

from data.scenes import draw_scene
from metrics.structural_similarity import ms_ssim, ssim


def grey(level: int) -> torch.Tensor:
    return torch.full((1, 3, 64, 64), level / 127.5 - 1)


def scene(number: int, size: int = 64) -> torch.Tensor:
    return torch.as_tensor(draw_scene(size, 0, 1, number).pixels).float().permute(2, 0, 1)[None]


def noisy(image: torch.Tensor, amount: float, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return (image + amount * noise).clamp(-1, 1)


PAIRS = {
    "noise": (scene(0), noisy(scene(0), 0.1)), "another scene": (scene(0), scene(1)),
    "dark": (scene(0) * 0.1 - 0.9, noisy(scene(0) * 0.1 - 0.9, 0.03)),
    "grey": (grey(128), noisy(grey(128), 0.02)), "mid-greys": (grey(128), grey(130)),
    "inverted": (scene(2), -scene(2)), "white noise": (noisy(grey(128), 1), noisy(grey(128), 1, 1)),
    "small": (scene(0, 12), scene(1, 12)), "odd": (scene(0)[..., :41, :57], scene(1)[..., :41, :57]),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_ssim_equals_scikit_image(name):
    one, other = (((x[0].double() + 1) / 2).permute(1, 2, 0).numpy() for x in PAIRS[name])
    size, inner = 11, 5
    _, map_ = structural_similarity(
        one, other, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, full=True,
        use_sample_covariance=False, win_size=size,
    )  # fmt: skip
    expected = map_[inner:-inner, inner:-inner].mean()
    assert ssim(*PAIRS[name]).item() == pytest.approx(expected, abs=1e-9)


def test_neighbouring_greys_are_alike():
    assert ssim(grey(128), grey(130)).item() > 0.9998


@pytest.mark.parametrize("name", ["noise", "dark", "grey", "inverted", "odd"])
def test_ms_ssim_equals_pytorch_msssim(name):
    resize = torch.nn.functional.interpolate
    one, other = (resize(x, scale_factor=4.0, mode="bilinear") for x in PAIRS[name])
    window = torch.exp(-((torch.arange(11).double() - 5) ** 2) / (2 * 1.5**2))
    window = (window / window.sum()).expand(3, 1, 1, -1)  # its own window has float32 weights
    expected = library_ms_ssim(
        (one.double() + 1) / 2, (other.double() + 1) / 2, data_range=1.0, size_average=False,
        win=window,
    )  # fmt: skip
    if name == "odd":  # 164 x 228
        assert min(one.shape[2:]) == 164
    assert ms_ssim(one, other).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_ms_ssim_needs_five_scales():
    assert ms_ssim(torch.zeros(1, 3, 160, 300), torch.zeros(1, 3, 160, 300)) is None
    assert ms_ssim(torch.zeros(1, 3, 161, 300), torch.zeros(1, 3, 161, 300)).item() == 1


def test_ssim_is_one_for_equal_images_symmetric_and_low_for_noise():
    x, y = torch.rand(2, 3, 24, 30) * 2 - 1, torch.rand(2, 3, 24, 30) * 2 - 1
    assert ssim(x, x).tolist() == pytest.approx([1, 1])
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert ssim(x, y).max() < 0.3
    assert ssim(torch.rand(1, 1, 5, 7), torch.rand(1, 1, 5, 7)).shape == (1,)
    assert np.isfinite(ssim(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item())
