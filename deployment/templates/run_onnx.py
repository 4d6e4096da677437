"""Translate images with the model in this folder.

    python run_onnx.py INPUT OUTPUT [MODEL.onnx] [max_megapixels=N]

INPUT is an image or a folder of images, of any size; OUTPUT is a folder (or, for one image, a file
such as out.png). Names, sizes, transparency and subfolders are preserved. A model of values (CT
numbers, heights) also reads and writes .npy arrays, 16-bit PNGs and TIFFs in their units. Needs
onnxruntime, numpy and Pillow; for TIFFs and 16-bit PNGs also tifffile and imagecodecs. Larger
pictures than 89 megapixels are opened with max_megapixels=N.
Exit codes: 0 done, 1 some image could not be translated, 2 a mistake in the command.
"""

import errno
import importlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageCms, ImageOps
except ImportError as error:
    print(f"error: {error.name} missing: pip install onnxruntime numpy pillow", file=sys.stderr)
    sys.exit(2)

HERE = Path(__file__).resolve().parent
MODELS = ("model.onnx", "model_fp16.onnx", "model_int8.onnx", "model_raw.onnx")
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
OPAQUE = (*JPEG, ".bmp", ".ppm", ".pnm")
AS_PNG = (".pfm", ".gif", ".apng", ".pgm")  # cannot hold 8-bit RGB: .png is added to the name
TIFF = (".tif", ".tiff")
SUFFIXES = (*OPAQUE, *AS_PNG, ".png", ".webp", *TIFF, ".avif", ".npy")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class Mistake(Exception):
    """A mistake that the user can correct, in one line."""


def named_path(word: str) -> Path:
    """Return the path that a user typed, with a leading ~ expanded; Mistake if it is too long."""
    path = Path(os.path.expanduser(word))
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Mistake(f"{word[:60]}... is not a path: too long; name another") from None
    return path


class Format:
    """What the files of a domain hold: 8-bit pictures, or values from `low` to `high`."""

    def __init__(self, text: str) -> None:
        facts = json.loads(text or "{}")
        self.low, self.high = facts.get("low"), facts.get("high")
        self.dtype = np.dtype(facts.get("dtype", "uint8"))
        self.channels = facts.get("channels", 3)
        self.page = facts.get("page", 0)
        self.has_range = self.low is not None


class Model:
    """An ONNX model of [B, H, W, C] arrays, or (model_raw) of floats [B, C, H, W] in [-1, 1].

    The arrays are uint8 pixels, or float32 in the units of a domain that has a range of values.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in available]
        if not path.is_file():
            raise Mistake(f"no such model: {path}")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # a damaged file raises exceptions of many classes
            raise Mistake(
                f"{path}: not a model that can be run ({one_line(error)}); name another"
            ) from None
        (self.input,) = self.session.get_inputs()
        facts = self.session.get_modelmeta().custom_metadata_map
        self.raw = "layout" not in facts and self.input.type != "tensor(uint8)"
        self.channels = self.input.shape[1 if self.raw else 3]
        self.source = Format(facts.get("source_format", ""))
        self.target = Format(facts.get("target_format", ""))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Translate an image [H, W, C], uint8 or in the units of its domain."""
        batch = pixels[None].astype(np.float32) if self.source.has_range else pixels[None]
        if self.raw:
            batch = batch.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        output = np.asarray(self.session.run(None, {self.input.name: batch})[0])[0]
        if self.raw:
            levels = np.rint((output.transpose(1, 2, 0) + 1) * 127.5)
            return np.clip(levels, 0, 255).astype(np.uint8)
        if self.target.has_range and self.target.dtype.kind in "iu":
            limits = np.iinfo(self.target.dtype)
            output = np.rint(output.astype(np.float64)).clip(limits.min, limits.max)
        return output.astype(self.target.dtype) if self.target.has_range else output


def main(words: list[str]) -> int:
    """Run the command; return the exit code."""
    if not words or "-h" in words or "--help" in words:
        print(__doc__)
        return 0 if words else 2
    limits = [word for word in words if word.startswith("max_megapixels=")]
    words = [word for word in words if word not in limits]
    for limit in limits:
        try:
            Image.MAX_IMAGE_PIXELS = int(1e6 * float(limit.partition("=")[2]))
        except ValueError:
            raise Mistake(f"{limit}: write a number, such as max_megapixels=200") from None
    if len(words) not in (2, 3):
        raise Mistake("usage: python run_onnx.py INPUT OUTPUT [MODEL.onnx]; see --help")
    source, target = named_path(words[0]), named_path(words[1])
    bundled = [HERE / name for name in MODELS if (HERE / name).is_file()]
    if len(words) == 2 and not bundled:
        raise Mistake(f"{HERE} has no model; name one: run_onnx.py INPUT OUTPUT MODEL.onnx")
    path = named_path(words[2]) if len(words) == 3 else bundled[0]
    model = Model(path if path.exists() or len(path.parts) > 1 else HERE / path)
    jobs = find_jobs(source, target, model.target)
    failed, written = 0, set()
    for file, out in jobs:
        try:
            if out in written:
                raise Mistake(f"{file}: {out} is the output of another image; rename one of them")
            written.add(out)
            write(out, translate_file(model, file))
        except Mistake as mistake:
            if not source.is_dir():
                raise
            failed += 1
            print(f"skipped: {mistake}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"{failed} of {len(jobs)} images could not be translated, see above")
    print(f"translated {len(jobs)} {'picture' if len(jobs) == 1 else 'pictures'} into {target}")
    return 0


def find_jobs(source: Path, target: Path, form: Format) -> list[tuple[Path, Path]]:
    """Return pairs of an input file and its output file."""
    if not source.exists():
        raise Mistake(f"no such file or folder: {source}")
    folder = source if source.is_dir() else source.parent
    if target.resolve() in (source.resolve(), folder.resolve()):
        raise Mistake(f"{target}: images would be overwritten; name another folder")
    if not source.is_dir():
        is_image_name = target.suffix.lower() in SUFFIXES and not target.is_dir()
        if not is_image_name and (target.is_file() or (target.suffix and not target.is_dir())):
            raise Mistake(
                f"{target} is not the name of an image; name a folder, or a file such as out.png"
            )
        return [(source, output_name(target if is_image_name else target / source.name, form))]
    if target.is_file():
        raise Mistake(f"{target} is a file; name a folder")
    output_folder = target.resolve()
    files = sorted(
        file for file in source.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file()
        and output_folder not in file.resolve().parents
    )  # fmt: skip
    if not files:
        raise Mistake(f"{source}: no images in this folder; name another")
    return [(file, target / output_name(file.relative_to(source), form)) for file in files]


def output_name(name: Path, form: Format) -> Path:
    """Return the file name of a translation: that of the input, with a suffix added if needed."""
    suffix = name.suffix.lower()
    if form.has_range or form.channels not in MODES:
        can_hold = suffix in (".npy", *TIFF) or (
            suffix == ".png" and form.dtype in (np.uint8, np.uint16) and form.channels in MODES
        )
        return name if can_hold else name.with_name(name.name + ".tif")
    return name.with_name(name.name + ".png") if name.suffix.lower() in AS_PNG else name


def translate_file(model: Model, file: Path) -> Image.Image | np.ndarray:
    """Return the translation of a file: an image with the input's alpha channel, or an array."""
    if model.source.has_range or file.suffix.lower() == ".npy" or model.channels not in MODES:
        return translate_values(model, file)
    if file.suffix.lower() in TIFF and model.channels in (2, 4) and has_bands(file):
        return translate_values(model, file)
    image = open_image(file)
    flat = composite_on_white(image) if model.channels in (1, 3) else image
    pixels = np.array(flat.convert(MODES[model.channels]))
    try:
        result = model(pixels if pixels.ndim == 3 else pixels[..., None])
    except Exception as error:  # most often, the image is too large for the memory
        raise Mistake(f"{file}: could not be translated ({one_line(error)})") from None
    if model.target.has_range:
        return result
    if result.shape[2] not in MODES:
        raise Mistake(f"{file}: the model outputs {result.shape[2]} channels, which no image has")
    picture = Image.fromarray(result[..., 0] if result.shape[2] == 1 else result)
    if image.mode in ("LA", "RGBA") and picture.mode in ("L", "RGB"):
        picture.putalpha(image.getchannel("A"))
    return picture


def translate_values(model: Model, file: Path) -> np.ndarray:
    """Return the translation of an array, in its layout; invalid pixels are put back."""
    values, nodata = read_values(file, model.source.page)
    channels = model.channels
    is_flat = values.ndim == 2
    if is_flat:
        values = values[..., None]
    is_channels_first = values.shape[0] == channels != values.shape[2]
    if is_channels_first:
        values = values.transpose(1, 2, 0)
    if values.shape[2] != channels:
        raise Mistake(f"{file}: has {values.shape[2]} bands, the model takes {channels}")
    if not model.source.has_range and values.dtype != np.uint8:
        raise Mistake(f"{file}: has values of {values.dtype}, the model takes 8-bit pictures")
    invalid = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if nodata is not None:
        invalid |= values == nodata
    clean = np.where(invalid, model.source.low, values) if invalid.any() else values
    try:
        result = model(np.ascontiguousarray(clean))
    except Exception as error:
        raise Mistake(f"{file}: could not be translated ({one_line(error)})") from None
    if model.target.has_range and invalid.any():
        result = with_marks(result, values, invalid, model.target)
    if is_flat and result.shape[2] == 1:
        return result[..., 0]
    return np.ascontiguousarray(result.transpose(2, 0, 1)) if is_channels_first else result


def with_marks(
    result: np.ndarray, values: np.ndarray, invalid: np.ndarray, form: Format
) -> np.ndarray:
    """Return a translation with the invalid pixels of the input put back, or the low end."""
    first = invalid.argmax(axis=2)[..., None]
    marks = np.take_along_axis(values, first, axis=2).astype(np.float64)
    if form.dtype.kind in "iu":
        limits = np.iinfo(form.dtype)
        marks = np.where((marks >= limits.min) & (marks <= limits.max), marks, form.low)
    return np.where(invalid.any(axis=2, keepdims=True), marks, result).astype(form.dtype)


def read_values(file: Path, page: int) -> tuple[np.ndarray, float | None]:
    """Return the values of an array, a TIFF or a PNG, and the nodata value of a TIFF."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".npy":
            return np.load(file, allow_pickle=False), None
        if suffix in TIFF:
            return read_tiff(file, page)
        if suffix == ".png":
            codecs = needed("imagecodecs")
            return codecs.png_decode(file.read_bytes()), None
        with Image.open(file, formats=FORMATS) as image:
            return np.asarray(image), None
    except Mistake:
        raise
    except Exception as error:  # decoders raise exceptions of many classes
        raise Mistake(f"{file}: not an image that can be read ({one_line(error)})") from None


def read_tiff(file: Path, page: int) -> tuple[np.ndarray, float | None]:
    """Return the values of a page of a TIFF (-1: of all, as channels), and its nodata value."""
    with needed("tifffile").TiffFile(file) as tiff:
        pages = [each for each in tiff.pages if not each.is_reduced and not each.is_mask]
        chosen = pages if page < 0 else [pages[page]]
        parts = []
        for each in chosen:
            part = each.asarray()
            if part.ndim == 2:
                part = part[..., None]
            elif each.planarconfig == 2:
                part = part.transpose(1, 2, 0)
            parts.append(part)
        tag = chosen[0].tags.get(42113)
        text = str(tag.value).strip("\0 ").lower() if tag is not None else ""
        return np.concatenate(parts, axis=2), float(text) if text not in ("", "nan") else None


def has_bands(file: Path) -> bool:
    """Return whether a TIFF has bands that are no transparency; False without tifffile."""
    try:
        with needed("tifffile").TiffFile(file) as tiff:
            return 0 in tiff.pages[0].extrasamples
    except (Mistake, OSError, ValueError, IndexError):  # open_image says what is wrong with it
        return False


def needed(package: str) -> Any:
    """Return a package; Mistake with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise Mistake(f"{package} missing: pip install tifffile imagecodecs") from None


def open_image(file: Path) -> Image.Image:
    """Return an image file with EXIF orientation applied, in sRGB, in mode L, LA, RGB or RGBA."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                image.load()
                return to_srgb(to_8_bits(apply_exif_orientation(image)))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Mistake(f"{file}: {one_line(error)}; max_megapixels=N opens larger ones") from None
    except Exception as error:  # decoders raise exceptions of many classes
        raise Mistake(f"{file}: not an image that can be read ({one_line(error)})") from None


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate and mirror an image by its EXIF orientation."""
    try:
        return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    except Exception:  # unreadable EXIF data is ignored
        return image.copy()


def to_8_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit and float greys, palettes and other modes to L, LA, RGB or RGBA.

    CMYK, YCbCr and HSV with an ICC profile are left for `to_srgb`.
    """
    if image.mode.startswith("I") or image.mode == "F":
        samples = np.asarray(image, dtype=np.float64)
        largest = samples.max(initial=0.0)
        whites = (65535.0,) if image.mode != "F" else (1.0, 255.0, 65535.0, largest)
        white = next((white for white in whites if largest <= white), whites[-1])
        grey = np.rint(np.clip(np.nan_to_num(samples), 0, white) * (255.0 / white))
        return Image.fromarray(grey.astype(np.uint8))
    if image.mode in MODES.values() and "transparency" not in image.info:
        return image
    if image.mode in ("CMYK", "YCbCr", "HSV"):
        return image if image.info.get("icc_profile") else image.convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image.convert("RGB")
    if image.mode in ("PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert by the embedded ICC profile; without a usable one, values stay as they are."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(
                image, embedded, ImageCms.createProfile("sRGB"), outputMode=mode
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image.convert("RGB") if image.mode == "CMYK" else image


def composite_on_white(image: Image.Image) -> Image.Image:
    """Return an image without transparency, composited on white."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def write(path: Path, image: Image.Image | np.ndarray) -> None:
    """Write an image or an array atomically, and create its folder."""
    if isinstance(image, np.ndarray):
        write_content(path, encoded(image, path.suffix.lower()))
        return
    suffix = path.suffix.lower()
    if suffix in OPAQUE:
        image = composite_on_white(image)
    elif image.mode == "LA" and suffix == ".webp":
        image = image.convert("RGBA")
    file_format = "JPEG" if suffix in JPEG else Image.registered_extensions().get(suffix, "PNG")
    settings: dict[str, object] = {}
    if file_format == "JPEG":
        settings = {"quality": 95, "subsampling": 0}
    elif file_format == "WEBP":
        settings = {"lossless": True}
    elif file_format == "AVIF":
        settings = {"quality": 95}
    content = io.BytesIO()
    try:
        image.save(content, file_format, **settings)
    except (OSError, ValueError) as error:
        raise Mistake(f"{path}: could not be written ({one_line(error)})") from None
    write_content(path, content.getvalue())


def encoded(values: np.ndarray, suffix: str) -> bytes:
    """Return values as the bytes of an .npy file, a TIFF or a PNG."""
    content = io.BytesIO()
    flat = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if suffix == ".npy":
        np.save(content, values, allow_pickle=False)
    elif suffix == ".png":
        return bytes(needed("imagecodecs").png_encode(np.ascontiguousarray(flat)))
    else:
        layout = {"planarconfig": "contig"} if flat.ndim == 3 else {}
        needed("tifffile").imwrite(
            content, flat, photometric="minisblack", compression="zlib", **layout
        )
    return content.getvalue()


def write_content(path: Path, content: bytes) -> None:
    """Write a file atomically, and create its folder."""
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except (OSError, ValueError) as error:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)
        raise Mistake(f"{path}: could not be written ({one_line(error)})") from None


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
