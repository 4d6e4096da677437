"""VGG: sizes and positions of its layers, its frozen weights, and the file they come from."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
import torch.hub
from torch import nn
from torchvision.models import vgg16, vgg19

from models.networks.generators.vgg_decoder import VggDecoder
from models.networks.vgg import Vgg, check_channels, convolution_positions

TINY = Vgg.Config(weights="random", channels=4)
POSITIONS = {
    "vgg19": {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv4_2": 21,
              "conv5_1": 28},
    "vgg16": {"conv1_2": 2, "conv2_2": 7, "conv3_3": 14, "conv4_3": 21},
}  # fmt: skip


def saved(state, folder):
    """Save a state dict under a name that ends with the first digits of its sha256."""
    torch.save(state, folder / "plain.pth")
    digest = hashlib.sha256((folder / "plain.pth").read_bytes()).hexdigest()[:8]
    return (folder / "plain.pth").rename(folder / f"vgg-{digest}.pth")


@pytest.mark.parametrize(
    ("kind", "deepest", "count"),
    [("vgg19", "relu5_4", 20_024_384), ("vgg16", "relu5_3", 14_714_688)],
)
def test_a_whole_vgg_has_the_published_number_of_weights(kind, deepest, count):
    network = Vgg(Vgg.Config(kind=kind, weights="random"), [deepest])
    assert sum(x.numel() for x in network.convolutions.buffers()) == count


@pytest.mark.parametrize("kind", ["vgg19", "vgg16"])
def test_layers_have_the_indices_of_torchvision(kind):
    positions = dict(convolution_positions(kind))
    assert {name: positions[name] for name in POSITIONS[kind]} == POSITIONS[kind]


@pytest.mark.parametrize(
    ("kind", "build", "layers"),
    [("vgg19", vgg19, {"relu1_1": 1, "relu2_1": 6, "conv2_2": 7}),
     ("vgg16", vgg16, {"relu1_2": 3, "relu2_2": 8, "conv3_1": 10})],
)  # fmt: skip
def test_features_are_those_of_torchvision_from_a_file_of_its_weights(
    kind, build, layers, tmp_path
):
    with torch.device("meta"):  # the classifier alone would be half a gigabyte
        features = build(weights=None).features[: max(layers.values()) + 1]
    theirs = features.to_empty(device="cpu")
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, 0, 0.05)
    state = {f"features.{name}": x for name, x in theirs.state_dict().items()}
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        ours = Vgg(Vgg.Config(kind=kind, weights=str(saved(state, tmp_path))), list(layers))(image)
        x = (image + 1) / 2  # torchvision's range, normalised by ImageNet's mean and deviation
        x = x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        x = x / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        for layer, position in layers.items():
            expected = x
            for part in theirs[: position + 1]:
                expected = (
                    nn.functional.relu(expected) if isinstance(part, nn.ReLU) else part(expected)
                )
            assert torch.allclose(ours[layer], expected, atol=1e-5), layer


def test_gradients_reach_the_image_and_no_weight_is_in_the_state_dict():
    network = Vgg(TINY, ["relu4_1"])
    image = torch.rand(1, 3, 16, 16).requires_grad_()
    network(image)["relu4_1"].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert list(network.parameters()) == [] and network.state_dict() == {}


def test_random_weights_are_always_the_same_and_leave_the_global_generator_alone():
    image = torch.rand(1, 3, 16, 16)
    state = torch.get_rng_state()
    one = Vgg(TINY, ["relu3_1"])(image)["relu3_1"]
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(7)
    assert one.equal(Vgg(TINY, ["relu3_1", "relu5_1"])(image)["relu3_1"])


def test_random_features_neither_vanish_nor_explode_and_differ_between_images():
    # After a ReLU, N(0, 1) has a mean square of 1/2; filters that sum to zero pass on the variation
    # only. With other filters, the deep features of two images were almost parallel.
    network = Vgg(Vgg.Config(weights="random", channels=16), ["relu5_1"])
    one, other = (network(torch.randn(1, 3, 64, 64) * 0.45)["relu5_1"].flatten() for _ in range(2))
    assert 0.05 < one.square().mean() < 5
    assert torch.cosine_similarity(one, other, dim=0) < 0.9


def test_missing_weights_are_reported_with_the_option_and_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    network = Vgg(Vgg.Config(), ["relu1_1"])  # building needs no file
    with pytest.raises(ValueError, match=re.escape("method.vgg.weights=cache")) as caught:
        network.load()
    assert "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in str(caught.value)
    assert str(tmp_path / "checkpoints") in str(caught.value)
    with pytest.raises(ValueError, match=re.escape("method.vgg.weights=/nowhere.pth")):
        Vgg(Vgg.Config(weights="/nowhere.pth"), ["relu1_1"]).load()


@pytest.mark.parametrize("damage", ["renamed", "cut", "another network", "no tensors", "code"])
def test_a_file_without_the_weights_is_reported_in_one_line(damage, tmp_path):
    shapes = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    contents = {
        "another network": {"features.0.weight": torch.zeros(8, 3, 3, 3)},
        "no tensors": [1],
        "code": {"features.0.weight": print},
    }
    file = saved(contents.get(damage, state), tmp_path)
    if damage == "renamed":
        file = file.rename(tmp_path / "vgg-00000000.pth")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=re.escape("method.vgg.weights")) as caught:
        Vgg(Vgg.Config(weights=str(file)), ["relu1_1"]).load()
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_only_random_weights_allow_other_widths():
    with pytest.raises(ValueError, match=re.escape("method.vgg.channels=8")):
        Vgg.Config(channels=8)
    assert Vgg.Config(channels=8, weights="random").notes() and not Vgg.Config().notes()
    with pytest.raises(ValueError, match=re.escape("data.channels=3")):
        check_channels({"a": 3, "b": 1})


def test_average_pooling_changes_the_features():
    image = torch.rand(1, 3, 16, 16)
    configs = [replace(TINY, pooling=pooling) for pooling in ("max", "average")]
    results = [Vgg(config, ["conv2_1"])(image)["conv2_1"] for config in configs]
    assert results[0].shape == results[1].shape == (1, 8, 8, 8)
    assert not torch.allclose(*results)


def test_the_decoder_mirrors_vgg19_up_to_relu4_1():
    # 512-256, 3 of 256-256, 256-128, 128-128, 128-64, 64-64, 64-3, each 3x3 with a bias.
    pairs = [(512, 256), *[(256, 256)] * 3, (256, 128), (128, 128), (128, 64), (64, 64), (64, 3)]
    decoder = VggDecoder(Vgg.Config(), 3)
    assert sum(p.numel() for p in decoder.parameters()) == sum(9 * i * o + o for i, o in pairs)
    tiny = VggDecoder(TINY, 3)
    assert tiny(torch.rand(1, 32, 2, 3)).shape == (1, 3, 16, 24)
