"""Deciding with integers whether an exit is sure."""

from __future__ import annotations

import numpy as np
import pytest
from tests.integers.networks import convolution, with_exits

from edgewright.integers import ExitTest, IntegerNetwork
from edgewright.runtime import confidence


@pytest.mark.parametrize("scale", [2.0**-26, 2.0**-20, 0.11])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9, 0.999])
def test_integers_decide_as_the_softmax_does(scale: float, temperature: float,
                                             threshold: float) -> None:
    generator = np.random.default_rng(0)
    logits = np.rint(generator.normal(0, 3, (4000, 10)) / scale).astype(np.int32)
    exact = confidence(logits * scale, temperature)
    found = ExitTest.of(scale, threshold, temperature).is_sure(logits)
    close = np.abs(exact - threshold) < 1e-5 * threshold
    assert close.mean() < 0.01
    assert np.array_equal(found[~close], exact[~close] >= threshold)


def test_thresholds_beyond_what_a_probability_is() -> None:
    logits = np.array([[2**30, -2**31, 0], [0, 0, 0]], np.int32)
    assert ExitTest.of(1.0, 1.5).is_sure(logits).tolist() == [False, False]
    assert ExitTest.of(1.0, 0.0).is_sure(logits).tolist() == [True, True]
    assert ExitTest.of(1.0, 1.0).is_sure(logits).tolist() == [True, False]


def test_steps_are_grouped_by_the_output_that_needs_them_first() -> None:
    assert with_exits().parts() == ((1,), (0,))
    assert convolution(0).parts() == ((0,),)


def test_exits_need_outputs_that_mean_the_same() -> None:
    of = with_exits()
    exits = of.structure.exits
    with pytest.raises(ValueError, match="2 exits for 2 outputs"):
        IntegerNetwork(of.structure.replace(exits=exits * 2), of.constants)
    coarser = [one.replace(scale=0.5) if one.name == "early" else one
               for one in of.structure.tensors]
    with pytest.raises(ValueError, match="'last' is not int32 with the scale"):
        IntegerNetwork(of.structure.replace(tensors=coarser), of.constants)
    with pytest.raises(ValueError, match="two outputs are one tensor"):
        IntegerNetwork(of.structure.replace(outputs=of.structure.outputs[:1] * 2), of.constants)
