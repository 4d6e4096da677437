"""Inpainting: the masked pixels, the loss, and one network under two names."""

from dataclasses import replace

import pytest
import torch

from models.methods.inpainting import Inpainting
from tests.conftest import shrink

CHANNELS = {"a": 3, "b": 3}


def build(**changes) -> Inpainting:
    return Inpainting(replace(shrink("inpainting"), **changes), CHANNELS)


def test_whole_squares_are_black_in_all_channels_and_the_rest_is_unchanged():
    method, image = build(mask_patch_size=4), torch.rand(3, 3, 18, 10)
    masked = method.mask_patches(image)
    mask = masked == -1
    assert mask.any() and not mask.all()
    assert masked[~mask].equal(image[~mask])
    for square in (mask[:, :, y : y + 4, x : x + 4] for y in range(0, 18, 4) for x in (0, 4, 8)):
        flat = square.flatten(1)
        assert (flat.all(dim=1) | ~flat.any(dim=1)).all()


def test_two_of_five_squares_are_masked_and_each_image_has_its_own():
    masked = build(mask_patch_size=2).mask_patches(torch.zeros(4, 1, 200, 200))
    # 40,000 squares at 0.4: a standard error of 0.00245; four of them.
    assert (masked == -1).float().mean().item() == pytest.approx(0.4, abs=0.0098)
    assert not masked[0].equal(masked[1])


def test_the_loss_of_a_black_output_is_the_mean_of_the_image():
    method = build()
    with torch.no_grad():
        for parameter in method.generator_ab.exit.parameters():
            parameter.zero_()
    images = {"a": torch.full((1, 3, 16, 16), 0.5), "b": torch.full((1, 3, 16, 16), -0.25)}
    (update,) = method.updates(images, 0)
    assert {name: x.item() for name, x in update.losses.items()} == pytest.approx(
        {"filling_a": 0.5, "filling_b": 0.25}
    )


def test_one_network_is_saved_under_the_names_of_two():
    method = build()
    state = method.state_dict()
    names = [
        name.removeprefix("generator_ab.") for name in state if name.startswith("generator_ab.")
    ]
    assert names and all(state[f"generator_ba.{name}"] is not None for name in names)
    assert len(list(method.parameters())) == len(names)
    state = {name: torch.zeros_like(x) for name, x in state.items()}
    method.load_state_dict(state)
    assert all(not parameter.any() for parameter in method.generator_ba.parameters())


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"mask_patch_size": 0}, "method.mask_patch_size"),
        ({"mask_ratio": 1.5}, "method.mask_ratio"),
    ],
)
def test_invalid_options_are_named(changes, option):
    with pytest.raises(ValueError, match=option):
        Inpainting.Config(**changes)
    with pytest.raises(ValueError, match="equal channels"):
        Inpainting(shrink("inpainting"), {"a": 1, "b": 3})
    with pytest.raises(ValueError, match="multiple of 4"):
        build().check_crop_size(18, 18)
