"""The interface between a translation method and the code that trains it."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.gan_loss import GANLoss
from models.image_pool import FeatureQueue, ImagePool

Batch = dict[str, Tensor]
"""Domain name -> images [B, C, H, W] in [-1, 1]. Images of different domains are not paired."""


class Update:
    """One optimization step: the sum of `losses` is minimised over the parameters of some groups.

    `losses` maps a term's name, which is also its name in every log, to a scalar with its weight
    applied: the logged values are those that are minimised. Without groups the losses are only
    logged.
    """

    def __init__(self, *groups: str, losses: Mapping[str, Tensor]) -> None:
        self.groups = groups
        self.losses = dict(losses)

    def total(self) -> Tensor:
        """Return the sum of the terms, a float32 scalar."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


class Method(nn.Module):
    """A method of unpaired translation: its networks, and the updates that train them.

    Each subclass has a file of its own in `models/methods/`; the file's name is the method's name.
    It defines its own `Config`, takes the channel count of every domain, and implements
    `optimizer_groups`, `updates` and `translators`. See docs/adding_a_method.md.
    """

    supports_distributed = True  # several processes can train it with averaged gradients
    discriminator_groups: tuple[str, ...] = ("discriminator", "discriminators")  # if they exist

    @dataclass(frozen=True)
    class Config:
        name: str = "???"  # the method: a file name in models/methods/

        def notes(self) -> list[str]:
            """Return remarks that a reader of the results must know, one line each; often none."""
            return []

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        """Take `channels`, domain name -> channel count, in order; subclasses store `config`."""
        super().__init__()
        self.channels = dict(channels)

    def optimizer_groups(self) -> dict[str, nn.Module]:
        """Return the modules that share an optimizer, by name: disjoint, together every parameter.

        An empty dict means that nothing is trained by gradients: updates then only collect
        statistics and report losses.
        """
        raise NotImplementedError

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the updates of step number `step` (from 0) in order.

        At a `yield` the caller runs backward and steps the optimizers of the named groups; the code
        after it sees the new weights. All randomness comes from torch's global generator, which is
        reseeded before every step.
        """
        raise NotImplementedError

    def translators(self) -> nn.ModuleDict:
        """Return the trained result: "a_to_b" -> Translator, for every direction."""
        raise NotImplementedError

    def check_crop_size(self, height: int, width: int) -> None:
        """Raise ValueError, in one line, where the method cannot train on crops of this size."""

    def cuda_graph_key(self, step: int) -> Hashable:
        """Return a key that is equal for steps that launch the same kernels.

        The default distinguishes steps with and without the penalty of each GAN loss; a method with
        other terms that are applied every N steps adds them to the key.
        """
        return tuple(loss.has_penalty_at(step) for loss in self.gan_losses())

    def prepare_cuda_graph_inputs(self, count: int, step: int) -> None:
        """Write this step's random decisions into the tensors that a captured CUDA graph reads.

        `count` is the number of images of a domain in this process's batch. A replayed step runs no
        Python (engine/hardware/cuda_graphs.py). The default covers image pools, feature queues and
        GAN losses; a method with decisions of its own adds them.
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
        """Return optimizer group -> (option, N) for a term that is applied only every N steps.

        Such a term is N times as strong (lazy regularization, Karras et al. 2020). A group's
        `update_every` may not share a factor with N: its updates would meet the term too often.
        The default is
        the discriminators' gradient penalty; a method adds its own.
        """
        period = max((loss.penalty_period for loss in self.gan_losses()), default=1)
        names = self.optimizer_groups().keys()
        return {
            name: ("penalty_every", period) for name in self.discriminator_groups if name in names
        }

    def gan_losses(self) -> list[GANLoss]:
        """Return the method's GAN losses, one for each kind of fake that a discriminator scores."""
        return [part for part in self.modules() if isinstance(part, GANLoss)]


def networks_of_group(group: nn.Module) -> list[nn.Module]:
    """Return the networks of an optimizer group: the members of a list, or the module itself."""
    return list(group) if isinstance(group, nn.ModuleList) else [group]
