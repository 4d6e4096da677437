"""Map a function over items in threads, of which an unfinished one never delays an error."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()
THREAD_NAME = "mapping"


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, result of `function`) in order, from `threads` threads.

    Results of at most `ahead` later items are computed before they are asked for. When the
    iteration ends early, also by Ctrl-C, no thread is waited for: it may wait for a disk that does
    not answer.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in chain(items, repeat(_END, ahead)):
            if item is not _END:
                pending.append((item, pool.submit(function, item)))  # pyright: ignore[reportArgumentType]
            if pending and (item is _END or len(pending) > ahead):
                first, future = pending.popleft()
                yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
