"""Count how often 95 % intervals of set distances hold the distance of the distributions.

    python benchmarks/interval_coverage.py [--trials N] [--sizes 30,100,500]

Sets of n features or images are drawn from known distributions, equal ones and different ones. The
intervals are the jackknife (rows left out one by one) and the percentile bootstrap with 200
resamples; those of the sliced Wasserstein distance, which takes long, in a tenth of the trials.
Only the interval of the kernel distance is shown by test.py. Features are normal, of 64
dimensions, moved by a fixed vector; images are noise of 16 pixels, the different ones smoothed. The
distances of the distributions are exact for the Fréchet distance, and that of large samples for the
others.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common.run_main import run_command
from common.text_table import aligned
from metrics.set_distances.frechet_distance import frechet_distance
from metrics.set_distances.kernel_distance import kernel_distance_interval, squared_mmd
from metrics.set_distances.sliced_wasserstein import PATCH, describe, distances

DIMENSIONS, SHIFT = 64, 0.15
RESAMPLES = 200
Z = NormalDist().inv_cdf(0.975)
Distance = Callable[[Tensor, Tensor], float]


def features(count: int, seed: int, different: bool) -> Tensor:
    """Return normal features [count, 64], moved by 0.15 in every dimension if different."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, DIMENSIONS, generator=generator) + SHIFT * different


def patches(count: int, seed: int, different: bool) -> Tensor:
    """Return the neighbourhoods [count, 128 * 3 * 49] of noise, smoothed if different."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 16, 16, generator=generator) * 0.3
    if different:
        images = (images + F.avg_pool2d(images, 3, 1, 1)) / 2
    rows = [describe(x[None], 1, seed * 10_000 + n)[0].flatten() for n, x in enumerate(images)]
    return torch.stack(rows)


def swd(one: Tensor, other: Tensor) -> float:
    """Return the sliced Wasserstein distance of sets of neighbourhoods."""
    sets = [[[row.view(-1, 3, PATCH, PATCH)] for row in rows] for rows in (one, other)]
    return distances({"": sets[0]}, sets[1])[""]


def bootstrap(distance: Distance, one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the percentile interval of 200 resamples."""
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: Tensor) -> Tensor:
        return rows[torch.randint(len(rows), (len(rows),), generator=generator)]

    values = torch.tensor([distance(drawn(one), drawn(other)) for _ in range(RESAMPLES)])
    low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def jackknife(distance: Distance, one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the estimate plus and minus 1.96 standard errors of rows left out one by one."""

    def spread(rows: Tensor, without: Callable[[Tensor], float]) -> float:
        keep = ~torch.eye(len(rows), dtype=torch.bool)
        values = torch.tensor([without(rows[mask]) for mask in keep])
        return (len(rows) - 1) * values.var(correction=0).item()

    variance = spread(one, lambda x: distance(x, other)) + spread(other, lambda x: distance(one, x))
    center, width = distance(one, other), Z * variance**0.5
    return center - width, center + width


def rows(sizes: Sequence[int], trials: int) -> list[list[str]]:
    """Return the table: distance, interval, number of images, and the two coverages."""
    table = [["distance", "interval", "images", "equal distributions", "different ones"]]
    exact_kid = squared_mmd(features(8000, 10**6, False), features(8000, 10**6 + 1, True))
    exact_swd = swd(patches(2000, 10**6, False), patches(2000, 10**6 + 1, True))
    kinds: list[
        tuple[str, str, Callable[..., Tensor], Callable[..., tuple[float, float]], float, int]
    ]
    kinds = [
        ("KID", "jackknife", features, kernel_distance_interval, exact_kid, max(sizes)),
        ("KID", "bootstrap", features, lambda x, y: bootstrap(squared_mmd, x, y), exact_kid,
         max(sizes)),
        ("FID", "jackknife", features, lambda x, y: jackknife(frechet_distance, x, y),
         DIMENSIONS * SHIFT**2, 100),
        ("FID", "bootstrap", features, lambda x, y: bootstrap(frechet_distance, x, y),
         DIMENSIONS * SHIFT**2, max(sizes)),
        ("SWD", "bootstrap", patches, lambda x, y: bootstrap(swd, x, y), exact_swd, 100),
    ]  # fmt: skip
    for name, kind, draw, interval, exact, largest in kinds:
        for size in (size for size in sizes if size <= largest):
            held, count = [0, 0], max(trials // 10, 1) if name == "SWD" else trials
            for trial in range(count):
                for different, true in ((False, 0.0), (True, exact)):
                    one, other = draw(size, 2 * trial, False), draw(size, 2 * trial + 1, different)
                    low, high = interval(one, other)
                    held[different] += low <= true <= high
            table.append([name, kind, str(size), *(f"{n / count:.0%}" for n in held)])
            print(aligned(table[-1:]), file=sys.stderr, flush=True)
    return table


def main(arguments: list[str]) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--sizes", default="30,100,500", help="images of a set, with commas")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(aligned(rows([int(size) for size in args.sizes.split(",")], args.trials)))


if __name__ == "__main__":
    run_command(main)
