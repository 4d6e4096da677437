"""Yunjey Choi, Youngjung Uh, Jaejun Yoo, Jung-Woo Ha: StarGAN v2: Diverse Image Synthesis for
Multiple Domains. CVPR 2020. arXiv:1912.01865.

One generator G for any number of domains, told by a style how to look. Styles come from noise (the
mapping network F) or from an image (the style encoder E); the discriminator D has a score for each
domain. Order of play and weights are those of the authors' code; docs/decisions.md lists what differs.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import at_least, not_both_zero
from models.gan_loss import GANLoss, GANLossConfig, PenaltyName
from models.losses.adversarial import GANMode
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.domain_networks import (
    END,
    ConvEncoder,
    MappingNetwork,
    MultiDomainDiscriminator,
    StarGANv2StyleEncoder,
)
from models.networks.generators.style_generator import StyleGenerator
from models.translator import StyledTranslator


class StarGANv2(Method):
    """Images of every domain become images of every other, in as many styles as there are."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "stargan_v2"  # Choi et al. 2020
        gan_mode: GANMode = "vanilla"  # what the discriminator learns; the paper's
        penalty: PenaltyName = "r1"  # on the discriminator's gradient; r1 is the paper's
        penalty_weight: float = 1.0  # gamma of r1, lambda of wgan_gp and zero_centered
        size: int = 256  # side of training crops, a power of 2; the same as data.crop_size
        style_dim: int = 64  # numbers that a style consists of
        style_weight: float = 1.0  # lambda_sty: styles must be read back from the translations
        diversity_weight: float = 2.0  # lambda_ds at first: 2 for animals, 1 for faces; 0 is off
        diversity_steps: int = 100_000  # in which diversity_weight falls to 0, linearly
        cycle_weight: float = 1.0  # lambda_cyc; 0 leaves the cycle out
        own_domain: bool = True  # an image's own domain is among those it is translated to
        generator: StyleGenerator.Config = field(default_factory=StyleGenerator.Config)
        mapping: MappingNetwork.Config = field(default_factory=MappingNetwork.Config)
        style_encoder: ConvEncoder.Config = field(default_factory=ConvEncoder.Config)
        discriminator: MultiDomainDiscriminator.Config = field(
            default_factory=MultiDomainDiscriminator.Config
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(0, self, "style_weight", "diversity_weight", "cycle_weight")
            at_least(1, self, "style_dim", "diversity_steps")
            not_both_zero(self, "adversarial_weight", "cycle_weight")
            if self.size < 2 * END or self.size & (self.size - 1):
                raise ValueError(
                    f"method.size must be a power of 2 and at least {2 * END}, got {self.size}"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        self.domains = list(channels)
        count, image_channels = len(channels), next(iter(channels.values()))
        if count < 2:
            raise ValueError(f"stargan_v2 needs at least 2 domains, data.domains names {count}")
        if len(set(channels.values())) > 1:
            raise ValueError(
                "stargan_v2 has one generator for all domains; their channels must be equal, got "
                + ", ".join(f"{domain}: {number}" for domain, number in channels.items())
            )
        self.generator = StyleGenerator(image_channels, config.style_dim, config.generator)
        self.mapping = MappingNetwork(count, config.style_dim, config.mapping)
        self.style_encoder = StarGANv2StyleEncoder(
            image_channels, count, config.style_dim, config.size, config.style_encoder
        )
        self.discriminator = MultiDomainDiscriminator(
            image_channels, count, config.size, config.discriminator
        )
        self.gan_loss_latent = GANLoss(config, "latent")
        self.gan_loss_reference = GANLoss(config, "reference")
        self.diversity_weight_tensor: Tensor | None = None  # its weight, where a step is recorded

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "mapping": self.mapping,
            "style_encoder": self.style_encoder,
            "discriminator": self.discriminator,
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        real = torch.cat([batch[domain] for domain in self.domains])  # row i of all: of its target
        source = drawn_sources(len(self.domains), len(real), self.config.own_domain, real.device)
        first, second = drawn_references(len(self.domains), len(real), real.device)
        x = real[source]
        latent, other_latent = torch.randn(
            2, len(real), self.config.mapping.latent_dim, device=real.device
        )

        with torch.no_grad():
            fake = self.generator(x, self.mapping(latent))
        yield Update("discriminator", losses=self.gan_loss_latent.discriminator_losses(
            self.discriminator, real, fake, step
        ))  # fmt: skip

        with torch.no_grad():
            fake = self.generator(x, self.style_encoder(real[first]))
        yield Update("discriminator", losses=self.gan_loss_reference.discriminator_losses(
            self.discriminator, real, fake, step
        ))  # fmt: skip

        style, own = self.mapping(latent), self.style_encoder(real)[source]
        with torch.no_grad():
            other = self.mapping(other_latent)
        losses = self.generator_losses(self.gan_loss_latent, x, style, other, own, step)  # Eq. 5
        yield Update("generator", "mapping", "style_encoder", losses=losses)

        with torch.no_grad():
            styles = self.style_encoder(real)
        style, other, own = styles[first], styles[second], styles[source]
        losses = self.generator_losses(self.gan_loss_reference, x, style, other, own, step)
        yield Update("generator", losses=losses)

    def generator_losses(
        self, gan_loss: GANLoss, x: Tensor, style: Tensor, other: Tensor, own: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Return the terms of Eq. 5 for images `x`, their own styles, and two styles of their targets."""
        config, name = self.config, gan_loss.domain
        losses: dict[str, Tensor] = {}
        fake = self.generator(x, style)
        if config.adversarial_weight:  # Eq. 1
            losses[f"adversarial_{name}"] = gan_loss.generator_loss(self.discriminator, fake, step)
        if config.style_weight:  # Eq. 2
            read = self.style_encoder(fake)
            losses[f"style_{name}"] = config.style_weight * l1(read, style)
        if self.has_diversity_at(step):  # Eq. 3: the further apart the better
            with torch.no_grad():
                unlike = self.generator(x, other)
            losses[f"diversity_{name}"] = -self.diversity(step) * l1(fake, unlike)
        if config.cycle_weight:  # Eq. 4
            losses[f"cycle_{name}"] = config.cycle_weight * l1(self.generator(fake, own), x)
        return losses

    def diversity_weight(self, step: int) -> float:
        """Return lambda_ds in step number `step`: it falls to 0 in `diversity_steps`, linearly."""
        return self.config.diversity_weight * max(0.0, 1 - step / self.config.diversity_steps)

    def has_diversity_at(self, step: int) -> bool:
        """Say whether step number `step` has a diversity term."""
        return self.diversity_weight(step) > 0

    def diversity(self, step: int) -> Tensor | float:
        """Return lambda_ds as a step reads it: from a tensor where it is recorded."""
        return (
            self.diversity_weight(step)
            if self.diversity_weight_tensor is None
            else self.diversity_weight_tensor
        )

    def cuda_graph_key(self, step: int) -> Hashable:
        return self.has_diversity_at(step), super().cuda_graph_key(step)

    def prepare_cuda_graph_inputs(self, count: int, step: int) -> None:
        super().prepare_cuda_graph_inputs(count, step)
        if self.diversity_weight_tensor is None:
            self.diversity_weight_tensor = torch.zeros((), device=next(self.parameters()).device)
        self.diversity_weight_tensor.fill_(self.diversity_weight(step))

    def translators(self) -> nn.ModuleDict:
        return nn.ModuleDict({
            f"{source}_to_{target}": DomainTranslator(self, source, target)
            for source, target in permutations(self.domains, 2)
        })  # fmt: skip

    def check_crop_size(self, height: int, width: int) -> None:
        size = self.config.size
        if (height, width) != (size, size):
            raise ValueError(
                f"the style encoder and the discriminator take in method.size={size} pixels; "
                f"data.crop_size must be the same, got {height}"
                + (f"x{width}" if width != height else "")
            )
        if size < self.generator.minimum:
            raise ValueError(
                f"method.size={size} is too small for a generator of {self.generator.num_downs} "
                f"halvings, which needs {self.generator.minimum}; lower method.generator.layers"
            )


class DomainTranslator(StyledTranslator):
    """Translate to one domain, in a style that is drawn, or read from an image of that domain."""

    def __init__(self, method: StarGANv2, source: str, target: str) -> None:
        generator, channels = method.generator, method.channels
        super().__init__(
            source,
            target,
            channels[source],
            channels[target],
            generator.multiple,
            generator.minimum,
        )
        self.generator = generator
        self.mapping = method.mapping
        self.style_encoder = method.style_encoder
        self.domain = method.domains.index(target)
        self.size = method.config.size
        self.style_dim = method.config.style_dim
        self.style_blocks = len(generator.decoder)

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        return self.generator(image, style).clamp(-1, 1)  # learning, nothing bounds it

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        noise = torch.Generator().manual_seed(seed)
        latent = torch.randn(count, self.mapping.config.latent_dim, generator=noise)
        return self.mapping(latent.to(next(self.mapping.parameters()).device), self.domain)

    def encode_style(self, reference: Tensor) -> Tensor:
        """Read the style of images; other sizes than the trained one are resized to it, as the authors do."""
        if reference.shape[-2:] != (self.size, self.size):
            reference = F.interpolate(
                reference.float(), (self.size, self.size), mode="bilinear", antialias=True
            )
        return self.style_encoder(reference, self.domain)


def drawn_sources(domains: int, rows: int, own: bool, device: torch.device) -> Tensor:
    """Draw for each row, of a target domain, which row it is translated from, [rows] indices.

    Rows are equal shares of all domains, in order. A source has the row's place in a domain drawn
    with equal chances, `own` says whether the target is among them.
    """
    place = torch.arange(rows, device=device)
    away = torch.randint(0 if own else 1, domains, (rows,), device=device)
    return (place + away * (rows // domains)) % rows


def drawn_references(domains: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw for each row two different rows of its domain, the first not the row itself, [rows] indices.

    Where a domain has two rows, the second is the row itself; where it has one, all are one, and two
    styles of it have no distance.
    """
    share = rows // domains
    place = torch.arange(rows, device=device)
    start, row = place - place % share, place % share
    away, further = torch.randint(1, max(share, 2), (2, rows), device=device)
    return start + (row + away) % share, start + (row + away + further) % share
