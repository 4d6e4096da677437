"""Translate images with the model in this folder: python run_onnx.py INPUT OUTPUT [MODEL.onnx].

INPUT is an image or a folder of images, of any size; OUTPUT is a folder (or, for one image, a file
such as out.png). Names, sizes, transparency and subfolders are preserved. Needs onnxruntime, numpy
and Pillow. Exit codes: 0 done, 1 some image could not be translated, 2 a mistake in the command.
"""

import errno
import io
import os
import sys
import warnings
from pathlib import Path

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
SUFFIXES = (*OPAQUE, *AS_PNG, ".png", ".webp", ".tif", ".tiff", ".avif")
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


class Model:
    """An ONNX model of uint8 [B, H, W, C] images, or (model_raw) float [B, C, H, W] in [-1, 1]."""

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
        self.raw = self.input.type != "tensor(uint8)"
        self.channels = self.input.shape[1 if self.raw else 3]
        if self.channels not in MODES:
            raise Mistake(
                f"{path} takes {self.channels} channels, which no image has; name another"
            )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Translate an image, uint8 [H, W, C] to uint8 [H, W, C]."""
        batch = pixels[None]
        if self.raw:
            batch = batch.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        output = np.asarray(self.session.run(None, {self.input.name: batch})[0])[0]
        if self.raw:
            levels = np.rint((output.transpose(1, 2, 0) + 1) * 127.5)
            return np.clip(levels, 0, 255).astype(np.uint8)
        return output


def main(words: list[str]) -> int:
    """Run the command; return the exit code."""
    if not words or "-h" in words or "--help" in words:
        print(__doc__)
        return 0 if words else 2
    if len(words) not in (2, 3):
        raise Mistake("usage: python run_onnx.py INPUT OUTPUT [MODEL.onnx]; see --help")
    source, target = named_path(words[0]), named_path(words[1])
    jobs = find_jobs(source, target)
    bundled = [HERE / name for name in MODELS if (HERE / name).is_file()]
    if len(words) == 2 and not bundled:
        raise Mistake(f"{HERE} has no model; name one: run_onnx.py INPUT OUTPUT MODEL.onnx")
    path = named_path(words[2]) if len(words) == 3 else bundled[0]
    model = Model(path if path.exists() or len(path.parts) > 1 else HERE / path)
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
    print(f"{len(jobs)} translated into {target}")
    return 0


def find_jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
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
        return [(source, output_name(target if is_image_name else target / source.name))]
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
    return [(file, target / output_name(file.relative_to(source))) for file in files]


def output_name(name: Path) -> Path:
    """Return the file name of a translation: that of the input, with .png added where needed."""
    return name.with_name(name.name + ".png") if name.suffix.lower() in AS_PNG else name


def translate_file(model: Model, file: Path) -> Image.Image:
    """Return the translation of an image file, with the alpha channel of the input."""
    image = open_image(file)
    flat = composite_on_white(image) if model.channels in (1, 3) else image
    pixels = np.array(flat.convert(MODES[model.channels]))
    try:
        result = model(pixels if pixels.ndim == 3 else pixels[..., None])
    except Exception as error:  # most often, the image is too large for the memory
        raise Mistake(f"{file}: could not be translated ({one_line(error)})") from None
    if result.shape[2] not in MODES:
        raise Mistake(f"{file}: the model outputs {result.shape[2]} channels, which no image has")
    picture = Image.fromarray(result[..., 0] if result.shape[2] == 1 else result)
    if image.mode in ("LA", "RGBA") and picture.mode in ("L", "RGB"):
        picture.putalpha(image.getchannel("A"))
    return picture


def open_image(file: Path) -> Image.Image:
    """Return an image file with EXIF orientation applied, in sRGB, in mode L, LA, RGB or RGBA."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                image.load()
                return to_srgb(to_8_bits(apply_exif_orientation(image)))
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


def write(path: Path, image: Image.Image) -> None:
    """Write an image atomically, and create its folder."""
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
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(partial, file_format, **settings)
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
