"""Images are decoded once and then read from shared memory, with the same pixels."""

import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data.config import DataConfig
from data.folders import find_split
from data.image_store.memory import ENTRY, SEAL, SharedPixels
from data.loader import batches
from data.samples import UnpairedSamples
from tests.conftest import raises_user_error

FITS = ["stretch", "short_side", "crop"]


def picture(number, height=5, width=7):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def collected(samples, workers, last=12):
    return [
        {domain: images.clone() for domain, images in batch.items()}
        for batch in batches(samples, 3, 0, last, workers, pin_memory=False)
    ]


def equal(one, two):
    return all(
        torch.equal(x[domain], y[domain])
        for x, y in zip(one, two, strict=True)
        for domain in ("a", "b")
    )


def samples_with(photos, gigabytes, fit="stretch"):
    config = DataConfig(
        root=str(photos), load_size=20, crop_size=16, fit=fit, memory_cache_gb=gigabytes
    )
    return UnpairedSamples(find_split(config, "train"), config, seed=5)


def test_images_of_any_size_are_cached():
    cache = SharedPixels(3, 10_000)
    assert cache.get(1) is None
    cache.put(1, picture(1))
    cache.put(2, picture(2, 9, 4)[:, ::2])
    cache.put(0, picture(3)[..., :1])
    assert np.array_equal(cache.get(1), picture(1))
    assert np.array_equal(cache.get(2), picture(2, 9, 4)[:, ::2])
    assert np.array_equal(cache.get(0), picture(3)[..., :1])


def test_no_more_is_cached_than_max_bytes():
    cache = SharedPixels(4, 2 * picture(0).nbytes)
    for number in range(4):
        cache.put(number, picture(number))
    assert [cache.get(number) is not None for number in range(4)] == [True, True, False, False]
    assert os.fstat(cache._descriptor).st_size == cache._index_size + cache.max_bytes


def test_memory_is_taken_when_it_is_used():
    cache = SharedPixels(4, 10**9)
    assert os.fstat(cache._descriptor).st_blocks * 512 < 10**5
    cache.put(0, np.ones((500, 500, 3), np.uint8))
    assert 750_000 <= os.fstat(cache._descriptor).st_blocks * 512 < 10**6


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("workers", [0, 2])
def test_later_passes_have_the_same_pixels_and_decode_nothing(photos, fit, workers, monkeypatch):
    expected = collected(samples_with(photos, 0, fit), 0)
    samples = samples_with(photos, 1, fit)
    assert equal(expected, collected(samples, workers))
    # Decoding would fail from here on.
    monkeypatch.setattr("data.image_store.files.read_pixels", None)
    assert equal(expected, collected(samples, workers))


def test_a_set_that_does_not_fit_is_cached_in_part(photos):
    expected = collected(samples_with(photos, 0), 0)
    samples = samples_with(photos, 3 * 20 * 20 * 3 / 1e9)
    for _ in range(2):
        assert equal(expected, collected(samples, 0))
    assert samples.store.cache is not None
    assert (
        sum(samples.store.cache.get(n) is not None for n in range(samples.store.cache.count)) == 3
    )


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_processes_share_the_cache_under_every_start_method(start):
    cache, context = SharedPixels(3, 10_000), multiprocessing.get_context(start)
    processes = [context.Process(target=cache.put, args=(n, picture(n))) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(np.array_equal(cache.get(number), picture(number)) for number in range(3))


def test_processes_that_write_at_once_do_not_write_over_each_other():
    pictures = [np.full((1, 1, 2), divmod(number, 256), np.uint8) for number in range(8000)]
    cache, children = SharedPixels(len(pictures), 10**6), []
    for first in range(4):
        children.append(os.fork())
        if not children[-1]:
            for number in range(first, len(pictures), 4):
                cache.put(number, pictures[number])
            os._exit(0)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert all(np.array_equal(cache.get(n), pixels) for n, pixels in enumerate(pictures))


def test_an_entry_that_is_still_being_written_is_not_returned():
    cache = SharedPixels(2, 1000)
    cache.put(0, picture(0))
    last = 2 * ENTRY.size - SEAL.size
    seal = os.pread(cache._descriptor, SEAL.size, last)
    for part in range(SEAL.size):  # a write may be seen byte by byte
        os.pwrite(cache._descriptor, seal[:part] + bytes(SEAL.size - part), last)
        whole = seal[:part] + bytes(SEAL.size - part) == seal
        assert (cache.get(0) is not None) == whole
    os.pwrite(cache._descriptor, seal, last)
    assert np.array_equal(cache.get(0), picture(0))


def test_a_pickled_copy_caches_nothing_and_leaves_the_original_intact():
    cache = SharedPixels(2, 1000)
    cache.put(0, picture(0))
    copy = pickle.loads(pickle.dumps(cache))
    copy.put(1, picture(1))
    assert copy.get(0) is None and copy.get(1) is None
    assert np.array_equal(cache.get(0), picture(0))


def test_spawned_readers_have_the_same_samples(photos):
    expected, samples = collected(samples_with(photos, 0), 0), samples_with(photos, 1)
    loader = DataLoader(samples, num_workers=1, multiprocessing_context="spawn", batch_size=None)
    single = list(loader)
    assert torch.equal(single[0]["a"], expected[0]["a"][0])
    assert samples.store.cache is not None
    assert samples.store.cache.get(0) is not None  # cached by the worker


def test_without_room_the_images_are_decoded_again(monkeypatch):
    cache = SharedPixels(2, 1000)

    def full(file, pixels, start):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_reserve", lambda size: 100)
    monkeypatch.setattr("data.image_store.memory.os.pwrite", full)
    cache.put(0, picture(0))
    assert cache.get(0) is None and cache.full


def test_without_memfd_a_temporary_file_is_used_and_without_that_nothing_is_cached(monkeypatch):
    def forbidden(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("data.image_store.memory.os.memfd_create", forbidden, raising=False)
    cache = SharedPixels(1, 1000)
    cache.put(0, picture(0))
    assert np.array_equal(cache.get(0), picture(0))
    monkeypatch.setattr("data.image_store.memory.tempfile.TemporaryFile", forbidden)
    nothing = SharedPixels(1, 1000)
    nothing.put(0, picture(0))
    assert nothing.get(0) is None


def test_the_file_is_closed_with_its_owner():
    before = len(os.listdir("/dev/fd"))
    cache = SharedPixels(2, 1000)
    assert len(os.listdir("/dev/fd")) == before + 1
    del cache
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("gigabytes", [-1.0, float("nan"), float("inf")])
def test_an_impossible_amount_is_refused(gigabytes):
    with raises_user_error(option="data.memory_cache_gb"):
        replace(DataConfig(), memory_cache_gb=gigabytes)


def test_without_a_lock_nothing_is_cached_and_no_error_is_raised(monkeypatch):
    cache = SharedPixels(1, 1000)

    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("data.image_store.memory.fcntl.lockf", refused)
    cache.put(0, picture(0))
    assert cache.get(0) is None
