"""The size of a picture is limited by the free memory, or by max_megapixels; bombs are refused."""

import numpy as np
import pytest
from PIL import Image

import translate
from data.reading import read_image
from data.values import pixel_limit
from data.values.bad_image import BadImage
from data.values.pixel_limit import check_pixels, set_max_megapixels
from tests.conftest import call

MEGA = 1_000_000


@pytest.fixture(autouse=True)
def _no_limit_is_left():
    yield
    set_max_megapixels(0)


@pytest.mark.parametrize(
    ("megapixels", "free", "size", "allowed"),
    [
        (89, 10**8, 0, True),  # what was always opened still is
        (90, 10**8, 0, False),
        (240, 12 * 10**9, 0, True),
        (240, 11 * 10**9, 0, False),
        (240, 12 * 10**9, 20 * MEGA, True),  # a photograph
        (240, 12 * 10**9, MEGA, False),  # 240 pixels a byte
        (89, 10**12, 1000, True),
    ],
)
def test_the_free_memory_is_the_limit(monkeypatch, megapixels, free, size, allowed):
    monkeypatch.setattr(pixel_limit, "free_ram", lambda: free)
    if allowed:
        check_pixels("x.png", megapixels * MEGA, 3, size)
        return
    with pytest.raises(BadImage) as error:
        check_pixels("x.png", megapixels * MEGA, 3, size)
    assert error.value.path == "x.png" and f"max_megapixels={megapixels + 1}" in str(error.value)
    set_max_megapixels(megapixels + 1)  # as the message says
    check_pixels("x.png", megapixels * MEGA, 3, size)


def test_bands_take_memory_too(monkeypatch):
    monkeypatch.setattr(pixel_limit, "free_ram", lambda: 12 * 10**9)
    check_pixels("x.tif", 100 * MEGA, 6)
    with pytest.raises(BadImage):
        check_pixels("x.tif", 100 * MEGA, 12)


def test_a_picture_over_89_megapixels_is_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (9500, 95), np.uint8).repeat(100, axis=1)
    Image.fromarray(values).save(tmp_path / "large.png", compress_level=1)  # 90 megapixels
    assert read_image(tmp_path / "large.png", 1).shape == (9500, 9500, 1)
    set_max_megapixels(90)
    with pytest.raises(BadImage, match="above max_megapixels"):
        read_image(tmp_path / "large.png", 1)


def test_translate_takes_the_option(trained, photos, tmp_path):
    picture = next((photos / "testA").iterdir())
    words = (trained, picture, tmp_path / "out.png", "direction=a_to_b")
    code, error = call(translate, *words, "max_megapixels=0.0001")
    assert code == 2 and "max_megapixels" in error
    assert call(translate, *words, "max_megapixels=1") == (0, "")
    assert call(translate, *words, "max_megapixels=-1")[0] == 2
