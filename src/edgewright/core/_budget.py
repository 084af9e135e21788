"""What the user can spend: flash, RAM, latency, compute, energy, accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from edgewright.core._measurement import FigureName, Figures
from edgewright.core._settings import Value
from edgewright.core._units import Dimension, parse_quantity
from edgewright.errors import UsageError


class Limit(Value):
    """A bound in base units, or, when ``relative``, a fraction of the original's figure."""

    value: float = Field(ge=0, allow_inf_nan=False)
    relative: bool = False

    def absolute(self, original: float) -> float:
        """The bound in base units, given the original model's figure."""
        return self.value * original if self.relative else self.value


class Constraint(NamedTuple):
    """One kind of limit: the figure it applies to, its dimension, and its direction."""

    figure: FigureName
    dimension: Dimension
    at_most: bool


CONSTRAINTS: Final[dict[str, Constraint]] = {
    "size": Constraint("size_bytes", "size", at_most=True),
    "ram": Constraint("ram_bytes", "size", at_most=True),
    "latency": Constraint("latency_ms", "time", at_most=True),
    "macs": Constraint("macs", "count", at_most=True),
    "energy": Constraint("energy_mj", "energy", at_most=True),
    "max_drop": Constraint("accuracy", "fraction", at_most=False),
    "accuracy": Constraint("accuracy", "fraction", at_most=False),
}


class Breach(Value):
    """A limit that is not met, with the value found and the limit in base units.

    ``value`` is None if the figure could not be measured, which counts as a breach too.
    """

    constraint: str
    figure: FigureName
    value: float | None = None
    limit: float

    def __str__(self) -> str:
        side = "at most" if CONSTRAINTS[self.constraint].at_most else "at least"
        found = "unknown" if self.value is None else f"{self.value:.6g}"
        return (f"{self.constraint}: {self.figure} is {found}, "
                f"expected {side} {self.limit:.6g}")


def _limit_parser(dimension: Dimension) -> Any:
    def parse(value: Any) -> Any:
        if value is None or isinstance(value, Limit | dict):
            return value
        if dimension != "fraction" and isinstance(value, str) and value.strip().endswith("%"):
            return Limit(value=_positive(parse_quantity(value, "fraction"), value), relative=True)
        number = _positive(parse_quantity(value, dimension), value)
        if dimension == "fraction" and number > 1:
            raise UsageError(f"{value!r} is more than 100 %; write a fraction such as '1 %' or "
                             "0.01")
        return Limit(value=number)

    return BeforeValidator(parse)


def _positive(number: float, text: object) -> float:
    if number < 0 or not math.isfinite(number):
        raise UsageError(f"a budget must be a finite number of at least 0, got {text!r}")
    return number


def _describe_fault(fault: Mapping[str, Any]) -> str:
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"a budget has no field {name!r}"
    return f"the budget's {name}: {fault['msg']}, got {fault['input']!r}"


class Budget(Value):
    """Limits on the compressed file, each in the user's units, each optional.

    A percentage in ``size``, ``ram``, ``latency``, ``macs`` and ``energy`` is relative to the
    original model's figure. ``max_drop`` is the accuracy that may be lost, in percentage points
    (with "0.5 %" an original of 91.7 % allows 91.2 %); ``accuracy`` is absolute. If only the loss
    matters, set ``max_drop``; set ``accuracy`` if the application needs a fixed level.

    Raises:
        UsageError: A quantity has an unknown unit or is negative.

    Example:
        >>> budget = Budget(size="100 kB", max_drop="0.5 %")
        >>> budget.size.value, budget.max_drop.value
        (100000.0, 0.005)
        >>> Budget.parse("size=30%,drop=1%").size.relative
        True
    """

    size: Annotated[Limit | None, _limit_parser("size")] = None
    ram: Annotated[Limit | None, _limit_parser("size")] = None
    latency: Annotated[Limit | None, _limit_parser("time")] = None
    macs: Annotated[Limit | None, _limit_parser("count")] = None
    energy: Annotated[Limit | None, _limit_parser("energy")] = None
    max_drop: Annotated[Limit | None, _limit_parser("fraction")] = None
    accuracy: Annotated[Limit | None, _limit_parser("fraction")] = None

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            budget = handler(value)
        except ValidationError as error:
            faults = "; ".join(_describe_fault(fault) for fault in error.errors())
            raise UsageError(f"{faults}; a budget takes {', '.join(CONSTRAINTS)}") from error
        if budget.max_drop is not None and budget.max_drop.value >= 1:
            raise UsageError("a drop of 100 points or more is no limit; write '1 %' for one "
                             "point")
        return budget

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read the command line's form, ``size=100kB,latency=2ms,drop=0.5%``."""
        limits: dict[str, str] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, separator, value = part.partition("=")
            name = "max_drop" if name.strip() == "drop" else name.strip()
            if not separator or name not in CONSTRAINTS:
                raise UsageError(f"cannot read {part!r} in the budget; expected NAME=QUANTITY with "
                                 "NAME one of size, ram, latency, macs, energy, drop, accuracy")
            if name in limits:
                raise UsageError(f"{part!r}: the budget names {name} twice")
            limits[name] = value
        return cls.model_validate(limits)

    def limits(self, original: Figures) -> dict[str, float]:
        """Every limit that is set, in base units, given the original model's figures.

        If the original's figure is missing, a limit relative to it becomes the strictest possible.
        """
        found = {}
        for name, constraint in CONSTRAINTS.items():
            limit: Limit | None = getattr(self, name)
            if limit is None:
                continue
            before = original.get(constraint.figure)
            if before is None:
                before = 0.0 if constraint.at_most else 1.0
            if name == "max_drop":
                found[name] = before - limit.value
            else:
                found[name] = limit.absolute(before)
        return found

    def breaches(self, figures: Figures, original: Figures) -> tuple[Breach, ...]:
        """The limits that ``figures`` do not meet; a missing figure breaches its limit."""
        broken = []
        for name, limit in self.limits(original).items():
            constraint = CONSTRAINTS[name]
            value = figures.get(constraint.figure)
            slack = 1e-9 * max(1.0, abs(limit))
            met = value is not None and (value <= limit + slack if constraint.at_most
                                         else value >= limit - slack)
            if not met:
                broken.append(Breach(constraint=name, figure=constraint.figure,
                                     value=value, limit=limit))
        return tuple(broken)
