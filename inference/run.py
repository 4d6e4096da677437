"""Open a trained run: its options, its translators, and pictures through them."""

from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data.loading import denormalise, normalise, to_tensor
from data.reading import over_white, pixels_of, upright
from engine.runtime import Runtime, RuntimeConfig
from engine.state import Checkpoints, load
from errors import UserError, one_line
from models import methods
from models.translator import Translator
from options.config import TrainOptions, Weights, Which
from options.load import from_yaml, saved_options


@dataclass(frozen=True)
class Run:
    """A trained run, ready to use: translators by direction, in evaluation mode, on the device."""

    path: Path
    options: TrainOptions
    translators: dict[str, Translator]
    runtime: Runtime
    step: int
    weights: Weights  # what the translators are: the moving average, or the live weights


def open_run(
    path: str | Path, runtime: RuntimeConfig | None = None, checkpoint: Which = "latest",
    weights: Weights = "average",
) -> Run:  # fmt: skip
    """Open a run folder or a checkpoint file.

    Architecture, directions and normalisation come from the checkpoint; there is nothing to repeat.
    UserError names the path where there is no run, or where its checkpoint cannot be read.
    """
    path = Path(path)
    if path.is_file():
        state, path = load(path), path.resolve().parent.parent
    elif (path / "checkpoints").is_dir():
        checkpoints = Checkpoints(path / "checkpoints")
        if not checkpoints.exist():
            raise UserError(f"{path} has no checkpoint yet; train it first")
        state = checkpoints.load_latest() if checkpoint == "latest" else checkpoints.load_best()
    elif path.exists():
        raise UserError(f"{path} is no run: it has no checkpoints folder; train.py makes one")
    else:
        raise UserError(f"no such run: {path}")
    options = from_yaml(state["options"], str(path))
    machine = Runtime(runtime or RuntimeConfig())
    method = methods.find(options.method.name)(options.method, options.data.channels_of())
    translators: nn.ModuleDict = method.translators()
    average = state["average"] if weights == "average" else None
    try:
        if average is not None:
            translators.load_state_dict(average)
        else:
            method.load_state_dict(state["method"])
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}: its weights do not fit its options ({one_line(error, 120)})"
        ) from None
    translators.eval().requires_grad_(False)
    machine.prepare(translators, networks=list(translators.children()))
    found = {name: module for name, module in translators.items() if isinstance(module, Translator)}
    return Run(
        path, options, found, machine, state["step"], "live" if average is None else "average"
    )


def options_of(path: str | Path) -> TrainOptions:
    """Return the options of a run folder (or of a checkpoint file in it) without opening its weights."""
    folder = Path(path).resolve().parent.parent if Path(path).is_file() else Path(path)
    if not folder.exists():
        raise UserError(f"no such run: {path}")
    saved = folder / "options.yaml"
    if not saved.is_file():
        raise UserError(f"{path} is no run: it has no options.yaml; train.py makes one")
    return saved_options(saved)


def direction_of(run: Run, wanted: str = "") -> str:
    """Return the direction asked for, or the only one; UserError lists them where one is needed."""
    names = list(run.translators)
    if wanted in names:
        return wanted
    if wanted:
        raise UserError(f"direction={wanted}: this run has {' and '.join(names)}")
    if len(names) > 1:
        raise UserError(f"say which way: direction={' or direction='.join(names)}")
    return names[0]


class PictureTranslator:
    """A translator for pictures of any kind and size: what goes in comes out, translated.

    Call it with a PIL image, a uint8 array [H, W] or [H, W, C], or a float tensor [C, H, W] or
    [B, C, H, W] in [-1, 1]; the answer has the same type and size. A PIL image keeps its transparency.
    """

    def __init__(self, translator: Translator, runtime: Runtime) -> None:
        self.translator = translator
        self.runtime = runtime

    @overload
    def __call__(self, picture: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, picture: np.ndarray) -> np.ndarray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...
    def __call__(
        self, picture: Image.Image | np.ndarray | Tensor
    ) -> Image.Image | np.ndarray | Tensor:
        if isinstance(picture, Tensor):
            batch = picture if picture.ndim == 4 else picture[None]
            translated = self.tensor(batch).to(picture.device)
            return translated if picture.ndim == 4 else translated[0]
        if isinstance(picture, np.ndarray):
            translated = self.pixels(picture if picture.ndim == 3 else picture[..., None])
            return (
                translated if picture.ndim == 3 or translated.shape[2] > 1 else translated[..., 0]
            )
        return self.image(picture)

    @torch.no_grad()
    def tensor(self, batch: Tensor) -> Tensor:
        """Translate [B, C, H, W] in [-1, 1]."""
        with self.runtime.autocast():
            return self.translator(self.runtime.receive(batch)).float()

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Translate uint8 [H, W, C]."""
        if pixels.dtype != np.uint8 or pixels.shape[2] != self.translator.in_channels:
            raise ValueError(
                f"expected uint8 [H, W, {self.translator.in_channels}], got {pixels.dtype} {pixels.shape}"
            )
        translated = self.tensor(normalise(to_tensor(pixels))[None])[0]
        return denormalise(translated).permute(1, 2, 0).cpu().numpy()

    def image(self, image: Image.Image) -> Image.Image:
        """Translate a picture, its alpha channel (if any) laid over the result.

        A picture fresh from its file is turned upright and brought to sRGB first.
        """
        image = upright(image)
        translated = to_image(self.pixels(pixels_of(image, self.translator.in_channels)))
        if image.mode in ("LA", "RGBA") and translated.mode in ("L", "RGB"):
            translated.putalpha(image.getchannel("A"))
        return translated


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return uint8 [H, W, 1, 2, 3 or 4] as a picture; more channels have none: UserError."""
    if pixels.shape[2] > 4:
        raise UserError(
            f"an image file has at most 4 channels, not {pixels.shape[2]}; use .npy files"
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def without_alpha(image: Image.Image) -> Image.Image:
    """Return the picture as a file format without transparency can hold it."""
    return over_white(image)


def load_translator(
    run: str | Path, device: str = "auto", checkpoint: Which = "latest"
) -> dict[str, PictureTranslator]:
    """Return direction -> translator of a trained run, for use from Python."""
    opened = open_run(run, RuntimeConfig(device=device), checkpoint)
    return {name: PictureTranslator(t, opened.runtime) for name, t in opened.translators.items()}
