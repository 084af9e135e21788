"""What the user can spend: flash, RAM, latency, compute, energy, and quality."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from edgewright.core._limits_text import DROP, as_written, read_limits
from edgewright.core._measurement import (
    ACCURACY,
    COSTS,
    CostName,
    Figures,
    Measurement,
    MetricSpec,
)
from edgewright.core._nearest import suggest
from edgewright.core._settings import Settings, Value
from edgewright.core._units import Dimension, parse_quantity
from edgewright.errors import Fault, SettingsError, UsageError


class Limit(Value):
    """A bound in base units, or, when ``relative``, a fraction of the original's figure."""

    value: float = Field(ge=0, allow_inf_nan=False)
    relative: bool = False

    def absolute(self, original: float) -> float:
        """The bound in base units, given the original model's figure."""
        return self.value * original if self.relative else self.value


class Bound(Value):
    """A bound on a metric, in its own unit: at least ``value``, or at most.

    Example:
        >>> str(Bound(value=0.6)), str(Bound(value=3.5, at_most=True))
        ('>= 0.6', '<= 3.5')
    """

    value: float = Field(allow_inf_nan=False)
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


class Constraint(NamedTuple):
    """One kind of limit on a cost: the figure it applies to, and its dimension."""

    figure: CostName
    dimension: Dimension


CONSTRAINTS: Final[dict[str, Constraint]] = {
    "size": Constraint("size_bytes", "size"),
    "ram": Constraint("ram_bytes", "size"),
    "latency": Constraint("latency_ms", "time"),
    "macs": Constraint("macs", "count"),
    "energy": Constraint("energy_mj", "energy"),
}


class Breach(Value):
    """A limit that is not met, with the value found and the limit in base units.

    Attributes:
        constraint: Name of the limit: a field of the budget, or the name of a metric.
        figure: The figure it applies to.
        value: None if the figure could not be measured, which counts as a breach too.
        limit: The bound.
        unit: Unit of both.
        at_most: Whether the bound is an upper one.
    """

    constraint: str
    figure: str
    value: float | None = None
    limit: float
    unit: str = ""
    at_most: bool = True

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        found = "unknown" if self.value is None else f"{self.value:.6g}"
        return f"{self.constraint}: {self.figure} is {found}, expected {side} {self.limit:.6g}"


class ResolvedLimit(NamedTuple):
    """A limit in base units.

    Attributes:
        figure: The figure, with its unit.
        bound: The bound.
        at_most: Whether it is an upper one.
    """

    figure: MetricSpec
    bound: float
    at_most: bool

    def holds(self, value: float | None) -> bool:
        """Whether a value meets the limit; an unknown one does not."""
        slack = 1e-9 * max(1.0, abs(self.bound))
        if value is None:
            return False
        return value <= self.bound + slack if self.at_most else value >= self.bound - slack


def _limit_parser(dimension: Dimension) -> Any:
    def parse(value: Any) -> Any:
        if value is None or isinstance(value, Limit | dict):
            return value
        if isinstance(value, str) and value.strip().endswith("%"):
            return Limit(value=_positive(parse_quantity(value, "fraction"), value), relative=True)
        return Limit(value=_positive(parse_quantity(value, dimension), value))

    return BeforeValidator(parse)


def _positive(number: float, text: object) -> float:
    if number < 0 or not math.isfinite(number):
        raise UsageError(f"a budget must be a finite number of at least 0, got {text!r}")
    return number


def _parse_bound(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _BOUND.fullmatch(value)
    if match is None:
        raise UsageError(f"{value!r} is no bound on a metric; write '>= 0.6', '>= 60 %' or "
                         "'<= 3.5'")
    return Bound(value=float(match[2]) * (0.01 if match[3] else 1), at_most=match[1] == "<=")


def _parse_accuracy(value: Any) -> Any:
    """The bound that an accuracy stands for: a fraction, or a percentage."""
    if value is None or isinstance(value, Bound | Mapping):
        return value
    return _parse_bound(f">= {_positive(parse_quantity(value, 'fraction'), value)!r}")


_BOUND: Final = re.compile(r"\s*(>=|<=)\s*(-?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%?)\s*")


class Budget(Settings):
    """Limits on the compressed file, each in the user's units, each optional.

    A percentage in ``size``, ``ram``, ``latency``, ``macs`` and ``energy`` is relative to the
    original model's figure. ``max_drop`` is how much worse the task's primary metric may become: in
    the metric's own unit (0.5 for an error in years), or as a percentage: percentage points of a
    metric that is a fraction (with "0.5 %" an original accuracy of 91.7 % allows 91.2 %), else
    relative to the original's value. ``metrics`` bounds metrics absolutely; ``accuracy="90 %"`` is
    short for ``metrics={"accuracy": ">= 90 %"}``. If only the loss matters, set ``max_drop``; set
    ``metrics`` if the application needs a fixed level.

    Raises:
        SettingsError: Quantities with an unknown unit or below 0, unknown limits, or an accuracy
            that is bounded twice.

    Example:
        >>> budget = Budget(size="100 kB", max_drop="0.5 %", metrics={"miou": ">= 0.6"})
        >>> budget.size.value, budget.max_drop.value, budget.metrics["miou"].value
        (100000.0, 0.005, 0.6)
        >>> Budget.parse("size=30%,drop=1%,accuracy>=90%").metrics["accuracy"].value
        0.9
    """

    size: Annotated[Limit | None, _limit_parser("size")] = None
    ram: Annotated[Limit | None, _limit_parser("size")] = None
    latency: Annotated[Limit | None, _limit_parser("time")] = None
    macs: Annotated[Limit | None, _limit_parser("count")] = None
    energy: Annotated[Limit | None, _limit_parser("energy")] = None
    max_drop: Annotated[Limit | None, _limit_parser("number")] = None
    accuracy: Annotated[Bound | None, BeforeValidator(_parse_accuracy)] = None
    metrics: dict[str, Annotated[Bound, BeforeValidator(_parse_bound)]] = Field(
        default_factory=dict)

    @model_validator(mode="after")
    def _check_accuracy(self) -> Self:
        if self.accuracy is not None and ACCURACY.name in self.metrics:
            raise UsageError("the budget bounds the accuracy twice; give accuracy or "
                             "metrics={'accuracy': ...}")
        return self

    @property
    def bounds(self) -> dict[str, Bound]:
        """The bounds on metrics, by name, that of the accuracy included."""
        accuracy = {} if self.accuracy is None else {ACCURACY.name: self.accuracy}
        return accuracy | self.metrics

    @property
    def limits_costs(self) -> bool:
        """Whether a cost is limited, not only the task's metrics.

        Example:
            >>> Budget(size="100 kB").limits_costs, Budget(max_drop="1 %").limits_costs
            (True, False)
        """
        return any(getattr(self, name) is not None for name in CONSTRAINTS)

    @property
    def limits_anything(self) -> bool:
        """Whether a cost or a metric is limited.

        Example:
            >>> Budget().limits_anything, Budget(max_drop="1 %").limits_anything
            (False, True)
        """
        return self.limits_costs or self.max_drop is not None or bool(self.bounds)

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read the command line's form, ``size=100kB,latency=2ms,drop=0.5%,accuracy>=90%``.

        Raises:
            SettingsError: Limits that cannot be read, are unknown, or are given twice; the message
                has a line for each.

        Example:
            >>> Budget.parse("sise=1kB,size=2kB,size=3kB")
            Traceback (most recent call last):
                ...
            edgewright.errors.SettingsError: the budget: sise=1kB: unknown limit; did you mean size?
            the budget: size=3kB: size is limited twice
        """
        limits, faults = read_limits(text, tuple(CONSTRAINTS), ACCURACY.name)
        budget = cls()
        try:
            budget = cls.model_validate(limits)
        except SettingsError as error:
            faults += map(as_written, error.faults)
        if faults:
            raise SettingsError(faults, ["the budget"] * len(faults))
        return budget

    def check_metrics(self, metrics: Sequence[MetricSpec]) -> None:
        """Check that the limits fit a task's metrics.

        Args:
            metrics: The metrics, the primary one first.

        Raises:
            SettingsError: Metrics that are unknown or bounded on their better side, a fraction's
                bound above 1, or a drop of 100 points or more.
        """
        known = {metric.name: metric for metric in metrics}
        faults = [Fault((), text) for name, bound in self.bounds.items()
                  if (text := _misfit(name, bound, known))]
        drop, is_fraction = self.max_drop, metrics[0].unit == "fraction"
        if drop is not None and drop.value >= 1 and (drop.relative or is_fraction):
            faults.append(Fault((), "a drop of 100 points or more is no limit; write '1 %' for one "
                                    "point"))
        if faults:
            raise SettingsError(faults, [""] * len(faults))

    def limits(self, original: Figures) -> dict[str, ResolvedLimit]:
        """Every limit that is set, in base units, given the original model's figures.

        If the original's figure is missing, a limit relative to it becomes the strictest possible.
        """
        found = {}
        for name, constraint in CONSTRAINTS.items():
            limit: Limit | None = getattr(self, name)
            if limit is not None:
                before = original.get(constraint.figure) or 0.0
                found[name] = ResolvedLimit(COSTS[constraint.figure], limit.absolute(before), True)
        if self.max_drop is not None:
            found[DROP] = _resolve_drop(self.max_drop, original.metric)
        for name, bound in self.bounds.items():
            measured = original.find(name)
            spec = (MetricSpec(name=name, higher_is_better=not bound.at_most)
                    if measured is None else measured.spec)
            found[name] = ResolvedLimit(spec, bound.value, bound.at_most)
        return found

    def breaches(self, figures: Figures, original: Figures) -> tuple[Breach, ...]:
        """The limits that ``figures`` do not meet; a missing figure breaches its limit."""
        return tuple(
            Breach(constraint=name, figure=limit.figure.name, unit=limit.figure.unit,
                   value=figures.get(limit.figure.name), limit=limit.bound, at_most=limit.at_most)
            for name, limit in self.limits(original).items()
            if not limit.holds(figures.get(limit.figure.name)))


def _resolve_drop(drop: Limit, before: Measurement | None) -> ResolvedLimit:
    """The bound on the primary metric that a drop from the original's value leaves."""
    if before is None:
        return ResolvedLimit(ACCURACY, 1.0 - drop.value, at_most=False)
    is_share = drop.relative and before.unit != "fraction"
    loss = drop.value * abs(before.value) if is_share else drop.value
    higher = before.higher_is_better
    return ResolvedLimit(before.spec, before.value - loss if higher else before.value + loss,
                         at_most=not higher)


def _misfit(name: str, bound: Bound, known: Mapping[str, MetricSpec]) -> str:
    """Why a bound does not fit a task's metrics; empty if it does."""
    if name not in known:
        near = suggest(name, [*known, *CONSTRAINTS])
        return (f"the budget bounds the metric {name!r}, but the task has {', '.join(known)}"
                f"{f'; {near}' if near.startswith('did you mean') else ''}")
    if bound.at_most == known[name].higher_is_better:
        better = "higher" if known[name].higher_is_better else "lower"
        return (f"the budget asks for {name} {bound}, but {better} is better; "
                f"write {'>=' if bound.at_most else '<='}")
    if known[name].unit == "fraction" and bound.value > 1:
        return (f"the budget asks for {name} {bound}, but it is a fraction; write "
                f"'{'<=' if bound.at_most else '>='} {bound.value:g} %'")
    return ""
