"""Damage bytes in typical ways: flipped bits, truncation, lost sectors, insertions."""

import random
from collections.abc import Callable, Sequence


def flip_bits(content: bytes, draw: random.Random) -> bytes:
    """Change one to eight bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Remove the last byte, or everything after a random position, or all bytes."""
    return content[: draw.choice((len(content) - 1, draw.randrange(len(content)), 0))]


def drop_start(content: bytes, draw: random.Random) -> bytes:
    """Remove 1 to 64 bytes at the beginning."""
    return content[draw.randint(1, min(64, len(content))) :]


def overwrite(content: bytes, draw: random.Random) -> bytes:
    """Fill up to 512 bytes with zeros or ones, as in a lost sector."""
    start = draw.randrange(len(content))
    length = min(draw.randint(1, 512), len(content) - start)
    return content[:start] + draw.choice((b"\0", b"\xff")) * length + content[start + length :]


def insert_bytes(content: bytes, draw: random.Random) -> bytes:
    """Insert up to 64 random bytes."""
    at = draw.randrange(len(content))
    return content[:at] + draw.randbytes(draw.randint(1, 64)) + content[at:]


def repeat_bytes(content: bytes, draw: random.Random) -> bytes:
    """Write up to 512 bytes twice."""
    start = draw.randrange(len(content))
    section = content[start : start + draw.randint(1, 512)]
    return content[:start] + section + content[start:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits, flip_bits, truncate, drop_start, overwrite, insert_bytes, repeat_bytes,
)  # fmt: skip


def damaged(content: bytes, others: Sequence[bytes], draw: random.Random) -> tuple[str, bytes]:
    """Return the kind of damage and the bytes; a splice takes its end from one of `others`."""
    if others and draw.random() < 0.12:
        other = draw.choice(others)
        return "splice", content[: draw.randrange(len(content))] + other[
            draw.randrange(len(other)) :
        ]
    damage = draw.choice(DAMAGES)
    return damage.__name__, damage(content, draw)
