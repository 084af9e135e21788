"""Assign a precision to every weight, or the reason why it stays in floating point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from edgewright.graph import match_tensors
from edgewright.program import Program
from edgewright.quantization.placement._fused_ops import FusedOp
from edgewright.quantization.placement._shared_grids import is_output, origin
from edgewright.quantization.placement._storage import (
    StoredWeight,
    add_reader,
    collect_stored_weights,
)
from edgewright.quantization.scheme import Operators, Precision, Scheme

_MIN_STORED_BITS: Final = 2  # 1 bit has no level for 0, which padding rows of embeddings need


@final
@dataclass(frozen=True)
class PrecisionAssignment:
    """The precision of everything that is quantized, and why the rest is not.

    Attributes:
        layers: Precision of every layer with an integer kernel, by its call.
        stored: Bits and readers of the weights that are dequantized before use, by name.
        skip_reasons: Why a weight stays in floating point, by name.
    """

    layers: dict[str, Precision]
    stored: dict[str, tuple[int, StoredWeight]]
    skip_reasons: dict[str, str]

    @classmethod
    def of(cls, program: Program, fused_ops: Sequence[FusedOp],
           scheme: Scheme) -> PrecisionAssignment:
        """Assign precisions to a program whose layers are ``fused_ops``.

        Raises:
            UsageError: A pattern of ``scheme.layers`` matches no weight; similar names are listed.
        """
        layers = {op.node.name: op for op in fused_ops if op.weight is not None}
        names = {name: str(op.weight.target) for name, op in layers.items()
                 if op.weight is not None}
        others = collect_stored_weights(program, layers.values())
        patterns = match_tensors(dict.fromkeys([*names.values(), *others]), scheme.layers,
                                 option="layers")
        assignment = cls({}, {}, {})
        first_last = _first_and_last(layers.values())
        for name, op in layers.items():
            own = scheme.precision_of(patterns.get(names[name]),
                                      is_first_or_last=name in first_last)
            reason = _reason(scheme, op.kind, own, patterns.get(names[name]))
            if reason is not None:
                assignment.skip_reasons[names[name]] = reason
            elif scheme.activation_mode == "dynamic" and op.kind != "linear":
                others[names[name]] = add_reader(others.get(names[name]), op)
            elif own is not None:
                assignment.layers[name] = own
        for name, weight in others.items():
            own = scheme.precision_of(patterns.get(name),
                                      is_first_or_last=weight.is_first_or_last)
            assignment._store(name, weight, scheme, own, patterns.get(name))
        return assignment

    def _store(self, name: str, weight: StoredWeight, scheme: Scheme,
               own: Precision | None, pattern: str | None) -> None:
        if name in self.skip_reasons:  # a layer reads the weight in floating point
            return
        reason = _reason(scheme, "other", own, pattern)
        if reason is None and not scheme.target.stores_weights:
            reason = scheme.target.reasons["stores-weights"]
        if reason is None and not weight.is_worthwhile:
            reason = "too small for integers to save bytes"
        if reason is not None:
            self.skip_reasons[name] = reason
        elif own is not None and own.weights is not None:
            self.stored[name] = max(own.weights, _MIN_STORED_BITS), weight


def _reason(scheme: Scheme, kind: Operators, own: Precision | None, pattern: str | None,
            ) -> str | None:
    """Why a scheme keeps a weight in floating point, or None."""
    if kind not in scheme.operators:
        return f"`operators` does not include {kind}"
    if own is None or own.weights is None:
        return f"excluded by the `layers` pattern {pattern!r}"
    return None


def _first_and_last(layers: Iterable[FusedOp]) -> set[str]:
    """The layers that read a model input or produce a model output, except for data movement."""
    return {op.node.name for op in layers
            if origin(op.inputs[0]).op == "placeholder" or is_output(op.tail)}
