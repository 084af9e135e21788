"""Only the branch taken runs; a batch is divided by the index and put together in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.core import Fork, ModelSpec, Segment, TensorSpec, Wiring
from edgewright.errors import BundleError
from edgewright.runtime.routing import Router

X = TensorSpec(name="x", dtype="float32", shape=(None, 2))
Array = NDArray[Any]


def make(*wirings: Wiring) -> Router:
    segments = tuple(Segment(file=f"segments/{number}.onnx", sha256="", size_bytes=1, macs=1,
                             energy_mj=0.1, ram_bytes=1, wiring=wiring)
                     for number, wiring in enumerate(wirings))
    return Router(ModelSpec(name="routed", inputs=(X,), outputs=(X.replace(name="y"),),
                            segments=segments))


def nested() -> Router:
    """Index 0 takes segment 1; index 1 takes segment 2, whose own index chooses 3 or 4; then 5."""
    return make(
        Wiring(takes=("x",), gives=("i", "h"),
               fork=Fork(index="i", branches=(1, 2), results=("r",), after=5)),
        Wiring(takes=("h",), gives=("r",)),
        Wiring(takes=("h",), gives=("j",), fork=Fork(index="j", branches=(3, 4), results=("r",))),
        Wiring(takes=("h",), gives=("r",)), Wiring(takes=("x",), gives=("r",)),
        Wiring(takes=("r", "x"), gives=("y",)))


class Engines:
    """Records the rows that each segment ran on."""

    def __init__(self) -> None:
        self.ran: dict[int, list[int]] = {}

    def __call__(self, segment: int, values: tuple[Array, ...]) -> tuple[Array, ...]:
        first = values[0]
        self.ran.setdefault(segment, []).append(len(first))
        outer, inner = first[:, 0].astype(np.int64), first[:, 1].astype(np.int64)
        return {0: (outer, first), 1: (first * 10,), 2: (inner,), 3: (first * 100,),
                4: (first * 1000,), 5: (first + values[-1] * 0,)}[segment]


def reference(x: Array) -> Array:
    factor = {(0, 0): 10, (0, 1): 10, (1, 0): 100, (1, 1): 1000}
    return np.array([row * factor[int(row[0]), int(row[1])] for row in x])


@pytest.mark.parametrize("rows", [
    [(1, 0)], [(0, 1), (0, 0)], [(1, 1), (0, 0), (1, 0), (1, 1), (0, 1)]])
def test_a_batch_is_divided_and_put_together(rows: Any) -> None:
    x, engines = np.array(rows, dtype=np.float32), Engines()
    result = nested().run((x,), len(x), engines)
    assert np.array_equal(result.outputs[0], reference(x))
    inner = x[x[:, 0] == 1]
    expected = [len(x), int((x[:, 0] == 0).sum()), len(inner), int((inner[:, 1] == 0).sum()),
                int((inner[:, 1] == 1).sum()), len(x)]
    assert result.computed == expected
    assert engines.ran == {number: [count] for number, count in enumerate(expected) if count}


def per_call(index: Any) -> Any:
    router = make(Wiring(takes=("x",), gives=("i",), fork=Fork(
        index="i", branches=(1, 2), results=("y",), per_sample=False)),
        Wiring(takes=("x",), gives=("y",)), Wiring(takes=("x",), gives=("y",)))
    x = np.ones((3, 2), dtype=np.float32)
    return router.run((x,), 3, lambda number, values: (index,) if number == 0
                      else (values[0] * number,))


def test_one_decision_may_be_for_a_whole_call() -> None:
    result = per_call(np.array(1))
    assert result.computed == [3, 0, 3]
    assert result.outputs[0].tolist() == [[2, 2]] * 3


@pytest.mark.parametrize(("index", "message"), [
    (np.array(2), "decides for the branches 2 to 2, but there are 2"),
    (np.array(-1), "decides for the branches -1"),
    (np.array([1, 1, 1]), "shape \\(3,\\), expected one integer per call"),
    (np.array(1.0), "decides by float64"),
])
def test_an_index_that_is_no_branch_is_refused(index: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        per_call(index)
