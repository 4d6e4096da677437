"""The difference of two colors as people see it: CIEDE2000."""

import math

import torch
from torch import Tensor

# Linear sRGB to CIE XYZ (IEC 61966-2-1), and the white of D65 for an observer of 2 degrees.
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
          (0.0193339, 0.1191920, 0.9503041))  # fmt: skip
WHITE = (0.95047, 1.0, 1.08883)
POWER = 25.0**7


def mean_ciede2000(image: Tensor, other: Tensor) -> Tensor:
    """Return the mean CIEDE2000 [B] over the pixels of two RGB images [B, 3, H, W] in [-1, 1].

    CIE 142-2001, in the form of Sharma, Wu and Dalal 2005 (Color Research and Application 30(1)),
    with all weights 1. About 1 is a difference that can just be seen, black and white differ by
    100.
    """
    return ciede2000(to_lab(image), to_lab(other)).mean(dim=(1, 2))


def to_lab(image: Tensor) -> Tensor:
    """Return the CIELAB values [B, 3, H, W] (D65) of sRGB images in [-1, 1]."""
    encoded = ((image.double() + 1) / 2).clamp(0, 1)
    linear = torch.where(
        encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92
    )  # fmt: skip
    matrix = torch.tensor(TO_XYZ, dtype=torch.float64, device=image.device)
    white = torch.tensor(WHITE, dtype=torch.float64, device=image.device)
    xyz = torch.einsum("ij,bjhw->bihw", matrix / white[:, None], linear)
    cells = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp(min=1e-12) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29
    )
    x, y, z = cells.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def ciede2000(one: Tensor, other: Tensor) -> Tensor:
    """Return the CIEDE2000 difference [B, H, W] of two images in CIELAB [B, 3, H, W]."""
    (light_1, a_1, b_1), (light_2, a_2, b_2) = one.unbind(dim=1), other.unbind(dim=1)
    chroma = (torch.hypot(a_1, b_1) + torch.hypot(a_2, b_2)) / 2
    stretch = 1 + (1 - (chroma**7 / (chroma**7 + POWER)).sqrt()) / 2
    chroma_1, chroma_2 = torch.hypot(a_1 * stretch, b_1), torch.hypot(a_2 * stretch, b_2)
    hue_1, hue_2 = (
        torch.atan2(b, a * stretch).rad2deg() % 360 for a, b in ((a_1, b_1), (a_2, b_2))
    )
    grey = chroma_1 * chroma_2 == 0
    turn = hue_2 - hue_1
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn))
    turn = torch.where(grey, 0.0, turn)
    d_light, d_chroma = light_2 - light_1, chroma_2 - chroma_1
    d_hue = 2 * (chroma_1 * chroma_2).sqrt() * (turn / 2).deg2rad().sin()
    light, chroma = (light_1 + light_2) / 2, (chroma_1 + chroma_2) / 2
    total = hue_1 + hue_2
    far = (hue_1 - hue_2).abs() > 180
    mean = torch.where(far, torch.where(total < 360, total + 360, total - 360), total) / 2
    hue = torch.where(grey, total, mean)
    weight = (
        1 - 0.17 * (hue - 30).deg2rad().cos() + 0.24 * (2 * hue).deg2rad().cos()
        + 0.32 * (3 * hue + 6).deg2rad().cos() - 0.20 * (4 * hue - 63).deg2rad().cos()
    )  # fmt: skip
    s_light = 1 + 0.015 * (light - 50) ** 2 / (20 + (light - 50) ** 2).sqrt()
    s_chroma, s_hue = 1 + 0.045 * chroma, 1 + 0.015 * chroma * weight
    angle = 60 * torch.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * (chroma**7 / (chroma**7 + POWER)).sqrt() * (angle * math.pi / 180).sin()
    parts = d_light / s_light, d_chroma / s_chroma, d_hue / s_hue
    square = sum(part**2 for part in parts) + rotation * parts[1] * parts[2]
    return torch.as_tensor(square).clamp(min=0).sqrt()
