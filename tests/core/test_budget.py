"""Budgets: how they are written, what they allow, and which limits a file breaks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import (
    ACCURACY,
    CONSTRAINTS,
    COSTS,
    Bound,
    Breach,
    Budget,
    Figures,
    Limit,
    Measurement,
    MetricSpec,
)
from edgewright.core._budget import ResolvedLimit
from edgewright.errors import SettingsError, UsageError


def figures(**values: Any) -> Any:
    return Figures.of(*(Measurement(name=name, value=value, kind="measured")
                        for name, value in values.items()))


def near(value: float) -> Any:
    """What equals a value but for rounding."""
    return pytest.approx(value)


ORIGINAL = figures(size_bytes=400_000, ram_bytes=50_000, latency_ms=4.0, macs=40e6, energy_mj=2.0,
                   accuracy=0.917)


def test_quantities_become_base_units() -> None:
    budget = Budget(size="100 kB", ram="96 KiB", latency="2 ms", macs="20 M", energy="1 J",
                    max_drop="0.5", metrics={"accuracy": ">= 90 %", "mae": "<=3.5"})
    limits = budget.model_dump()
    metrics = limits.pop("metrics")
    assert limits.pop("accuracy") is None
    values = {name: limit["value"] for name, limit in limits.items()}
    assert values == pytest.approx({"size": 1e5, "ram": 98304, "latency": 2, "macs": 2e7,
                                    "energy": 1000, "max_drop": 0.5})
    assert not any(limit["relative"] for limit in limits.values())
    assert metrics == {"accuracy": {"value": pytest.approx(0.9), "at_most": False},
                       "mae": {"value": 3.5, "at_most": True}}


def test_bare_numbers_and_limits_are_taken_as_they_are() -> None:
    budget = Budget(size=1000, latency=Limit(value=0.5, relative=True), max_drop=0.01,
                    metrics={"miou": Bound(value=0.6)})
    assert budget == Budget(size="1 kB", latency="50 %", max_drop="0.01",
                            metrics={"miou": ">=0.6"})
    assert Budget() == Budget(size=None)


@pytest.mark.parametrize("name", ["size", "ram", "latency", "macs", "energy"])
def test_a_percentage_is_of_the_original(name: str) -> None:
    budget = Budget(**{name: "30 %"})
    assert getattr(budget, name) == Limit(value=0.3, relative=True)
    before = ORIGINAL[CONSTRAINTS[name].figure]
    assert budget.limits(ORIGINAL) == {name: ResolvedLimit(
        COSTS[CONSTRAINTS[name].figure], near(0.3 * before), True)}


def test_a_drop_is_in_points_and_an_accuracy_absolute() -> None:
    limits = Budget(max_drop="0.5 %", metrics={"accuracy": ">= 90 %"}).limits(ORIGINAL)
    assert limits == {"max_drop": ResolvedLimit(ACCURACY, near(0.912), False),
                      "accuracy": ResolvedLimit(ACCURACY, near(0.9), False)}


@pytest.mark.parametrize(("unit", "higher", "drop", "bound"), [
    ("fraction", True, "5 %", 0.75), ("fraction", False, "5 %", 0.85), ("fraction", True, 0.05, 0.75),
    ("dB", True, "5 %", 0.76), ("years", False, "5 %", 0.84), ("years", False, "0.5", 1.3),
    ("dB", True, 0.5, 0.3),
])
def test_a_drop_follows_the_primary_metrics_unit_and_direction(unit: str, higher: bool, drop: Any,
                                                               bound: float) -> None:
    spec = MetricSpec(name="mine", unit=unit, higher_is_better=higher)
    before = Figures.of(Measurement.of(spec, 0.8), Measurement.of(ACCURACY, 0.1))
    limit = Budget(max_drop=drop).limits(before)["max_drop"]
    assert limit == ResolvedLimit(spec, near(bound), not higher)
    assert limit.holds(limit.bound)
    assert limit.holds(limit.bound + (0.01 if higher else -0.01))
    assert not limit.holds(limit.bound - (0.01 if higher else -0.01))
    assert not limit.holds(None)


def test_a_relative_drop_of_a_negative_metric_allows_worse_values() -> None:
    spec = MetricSpec(name="likelihood")
    limit = Budget(max_drop="10 %").limits(Figures.of(Measurement.of(spec, -2.0)))["max_drop"]
    assert limit == ResolvedLimit(spec, near(-2.2), False)


METRICS = (ACCURACY, MetricSpec(name="age/mae", unit="years", higher_is_better=False))


def test_bounds_and_drops_that_fit_the_metrics_pass() -> None:
    for text in ("accuracy>=90%,age/mae<=3.5,drop=0.5%", "drop=99%", "", "size=1kB"):
        Budget.parse(text).check_metrics(METRICS)
    Budget.parse("drop=5").check_metrics(METRICS[1:])


@pytest.mark.parametrize(("text", "metrics", "message"), [
    ("miou>=0.5", METRICS, "the budget bounds the metric 'miou', but the task has accuracy, "
                           "age/mae"),
    ("accuracy<=0.5", METRICS, "the budget asks for accuracy <= 0.5, but higher is better; "
                               "write >="),
    ("age/mae>=2", METRICS, "the budget asks for age/mae >= 2, but lower is better; write <="),
    ("accuracy>=92", METRICS, "the budget asks for accuracy >= 92, but it is a fraction; write "
                              "'>= 92 %'"),
    ("accuracy>=101%", METRICS, "the budget asks for accuracy >= 1.01, but it is a fraction"),
    ("drop=5", METRICS, "a drop of 100 points or more is no limit; write '1 %' for one point"),
    ("drop=100%", METRICS, "a drop of 100 points or more"),
    ("drop=100%", METRICS[1:], "a drop of 100 points or more"),
])
def test_limits_that_do_not_fit_the_metrics_are_refused(text: str, metrics: Any,
                                                        message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(text).check_metrics(metrics)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["size=30%,latency=2ms,drop=1%", " size = 30 % , latency=2 ms,"
                                  "drop = 1 %,", "max_drop=1%,latency=2,size=30%"])
def test_the_command_lines_form(text: str) -> None:
    assert Budget.parse(text) == Budget(size="30 %", latency="2 ms", max_drop="1 %")


def test_nothing_is_no_limit() -> None:
    assert Budget.parse("") == Budget()
    assert Budget().limits(ORIGINAL) == {}
    assert Budget().breaches(figures(), figures()) == ()


@pytest.mark.parametrize(("text", "message"), [
    ("speed=2", "speed=2: unknown limit; known: size, ram, latency, macs, energy, drop, accuracy; "
                "write speed>=2 for a metric (<= if lower is better)"),
    ("latncy=2", "latncy=2: unknown limit; did you mean latency?"),
    ("size", "size: expected NAME=QUANTITY with NAME one of size, ram, latency, macs, energy, drop, "
             "or a metric as in accuracy>=0.9"),
    ("size>=1kB", "size>=1kB: write size=1kB"),
    ("drop<=1%", "drop<=1%: write drop=1%"),
    ("miou>=0.5,miou>=0.6", "miou>=0.6: miou is limited twice"),
    ("miou>=0.5,miou<=0.6", "miou<=0.6: miou is limited twice"),
    ("accuracy=0.5,accuracy>=0.6", "accuracy>=0.6: accuracy is limited twice"),
    ("miou>=high", "miou: '>=high' is no bound on a metric; write '>= 0.6', '>= 60 %' or '<= 3.5'"),
    ("size=1kB,size=2kB", "size=2kB: size is limited twice"),
    ("drop=1%,max_drop=2%", "max_drop=2%: drop is limited twice"),
    ("size=", "size: '' is not a quantity"),
    ("size=-1", "size: '-1' is not a quantity"),
    ("size=3 ms", "size: unknown unit 'ms' in '3 ms' for a size"),
    ("latency=2kB", "latency: unknown unit 'kB' in '2kB' for a time"),
    ("drop=1kB", "drop: unknown unit 'kB' in '1kB' for a number"),
    ("size=1e400", "size: '1e400' is too large"),
])
def test_a_budget_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Budget.parse(text)
    assert str(caught.value).startswith(f"the budget: {message}")


def test_all_bad_limits_are_listed_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Budget.parse("size=1kB,latncy=2,ram=2 ms,drop=x,size=2kB,accuracy>=high")
    assert [fault.path for fault in caught.value.faults] == [
        ("latncy=2",), ("size=2kB",), ("ram",), ("drop",), ("accuracy",)]
    lines = str(caught.value).splitlines()
    assert lines[0] == "the budget: latncy=2: unknown limit; did you mean latency?"
    assert lines[1] == "the budget: size=2kB: size is limited twice"
    with pytest.raises(SettingsError) as caught:
        Budget(sise="1 kB", ram="2 ms", metrics={"miou": "high"})  # type: ignore[call-arg]
    assert sorted(str(caught.value).splitlines()) == [
        "Budget: metrics.miou: 'high' is no bound on a metric; write '>= 0.6', '>= 60 %' or "
        "'<= 3.5'",
        "Budget: ram: unknown unit 'ms' in '2 ms' for a size; known: B, kB, KB, MB, GB, KiB, MiB, "
        "GiB",
        "Budget: sise: unknown setting; did you mean size?"]


def test_all_limits_that_do_not_fit_are_listed_with_the_nearest_metric() -> None:
    with pytest.raises(SettingsError) as caught:
        Budget.parse("acuracy>=0.9,age/mae>=2,drop=100%").check_metrics(METRICS)
    unknown, *others = str(caught.value).splitlines()
    assert unknown.endswith("the task has accuracy, age/mae; did you mean accuracy?")
    assert len(others) == 2


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="Budget: sizes: unknown setting; did you mean size"):
        Budget(sizes="1 kB")  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, [1]])
def test_a_value_that_is_no_quantity_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="is not a quantity"):
        Budget(size=value)


def test_a_file_within_its_limits_breaks_none() -> None:
    budget = Budget(size="25 %", latency="2 ms", max_drop="0.5 %", metrics={"accuracy": ">= 91 %"})
    held = figures(size_bytes=100_000, latency_ms=2.0, accuracy=0.912)
    assert budget.breaches(held, ORIGINAL) == ()


def test_every_broken_limit_is_told_with_its_numbers() -> None:
    budget = Budget(size="25 %", ram="40 kB", latency="50 %", macs="10 M", energy="1 mJ",
                    max_drop="0.5 %", metrics={"accuracy": ">= 91 %"})
    found = figures(size_bytes=100_001, ram_bytes=39_000, latency_ms=2.5, macs=10e6,
                    energy_mj=1.5, accuracy=0.9)
    broken: list[tuple[Any, ...]] = [(b.constraint, b.figure, b.value, pytest.approx(b.limit))
              for b in budget.breaches(found, ORIGINAL)]
    assert broken == [("size", "size_bytes", 100_001, 100_000), ("latency", "latency_ms", 2.5, 2),
                      ("energy", "energy_mj", 1.5, 1), ("max_drop", "accuracy", 0.9, 0.912),
                      ("accuracy", "accuracy", 0.9, 0.91)]
    told = [str(b) for b in budget.breaches(found, ORIGINAL)]
    assert told[1] == "latency: latency_ms is 2.5, expected at most 2"
    assert told[3] == "max_drop: accuracy is 0.9, expected at least 0.912"


def test_a_metrics_breach_keeps_unit_and_direction() -> None:
    spec = MetricSpec(name="mae", unit="years", higher_is_better=False)
    found = Figures.of(Measurement.of(spec, 4.0))
    (breach,) = Budget(metrics={"mae": "<= 3.5"}).breaches(found, Figures())
    assert (breach.unit, breach.at_most) == ("", True)
    (breach,) = Budget(metrics={"mae": "<= 3.5"}).breaches(found, found)
    assert (breach.unit, breach.at_most) == ("years", True)
    assert str(breach) == "mae: mae is 4, expected at most 3.5"


def test_a_missing_figure_breaks_its_limit_and_survives_json() -> None:
    (breach,) = Budget(energy="1 mJ").breaches(figures(size_bytes=1), ORIGINAL)
    assert breach == Breach(constraint="energy", figure="energy_mj", value=None, limit=1.0,
                            unit="mJ/sample")
    assert Breach.model_validate_json(breach.model_dump_json()) == breach
    assert str(breach) == "energy: energy_mj is unknown, expected at most 1"


@pytest.mark.parametrize("text", ["size=50%", "latency=200%", "drop=5%"])
def test_a_missing_original_is_no_licence(text: str) -> None:
    budget = Budget.parse(text)
    found = figures(size_bytes=10, latency_ms=1.0, accuracy=0.5)
    assert len(budget.breaches(found, figures())) == 1


def test_zero_is_a_limit() -> None:
    (breach,) = Budget(max_drop=0).breaches(figures(accuracy=0.9169), ORIGINAL)
    assert breach.limit == pytest.approx(0.917)
    assert Budget(max_drop=0).breaches(figures(accuracy=0.917), ORIGINAL) == ()


AMOUNTS = st.one_of(st.none(), st.floats(0, 1e9), st.floats(0, 200).map(lambda p: f"{p!r} %"))
SHARES = st.one_of(st.none(), st.floats(0, 0.99), st.floats(0, 99).map(lambda p: f"{p!r} %"))
BOUNDS = st.dictionaries(st.just("accuracy"), st.floats(0, 1).map(lambda v: f">= {v:.6f}"))
BUDGETS = st.builds(Budget, size=AMOUNTS, ram=AMOUNTS, latency=AMOUNTS, macs=AMOUNTS,
                    energy=AMOUNTS, max_drop=SHARES, metrics=BOUNDS)
FIGURES = st.fixed_dictionaries({}, optional={
    name: st.floats(0, 1 if name == "accuracy" else 1e9)
    for name in ("size_bytes", "ram_bytes", "latency_ms", "macs", "energy_mj", "accuracy")})


@given(BUDGETS)
def test_a_budget_survives_json(budget: Any) -> None:
    assert Budget.model_validate_json(budget.model_dump_json()) == budget


@given(BUDGETS, FIGURES, FIGURES)
def test_breaches_agree_with_a_reference(budget: Any, after: Any, before: Any) -> None:
    broken = {b.constraint for b in budget.breaches(figures(**after), figures(**before))}
    bounds: dict[str, tuple[str, float, int]] = {}
    for name, constraint in CONSTRAINTS.items():
        if limit := getattr(budget, name):
            share = before.get(constraint.figure, 0) if limit.relative else 1
            bounds[name] = (constraint.figure, limit.value * share, 1)
    if budget.max_drop is not None:
        bounds["max_drop"] = ("accuracy", before.get("accuracy", 1) - budget.max_drop.value, -1)
    for name, bound in budget.metrics.items():
        bounds[name] = (name, bound.value, -1)
    assert broken <= bounds.keys()
    for name, (figure, bound, sign) in bounds.items():
        if figure not in after:
            assert name in broken
            continue
        excess = sign * (after[figure] - bound)
        if abs(excess) > 2e-9 * max(1, bound):
            assert (name in broken) == (excess > 0)


def test_accuracy_is_short_for_a_bound_on_that_metric() -> None:
    short, long = Budget(accuracy="90 %"), Budget(metrics={"accuracy": ">= 90 %"})
    assert short.bounds == long.bounds == {"accuracy": Bound(value=0.9)}
    assert Budget.parse("accuracy=90%").bounds == Budget.parse("accuracy>=90%").bounds
    with pytest.raises(UsageError, match="bounds the accuracy twice"):
        Budget(accuracy=0.9, metrics={"accuracy": ">= 0.8"})
