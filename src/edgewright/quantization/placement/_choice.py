"""Which weights are quantized to how many bits, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from edgewright.graph import match_tensors
from edgewright.program import Program
from edgewright.quantization.placement._shared_grids import is_output, origin
from edgewright.quantization.placement._storage import StoredWeight, stored_weights, with_reader
from edgewright.quantization.placement._units import Unit
from edgewright.quantization.scheme import Operators, Precision, Scheme

_LEAST_STORED: Final = 2  # bits: of one bit none of the two levels is 0, as padding rows are


@final
@dataclass(frozen=True)
class Choice:
    """The precision of all that is quantised, and why the rest is not.

    Attributes:
        layers: Of every layer that kernels of integers compute, by its call.
        stored: Bits of weights that are read as real numbers, by name, and by what.
        kept: Reasons, by the name of the weight.
    """

    layers: dict[str, Precision]
    stored: dict[str, tuple[int, StoredWeight]]
    kept: dict[str, str]

    @classmethod
    def of(cls, program: Program, units: Sequence[Unit], scheme: Scheme) -> Choice:
        """Choose for a program whose layers are ``units``.

        Raises:
            UsageError: A pattern of ``scheme.layers`` matches no weight; near names are listed.
        """
        layers = {unit.node.name: unit for unit in units if unit.weight is not None}
        names = {name: str(unit.weight.target) for name, unit in layers.items()
                 if unit.weight is not None}
        others = stored_weights(program, layers.values())
        patterns = match_tensors(dict.fromkeys([*names.values(), *others]), scheme.layers,
                                 option="layers")
        choice = cls({}, {}, {})
        first_last = _first_and_last(layers.values())
        for name, unit in layers.items():
            own = scheme.precision_of(patterns.get(names[name]),
                                      is_first_or_last=name in first_last)
            reason = _reason(scheme, unit.kind, own, patterns.get(names[name]))
            if reason is not None:
                choice.kept[names[name]] = reason
            elif scheme.mode == "dynamic" and unit.kind != "linear":
                others[names[name]] = with_reader(others.get(names[name]), unit)
            elif own is not None:
                choice.layers[name] = own
        for name, weight in others.items():
            own = scheme.precision_of(patterns.get(name),
                                      is_first_or_last=weight.is_first_or_last)
            choice._store(name, weight, scheme, own, patterns.get(name))
        return choice

    def _store(self, name: str, weight: StoredWeight, scheme: Scheme,
               own: Precision | None, pattern: str | None) -> None:
        if name in self.kept:  # a layer reads the numbers themselves
            return
        reason = _reason(scheme, "other", own, pattern)
        if reason is None and not scheme.target.stores_weights:
            reason = scheme.target.reasons["stores-weights"]
        if reason is None and not weight.is_worthwhile:
            reason = "it is so small that integers would save no bytes"
        if reason is not None:
            self.kept[name] = reason
        elif own is not None and own.weights is not None:
            self.stored[name] = max(own.weights, _LEAST_STORED), weight


def _reason(scheme: Scheme, kind: Operators, own: Precision | None, pattern: str | None,
            ) -> str | None:
    """Why a scheme leaves a weight in floating point, if it does."""
    if kind not in scheme.operators:
        return f"operators leaves out {kind}"
    if own is None or own.weights is None:
        return f"excluded by the `layers` pattern {pattern!r}"
    return None


def _first_and_last(layers: Iterable[Unit]) -> set[str]:
    """The layers that read an input of the model or give an output, directly or moved only."""
    return {unit.node.name for unit in layers
            if origin(unit.inputs[0]).op == "placeholder" or is_output(unit.tail)}
