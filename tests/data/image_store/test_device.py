"""Training images in device memory give the same samples as their files, to the pixel."""

from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from data.config import DataConfig
from data.folders import find_split
from data.image_store.device import DeviceSamples
from data.samples import UnpairedSamples
from tests.conftest import write_images


@pytest.mark.parametrize("fit", ["stretch", "short_side", "crop"])
@pytest.mark.parametrize("flip", [True, False])
def test_the_batches_are_those_of_the_files_to_the_pixel(tmp_path, fit, flip):
    for number, folder in enumerate(("trainA", "trainB")):
        # More than 255 pixels on each side, so that coordinates need two bytes.
        write_images(tmp_path / folder, 3, size=(300 + 10 * number, 270))
    config = DataConfig(root=str(tmp_path), fit=fit, load_size=280, crop_size=8, flip=flip)
    files = find_split(config, "train")
    from_files = UnpairedSamples(files, config, seed=4)
    on_device = DeviceSamples(files, config, seed=4, device=torch.device("cpu"))
    pairs = zip(
        from_files.batches(3, 2, 10, 0, False), on_device.batches(3, 2, 10, 0, False), strict=True
    )
    for expected, found in pairs:
        assert all(torch.equal(expected[domain], found[domain]) for domain in ("a", "b"))


@pytest.mark.parametrize("option", ["rotate", "color_jitter"])
def test_rotation_and_color_jitter_are_refused(photos, option):
    config = replace(DataConfig(root=str(photos), load_size=20, crop_size=16), **{option: 0.5})
    with pytest.raises(UserError, match=f"data.{option}=0") as refused:
        DeviceSamples(find_split(config, "train"), config, 0, torch.device("cpu"))
    assert refused.value.option == "data.device_cache"


def test_progressive_crops_are_those_of_the_files(photos):
    config = DataConfig(root=str(photos), load_size=20, crop_size=16, progressive_crops=[8, 16])
    files = find_split(config, "train")
    from_files = UnpairedSamples(files, config, seed=4)
    on_device = DeviceSamples(files, config, seed=4, device=torch.device("cpu"))
    for samples in (from_files, on_device):
        samples.set_crop_schedule(steps=4, batch_size=2)
    pairs = zip(
        from_files.batches(2, 0, 4, 0, False), on_device.batches(2, 0, 4, 0, False), strict=True
    )
    for expected, found in pairs:
        assert all(torch.equal(expected[domain], found[domain]) for domain in ("a", "b"))
