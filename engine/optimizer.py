"""Adam for each player, and the moving average of the translators."""

import inspect
import math

import torch
from torch import Tensor, nn


class Adam(torch.optim.Adam):
    """torch's Adam, without the marks that keep torch.compile out of what it does.

    Nothing here is compiled, and each mark imports the compiler when it is first passed: that takes
    longer than importing torch.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)


def adam(
    network: nn.Module, learning_rate: float, betas: tuple[float, float], recorded: bool = False,
    weight_decay: float = 0.0,
) -> Adam:  # fmt: skip
    """Return the optimizer of one player (Kingma & Ba 2015), one kernel for all its parameters.

    `weight_decay` times a weight is added to its gradient, before the moments: an L2 penalty.
    `recorded` keeps all that changes in tensors on the device, as a CUDA graph needs.
    """
    parameters = list(network.parameters())
    device = parameters[0].device
    rate = torch.tensor(learning_rate, device=device) if recorded else learning_rate
    fused = device.type in ("cuda", "cpu")
    return Adam(
        parameters, lr=rate, betas=betas, weight_decay=weight_decay, fused=fused,
        capturable=recorded,
    )  # fmt: skip


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all groups, in place where it is a tensor."""
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

    Gradients with a norm above `clip_norm` are made that long; the norm before is returned. Fused
    optimizers decide on the device, so nothing is read back.
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
