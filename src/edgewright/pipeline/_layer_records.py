"""Every layer's record, before and after, matched by name."""

from __future__ import annotations

from edgewright.core import LayerRecord
from edgewright.program import Costs, NodeCost


def make_layer_records(original: Costs, compressed: Costs) -> tuple[LayerRecord, ...]:
    """Every layer before and after, matched by the name of its weight."""
    before = {_layer_name(layer): layer for layer in original.layers}
    after = {_layer_name(layer): layer for layer in compressed.layers}
    names = [*before, *(name for name in after if name not in before)]
    return tuple(_layer(name, before.get(name), after.get(name)) for name in names)


def _layer(name: str, before: NodeCost | None, after: NodeCost | None) -> LayerRecord:
    known = after or before
    assert known is not None  # noqa: S101  (every name comes from one of the two)
    return LayerRecord(
        name=name, op=known.op,
        channels_before=before.channels if before else 0, channels=after.channels if after else 0,
        macs_before=before.macs if before else 0, macs=after.macs if after else 0,
        weight_bits=after.weight_bits if after else 32,
        activation_bits=after.activation_bits if after else 32,
        compute_bits=after.bits if after else 32)


def _layer_name(layer: NodeCost) -> str:
    return layer.name if layer.weight is None else layer.weight.removesuffix(".weight")
