"""State of a model as explicit pairs: an output that is fed back to an input at the next call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor
from torch.fx import GraphModule

from edgewright.capture._input_checks import InputSpec
from edgewright.core import format_shape
from edgewright.errors import UsageError
from edgewright.graph import name_sizes, sizes_of

_KEY: Final = "edgewright.states"


def record_states(module: GraphModule, states: Mapping[str, str]) -> None:
    """Record a graph's pairs of state, in place; copies of the module keep them."""
    module.meta[_KEY] = dict(states)


def recorded_states(module: GraphModule) -> Mapping[str, str]:
    """The input that each state output is fed back to, by names."""
    found: dict[str, str] = module.meta.get(_KEY, {})
    return MappingProxyType(found)


def read_states(states: Mapping[str, str], module: GraphModule, inputs: Sequence[InputSpec],
                outputs: Mapping[str, Tensor]) -> dict[str, str]:
    """The pairs, with the names that a program gives to its outputs.

    Args:
        states: The input of each state output, by names.
        module: The graph.
        inputs: Its inputs.
        outputs: Its outputs by name.

    Raises:
        UsageError: An output or input is unknown, used twice, or of another shape than its partner.
    """
    by_name = {spec.name: spec for spec in inputs}
    names = name_sizes(module)
    pairs: dict[str, str] = {}
    for given, target in states.items():
        output = f"{given}_out" if given not in outputs else given
        if output not in outputs or target not in by_name:
            raise UsageError(f"states pairs the output {given!r} with the input {target!r}; the "
                             f"outputs are {', '.join(outputs)}, the inputs {', '.join(by_name)}")
        value: Any = outputs[output]
        found, spec = (None, *sizes_of(value, names)[1:]), by_name[target]
        if (found, value.dtype) != (spec.shape, spec.dtype):
            raise UsageError(f"the state {given!r} is {value.dtype} {format_shape(found)}, but its "
                             f"input {target!r} is {spec.dtype} {spec.shape_text}; both must be "
                             "the same")
        pairs[output] = target
    if len(set(pairs.values())) < len(states):
        raise UsageError(f"states={dict(states)} feeds two outputs to one input; give each its own")
    return pairs
