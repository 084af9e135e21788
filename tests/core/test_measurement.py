"""Figures and the measurements they gather."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from edgewright.core import CONSTRAINTS, UNITS, FigureName, Figures, Measurement


def measured(name: str, value: Any, **more: Any) -> Any:
    return Measurement(name=name, value=value, kind="measured", **more)


def test_every_figure_has_a_unit() -> None:
    assert set(UNITS) == set(get_args(FigureName))
    assert {c.figure for c in CONSTRAINTS.values()} <= set(UNITS)
    assert measured("energy_mj", 1).unit == "mJ/sample"


def test_a_later_measurement_replaces_an_earlier_one() -> None:
    first, other, second = (measured("macs", 1), measured("accuracy", 0.5), measured("macs", 2))
    gathered = Figures.of(first, other, second)
    assert list(gathered.names()) == ["macs", "accuracy"]
    assert gathered["macs"] == 2
    assert Figures.of(first).with_(second, other) == Figures.of(second, other)


def test_a_figure_is_found_whole_by_value_or_not_at_all() -> None:
    latency = measured("latency_ms", 2.0, low=1.8, high=2.5, split="test", samples=300)
    gathered = Figures.of(latency)
    assert gathered.find("latency_ms") is latency
    assert (gathered.get("latency_ms"), gathered.get("macs")) == (2.0, None)
    assert gathered.find("macs") is None
    with pytest.raises(KeyError, match="macs"):
        gathered["macs"]


def test_figures_survive_json() -> None:
    gathered = Figures.of(measured("accuracy", 0.1 + 0.2, split="test", runtime="r", samples=7),
                          Measurement(name="macs", value=3, kind="modelled", low=1, high=4))
    assert Figures.model_validate_json(gathered.model_dump_json()) == gathered


@pytest.mark.parametrize("wrong", [{"name": "speed"}, {"kind": "guessed"}, {"unit": "s"}])
def test_what_is_no_measurement_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Measurement(**{"name": "macs", "value": 1, "kind": "measured", **wrong})
