"""Find near-duplicate images by locality-sensitive hashing, without comparing all pairs.

The descriptor of an image is its detail: its luminance without brightness, contrast and gradients.
It survives compression, resizing and recoloring, but not cropping, mirroring or rotation. A few
random projections of the detail are quantized into hash keys, in cells wider than the change of a
copy; twelve hash tables collect the candidates, and only images in a common bucket are compared.
Photographs of a plain sky differ by nothing but noise; images without detail therefore have no
near-duplicates, only exact copies.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

GRID = 32  # cells of luminance along a side
PROJECTIONS = 24  # random projections of the detail, each of standard deviation 1 over images
TABLES, KEY_PROJECTIONS = 12, 6  # hash tables, and projections in the key of each
CELL_WIDTH = 0.7  # of a projection; JPEG quality 75 and resizing by a tenth change one by 0.1
MAX_CHANGE = 0.6  # of any projection between copies
MIN_DETAIL = 3.0  # standard deviation of the detail in levels; below it is little but noise
MIN_CORRELATION = 0.8  # of clipped details; copies are above 0.85, different photographs below 0.4
MAX_DETAIL = 0.5  # clips details, in standard deviations: a horizon alone does not make a copy
MAX_NEIGHBORS = 16  # comparisons for one image in one bucket
CHUNK = 2048  # images whose details are in memory at once: 8 MiB


def luminance_thumbnail(image: Image.Image) -> np.ndarray:
    """Return luminance averaged over 32x32 areas, in 8-bit levels, float16 [32, 32]."""
    # In floats: means rounded to a level would lose the detail of an image of low contrast.
    grey = image.convert("L").convert("F")
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX)).astype(np.float16)


def near_duplicates(luminances: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of luminance thumbnails that show the same image."""
    if len(luminances) < 2:
        return []
    light = np.stack(luminances)
    is_plain = np.concatenate([_details(chunk).std(1) < MIN_DETAIL for chunk in _chunks(light)])
    rows = np.flatnonzero(~is_plain)
    if len(rows) < 2:
        return []
    projected = np.concatenate([_project(chunk) for chunk in _chunks(light[rows])])
    found: list[tuple[int, int]] = []
    for pairs in _chunks(_candidates(projected)):
        first, second = (_clipped_details(light[rows[pairs[:, side]]]) for side in (0, 1))
        correlation = np.einsum("pd,pd->p", first, second) / first.shape[1]
        found += [(i, j) for i, j in rows[pairs[correlation > MIN_CORRELATION]].tolist()]
    return sorted(found)


def groups_of(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of the pairs, each sorted, ordered by their first number."""
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


def _candidates(projected: np.ndarray) -> np.ndarray:
    """Return pairs [P, 2] of rows that are near, in one bucket; at most 16 per row and table."""
    random = np.random.Generator(np.random.PCG64(0))
    found = [np.empty((0, 2), np.int64)]
    for table in range(TABLES):
        chosen = random.choice(PROJECTIONS, KEY_PROJECTIONS, replace=False)
        offsets = random.random(KEY_PROJECTIONS)
        cells = np.floor(projected[:, chosen] / CELL_WIDTH + offsets).astype(np.int64)
        bucket = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        # Sorted within a bucket, so that copies are close to each other even in a full one.
        order = np.lexsort((projected[:, table], bucket))
        for step in range(1, min(MAX_NEIGHBORS, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            same_bucket = bucket[first] == bucket[second]
            if not same_bucket.any():
                break
            pairs = np.stack([first[same_bucket], second[same_bucket]], axis=1)
            change = abs(projected[pairs[:, 0]] - projected[pairs[:, 1]]).max(1)
            found.append(np.sort(pairs[change < MAX_CHANGE], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _details(light: np.ndarray) -> np.ndarray:
    """Return the second differences [N, D] of luminances [N, S, S]."""
    light = light.astype(np.float32)
    around = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:]
    return (4 * light[:, 1:-1, 1:-1] - around).reshape(len(light), -1)


def _standardized_details(light: np.ndarray) -> np.ndarray:
    return _standardize(_details(light))


def _standardize(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(1, keepdims=True)
    return rows / rows.std(1, keepdims=True).clip(min=1e-6)


def _clipped_details(light: np.ndarray) -> np.ndarray:
    """Return details [N, D] in which one strong edge weighs no more than a faint one."""
    return _standardize(_standardized_details(light).clip(-MAX_DETAIL, MAX_DETAIL))


def _project(light: np.ndarray) -> np.ndarray:
    """Return random projections [N, 24] of the detail at half resolution, the most robust one."""
    half = light.astype(np.float32).reshape(len(light), GRID // 2, 2, GRID // 2, 2).mean((2, 4))
    details = _standardized_details(half)
    random = np.random.Generator(np.random.PCG64(1))
    directions = np.linalg.qr(random.standard_normal((details.shape[1], PROJECTIONS)))[0]
    return details @ directions.astype(np.float32)
