"""Values of scientific images: read as the file has them, mapped to [0, 1], and back."""

import gc
import sys
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from common.errors import UserError
from common.threads import map_in_threads
from data.config import DataConfig
from data.image_store.open_store import open_image_store
from data.reading import image_size, read_image, read_pixels
from data.values.measure_ranges import keep_ranges, measure_ranges
from data.values.raw_values import BadImage, file_format, read_values
from data.values.value_range import DTYPES, DomainFormat

RNG = np.random.default_rng(0)


def smooth(height=40, width=48, bands=1):
    """Return values in [0, 1] that fill the range evenly."""
    ramp = np.linspace(0, 1, height * width * bands).reshape(height, width, bands)
    return np.clip(ramp + RNG.normal(0, 0.01, ramp.shape), 0, 1)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(np.squeeze(values)))
    else:
        flat = values[..., 0] if values.shape[-1] == 1 else values
        layout = {"planarconfig": "contig"} if flat.ndim == 3 else {}
        tifffile.imwrite(path, flat, photometric="minisblack", **layout)


def levels(path, form):
    """Return how many of 256 levels reach the networks."""
    return len(np.unique(np.rint(read_pixels(path, form) * 255)))


# Case -> (suffix, values of the whole range from smooth images in [0, 1]).
CASES = {
    "12-bit CT in 16 bits": (".png", lambda x: (4095 * x).astype(np.uint16)),
    "Hounsfield floats": (".tif", lambda x: (4000 * x - 1000).astype(np.float32)),
    "radar in decibels": (".tif", lambda x: (25 * x - 25).astype(np.float32)),
    "floats up to 2": (".tif", lambda x: (2 * x).astype(np.float32)),
    "reflectance": (".tif", lambda x: (10000 * x).astype(np.uint16)),
    "arrays up to 255": (".npy", lambda x: (255 * x).astype(np.float32)),
    "arrays from -1": (".npy", lambda x: (2 * x - 1).astype(np.float32)),
    "signed arrays": (".npy", lambda x: (4000 * x - 1000).astype(np.int16)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_measured_range_brings_at_least_200_levels_to_the_networks(tmp_path, case):
    suffix, make = CASES[case]
    files = {}
    for domain in "ab":
        files[domain] = [tmp_path / domain / f"{n}{suffix}" for n in range(3)]
        for file in files[domain]:
            write(file, make(smooth()))
    config, notes = measure_ranges(files, DataConfig(channels=[1]))
    for domain, form in config.formats().items():
        assert form.dtype == str(make(smooth()).dtype) and form.has_range
        assert levels(files[domain][0], form) >= 200
    assert len(notes) == 2 and "quantiles of 3 files" in notes[0]


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "float16"])
def test_values_come_back_within_a_step_of_their_type(dtype):
    kind = np.dtype(dtype)
    low, high = (-1000.0, 3000.0) if kind.kind == "f" else (0.0, min(np.iinfo(kind).max, 60000.0))
    values = np.linspace(low, high, 5000).astype(kind).reshape(50, 100, 1)
    form = DomainFormat(1, 0, low, high, dtype)
    back = form.to_values(form.to_unit(values))
    assert back.dtype == kind
    step = 1 if kind.kind in "iu" else (high - low) / 65535
    assert np.abs(back.astype(np.float64) - values.astype(np.float64)).max() <= step


def test_invalid_values_are_not_measured_become_low_and_are_put_back(tmp_path):
    values = (4000 * smooth() - 1000).astype(np.float32)
    values[0, :5] = np.nan
    values[1, 0] = np.inf
    files = [tmp_path / f"{n}.tif" for n in range(2)]
    for file in files:
        write(file, values)
    config, notes = measure_ranges({"a": files, "b": files}, DataConfig(channels=[1]))
    form = config.formats()["a"]
    assert form.low is not None and form.low < -900 and "12 invalid values" in notes[0]
    assert (read_pixels(files[0], form)[0, :5] == 0).all()
    read, valid = read_values(files[0], 1)
    marked = form.with_marks(
        form.to_values(form.to_unit(values)), np.ma.masked_array(read, mask=valid)
    )
    assert np.isnan(marked[0, :5]).all() and np.isinf(marked[1, 0])
    assert np.isfinite(marked).sum() == values.size - 6


def test_gdal_nodata_is_invalid(tmp_path):
    values = (1000 * smooth()).astype(np.int16)
    values[:3] = -32768
    tifffile.imwrite(
        tmp_path / "a.tif", values[..., 0], extratags=[(42113, "s", 0, "-32768", True)]
    )
    assert (~read_values(tmp_path / "a.tif", 1)[1]).sum() == 3 * 48


def test_a_domain_of_pictures_has_no_range_and_a_mixture_is_refused(tmp_path):
    picture, deep = tmp_path / "a.png", tmp_path / "b.png"
    write(picture, (255 * smooth()).astype(np.uint8))
    write(deep, (65535 * smooth()).astype(np.uint16))
    config, notes = measure_ranges({"a": [picture], "b": [picture]}, DataConfig(channels=[1]))
    assert not config.range and not config.dtype and not notes
    with pytest.raises(UserError) as error:
        measure_ranges({"a": [picture, deep], "b": [picture]}, DataConfig(channels=[1]))
    assert error.value.option == "data.range.a" and "mixes 8-bit files" in str(error.value)


def test_a_range_that_leaves_few_levels_is_refused_with_one_that_does_not(tmp_path):
    file = tmp_path / "a.png"
    write(file, (4095 * smooth()).astype(np.uint16))
    config = DataConfig(channels=[1], range={"all": "type"})
    with pytest.raises(UserError) as error:
        measure_ranges({"a": [file], "b": [file]}, config)
    assert error.value.option == "data.range.a" and "of 256 levels" in str(error.value)
    config = DataConfig(channels=[1], range={"all": "[0,4095]"})
    assert measure_ranges({"a": [file], "b": [file]}, config)[0].range["a"] == "[0.0, 4095.0]"


def test_labels_are_noted(tmp_path):
    file = tmp_path / "labels.png"
    write(file, RNG.integers(0, 5, (32, 32, 1)).astype(np.uint8))
    _, notes = measure_ranges({"a": [file], "b": [file]}, DataConfig(channels=[1]))
    assert "only 5 levels" in notes[0]


def test_a_continued_run_keeps_the_range_that_it_measured_unless_another_is_given():
    saved = DataConfig(range={"a": "[1.0, 9.0]"}, dtype={"a": "int16"})
    assert keep_ranges(DataConfig(), saved).formats() == saved.formats()
    assert keep_ranges(DataConfig(range={"all": "auto"}), saved).range == saved.range
    assert keep_ranges(DataConfig(range={"a": "[1,9]"}), saved).range == saved.range
    assert keep_ranges(DataConfig(range={"a": "[0,9]"}), saved).range != saved.range
    # A run that began before ranges existed continues with 8 bits.
    assert keep_ranges(DataConfig(range={"all": "auto"}), DataConfig()).range == {}


@pytest.mark.parametrize("text", ["wide", "[1]", "[3,1]", "[0,NaN]", "[1,2,3]"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(UserError) as error:
        DataConfig(range={"a": text})
    assert error.value.option == "data.range.a"


def test_bands_are_those_of_the_file(tmp_path):
    values = RNG.integers(0, 255, (20, 30, 4), dtype=np.uint8)
    file = tmp_path / "rgbnir.tif"
    write(file, values)
    assert (read_image(file, 4) == values).all()
    with pytest.raises(BadImage) as error:
        read_image(file, 3)
    assert error.value.option == "data.channels" and "4 bands of uint8" in str(error.value)
    two = tmp_path / "two.tif"
    write(two, values[..., :2])
    assert (read_image(two, 2) == values[..., :2]).all()
    eight = (257 * RNG.integers(0, 255, (20, 30, 8))).astype(np.uint16)
    write(tmp_path / "eight.tif", eight)
    assert (read_values(tmp_path / "eight.tif", 8)[0] == eight).all()
    assert image_size(tmp_path / "eight.tif") == (20, 30)


def test_alpha_is_alpha_where_the_file_says_so(tmp_path):
    values = RNG.integers(0, 255, (20, 30, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgba.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert file_format(tmp_path / "rgba.tif").is_picture
    assert read_image(tmp_path / "rgba.tif", 3).shape == (20, 30, 3)


def test_planes_pages_orientations_and_inverted_greys_are_read(tmp_path):
    values = RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "planes.tif", values.transpose(2, 0, 1), photometric="rgb",
                     planarconfig="separate")  # fmt: skip
    assert (read_image(tmp_path / "planes.tif", 3) == values).all()
    pages = RNG.integers(0, 255, (6, 20, 30), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in pages:
            file.write(page, photometric="minisblack")
    assert (read_image(tmp_path / "pages.tif", 1)[..., 0] == pages[0]).all()
    assert (read_image(tmp_path / "pages.tif", 1, page=4)[..., 0] == pages[4]).all()
    assert (read_image(tmp_path / "pages.tif", 6, page=-1) == pages.transpose(1, 2, 0)).all()
    with pytest.raises(BadImage) as error:
        read_image(tmp_path / "pages.tif", 1, page=6)
    assert error.value.option == "data.page"
    _, notes = measure_ranges(
        {"a": [tmp_path / "pages.tif"], "b": [tmp_path / "pages.tif"]}, DataConfig(channels=[1])
    )
    assert "6 pages" in notes[0]
    deep = RNG.integers(0, 65535, (20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "sideways.tif", deep, extratags=[(274, "H", 1, 6, True)])
    assert (read_values(tmp_path / "sideways.tif", 1)[0][..., 0] == np.rot90(deep, -1)).all()
    assert image_size(tmp_path / "sideways.tif") == (30, 20)
    tifffile.imwrite(tmp_path / "inverted.tif", deep, photometric="miniswhite")
    assert (read_values(tmp_path / "inverted.tif", 1)[0][..., 0] == 65535 - deep).all()


def test_arrays_with_channels_first_are_read(tmp_path):
    values = RNG.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "first.npy", values.transpose(2, 0, 1))
    assert (read_image(tmp_path / "first.npy", 3) == values).all()
    assert image_size(tmp_path / "first.npy") == (20, 30)


def test_colors_of_16_bits_keep_them(tmp_path):
    values = RNG.integers(0, 65535, (20, 30, 3), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(values))
    assert (read_values(tmp_path / "deep.png", 3)[0] == values).all()


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_every_store_gives_floats_of_a_domain_with_a_range(tmp_path, cache):
    values = (4000 * smooth() - 1000).astype(np.float32)
    file = tmp_path / "set/a.tif"
    write(file, values)
    config = DataConfig(
        channels=[1], range={"a": "[-1000,3000]", "b": "[0,1]"}, fit="crop", crop_size=16,
        memory_cache_gb=0.1 if cache == "memory" else 0,
        disk_cache=str(tmp_path / "cache") if cache == "disk" else "",
    )  # fmt: skip
    store = open_image_store({"a": [file], "b": [file]}, config)
    expected = ((values + 1000) / 4000).clip(0, 1)
    for _ in range(2):
        pixels = store.pixels("a", 0)
        assert pixels.dtype == np.float32 and np.abs(pixels - expected).max() < 1e-6


def test_what_the_quantiles_clip_is_said(tmp_path):
    values = RNG.normal(0, 1, (100, 100, 1)).astype(np.float32)
    write(tmp_path / "a.tif", values)
    files = {"a": [tmp_path / "a.tif"], "b": [tmp_path / "a.tif"]}
    _, notes = measure_ranges(files, DataConfig(channels=[1]))
    assert "0.2 % of the values lie outside and are clipped" in notes[0]


def test_a_file_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    content = bytearray(imagecodecs.png_encode(np.zeros((4, 4), np.uint16)))
    content[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height in the header
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(BadImage) as error:
        read_values(tmp_path / "bomb.png", 1)
    assert "pixels" in str(error.value) and error.value.path == str(tmp_path / "bomb.png")


def test_arrays_of_another_byte_order_are_read_and_other_kinds_refused(tmp_path):
    np.save(tmp_path / "a.npy", (4000 * smooth()).astype(">u2"))
    files = {"a": [tmp_path / "a.npy"], "b": [tmp_path / "a.npy"]}
    config, _ = measure_ranges(files, DataConfig(channels=[1]))
    assert config.dtype == {"a": "uint16", "b": "uint16"}
    for name, values in (("complex", np.zeros((4, 4), complex)), ("bool", np.zeros((4, 4), bool)),
                         ("record", np.zeros((4, 4), [("x", "i4")]))):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(BadImage, match="not supported"):
            measure_ranges({"a": [tmp_path / f"{name}.npy"]}, DataConfig(channels=[1]))


def test_voids_of_signed_integers_are_no_values(tmp_path):
    heights = np.arange(-20, 44, dtype=np.int16).reshape(8, 8, 1)
    heights[0, 0] = -32768
    np.save(tmp_path / "srtm.npy", heights)
    values, valid = read_values(tmp_path / "srtm.npy", 1)
    assert values.dtype == np.int16 and valid.sum() == 63 and not valid[0, 0]
    np.save(tmp_path / "deep.npy", heights.astype(np.uint16))
    assert read_values(tmp_path / "deep.npy", 1)[1].all()


def test_all_bits_of_a_color_ppm_are_read(tmp_path):
    values = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    content = b"P6 # 16 bits\n7 5\n65535\n" + values.astype(">u2").tobytes()
    (tmp_path / "deep.ppm").write_bytes(content)
    assert np.array_equal(read_values(tmp_path / "deep.ppm", 3)[0], values)
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "plain.ppm")
    assert file_format(tmp_path / "plain.ppm").is_picture
    (tmp_path / "cut.ppm").write_bytes(content[:-9])
    with pytest.raises(BadImage):
        read_values(tmp_path / "cut.ppm", 3)


def test_headers_of_arrays_are_parsed_by_one_thread_at_a_time(tmp_path):
    # A garbage collection that lets another thread run in the middle of Python's parser: without
    # the lock, one of 120 headers cannot be parsed.
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 3), np.int16))
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()

    def let_others_run(*_: object) -> None:
        time.sleep(0)

    sys.setswitchinterval(1e-6)
    gc.set_threshold(20, 2, 2)
    gc.callbacks.append(let_others_run)
    try:
        found = list(map_in_threads(lambda _: file_format(tmp_path / "x.npy"), range(1000), 8, 64))
    finally:
        gc.callbacks.remove(let_others_run)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
    assert {form.dtype for _, form in found} == {"int16"}
