"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

# A figure's name in metrics.json -> its title and format, in the order of the columns.
COLUMNS = {
    "images": ("images", "{:d}"), "truth_psnr": ("PSNR to truth", "{:.2f} dB"),
    "truth_ssim": ("SSIM", "{:.3f}"), "truth_lpips": ("LPIPS", "{:.3f}"),
    "copy_psnr": ("(input copied)", "{:.2f} dB"),
    "cycle_psnr": ("cycle PSNR", "{:.2f} dB"), "cycle_l1": ("cycle L1", "{:.4f}"),
    "fid": ("FID", "{:.1f}"), "kid": ("KID", "{:.4f}"), "swd": ("SWD", "{:.4f}"),
    "structure": ("structure", "{:.3f}"), "diversity": ("diversity", "{:.3f}"),
    "style_followed": ("style followed", "{:.0%}"), "steganography": ("hidden", "{:.1f} dB"),
}  # fmt: skip


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        padded = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def figures_table(
    figures: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Mapping[str, float]] | None = None,
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
) -> str:  # fmt: skip
    """Return the figures as a table for the terminal, a row a direction, floor and ceiling below it."""
    shown = [key for key in COLUMNS if any(key in row for row in figures.values())]
    cells = [["direction", *(COLUMNS[key][0] for key in shown)]]
    for direction, row in figures.items():
        cells.append([direction, *_texts(row, shown)])
        for label, rows in (("  real images", floor), ("  input copied", ceiling)):
            if rows and rows.get(direction):
                cells.append([label, *_texts(rows[direction], shown, missing="")])
    return aligned(cells)


def _texts(row: Mapping[str, Any], shown: Sequence[str], missing: str = "-") -> list[str]:
    values = (row.get(key) for key in shown)
    return [
        missing if v is None else COLUMNS[k][1].format(v)
        for k, v in zip(shown, values, strict=True)
    ]
