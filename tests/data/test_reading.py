"""Real-world image files: correct pixels, or one line that names the file."""

import contextlib
import io
import os
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from data.reading import BadImage, image_size, open_image, read_image, to_upright_srgb
from tests.conftest import SHARED, raises_user_error

ODDITIES = SHARED / "images/oddities"
COLORS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def saved(tmp_path, name, image, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_exif_orientations_show_the_same_picture(tmp_path, orientation):
    upright = Image.fromarray(COLORS)
    inverse = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # orientation -> the transpose that undoes it
    stored = (
        upright.transpose(Image.Transpose(inverse[orientation])) if orientation > 1 else upright
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, "x.png", stored, exif=exif)
    assert np.array_equal(read_image(path), COLORS)
    assert image_size(path) == (4, 6)


def test_16_bit_greys_are_scaled_not_clipped(tmp_path):
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for name in ("ramp.png", "ramp.tif"):
        pixels = read_image(saved(tmp_path, name, Image.fromarray(ramp)))
        assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))
        assert np.array_equal(read_image(tmp_path / name, 1)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_greys_are_scaled_by_their_range(tmp_path, top):
    ramp = (np.arange(256, dtype=np.float32) / 255 * top).reshape(16, 16)
    assert np.array_equal(
        read_image(saved(tmp_path, "f.tif", Image.fromarray(ramp)), 1).ravel(), np.arange(256)
    )


def test_grey_palette_1_bit_and_cmyk_become_rgb(tmp_path):
    grey = Image.fromarray(COLORS[..., 0])
    assert np.array_equal(
        read_image(saved(tmp_path, "l.png", grey)), np.repeat(COLORS[..., :1], 3, 2)
    )
    palette = Image.fromarray(COLORS).quantize(24)
    assert np.array_equal(
        read_image(saved(tmp_path, "p.png", palette)), np.array(palette.convert("RGB"))
    )
    black_and_white = Image.fromarray(COLORS[..., 0] > 100)
    assert set(read_image(saved(tmp_path, "1.png", black_and_white)).ravel()) == {0, 255}
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow ink: red
    red = read_image(saved(tmp_path, "c.jpg", cmyk, quality=95)).reshape(-1, 3).mean(0)
    assert red[0] > 230 and red[1] < 40 and red[2] < 40


def test_transparency_is_laid_over_white_unless_it_is_asked_for(tmp_path):
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    path = saved(tmp_path, "a.png", clear)
    assert (read_image(path) == 255).all()
    assert (read_image(path, 4)[..., 3] == 0).all()
    keyed = Image.new("P", (4, 4), 0)
    keyed.putpalette([10, 20, 30])
    path = saved(tmp_path, "p.png", keyed, transparency=0)
    assert (read_image(path) == 255).all()
    half = Image.new("LA", (4, 4), (0, 128))
    assert abs(int(read_image(saved(tmp_path, "la.png", half))[0, 0, 0]) - 127) <= 1


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for name in ("x.gif", "x.webp", "x.png", "x.tif"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(read_image(tmp_path / name)[0, 0], [255, 0, 0]), name


def test_an_icc_profile_is_converted_to_srgb(tmp_path):
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    plain = Image.fromarray(COLORS)
    path = saved(tmp_path, "s.png", plain, icc_profile=ImageCms.ImageCmsProfile(srgb).tobytes())
    assert abs(read_image(path).astype(int) - COLORS).max() <= 1
    path = saved(tmp_path, "broken.png", plain, icc_profile=b"not a profile")
    assert np.array_equal(read_image(path), COLORS)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def damaged_files() -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        stream, "JPEG"
    )
    jpeg, stream = stream.getvalue(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        stream, "PNG"
    )
    png = stream.getvalue()
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 255
    return {
        "zero.jpg": b"", "text.png": b"hello, not an image",
        "page.jpg": b"<html><body>404</body></html>",
        "short.jpg": jpeg[: len(jpeg) // 2], "short.png": png[: len(png) // 2],
        "crc.png": bytes(flipped),
        "bomb.png": png_header(20_000, 20_000), "large.png": png_header(10_000, 10_000),
        "array.npy": b"\x93NUMPY not", "document.pdf.png": b"%PDF-1.4 hello",
    }  # fmt: skip


@pytest.mark.parametrize("name", damaged_files())
def test_a_file_that_is_no_picture_is_refused_in_one_line_that_names_it(tmp_path, name):
    (tmp_path / name).write_bytes(damaged_files()[name])
    with pytest.raises(BadImage) as bad:
        read_image(tmp_path / name)
    assert bad.value.path == str(tmp_path / name)
    assert name in str(bad.value) and "\n" not in str(bad.value)


def test_nothing_but_the_one_line_is_said_of_a_bad_tiff(tmp_path, capfd):
    path = saved(
        tmp_path, "x.tif", Image.fromarray(COLORS).resize((99, 99)), compression="tiff_lzw"
    )
    intact = path.read_bytes()
    for at in range(8, len(intact) - 200, 97):
        path.write_bytes(intact[:at] + b"\xff" * 200 + intact[at + 200 :])
        with contextlib.suppress(BadImage):
            read_image(path)
    samples = intact.find(b"\x15\x01\x03\x00")  # tag 277, samples per pixel
    path.write_bytes(intact[: samples + 8] + b"\xff\xff" + intact[samples + 10 :])
    with pytest.raises(BadImage, match="x.tif"):
        read_image(path)
    assert capfd.readouterr() == ("", "")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_the_size_in_the_header_is_that_of_the_pixels_however_exif_is_damaged(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    path = saved(tmp_path, "x.jpg", Image.fromarray(COLORS), exif=exif)
    content = path.read_bytes()
    start = content.find(b"Exif") + 6
    sideways = 0
    for bit in range(8 * start, 8 * (start + 40)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert image_size(path) == read_image(path).shape[:2], bit - 8 * start
        sideways += image_size(path) == (6, 4)
    assert 0 < sideways < 8 * 40


def test_a_bomb_is_refused_at_once_and_in_no_memory(tmp_path, record_property):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(10_000, 10_000) + b"\0" * 292_000)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(BadImage, match="large.png"):
        read_image(path)
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    record_property("figure", f"{seconds:.3f} s, {grown:.0f} MB")
    assert seconds < 0.1 and grown < 200


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_sizes_are_read(tmp_path, size):
    assert read_image(saved(tmp_path, "x.png", Image.new("RGB", size))).shape == (
        size[1],
        size[0],
        3,
    )


def test_the_suffix_does_not_decide_what_a_file_is(tmp_path):
    path = tmp_path / "really_png.jpg"
    Image.fromarray(COLORS).save(path, "PNG")
    assert np.array_equal(read_image(path), COLORS)


def test_arrays_of_any_channel_count_are_read_and_scaled(tmp_path):
    array = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(read_image(tmp_path / "x.npy", 5), array)
    np.save(tmp_path / "y.npy", array.astype(np.uint16) * 257)
    assert np.array_equal(read_image(tmp_path / "y.npy", 5), array)
    np.save(tmp_path / "z.npy", array / 255)
    assert np.array_equal(read_image(tmp_path / "z.npy", 5), array)
    with raises_user_error(option="data.channels", path=tmp_path / "x.npy"):
        read_image(tmp_path / "x.npy", 3)
    np.save(tmp_path / "o.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(BadImage, match="o.npy"):
        read_image(tmp_path / "o.npy", 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_are_writable_uint8_with_the_channels_asked_for(tmp_path, channels):
    pixels = read_image(saved(tmp_path, "x.png", Image.fromarray(COLORS)), channels)
    assert pixels.dtype == np.uint8 and pixels.shape == (4, 6, channels) and pixels.flags.writeable


@pytest.mark.skipif(
    not ODDITIES.exists(), reason="a collection of odd files that is not part of the project"
)
def test_a_collection_of_odd_files_is_read_or_refused_by_name():
    refused = set()
    for file in sorted(ODDITIES.iterdir()):
        try:
            pixels = read_image(file)
            assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.size
        except BadImage as bad:
            assert file.name in str(bad)
            refused.add(file.name)
    assert refused == {
        "truncated_jpeg.jpg", "truncated_image.png", "broken_data_stream.png", "broken.png",
        "decompression_bomb.gif", "png_decompression_dos.png", "zero_byte.jpg",
        "text_not_image.png",
    }  # fmt: skip
    landscape = [
        np.array(open_image(ODDITIES / f"Landscape_{n}.jpg").resize((60, 40))) for n in range(1, 9)
    ]
    for other in landscape[1:]:
        assert abs(other.astype(int) - landscape[0]).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_upright_image_stays_upright_when_it_is_converted_again(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        Image.new("RGB", (8, 4)).save(tmp_path / "x", kind, exif=exif)
        once = open_image(tmp_path / "x")
        assert once.size == ((4, 8) if orientation >= 5 else (8, 4))
        assert to_upright_srgb(once).size == once.size


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 5, 3), (5, 0), (3, 0, 0)])
def test_arrays_without_pixels_and_archives_of_arrays_are_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    np.savez(tmp_path / "y.npz", a=np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "y.npz").rename(tmp_path / "y.npy")
    for name in ("x.npy", "y.npy"):
        with pytest.raises(BadImage):
            read_image(tmp_path / name)


def test_files_that_are_made_to_keep_a_reader_busy_are_refused(tmp_path):
    began = time.perf_counter()
    comments = tmp_path / "comments.ppm"
    comments.write_bytes(b"P6\n" + b"# x\n" * 2_000_000 + b"1 1 255\n123")
    with pytest.raises(BadImage, match="no size"):
        read_image(comments)
    stream = io.BytesIO()
    Image.fromarray(COLORS).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    end = content.rindex(b"\xff\xda")
    scans = tmp_path / "scans.jpg"
    scans.write_bytes(content[:end] + content[end:-2] * 300 + content[-2:])
    with pytest.raises(BadImage, match="scans"):
        read_image(scans)
    assert time.perf_counter() - began < 2
    scans.write_bytes(content)
    assert read_image(scans).shape == COLORS.shape
    (tmp_path / "ok.ppm").write_bytes(b"P6 # by hand\n1 # wide\n1\n255\nabc")
    assert read_image(tmp_path / "ok.ppm").tolist() == [[[97, 98, 99]]]
