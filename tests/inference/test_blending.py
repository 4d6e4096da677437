"""Strength, colours and masks of a translation, and what happens to wrong ones."""

import numpy as np
import pytest
from PIL import Image

import translate
from common.errors import UserError
from inference.blending import Blending
from tests.conftest import call, picture, write_images

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
    found = Blending(strength=strength).apply(REAL, FAKE)
    assert abs(found.astype(int) - np.asarray(expected)).max() <= 1


def test_colours_are_kept_and_light_is_not():
    random = np.random.default_rng(0)
    real = random.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    fake = np.repeat(random.integers(90, 160, (8, 8, 1), dtype=np.uint8), 3, axis=2)
    found = Blending(keep_color=True).apply(real, fake)
    channels = [
        np.asarray(Image.fromarray(x).convert("YCbCr")).astype(int) for x in (real, fake, found)
    ]
    assert abs(channels[2][..., 0] - channels[1][..., 0]).mean() < 6  # clipping moves a few
    assert abs(channels[2][..., 1:] - channels[0][..., 1:]).mean() < 6
    assert abs(channels[2][..., 1:] - channels[1][..., 1:]).mean() > 12


def test_a_mask_shows_the_translation_where_it_is_white():
    mask = Image.fromarray(np.array([[255, 0]], np.uint8))
    assert np.array_equal(
        Blending(mask=mask).apply(REAL, FAKE), [[FAKE[0, 0].tolist(), REAL[0, 1].tolist()]]
    )


def test_other_channels_out_than_in_are_answered():
    with pytest.raises(UserError, match="as many channels out as in"):
        Blending(strength=0.5).apply(REAL, FAKE[..., :1])
    assert np.array_equal(Blending().apply(REAL, FAKE[..., :1]), FAKE[..., :1])


def test_the_command_turns_them(trained, tmp_path):
    write_images(tmp_path / "in", 2)
    (tmp_path / "masks").mkdir()
    for number in range(2):
        Image.new("L", (24, 20), 255 * number).save(tmp_path / f"masks/00{number}.png")
    words = (trained, tmp_path / "in", tmp_path / "out", "direction=a_to_b", "runtime.device=cpu")

    def made(*more) -> list[np.ndarray]:
        assert call(translate, *words, *more) == (0, "")
        return [np.array(picture(tmp_path / f"out/00{n}.png")) for n in range(2)]

    plain = made()
    real = [np.array(picture(tmp_path / f"in/00{n}.png")) for n in range(2)]
    assert np.array_equal(made("strength=0"), real)
    assert not np.array_equal(made("keep_color=true"), plain)
    masked = made(f"mask={tmp_path / 'masks'}")
    assert np.array_equal(masked[0], real[0]) and np.array_equal(masked[1], plain[1])
    assert np.array_equal(made(f"mask={tmp_path / 'masks/001.png'}"), plain)
    for more, says in [
        ("strength=-1", "strength must be"), ("strength=9", "strength must be"),
        ("mask=/nowhere", "mask=/nowhere"),
    ]:  # fmt: skip
        code, error = call(translate, *words, more)
        assert code == 2 and says in error
    (tmp_path / "masks/001.png").unlink()
    code, error = call(translate, *words, f"mask={tmp_path / 'masks'}")
    assert code == 1 and "1 of 2" in error
