"""Validation metrics in training: distances of the translators' images to real ones."""

import torch

from engine.validation import DISTANCES, validation_scores


def test_a_score_is_the_mean_distance_over_both_directions():
    torch.manual_seed(0)
    a, b = [*torch.rand(4, 3, 32, 32).split(1)], [*torch.rand(3, 3, 32, 32).neg().split(1)]
    rows = {"a_to_b": [[x, x - 0.5] for x in a], "b_to_a": [[x, x] for x in b]}
    found = validation_scores(rows, {"a_to_b": b, "b_to_a": a}, ["color", "swd"])
    for name in ("color", "swd"):
        there, back = DISTANCES[name]([x - 0.5 for x in a], b), DISTANCES[name](b, a)
        assert found[name] == (there + back) / 2 > 0
    assert list(found) == ["color", "swd"]
