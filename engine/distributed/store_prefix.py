"""Agree on a key prefix for one start of a run, in a store that holds keys of earlier starts."""

import secrets
import time
from collections.abc import Callable
from typing import Any

from common.errors import RunError

POLL_SECONDS = 0.05  # between two checks


def agree_on_store_prefix(store: Any, rank: int, world_size: int, timeout: float) -> str:
    """Return a prefix that all processes of this start agree on, and no earlier start had.

    After a failure torchrun restarts all processes with the same store, which still holds the
    addresses of those that ended. So each rank writes a request with a random token, rank 0 answers
    that token with the prefix, and returns when all ranks have confirmed it. RunError after
    `timeout` seconds.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + timeout
    if rank:
        store.set(f"request {rank}", token)
        _wait_until(lambda: store.check([f"answer {rank} {token}"]), deadline, timeout)
        prefix = store.get(f"answer {rank} {token}").decode()
        store.set(f"confirmed {prefix} {rank}", "")
        return prefix
    answered: dict[int, bytes] = {}

    def all_confirmed() -> bool:
        for other in range(1, world_size):
            if store.check([f"request {other}"]):
                request = store.get(f"request {other}")
                if answered.get(other) != request:  # the first one may be of an earlier start
                    store.set(f"answer {other} {request.decode()}", token)
                    answered[other] = request
        return all(store.check([f"confirmed {token} {other}"]) for other in range(1, world_size))

    _wait_until(all_confirmed, deadline, timeout)
    return token


def _wait_until(condition: Callable[[], bool], deadline: float, timeout: float) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise RunError(
                f"not all processes of the run started within {timeout:g} s (runtime.timeout)"
            )
        time.sleep(POLL_SECONDS)
