"""Load the pretrained networks of FID and LPIPS where their weights are on this machine."""

import importlib.util
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
import torch.hub
from torch import Tensor

from common.errors import UserError, one_line
from common.files import file_sha256
from common.user_paths import parse_path

PUBLISHED_SHA256 = "6726825d"  # first digits of the sha256 of the weights that published FIDs use
WEIGHT_FILES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
DOWNLOAD_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHT_FILES[0]
)
INSTALL = "pip install -r requirements-optional.txt"


class Inception:
    """Compute the 2048 features that FID is defined on (Heusel et al. 2017) by torch-fidelity."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        """Load the network; UserError where the file does not hold its weights."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.weights = weights
        self.sha256 = file_sha256(weights)
        self.device = device
        try:
            torch.load(weights, map_location="cpu", weights_only=True)  # the library could run code
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
            )
        except Exception as error:  # a damaged file raises errors of many classes
            raise UserError(
                f"inception={weights}: not the weights of Inception ({one_line(error, 80)}); "
                f"download {DOWNLOAD_URL}",
                option="inception", path=weights,
            ) from None  # fmt: skip
        self.network = self.network.to(device).eval()

    @property
    def name(self) -> str:
        """The features and their weights, as recorded in the protocol."""
        published = self.sha256.startswith(PUBLISHED_SHA256)
        network = "Inception 2015-12-05" if published else "Inception, unknown weights"
        return f"{network}, sha256 {self.sha256[:16]}, resized to 299 as in TensorFlow 1"

    @torch.no_grad()
    def __call__(self, images: Iterable[Tensor]) -> Tensor:
        """Return the features [N, 2048] of images [1, 3, H, W] uint8."""
        rows = [self.network(image.to(self.device))[0].float().cpu() for image in images]
        return torch.cat(rows)


def find_inception(path: str, device: torch.device) -> tuple[Inception | None, str]:
    """Return the network and an empty text, or None and a line with how to get FID and KID.

    `path` is the file of the weights; if it is empty, torch's cache is searched. UserError where a
    given path is not a file, or its package is missing, or where a file found does not hold the
    weights.
    """
    cache = _cache()
    files = [parse_path(path, "inception")] if path else [cache / name for name in WEIGHT_FILES]
    weights = next((file for file in files if file.is_file()), None)
    package_missing = importlib.util.find_spec("torch_fidelity") is None
    if weights is None:
        if path:
            raise UserError(
                f"inception={path}: no such file; name the weights of Inception",
                option="inception", path=path,
            )  # fmt: skip
        install_first = f"{INSTALL}; then " if package_missing else ""
        return None, (
            f"FID and KID are left out: {install_first}download {DOWNLOAD_URL} into {cache}, "
            "or name the file with inception=FILE"
        )
    if package_missing and path:
        raise UserError(
            f"inception={path}: the package torch-fidelity, which reads it, is missing: {INSTALL}",
            option="inception", path=path,
        )  # fmt: skip
    if package_missing:
        return None, f"FID and KID are left out: {INSTALL}"
    return Inception(weights, device), ""


Backbone = Literal["alex", "vgg", "squeeze"]
# Backbone of LPIPS -> file of its weights, whose name ends with the first digits of its sha256.
BACKBONES: dict[Backbone, str] = {
    "alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}  # fmt: skip
MIN_SIDE = 64  # pixels: in smaller images the deeper features carry no information


class Lpips:
    """Compute the distance LPIPS (Zhang et al. 2018, arXiv:1801.03924) by torchmetrics."""

    def __init__(self, net: Backbone, weights: Path, device: torch.device) -> None:
        """Load the network; UserError where the file does not hold its weights."""
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        digest = file_sha256(weights)[:8]
        known = weights.stem.endswith(digest)
        self.name = f"{net}, sha256 {digest}{'' if known else ', unknown weights'}"
        self.device = device
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about damaged files, and the library's own
                torch.load(weights, map_location="cpu", weights_only=True)  # it could run code
                network = LearnedPerceptualImagePatchSimilarity(net)
        except Exception as error:  # a damaged file raises errors of many classes
            raise UserError(
                f"{weights}: not the weights of {net} ({one_line(error, 80)}); remove the file",
                path=weights,
            ) from None
        self.network = network.to(device).eval()

    @torch.no_grad()
    def __call__(self, one: Tensor, other: Tensor) -> float | None:
        """Return the distance of two images [1, 3, H, W] in [-1, 1]; lower is more alike.

        None where their shapes differ, they are not RGB, or a side is below 64 pixels.
        """
        if one.shape != other.shape or one.shape[1] != 3 or min(one.shape[2:]) < MIN_SIDE:
            return None
        return self.network(
            one.to(self.device).clamp(-1, 1), other.to(self.device).clamp(-1, 1)
        ).item()


def find_lpips(device: torch.device) -> tuple[Lpips | None, str]:
    """Return LPIPS with the first backbone found in torch's cache, or None and the reason.

    The reason is empty without a backbone or without torchmetrics. A damaged file is a reason,
    too.
    """
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
    """Return torch's cache of downloaded weights."""
    return parse_path(torch.hub.get_dir()) / "checkpoints"
