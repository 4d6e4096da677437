"""How the processes of one start find each other in a store that remembers earlier starts."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from common.errors import RunError

POLL_SECONDS = 0.05  # seconds between two looks


def agree_on_store_prefix(store: Any, rank: int, count: int, limit: float) -> str:
    """Return a name that all `count` processes of this start agree on, and no earlier start had.

    After a failure torchrun starts all anew with the store of before, where the addresses of the dead
    still stand. So each process knocks with a word of its own, the first answers that word with
    the name, and is done when all have confirmed it. RunError after `limit` seconds.
    """
    mine, until = secrets.token_hex(8), time.monotonic() + limit
    if rank:
        store.set(f"knock {rank}", mine)
        _wait(lambda: store.check([f"answer {rank} {mine}"]), until, limit)
        name = store.get(f"answer {rank} {mine}").decode()
        store.set(f"in {name} {rank}", "")
        return name
    answered: dict[int, bytes] = {}

    def all_in() -> bool:
        for other in range(1, count):
            if store.check([f"knock {other}"]):
                word = store.get(f"knock {other}")
                if answered.get(other) != word:  # the first one may be of an earlier start
                    store.set(f"answer {other} {word.decode()}", mine)
                    answered[other] = word
        return all(store.check([f"in {mine} {other}"]) for other in range(1, count))

    _wait(all_in, until, limit)
    return mine


def _wait(is_there: Callable[[], bool], until: float, limit: float) -> None:
    while not is_there():
        if time.monotonic() > until:
            raise RunError(
                f"not all processes of the run came within {limit:g} s (runtime.timeout)"
            )
        time.sleep(POLL_SECONDS)
