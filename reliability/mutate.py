"""Damage bytes in the ways that disks, networks and people do."""

import random
from collections.abc import Callable, Sequence


def flip(content: bytes, draw: random.Random) -> bytes:
    """Change one to eight bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    """End early: by one byte, or anywhere."""
    return content[: draw.choice((len(content) - 1, draw.randrange(len(content)), 0))]


def cut_start(content: bytes, draw: random.Random) -> bytes:
    """Lose the beginning."""
    return content[draw.randint(1, min(64, len(content))) :]


def blank(content: bytes, draw: random.Random) -> bytes:
    """Fill a stretch with zeros or ones, as a lost sector is."""
    start = draw.randrange(len(content))
    length = min(draw.randint(1, 512), len(content) - start)
    return content[:start] + draw.choice((b"\0", b"\xff")) * length + content[start + length :]


def insert(content: bytes, draw: random.Random) -> bytes:
    """Put random bytes in between."""
    at = draw.randrange(len(content))
    return content[:at] + draw.randbytes(draw.randint(1, 64)) + content[at:]


def repeat(content: bytes, draw: random.Random) -> bytes:
    """Write a stretch twice."""
    start = draw.randrange(len(content))
    stretch = content[start : start + draw.randint(1, 512)]
    return content[:start] + stretch + content[start:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip, flip, cut, cut_start, blank, insert, repeat,
)  # fmt: skip


def damaged(content: bytes, others: Sequence[bytes], draw: random.Random) -> tuple[str, bytes]:
    """Return what was done to `content`, and the result; a splice takes its end from one of `others`."""
    if others and draw.random() < 0.12:
        other = draw.choice(others)
        return "splice", content[: draw.randrange(len(content))] + other[
            draw.randrange(len(other)) :
        ]
    damage = draw.choice(DAMAGES)
    return damage.__name__, damage(content, draw)
