"""Distances of image sets with their baselines, and the pretrained networks of metrics."""

import re
from pathlib import Path

import pytest
import torch
import torchvision

from data.scenes import draw_scene, to_uint8
from data.tensors import normalize
from evaluation.image_metrics import ImageMetrics
from evaluation.image_sets import CopyIndex, DescribedImages, Description, ImageSet
from evaluation.pretrained_networks import Lpips, find_inception, find_lpips
from evaluation.set_metrics import set_metrics
from metrics.set_distances.color_and_spectrum import color_distance, spectrum_distance
from metrics.set_distances.sliced_wasserstein import describe, distances
from tests.conftest import raises_user_error

CPU = torch.device("cpu")


def scenes(domain: int, first: int, count: int = 24) -> list[torch.Tensor]:
    return [
        torch.from_numpy(to_uint8(draw_scene(32, domain, n).pixels).copy()).permute(2, 0, 1)[None]
        for n in range(first, first + count)
    ]


class Pooled:
    """Features without weights: the mean color of each quarter of an image."""

    def __call__(self, images) -> torch.Tensor:
        pool = torch.nn.functional.adaptive_avg_pool2d
        return torch.cat([pool(image.float(), 2).flatten(1) for image in images])


def described(images, features=None) -> ImageSet:
    files = [Path(f"{number}.png") for number in range(len(images))]
    found = DescribedImages(ImageSet(Description(32, features), files), CopyIndex("set"))
    for file, image in zip(files, images, strict=True):
        found.add(file, normalize(image))
    return found


def measured(fakes, reals, sources, trained, features=None, paired=False):
    sets = [described(images, features) for images in (fakes, reals, sources, trained)]
    return set_metrics(*(each.images for each in sets), paired, sets[3].index.features)


def test_real_images_are_the_lower_and_inputs_the_upper_baseline():
    # Between the reals and the sources.
    fakes = [((x.float() * 0.8) + 20).byte() for x in scenes(0, 100)]
    sources, trained = [255 - x for x in fakes], scenes(0, 200, 60)
    found = measured(fakes, scenes(0, 0), sources, trained, Pooled())
    names = {"swd", "color", "spectrum", "fid", "kid", "precision", "recall", "density",
             "coverage"}  # fmt: skip
    assert found.metrics.keys() == names | {"mifid", "own_source"}
    assert found.real_baseline.keys() == names == found.copy_baseline.keys()
    for name in ("color", "fid", "kid"):  # the swd does not see contrast
        assert found.real_baseline[name] < found.metrics[name] < found.copy_baseline[name], name
    assert found.intervals.keys() == {"kid"}  # the others would not hold what they promise
    low, high = found.intervals["kid"]
    assert low < found.metrics["kid"] < high
    assert found.metrics["mifid"] >= found.metrics["fid"]


def test_held_out_images_of_the_same_scenes_are_the_real_baseline_and_not_the_reference():
    fakes = scenes(1, 0)  # of a perfect translator: the true translations
    truth, trained = scenes(1, 0), scenes(1, 200, 60)
    sources = [255 - x for x in truth]
    found = measured(fakes, truth, sources, trained, paired=True)
    assert (
        found.metrics == found.real_baseline | {"own_source": found.metrics["own_source"]}
        and 0 < found.metrics["swd"] < found.copy_baseline["swd"]
    )
    naive = measured(fakes, truth, sources, trained)
    # It seems better than real images.
    assert naive.metrics["swd"] == 0 < naive.real_baseline["swd"]


def test_other_channels_have_no_copy_baseline_and_one_image_has_no_distance():
    grey = [x[:, :1] for x in scenes(0, 0)]
    found = measured(scenes(0, 9), scenes(0, 50), grey, [])
    assert (
        found.copy_baseline == {}
        and found.real_baseline == {}
        and found.metrics.keys() == {"swd", "color", "spectrum", "own_source"}
    )
    assert measured(scenes(0, 0, 1), scenes(0, 50), [], []).metrics == {}


def test_descriptors_give_the_same_distances_as_the_images_themselves():
    fakes, reals = scenes(0, 0, 20), scenes(1, 30, 26)
    found = measured(fakes, reals, scenes(0, 60, 20), []).metrics
    one, two = ([normalize(x) for x in images] for images in (fakes, reals))
    # Sets are thinned to the number of the smaller one after they are described.
    draws = [[describe(x, 2, n) for n, x in enumerate(each)] for each in (one, two)]
    assert found["swd"] == pytest.approx(distances({"": draws[0]}, draws[1])[""], rel=1e-6)
    assert found["color"] == pytest.approx(color_distance(one, two), rel=1e-6)
    assert found["spectrum"] == pytest.approx(spectrum_distance(one, two), rel=1e-6)


def test_a_baseline_has_no_more_images_than_the_fakes():
    fakes, reals, trained = scenes(0, 0, 8), scenes(1, 30, 8), scenes(1, 60, 31)
    whole = measured(fakes, reals, fakes, trained).real_baseline
    # 8 of 31, evenly spaced.
    thinned = [trained[number * 31 // 8] for number in range(8)]
    assert whole["color"] == measured(fakes, reals, fakes, thinned).real_baseline["color"]


def test_the_distances_of_fakes_do_not_depend_on_how_many_training_images_are_at_hand():
    fakes, reals, sources = scenes(0, 0, 12), scenes(1, 30, 12), scenes(0, 60, 12)
    found = [measured(fakes, reals, sources, scenes(1, 60, n)).metrics for n in (0, 3, 12)]
    assert found[0] == found[1] == found[2]


def test_features_that_are_not_finite_leave_the_figures_out_with_a_note():
    class Broken(Pooled):
        def __call__(self, images):
            features = super().__call__(images)
            return features * (float("nan") if features.sum() < self.least else 1.0)

        least = 1e9

    found = measured(scenes(0, 0, 8), scenes(0, 9, 8), scenes(1, 0, 8), scenes(0, 30, 8), Broken())
    assert "fid" not in found.metrics and "precision" not in found.metrics
    assert any("8 of 8 images have features that are not finite" in note for note in found.notes)
    assert "swd" in found.metrics


def test_a_generator_that_paints_one_picture_for_all_is_near_the_target_and_finds_no_source():
    reals, sources = scenes(1, 0), scenes(0, 50)
    forgetful = measured(scenes(1, 100, 1) * len(sources), reals, sources, []).metrics
    faithful = measured([255 - x for x in sources], reals, sources, []).metrics
    assert forgetful["own_source"] == pytest.approx(1 / len(sources))
    assert faithful["own_source"] == 1 and forgetful["color"] < faithful["color"]


def test_missing_weights_are_explained_and_damaged_ones_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network, line = find_inception("", CPU)
    assert network is None and "inception=FILE" in line and "\n" not in line
    with raises_user_error(option="inception", path=tmp_path / "none.pth"):
        find_inception(str(tmp_path / "none.pth"), CPU)
    pytest.importorskip("torch_fidelity")
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    damaged = tmp_path / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"
    damaged.write_bytes(b"broken")
    with raises_user_error(option="inception", path=damaged):
        find_inception("", CPU)


def test_lpips_equals_that_of_torchmetrics_with_the_backbone_in_the_cache(tmp_path, monkeypatch):
    lpip = pytest.importorskip("torchmetrics.image.lpip")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert find_lpips(CPU) == (None, "")
    torch.manual_seed(0)
    backbone = tmp_path / "checkpoints/squeezenet1_1-b8a52dc0.pth"
    backbone.parent.mkdir()
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), backbone)
    lpips, _ = find_lpips(CPU)
    assert isinstance(lpips, Lpips) and re.fullmatch(
        "squeeze, sha256 .{8}, unknown weights", lpips.name
    )
    one, other = torch.rand(2, 1, 3, 80, 64).mul(2).sub(1)
    direct = lpip.LearnedPerceptualImagePatchSimilarity("squeeze").eval()
    assert lpips(one, other) == pytest.approx(direct(one, other).item(), rel=1e-6)
    assert lpips(one, one) == 0 < (lpips(one, other) or 0)
    assert lpips(one[:, :1], other[:, :1]) is None and lpips(one[..., :32], other[..., :32]) is None
    collected = ImageMetrics(None, lpips)
    collected.update(one, other, None, one)
    collected.update(one, one, None, one)
    assert collected.result()["truth_lpips"] == pytest.approx(
        direct(one, other).item() / 2, rel=1e-6
    )
    backbone.write_bytes(b"broken")
    lpips, line = find_lpips(CPU)  # a damaged file in the cache does not stop an evaluation
    assert lpips is None and "LPIPS is left out" in line and "squeeze" in line


def test_an_inverse_translator_that_reads_a_hidden_signal_has_a_higher_index():
    torch.manual_seed(0)
    real = torch.rand(4, 3, 32, 32).mul(2).sub(1)
    smooth = torch.nn.functional.avg_pool2d(real, 5, 1, 2)

    def hiding(fake):  # the input is in the low-order digits of the fake
        return ((fake - smooth_fake(fake)) * 500).clamp(-1, 1)

    def smooth_fake(fake):
        return (fake * 32).round() / 32

    ramps = torch.linspace(-1, 1, 32).expand(4, 3, 32, 32)
    index = {}
    for name, inverse, fakes, reals in (
        ("hiding", hiding, (smooth * 32).round() / 32 + real / 500, real),
        ("honest", lambda fake: -0.9 * fake, -ramps, ramps),  # it loses detail, but hides nothing
    ):
        collected = ImageMetrics(inverse)
        for fake, image in zip(fakes.split(1), reals.split(1), strict=True):
            collected.update(image, fake, None, None)
            collected.update_steganography(fake, image)
        index[name] = collected.result()["steganography"]
    assert index["hiding"] > 5
    assert 0 < index["honest"] < 1
