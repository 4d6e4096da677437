"""The multi-domain discriminator of StarGAN v2 (Choi et al. 2020, arXiv:1912.01865, App. D)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.discriminators.patch_discriminator import apply_spectral_norm
from models.networks.layers.conv_encoder import ConvEncoder
from models.networks.layers.initialization import init_weights


class MultiDomainDiscriminator(nn.Module):
    """Score images by one output per domain; each image gets the score of its own domain."""

    @dataclass(frozen=True)
    class Config(ConvEncoder.Config):
        spectral: bool = False  # spectral norm: every layer's largest singular value is 1

    def __init__(self, in_channels: int, domains: int, size: int, config: Config) -> None:
        super().__init__()
        self.domains = domains
        self.features = ConvEncoder(in_channels, size, config)
        self.heads = nn.Linear(self.features.width, domains)
        init_weights(self, "kaiming")
        if config.spectral:
            apply_spectral_norm(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, size, size] to unbounded scores [B, 1].

        The batch consists of equal shares of all domains in order.
        """
        domain_ids = torch.arange(self.domains, device=image.device)
        domain_ids = domain_ids.repeat_interleave(len(image) // self.domains)
        return self.heads(self.features(image)).gather(1, domain_ids[:, None])
