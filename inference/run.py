"""Open a trained run: its options, its translators, and pictures through them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from data.folders import DataConfig
from data.loading import denormalise, normalise, to_tensor
from data.reading import pixels_of, upright
from engine.remote import PREFIX, fetched
from engine.runtime import Runtime, RuntimeConfig
from engine.state import Checkpoints, load, misfit
from errors import UserError
from inference.bundle import is_bundle, options_of_bundle, read_bundle, translator_of
from inference.controls import Controls
from inference.foreign import direction_of_file, read_reference
from inference.tiling import strips_for, translate_in_strips
from models import methods
from models.methods.cyclegan import CycleGAN
from models.networks.resnet_generator import ResnetGenerator
from models.translator import DeterministicTranslator, Translator
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
    """Open a run folder, a checkpoint file, an exported bundle, a reference's *_net_G*.pth, or an artifact.

    Architecture, directions and normalisation come from the checkpoint; there is nothing to repeat.
    UserError names the path where there is no run, or where its checkpoint cannot be read.
    """
    path = local(path)
    if path.suffix == ".pth":
        return _open_reference(path, Runtime(runtime or RuntimeConfig()))
    if path.is_dir() and is_bundle(path):
        return _open_bundle(path, Runtime(runtime or RuntimeConfig()))
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
    try:
        method = methods.find(options.method.name)(options.method, options.data.channels_of())
    except ValueError as error:  # weights that it looks through are not on this machine
        raise UserError(str(error)) from None
    translators: nn.ModuleDict = method.translators()
    average = state["average"] if weights == "average" else None
    wanted, found = (method, state["method"]) if average is None else (translators, average)
    if problem := misfit(wanted.state_dict(), found):
        raise UserError(f"{path}: its weights do not fit its options: {problem}")
    wanted.load_state_dict(found)
    translators.eval().requires_grad_(False)
    machine.prepare(translators, networks=list(translators.children()))
    found = {name: module for name, module in translators.items() if isinstance(module, Translator)}
    return Run(
        path, options, found, machine, state["step"], "live" if average is None else "average"
    )


def local(path: str | Path) -> Path:
    """Return a path, that of wandb:ENTITY/PROJECT/NAME:ALIAS once it is downloaded into runs/artifacts."""
    word = str(path)
    return fetched(word, Path("runs/artifacts")) if word.startswith(PREFIX) else Path(path)


def _open_reference(path: Path, machine: Runtime) -> Run:
    generator = read_reference(path)
    source, target = direction_of_file(path)
    channels = {source: generator.in_channels, target: generator.out_channels}
    translator = DeterministicTranslator(
        generator, source, target, channels[source], channels[target],
        ResnetGenerator.multiple, ResnetGenerator.minimum,
    )  # fmt: skip
    machine.prepare(translator.eval(), networks=[generator])
    config = CycleGAN.Config(generator=generator.config)
    if channels[source] != channels[target]:  # there was no identity loss
        config = replace(config, identity_weight=0.0)
    domains = sorted(channels)
    data = DataConfig(domains=domains, channels=[channels[domain] for domain in domains])
    options = TrainOptions(method=config, data=data)
    return Run(path, options, {f"{source}_to_{target}": translator}, machine, 0, "live")


def _open_bundle(path: Path, machine: Runtime) -> Run:
    bundle = read_bundle(path)
    translator = translator_of(bundle)
    machine.prepare(translator, networks=[translator])
    return Run(
        path, bundle.options, {bundle.direction: translator}, machine, bundle.step, bundle.weights
    )


def options_of(path: str | Path) -> TrainOptions:
    """Return the options of a run folder, a checkpoint in it, or a bundle, without opening its weights."""
    if Path(path).is_dir() and is_bundle(path):
        return options_of_bundle(path)
    if Path(path).suffix == ".pth":
        raise UserError(
            f"{path}: a reference's checkpoint has no data; translate.py and export.py take it"
        )
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

    A picture that does not fit the memory is translated in strips (inference/tiling.py), with the
    same result: `tile` says when, "auto" by the memory that is free, "off" never, N always, in
    strips of about N x N pixels. `report` is told how far a picture in strips is, 0 to 1. `style` is
    what a styled translator renders all pictures in.
    """

    def __init__(
        self, translator: Translator, runtime: Runtime, tile: str = "auto",
        controls: Controls | None = None, report: Callable[[float], None] = lambda _: None,
        style: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.translator = translator
        self.style = style
        self.runtime = runtime
        self.tile = tile
        self.controls = controls or Controls()
        self.report = report

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
            return self.translator(self.runtime.receive(batch), self.style).float()

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Translate uint8 [H, W, C]."""
        return self._batch([pixels])[0]

    def image(self, image: Image.Image) -> Image.Image:
        """Translate a picture, its alpha channel (if any) laid over the result.

        A picture fresh from its file is turned upright and brought to sRGB first.
        """
        return self.images([image])[0]

    def images(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Translate pictures that all have one size, together."""
        images = [upright(image) for image in images]
        pixels = [pixels_of(image, self.translator.in_channels) for image in images]
        results = [to_image(fake) for fake in self._batch(pixels)]
        for image, result in zip(images, results, strict=True):
            if image.mode in ("LA", "RGBA") and result.mode in ("L", "RGB"):
                result.putalpha(image.getchannel("A"))
        return results

    def _batch(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Translate uint8 pictures [H, W, C] of one size."""
        pixels, channels, device = pictures[0], self.translator.in_channels, self.runtime.device
        if pixels.dtype != np.uint8 or pixels.shape[2] != channels:
            raise ValueError(
                f"expected uint8 [H, W, {channels}], got {pixels.dtype} {pixels.shape}"
            )
        size = strips_for(self.translator, self.tile, pixels, device)
        if size:
            with self.runtime.autocast():
                fakes = [
                    translate_in_strips(self.translator, picture, size, device, self.report)
                    for picture in pictures
                ]
        else:
            batch = normalise(torch.stack([to_tensor(picture) for picture in pictures]))
            fakes = denormalise(self.tensor(batch)).permute(0, 2, 3, 1).cpu().numpy()
        return [self.controls.apply(real, fake) for real, fake in zip(pictures, fakes, strict=True)]


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return uint8 [H, W, 1, 2, 3 or 4] as a picture; more channels have none: UserError."""
    if pixels.shape[2] > 4:
        raise UserError(
            f"an image file has at most 4 channels, not {pixels.shape[2]}; use .npy files"
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def load_translator(
    run: str | Path, device: str = "auto", checkpoint: Which = "latest"
) -> dict[str, PictureTranslator]:
    """Return direction -> translator of a trained run, for use from Python."""
    opened = open_run(run, RuntimeConfig(device=device), checkpoint)
    return {name: PictureTranslator(t, opened.runtime) for name, t in opened.translators.items()}
