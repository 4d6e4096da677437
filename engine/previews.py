"""Draw preview grids of a run: the same images every time, so that their change can be watched."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from common.files import write_atomically
from data.tensors import denormalize
from engine.runtime import Runtime
from models.translator import StyledTranslator

GAP, HEADER, MIN_WIDTH = 4, 16, 96  # pixels: between images, for the titles, of an image


@torch.no_grad()
def translate_all(
    translators: nn.ModuleDict, images: Mapping[str, Sequence[Tensor]], runtime: Runtime
) -> dict[str, list[list[Tensor]]]:
    """Translate `images` (domain -> [1, C, H, W] in [-1, 1]) in every direction.

    Return direction -> rows of [real, fake], or of [real, fake, restored] where the inverse
    direction has a translator too; float32 [1, C, H, W] on the CPU.
    """
    rows = {}
    for direction, translator in translators.items():
        source, target = str(translator.source), str(translator.target)
        inverse = f"{target}_to_{source}"
        rows[direction] = []
        for real in images[source]:
            row = [runtime.to_device(real)]
            with runtime.autocast():
                row.append(translator(row[0]))
                if inverse in translators:
                    row.append(translators[inverse](row[1]))
            rows[direction].append([image.float().cpu() for image in row])
    return rows


def image_grid(rows: Sequence[Sequence[Tensor]], titles: Sequence[str]) -> np.ndarray:
    """Lay out rows of images [1, C, H, W] in [-1, 1] under `titles`; return uint8 [H, W, 3]."""
    pictures = [[_enlarged(to_rgb(image)) for image in row] for row in rows]
    widths = [max(row[column].shape[1] for row in pictures) for column in range(len(pictures[0]))]
    heights = [max(picture.shape[0] for picture in row) for row in pictures]
    height = HEADER + sum(heights) + GAP * (len(heights) + 1)
    canvas = np.full((height, sum(widths) + GAP * (len(widths) + 1), 3), 24, np.uint8)
    top = HEADER + GAP
    for row, row_height in zip(pictures, heights, strict=True):
        left = GAP
        for picture, width in zip(row, widths, strict=True):
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += width + GAP
        top += row_height + GAP
    grid = Image.fromarray(canvas)
    draw, left = ImageDraw.Draw(grid), GAP
    for title, width in zip(titles, widths, strict=False):
        draw.text((left + 2, 3), title[: max(1, width // 6)], fill=(220, 220, 220))
        left += width + GAP
    return np.array(grid)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Repeat the pixels of a small picture until it, and the room for its title, is wide enough."""
    times = -(-MIN_WIDTH // picture.shape[1])
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def to_rgb(image: Tensor) -> np.ndarray:
    """Return [1, C, H, W] in [-1, 1] as uint8 [H, W, 3]: three channels, or one repeated."""
    pixels = denormalize(image[0]).permute(1, 2, 0).numpy()
    return np.repeat(pixels[..., :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]


@torch.no_grad()
def style_sheet(
    translator: StyledTranslator,
    sources: Sequence[Tensor],
    references: Sequence[Tensor],
    runtime: Runtime,
) -> np.ndarray:
    """Translate each source (a row) into the style of each reference (a column).

    Sources and references are [1, C, H, W] in [-1, 1]; return uint8 [H, W, 3].
    """
    with runtime.autocast():
        styles = [translator.encode_style(runtime.to_device(reference)) for reference in references]
        rows = [
            [source]
            + [translator(runtime.to_device(source), style).float().cpu() for style in styles]
            for source in sources
        ]
    corner = torch.full_like(references[0], -1.0)
    titles = [f"real {translator.source}"] + ["in the style above"] * len(references)
    return image_grid([[corner, *references], *rows], titles)


def draw_previews(
    translators: nn.ModuleDict,
    images: Mapping[str, Sequence[Tensor]],
    runtime: Runtime,
    folder: Path,
    step: int,
) -> dict[str, np.ndarray]:
    """Write `folder`/step_N_DIRECTION.png for every direction; return direction -> uint8 grid.

    A styled translator has a second grid, DIRECTION_styles: its source images in the styles of
    images of the target domain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grids = {}
    for direction, rows in translate_all(translators, images, runtime).items():
        source, target = (str(getattr(translators[direction], end)) for end in ("source", "target"))
        grids[direction] = image_grid(
            rows, [f"real {source}", f"fake {target}", f"restored {source}"]
        )
        translator = translators[direction]
        if isinstance(translator, StyledTranslator) and images[target]:
            sheet = style_sheet(translator, images[source], images[target], runtime)
            grids[f"{direction}_styles"] = sheet
    for name, picture in grids.items():
        image = Image.fromarray(picture)
        write_atomically(
            folder / f"step_{step:08d}_{name}.png",
            lambda file, image=image: image.save(file, "PNG"),
        )
    return grids
