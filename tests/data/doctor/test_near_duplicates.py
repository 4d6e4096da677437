"""Copies are found although their files were changed; similar images are not taken for copies."""

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from data.doctor.near_duplicates import groups_of, luminance_thumbnail, near_duplicates


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return an image with structure at several scales, like a photograph."""
    random = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells, weight in ((3, 60), (8, 40), (20, 25), (50, 12)):
        noise = random.normal(0, weight, (cells, cells, 3)).astype(np.float32)
        grids = [Image.fromarray(noise[..., channel]) for channel in range(3)]
        planes = [grid.resize(size, Image.Resampling.BICUBIC) for grid in grids]
        total += np.stack(planes, axis=-1)
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def sky(seed: int) -> Image.Image:
    """Return a plain sky: the gradient is always the same, the noise depends on the seed."""
    random = np.random.default_rng(seed)
    light = np.linspace(150, 220, 120)[:, None, None] + np.array([-40, 0, 30])
    noise = random.normal(0, 2, (120, 160, 3))
    return Image.fromarray((light + random.uniform(-4, 4) + noise).clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(stream).convert("RGB")


CHANGES = {
    "compressed": compressed,
    "a tenth smaller": lambda image: image.resize((144, 108), Image.Resampling.BICUBIC),
    "twice the size": lambda image: image.resize((320, 240), Image.Resampling.BICUBIC),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "without color": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    originals = [scene(seed) for seed in range(60)]
    copies = [CHANGES[change](image) for image in originals]
    pairs = near_duplicates([luminance_thumbnail(image) for image in [*originals, *copies]])
    assert pairs == [(number, number + 60) for number in range(60)]


def test_different_images_and_plain_skies_are_not_copies():
    images = [scene(seed) for seed in range(150)] + [sky(seed) for seed in range(150)]
    images += [Image.new("RGB", (64, 64), (seed, 120, 200)) for seed in range(50)]
    assert near_duplicates([luminance_thumbnail(image) for image in images]) == []


def test_different_objects_before_one_horizon_are_not_copies():
    random = np.random.default_rng(0)
    images = []
    for number in range(20):
        light = np.where(np.arange(64) < 32, 200.0, 60.0)[:, None] + random.normal(0, 2, (64, 64))
        top, left = divmod(number, 5)
        light[34 + 6 * top : 44 + 6 * top, 10 * left : 10 * left + 12] += 40
        images.append(Image.fromarray(light.clip(0, 255).astype(np.uint8)))
    pairs = near_duplicates(
        [luminance_thumbnail(each) for each in [*images, compressed(images[3])]]
    )
    assert pairs == [(3, 20)]


def test_smooth_glows_of_one_shape_are_not_copies():
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    glow = np.exp(-(x**2 + y**2) / 0.5)
    images = [
        Image.fromarray((60 + 6 * n + 30 * glow).astype(np.uint8)).convert("RGB") for n in range(20)
    ]
    assert near_duplicates([luminance_thumbnail(image) for image in images]) == []


def test_images_with_equal_coarse_and_different_fine_structure_are_not_copies():
    random = np.random.default_rng(0)
    large = np.kron(random.normal(128, 25, (16, 16)), np.ones((2, 2)))
    checks = np.kron(random.choice([-1, 1], (2, 16, 16)), np.array([[1, -1], [-1, 1]]))
    one, same = large + 40 * checks[0], large + 38 * checks[0]
    luminances = [light.astype(np.float16) for light in (one, same, large + 40 * checks[1])]
    assert near_duplicates(luminances) == [(0, 1)]


def test_a_mirrored_image_and_one_with_another_center_are_not_copies():
    image = scene(0)
    other = image.copy()
    other.paste(scene(1).crop((40, 30, 120, 90)), (40, 30))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert near_duplicates([luminance_thumbnail(each) for each in (image, mirrored, other)]) == []


def test_ten_thousand_images_take_seconds_even_if_all_are_in_one_bucket():
    random = np.random.default_rng(0)
    light = np.asarray(luminance_thumbnail(scene(0)), dtype=np.float32)
    crowd = [(light + random.normal(0, 1, light.shape)).astype(np.float16) for _ in range(800)]
    different = [random.normal(128, 40, (32, 32)).astype(np.float16) for _ in range(10_000)]
    started = time.process_time()
    assert near_duplicates(different) == []
    near = near_duplicates(crowd)
    assert time.process_time() - started < 30
    assert groups_of(near) == [list(range(800))]


def test_pairs_that_share_an_image_make_one_group():
    assert groups_of([(5, 7), (1, 2), (2, 9), (7, 8)]) == [[1, 2, 9], [5, 7, 8]]


def test_a_single_image_has_no_copy():
    assert near_duplicates([]) == [] and near_duplicates([luminance_thumbnail(scene(0))]) == []
