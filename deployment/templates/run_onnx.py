"""Translate pictures with the model beside this file: python run_onnx.py INPUT OUTPUT [MODEL.onnx].

INPUT is a picture or a folder of them, of any size; OUTPUT is a folder (or, for one picture, a file such
as out.png). Names, sizes, transparency and the folder's tree are kept. Needs onnxruntime, numpy and Pillow.
Exit codes: 0 done, 1 some picture could not be translated, 2 a mistake in the command.
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
AS_PNG = (".pfm", ".gif", ".apng", ".pgm")  # no room for 8-bit RGB: .png is added to the name
SUFFIXES = (*OPAQUE, *AS_PNG, ".png", ".webp", ".tif", ".tiff", ".avif")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class Mistake(Exception):
    """What the person at the terminal can mend, in one line."""


def named_path(word: str) -> Path:
    """Return the path that a word means, with ~ as a shell reads it."""
    path = Path(os.path.expanduser(word))
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Mistake(f"{word[:60]}... is no path: too long; name another") from None
    return path


class Model:
    """An ONNX file: uint8 [B, H, W, C] in and out, or (model_raw) float [B, C, H, W] in [-1, 1]."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        there = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in there]
        if not path.is_file():
            raise Mistake(f"no such model: {path}")
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime has an exception for every way to be damaged
            raise Mistake(f"{path}: not a model that can be run ({one_line(error)})") from None
        (self.entry,) = self.session.get_inputs()
        self.raw = self.entry.type != "tensor(uint8)"
        self.channels = self.entry.shape[1 if self.raw else 3]
        if self.channels not in MODES:
            raise Mistake(f"{path} takes {self.channels} channels, which no picture has")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Translate uint8 [H, W, C]."""
        batch = pixels[None]
        if self.raw:
            batch = batch.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        translated = np.asarray(self.session.run(None, {self.entry.name: batch})[0])[0]
        if self.raw:
            levels = np.rint((translated.transpose(1, 2, 0) + 1) * 127.5)
            return np.clip(levels, 0, 255).astype(np.uint8)
        return translated


def main(words: list[str]) -> int:
    """Do what the command line asks for; return the exit code."""
    if not words or "-h" in words or "--help" in words:
        print(__doc__)
        return 0 if words else 2
    if len(words) not in (2, 3):
        raise Mistake("usage: python run_onnx.py INPUT OUTPUT [MODEL.onnx]; --help explains")
    source, target = named_path(words[0]), named_path(words[1])
    jobs = planned(source, target)
    beside = [HERE / name for name in MODELS if (HERE / name).is_file()]
    if len(words) == 2 and not beside:
        raise Mistake(f"{HERE} holds no model; name one: run_onnx.py INPUT OUTPUT MODEL.onnx")
    named = named_path(words[2]) if len(words) == 3 else beside[0]
    model = Model(named if named.exists() or len(named.parts) > 1 else HERE / named)
    failed, made = 0, set()
    for file, out in jobs:
        try:
            if out in made:
                raise Mistake(f"{file}: {out} was made from another picture; rename one of them")
            made.add(out)
            write(out, translated(model, file))
        except Mistake as mistake:
            if not source.is_dir():
                raise
            failed += 1
            print(f"skipped: {mistake}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"{failed} of {len(jobs)} pictures could not be translated, see above")
    print(f"{len(jobs)} translated into {target}")
    return 0


def planned(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return what is read and where each is written."""
    if not source.exists():
        raise Mistake(f"no such file or folder: {source}")
    here = source if source.is_dir() else source.parent
    if target.resolve() in (source.resolve(), here.resolve()):
        raise Mistake(f"{target}: pictures would be overwritten; name another place")
    if not source.is_dir():
        into_file = target.suffix.lower() in SUFFIXES and not target.is_dir()
        if not into_file and (target.is_file() or (target.suffix and not target.is_dir())):
            raise Mistake(
                f"{target} is no picture's name; name a folder, or a file such as out.png"
            )
        return [(source, written(target if into_file else target / source.name))]
    if target.is_file():
        raise Mistake(f"{target} is a file; name a folder")
    inside = target.resolve()
    files = sorted(
        file for file in source.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file() and inside not in file.resolve().parents
    )  # fmt: skip
    if not files:
        raise Mistake(f"{source}: no pictures in this folder")
    return [(file, target / written(file.relative_to(source))) for file in files]


def written(name: Path) -> Path:
    """Return the name a translation is written under: the picture's own, if that can hold it."""
    return name.with_name(name.name + ".png") if name.suffix.lower() in AS_PNG else name


def translated(model: Model, file: Path) -> Image.Image:
    """Return the translation of one file, its alpha channel (if any) laid over it."""
    image = opened(file)
    flat = over_white(image) if model.channels in (1, 3) else image
    pixels = np.array(flat.convert(MODES[model.channels]))
    try:
        result = model(pixels if pixels.ndim == 3 else pixels[..., None])
    except Exception as error:  # too large for the memory, most often
        raise Mistake(f"{file}: could not be translated ({one_line(error)})") from None
    if result.shape[2] not in MODES:
        raise Mistake(f"{file}: the model makes {result.shape[2]} channels, which no picture has")
    picture = Image.fromarray(result[..., 0] if result.shape[2] == 1 else result)
    if image.mode in ("LA", "RGBA") and picture.mode in ("L", "RGB"):
        picture.putalpha(image.getchannel("A"))
    return picture


def opened(file: Path) -> Image.Image:
    """Return a file's picture upright, in sRGB, with 8 bits a sample: L, LA, RGB or RGBA."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                image.load()
                return in_srgb(in_8_bits(upright(image)))
    except Exception as error:  # decoders raise whatever they like
        raise Mistake(f"{file}: not a picture that can be read ({one_line(error)})") from None


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    except Exception:  # unreadable EXIF says nothing
        return image.copy()


def in_8_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit and float greys, palettes and CMYK to L, LA, RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        samples = np.asarray(image, dtype=np.float64)
        most = samples.max(initial=0.0)
        tops = (65535.0,) if image.mode != "F" else (1.0, 255.0, 65535.0, most)
        top = next((top for top in tops if most <= top), tops[-1])
        grey = np.rint(np.clip(np.nan_to_num(samples), 0, top) * (255.0 / top))
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


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert by the embedded ICC profile; a broken or missing one leaves the numbers alone."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = "RGBA" if image.mode == "RGBA" else "RGB"
            converted = ImageCms.profileToProfile(
                image, own, ImageCms.createProfile("sRGB"), outputMode=mode
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image.convert("RGB") if image.mode == "CMYK" else image


def over_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency over white."""
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def write(path: Path, image: Image.Image) -> None:
    """Write a picture whole or not at all, making its folder."""
    suffix = path.suffix.lower()
    if suffix in OPAQUE:
        image = over_white(image)
    elif image.mode == "LA" and suffix == ".webp":
        image = image.convert("RGBA")
    kind = "JPEG" if suffix in JPEG else Image.registered_extensions().get(suffix, "PNG")
    settings: dict[str, object] = {}
    if kind == "JPEG":
        settings = {"quality": 95, "subsampling": 0}
    elif kind == "WEBP":
        settings = {"lossless": True}
    elif kind == "AVIF":
        settings = {"quality": 95}
    partial = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(partial, kind, **settings)
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
