"""Learned features of pictures, where their weights are: Inception for FID and its kin, LPIPS."""

import importlib.util
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.hub
from torch import Tensor

from common.errors import UserError, one_line
from common.files import file_sha256
from common.user_paths import parse_path

SHA256 = "6726825d"  # what the weights of every published FID begin with
NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + NAMES[0]


class Inception:
    """Map images to the 2048 features that FID is defined on (Heusel et al. 2017), by torch-fidelity."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        """Load the network; UserError where the file is not its weights."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.weights = weights
        self.sha256 = file_sha256(weights)
        self.device = device
        try:
            torch.load(weights, map_location="cpu", weights_only=True)  # the library would run code
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
            )
        except Exception as error:  # of many kinds, as damage has it
            raise UserError(
                f"inception={weights}: not the weights of Inception ({one_line(error, 80)})"
            ) from None
        self.network = self.network.to(device).eval()

    @property
    def name(self) -> str:
        """Return what a protocol says of the features."""
        known = (
            "Inception 2015-12-05"
            if self.sha256.startswith(SHA256)
            else "Inception, unknown weights"
        )
        return f"{known}, sha256 {self.sha256[:16]}, resized to 299 as in TensorFlow 1"

    @torch.no_grad()
    def __call__(self, images: Iterable[Tensor]) -> Tensor:
        """Return [N, 2048] of images [1, 3, H, W] uint8."""
        rows = [self.network(image.to(self.device))[0].float().cpu() for image in images]
        return torch.cat(rows)


def find_inception(path: str, device: torch.device) -> tuple[Inception | None, str]:
    """Return the network, or None and a line that says what to fetch for the metrics that need it.

    `path` names its weights; empty looks in torch's cache. UserError where a given path is not usable.
    """
    cache = _cache()
    found = [parse_path(path, "inception")] if path else [cache / name for name in NAMES]
    weights = next((file for file in found if file.is_file()), None)
    missing = importlib.util.find_spec("torch_fidelity") is None
    install = "pip install -r requirements-optional.txt"
    if weights is None:
        if path:
            raise UserError(f"inception={path}: no such file", option="inception", path=path)
        first = f"{install}; then " if missing else ""
        return None, (
            f"FID and KID are left out: {first}download {SOURCE} into {cache}, or name it with "
            "inception=FILE"
        )
    if missing and path:
        raise UserError(
            f"inception={path}: the package that reads it is missing: {install}", option="inception"
        )
    if missing:
        return None, f"FID and KID are left out: {install}"
    return Inception(weights, device), ""


# The networks that LPIPS is published for; a file's name ends with what its sha256 begins with.
BACKBONES = {
    "alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}  # fmt: skip
LEAST = 64  # pixels: of less the deeper features say nothing


class Lpips:
    """The perceptual distance of pictures (Zhang et al. 2018, arXiv:1801.03924), by torchmetrics."""

    def __init__(self, net: str, weights: Path, device: torch.device) -> None:
        """Load the network; UserError where the file is not its weights."""
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        digest = file_sha256(weights)[:8]
        known = weights.stem.endswith(digest)
        self.name = f"{net}, sha256 {digest}{'' if known else ', unknown weights'}"
        self.device = device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged files, and the library's own
                torch.load(weights, map_location="cpu", weights_only=True)  # it would run code
                network = LearnedPerceptualImagePatchSimilarity(net)  # pyright: ignore[reportArgumentType]
        except Exception as error:  # of many kinds, as damage has it
            raise UserError(
                f"{weights}: not the weights of {net} ({one_line(error, 80)})"
            ) from None
        self.network = network.to(device).eval()

    @torch.no_grad()
    def __call__(self, one: Tensor, other: Tensor) -> float | None:
        """Return the distance of two images [1, 3, H, W] in [-1, 1]; None where they are not such."""
        if one.shape != other.shape or one.shape[1] != 3 or min(one.shape[2:]) < LEAST:
            return None
        return self.network(
            one.to(self.device).clamp(-1, 1), other.to(self.device).clamp(-1, 1)
        ).item()


def find_lpips(device: torch.device) -> tuple[Lpips | None, str]:
    """Return LPIPS over the first backbone in torch's cache, or None and why it cannot be used."""
    if importlib.util.find_spec("torchmetrics") is None:
        return None, ""
    for net, name in BACKBONES.items():
        if (weights := _cache() / name).is_file():
            try:
                return Lpips(net, weights, device), ""
            except UserError as error:
                return None, f"LPIPS is left out: {error}"
    return None, ""


def _cache() -> Path:
    return parse_path(torch.hub.get_dir()) / "checkpoints"
