"""Facts about calls that their operators and arguments do not express, for later passes.

They are stored in ``node.meta["custom"]``, the only entry that torch keeps when a graph is copied,
exported again, saved and loaded. Only calls have facts: an export creates new ``get_attr`` nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import torch
from torch.fx import Graph, Node

from edgewright.errors import ModelError
from edgewright.graph._nodes import calls

FactName = Literal["average_grid", "bits", "finer_by"]

_META_KEY: Final = "custom"
_NAMESPACE: Final = "edgewright"


def set_fact(call: Node, name: FactName, value: Any) -> None:
    """Store a fact about a call. Copies of the graph that were made earlier do not see it.

    Args:
        call: A call of an operator.
        name: ``average_grid``: the scale and zero point, as a list, of both the input and the
            result of an integer average. The average itself is written with a different scale, so
            that it is rounded as in the runtime's kernel. ``bits``: for a call that dequantizes
            integers of fewer bits than their limits need: 1 for the two levels of a binary grid,
            whose limits leave room for a third; omitted otherwise. ``finer_by``: for a call that
            dequantizes a bias, the scale of the products that the bias is added to, divided by the
            scale of the bias. It is a power of two and omitted if it is one.
        value: A value that can be written as JSON.

    Example:
        >>> call = Graph().call_function(abs, (1,))
        >>> set_fact(call, "finer_by", 8)
        >>> get_fact(call, "finer_by"), get_fact(call, "average_grid")
        (8, None)
    """
    custom = call.meta.get(_META_KEY, {})
    call.meta[_META_KEY] = {**custom, _NAMESPACE: {**custom.get(_NAMESPACE, {}), name: value}}


def get_fact(call: Node, name: FactName) -> Any:
    """A stored fact about a call, or None."""
    return call.meta.get(_META_KEY, {}).get(_NAMESPACE, {}).get(name)


def count_facts(graph: Graph) -> int:
    """Count the facts stored about the calls of a graph."""
    return sum(len(call.meta.get(_META_KEY, {}).get(_NAMESPACE, {})) for call in calls(graph))


def check_facts(graph: Graph, source: object, written: object) -> None:
    """Check that a graph loaded from a file has all the facts it was saved with, all valid.

    Args:
        graph: The loaded graph.
        source: The file, for the message.
        written: The number of facts when the file was saved, as stored in the file.

    Raises:
        ModelError: A fact is unknown or invalid, or some are missing.
    """
    for call in calls(graph):
        custom = call.meta.get(_META_KEY, {})
        facts = custom.get(_NAMESPACE, {}) if isinstance(custom, dict) else custom
        known = isinstance(facts, dict) and all(
            name in _VALID and _VALID[name](value) for name, value in facts.items())
        if not known:
            raise ModelError(f"{source} has invalid facts {facts!r} about {call.name}; expected "
                             f"{' or '.join(_VALID)} with a valid value")
    found = count_facts(graph)
    if found != written:
        raise ModelError(f"{source} should have {written!r} facts about its calls, but {found} "
                         f"were read; the file is damaged, or torch {torch.__version__} drops "
                         "them: load it with the torch version that saved it")


def _is_grid(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    scale, zero_point = value
    return type(scale) is float and math.isfinite(scale) and scale > 0 and type(zero_point) is int


def _is_power_of_two(value: Any) -> bool:
    return type(value) is int and value > 0 and value & (value - 1) == 0


def _is_one(value: Any) -> bool:
    return type(value) is int and value == 1


_VALID: Final[dict[str, Callable[[Any], bool]]] = {
    "average_grid": _is_grid, "bits": _is_one, "finer_by": _is_power_of_two}
