"""Initialise weights: Gaussian of deviation 0.02 (Zhu et al. 2017, Sec. 7.1), Xavier, Kaiming."""

from typing import Literal

from torch import nn

InitType = Literal["normal", "xavier", "kaiming"]

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def init_weights(network: nn.Module, init_type: InitType = "normal", std: float = 0.02) -> None:
    """Initialise all convolutions, linear layers and batch norms of a network.

    Biases are 0, and batch norms' weights are drawn around 1 with deviation `std`. `normal` draws
    the other weights around 0 with deviation `std`.
    `xavier` draws with a deviation that depends on the layer's size (Glorot & Bengio 2010), times
    `std`, as the authors of CUT do. `kaiming` ignores `std` and preserves the variance through
    layers with ReLUs (He et al. 2015, arXiv:1502.01852, Eq. 10), as the authors of MUNIT do.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            if init_type == "xavier":
                nn.init.xavier_normal_(module.weight, gain=std)
            elif init_type == "kaiming":
                nn.init.kaiming_normal_(module.weight)
            else:
                nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
            nn.init.zeros_(module.bias)
