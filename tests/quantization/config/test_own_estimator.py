"""A range estimator of a user's own, from the config to the integers and into a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

import edgewright as ew
from edgewright.errors import UsageError
from edgewright.program import Program
from edgewright.quantization import Grid, MinMax, Observer
from edgewright.task import Task


@dataclass(frozen=True)
class Mine:
    """Extremes, under a name that Edgewright does not know."""

    note: str = "a"

    def observer(self, grid: Grid) -> Observer:
        return MinMax().observer(grid)


def test_ranges_are_those_that_it_finds(small: Program, colour_task: Task) -> None:
    mine, known = (ew.quantize(small, colour_task, ew.Quantization(
        range_estimator=estimator, calibration_samples=64)) for estimator in (Mine(), "minmax"))
    torch.testing.assert_close(mine.state_dict(), known.state_dict(), rtol=0, atol=0)


def test_it_is_recorded_and_cannot_be_read_back() -> None:
    recipe = ew.Recipe(quantize=ew.Quantization(range_estimator=Mine("b")))
    written = recipe.model_dump(mode="json")["quantize"]
    assert written["range_estimator"] == "Mine(note='b')"
    with pytest.raises(UsageError, match=(
            r"range_estimator: Input should be 'minmax', 'percentile', 'mse' or 'entropy', or your own "
            r"object of type RangeEstimator, given in Python, got \"Mine\(note='b'\)\"")):
        ew.Quantization.model_validate(written)


@pytest.mark.parametrize("wrong", [Mine, MinMax, object(), 3, {"mse": 1}])
def test_what_is_no_estimator_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="range_estimator: Input should be 'minmax'"):
        ew.Quantization(range_estimator=wrong)
