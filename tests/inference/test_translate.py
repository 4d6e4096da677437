"""Pictures of any kind and size are translated with a trained run."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
import translate
from engine.runtime import Runtime, RuntimeConfig
from inference import load_translator
from inference.open_run import open_run
from inference.picture_translator import PictureTranslator
from tests.conftest import SHARED, TINY, call, picture, refusal, write_images

HIGHRES = SHARED / "images/highres"


def translated(trained, source, target, *more):
    return call(translate, trained, source, target, "direction=a_to_b", "runtime.device=cpu", *more)


def test_a_folder_keeps_its_tree_its_names_and_every_size(trained, tmp_path):
    write_images(tmp_path / "in", 2, size=(23, 17))
    write_images(tmp_path / "in/sub dir/deep", 1, size=(64, 8), first=5)
    Image.new("RGB", (1, 1)).save(tmp_path / "in/dot.png")
    Image.new("RGB", (9, 30)).save(tmp_path / "in/x.jpg")
    Image.new("RGB", (9, 30)).save(tmp_path / "in/x.webp")
    assert translated(trained, tmp_path / "in", tmp_path / "out") == (0, "")
    for file in (path for path in (tmp_path / "in").rglob("*") if path.is_file()):
        out = tmp_path / "out" / file.relative_to(tmp_path / "in")
        assert picture(out).size == picture(file).size
        assert picture(out).format == picture(file).format


def test_one_file_goes_into_a_folder_or_to_a_name(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    assert translated(trained, tmp_path / "in/000.png", tmp_path / "out") == (0, "")
    assert translated(trained, tmp_path / "in/000.png", tmp_path / "named.png") == (0, "")
    assert (tmp_path / "out/000.png").read_bytes() == (tmp_path / "named.png").read_bytes()


def test_a_sideways_photo_comes_out_upright_and_transparency_stays(trained, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "in/rotated.jpg", exif=exif)
    alpha = np.random.default_rng(0).integers(0, 255, (20, 30, 4), dtype=np.uint8)
    Image.fromarray(alpha).save(tmp_path / "in/alpha.png")
    assert translated(trained, tmp_path / "in", tmp_path / "out") == (0, "")
    upright = picture(tmp_path / "out/rotated.jpg")
    assert upright.size == (20, 30) and upright.getexif().get(0x0112, 1) == 1
    assert np.array_equal(np.array(picture(tmp_path / "out/alpha.png"))[..., 3], alpha[..., 3])


def test_formats_that_cannot_hold_the_result_get_png_added_to_their_name(trained, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("P", (16, 16)).save(tmp_path / "in/x.gif")
    assert translated(trained, tmp_path / "in", tmp_path / "out") == (0, "")
    assert picture(tmp_path / "out/x.gif.png").format == "PNG"


def test_a_bad_file_is_reported_and_skipped_with_exit_code_1(trained, tmp_path, capsys):
    write_images(tmp_path / "in", 3)
    (tmp_path / "in/001.png").write_bytes(b"broken")
    code, error = translated(trained, tmp_path / "in", tmp_path / "out")
    assert code == 1 and error.startswith("1 of 3 pictures could not be translated")
    assert "001.png: not an image" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.png", "002.png"]
    assert translated(trained, tmp_path / "in/001.png", tmp_path / "out")[0] == 2


def test_a_picture_is_never_overwritten_by_its_own_translation(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    before = (tmp_path / "in/000.png").read_bytes()
    for source in (tmp_path / "in", tmp_path / "in/000.png"):
        assert translated(trained, source, tmp_path / "in")[0] == 2
        error = refusal(translate, trained, source, tmp_path / "in", "direction=a_to_b")
        assert error.path == str(tmp_path / "in")
    assert (tmp_path / "in/000.png").read_bytes() == before


def test_mistakes_are_answered_in_one_line(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    (tmp_path / "file.txt").write_text("x")
    source, out = tmp_path / "in", tmp_path / "out"
    file, nowhere = tmp_path / "file.txt", tmp_path / "nowhere"
    for words, option, path, part in [
        ((trained, source, out), "direction", "", "direction=a_to_b or direction=b_to_a"),
        ((trained, source, out, "direction=a_to_c"), "direction", "", "a_to_b and b_to_a"),
        ((nowhere, source, out), "", nowhere, "no such run"),
        ((tmp_path, source, out, "direction=a_to_b"), "", tmp_path, "not a run"),
        ((file, source, out, "direction=a_to_b"), "", file, "not a readable checkpoint"),
        ((trained, nowhere, out, "direction=a_to_b"), "", nowhere, "no such file or folder"),
        ((trained, source, file, "direction=a_to_b"), "", file, "is a file"),
        ((trained, source), "", "", "usage: "),
        ((trained, source, out, "colour=red"), "colour", "", "unknown option 'colour'"),
        ((trained, source, out, "runtime.device=tpu"), "runtime.device", "", "tpu"),
    ]:  # fmt: skip
        code, line = call(translate, *words)
        assert code == 2 and part in line and "\n" not in line, line
        error = refusal(translate, *words)
        assert (error.option, error.path) == (option, str(path)), line


def test_the_translator_in_python_takes_images_arrays_and_tensors(trained):
    translator = load_translator(trained, device="cpu")["a_to_b"]
    pixels = np.random.default_rng(0).integers(0, 255, (18, 21, 3), dtype=np.uint8)
    array = translator(pixels)
    assert array.shape == pixels.shape and array.dtype == np.uint8
    assert np.array_equal(np.array(translator(Image.fromarray(pixels))), array)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    one, many = translator(tensor), translator(tensor[None])
    assert one.shape == tensor.shape and torch.allclose(one, many[0], atol=1e-6)
    rounded = ((one + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert abs(rounded.astype(int) - array).max() <= 1
    with pytest.raises(ValueError, match="expected uint8"):
        translator(pixels.astype(np.float32))


def test_a_checkpoint_file_is_enough_to_translate(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    newest = sorted((trained / "checkpoints").glob("*.pt"))[-1]
    assert translated(trained, tmp_path / "in", tmp_path / "one") == (0, "")
    assert translated(newest, tmp_path / "in", tmp_path / "two") == (0, "")
    assert (tmp_path / "one/000.png").read_bytes() == (tmp_path / "two/000.png").read_bytes()


def test_grey_and_many_channel_runs_translate_too(tmp_path):
    for domain, kind in (("grey", "png"), ("many", "npy")):
        folder = tmp_path / domain
        folder.mkdir()
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 5), dtype=np.uint8)
            if kind == "npy":
                np.save(folder / f"{number}.npy", pixels)
            else:
                Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    command = ["cyclegan", f"run={tmp_path / 'run'}", "data.domains=[grey,many]",
               "data.channels=[1,5]", f"data.train.grey={tmp_path / 'grey'}",
               f"data.train.many={tmp_path / 'many'}", "duration=2 steps", *TINY]  # fmt: skip
    assert call(train, *command)[0] == 2
    assert refusal(train, *command).option == "method.identity_weight"
    assert call(train, *command, "method.identity_weight=0") == (0, "")
    run = tmp_path / "run"
    assert (
        call(translate, run, tmp_path / "many", tmp_path / "out", "direction=many_to_grey")[0] == 0
    )
    translator = load_translator(run)
    assert translator["many_to_grey"](np.zeros((20, 20, 5), np.uint8)).shape == (20, 20, 1)
    assert np.load(tmp_path / "out/0.npy").shape == (20, 20, 1)
    words = (run, tmp_path / "grey/0.png", tmp_path / "x.png", "direction=grey_to_many")
    code, error = call(translate, *words)
    assert code == 2 and ".npy" in error


@pytest.mark.skipif(not HIGHRES.exists(), reason="photos that are not part of the project")
def test_a_large_photo_with_spaces_in_its_name(trained, tmp_path):
    file = HIGHRES / "Ashim DSilva.jpg"
    assert translated(trained, file, tmp_path) == (0, "")
    assert picture(tmp_path / file.name).size == picture(file).size
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_the_python_translator_reads_pictures_as_the_command_does(trained, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    keyed = Image.new("P", (16, 20), 0)
    keyed.putpalette([10, 200, 30])
    (tmp_path / "in").mkdir()
    Image.fromarray((np.arange(320, dtype=np.uint16) * 200).reshape(20, 16)).save(
        tmp_path / "in/16.png"
    )
    keyed.save(tmp_path / "in/keyed.png", transparency=0)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "in/rotated.png", exif=exif)
    assert translated(trained, tmp_path / "in", tmp_path / "out") == (0, "")
    translator = load_translator(trained, device="cpu")["a_to_b"]
    for name in ("16.png", "keyed.png", "rotated.png"):
        with Image.open(tmp_path / "in" / name) as raw:
            assert np.array_equal(
                np.array(translator(raw)), np.array(picture(tmp_path / "out" / name))
            ), name


def test_an_output_folder_inside_the_input_is_not_translated_again(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    for _ in range(2):
        assert translated(trained, tmp_path / "in", tmp_path / "in/out") == (0, "")
    assert [path.name for path in (tmp_path / "in/out").rglob("*")] == ["000.png"]


def test_two_pictures_never_share_an_output(trained, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("P", (16, 16)).save(tmp_path / "in/a.gif")
    Image.new("RGB", (16, 16)).save(tmp_path / "in/a.gif.png")
    code, error = translated(trained, tmp_path / "in", tmp_path / "out")
    assert (
        code == 1 and "1 of 2" in error and "made from another picture" in capsys.readouterr().err
    )


def test_outputs_that_cannot_be_are_answered(trained, tmp_path):
    write_images(tmp_path / "in", 1)
    (tmp_path / "in/x=y.png").write_bytes((tmp_path / "in/000.png").read_bytes())
    (tmp_path / "file").write_text("x")
    source = tmp_path / "in/000.png"
    for target in (
        tmp_path / "file/x",
        tmp_path / "file/x.png",
        tmp_path / "out.pdf",
        "/proc/x.png",
    ):
        code, error = translated(trained, source, target)
        assert code == 2 and error, (target, error)
    assert translated(trained, tmp_path / "in/x=y.png", tmp_path / "out") == (0, "")


def test_a_pattern_never_overwrites_a_picture_that_it_finds(trained, tmp_path):
    write_images(tmp_path / "p", 1)
    write_images(tmp_path / "p/sub", 1, first=0)
    before = (tmp_path / "p/sub/000.png").read_bytes()
    words = (trained, f"{tmp_path}/p/**/*.png", tmp_path / "p/sub")
    assert translated(*words)[0] == 2
    error = refusal(translate, *words, "direction=a_to_b")
    assert error.path == str(tmp_path / "p/sub/000.png")
    assert (tmp_path / "p/sub/000.png").read_bytes() == before
    assert translated(trained, f"{tmp_path}/p/*.png", tmp_path / "out") == (0, "")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["000.png"]


def test_frames_come_in_the_order_of_their_numbers():
    from inference.inputs import frame_order

    names = [Path(f"v/{n}.png") for n in (10, 2, 1, 11, 100)]
    assert [file.stem for file in sorted(names, key=frame_order)] == ["1", "2", "10", "11", "100"]


def test_standard_input_and_output(trained, tmp_path):
    import subprocess
    import sys

    write_images(tmp_path / "in", 1)
    command = [
        sys.executable,
        "translate.py",
        str(trained),
        "-",
        "-",
        "direction=a_to_b",
        "runtime.device=cpu",
    ]
    root = Path(translate.__file__).parent
    source = (tmp_path / "in/000.png").read_bytes()
    done = subprocess.run(command, input=source, capture_output=True, cwd=root, check=True)
    (tmp_path / "piped.png").write_bytes(done.stdout)
    assert translated(trained, tmp_path / "in/000.png", tmp_path / "named.png") == (0, "")
    assert np.array_equal(
        np.array(picture(tmp_path / "piped.png")), np.array(picture(tmp_path / "named.png"))
    )
    code, error = translated(trained, "in/000.png", "-")
    assert code == 2 and "OUTPUT - goes with INPUT -" in error
    assert translated(trained, "-", tmp_path)[0] == 2
    assert refusal(translate, trained, "-", tmp_path, "direction=a_to_b").path == str(tmp_path)


def test_neighbours_of_one_size_are_translated_in_batches_with_the_same_results(
    trained, tmp_path, monkeypatch
):
    write_images(tmp_path / "in", 5, size=(24, 20))
    write_images(tmp_path / "in", 2, size=(28, 20), first=5)
    (tmp_path / "in/003b.png").write_bytes(b"broken")
    batches = []
    images = PictureTranslator.images

    def counting(self, pictures):
        batches.append(len(pictures))
        return images(self, pictures)

    monkeypatch.setattr(PictureTranslator, "images", counting)
    code, _ = call(translate, trained, tmp_path / "in", tmp_path / "out", "direction=a_to_b")
    assert code == 1 and batches == [4, 1, 2]  # the broken file is after the fourth
    translator = open_run(trained).translators["a_to_b"]
    one_by_one = PictureTranslator(translator, Runtime(RuntimeConfig()))
    for file in sorted((tmp_path / "out").iterdir()):
        expected = np.asarray(one_by_one(picture(tmp_path / "in" / file.name))).astype(int)
        assert abs(np.asarray(picture(file)) - expected).max() <= 1  # a difference in rounding


def test_a_batch_that_does_not_fit_is_translated_one_by_one(trained, tmp_path, monkeypatch):
    write_images(tmp_path / "in", 3, size=(24, 20))
    images = PictureTranslator.images

    def small(self, pictures):
        if len(pictures) > 1:
            raise MemoryError
        return images(self, pictures)

    monkeypatch.setattr(PictureTranslator, "images", small)
    answer = call(translate, trained, tmp_path / "in", tmp_path / "out", "direction=a_to_b")
    assert answer == (0, "") and len(list((tmp_path / "out").iterdir())) == 3


def test_a_pattern_that_the_shell_has_replaced_is_named(trained, photos):
    files = sorted((photos / "testA").iterdir())
    error = refusal(translate, trained, *files, "out", "direction=a_to_b")
    assert "quote a pattern" in str(error)


def test_a_format_that_cannot_hold_a_translation_is_told_with_the_file_that_was_written(
    trained, photos, tmp_path, capsys
):
    out = tmp_path / "out.gif"
    file = next((photos / "testA").iterdir())
    assert call(translate, trained, file, out, "direction=a_to_b") == (0, "")
    printed = capsys.readouterr().out
    assert (
        f"translated 1 picture (a_to_b) into {out}.png" in printed and ".gif cannot hold" in printed
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out.gif.png"]
