"""Every layout of the reference's checkpoints loads, with the outputs of the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import translate
from common.errors import UserError
from engine.cyclegan_repo_checkpoint import read_reference
from inference import load_translator
from tests.conftest import SHARED, call, picture, refusal, write_images

REFERENCE = SHARED / "reference"


class Block(nn.Module):
    """A residual block of the reference; a dropout layer changes the second convolution's key."""

    def __init__(self, width: int, with_dropout: bool) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
            *([nn.Dropout(0.5)] if with_dropout else []),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Restated(nn.Module):
    """The reference's generator, written from its paper, with the reference's parameter names."""

    def __init__(self, channels: int, blocks: int, with_dropout: bool = False) -> None:
        super().__init__()
        c = channels
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, c, 7), nn.InstanceNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU(),
            nn.Conv2d(2 * c, 4 * c, 3, 2, 1), nn.InstanceNorm2d(4 * c), nn.ReLU(),
            *(Block(4 * c, with_dropout) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1), nn.InstanceNorm2d(2 * c), nn.ReLU(),
            nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1), nn.InstanceNorm2d(c), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Blur(nn.Module):
    """CUT's antialiased sampling down or up; its filter is in the file as a buffer."""

    def __init__(self, channels: int, taps: tuple[int, ...]) -> None:
        super().__init__()
        row = torch.tensor(taps, dtype=torch.float32)
        kernel = torch.outer(row, row) / row.sum() ** 2
        self.up = len(taps) == 4
        kernel = kernel * 4 if self.up else kernel
        self.register_buffer("filt", kernel.expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        f = nn.functional
        if not self.up:
            return f.conv2d(
                f.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1]
            )
        x = f.pad(x, (1, 1, 1, 1), "replicate")
        y = f.conv_transpose2d(x, self.filt, stride=2, padding=2, groups=x.shape[1])
        return y[:, :, 1:-1, 1:-1]


class Antialiased(Restated):
    """CUT's generator, with CUT's parameter names."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(channels, blocks)
        c, layers, down, up = channels, list(self.model), (1, 2, 1), (1, 3, 3, 1)
        end = len(layers)
        self.model = nn.Sequential(
            *layers[:4], nn.Conv2d(c, 2 * c, 3, 1, 1), *layers[5:7], Blur(2 * c, down),
            nn.Conv2d(2 * c, 4 * c, 3, 1, 1), *layers[8:10], Blur(4 * c, down),
            *layers[10 : end - 9],
            Blur(4 * c, up), nn.Conv2d(4 * c, 2 * c, 3, 1, 1), *layers[end - 8 : end - 6],
            Blur(2 * c, up), nn.Conv2d(2 * c, c, 3, 1, 1), *layers[end - 5 : end - 3],
            *layers[end - 3 :],
        )  # fmt: skip


def test_an_antialiased_generator_of_cut_gives_its_images(tmp_path):
    torch.manual_seed(3)
    network = Antialiased(4, 3).eval()
    ours = read_reference(written(tmp_path, network, name="latest_net_G.pth"))
    assert ours.config.antialiased and ours.config.blocks == 3
    x = torch.rand(2, 3, 24, 32) * 2 - 1
    with torch.no_grad():
        assert (ours(x) - network(x)).abs().max().item() < 1e-6


def written(
    folder: Path, network: nn.Module, zipped: bool = True, name: str = "latest_net_G_A.pth"
):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / name, _use_new_zipfile_serialization=zipped)
    return folder / name


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("channels", "blocks"), [(4, 9), (6, 6), (3, 0)])
def test_every_layout_gives_the_images_of_the_restated_network(
    tmp_path, with_dropout, zipped, channels, blocks
):
    torch.manual_seed(channels)
    network = Restated(channels, blocks, with_dropout).eval()
    ours = read_reference(written(tmp_path, network, zipped))
    x = torch.rand(2, 3, 24, 32) * 2 - 1
    with torch.no_grad():
        assert (ours(x) - network(x)).abs().max().item() < 1e-6


@pytest.mark.parametrize("file", sorted(REFERENCE.glob("*keys.json")), ids=lambda f: f.stem[:40])
def test_the_published_key_lists_are_recognised(tmp_path, file):
    shapes = json.loads(file.read_text())
    torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, tmp_path / "net_G.pth")
    generator = read_reference(tmp_path / "net_G.pth")
    assert sum(p.numel() for p in generator.parameters()) == 11_378_179


def test_stray_statistics_and_a_wrapped_network_are_accepted(tmp_path):
    network = Restated(3, 1).eval()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    state |= {
        "module.model.2.running_mean": torch.zeros(3),
        "module.model.2.num_batches_tracked": torch.ones(()),
    }
    torch.save(state, tmp_path / "x.pth")
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(read_reference(tmp_path / "x.pth")(x), network(x), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"model.9.filt": torch.zeros(3)}, "antialiased"),
        (
            lambda state: state | {"other.weight": torch.zeros(3)},
            "not a generator or discriminator",
        ),
        (lambda state: {"model.1.weight": state["model.1.weight"]}, "not a ResNet generator"),
        (lambda state: state | {"model.1.weight": torch.zeros(5, 3, 7, 7)}, "other shapes"),
        (lambda state: [1, 2], "holds no weights"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, change, reason):
    path = tmp_path / "x.pth"
    torch.save(change(dict(Restated(3, 1).state_dict())), path)
    with pytest.raises(UserError, match=reason) as caught:
        read_reference(path)
    assert caught.value.path == str(path) and "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_in_one_line(tmp_path):
    path = written(tmp_path, Restated(4, 1))
    path.write_bytes(path.read_bytes()[:3000])
    write_images(tmp_path / "in", 1)
    error = refusal(translate, path, tmp_path / "in", tmp_path / "out")
    assert error.path == str(path) and "\n" not in str(error)
    for real in REFERENCE.glob("truncated*"):
        assert call(translate, real, tmp_path / "in", tmp_path / "out")[0] == 2


def test_translate_opens_the_file_and_infers_the_direction_from_its_name(tmp_path):
    torch.manual_seed(0)
    network = Restated(4, 1).eval()
    path = written(tmp_path / "theirs", network, name="latest_net_G_B.pth")
    write_images(tmp_path / "in", 1, size=(30, 22))
    assert call(translate, path, tmp_path / "in", tmp_path / "out", "runtime.device=cpu") == (0, "")
    assert picture(tmp_path / "out/000.png").size == (30, 22)
    assert list(load_translator(path, device="cpu")) == ["b_to_a"]
    square = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(square).save(tmp_path / "square.png")
    with torch.no_grad():
        x = torch.from_numpy(square).permute(2, 0, 1)[None] / 127.5 - 1
        expected = ((network(x)[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    found = load_translator(path, device="cpu")["b_to_a"](square)
    assert abs(found.astype(int) - expected).max() <= 1


def test_a_whole_pickled_network_is_refused_with_the_way_to_save_its_weights(tmp_path):
    torch.save(Restated(3, 1), tmp_path / "latest_net_G_A.pth")
    with pytest.raises(UserError) as error:
        read_reference(tmp_path / "latest_net_G_A.pth")
    assert error.value.path == str(tmp_path / "latest_net_G_A.pth")
    assert "Restated" in str(error.value) and "state_dict()" in str(error.value)


@pytest.mark.parametrize("key", ["state_dict", "generator"])
def test_weights_inside_a_dict_are_found(tmp_path, key):
    state = {f"module.{name}": value for name, value in Restated(3, 1).state_dict().items()}
    torch.save({key: state, "epoch": 5}, tmp_path / "net_G.pth")
    assert read_reference(tmp_path / "net_G.pth").config.blocks == 1
