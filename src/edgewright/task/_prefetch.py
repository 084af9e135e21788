"""Compute the next item in a background thread while the current one is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(make: Callable[[Item], Result], sequence: Sequence[Item]
             ) -> Generator[Result, None, None]:
    """Yield ``make(item)`` for every item in order, computing one result ahead in a thread.

    An exception of ``make`` is raised here when its result is due. The thread ends with the
    generator, also if that is closed early.

    Args:
        make: Must depend on its argument alone and draw no global random numbers.
        sequence: The items; no thread is started for a single one.

    Example:
        >>> list(prefetch(str.upper, ["a", "b", "c"]))
        ['A', 'B', 'C']
    """
    if len(sequence) < 2:
        yield from map(make, sequence)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        pending = thread.submit(make, sequence[0])
        for item in sequence[1:]:
            result, pending = pending.result(), thread.submit(make, item)
            yield result
        yield pending.result()
