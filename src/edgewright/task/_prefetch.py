"""Work that is done while the result before it is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def prefetch(make: Callable[[Given], Made], sequence: Sequence[Given]
             ) -> Generator[Made, None, None]:
    """``make`` of every item in order, the next one always under way in a thread of its own.

    Whatever ``make`` raises is raised here, when its result's turn comes. The thread ends with
    the generator, however that ends.

    Args:
        make: Must depend on its argument alone, and draw no global random numbers.
        sequence: Where it holds one item, no thread is started.

    Example:
        >>> list(prefetch(str.upper, ["a", "b", "c"]))
        ['A', 'B', 'C']
    """
    if len(sequence) < 2:
        yield from map(make, sequence)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        under_way = thread.submit(make, sequence[0])
        for item in sequence[1:]:
            made, under_way = under_way.result(), thread.submit(make, item)
            yield made
        yield under_way.result()
