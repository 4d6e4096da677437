"""Images are decoded once and then read from memory, by all processes, with the same pixels."""

import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from common.errors import UserError
from data.config import DataConfig
from data.folders import find_split
from data.image_store.memory import ENTRY, SEAL, SharedPixels
from data.loader import batches
from data.samples import UnpairedSamples

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


def samples_with(photos, keep, fit="stretch"):
    config = DataConfig(root=str(photos), load_size=20, crop_size=16, fit=fit, memory_cache_gb=keep)
    return UnpairedSamples(find_split(config, "train"), config, seed=5)


def test_what_was_put_down_is_picked_up_whatever_its_size():
    kept = SharedPixels(3, 10_000)
    assert kept.get(1) is None
    kept.put(1, picture(1))
    kept.put(2, picture(2, 9, 4)[:, ::2])
    kept.put(0, picture(3)[..., :1])
    assert np.array_equal(kept.get(1), picture(1))
    assert np.array_equal(kept.get(2), picture(2, 9, 4)[:, ::2])
    assert np.array_equal(kept.get(0), picture(3)[..., :1])


def test_no_more_is_kept_than_was_allowed():
    kept = SharedPixels(4, 2 * picture(0).nbytes)
    for number in range(4):
        kept.put(number, picture(number))
    assert [kept.get(number) is not None for number in range(4)] == [True, True, False, False]
    assert os.fstat(kept._opened).st_size == kept._first + kept.max_bytes


def test_memory_is_taken_when_it_is_used():
    kept = SharedPixels(4, 10**9)
    assert os.fstat(kept._opened).st_blocks * 512 < 10**5
    kept.put(0, np.ones((500, 500, 3), np.uint8))
    assert 750_000 <= os.fstat(kept._opened).st_blocks * 512 < 10**6


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("workers", [0, 2])
def test_later_passes_have_the_same_pixels_and_decode_nothing(photos, fit, workers, monkeypatch):
    expected = collected(samples_with(photos, 0, fit), 0)
    samples = samples_with(photos, 1, fit)
    assert equal(expected, collected(samples, workers))
    monkeypatch.setattr(
        "data.image_store.files.read_image", None
    )  # decoding would fail from here on
    assert equal(expected, collected(samples, workers))


def test_a_set_that_does_not_fit_is_kept_in_part(photos):
    expected = collected(samples_with(photos, 0), 0)
    samples = samples_with(photos, 3 * 20 * 20 * 3 / 1e9)
    for _ in range(2):
        assert equal(expected, collected(samples, 0))
    assert samples.store.cache is not None
    assert (
        sum(samples.store.cache.get(n) is not None for n in range(samples.store.cache.count)) == 3
    )


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_processes_share_what_is_kept_however_they_are_started(start):
    kept, context = SharedPixels(3, 10_000), multiprocessing.get_context(start)
    processes = [context.Process(target=kept.put, args=(n, picture(n))) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(np.array_equal(kept.get(number), picture(number)) for number in range(3))


def test_processes_that_write_at_once_do_not_write_over_each_other():
    pictures = [np.full((1, 1, 2), divmod(number, 256), np.uint8) for number in range(8000)]
    kept, children = SharedPixels(len(pictures), 10**6), []
    for first in range(4):
        children.append(os.fork())
        if not children[-1]:
            for number in range(first, len(pictures), 4):
                kept.put(number, pictures[number])
            os._exit(0)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert all(np.array_equal(kept.get(n), pixels) for n, pixels in enumerate(pictures))


def test_an_entry_that_is_still_being_written_is_not_there_yet():
    kept = SharedPixels(2, 1000)
    kept.put(0, picture(0))
    last = 2 * ENTRY.size - SEAL.size
    seal = os.pread(kept._opened, SEAL.size, last)
    for part in range(SEAL.size):  # a write may be seen byte by byte
        os.pwrite(kept._opened, seal[:part] + bytes(SEAL.size - part), last)
        whole = seal[:part] + bytes(SEAL.size - part) == seal
        assert (kept.get(0) is not None) == whole
    os.pwrite(kept._opened, seal, last)
    assert np.array_equal(kept.get(0), picture(0))


def test_a_copy_of_another_kind_keeps_nothing_and_harms_nothing():
    kept = SharedPixels(2, 1000)
    kept.put(0, picture(0))
    copy = pickle.loads(pickle.dumps(kept))
    copy.put(1, picture(1))
    assert copy.get(0) is None and copy.get(1) is None
    assert np.array_equal(kept.get(0), picture(0))


def test_spawned_readers_have_the_same_samples(photos):
    expected, samples = collected(samples_with(photos, 0), 0), samples_with(photos, 1)
    loader = DataLoader(samples, num_workers=1, multiprocessing_context="spawn", batch_size=None)
    single = list(loader)
    assert torch.equal(single[0]["a"], expected[0]["a"][0])
    assert (
        samples.store.cache is not None and samples.store.cache.get(0) is not None
    )  # what the reader put down


def test_without_room_the_images_are_decoded_again(monkeypatch):
    kept = SharedPixels(2, 1000)

    def full(file, pixels, start):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_room", lambda size: 100)
    monkeypatch.setattr("data.image_store.memory.os.pwrite", full)
    kept.put(0, picture(0))
    assert kept.get(0) is None and kept.full


def test_without_files_in_memory_a_temporary_one_does_and_without_any_nothing_is_kept(monkeypatch):
    def forbidden(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("data.image_store.memory.os.memfd_create", forbidden, raising=False)
    kept = SharedPixels(1, 1000)
    kept.put(0, picture(0))
    assert np.array_equal(kept.get(0), picture(0))
    monkeypatch.setattr("data.image_store.memory.tempfile.TemporaryFile", forbidden)
    nothing = SharedPixels(1, 1000)
    nothing.put(0, picture(0))
    assert nothing.get(0) is None


def test_the_file_is_closed_with_its_owner():
    before = len(os.listdir("/dev/fd"))
    kept = SharedPixels(2, 1000)
    assert len(os.listdir("/dev/fd")) == before + 1
    del kept
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("keep", [-1.0, float("nan"), float("inf")])
def test_an_impossible_amount_is_refused(keep):
    with pytest.raises(UserError, match="data.memory_cache_gb must be 0 to"):
        replace(DataConfig(), memory_cache_gb=keep)


def test_a_lock_that_is_not_granted_costs_the_memory_and_not_the_run(monkeypatch):
    kept = SharedPixels(1, 1000)

    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("data.image_store.memory.fcntl.lockf", refused)
    kept.put(0, picture(0))
    assert kept.get(0) is None
