"""Every held-out image is translated in both directions, and metrics agree with ones by hand."""

import json
import math
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import test as test_command
import train
from data.samples import load_held_out
from data.scenes import generate
from evaluation.evaluate import DEFINITIONS, evaluate
from evaluation.held_out.translate import HeldOutTranslator
from evaluation.metrics_table import metrics_table
from inference.open_run import open_run
from metrics.set_distances.color_and_spectrum import color_distance, spectrum_distance
from metrics.set_distances.sliced_wasserstein import sliced_wasserstein
from tests.conftest import TINY, call, picture, refusal, write_images


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """A run on generated scenes, whose held-out images have a true translation."""
    folder = tmp_path_factory.mktemp("paired")
    generate("season", folder / "season", train=4, test=5, size=16)
    run = folder / "run"
    code = call(
        train, "cyclegan", f"data.root={folder / 'season'}", f"run={run}", "duration=2 steps", *TINY
    )
    assert code == (0, "")
    return run


def test_every_held_out_image_is_translated_under_its_own_name(trained, photos):
    assert call(test_command, trained) == (0, "")
    for direction, source in (("a_to_b", "testA"), ("b_to_a", "testB")):
        made = sorted(path.name for path in (trained / "test" / direction).iterdir())
        assert made == sorted(path.name for path in (photos / source).iterdir())
    metrics = json.loads((trained / "test/metrics.json").read_text())
    assert metrics["directions"]["a_to_b"]["images"] == 3
    assert metrics["directions"]["b_to_a"]["images"] == 2
    assert "truth_psnr" not in metrics["directions"]["a_to_b"]
    assert metrics["protocol"]["weights"] == "ema" and metrics["protocol"]["step"] == 8
    assert metrics["protocol"]["definitions"] == DEFINITIONS


def test_the_metrics_are_those_of_the_pictures_that_were_written(paired, capsys):
    assert call(test_command, paired) == (0, "")
    out = capsys.readouterr().out
    assert "PSNR to truth" in out and "a_to_b" in out
    metrics = json.loads((paired / "test/metrics.json").read_text())
    for direction, target in (("a_to_b", "testB"), ("b_to_a", "testA")):
        squared, copied = [], []
        for file in sorted((paired / "test" / direction).iterdir()):
            fake = np.asarray(picture(file), dtype=float)
            truth = np.asarray(picture(paired.parent / "season" / target / file.name), dtype=float)
            source = {"testA": "testB", "testB": "testA"}[target]
            real = np.asarray(picture(paired.parent / "season" / source / file.name), dtype=float)
            squared.append(((fake - truth) ** 2).mean())
            copied.append(((real - truth) ** 2).mean())
        measured = metrics["directions"][direction]
        assert measured["truth_psnr"] == pytest.approx(
            10 * np.log10(255**2 / np.mean(squared)), abs=1e-4
        )
        assert measured["copy_psnr"] == pytest.approx(
            10 * np.log10(255**2 / np.mean(copied)), abs=1e-4
        )
        assert -1 <= measured["truth_ssim"] <= 1 and measured["cycle_l1"] > 0


def test_identity_translators_have_a_perfect_cycle_and_the_score_of_the_copy(paired):
    run = open_run(paired)
    for translator in run.translators.values():
        translator.forward = lambda image, style=None: image
    result = evaluate(run, run.options.data, report_images=0)
    for metrics in result.metrics().values():
        assert metrics["cycle_l1"] == 0 and metrics["cycle_psnr"] is None
        assert metrics["truth_psnr"] == metrics["copy_psnr"]
        assert metrics["truth_ssim"] == metrics["copy_ssim"]
    assert [len(each.shown) for each in result.directions.values()] == [5, 5]
    assert "-" in metrics_table(result)


def test_the_ema_is_evaluated_unless_the_raw_weights_are_requested(trained):
    ema, raw = open_run(trained), open_run(trained, use_ema=False)
    image = torch.rand(1, 3, 16, 16)
    assert (ema.weights, raw.weights) == ("ema", "raw")
    assert not torch.equal(ema.translators["a_to_b"](image), raw.translators["a_to_b"](image))


def test_test_equals_preview_bit_for_bit(trained, photos):
    run = open_run(trained)
    data = replace(run.options.data, root=str(photos))
    (image, *_) = load_held_out(sorted((photos / "trainA").iterdir()), data, data.formats()["a"])
    fake = run.translators["a_to_b"](image)
    grid = np.asarray(picture(trained / "previews/step_00000008_a_to_b.png"))
    shown = grid[
        20 : 20 + 96 : 6, 4 + 96 + 4 : 4 + 96 + 4 + 96 : 6
    ]  # 16 pixels, drawn 6 times as large
    assert np.array_equal(shown, ((fake[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_the_report_is_one_file_and_shows_the_requested_number_of_images(paired, count):
    assert call(test_command, paired, f"report_images={count}") == (0, "")
    page = (paired / "test/report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    captions = r"<article><details>.*?</details>"
    shown = re.sub(captions, "<article>", page, flags=re.DOTALL)
    shown = re.sub(r"<details>.*?</details>", "", shown, flags=re.DOTALL)  # without the worst
    assert shown.count("<article>") == 2 * (min(count, 5) or 5)
    assert "PSNR to the truth" in page and "<polyline" in page


def test_other_images_can_be_evaluated(trained, photos, tmp_path):
    assert call(test_command, trained, f"data.test.a={photos / 'trainA'}", "data.limit=2")[0] == 0
    metrics = json.loads((trained / "test/metrics.json").read_text())
    assert metrics["directions"]["a_to_b"]["images"] == 2


@pytest.mark.parametrize(
    ("words", "option", "path"),
    [
        (["{tmp}/x"], "", "{tmp}/x"),
        (["{tmp}"], "", "{tmp}"),
        (["{run}", "data.test.c=x"], "data.test.c", ""),
        (["{run}", "data.root=/nowhere"], "data.root", ""),
        (["{run}", "data.pairs=both"], "data.pairs", ""),
        (["{run}", "checkpoint=first"], "checkpoint", ""),
        (["{run}", "data.domains=[x,y]"], "data.domains", "{run}"),
        (["{run}", "data.channels=1"], "data.domains", "{run}"),
        (["{run}", "report_images=-1"], "report_images", ""),
    ],
)
def test_mistakes_name_the_option_or_the_path(trained, tmp_path, words, option, path):
    known = {"tmp": tmp_path, "run": trained}
    error = refusal(test_command, *(word.format(**known) for word in words))
    assert error.option == option, error
    assert not path or error.path == path.format(**known), error


@pytest.mark.parametrize(("words", "part"), [([], "python test.py"), (["{run}", "stray"], "stray")])
def test_one_run_must_be_named(trained, words, part):
    assert part in str(refusal(test_command, *(word.format(run=trained) for word in words)))


def test_the_protocol_names_the_evaluated_data_and_old_pictures_are_removed(trained, photos):
    assert call(test_command, trained)[0] == 0
    assert call(test_command, trained, f"data.test.a={photos / 'trainA'}", "data.limit=1")[0] == 0
    metrics = json.loads((trained / "test/metrics.json").read_text())
    assert (
        metrics["data"]["test"] == {"a": str(photos / "trainA")} and metrics["data"]["limit"] == 1
    )
    assert [path.name for path in (trained / "test/a_to_b").iterdir()] == ["000.png"]


def test_a_torn_metrics_file_and_strange_names_do_not_spoil_the_report(trained, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "cyc')
    (tmp_path / "odd").mkdir()
    shutil.copy(
        next((trained / "test/a_to_b").iterdir()), os.fsencode(tmp_path / "odd") + b"/caf\xe9.png"
    )
    assert call(test_command, run, f"data.test.a={tmp_path / 'odd'}") == (0, "")
    assert "caf" in (run / "test/report.html").read_text()


def test_a_true_translation_of_another_size_is_refused(trained, tmp_path):
    from tests.conftest import write_images

    write_images(tmp_path / "a", 1, size=(48, 24))
    write_images(tmp_path / "b", 1, size=(24, 48))
    words = [f"data.test.{d}={tmp_path / d}" for d in "ab"]
    error = refusal(test_command, trained, *words, "data.fit=short_side", "data.pairs=both")
    assert (error.option, error.path) == ("data.fit", str(tmp_path / "a/000.png"))


def test_a_file_that_cannot_be_read_is_named_counted_and_passed_over(photos, tmp_path, capsys):
    data = tmp_path / "photos"
    shutil.copytree(photos, data)
    words = ["cyclegan", f"data.root={data}", f"run={tmp_path / 'run'}", *TINY, "duration=1 steps"]
    assert call(train, *words) == (0, "")
    files = sorted((data / "testA").iterdir())
    files[0].write_bytes(b"not a picture")
    code, error = call(
        test_command, tmp_path / "run", "wandb=disabled", "runtime.device=cpu", "checks=false"
    )
    assert code == 1 and "1 image could not be evaluated" in error
    printed = capsys.readouterr().err
    assert printed.count("skipped:") == 1 and files[0].name in printed
    metrics = json.loads((tmp_path / "run/test/metrics.json").read_text())
    assert metrics["protocols"]["a_to_b"]["images"]["a"] == len(files) - 1
    assert set(metrics["skipped"]) == {str(files[0])}


def test_a_translation_that_is_not_finite_is_named_and_passed_over(paired, capsys):
    run = open_run(paired)
    forward, calls = run.translators["a_to_b"].forward, []

    def broken(image, style=None):
        calls.append(image)
        return forward(image) * (float("nan") if len(calls) == 2 else 1.0)

    run.translators["a_to_b"].forward = broken
    result = evaluate(run, run.options.data, report_images=0)
    assert [reason.rpartition(": ")[2] for reason in result.skipped.values()] == [
        "its translation has NaN or infinite values"
    ]
    assert result.metrics()["a_to_b"]["images"] == 4
    assert "skipped:" in capsys.readouterr().err
    assert all(
        math.isfinite(value) for value in result.metrics()["a_to_b"].values() if value is not None
    )


def test_fakes_are_measured_as_they_are_written_also_where_the_input_is_a_jpeg(paired, tmp_path):
    for letter in "AB":
        (tmp_path / f"test{letter}").mkdir()
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((40, 32), 2)
            image.save(tmp_path / f"test{letter}" / f"{number}.jpg")
        image.save(tmp_path / f"test{letter}" / "0.png")
    words = [f"data.root={tmp_path}", "data.pairs=none", "wandb=disabled"]
    assert call(test_command, paired, *words) == (0, "")
    folder = paired / "test" / "a_to_b"
    names = ["0.jpg.png", "0.png.png", *(f"{number}.png" for number in range(1, 6))]
    assert sorted(path.name for path in folder.iterdir()) == names
    metrics = json.loads((paired / "test/metrics.json").read_text())["directions"]["a_to_b"]
    data = open_run(paired).options.data
    data = replace(data, root=str(tmp_path))
    sets = [
        list(load_held_out(files, data, data.formats()["b"]))
        for files in ([folder / name for name in names], sorted((tmp_path / "testB").iterdir()))
    ]
    assert metrics["swd"] == pytest.approx(sliced_wasserstein(*sets), rel=1e-6)
    assert metrics["color"] == pytest.approx(color_distance(*sets), rel=1e-6)
    assert metrics["spectrum"] == pytest.approx(spectrum_distance(*sets), rel=1e-6)


def test_a_direction_without_reference_images_is_compared_with_training_images(
    trained, photos, tmp_path, capsys
):
    run = shutil.copytree(trained, tmp_path / "run")
    data = tmp_path / "photos"
    data.mkdir()
    for name in ("trainA", "trainB", "testA"):
        (data / name).symlink_to(photos / name)
    assert call(test_command, run, f"data.root={data}", "wandb=disabled") == (0, "")
    content = json.loads((run / "test/metrics.json").read_text())
    assert list(content["directions"]) == ["a_to_b"]
    stamp = content["protocols"]["a_to_b"]
    assert stamp["reference"] == "training images of the target domain: none of them is held out"
    assert stamp["images"] == {"a": 3, "b": 5}
    assert content["directions"]["a_to_b"]["swd"] > 0 and content["floor"]["a_to_b"] == {}
    error = refusal(test_command, run, f"data.root={data}", "direction=b_to_a")
    assert error.option == "data.test.b" and "no held-out images of b" in str(error)


def test_one_direction_can_be_chosen(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "test", ignore_errors=True)
    assert call(test_command, run, "direction=b_to_a", "wandb=disabled") == (0, "")
    assert {path.name for path in (run / "test").iterdir() if path.is_dir()} == {"b_to_a"}
    error = refusal(test_command, run, "direction=b2a")
    assert error.option == "direction" and "a_to_b and b_to_a" in str(error)


def test_images_pass_through_and_only_those_of_the_report_stay(paired, monkeypatch):
    kept = []
    real = HeldOutTranslator.translate

    def watched(self, *arguments):
        kept.append(real(self, *arguments))
        return kept[-1]

    monkeypatch.setattr(HeldOutTranslator, "translate", watched)
    run = open_run(paired)
    evaluate(run, run.options.data, report_images=1)
    for done in kept:
        assert len(done.files) == 5 and len(done.shown) == 1
        assert all(len(images) <= 3 for images in done.worst.by_metric().values())


def test_the_validation_images_are_evaluated_where_no_test_images_are_named(tmp_path, capsys):
    for number, name in enumerate(("trainA", "trainB")):
        write_images(tmp_path / name, 20, first=40 * number)
    run = tmp_path / "run"
    words = ["cyclegan", f"data.root={tmp_path}", f"run={run}", "duration=2 steps", *TINY,
             "data.validation=0.1"]  # fmt: skip
    assert call(train, *words) == (0, "")
    data = json.loads((run / "data.json").read_text())["images"]
    write_images(tmp_path / "trainA", 20, first=200)  # later images change what a tenth is
    capsys.readouterr()
    assert call(test_command, run, "checkpoint=best", "checks=false", "wandb=disabled") == (0, "")
    out = capsys.readouterr().out
    assert "these images also chose the checkpoint" in out
    content = json.loads((run / "test" / "metrics.json").read_text())
    assert content["protocol"]["held_out"] == "data.validation=0.1 of the training images"
    seen = {path.name for path in (run / "test" / "a_to_b").iterdir()}
    assert seen <= data["validation"]["a"].keys() and not seen & data["train"]["a"].keys()


def test_an_evaluation_takes_the_threads_and_the_precision_of_the_run(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    text = (run / "options.yaml").read_text()
    (run / "options.yaml").write_text(text.replace("precision: auto", "precision: bf16"))
    for words, precision in (([], "bf16"), (["runtime.precision=fp32"], "fp32")):
        assert call(test_command, run, "wandb=disabled", "checks=false", *words) == (0, "")
        content = json.loads((run / "test/metrics.json").read_text())
        assert content["protocol"]["precision"] == precision


def test_the_split_can_be_chosen(trained, tmp_path):
    for number, name in enumerate(("trainA", "trainB", "testA", "testB")):
        write_images(tmp_path / name, 20 if number < 2 else 3, first=40 * number)
    run = tmp_path / "run"
    words = ["cyclegan", f"data.root={tmp_path}", f"run={run}", "duration=2 steps", *TINY]
    assert call(train, *words, "data.validation=0.1") == (0, "")
    for split, count in (("auto", 3), ("test", 3), ("validation", 2)):
        assert call(test_command, run, f"split={split}", "checks=false", "wandb=disabled") == (
            0,
            "",
        )
        content = json.loads((run / "test" / "metrics.json").read_text())
        assert content["directions"]["a_to_b"]["images"] == count
        assert ("held_out" in content["protocol"]) == (split == "validation")
    error = refusal(test_command, trained, "split=validation")
    assert error.option == "split" and "python translate.py" in str(error)
    shutil.rmtree(tmp_path / "testA")
    shutil.rmtree(tmp_path / "testB")
    assert refusal(test_command, run, "split=test").option == "data.root"
