"""Make the Adam optimizer of a group of networks, and take its steps unless they are not finite."""

import inspect
import math

import torch
from torch import Tensor, nn


class Adam(torch.optim.Adam):
    """torch's Adam, without the decorators that exclude its methods from torch.compile.

    Nothing here is compiled, and each decorator imports the compiler at its first call, which takes
    longer than importing torch.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)


def adam(
    network: nn.Module, learning_rate: float, betas: tuple[float, float], capturable: bool = False,
    weight_decay: float = 0.0,
) -> Adam:  # fmt: skip
    """Return Adam (Kingma & Ba 2015) for a group's parameters, fused into one kernel.

    `weight_decay` times a weight is added to its gradient, before the moments: an L2 penalty.
    `capturable` keeps the learning rate and the step count in tensors on the device, as a CUDA
    graph requires.
    """
    parameters = list(network.parameters())
    device = parameters[0].device
    rate = torch.tensor(learning_rate, device=device) if capturable else learning_rate
    fused = device.type in ("cuda", "cpu")
    return Adam(
        parameters, lr=rate, betas=betas, weight_decay=weight_decay, fused=fused,
        capturable=capturable,
    )  # fmt: skip


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@torch.no_grad()
def step_if_finite(
    optimizer: torch.optim.Optimizer, loss: Tensor, max_norm: float = math.inf
) -> Tensor:
    """Take a step unless the loss or a gradient is not finite; return the gradients' L2 norm.

    Gradients whose norm is above `max_norm` are scaled down to it; the norm before that is
    returned. Fused optimizers decide on the device, so nothing is read back.
    """
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = torch.isfinite(norm + loss)
    if gradients and max_norm < math.inf:
        torch._foreach_mul_(gradients, (max_norm / norm).clamp(max=1.0).nan_to_num())  # pyright: ignore[reportPrivateImportUsage]
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = (~finite).float()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    elif bool(finite):
        optimizer.step()
    return norm
