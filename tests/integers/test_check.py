"""Networks that do not fit together are refused before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tests.integers.networks import (
    average,
    convolution,
    copies,
    draw_integers,
    lookup,
    maximum,
    pair,
    wide_copies,
)

from edgewright.integers import IntegerNetwork, Port, Product, Sum, run_reference


def change_step(of: IntegerNetwork, **changes: Any) -> IntegerNetwork:
    step, = of.steps
    return IntegerNetwork(of.structure.replace(steps=(step.replace(**changes),)), of.constants)


def change_constant(of: IntegerNetwork, name: str, array: Any) -> IntegerNetwork:
    return IntegerNetwork(of.structure, {**of.constants, name: np.asarray(array)})


def change_window(of: IntegerNetwork, **changes: Any) -> IntegerNetwork:
    step: Any = of.steps[0]
    return change_step(of, window=step.window.replace(**changes))


@pytest.mark.parametrize(("broken", "fault"), [
    (lambda: change_step(convolution(0), input="gone"), "there is no tensor 'gone'"),
    (lambda: change_step(convolution(0), input="out"), "'out' is read before it is written"),
    (lambda: change_step(convolution(0), output="in"), "'in' is written twice"),
    (lambda: change_step(convolution(0), weight="gone"), "there is no constant 'gone'"),
    (lambda: change_step(convolution(0), high=256), "do not fit uint8"),
    (lambda: change_step(convolution(0), low=9, high=8), "limits 9 and 8"),
    (lambda: change_step(convolution(0), groups=3), "3 groups do not divide"),
    (lambda: change_step(convolution(0), bits=4), "weights need more than 4 bits"),
    (lambda: change_constant(convolution(0), "w", np.zeros((6, 3, 3, 5), np.int8)), "expected int8"),
    (lambda: change_constant(convolution(0), "s", np.zeros(6, np.uint8)), "between 1 and 62"),
    (lambda: change_constant(convolution(0), "b", np.full(6, 2**31 - 1, np.int32)), "exceed 32 bits"),
    (lambda: change_constant(convolution(0), "f", np.zeros(6, np.int64)), "'f' is int64"),
    (lambda: change_window(convolution(0), inputs=(7, 7, 4)), "its window does not fit"),
    (lambda: change_window(convolution(0), outputs=(9, 6, 6)), "its window does not fit"),
    (lambda: change_window(maximum(), padding=(4, 1)), "in the padding alone"),
    (lambda: change_window(average(0, varies=False), padding=(1, 4)), "in the padding alone"),
    (lambda: change_constant(average(0, varies=True), "f", np.ones(5, np.int32)), "'f' is int32"),
    (lambda: change_step(pair(Sum, 0), inputs=("a", "gone")), "there is no tensor 'gone'"),
    (lambda: change_step(lookup(0), table="gone"), "there is no constant 'gone'"),
    (lambda: change_constant(lookup(0), "t", np.zeros(255, np.uint8)), "expected uint8"),
    (lambda: change_step(copies(), fill=300), "300 does not fit"),
    (lambda: change_step(copies(), fill=None), "never written"),
])
def test_a_step_that_does_not_fit_is_refused_by_number(broken: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=f"step 0 .*{fault}"):
        broken()


@pytest.mark.parametrize("changes", [
    {"sizes": (5, 3)}, {"steps_in": (1, 5)}, {"start_in": 1}, {"start_out": 20},
    {"sizes": (4, 3, 2)}, {"input": "gone"}])
def test_a_block_outside_its_tensors_is_refused(changes: dict[str, Any]) -> None:
    step: Any = copies().steps[0]
    with pytest.raises(ValueError, match="step 0"):
        change_step(copies(), parts=(step.parts[0].replace(**changes),))


@pytest.mark.parametrize(("changes", "fault"), [
    ({"factor": 2**31 - 1, "shift": 1}, "results exceed 32 bits"),
    ({"factor": -(2**31), "shift": 15}, "results exceed 32 bits")])
def test_results_that_exceed_32_bits_are_refused(changes: dict[str, int], fault: str) -> None:
    with pytest.raises(ValueError, match=f"step 0 .*{fault}"):
        change_step(pair(Product, 0), **changes)


@pytest.mark.parametrize(("dtype", "zero_point"), [("uint8", -1), ("uint8", 256), ("int8", 128),
                                                   ("int32", 1)])
def test_zero_points_are_integers_of_their_type(dtype: str, zero_point: int) -> None:
    with pytest.raises(ValidationError, match="zero point"):
        lookup(0).structure.tensors[0].replace(dtype=dtype, zero_point=zero_point)


def test_only_copies_read_more_than_8_bits() -> None:
    of = wide_copies()
    with pytest.raises(ValueError, match=r"step 1 \(maximum_pool\): it cannot read int32"):
        IntegerNetwork(of.structure.replace(steps=(of.steps[0], maximum().steps[0].replace(
            input="sums"))), of.constants)
    wide = [one.replace(dtype="int32", zero_point=0) for one in copies().structure.tensors]
    with pytest.raises(ValueError, match="inputs: 'in' is int32, expected uint8 or int8"):
        IntegerNetwork(copies().structure.replace(tensors=wide), {})


@pytest.mark.parametrize("ports", ["inputs", "outputs"])
def test_ports_have_the_size_of_their_tensors(ports: str) -> None:
    of = lookup(0)
    port = Port(name="x", tensor="in", shape=(31,), order=(0,))
    with pytest.raises(ValueError, match=f"{ports}: 'x' has another size"):
        IntegerNetwork(of.structure.replace(**{ports: (port,)}), of.constants)
    with pytest.raises(ValidationError, match="not an order"):
        Port(name="x", tensor="in", shape=(31,), order=(1,))


def test_two_tensors_of_one_name_are_refused() -> None:
    of = lookup(0)
    twice = (*of.structure.tensors, of.structure.tensors[0])
    with pytest.raises(ValueError, match="share a name"):
        IntegerNetwork(of.structure.replace(tensors=twice), of.constants)


def test_constants_cannot_be_changed_later() -> None:
    of = convolution(0)
    with pytest.raises(ValueError, match="read-only"):
        of.constants["w"][:] = 0
    assert len(run_reference(of, draw_integers(of, 2))[0]) == 2
