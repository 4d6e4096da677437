"""Edge agreement, structure agreement and steganography of images whose result is known."""

import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from data.scenes import draw_scene
from metrics.distortion import psnr
from metrics.faithfulness import (
    NOISE_STD,
    Steganography,
    edge_agreement,
    edge_grid,
    jpeg,
    own_source_found,
    quantize,
    steganography_index,
    structure_agreement,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def step(at: int, size: int = 32) -> torch.Tensor:
    """Return an image that is dark to the left of a column and light from that column on."""
    return torch.where(torch.arange(size) < at, -0.5, 0.5).expand(1, 3, size, size).clone()


@pytest.mark.parametrize("agreement", [edge_agreement, structure_agreement])
def test_equal_gray_and_inverted_images_agree_and_other_images_do_not(agreement):
    image, other = noise(2, 3, 40, 30), noise(2, 3, 40, 30, seed=1)
    gray = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert agreement(image, image).tolist() == pytest.approx([1, 1], abs=1e-9)
    assert agreement(image, gray).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert agreement(image, 0.3 - 0.5 * image).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert agreement(image, other).max() < 0.25
    assert torch.allclose(agreement(image, other), agreement(other, image))
    assert agreement(image, other).shape == (2,)


@pytest.mark.parametrize("agreement", [edge_agreement, structure_agreement])
def test_a_flat_image_agrees_with_no_other(agreement):
    flat = torch.full((1, 3, 24, 24), 0.3)
    assert agreement(flat, noise(1, 3, 24, 24)).abs().item() < 1e-6
    assert agreement(flat, flat).item() == 0


def test_a_shifted_edge_has_its_closed_form_correlation():
    # Two of 30 gradient columns are nonzero (Sobel sees a step twice). Disjoint pairs correlate by
    # -p / (1 - p) with p = 2 / 30; pairs that share one column by (1 / 30 - p^2) / (p - p^2).
    p = 2 / 30
    assert edge_agreement(step(10), step(20)).item() == pytest.approx(-p / (1 - p), abs=1e-6)
    shared = (1 / 30 - p**2) / (p - p**2)
    assert edge_agreement(step(10), step(11)).item() == pytest.approx(shared, abs=1e-6)


def test_edges_count_in_both_directions():
    p = 2 / 30
    measured = edge_agreement(step(10).mT, step(20).mT).item()
    assert measured == pytest.approx(-p / (1 - p), abs=1e-6)
    # A vertical and a horizontal edge share 2 x 2 of 30 x 30 positions, as expected by chance.
    # An image with both edges correlates with either.
    assert edge_agreement(step(10), step(10).mT).item() == pytest.approx(0, abs=1e-6)
    both = step(10) + step(20).mT
    assert edge_agreement(both, step(10)).item() > 0.5
    assert edge_agreement(both, step(20).mT).item() > 0.5


def test_local_brightness_and_contrast_do_not_matter_but_texture_in_an_empty_sky_does():
    image = noise(1, 1, 64, 64) * 0.5
    shade = torch.linspace(0.5, 1.5, 64)
    assert structure_agreement(image, image * shade + 0.2 * shade).item() > 0.97
    sky = image.clone()
    sky[..., :32, :] = 0
    half = structure_agreement(sky, image).item()
    assert structure_agreement(sky, sky).item() == pytest.approx(1, abs=1e-9)
    # The lower half agrees; the upper one has no structure to agree with. The filled image has the
    # greater deviation almost everywhere, so both halves have about the same weight.
    assert half == pytest.approx(0.5, abs=0.1)


def test_local_correlation_agrees_with_a_plain_reference_implementation():
    x, y = noise(1, 1, 12, 12).double(), noise(1, 1, 12, 12, seed=1).double()
    y = y + 0.5 * x
    x, y = ((z - z.mean()) / z.std(correction=0) for z in (x, y))
    g = torch.exp(-((torch.arange(11.0).double() - 5) ** 2) / 4.5)
    window = torch.outer(g, g) / g.sum() ** 2
    total = weights = torch.zeros(())
    for top in range(2):
        for left in range(2):
            p, q = (z[0, 0, top : top + 11, left : left + 11] for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            sp = (window * (p - mp) ** 2).sum().sqrt()
            sq = (window * (q - mq) ** 2).sum().sqrt()
            weight = torch.maximum(sp, sq)
            total = total + weight * abs((window * (p - mp) * (q - mq)).sum() / (sp * sq))
            weights = weights + weight
    expected = (total / weights).item()
    assert structure_agreement(x, y).item() == pytest.approx(expected, abs=1e-9)
    assert structure_agreement(3 * x + 1, -y).item() == pytest.approx(expected, abs=1e-9)


def test_quantized_images_have_the_256_levels():
    levels = torch.arange(256) / 127.5 - 1
    assert torch.allclose(quantize(levels + 0.49 / 127.5), levels, atol=1e-6)
    assert quantize(torch.tensor([-3.0, 1.2])).tolist() == [-1, 1]


def test_jpeg_has_the_pixels_of_pillow():
    image = noise(1, 3, 24, 16)
    file = io.BytesIO()
    pixels = ((image[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    with Image.open(file) as opened:
        expected = torch.tensor(list(opened.tobytes())).reshape(24, 16, 3).permute(2, 0, 1)
    assert torch.equal(((jpeg(image, 75) + 1) * 127.5).round()[0].long(), expected)
    assert jpeg(noise(2, 2, 24, 16), 75).shape == (2, 2, 24, 16)


def defined_metrics(*arguments) -> dict[str, float]:
    """Return the metrics of steganography_index that are not None."""
    metrics = steganography_index(*arguments)
    return {name: value for name, value in metrics.items() if value is not None}


ERROR = 0.1  # of an inverse translator without steganography: 26 dB


def honest(images: torch.Tensor) -> torch.Tensor:
    return images + ERROR


def test_an_inverse_translator_without_steganography_loses_little():
    image = F.interpolate(noise(4, 3, 6, 6), size=(64, 64), mode="bilinear") * 0.9
    metrics = defined_metrics(honest, image, image)
    assert metrics["psnr"] == pytest.approx(psnr(ERROR**2), abs=1e-3)
    for name in ("quantised", "noise"):
        assert abs(metrics[f"loss_{name}"]) < 0.15
    assert metrics["index"] < 1


def test_a_hidden_signal_loses_the_decibels_that_follow_from_its_amplitude():
    # The input is hidden at a tenth of its amplitude; restoring it amplifies disturbances tenfold.
    hidden = 0.1
    real = noise(2, 3, 64, 64)
    fake = 0.2 + hidden * real
    metrics = defined_metrics(lambda x: honest((x - 0.2) / hidden), fake, real)
    assert metrics["psnr"] == pytest.approx(psnr(ERROR**2), abs=1e-3)
    for name, variance in (("quantised", (2 / 255) ** 2 / 12), ("noise", NOISE_STD**2)):
        loss = 10 * math.log10(1 + variance / hidden**2 / ERROR**2)
        assert metrics[f"loss_{name}"] == pytest.approx(loss, abs=0.1)
        assert metrics[f"psnr_{name}"] == pytest.approx(metrics["psnr"] - loss, abs=0.1)
    # JPEG removes white noise entirely: the error is about the signal's own power of 1/3.
    assert 10 < metrics["loss_jpeg"] < 20
    assert metrics["index"] == metrics["loss_jpeg"]


def test_batches_and_sizes_do_not_change_the_metrics():
    real = noise(4, 3, 24, 24)
    fake = (0.2 + 0.1 * real).requires_grad_()
    whole, parts = (Steganography(lambda x: (x - 0.2) / 0.1 + ERROR, seed=5) for _ in range(2))
    whole.update(fake, real)
    parts.update(fake[:1], real[:1])
    parts.update(fake[1:], real[1:])
    assert parts.result() == pytest.approx(whole.result(), rel=1e-6)
    assert whole.result()["count"] == 4
    other = steganography_index(whole.restore, fake, real, seed=6)
    assert other["psnr_noise"] != whole.result()["psnr_noise"]
    assert other["psnr_jpeg"] == pytest.approx(whole.result()["psnr_jpeg"])
    parts.update(fake[:, :, :16], real[:, :, :16])
    assert parts.result()["count"] == 8


def test_a_loss_without_a_finite_value_is_none():
    image = noise(1, 3, 16, 16)
    metrics = steganography_index(lambda x: x, image, image)
    assert metrics["psnr"] is None and metrics["psnr_noise"] is not None
    assert metrics["loss_noise"] is None and metrics["index"] is None
    metrics = steganography_index(lambda x: image, image, image)
    assert metrics["psnr_noise"] is None and metrics["loss_noise"] == 0 and metrics["index"] == 0


def test_the_inverse_translator_runs_without_gradients():
    enabled = []

    def restore(images: torch.Tensor) -> torch.Tensor:
        enabled.append(torch.is_grad_enabled())
        return images

    steganography_index(restore, noise(1, 3, 16, 16), noise(1, 3, 16, 16))
    assert enabled == [False] * 4


def scenes(count: int) -> torch.Tensor:
    return torch.stack([
        torch.as_tensor(draw_scene(64, 0, 1, number).pixels).float().permute(2, 0, 1)
        for number in range(count)
    ])  # fmt: skip


def test_an_edge_grid_equals_one_made_with_pillow_and_numpy():
    pictures = (np.random.default_rng(0).random((3, 90, 70, 3)) * 255).astype(np.uint8)
    grids = []
    for picture in pictures:
        light = (picture / 255 * 2 - 1) @ np.array([0.299, 0.587, 0.114])
        small = Image.fromarray(light.astype(np.float32)).resize(
            (130, 130), Image.Resampling.BICUBIC
        )
        x = np.asarray(small)
        size = np.hypot(x[1:-1, 2:] - x[1:-1, :-2], x[2:, 1:-1] - x[:-2, 1:-1])
        grid = np.sqrt(size).reshape(32, 4, 32, 4).mean((1, 3)).ravel()
        grids.append((grid - grid.mean()) / np.linalg.norm(grid - grid.mean()))
    images = torch.as_tensor(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    assert np.abs(edge_grid(images).numpy() - np.stack(grids)).max() < 2e-3
    assert not edge_grid(torch.full((1, 3, 40, 40), 0.3)).any()


def test_a_copy_finds_its_source_and_one_picture_for_all_does_not(monkeypatch):
    images = scenes(12)
    grids = edge_grid(images)
    assert own_source_found(grids, grids) == 1
    assert own_source_found(edge_grid(-0.3 * images), grids) == 1  # other colors
    one = grids[:1].expand(12, -1)
    assert own_source_found(one, grids) == pytest.approx(1 / 12)
    monkeypatch.setattr("metrics.faithfulness.BLOCK", 5)
    assert own_source_found(grids, grids) == 1 and own_source_found(grids.flip(0), grids) == 0
