"""A layer's record has its bits as stored and as computed."""

from __future__ import annotations

from typing import Any

from edgewright.pipeline._layer_records import make_layer_records
from edgewright.program import Costs, NodeCost


def test_a_layer_record_distinguishes_stored_and_computed_bits() -> Any:
    def costs(**bits: Any) -> Any:
        layer = NodeCost(name="conv", op="conv2d", weight="a.weight", channels=4, macs=9,
                         weight_bytes=1, traffic_bytes=1, **bits)
        return Costs(layers=(layer,), macs=9, longest_path_macs=9, parameters=1,
                     weight_bytes=1, packed_bytes=1,
                     peak_activation_bytes=1, uncounted={})

    before = costs(bits=32, weight_bits=32, activation_bits=32)
    (record,) = make_layer_records(before, costs(bits=8, weight_bits=4, activation_bits=6))
    assert (record.weight_bits, record.activation_bits, record.compute_bits) == (4, 6, 8)
    (kept,) = make_layer_records(before, before)
    assert (kept.weight_bits, kept.activation_bits, kept.compute_bits) == (32, 32, 32)
