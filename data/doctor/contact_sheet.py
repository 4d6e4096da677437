"""Draw a contact sheet with an evenly spaced sample of every set."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data.doctor.examine_image import THUMBNAIL, ExaminedFile
from data.doctor.folder_layout import ImageSet, display_name
from data.folders import evenly_spaced

COLUMNS, ROWS = 8, 3  # of thumbnails, for one set
GAP, TITLE_HEIGHT, NAME_HEIGHT = 10, 34, 18  # pixels
BACKGROUND, TITLE_COLOR, NAME_COLOR = (21, 22, 26), (236, 235, 231), (154, 157, 168)


def contact_sheet(
    sets: Sequence[ImageSet], examined: Sequence[Sequence[ExaminedFile]]
) -> Image.Image:
    """Return the sheet, 1,114 pixels wide: a title for each set and at most 24 of its images."""
    title_font, name_font = ImageFont.load_default(18), ImageFont.load_default(11)
    samples = [
        evenly_spaced([file for file in files if file.thumbnail], COLUMNS * ROWS)
        if any(file.thumbnail for file in files)
        else []
        for files in examined
    ]
    row_height = THUMBNAIL + NAME_HEIGHT + GAP
    heights = [TITLE_HEIGHT + -(-len(sample) // COLUMNS) * row_height for sample in samples]
    width = GAP + COLUMNS * (THUMBNAIL + GAP)
    sheet = Image.new("RGB", (width, sum(heights) + 2 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for each, files, sample, height in zip(sets, examined, samples, heights, strict=True):
        count = sum(not file.fault for file in files)
        draw.text((GAP, top + 4), f"{each.label}: {count} images", TITLE_COLOR, title_font)
        for number, file in enumerate(sample):
            row, column = divmod(number, COLUMNS)
            left = GAP + column * (THUMBNAIL + GAP)
            upper = top + TITLE_HEIGHT + row * row_height
            with Image.open(io.BytesIO(file.thumbnail)) as thumbnail:
                indent = [(THUMBNAIL - side) // 2 for side in thumbnail.size]
                sheet.paste(thumbnail, (left + indent[0], upper + indent[1]))
            label = _shorten(draw, display_name(Path(file.path.name), None), name_font)
            draw.text((left, upper + THUMBNAIL + 3), label, NAME_COLOR, name_font)
        top += height
    return sheet


def _shorten(
    draw: ImageDraw.ImageDraw, name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """Return the name, shortened in the middle if it is wider than a thumbnail."""
    remaining, label = name[:80], name[:80]
    while draw.textlength(label, font) > THUMBNAIL:
        middle = len(remaining) // 2
        remaining = remaining[: middle - 1] + remaining[middle:]
        middle = len(remaining) // 2
        label = f"{remaining[:middle]}\u2026{remaining[middle:]}"
    return label
