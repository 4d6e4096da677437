"""How weights begin (Zhu et al. 2017, Sec. 7.1: a Gaussian of standard deviation 0.02)."""

from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def initialise(network: nn.Module, deviation: float = 0.02) -> None:
    """Draw every weight from N(0, deviation), zero the biases; affine norms from N(1, deviation)."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, deviation)
            nn.init.zeros_(module.bias)
