"""Johnson: losses worked out by hand, the target style, and runs that open without VGG weights."""

import json
from dataclasses import replace

import pytest
import torch
import torch.hub

import export
import test as test_command
import train
import translate
from data.scenes import generate
from models.losses.style import gram
from models.methods.johnson import STYLE, Johnson
from options.load import train_options
from tests.conftest import TINY, call, refusal, shrink, write_images


def build(**changes) -> Johnson:
    config = shrink("johnson")
    assert isinstance(config, Johnson.Config)
    return Johnson(replace(config, **changes), {"a": 3, "b": 3})


def batch(count=2):
    return {domain: torch.rand(count, 3, 16, 16) * 2 - 1 for domain in "ab"}


def losses(method, images):
    (update,) = method.updates(images, 0)
    assert update.groups == ("generator",)
    return {name: loss.item() for name, loss in update.losses.items()}


def test_a_generator_that_copies_has_no_content_loss_and_the_style_of_its_input():
    method = build(style="batch", style_weight=2.0, variation_weight=0.0)
    method.generator_ab = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    images = batch()
    images["a"].requires_grad_()
    copied = losses(method, images)
    features = [method.vgg(images[domain].detach()) for domain in "ab"]
    expected = sum((gram(features[0][x]) - gram(features[1][x])).square().mean() for x in STYLE)
    assert copied == {"content": 0.0, "style": pytest.approx(2 * float(expected), rel=1e-5),
                     "variation": 0.0}  # fmt: skip


def test_the_style_is_the_domains_mean_or_the_images_own():
    images = batch(1)
    domain, own = build(), build(style="batch")
    features = own.vgg(images["b"])
    assert own.target_grams(images["b"])["relu2_2"].equal(gram(features["relu2_2"]))
    first = domain.target_grams(images["b"])["relu2_2"]
    assert torch.allclose(first, gram(features["relu2_2"]))
    second = domain.target_grams(batch(1)["b"])["relu2_2"]
    assert not torch.allclose(first, second) and domain.grams.seen.item() == 2
    assert own.grams.seen.item() == 0


def test_vgg_is_not_trained_and_not_in_checkpoints():
    method = build()
    assert all(name.startswith(("generator_ab.", "grams.")) for name in method.state_dict())
    assert {name.partition(".")[0] for name, _ in method.named_parameters()} == {"generator_ab"}


def test_the_preset_has_the_published_settings():
    options = train_options(["johnson", "data.root=x"])
    assert options is not None and isinstance(options.method, Johnson.Config)
    assert (options.duration, options.batch_size, options.learning_rate) == (
        "40000 steps",
        4,
        0.001,
    )
    assert (options.method.vgg.kind, options.method.generator.blocks) == ("vgg16", 5)


def test_missing_weights_are_reported_before_images_are_read(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    error = refusal(train, "johnson", f"data.root={photos}", f"run={tmp_path / 'run'}")
    assert error.option == "method.vgg.weights" and "vgg16-397923af.pth" in str(error)


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"style_weight": -1}, "method.style_weight must be 0 or more"),
     ({"content_weight": -1}, "method.content_weight must be 0 or more")],
)  # fmt: skip
def test_invalid_options_are_named(changes, line):
    with pytest.raises(ValueError, match=line):
        Johnson.Config(**changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two tiny steps on scenes with ground truth in both directions."""
    folder = tmp_path_factory.mktemp("johnson")
    generate("season", folder / "season", train=4, test=5, size=16)
    words = [word for word in TINY if "discriminator" not in word]
    words += [
        "method.vgg.weights=random",
        "method.vgg.channels=4",
        "duration=2 steps",
        "batch_size=1",
    ]
    result = call(
        train, "johnson", f"data.root={folder / 'season'}", f"run={folder / 'run'}", *words
    )
    assert result == (0, "")
    return folder / "run"


def test_a_trained_run_translates_without_vgg_weights_and_notes_how_it_was_trained(
    run, tmp_path, monkeypatch, capsys
):
    def never(self):
        raise AssertionError("translating does not need VGG")

    monkeypatch.setattr("models.networks.vgg.Vgg.load", never)
    write_images(tmp_path / "in", 1, (17, 23))
    assert call(translate, run, tmp_path / "in", tmp_path / "out") == (0, "")
    assert "note: method.vgg.weights=random" in capsys.readouterr().err


def test_an_export_and_its_model_card_note_it_too(run, tmp_path, capsys):
    pytest.importorskip("safetensors")
    assert call(export, run, f"out={tmp_path}", "formats=[safetensors]") == (0, "")
    assert "note: method.vgg.weights=random" in capsys.readouterr().err
    assert "- method.vgg.weights=random: " in (tmp_path / "a_to_b/README.md").read_text()


def test_one_direction_is_evaluated_with_ground_truth_for_both(run, capsys):
    assert call(test_command, run) == (0, "")
    metrics = json.loads((run / "test/metrics.json").read_text())
    assert list(metrics["directions"]) == ["a_to_b"] and metrics["protocols"]["a_to_b"]["truth"]
    assert metrics["notes"] and metrics["notes"][0] in capsys.readouterr().out
    assert "method.vgg.weights=random: " in (run / "test/report.html").read_text()
