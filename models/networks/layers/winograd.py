"""3x3 convolutions by Winograd's F(2x2, 3x3), with 16 instead of 36 multiplications per 4 outputs.

Lavin & Gray 2015, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308), Sec. 4.1:
Y = A^T [(G g G^T) * (B^T d B)] A for tiles d of 4x4 inputs and Y of 2x2 outputs. Summed over input
channels, the elementwise products are 16 matrix products, in the forward and in both backwards.
With float32 sums the result equals the direct convolution up to rounding. The backward transforms
`d` again instead of saving the transformed tiles, so training needs no more memory than the direct
form.

The transforms are sums of planes, so that a compiler can fuse each into one pass over memory;
uncompiled they are correct but slow.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.networks.layers.norm_act_pad import bias_at_inference
from models.networks.layers.op_backends import KernelLayer

Planes = tuple[Tensor, ...]
"""The 16 positions of a tile in row order: each [tiles, channels]."""


class Conv3x3(KernelLayer, nn.Conv2d):
    """An unpadded 3x3 convolution before a norm: [B, C, H, W] to [B, out, H - 2, W - 2].

    It has no bias while gradients are enabled: see `bias_at_inference`.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return self.kernels.conv3x3(input, self.weight, bias_at_inference(self.bias))


def winograd(compiler: Callable[[Callable], Callable]) -> Callable[..., Tensor]:
    """Return a replacement for F.conv2d(x, weight, bias) with transforms compiled by `compiler`.

    It computes training forwards without a bias and with outputs of even height and width; all
    other cases go to F.conv2d. It cannot be differentiated twice.
    """
    to_input_tiles, to_input_gradient = compiler(input_tiles), compiler(input_gradient)
    to_filter_planes, to_filter_gradient = compiler(filter_planes), compiler(filter_gradient)
    to_output, to_output_planes = compiler(output_image), compiler(output_gradient)

    class Convolution(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            image = x.permute(0, 2, 3, 1)
            planes = to_filter_planes(weight, x.dtype)
            products = [d @ g.t() for d, g in zip(to_input_tiles(image), planes, strict=True)]
            return to_output(products, tuple(image.shape)).permute(0, 3, 1, 2)

        @staticmethod
        @once_differentiable
        def backward(ctx, gradient: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
            x, weight = ctx.saved_tensors
            image = x.permute(0, 2, 3, 1)
            products = to_output_planes(gradient.permute(0, 2, 3, 1))
            grad_x = grad_weight = None
            if ctx.needs_input_grad[0]:
                planes = to_filter_planes(weight, x.dtype)
                tiles = [p @ g for p, g in zip(products, planes, strict=True)]
                grad_x = to_input_gradient(tiles, tuple(image.shape)).permute(0, 3, 1, 2)
            if ctx.needs_input_grad[1]:
                tiles = to_input_tiles(image)
                grad_weight = to_filter_gradient(
                    [p.t() @ d for p, d in zip(products, tiles, strict=True)]
                )
            return grad_x, grad_weight

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        odd = x.shape[2] % 2 or x.shape[3] % 2
        if odd or bias is not None or not torch.is_grad_enabled():
            return F.conv2d(x, weight, bias)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return Convolution.apply(x, weight)

    return convolve


def input_tiles(image: Tensor) -> Planes:
    """Return B^T d B of every 4x4 tile d, at a stride of 2 pixels, of an image [B, H, W, C]."""
    rows, columns = image.shape[1] // 2 - 1, image.shape[2] // 2 - 1
    d = [
        [_wide(image[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2]) for j in range(4)]
        for i in range(4)
    ]
    by_column = [_b([d[i][j] for i in range(4)]) for j in range(4)]
    planes = [p for i in range(4) for p in _b([by_column[j][i] for j in range(4)])]
    return tuple(p.to(image.dtype).reshape(-1, image.shape[3]) for p in planes)


def filter_planes(weight: Tensor, dtype: torch.dtype) -> Planes:
    """Return G g G^T of every 3x3 filter g of a weight [out, in, 3, 3]: 16 planes [out, in]."""
    by_column = [_g([_wide(weight[:, :, i, j]) for i in range(3)]) for j in range(3)]
    planes = [p for i in range(4) for p in _g([by_column[j][i] for j in range(3)])]
    return tuple(p.to(dtype).contiguous() for p in planes)


def output_image(products: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return A^T m A of the products m of every tile, as an image [B, H - 2, W - 2, out]."""
    batch, height, width, _ = shape
    m = [_wide(p).view(batch, height // 2 - 1, width // 2 - 1, -1) for p in products]
    by_column = [_a([m[4 * i + j] for i in range(4)]) for j in range(4)]
    y = [_a([by_column[j][i] for j in range(4)]) for i in range(2)]
    image = torch.stack([torch.stack(row, 3) for row in y], 2)
    return image.reshape(batch, height - 2, width - 2, -1).to(products[0].dtype)


def output_gradient(gradient: Tensor) -> Planes:
    """Return A dY A^T of every 2x2 tile of an output's gradient [B, H, W, out]."""
    y = [[_wide(gradient[:, i::2, j::2]) for j in range(2)] for i in range(2)]
    by_column = [_a_transposed([y[i][j] for i in range(2)]) for j in range(2)]
    planes = [p for i in range(4) for p in _a_transposed([by_column[j][i] for j in range(2)])]
    return tuple(p.to(gradient.dtype).reshape(-1, gradient.shape[3]) for p in planes)


def input_gradient(tiles: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return the sum of B d B^T over the tiles that overlap at each pixel of [B, H, W, C]."""
    batch, height, width, channels = shape
    v = [_wide(t).view(batch, height // 2 - 1, width // 2 - 1, channels) for t in tiles]
    by_column = [_b_transposed([v[4 * i + j] for i in range(4)]) for j in range(4)]
    d = [_b_transposed([by_column[j][i] for j in range(4)]) for i in range(4)]
    # Rows 0 and 1 of a tile overlap rows 2 and 3 of the tile above it; columns likewise.
    before, after = (1, 0), (0, 1)

    def summed(row: int, column: int) -> Tensor:
        parts = [
            F.pad(d[i][j], (0, 0, *(before if j > 1 else after), *(before if i > 1 else after)))
            for i in (row, row + 2)
            for j in (column, column + 2)
        ]
        return parts[0] + parts[1] + parts[2] + parts[3]

    image = torch.stack(
        [torch.stack([summed(row, column) for column in range(2)], 3) for row in range(2)], 2
    )
    return image.reshape(batch, height, width, channels).to(tiles[0].dtype)


def filter_gradient(planes: Sequence[Tensor]) -> Tensor:
    """Return G^T u G of 16 planes u [out, in], in at least float32: [out, in, 3, 3]."""
    u = [_wide(p) for p in planes]
    by_column = [_g_transposed([u[4 * i + j] for i in range(4)]) for j in range(4)]
    g = [_g_transposed([by_column[j][i] for j in range(4)]) for i in range(3)]
    return torch.stack([torch.stack(row, 2) for row in g], 2)


def _wide(x: Tensor) -> Tensor:
    """Return x as float32 for accumulation; float64 is returned unchanged."""
    return x if x.dtype == torch.float64 else x.float()


# The matrices B^T, G and A^T of Eq. 8 and their transposes, each applied to a list of planes.
def _b(x: Sequence[Tensor]) -> Planes:
    return x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]


def _b_transposed(x: Sequence[Tensor]) -> Planes:
    return x[0], x[1] - x[2] + x[3], x[1] + x[2] - x[0], -x[3]


def _g(x: Sequence[Tensor]) -> Planes:
    return x[0], (x[0] + x[1] + x[2]) / 2, (x[0] - x[1] + x[2]) / 2, x[2]


def _g_transposed(x: Sequence[Tensor]) -> Planes:
    return x[0] + (x[1] + x[2]) / 2, (x[1] - x[2]) / 2, x[3] + (x[1] + x[2]) / 2


def _a(x: Sequence[Tensor]) -> Planes:
    return x[0] + x[1] + x[2], x[1] - x[2] - x[3]


def _a_transposed(x: Sequence[Tensor]) -> Planes:
    return x[0], x[0] + x[1], x[0] - x[1], -x[1]
