"""One picture with an even sample of every set, to see at a glance what training will see."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data.doctor.examine import THUMBNAIL, Examined
from data.doctor.layout import ImageSet, shown
from data.folders import evenly_spaced

ACROSS, DOWN = 8, 3  # thumbnails of a set
GAP, TITLE, NAME = 10, 34, 18
PAPER, INK, SOFT = (21, 22, 26), (236, 235, 231), (154, 157, 168)


def contact_sheet(sets: Sequence[ImageSet], examined: Sequence[Sequence[Examined]]) -> Image.Image:
    """Return the sheet, 1,114 pixels wide: a title for each set and at most 24 of its images."""
    title, small = ImageFont.load_default(18), ImageFont.load_default(11)
    samples = [
        evenly_spaced([entry for entry in entries if entry.thumbnail], ACROSS * DOWN)
        if any(entry.thumbnail for entry in entries)
        else []
        for entries in examined
    ]
    heights = [TITLE + -(-len(sample) // ACROSS) * (THUMBNAIL + NAME + GAP) for sample in samples]
    width = GAP + ACROSS * (THUMBNAIL + GAP)
    sheet = Image.new("RGB", (width, sum(heights) + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for each, entries, sample, height in zip(sets, examined, samples, heights, strict=True):
        count = sum(not entry.fault for entry in entries)
        draw.text((GAP, top + 4), f"{each.label}: {count} images", INK, title)
        for number, entry in enumerate(sample):
            row, column = divmod(number, ACROSS)
            left = GAP + column * (THUMBNAIL + GAP)
            upper = top + TITLE + row * (THUMBNAIL + NAME + GAP)
            with Image.open(io.BytesIO(entry.thumbnail)) as picture:
                indent = [(THUMBNAIL - side) // 2 for side in picture.size]
                sheet.paste(picture, (left + indent[0], upper + indent[1]))
            label = _fitting(draw, shown(Path(entry.path.name), None), small)
            draw.text((left, upper + THUMBNAIL + 3), label, SOFT, small)
        top += height
    return sheet


def _fitting(
    draw: ImageDraw.ImageDraw, name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """Return the name, its middle left out where it is wider than a thumbnail."""
    kept, label = name[:80], name[:80]
    while draw.textlength(label, font) > THUMBNAIL:
        kept = kept[: len(kept) // 2 - 1] + kept[len(kept) // 2 :]
        label = f"{kept[: len(kept) // 2]}\u2026{kept[len(kept) // 2 :]}"
    return label
