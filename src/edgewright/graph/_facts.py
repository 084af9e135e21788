"""Facts about calls that their operators and arguments do not say, for passes to come.

They lie in ``node.meta["custom"]``, the one entry that torch keeps when a graph is copied, exported
again, saved and loaded; of calls only, for an export makes the reads of tensors anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import torch
from torch.fx import Graph, Node

from edgewright.errors import ModelError
from edgewright.graph._nodes import calls

FactName = Literal["average_grid", "finer_by"]

_PLACE: Final = "custom"
_OURS: Final = "edgewright"


def note_fact(call: Node, name: FactName, value: Any) -> None:
    """Note a fact about a call; copies of the graph that were made before do not see it.

    Args:
        call: A call of an operator.
        name: ``average_grid``: the scale and the zero point, as a list, of the grid that an average
            of integers has its input and its result on, while it is written with a step of its own
            to be rounded as the runtime's kernel does. ``finer_by``: how many steps of the bias
            that a call dequantises make one of the products it is added to, a power of two; left
            out where it is one.
        value: What JSON can write.

    Example:
        >>> call = Graph().call_function(abs, (1,))
        >>> note_fact(call, "finer_by", 8)
        >>> fact_of(call, "finer_by"), fact_of(call, "average_grid")
        (8, None)
    """
    custom = call.meta.get(_PLACE, {})
    call.meta[_PLACE] = {**custom, _OURS: {**custom.get(_OURS, {}), name: value}}


def fact_of(call: Node, name: FactName) -> Any:
    """A fact that was noted about a call, or None."""
    return call.meta.get(_PLACE, {}).get(_OURS, {}).get(name)


def count_facts(graph: Graph) -> int:
    """How many facts were noted about the calls of a graph."""
    return sum(len(call.meta.get(_PLACE, {}).get(_OURS, {})) for call in calls(graph))


def check_facts(graph: Graph, source: object, written: object) -> None:
    """See that a graph from a file holds the facts that it was written with, and sound ones.

    Args:
        graph: As it was read.
        source: The file, for the message.
        written: How many facts the file says it was written with.

    Raises:
        ModelError: One is unknown, or not what it has to be; or some are missing.
    """
    for call in calls(graph):
        custom = call.meta.get(_PLACE, {})
        facts = custom.get(_OURS, {}) if isinstance(custom, dict) else custom
        known = isinstance(facts, dict) and all(
            name in _VALID and _VALID[name](value) for name, value in facts.items())
        if not known:
            raise ModelError(f"{source} notes {facts!r} about {call.name}; expected "
                             f"{' or '.join(_VALID)} with what belongs to them")
    found = count_facts(graph)
    if found != written:
        raise ModelError(f"{source} says that it notes {written!r} facts about its calls, and "
                         f"{found} were read; it is damaged, or torch {torch.__version__} drops "
                         "them, and another version reads it")


def _is_grid(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    scale, zero_point = value
    return type(scale) is float and math.isfinite(scale) and scale > 0 and type(zero_point) is int


def _is_power_of_two(value: Any) -> bool:
    return type(value) is int and value > 0 and value & (value - 1) == 0


_VALID: Final[dict[str, Callable[[Any], bool]]] = {
    "average_grid": _is_grid, "finer_by": _is_power_of_two}
