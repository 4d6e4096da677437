"""Yunjey Choi, Youngjung Uh, Jaejun Yoo, Jung-Woo Ha: StarGAN v2: Diverse Image Synthesis for
Multiple Domains. CVPR 2020. arXiv:1912.01865.

One generator G for any number of domains, conditioned on a style code. Style codes come from noise
(the mapping network F) or from an image (the style encoder E); the discriminator D has a score for
each domain. The order of updates and the weights are those of the authors' code; docs/decisions.md
lists the differences.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import check_at_least, check_not_both_zero
from models.gan_loss import GANLoss, GANLossConfig, PenaltyName
from models.losses.adversarial import GANMode
from models.losses.reconstruction import l1
from models.method import Batch, Method, Update
from models.networks.discriminators.multi_domain_discriminator import MultiDomainDiscriminator
from models.networks.generators.stargan_v2_generator import StyleGenerator
from models.networks.layers.conv_encoder import FINAL_SIZE, ConvEncoder
from models.networks.mapping_and_style_encoder import MappingNetwork, StarGANv2StyleEncoder
from models.translator import StyledTranslator


class StarGANv2(Method):
    """Translation between all pairs of domains by one generator, in sampled or encoded styles."""

    @dataclass(frozen=True)
    class Config(GANLossConfig, Method.Config):
        name: str = "stargan_v2"  # Choi et al. 2020
        gan_mode: GANMode = "vanilla"  # adversarial objective; vanilla is the paper's
        penalty: PenaltyName = "r1"  # gradient penalty; r1, at real images, is the paper's
        penalty_weight: float = 1.0  # gamma of r1, lambda of wgan_gp and zero_centered
        size: int = 256  # side of training crops, a power of 2; the same as data.crop_size
        style_dim: int = 64  # dimensions of a style code
        style_weight: float = 1.0  # lambda_sty: weight of the style reconstruction
        diversity_weight: float = 2.0  # initial lambda_ds: 2 for animals, 1 for faces; 0: off
        diversity_steps: int = 100_000  # steps in which diversity_weight decays linearly to 0
        cycle_weight: float = 1.0  # lambda_cyc: weight of the cycle loss; 0 disables it
        own_domain: bool = True  # images are translated to their own domain too
        generator: StyleGenerator.Config = field(default_factory=StyleGenerator.Config)
        mapping: MappingNetwork.Config = field(default_factory=MappingNetwork.Config)
        style_encoder: ConvEncoder.Config = field(default_factory=ConvEncoder.Config)
        discriminator: MultiDomainDiscriminator.Config = field(
            default_factory=MultiDomainDiscriminator.Config
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(0, self, "style_weight", "diversity_weight", "cycle_weight")
            check_at_least(1, self, "style_dim", "diversity_steps")
            check_not_both_zero(self, "adversarial_weight", "cycle_weight")
            if self.size < 2 * FINAL_SIZE or self.size & (self.size - 1):
                raise ValueError(
                    f"method.size must be a power of 2 and at least {2 * FINAL_SIZE}, got {self.size}"
                )

    def __init__(self, config: Config, channels: Mapping[str, int]) -> None:
        super().__init__(config, channels)
        self.config = config
        self.domains = list(channels)
        count, image_channels = len(channels), next(iter(channels.values()))
        if count < 2:
            raise ValueError(f"data.domains names {count}, but stargan_v2 needs at least 2 domains")
        if len(set(channels.values())) > 1:
            raise ValueError(
                "data.channels must be equal: stargan_v2 has one generator for all domains, got "
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
        self.diversity_weight_tensor: Tensor | None = None  # a captured CUDA graph reads it

    def optimizer_groups(self) -> dict[str, nn.Module]:
        return {
            "generator": self.generator,
            "mapping": self.mapping,
            "style_encoder": self.style_encoder,
            "discriminator": self.discriminator,
        }

    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        # Row i of every tensor below belongs to the target domain of row i of `real`.
        real = torch.cat([batch[domain] for domain in self.domains])
        source = sample_sources(len(self.domains), len(real), self.config.own_domain, real.device)
        reference, other_reference = sample_references(len(self.domains), len(real), real.device)
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
            fake = self.generator(x, self.style_encoder(real[reference]))
        yield Update("discriminator", losses=self.gan_loss_reference.discriminator_losses(
            self.discriminator, real, fake, step
        ))  # fmt: skip

        style, source_style = self.mapping(latent), self.style_encoder(real)[source]
        with torch.no_grad():
            other_style = self.mapping(other_latent)
        losses = self.generator_losses(  # Eq. 5
            self.gan_loss_latent, x, style, other_style, source_style, step
        )
        yield Update("generator", "mapping", "style_encoder", losses=losses)

        with torch.no_grad():
            styles = self.style_encoder(real)
        style, other_style = styles[reference], styles[other_reference]
        source_style = styles[source]
        losses = self.generator_losses(
            self.gan_loss_reference, x, style, other_style, source_style, step
        )
        yield Update("generator", losses=losses)

    def generator_losses(
        self, gan_loss: GANLoss, x: Tensor, style: Tensor, other_style: Tensor,
        source_style: Tensor, step: int,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the terms of Eq. 5 for images `x` [B, C, H, W].

        `style` and `other_style` [B, style_dim] are two styles of their target domains,
        `source_style` is the style of `x` itself.
        """
        config, name = self.config, gan_loss.domain
        losses: dict[str, Tensor] = {}
        fake = self.generator(x, style)
        if config.adversarial_weight:  # Eq. 1
            losses[f"adversarial_{name}"] = gan_loss.generator_loss(self.discriminator, fake, step)
        if config.style_weight:  # Eq. 2
            encoded_style = self.style_encoder(fake)
            losses[f"style_{name}"] = config.style_weight * l1(encoded_style, style)
        if self.has_diversity_at(step):  # Eq. 3, a distance that is maximised
            with torch.no_grad():
                other_fake = self.generator(x, other_style)
            weight = self.diversity_weight_input(step)
            losses[f"diversity_{name}"] = -weight * l1(fake, other_fake)
        if config.cycle_weight:  # Eq. 4
            restored = self.generator(fake, source_style)
            losses[f"cycle_{name}"] = config.cycle_weight * l1(restored, x)
        return losses

    def diversity_weight(self, step: int) -> float:
        """Return lambda_ds at step number `step`; it decays linearly to 0 in `diversity_steps`."""
        return self.config.diversity_weight * max(0.0, 1 - step / self.config.diversity_steps)

    def has_diversity_at(self, step: int) -> bool:
        """Return whether step number `step` has a diversity term."""
        return self.diversity_weight(step) > 0

    def diversity_weight_input(self, step: int) -> Tensor | float:
        """Return lambda_ds as a number, or the tensor that a captured CUDA graph reads it from."""
        if self.diversity_weight_tensor is None:
            return self.diversity_weight(step)
        return self.diversity_weight_tensor

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
                f"data.crop_size must be method.size={size}, the size that the style encoder and "
                f"the discriminator accept, got {height}" + (f"x{width}" if width != height else "")
            )
        if size < self.generator.minimum:
            raise ValueError(
                f"method.size={size} is too small for a generator that downsamples "
                f"{self.generator.num_downs} times and needs {self.generator.minimum}; "
                "lower method.generator.layers"
            )


class DomainTranslator(StyledTranslator):
    """Translate to one domain, in a style sampled from noise or encoded from a reference image."""

    def __init__(self, method: StarGANv2, source: str, target: str) -> None:
        generator, channels = method.generator, method.channels
        super().__init__(
            source, target, channels[source], channels[target],
            generator.multiple, generator.minimum,
        )  # fmt: skip
        self.generator = generator
        self.mapping = method.mapping
        self.style_encoder = method.style_encoder
        self.domain = method.domains.index(target)
        self.size = method.config.size
        self.style_dim = method.config.style_dim
        self.style_blocks = len(generator.decoder)

    def render(self, image: Tensor, style: Tensor) -> Tensor:
        return self.generator(image, style).clamp(-1, 1)  # the generator's output is unbounded

    def sample_style(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        latent = torch.randn(count, self.mapping.config.latent_dim, generator=generator)
        return self.mapping(latent.to(next(self.mapping.parameters()).device), self.domain)

    def encode_style(self, reference: Tensor) -> Tensor:
        """Return the style of images; they are resized to the training size, as the authors do."""
        if reference.shape[-2:] != (self.size, self.size):
            reference = F.interpolate(
                reference.float(), (self.size, self.size), mode="bilinear", antialias=True
            )
        return self.style_encoder(reference, self.domain)


def sample_sources(domains: int, rows: int, own_domain: bool, device: torch.device) -> Tensor:
    """Draw for each row of a batch, of its target domain, the row to translate: [rows] indices.

    The batch has equally many rows of every domain, in order. The source domain is uniform over all
    domains, including the target itself if `own_domain`; the position within it is the same.
    """
    index = torch.arange(rows, device=device)
    domain_offset = torch.randint(0 if own_domain else 1, domains, (rows,), device=device)
    return (index + domain_offset * (rows // domains)) % rows


def sample_references(domains: int, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw for each row two different rows of its domain as references: two of [rows] indices.

    The first is never the row itself. With two rows of a domain the second is the row itself; with
    one row both are that row, and the distance between their styles is 0.
    """
    per_domain = rows // domains
    index = torch.arange(rows, device=device)
    start, position = index - index % per_domain, index % per_domain
    offset, other_offset = torch.randint(1, max(per_domain, 2), (2, rows), device=device)
    first, second = position + offset, position + offset + other_offset
    return start + first % per_domain, start + second % per_domain
