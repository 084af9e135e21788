from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Any, cast

import pytest
import torch

from edgewright.core import Preprocessing
from edgewright.errors import DataError
from edgewright.task import ImageSplit
from edgewright.task._prefetch import prefetch


def threads() -> Any:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_results_come_in_order() -> None:
    assert list(prefetch(lambda x: x * x, range(50))) == [x * x for x in range(50)]
    assert list(prefetch(str, [])) == []
    assert threads() == []


def test_one_is_made_in_advance_and_no_more() -> Any:
    made, second = [], threading.Event()

    def make(item: Any) -> Any:
        made.append(item)
        if item == 1:
            second.set()
        return item

    results = prefetch(make, range(5))
    assert next(results) == 0
    assert second.wait(10)
    assert made == [0, 1]
    results.close()


def test_a_single_item_takes_no_thread() -> None:
    names = list(prefetch(lambda _: threading.current_thread().name, [0]))
    assert names == [threading.current_thread().name]


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_an_error_comes_through_in_its_turn(bad: int) -> Any:
    def make(item: Any) -> Any:
        if item == bad:
            raise DataError(f"item {item}")
        return item

    results = prefetch(make, range(5))
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(DataError, match=f"item {bad}"):
        next(results)
    assert threads() == []


@pytest.mark.parametrize("stop", ["close", "forget", "raise"])
def test_an_early_stop_leaves_no_thread(stop: str) -> None:
    recipe = Preprocessing(channels=1, height=4, width=4, mean=(0.5,), std=(0.5,))
    split = ImageSplit(torch.zeros(40, 1, 4, 4, dtype=torch.uint8), torch.arange(40), recipe)

    def use() -> None:
        batches = split.batches(4)
        next(batches)
        assert len(threads()) == 1
        if stop == "close":
            cast(Generator[Any], batches).close()
            assert threads() == []
        if stop == "raise":
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        use()
    assert threads() == []
