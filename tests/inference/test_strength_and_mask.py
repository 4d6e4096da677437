"""Strength, colors and masks of translations, and the refusal of wrong ones."""

import numpy as np
import pytest
from PIL import Image

import translate
from inference.strength_and_mask import Blending
from tests.conftest import call, picture, raises_user_error, refusal, write_images

REAL = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
FAKE = np.array([[[110, 0, 30], [0, 100, 255]]], np.uint8)


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0, REAL),
        (1, FAKE),
        (0.5, [[[60, 10, 30], [100, 100, 128]]]),
        (2, [[[210, 0, 30], [0, 100, 255]]]),
    ],
)
def test_strength_goes_from_the_input_to_the_translation_and_beyond(strength, expected):
    blend = Blending(strength=strength).apply(REAL, FAKE)
    assert abs(blend.astype(int) - np.asarray(expected)).max() <= 1


def test_keep_color_keeps_the_input_colors_and_not_its_luminance():
    random = np.random.default_rng(0)
    real = random.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    fake = np.repeat(random.integers(90, 160, (8, 8, 1), dtype=np.uint8), 3, axis=2)
    blend = Blending(keep_color=True).apply(real, fake)
    channels = [
        np.asarray(Image.fromarray(x).convert("YCbCr")).astype(int) for x in (real, fake, blend)
    ]
    assert abs(channels[2][..., 0] - channels[1][..., 0]).mean() < 6  # clipping moves a few
    assert abs(channels[2][..., 1:] - channels[0][..., 1:]).mean() < 6
    assert abs(channels[2][..., 1:] - channels[1][..., 1:]).mean() > 12


def test_a_mask_shows_the_translation_where_it_is_white():
    mask = Image.fromarray(np.array([[255, 0]], np.uint8))
    assert np.array_equal(
        Blending(mask=mask).apply(REAL, FAKE), [[FAKE[0, 0].tolist(), REAL[0, 1].tolist()]]
    )


@pytest.mark.parametrize(
    ("option", "blending"),
    [
        ("strength", Blending(strength=0.5)),
        ("keep_color", Blending(keep_color=True)),
        ("mask", Blending(mask=Image.new("L", (2, 1)))),
    ],
)
def test_blending_needs_as_many_output_channels_as_input_channels(option, blending):
    with raises_user_error(option=option):
        blending.apply(REAL, FAKE[..., :1])
    assert np.array_equal(Blending().apply(REAL, FAKE[..., :1]), FAKE[..., :1])


def test_the_command_applies_strength_color_and_masks(trained, tmp_path):
    write_images(tmp_path / "in", 2)
    (tmp_path / "masks").mkdir()
    for number in range(2):
        Image.new("L", (24, 20), 255 * number).save(tmp_path / f"masks/00{number}.png")
    words = (trained, tmp_path / "in", tmp_path / "out", "direction=a_to_b", "runtime.device=cpu")

    def outputs(*more) -> list[np.ndarray]:
        assert call(translate, *words, *more) == (0, "")
        return [np.array(picture(tmp_path / f"out/00{n}.png")) for n in range(2)]

    plain = outputs()
    real = [np.array(picture(tmp_path / f"in/00{n}.png")) for n in range(2)]
    assert np.array_equal(outputs("strength=0"), real)
    assert not np.array_equal(outputs("keep_color=true"), plain)
    masked = outputs(f"mask={tmp_path / 'masks'}")
    assert np.array_equal(masked[0], real[0]) and np.array_equal(masked[1], plain[1])
    assert np.array_equal(outputs(f"mask={tmp_path / 'masks/001.png'}"), plain)
    for setting in ("strength=-1", "strength=9", "mask=/nowhere"):
        assert call(translate, *words, setting)[0] == 2
        assert refusal(translate, *words, setting).option == setting.partition("=")[0]
    (tmp_path / "masks/001.png").unlink()
    code, error = call(translate, *words, f"mask={tmp_path / 'masks'}")
    assert code == 1 and "1 of 2" in error
