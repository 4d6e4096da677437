"""Scores while learning: distances of what the translators make, from real images."""

import torch
from torch import nn

from engine.runtime import Runtime, RuntimeConfig
from engine.scoring import DISTANCES, scores_of
from models.translator import Translator


class Plus(Translator):
    """Adds a constant."""

    def __init__(self, source: str, target: str, amount: float) -> None:
        super().__init__(source, target, 3, 3)
        self.amount = amount

    def forward(self, image, style=None):
        return image + self.amount


def test_a_score_is_the_mean_distance_over_both_directions():
    torch.manual_seed(0)
    images = {
        "a": [*torch.rand(4, 3, 32, 32).split(1)],
        "b": [*torch.rand(3, 3, 32, 32).neg().split(1)],
    }
    ways = nn.ModuleDict({"a_to_b": Plus("a", "b", 0.5), "b_to_a": Plus("b", "a", 0.0)})
    found = scores_of(ways, images, ["colour", "swd"], Runtime(RuntimeConfig(device="cpu")))
    for name in ("colour", "swd"):
        there = DISTANCES[name]([x + 0.5 for x in images["a"]], images["b"])
        back = DISTANCES[name](images["b"], images["a"])
        assert found[name] == (there + back) / 2 > 0
    assert list(found) == ["colour", "swd"]


def test_without_images_there_is_no_score():
    ways = nn.ModuleDict({"a_to_b": Plus("a", "b", 0.5)})
    assert scores_of(ways, {"a": [], "b": []}, ["swd"], Runtime(RuntimeConfig(device="cpu"))) == {}
