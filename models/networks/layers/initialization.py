"""How weights begin: a Gaussian of deviation 0.02 (Zhu et al. 2017, Sec. 7.1), Xavier's, or Kaiming's."""

from typing import Literal

from torch import nn

InitType = Literal["normal", "xavier", "kaiming"]

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def init_weights(
    network: nn.Module, init_type: InitType = "normal", deviation: float = 0.02
) -> None:
    """Draw every weight from N(0, deviation), zero the biases; affine norms from N(1, deviation).

    `xavier` draws with a deviation that follows the layer's size (Glorot & Bengio 2010), times
    `deviation`, as the authors of CUT do. `kaiming` keeps the strength of what passes through layers
    with ReLUs (He et al. 2015, arXiv:1502.01852, Eq. 10), as the authors of MUNIT do.
    """
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            if init_type == "xavier":
                nn.init.xavier_normal_(module.weight, gain=deviation)
            elif init_type == "kaiming":
                nn.init.kaiming_normal_(module.weight)
            else:
                nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, deviation)
            nn.init.zeros_(module.bias)
