"""Sample n is a function of (seed, domain, n) alone."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from data.augment import evaluation_transform, resize_transform, training_transform
from data.config import DataConfig
from data.folders import files_in, find_split
from data.loader import batches, positions
from data.reading import read_image
from data.samples import UnpairedSamples, check_sizes, load_held_out
from data.tensors import denormalize, normalize
from tests.conftest import raises_user_error, write_images
from tests.documents import ROOT

CONFIG = DataConfig(load_size=20, crop_size=16)


@pytest.fixture
def samples(photos):
    config = replace(CONFIG, root=str(photos))
    return UnpairedSamples(find_split(config, "train"), config, seed=5)


def collected(samples, workers, first=0, last=6, size=3):
    return [
        {domain: images.clone() for domain, images in batch.items()}
        for batch in batches(samples, size, first, last, workers, pin_memory=False)
    ]


def equal(one, two):
    return all(
        torch.equal(x[domain], y[domain])
        for x, y in zip(one, two, strict=True)
        for domain in ("a", "b")
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_the_workers_do_not_change_a_pixel(samples, workers):
    assert equal(collected(samples, 0), collected(samples, workers))


def test_a_restart_in_the_middle_continues_with_the_same_pixels(samples):
    assert equal(collected(samples, 0)[4:], collected(samples, 1, first=4))


def test_the_batch_size_does_not_change_the_order(samples):
    threes = torch.cat([batch["a"] for batch in collected(samples, 0)])
    ones = torch.cat([batch["a"] for batch in collected(samples, 0, last=18, size=1)])
    assert torch.equal(threes, ones)


def test_the_global_generators_neither_matter_nor_change(samples):
    first = collected(samples, 0)
    np.random.seed(7)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert equal(first, collected(samples, 0))
    assert torch.equal(before, torch.get_rng_state())


def test_every_image_comes_once_a_pass_and_against_new_partners(samples):
    order = {d: [samples.file_of(d, n).name for n in range(35)] for d in "ab"}
    for domain, count in (("a", 7), ("b", 5)):
        for start in range(0, 35, count):
            assert len(set(order[domain][start : start + count])) == count
    assert len(set(zip(order["a"], order["b"], strict=True))) > 15
    assert len(samples) == 7


def test_another_seed_gives_another_order_and_the_domains_differ(photos, samples):
    other = UnpairedSamples(samples.files, samples.config, seed=6)
    assert [samples.file_of("a", n) for n in range(21)] != [
        other.file_of("a", n) for n in range(21)
    ]
    twins = UnpairedSamples(
        {"a": samples.files["a"], "b": samples.files["a"]}, samples.config, seed=5
    )
    assert [twins.file_of("a", n) for n in range(21)] != [twins.file_of("b", n) for n in range(21)]


def test_flips_and_crops_are_drawn_evenly_and_independently(tmp_path):
    pixels = np.arange(20 * 20, dtype=np.uint16).reshape(20, 20) % 251
    image = np.repeat(pixels.astype(np.uint8)[..., None], 3, 2)
    transform = training_transform(replace(CONFIG, fit="crop"), 3)
    seen = Counter()
    for key in range(400):
        result = transform(image, (0, 0, key, 1))[..., 0]
        flipped = int(result[0, 1]) - int(result[0, 0]) in (-1, 250)
        first = result[:, ::-1] if flipped else result
        seen[flipped, int(np.argwhere(image[:5, :5, 0] == first[0, 0])[0][1])] += 1
    assert sum(count for (flipped, _), count in seen.items() if flipped) == pytest.approx(
        200, abs=40
    )
    assert len(seen) == 10  # both flips with each of the five places from left to right
    assert min(seen.values()) >= 15


def test_a_pixel_of_a_sample_is_what_it_always_was():
    # A change in the arithmetic of the libraries would change every run.
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    result = training_transform(CONFIG, 3)(resize_transform(CONFIG, 20)(image), (1, 2, 3, 4))
    assert result.shape == (16, 16, 3)
    assert result[3, 5].tolist() == GOLDEN[0] and result[10, 2].tolist() == GOLDEN[1]


GOLDEN = ([168, 76, 172], [182, 147, 89])


@pytest.mark.parametrize(
    ("fit", "shape"), [("stretch", (16, 16)), ("short_side", (16, 24)), ("crop", (24, 36))]
)
def test_the_fit_decides_the_size_of_a_held_out_image(fit, shape):
    transform = evaluation_transform(replace(CONFIG, fit=fit))
    assert transform(np.zeros((24, 36, 3), np.uint8), (0,)).shape == (*shape, 3)


@pytest.mark.parametrize("fit", ["stretch", "short_side", "crop"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_every_fit_trains_on_square_crops_with_any_number_of_channels(fit, channels):
    config = replace(CONFIG, fit=fit, rotate=20.0)
    image = resize_transform(config, config.load_size)(np.zeros((24, 36, channels), np.uint8))
    assert training_transform(config, channels)(image, (0,)).shape == (16, 16, channels)


def test_rotation_and_colour_jitter_change_the_picture_and_are_off_by_default():
    image = np.random.default_rng(0).integers(60, 200, (24, 24, 3), dtype=np.uint8)
    still = replace(CONFIG, fit="crop", crop_size=24, flip=False)
    assert np.array_equal(training_transform(still, 3)(image, (0,)), image)
    for change in ({"rotate": 30.0}, {"color_jitter": 0.4}):
        assert not np.array_equal(
            training_transform(replace(still, **change), 3)(image, (0,)), image
        )


def test_a_shrunk_image_is_free_of_aliasing():
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[::2] = 255
    small = evaluation_transform(replace(CONFIG, crop_size=16))(stripes, (0,))
    assert small.std() < 5 and abs(small.mean() - 127.5) < 2


def test_normalising_is_exactly_undone():
    levels = torch.arange(256, dtype=torch.uint8)
    assert normalize(levels).min() == -1 and normalize(levels).max() == 1
    assert torch.equal(denormalize(normalize(levels)), levels)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named_in_one_line_from_any_worker(tmp_path, workers):
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "b", 2)
    (tmp_path / "a/broken.png").write_bytes(b"no picture")
    config = replace(CONFIG, train={d: str(tmp_path / d) for d in "ab"})
    samples = UnpairedSamples(find_split(config, "train"), config, 0)
    with raises_user_error(path=tmp_path / "a/broken.png"):
        collected(samples, workers)


def test_an_image_smaller_than_the_crop_is_found_before_training(tmp_path):
    write_images(tmp_path / "a", 1, size=(24, 24))
    Image.new("RGB", (24, 8)).save(tmp_path / "a/flat.png")
    config = replace(CONFIG, fit="crop", crop_size=16)
    with raises_user_error(option="data.crop_size", path=tmp_path / "a/flat.png"):
        check_sizes({"a": sorted((tmp_path / "a").iterdir())}, config)


def test_held_out_images_come_in_order_and_normalised(photos):
    config = replace(CONFIG, root=str(photos))
    images = list(load_held_out(find_split(config, "test")["a"], config, config.formats()["a"]))
    assert [image.shape for image in images] == [(1, 3, 16, 16)] * 3
    assert all(image.abs().max() <= 1 for image in images)


def test_samples_can_be_pickled_for_spawned_workers(samples):
    import pickle

    before = collected(samples, 0, last=2)
    assert equal(before, collected(pickle.loads(pickle.dumps(samples)), 0, last=2))


def test_a_cropped_held_out_image_is_its_central_square(photos):
    config = replace(CONFIG, root=str(photos), fit="crop")
    (image, *_) = load_held_out(
        find_split(config, "test")["a"], config, config.formats()["a"], cropped=True
    )
    (whole, *_) = load_held_out(find_split(config, "test")["a"], config, config.formats()["a"])
    assert whole.shape == (1, 3, 20, 24)
    assert torch.equal(image, whole[..., 2:18, 4:20])


@pytest.mark.parametrize("fit", ["stretch", "short_side", "crop"])
def test_the_cache_does_not_change_a_pixel_and_is_built_once(photos, tmp_path, fit, monkeypatch):
    config = replace(CONFIG, root=str(photos), fit=fit)
    files = find_split(config, "train")
    plain = UnpairedSamples(files, config, seed=5)
    cached = UnpairedSamples(files, replace(config, disk_cache=str(tmp_path / "cache")), seed=5)
    assert equal(collected(plain, 0), collected(cached, 0))
    assert equal(collected(plain, 0), collected(cached, 2))
    monkeypatch.setattr("data.image_store.files.read_pixels", None)  # decoding would fail
    again = UnpairedSamples(files, replace(config, disk_cache=str(tmp_path / "cache")), seed=5)
    assert equal(collected(cached, 0), collected(again, 0))


def test_changed_files_sizes_and_channels_are_cached_again(photos, tmp_path):
    config = replace(CONFIG, root=str(photos), disk_cache=str(tmp_path))
    files = find_split(config, "train")
    names = set()
    for change in ({}, {"load_size": 24}, {"fit": "short_side"}, {"channels": [1]}):
        names |= {
            images.path
            for images in UnpairedSamples(
                files, replace(config, **change), 0
            ).store._domains.values()
        }
    assert len(names) == 8
    os.utime(files["a"][0], ns=(1, 1))
    names |= {images.path for images in UnpairedSamples(files, config, 0).store._domains.values()}
    assert len(names) == 9


def test_a_bad_file_is_named_and_leaves_no_incomplete_cache(tmp_path):
    for domain in "ab":
        write_images(tmp_path / domain, 2)
    (tmp_path / "a/zz.png").write_bytes(b"no picture")
    config = replace(
        CONFIG, train={d: str(tmp_path / d) for d in "ab"}, disk_cache=str(tmp_path / "cache")
    )
    with raises_user_error(path=tmp_path / "a/zz.png"):
        UnpairedSamples(find_split(config, "train"), config, 0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    (tmp_path / "a/zz.png").unlink()
    assert len(UnpairedSamples(find_split(config, "train"), config, 0).store._domains["a"]) == 2
    (tmp_path / "file").write_text("x")
    with raises_user_error(option="data.disk_cache", path=tmp_path / "file"):
        UnpairedSamples(
            find_split(config, "train"), replace(config, disk_cache=str(tmp_path / "file")), 0
        )


def test_a_large_jpeg_is_decoded_smaller_but_never_below_what_is_needed(tmp_path):
    y, x = np.mgrid[0:400, 0:600]
    pixels = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.jpg", quality=95)
    assert read_image(tmp_path / "x.jpg", 3, least=90).shape == (100, 150, 3)
    assert read_image(tmp_path / "x.jpg", 3, least=201).shape == (400, 600, 3)
    assert read_image(tmp_path / "x.jpg").shape == (400, 600, 3)


def test_a_damaged_cache_is_rebuilt(photos, tmp_path):
    config = replace(CONFIG, root=str(photos), disk_cache=str(tmp_path))
    files = find_split(config, "train")
    expected = collected(UnpairedSamples(files, config, 5), 0)
    for damage in ("missing", "short", "shapes"):
        for path in list(tmp_path.glob("*.json" if damage == "shapes" else "*.u8")):
            path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-5])
        assert equal(expected, collected(UnpairedSamples(files, config, 5), 0))


def test_a_link_to_itself_is_passed_over(tmp_path):
    write_images(tmp_path, 1)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert len(files_in(tmp_path)) == 1


def test_crops_grow_over_equal_parts_of_the_run_and_a_batch_has_one_size(samples):
    growing = UnpairedSamples(samples.files, replace(CONFIG, progressive_crops=[8, 12, 16]), seed=5)
    growing.set_crop_schedule(steps=10, batch_size=3)
    sides = [batch["a"].shape for batch in collected(growing, 0, last=10, size=3)]
    # 10 steps in three parts, which begin at steps 0, 3 and 6.
    assert sides == [(3, 3, side, side) for side in [8] * 3 + [12] * 3 + [16] * 4]
    plain = UnpairedSamples(samples.files, CONFIG, seed=5)
    same = zip(
        collected(growing, 0, first=6, last=10), collected(plain, 0, first=6, last=10), strict=True
    )
    assert all(torch.equal(one["a"], two["a"]) for one, two in same)


@pytest.mark.parametrize("sizes", [[16, 8], [8, 8, 16], [8], [0, 16], [8, 32]])
def test_crops_that_do_not_rise_to_the_crop_size_are_refused(sizes):
    with raises_user_error(option="data.progressive_crops"):
        replace(CONFIG, progressive_crops=sizes)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_parts_of_a_batch_are_the_batch_in_order(count):
    parts = [list(positions(8, 3, (number, count))) for number in range(count)]
    assert [len(part) for part in parts] == [8 // count] * count
    assert [n for part in parts for n in part] == list(range(24, 32))  # step 3 of 8 images


def test_each_process_loads_its_part_of_a_batch(photos):
    config = DataConfig(root=str(photos), load_size=20, crop_size=16)
    samples = UnpairedSamples(find_split(config, "train"), config, 1)
    (whole,) = samples.batches(4, 2, 3, 0, False)
    for number in range(2):
        (part,) = samples.batches(4, 2, 3, 0, False, (number, 2))
        assert all(part[d].equal(whole[d][2 * number : 2 * number + 2]) for d in ("a", "b"))


def test_arrays_of_more_channels_than_opencv_takes_are_augmented_alike(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 300), np.uint8)
    config = replace(CONFIG, channels=[300], fit="stretch")
    resized = resize_transform(config, 20)(image)
    assert resized.shape == (20, 20, 300)
    transform = training_transform(config, 300)
    for key in range(6):  # flipped and not
        seen = transform(resized, (key,))
        parts = [
            transform(np.ascontiguousarray(resized[..., n : n + 60]), (key,))
            for n in range(0, 300, 60)
        ]
        assert np.array_equal(seen, np.concatenate(parts, axis=2))


def test_a_process_that_ends_on_a_traceback_ends_its_workers_too(tmp_path):
    # The workers ignore one SIGTERM, and the interpreter sends one and waits.
    script = """
import sys, torch
from data.loader import batches; from data.samples import UnpairedSamples
class Broken(UnpairedSamples):
    def __init__(self): pass
    def __getitem__(self, position):
        if position > 3: raise RuntimeError("not foreseen")
        return {"a": torch.zeros(1)}
for batch in batches(Broken(), 1, 0, 50, 2, False): pass
"""
    child = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert child.returncode == 1 and "not foreseen" in child.stderr
