"""Validation metrics in training: distances of the translators' images to real ones."""

import json
import math

import torch

import train
from engine.checkpoint import Checkpoints
from engine.validation import DISTANCES, logged_name, validation_scores
from tests.conftest import TINY, call


def test_a_score_is_the_mean_distance_over_both_directions():
    torch.manual_seed(0)
    a, b = [*torch.rand(4, 3, 32, 32).split(1)], [*torch.rand(3, 3, 32, 32).neg().split(1)]
    rows = {"a_to_b": [[x, x - 0.5] for x in a], "b_to_a": [[x, x] for x in b]}
    found = validation_scores(rows, {"a_to_b": b, "b_to_a": a}, ["color", "swd"])
    for name in ("color", "swd"):
        there, back = DISTANCES[name]([x - 0.5 for x in a], b), DISTANCES[name](b, a)
        assert found[name] == (there + back) / 2 > 0
    assert list(found) == ["color", "swd"]


def test_images_that_are_not_finite_have_no_score():
    sound = [*torch.rand(3, 3, 32, 32).split(1)]
    rows = {"a_to_b": [[x, x * math.nan] for x in sound]}
    assert math.isnan(validation_scores(rows, {"a_to_b": sound}, ["swd"])["swd"])


def test_a_run_that_began_with_another_definition_logs_and_ranks_the_new_scores_alone(
    trained, photos, tmp_path
):
    run = tmp_path / "run"
    words = ["cyclegan", f"data.root={photos}", f"run={run}", "duration=8 steps", "checkpoint_every=2",
             "log.every=2", *TINY]  # fmt: skip
    assert call(train, *words) == (0, "")
    # Back to step 4, as an earlier version would have left it: scores a thousandth as large.
    folder = run / "checkpoints"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["score_definition"] for entry in manifest["files"].values()} == {2}
    state = Checkpoints(folder).load_latest()
    for file in folder.glob("*.pt"):
        file.unlink()
    (folder / "manifest.json").unlink()
    state.pop("score_definition")
    Checkpoints(folder).save({**state, "step": 4}, 4, score=0.001)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["step_00000004.pt"].pop("score_definition")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert call(train, *words) == (0, "")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = [{name for name in row if name.startswith("score/")} for row in rows if row["step"] > 4]
    assert set().union(*names) == {"score/swd_x1000"}
    best = json.loads((folder / "manifest.json").read_text())["best"]
    assert best != "step_00000004.pt"  # 0.001 is no better than what is measured in another way
    assert logged_name("swd", 2) == "swd" and logged_name("color", 1) == "color"
