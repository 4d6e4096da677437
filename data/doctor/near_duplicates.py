"""Find pictures that stand in a set more than once, at a cost that grows with the set and not its square.

A picture's fingerprint is its detail: what is left of its luminance without brightness, contrast and
gradients. It survives compression, another size and another tint; a crop, a mirroring or a turn is another
picture to it. Twelve tables of buckets hold the pictures by a few numbers of their detail, in cells
wider than what a copy is moved; only those that share a bucket are compared. Photographs of a plain sky
are alike in everything but noise: a picture without detail resembles nothing but its exact copy.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

GRID = 32  # cells of luminance along a side
NUMBERS = 24  # projections of the detail, each of deviation 1 among pictures
TABLES, KEYS = 12, 6  # tables, and projections that make a key in each
CELL = 0.7  # copies after JPEG 75 and a tenth less size are moved by 0.1
APART = 0.6  # what no projection of a copy is moved by
DETAIL = 3.0  # levels of the second differences below which little but noise is left
ALIKE = 0.8  # correlation of details; copies stay above 0.95, other photographs below 0.4
CROWD = 16  # comparisons for one picture in one bucket
AT_ONCE = 2048  # pictures whose details are held at once: 8 MiB


def luminance_thumbnail(picture: Image.Image) -> np.ndarray:
    """Return a picture's luminance averaged over 32x32 areas, in 8-bit levels, float16 [32, 32]."""
    # In floats, since means that are rounded to a level would hide the detail of a calm picture.
    grey = picture.convert("L").convert("F")
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX)).astype(np.float16)


def near_duplicates(prints: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of prints that show one picture."""
    if len(prints) < 2:
        return []
    light = np.stack(prints)
    plain = np.concatenate([_details(part).std(1) < DETAIL for part in _parts(light)])
    rows = np.flatnonzero(~plain)
    if len(rows) < 2:
        return []
    numbers = np.concatenate([_projected(part) for part in _parts(light[rows])])
    found: list[tuple[int, int]] = []
    for pairs in _parts(_candidates(numbers)):
        first, second = (_standardised(light[rows[pairs[:, side]]]) for side in (0, 1))
        alike = np.einsum("pd,pd->p", first, second) / first.shape[1] > ALIKE
        found += [(i, j) for i, j in rows[pairs[alike]].tolist()]
    return sorted(found)


def groups_of(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the sets of numbers that pairs hold together, each sorted, in the order of their first."""
    parent: dict[int, int] = {}

    def root(number: int) -> int:
        while parent.setdefault(number, number) != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for i, j in pairs:
        first, second = sorted((root(i), root(j)))
        parent[second] = first
    groups: dict[int, list[int]] = {}
    for number in sorted(parent):
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())


def _candidates(numbers: np.ndarray) -> np.ndarray:
    """Return pairs [P, 2] of near rows that share a bucket, a bounded number for each row and table."""
    random = np.random.Generator(np.random.PCG64(0))
    found = [np.empty((0, 2), np.int64)]
    for table in range(TABLES):
        chosen = random.choice(NUMBERS, KEYS, replace=False)
        cells = np.floor(numbers[:, chosen] / CELL + random.random(KEYS)).astype(np.int64)
        bucket = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        # Sorted within a bucket: in a crowd, copies still stand close to each other.
        order = np.lexsort((numbers[:, table], bucket))
        for step in range(1, min(CROWD, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            shared = bucket[first] == bucket[second]
            if not shared.any():
                break
            pairs = np.stack([first[shared], second[shared]], axis=1)
            near = abs(numbers[pairs[:, 0]] - numbers[pairs[:, 1]]).max(1) < APART
            found.append(np.sort(pairs[near], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), AT_ONCE):
        yield rows[start : start + AT_ONCE]


def _details(light: np.ndarray) -> np.ndarray:
    """Return the second differences [N, D] of luminances [N, S, S]."""
    light = light.astype(np.float32)
    around = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:]
    return (4 * light[:, 1:-1, 1:-1] - around).reshape(len(light), -1)


def _standardised(light: np.ndarray) -> np.ndarray:
    details = _details(light)
    details -= details.mean(1, keepdims=True)
    return details / details.std(1, keepdims=True).clip(min=1e-6)


def _projected(light: np.ndarray) -> np.ndarray:
    """Return a few numbers [N, 24] of the detail in areas of twice the side, which copies keep best."""
    half = light.astype(np.float32).reshape(len(light), GRID // 2, 2, GRID // 2, 2).mean((2, 4))
    details = _standardised(half)
    random = np.random.Generator(np.random.PCG64(1))
    directions = np.linalg.qr(random.standard_normal((details.shape[1], NUMBERS)))[0]
    return details @ directions.astype(np.float32)
