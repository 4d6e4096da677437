"""The tables of networks: counts and work that can be worked out by hand, for every method."""

import pytest
import torch

import train
from models import methods
from models.network_summary import first_calls, parts_of, summary, weights_of
from options.load import train_options
from tests.conftest import call, shrink

CHANNELS = {"a": 3, "b": 3}


@pytest.mark.parametrize("name", methods.names())
def test_every_network_has_a_table(name):
    method = methods.find(name)(shrink(name), CHANNELS)
    learns = {n for n, net in method.named_children() if any(True for _ in net.parameters())}
    calls = first_calls(method, getattr(shrink(name), "size", 32))
    assert learns <= calls.keys()
    assert ("vgg" in calls or "encoder" in calls) == hasattr(shrink(name), "vgg")  # frozen
    for found in calls.values():
        parts, features = parts_of(found)
        assert sum(p.parameters * p.same for p in parts) == weights_of(found.network)
        assert features > 0
        idle = [p.name for p in parts if p.parameters and not p.shape]
        assert not idle  # whatever has weights was called


def test_the_work_of_a_convolution_is_that_of_one_image():
    method = methods.find("cyclegan")(shrink("cyclegan"), CHANNELS)
    parts, _ = parts_of(
        first_calls(method, 16)["generator_ab"]
    )  # called with real_a and real_b at once
    first = next(part for part in parts if part.kind == "NormedConv2d")
    # 7x7 from 3 channels to 4, at each of 16x16 places.
    assert (first.macs, first.parameters, first.shape) == (
        49 * 3 * 4 * 256,
        49 * 3 * 4 + 4,
        "4x16x16",
    )


def test_equal_neighbours_stand_in_one_line():
    options = train_options(["cyclegan", "method.generator.channels=4", "data.crop_size=64"])
    assert options is not None
    method = methods.find("cyclegan")(options.method, CHANNELS)
    lines = "\n".join(summary("cyclegan", method, 64))
    assert "ResidualBlock x 9" in lines
    assert "generator_ab: ResnetGenerator, optimizer group generators" in lines


def test_the_published_networks_are_counted_without_any_image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    words = ["cyclegan", "summary=true", "data.crop_size=32", "data.load_size=32"]
    assert call(train, *words) == (0, "")
    assert "28,285,832 parameters in all" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_size_that_cannot_be_is_answered(tmp_path):
    code, error = call(train, "cyclegan", "summary=true", "data.crop_size=30", "data.load_size=32")
    assert code == 2
    assert "data.crop_size must be a multiple of 4" in error
