"""The contract between a method and whatever trains it."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.gan_loss import GANLoss
from models.image_pool import FeatureQueue, ImagePool

Batch = dict[str, Tensor]
"""Domain name -> images [B, C, H, W] in [-1, 1]. Rows of two domains are unrelated."""


class Update:
    """One optimization step: the sum of `losses` is minimised over the parameters of some groups.

    `losses` maps a term's name, which is also its name in every log, to a scalar. Weights are
    already in it: what is logged is what is minimised. Without groups the losses are only logged.
    """

    def __init__(self, *groups: str, losses: Mapping[str, Tensor]) -> None:
        self.groups = groups
        self.losses = dict(losses)

    def total(self) -> Tensor:
        """Return the sum of the terms, a float32 scalar."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


class Method(nn.Module):
    """A method of unpaired translation: its networks, and the updates in which they learn.

    Subclasses live one to a file in `models/methods/`; the file's name is the method's name. They
    define their own `Config`, take the channel count of every domain, and implement
    `optimizer_groups`, `updates` and `translators`. See docs/adding_a_method.md.
    """

    supports_distributed = True  # several processes may train it and average gradients
    discriminator_groups: tuple[str, ...] = ("discriminator", "discriminators")  # where present

    @dataclass(frozen=True)
    class Config:
        name: str = "???"  # which method: a file in models/methods/

        def notes(self) -> list[str]:
            """Return what a reader of the results must know, one line each; most methods have none."""
            return []

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        """Take the domains `channels` (name -> channel count, in order); a subclass keeps `config`."""
        super().__init__()
        self.channels = dict(channels)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        """Return the modules that share an optimizer, by name: disjoint, together every parameter.

        An empty dict means that nothing is learnt by gradients: updates then only collect statistics
        and report losses.
        """
        raise NotImplementedError

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the updates of step number `step` (from 0) in their order.

        At a `yield` the caller runs backward and steps the optimizers of the named groups; the code
        after it sees the new weights. All randomness comes from torch's global generator, which is
        seeded anew for every step.
        """
        raise NotImplementedError

    def translators(self) -> nn.ModuleDict:
        """Return the trained result: "a_to_b" -> Translator, for every direction it learns."""
        raise NotImplementedError

    def check_crop_size(self, height: int, width: int) -> None:
        """Raise ValueError with a one-line reason where training crops of this size cannot work."""

    def cuda_graph_key(self, step: int) -> Hashable:
        """Return a key that is equal for steps that launch the same kernels.

        The default tells apart the steps with and without each GAN loss's penalty; a method with other
        terms that come every N steps adds them.
        """
        return tuple(loss.has_penalty_at(step) for loss in self.gan_losses())

    def prepare_cuda_graph_inputs(self, count: int, step: int) -> None:
        """Write this step's random decisions into the tensors that a captured CUDA graph reads on replay.

        `count` is the number of images of a domain in this process's batch. A replayed step runs no
        Python (engine/hardware/cuda_graphs.py). The default covers image pools, feature queues and GAN
        losses; a method with decisions of its own adds them.
        """
        device = next(self.parameters()).device
        for part in self.modules():
            if isinstance(part, ImagePool):
                part.draw_swaps(count)
            elif isinstance(part, FeatureQueue):
                part.reserve(count)
            elif isinstance(part, GANLoss):
                part.prepare_cuda_graph_inputs(step, device)

    def lazy_terms(self) -> dict[str, tuple[str, int]]:
        """Return optimizer group -> (option, N) of a term that it minimises every N steps only.

        Such a term is N times as strong (lazy regularization, Karras et al. 2020). The default is the
        discriminators' gradient penalty; a method adds its own.
        """
        period = max((loss.penalty_period for loss in self.gan_losses()), default=1)
        names = self.optimizer_groups().keys()
        return {
            name: ("penalty_every", period) for name in self.discriminator_groups if name in names
        }

    def gan_losses(self) -> list[GANLoss]:
        """Return the method's GAN losses, one for each discriminator's task."""
        return [part for part in self.modules() if isinstance(part, GANLoss)]


def networks_of_group(group: nn.Module) -> list[nn.Module]:
    """Return the networks of an optimizer group: the members of a list, or the module itself."""
    return list(group) if isinstance(group, nn.ModuleList) else [group]
