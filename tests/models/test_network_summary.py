"""The tables of networks: parameters and operations worked out by hand, for every method."""

import pytest
import torch

import train
from models import methods
from models.network_summary import count_weights, first_calls, network_parts, summary
from options.load import train_options
from tests.conftest import call, refusal, shrink

CHANNELS = {"a": 3, "b": 3}


@pytest.mark.parametrize("name", methods.names())
def test_every_network_has_a_table(name):
    method = methods.find(name)(shrink(name), CHANNELS)
    trained = {n for n, net in method.named_children() if any(True for _ in net.parameters())}
    calls = first_calls(method, getattr(shrink(name), "size", 32))
    assert trained <= calls.keys()
    assert ("vgg" in calls or "encoder" in calls) == hasattr(shrink(name), "vgg")  # frozen
    for network_call in calls.values():
        parts, feature_bytes = network_parts(network_call)
        assert sum(p.parameters * p.repeats for p in parts) == count_weights(network_call.network)
        assert feature_bytes > 0
        idle = [p.name for p in parts if p.parameters and not p.shape]
        assert not idle  # every part with weights was called


def test_the_macs_of_a_convolution_are_those_of_one_image():
    method = methods.find("cyclegan")(shrink("cyclegan"), CHANNELS)
    # The generator is called with real_a and real_b at once.
    parts, _ = network_parts(first_calls(method, 16)["generator_ab"])
    first = next(part for part in parts if part.kind == "NormedConv2d")
    # 7x7 from 3 channels to 4, at each of 16x16 positions.
    assert (first.macs, first.parameters, first.shape) == (
        49 * 3 * 4 * 256,
        49 * 3 * 4 + 4,
        "4x16x16",
    )


def test_equal_neighbours_share_a_line():
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
    assert "28,285,832 parameters in total" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_invalid_crop_size_is_refused():
    error = refusal(train, "cyclegan", "summary=true", "data.crop_size=30", "data.load_size=32")
    assert error.option == "data.crop_size"
    assert "multiple of 4" in str(error)
