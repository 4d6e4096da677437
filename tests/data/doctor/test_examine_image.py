"""The doctor reports every oddity of a file, and none that it does not have."""

import csv
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from data.doctor.examine_image import examine
from data.doctor.image_headers import read_header
from tests.conftest import SHARED

ODDITIES = SHARED / "images/oddities"
MANIFEST = ODDITIES.with_name("oddities_manifest.csv")


def photo(size: tuple[int, int] = (48, 40), seed: int = 0) -> Image.Image:
    """Return an image with colors and detail."""
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def ramp() -> np.ndarray:
    return (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)


def non_srgb_profile() -> bytes:
    """Return sRGB's profile with red and blue exchanged."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(struct.unpack(">I", content[128:132])[0]):
        place = 132 + 12 * number
        swap = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(bytes(content[place : place + 4]))
        if swap:
            content[place : place + 4] = swap
    return bytes(content)


ODD = {
    "exif_turned": lambda path: photo().save(path / "x.jpg", exif=exif_with(6)),
    "deep": lambda path: Image.fromarray(ramp()).save(path / "x.png"),
    "alpha": lambda path: photo().convert("RGBA").save(path / "x.png"),
    "grey": lambda path: photo().convert("L").save(path / "x.jpg"),
    "colour_space": lambda path: photo().convert("CMYK").save(path / "x.jpg"),
    "animated": lambda path: photo().save(
        path / "x.gif", save_all=True, append_images=[photo(seed=1)]
    ),
    "icc": lambda path: photo().save(path / "x.png", icc_profile=non_srgb_profile()),
    "constant": lambda path: Image.new("RGB", (40, 40), (90, 120, 180)).save(path / "x.png"),
    "narrow": lambda path: photo((200, 40)).save(path / "x.png"),
    "misnamed": lambda path: photo().save(path / "x.jpg", "PNG"),
}
PLAIN = {
    "a JPEG": lambda path: photo().save(path / "x.jpg", quality=90),
    "an upright EXIF": lambda path: photo().save(path / "x.jpg", exif=exif_with(1)),
    "an 8-bit PNG": lambda path: photo().save(path / "x.png"),
    "sRGB's own profile": lambda path: photo().save(
        path / "x.png",
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ),
    "a lossless WebP": lambda path: photo().save(path / "x.webp", lossless=True),
    "an upper-case suffix": lambda path: photo().save(path / "x.JPG"),
    "a TIFF": lambda path: photo().save(path / "x.tiff"),
    "a plain sky": lambda path: Image.linear_gradient("L").resize((64, 64)).save(path / "x.png"),
}  # fmt: skip


def only_file(folder: Path) -> Path:
    return next(folder.iterdir())


@pytest.mark.parametrize("name", ODD)
def test_an_oddity_is_named(tmp_path, name):
    ODD[name](tmp_path)
    found = examine(only_file(tmp_path))
    assert name in found.oddities and not found.fault


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_image_has_no_oddities(tmp_path, name):
    PLAIN[name](tmp_path)
    found = examine(only_file(tmp_path))
    assert not found.fault
    assert set(found.oddities) - ({"grey"} if "sky" in name else set()) == set()


def test_a_color_image_without_color_is_noticed(tmp_path):
    photo().convert("L").convert("RGB").save(tmp_path / "x.jpg", quality=90)
    assert "without colour" in examine(tmp_path / "x.jpg").oddities["grey"]


def test_opaque_alpha_is_distinguished_from_transparency(tmp_path):
    image = photo().convert("RGBA")
    image.save(tmp_path / "opaque.png")
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    assert "opaque" in examine(tmp_path / "opaque.png").oddities["alpha"]
    assert "100%" in examine(tmp_path / "clear.png").oddities["alpha"]


def test_sizes_are_those_that_are_displayed(tmp_path):
    photo((48, 40)).save(tmp_path / "x.jpg", exif=exif_with(6))
    header = examine(tmp_path / "x.jpg").header
    assert header is not None and (header.width, header.height) == (40, 48)


def test_colors_are_measured_in_8_bit_levels(tmp_path):
    half = np.zeros((40, 40, 3), np.uint8)
    half[:20] = (200, 100, 50)
    Image.fromarray(half).save(tmp_path / "x.png")
    found = examine(tmp_path / "x.png")
    assert found.mean == pytest.approx((100, 50, 25))
    assert found.std == pytest.approx((100, 50, 25))


def test_16_bit_color_is_noticed_although_pillow_hides_it(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + bytes(range(96))) * 16))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))
    assert "16 bits" in examine(tmp_path / "x.png").oddities["deep"]
    assert read_header(tmp_path / "x.png").mode == "RGB"


def test_unusable_files_have_the_right_kind_of_fault(tmp_path):
    photo((200, 200)).save(tmp_path / "whole.jpg")
    (tmp_path / "short.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    large = Image.new("1", (10_000, 10_000))
    large.save(tmp_path / "large.png")
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    os.mkfifo(tmp_path / "pipe.png")
    faults = {file.name: examine(file).fault for file in tmp_path.iterdir()}
    assert faults == {
        "whole.jpg": "", "short.jpg": "truncated", "text.png": "unreadable",
        "empty.jpg": "unreadable", "large.png": "too_large",
        "objects.npy": "unreadable", "pipe.png": "unreadable",
    }  # fmt: skip
    assert examine(tmp_path / "empty.jpg").reason == "an empty file"


def test_arrays_of_many_channels_are_examined(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((20, 30, 5), dtype=np.float32))
    found = examine(tmp_path / "x.npy")
    assert found.header is not None and found.header.channels == 5 and found.thumbnail


def stated(words: str, pillow: str) -> tuple[str, set[str]]:
    """Return the fault and the oddities that a line of the manifest states."""
    if "Error:" in pillow:
        too_large = "DecompressionBomb" in pillow or "too large" in pillow
        return (
            "too_large" if too_large else "truncated" if "truncated" in pillow else "unreadable",
            set(),
        )
    both, rules = f"{words} | {pillow}", {
        "exif_turned": r"orient=[2-8]", "deep": r"1[26]-bit (big-endian )?(gray|RGB)|float",
        "alpha": r"tRNS|alpha| RGBA | LA ", "grey": r"gray|1-bit|float|\| JPEG L ",
        "colour_space": r"palette|CMYK \(|CMYK TIFF|Lab | P ",
        "animated": r"animated|multi-page|two-frame", "icc": r"ICC", "misnamed": r"under a",
        "metadata": r"invalid EXIF|bad EXIF|mistyped|bad MPO",
        "narrow": r"extreme aspect",
    }  # fmt: skip
    return "", {name for name, pattern in rules.items() if re.search(pattern, both)}


# Files for which the doctor rightly reports fewer or more oddities than the manifest.
LESS = {
    "icc_profile.png": {"icc"},  # its profile is sRGB's own
    "invalid-exif.jpg": {"metadata"},  # Pillow reads it without a complaint
    "exif_gps_typeerror.jpg": {"metadata"},  # as well
}
MORE = {"tRNS_null_1x1.png": {"alpha"}}  # as its name says


@pytest.mark.skipif(
    not MANIFEST.exists(), reason="a collection of odd files that is not part of the project"
)
def test_the_doctor_agrees_with_every_line_of_a_manifest_of_odd_files():
    silent = {"constant", "grey"}  # a manifest of file formats does not list all of these
    disagreed, checked = [], 0
    for line in csv.DictReader(MANIFEST.read_text(encoding="utf-8").splitlines()):
        file = ODDITIES.parent / line["file"]
        if file.parent != ODDITIES:
            continue
        fault, oddities = stated(line["what is odd"], line["Pillow 13.0.0 reads it as"])
        oddities = (oddities - LESS.get(file.name, set())) | MORE.get(file.name, set())
        found, checked = examine(file), checked + 1
        if found.fault != fault or not oddities <= set(found.oddities):
            disagreed.append((file.name, fault, oddities, found.fault, found.oddities))
        if set(found.oddities) - oddities - silent:
            disagreed.append((file.name, "too much", oddities, found.oddities))
    assert checked == 75 and disagreed == []
