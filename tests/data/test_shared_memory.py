"""Batches that do not fit into shared memory are refused before the start, with two ways out."""

from types import SimpleNamespace

import pytest

from common.errors import UserError
from data import loader
from data.config import DataConfig
from data.loader import check_shared_memory


def free(monkeypatch, megabytes):
    status = SimpleNamespace(f_bavail=megabytes * 1000, f_frsize=1000)
    monkeypatch.setattr(loader.os, "statvfs", lambda _: status)


def test_what_a_container_has_is_refused_for_large_batches(monkeypatch):
    free(monkeypatch, 64)
    # 32 x 128 x 128 x 6 bytes are 3.1 MB; 8 workers with 4 batches each, and one: 104 MB.
    with pytest.raises(UserError) as error:
        check_shared_memory(DataConfig(workers=8, crop_size=128), 32)
    assert error.value.option == "data.workers"
    assert "104 MB" in str(error.value) and "data.workers=4" in str(error.value)
    assert "--shm-size=1g" in str(error.value)
    check_shared_memory(DataConfig(workers=4, crop_size=128), 32)  # what it says does fit


@pytest.mark.parametrize(
    "config", [DataConfig(workers=0, crop_size=256), DataConfig(workers=8, device_cache=True)]
)
def test_without_workers_nothing_is_needed(monkeypatch, config):
    free(monkeypatch, 0)
    check_shared_memory(config, 64)


def test_the_defaults_fit_into_a_container(monkeypatch):
    free(monkeypatch, 64)
    check_shared_memory(DataConfig(), 1)
