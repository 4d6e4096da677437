"""Gatys: statistics instead of trained networks, and images that are optimised one by one."""

import json
from dataclasses import replace

import pytest
import torch

import export
import train
import translate
from models.methods.gatys import CONTENT, Gatys, OptimizingTranslator, style_loss
from options.load import train_options
from tests.conftest import call, refusal, shrink, write_images


def build(**changes) -> Gatys:
    config = shrink("gatys")
    assert isinstance(config, Gatys.Config)
    return Gatys(replace(config, **changes), {"a": 3, "b": 3})


def translator_of(method: Gatys) -> OptimizingTranslator:
    translator = method.translators()["a_to_b"]
    assert isinstance(translator, OptimizingTranslator)
    return translator


def trained(**changes) -> Gatys:
    method = build(**changes)
    torch.manual_seed(5)
    for _ in method.updates({domain: torch.rand(1, 3, 32, 32) * 2 - 1 for domain in "ab"}, 0):
        pass
    return method


def smooth(seed=0):
    torch.manual_seed(seed)
    return torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4) * 2 - 1, size=32, mode="bilinear")


def test_there_are_no_groups_and_one_image_has_distance_zero_from_its_own_mean():
    method, image = build(), torch.rand(1, 3, 16, 16)
    (update,) = method.updates({"a": image, "b": image}, 0)
    assert update.groups == () and method.optimizer_groups() == {}
    assert update.total().item() == 0.0
    (update,) = method.updates({"a": image, "b": torch.rand(1, 3, 16, 16)}, 1)
    assert update.total().item() > 0


def test_the_state_is_one_gram_matrix_per_layer_without_vgg():
    assert {name: tuple(x.shape) for name, x in build().state_dict().items()} == {
        "grams.seen": (), "grams.relu1_1": (4, 4), "grams.relu2_1": (8, 8),
        "grams.relu3_1": (16, 16), "grams.relu4_1": (32, 32), "grams.relu5_1": (32, 32),
    }  # fmt: skip


def test_optimising_approaches_the_style_and_stays_nearer_than_another_image_in_content():
    method, image = trained(steps=30, style_weight=1000.0), smooth()
    with torch.no_grad():  # like every caller
        result = translator_of(method)(image)
        before, after, other = (method.vgg(x) for x in (image, result, smooth(1)))
        grams = method.grams.means()
        assert style_loss(after, grams) < 0.5 * style_loss(before, grams)
        distances = [(x[CONTENT] - before[CONTENT]).square().mean() for x in (after, other)]
    assert distances[0] < distances[1]
    assert result.abs().max() <= 1 and not result.requires_grad


def test_the_content_loss_alone_returns_the_image():
    image = smooth()
    assert torch.allclose(translator_of(trained(style_weight=0.0))(image), image, atol=1e-6)


def test_results_are_reproducible_and_do_not_depend_on_the_rest_of_the_batch():
    translator, images = translator_of(trained()), torch.cat([smooth(0), smooth(1)])
    both = translator(images)
    assert both[:1].equal(translator(images[:1])) and both.equal(translator(images))
    with torch.inference_mode():
        assert translator(images).equal(both)


def test_autocast_of_the_caller_changes_nothing():
    translator, image = translator_of(trained()), smooth()
    with torch.autocast("cpu", torch.bfloat16):
        result = translator(image)
    assert result.equal(translator(image)) and result.dtype == torch.float32


def test_the_preset_trains_one_epoch_without_validation():
    options = train_options(["gatys", "data.root=x"])
    assert options is not None and isinstance(options.method, Gatys.Config)
    assert (options.duration, options.validation_images, options.method.vgg.pooling) == (
        "1 epochs",
        0,
        "average",
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"steps": 0}, "method.steps must be at least 1"),
     ({"style_weight": -1}, "method.style_weight must be 0 or more")],
)  # fmt: skip
def test_invalid_options_are_named(changes, line):
    with pytest.raises(ValueError, match=line):
        Gatys.Config(**changes)


def test_a_run_on_one_style_image_finishes_translates_and_is_not_exported(photos, tmp_path, capsys):
    run = tmp_path / "run"
    write_images(tmp_path / "style", 1)
    words = [
        "gatys", f"data.train.a={photos / 'trainA'}", f"data.train.b={tmp_path / 'style'}",
        f"run={run}", "data.load_size=20", "data.crop_size=16", "data.workers=0",
        "log.wandb=disabled", "log.every=1", "runtime.device=cpu", "duration=3 steps",
        "ema_half_life=4", "microbatches=1", "method.vgg.weights=random",
        "method.vgg.channels=4", "method.steps=2",
    ]  # fmt: skip
    assert call(train, *words) == (0, "")
    assert "note: method.vgg.weights=random" in capsys.readouterr().out
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3] and all("style" in row for row in rows)
    assert call(train, *words) == (0, "") and "is finished" in capsys.readouterr().out
    write_images(tmp_path / "in", 1, (17, 23))
    assert call(translate, run, tmp_path / "in", tmp_path / "out") == (0, "")
    error = refusal(export, run, f"out={tmp_path / 'bundle'}")
    assert error.option == "method.name" and not (tmp_path / "bundle").exists()
    again = [word for word in words if not word.startswith("run=")]
    error = refusal(train, *again, f"run={tmp_path / 'again'}", f"init_from={run}")
    assert error.option == "init_from" and "no networks" in str(error)
