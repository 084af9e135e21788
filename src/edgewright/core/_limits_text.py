"""Limits as one text: ``size=100kB,latency=2ms,drop=0.5%,accuracy>=90%``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from edgewright.core._nearest import suggest
from edgewright.errors import Fault, UsageError

DROP: Final = "max_drop"
_DROP_TEXT: Final = "drop"
_PART: Final = re.compile(r"\s*([^<>=\s]+)\s*(>=|<=|=)(.*)")


def read_limits(text: str, costs: Sequence[str],
                accuracy: str) -> tuple[dict[str, Any], list[Fault]]:
    """Read limits on costs, on the drop and on metrics, as far as they can be read.

    Args:
        text: The text, with commas between the limits.
        costs: Names of the costs that can be limited.
        accuracy: Name of the metric that is bounded by ``=``, too.

    Returns:
        The fields of a budget, and what is wrong with the other limits.

    Example:
        >>> read_limits("size=1kB,size=2kB", ["size"], "accuracy")
        ({'size': '1kB', 'metrics': {}}, [Fault(path=('size=2kB',), text='size is limited twice')])
    """
    fields: dict[str, Any] = {}
    metrics: dict[str, str] = {}
    faults: list[Fault] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            name, sign, value = _read_part(part, costs, accuracy)
        except UsageError as error:
            faults.append(Fault((part,), str(error)))
            continue
        given = fields if sign == "=" else metrics
        if name in given:
            faults.append(Fault((part,), f"{_written(name)} is limited twice"))
            continue
        given[name] = value if sign == "=" else sign + value
    return {**fields, "metrics": metrics}, faults


def as_written(fault: Fault) -> Fault:
    """A fault of a budget's field, with the field's name as `read_limits` reads it."""
    kind, *path = fault.path or ("",)
    return fault._replace(path=tuple(path) if kind == "metrics" and path else
                          (_written(str(kind)), *path) if kind else ())


def _read_part(part: str, costs: Sequence[str], accuracy: str) -> tuple[str, str, str]:
    """Field or metric, sign and value of one limit."""
    match = _PART.fullmatch(part)
    names = [*costs, _DROP_TEXT]
    if match is None:
        raise UsageError(f"expected NAME=QUANTITY with NAME one of {', '.join(names)}, or a metric "
                         "as in accuracy>=0.9")
    name, sign, value = match[1], match[2], match[3].strip()
    is_cost = name in {*names, DROP}
    if is_cost and sign != "=":
        raise UsageError(f"write {name}={value or 'QUANTITY'}")
    if sign == "=" and not is_cost and name != accuracy:
        near = suggest(name, [*names, accuracy])
        raise UsageError(f"unknown limit; {near}" if near.startswith("did you mean") else
                         f"unknown limit; {near}; write {name}>={value or 'VALUE'} for a metric "
                         "(<= if lower is better)")
    return (DROP if name == _DROP_TEXT else name,
            ">=" if name == accuracy and sign == "=" else sign, value)


def _written(name: str) -> str:
    return _DROP_TEXT if name == DROP else name
