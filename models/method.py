"""The contract between a method and whatever trains it."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.gan_loss import Adversary
from models.image_pool import FeatureQueue, ImageHistory

Batch = dict[str, Tensor]
"""Domain name -> images [B, C, H, W] in [-1, 1]. Row i of two domains have nothing to do with each other."""


class Turn:
    """One move of the game: the sum of `losses` is minimised over the parameters of `players`.

    `losses` maps a term's name, which is also its name in every log, to a scalar. Weights are
    already in it: what is logged is what is minimised. Without players the losses are only logged.
    """

    def __init__(self, *players: str, losses: Mapping[str, Tensor]) -> None:
        self.players = players
        self.losses = dict(losses)

    def total(self) -> Tensor:
        """Return the sum of the terms, a float32 scalar."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


class Method(nn.Module):
    """A method of unpaired translation: its networks, and the turns in which they learn.

    Subclasses live one to a file in `models/methods/`; the file's name is the method's name. They
    hold their own `Config`, take the channel count of every domain, and keep three promises:
    `players`, `turns` and `translators`. See docs/adding_a_method.md.
    """

    shared = True  # whether several processes may train it: they average weights and statistics

    @dataclass(frozen=True)
    class Config:
        name: str = "???"  # which method: a file in models/methods/

        def notes(self) -> list[str]:
            """Return what every reader of a result must know, a line each; most have nothing to say."""
            return []

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        """Build the networks for the domains `channels` (name -> channel count, in order)."""
        super().__init__()
        self.channels = dict(channels)

    def players(self) -> dict[str, nn.Module]:
        """Return the networks that move together, by name: disjoint, together every parameter.

        None where nothing is learnt by gradients: then turns only keep statistics and report losses.
        """
        raise NotImplementedError

    def turns(self, batch: Batch, step: int) -> Iterator[Turn]:
        """Yield each turn of step number `step` (from 0) in the order of play.

        At a `yield` the caller updates the players; the code after it sees the new weights. All
        randomness comes from torch's global generator, which is seeded anew for every step.
        """
        raise NotImplementedError

    def variant(self, step: int) -> Hashable:
        """Return what tells apart steps that compute different things; most methods have one kind."""
        return None

    def decide(self, count: int, step: int) -> None:
        """Draw on the CPU what step number `step` on `count` images of a domain is told when replayed.

        A recorded step (hardware/cuda_graphs.py) runs no Python: what differs from step to step must lie in
        tensors beforehand. The histories of past images are such; a method adds its own.
        """
        device = next(self.parameters()).device
        for part in self.modules():
            if isinstance(part, ImageHistory | FeatureQueue):
                part.decide(count)
            elif isinstance(part, Adversary):
                part.decide(step, device)

    def lazy(self) -> dict[str, tuple[str, int]]:
        """Return player -> the option by which one of its terms is there only every so many steps.

        Such a term is as many times as strong (Karras et al. 2020). The penalty of discriminators,
        whose players are named so, is one; a method adds its own.
        """
        periods = [part.penalty_period for part in self.modules() if isinstance(part, Adversary)]
        return {
            name: ("penalty_every", max(periods, default=1))
            for name in self.players()
            if name.startswith("discriminator")
        }

    def translators(self) -> nn.ModuleDict:
        """Return what a run is for: "a_to_b" -> Translator, for every direction it learns."""
        raise NotImplementedError

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError with a one-line reason where training crops of this size cannot work."""


def networks_of(player: nn.Module) -> list[nn.Module]:
    """Return the networks a player consists of: itself, or the members of its list."""
    return list(player) if isinstance(player, nn.ModuleList) else [player]
