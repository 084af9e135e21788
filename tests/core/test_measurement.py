"""Figures and the measurements they gather."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from edgewright.core import (
    ACCURACY,
    CONSTRAINTS,
    COSTS,
    CostName,
    Figures,
    Measurement,
    MetricSpec,
    known_figure,
)


def measured(name: str, value: Any, **more: Any) -> Any:
    return Measurement(name=name, value=value, kind="measured", **more)


def test_every_cost_has_a_unit() -> None:
    assert set(COSTS) == set(get_args(CostName))
    assert {c.figure for c in CONSTRAINTS.values()} <= set(COSTS)
    assert all(spec.unit and not spec.higher_is_better for spec in COSTS.values())
    assert measured("energy_mj", 1).unit == "mJ/sample"
    assert measured("energy_mj", 1).spec == COSTS["energy_mj"] == known_figure("energy_mj")
    assert measured("accuracy", 1).spec == ACCURACY == known_figure("accuracy")


def test_a_metric_keeps_its_own_unit_and_direction() -> None:
    spec = MetricSpec(name="mae", unit="years", higher_is_better=False)
    found = Measurement.of(spec, 2.5, split="test", runtime="r", samples=7)
    assert found.spec == spec
    assert (found.kind, found.split, found.runtime, found.samples) == ("measured", "test", "r", 7)
    assert found.is_metric
    assert not measured("macs", 1).is_metric
    assert (spec.merit(2.5), ACCURACY.merit(0.5)) == (-2.5, 0.5)


def test_the_first_metric_is_primary() -> None:
    miou, accuracy = measured("miou", 0.5, unit="fraction"), measured("accuracy", 0.9)
    gathered = Figures.of(measured("macs", 1), miou, accuracy)
    assert gathered.metrics == (miou, accuracy)
    assert gathered.metric is miou
    assert Figures.of(measured("macs", 1)).metric is None


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


@pytest.mark.parametrize("wrong", [{"kind": "guessed"}, {"unit": "s"}, {"higher_is_better": True},
                                   {"name": 3}])
def test_what_is_no_measurement_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Measurement(**{"name": "macs", "value": 1, "kind": "measured", **wrong})
